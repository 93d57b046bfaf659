/* test_attribution.c - what attribution remembers, and what it takes for an answer.
 *
 * The store's steps in the order in which the engine takes them, reopened in between; answers whose
 * opening does not open their receipt. The engine itself is tested with real processes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "services/attribution/attribution.h"
#include "services/attribution/store.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "tests/harness/damaged_store.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"

static struct note note;
static struct attribution_store *store;

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static void open_store(void)
{
    accepted(attribution_store_open(test_path("store"), &store, &note));
}

static void setup(void)
{
    test_folder_make();
    open_store();
}

static void teardown(void)
{
    attribution_store_close(store);
    test_folder_remove();
}

/* Everything must be found again after the process died. */
static void reopen(void)
{
    attribution_store_close(store);
    open_store();
}

static struct digest receipt_at(uint8_t number)
{
    struct digest digest = {{number}};
    return digest;
}

/* Evidence of a receipt whose ShareSet leaves everything unearned, and that set's bytes. */
static void make_evidence(struct digest *receipt, struct buf *evidence, struct buf *set_bytes)
{
    struct digest index = {{9}};
    char adapter[] = "adapter";
    Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
    Openledger__V1__AnswerAttribution record = OPENLEDGER__V1__ANSWER_ATTRIBUTION__INIT;
    set.receipt = ledger_binary(receipt->bytes, DIGEST_SIZE);
    set.index = ledger_binary(index.bytes, DIGEST_SIZE);
    set.unearned_ppb = 1000000000;
    record.receipt = set.receipt;
    record.adapter = adapter;
    record.shares = &set;
    buf_init(evidence, ATTRIBUTION_EVIDENCE_MAX);
    buf_init(set_bytes, ATTRIBUTION_EVIDENCE_MAX);
    accepted(ledger_pack(&record.base, evidence));
    accepted(ledger_pack(&set.base, set_bytes));
}

static void add_answer(uint8_t number)
{
    struct digest receipt = receipt_at(number);
    struct buf evidence;
    struct buf set;
    make_evidence(&receipt, &evidence, &set);
    accepted(
        attribution_store_answer(store, &receipt, buf_bytes(&evidence), buf_bytes(&set), &note));
    buf_deinit(&evidence);
    buf_deinit(&set);
}

static uint32_t pending(struct attribution_pending *out)
{
    uint32_t count = 0;
    const struct digest first = {{0}};
    accepted(attribution_store_pending(store, &first, STORE_BATCH_MAX, out, &count, &note));
    return count;
}

static void free_pending(struct attribution_pending *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(list[i].set);
    }
}

START_TEST(test_an_answers_way_to_the_ledger)
{
    static struct attribution_pending list[STORE_BATCH_MAX];
    static struct attribution_batch batch;
    bool known = true;
    struct digest unknown = receipt_at(77);
    accepted(attribution_store_known(store, &unknown, &known, &note));
    ck_assert(!known);
    for (uint8_t i = 1; i <= 5; i++) {
        add_answer(i);
    }
    reopen();
    uint32_t count = pending(list);
    ck_assert_uint_eq(count, 5);

    /* four go out, the first in the list turns out to be too late */
    struct digest digest = {{200}};
    struct digest out[4];
    for (uint32_t i = 0; i < 4; i++) {
        out[i] = list[i + 1].receipt;
    }
    accepted(attribution_store_drop(store, &list[0].receipt, 1, &note));
    accepted(attribution_store_batch(store, &digest, out, 4, attribution_set_batch, &note));
    reopen();
    struct attribution_pending none[1];
    ck_assert_uint_eq(pending(none), 0);
    accepted(attribution_store_outbox(store, 0, &batch, &note));
    ck_assert(digest_equal(&batch.digest, &digest));
    ck_assert_uint_eq(batch.announced_ms, 0);
    ck_assert_uint_eq(batch.count, 4);

    /* the evidence names the batch, and still holds the very set that was signed */
    struct buf evidence;
    struct buf set;
    buf_init(&evidence, ATTRIBUTION_EVIDENCE_MAX);
    buf_init(&set, ATTRIBUTION_EVIDENCE_MAX);
    accepted(attribution_store_evidence(store, &out[0], &evidence, &note));
    Openledger__V1__AnswerAttribution *record =
        openledger__v1__answer_attribution__unpack(NULL, evidence.size, evidence.data);
    ck_assert_ptr_nonnull(record);
    ck_assert_mem_eq(record->batch.data, digest.bytes, DIGEST_SIZE);
    openledger__v1__answer_attribution__free_unpacked(record, NULL);
    accepted(attribution_share_set(buf_bytes(&evidence), &set));
    ck_assert(bytes_equal(buf_bytes(&set), bytes_of(list[1].set, list[1].size)));

    /* announced; three are settled, one is not: it waits for another batch */
    batch.announced_ms = 123;
    accepted(attribution_store_announced(store, &batch, &note));
    reopen();
    accepted(attribution_store_outbox(store, 0, &batch, &note));
    ck_assert_uint_eq(batch.announced_ms, 123);
    accepted(attribution_store_settle(store, batch.number, &list[1], 1, &note));
    ck_assert_int_eq(attribution_store_outbox(store, 0, &batch, &note), ERR_NOT_FOUND);
    ck_assert_uint_eq(pending(none), 1);
    ck_assert(digest_equal(&none[0].receipt, &list[1].receipt));
    free_pending(none, 1);
    free_pending(list, count);
    buf_deinit(&evidence);
    buf_deinit(&set);
}
END_TEST

/* The receipts' numbers of the max pending sets after one, as digits. */
static void expect_after(uint8_t after, uint32_t max, const char *digits)
{
    struct attribution_pending list[8];
    struct digest receipt = receipt_at(after);
    char found[sizeof list / sizeof list[0] + 1] = "";
    uint32_t count = 0;
    accepted(attribution_store_pending(store, &receipt, max, list, &count, &note));
    for (uint32_t i = 0; i < count; i++) {
        found[i] = (char)('0' + list[i].receipt.bytes[0]);
    }
    free_pending(list, count);
    ck_assert_str_eq(found, digits);
}

START_TEST(test_pending_sets_come_round_and_round)
{
    expect_after(0, 8, "");
    add_answer(1);
    expect_after(0, 8, "1");
    expect_after(1, 8, "1");
    add_answer(3);
    add_answer(5);
    add_answer(7);
    reopen();
    expect_after(0, 8, "1357");
    expect_after(0, 2, "13");
    expect_after(3, 2, "57");
    expect_after(5, 2, "71");
    expect_after(4, 8, "5713"); /* gone meanwhile */
    expect_after(3, 8, "5713");
    expect_after(9, 8, "1357");
    expect_after(7, 0, "");
}
END_TEST

/* More sets than a look takes whose receipts the ledger never shows, and one behind them that waits: the
 * outbox's two steps, look by look. */
START_TEST(test_sets_that_cannot_go_out_hold_up_nobody)
{
    enum { STUCK = 5, LOOK = 2 };
    struct attribution_pending list[LOOK];
    struct digest after = {{0}};
    uint32_t looks = 0;
    uint32_t ready_count = 0;
    for (uint32_t i = 1; i <= STUCK + 1; i++) {
        add_answer((uint8_t)i);
    }
    while (ready_count == 0) {
        enum attribution_standing standings[LOOK];
        size_t sizes[LOOK];
        uint32_t ready[LOOK];
        uint32_t count = 0;
        ck_assert_uint_le(++looks, STUCK / LOOK + 1);
        accepted(attribution_store_pending(store, &after, LOOK, list, &count, &note));
        ck_assert_uint_eq(count, LOOK);
        for (uint32_t i = 0; i < count; i++) {
            standings[i] =
                list[i].receipt.bytes[0] > STUCK ? ATTRIBUTION_WAITING : ATTRIBUTION_UNKNOWN;
            sizes[i] = list[i].size;
        }
        uint32_t looked = attribution_batch_pick(standings, sizes, count, ready, &ready_count);
        ck_assert_uint_eq(looked, LOOK);
        after = list[looked - 1].receipt;
        ck_assert(ready_count == 0 || list[ready[0]].receipt.bytes[0] == STUCK + 1);
        free_pending(list, count);
    }
}
END_TEST

START_TEST(test_a_batch_stops_before_what_finds_no_room)
{
    const enum attribution_standing standings[6] = {ATTRIBUTION_UNKNOWN, ATTRIBUTION_WAITING,
                                                    ATTRIBUTION_CLOSED,  ATTRIBUTION_WAITING,
                                                    ATTRIBUTION_WAITING, ATTRIBUTION_UNKNOWN};
    const size_t half = ATTRIBUTION_BATCH_BYTES / 2;
    size_t sizes[6] = {ATTRIBUTION_BATCH_BYTES, half, ATTRIBUTION_BATCH_BYTES, half, 1, 1};
    uint32_t ready[6];
    uint32_t count = 9;
    ck_assert_uint_eq(attribution_batch_pick(standings, sizes, 6, ready, &count), 4);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(ready[0], 1);
    ck_assert_uint_eq(ready[1], 3);
    sizes[3]--; /* now the next one fits, to the byte */
    ck_assert_uint_eq(attribution_batch_pick(standings, sizes, 6, ready, &count), 6);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(ready[2], 4);
    sizes[1] = ATTRIBUTION_BATCH_BYTES;
    ck_assert_uint_eq(attribution_batch_pick(standings, sizes, 6, ready, &count), 3);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(attribution_batch_pick(standings, sizes, 1, ready, &count), 1);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(test_parked_answers_are_known_and_counted)
{
    struct digest receipt = receipt_at(3);
    struct attribution_counts counts;
    bool known = false;
    accepted(attribution_store_park(store, &receipt, "no such thing", &note));
    accepted(attribution_store_park(store, &receipt, "no such thing", &note)); /* twice is once */
    reopen();
    accepted(attribution_store_known(store, &receipt, &known, &note));
    ck_assert(known);
    accepted(attribution_store_counts(store, &counts, &note));
    ck_assert_uint_eq(counts.parked, 1);
    ck_assert_uint_eq(counts.answers, 0);
}
END_TEST

/* ---- answers --------------------------------------------------------------------------------------- */

enum part { HONEST, OTHER_RECEIPT, OTHER_ADAPTER, OTHER_PROMPT, OTHER_SALT, CUT_ANSWER, PARTS };

static void make_answer(enum part lie, struct buf *out)
{
    uint32_t prompt[3] = {1, 2, 3};
    uint32_t answer[4] = {4, 5, 6, 7};
    struct salt salts[2];
    struct digest commitments[2];
    struct digest grant = {{1}};
    struct digest profile = {{2}};
    struct digest id;
    uint8_t request_id[16] = {1};
    char adapter[] = "adapter";
    char other[] = "another";
    char fee[] = "0.011";
    char stop[] = "stop";
    memset(salts, 5, sizeof salts);
    ledger_prompt_commitment(&salts[0], prompt, 3, &commitments[0]);
    ledger_answer_commitment(&salts[1], answer, 4, &commitments[1]);
    Openledger__V1__Receipt receipt = OPENLEDGER__V1__RECEIPT__INIT;
    receipt.grant = ledger_binary(grant.bytes, DIGEST_SIZE);
    receipt.lease = 1;
    receipt.number = 1;
    receipt.request_id = ledger_binary(request_id, sizeof request_id);
    receipt.kind = OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE;
    receipt.adapter = adapter;
    receipt.prompt_tokens = 3;
    receipt.completion_tokens = 4;
    receipt.fee = fee;
    receipt.prompt_commitment = ledger_binary(commitments[0].bytes, DIGEST_SIZE);
    receipt.answer_commitment = ledger_binary(commitments[1].bytes, DIGEST_SIZE);
    receipt.profile = ledger_binary(profile.bytes, DIGEST_SIZE);
    receipt.opened_ms = 1;
    receipt.finished_ms = 2;
    receipt.finish_reason = stop;
    struct buf bytes;
    buf_init(&bytes, 1U << 16);
    accepted(ledger_pack(&receipt.base, &bytes));
    ledger_receipt_id(buf_bytes(&bytes), &id);
    id.bytes[0] ^= lie == OTHER_RECEIPT;
    prompt[2] += lie == OTHER_PROMPT;
    salts[1].bytes[0] ^= lie == OTHER_SALT;
    Openledger__V1__Opening opening = OPENLEDGER__V1__OPENING__INIT;
    opening.receipt = ledger_binary(id.bytes, DIGEST_SIZE);
    opening.prompt_salt = ledger_binary(salts[0].bytes, SALT_SIZE);
    opening.answer_salt = ledger_binary(salts[1].bytes, SALT_SIZE);
    opening.prompt_ids = prompt;
    opening.n_prompt_ids = 3;
    opening.answer_ids = answer;
    opening.n_answer_ids = lie == CUT_ANSWER ? 3 : 4;
    opening.adapter = lie == OTHER_ADAPTER ? other : adapter;
    Openledger__V1__AnswerFinished message = OPENLEDGER__V1__ANSWER_FINISHED__INIT;
    message.receipt = opening.receipt;
    message.receipt_bytes = ledger_binary(bytes.data, bytes.size);
    message.opening = &opening;
    buf_init(out, 1U << 16);
    accepted(ledger_pack(&message.base, out));
    buf_deinit(&bytes);
}

START_TEST(test_only_true_openings_pass)
{
    for (enum part lie = HONEST; lie < PARTS; lie++) {
        struct attribution_answer answer;
        struct buf data;
        make_answer(lie, &data);
        enum err err = attribution_answer_read(buf_bytes(&data), &answer, &note);
        ck_assert_msg((err == ERR_OK) == (lie == HONEST), "part %d: %s", (int)lie, note.text);
        if (err == ERR_OK) {
            attribution_answer_deinit(&answer);
        } else {
            ck_assert_int_eq(err, ERR_INVALID);
            ck_assert_uint_gt(strlen(note.text), 10);
        }
        buf_deinit(&data);
    }
}
END_TEST

START_TEST(test_hostile_messages)
{
    struct buf good;
    make_answer(HONEST, &good);
    for (uint32_t round = 0; round < 3000; round++) {
        size_t size = round % 2 == 0 ? good.size : test_rand() % good.size;
        uint8_t *bytes = malloc(size + 1); /* exact, for the sanitizer */
        ck_assert_ptr_nonnull(bytes);
        memcpy(bytes, good.data, size);
        if (size > 0) {
            bytes[test_rand() % size] ^= (uint8_t)(1 + test_rand() % 255);
        }
        struct attribution_answer answer;
        enum err err = attribution_answer_read(bytes_of(bytes, size), &answer, &note);
        if (err == ERR_OK) { /* a byte that binds nothing, such as the outer receipt id */
            attribution_answer_deinit(&answer);
        } else {
            ck_assert_int_eq(err, ERR_INVALID);
        }
        free(bytes);
    }
    buf_deinit(&good);
}
END_TEST

/* A damaged store is set aside and begins empty; what the ledger waits for is done again when it comes again. */
START_TEST(test_a_damaged_store_is_made_anew)
{
    static struct attribution_pending list[STORE_BATCH_MAX];
    struct digest receipt = receipt_at(3);
    for (enum damaged_store how = 0; how < DAMAGED_KINDS; how++) {
        bool known = false;
        add_answer(3);
        accepted(attribution_store_known(store, &receipt, &known, &note));
        ck_assert(known);
        attribution_store_close(store);
        struct digest index = {{9}}; /* as in each ShareSet */
        damaged_store_make(test_path("store"), how, "pending", digest_bytes(&index));
        open_store();
        ck_assert(file_exists(test_path("store/data.mdb.damaged")));
        accepted(attribution_store_known(store, &receipt, &known, &note));
        ck_assert(!known);
        ck_assert_uint_eq(pending(list), 0);
        add_answer(3);
        reopen();
        uint32_t count = pending(list);
        ck_assert_uint_eq(count, 1);
        ck_assert(digest_equal(&list[0].receipt, &receipt));
        free_pending(list, count);
    }
}
END_TEST

/* Answers are parked for what is wrong in the objects, for nothing that may pass. */
START_TEST(test_what_is_hopeless)
{
    static const enum err never[] = {ERR_INVALID, ERR_RANGE, ERR_LIMIT};
    static const enum err later[] = {ERR_FULL,      ERR_IO,       ERR_CORRUPT,
                                     ERR_DENIED,    ERR_TIMEOUT,  ERR_NO_MEMORY,
                                     ERR_NOT_FOUND, ERR_CONFLICT, ERR_UNAVAILABLE};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        ck_assert(attribution_hopeless(never[i]));
    }
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        ck_assert(!attribution_hopeless(later[i]));
        ck_assert(attribution_disk(later[i]) == (i < 4)); /* the first four */
    }
}
END_TEST

START_TEST(test_when_a_batch_is_over)
{
    ck_assert(!attribution_batch_over(0, 0));
    ck_assert(!attribution_batch_over(0, ATTRIBUTION_REBATCH_MS - 1));
    ck_assert(attribution_batch_over(0, ATTRIBUTION_REBATCH_MS));
    ck_assert(attribution_batch_over(1, 0)); /* taken, or one is overdue: the others do not wait */
}
END_TEST

int main(void)
{
    crypto_start();
    Suite *suite = suite_create("attribution");
    TCase *tcase = tcase_create("store and answers");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_an_answers_way_to_the_ledger);
    tcase_add_test(tcase, test_pending_sets_come_round_and_round);
    tcase_add_test(tcase, test_sets_that_cannot_go_out_hold_up_nobody);
    tcase_add_test(tcase, test_a_batch_stops_before_what_finds_no_room);
    tcase_add_test(tcase, test_parked_answers_are_known_and_counted);
    tcase_add_test(tcase, test_only_true_openings_pass);
    tcase_add_test(tcase, test_hostile_messages);
    tcase_add_test(tcase, test_a_damaged_store_is_made_anew);
    tcase_add_test(tcase, test_what_is_hopeless);
    tcase_add_test(tcase, test_when_a_batch_is_over);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
