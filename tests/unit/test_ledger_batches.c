/* test_ledger_batches.c - many at once: transfer batches, netted settlement, the scanner of batches. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/ledger/scan.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

enum { TRANSFERS = 300, TRIES = 60000 };

static struct world *world;

static void setup(void)
{
    crypto_start();
    world = world_create();
}

static void teardown(void)
{
    world_destroy(world);
}

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), world->note.text);
}

static void roots_agree(void)
{
    struct digest fast;
    struct digest slow;
    ledger_state_root(world->ledger, &fast);
    ledger_state_root_slow(world->ledger, &slow);
    ck_assert(digest_equal(&fast, &slow));
    (void)ledger_supply(world->ledger);
}

/* ---- transfer batches --------------------------------------------------------------------------- */

static void item_put(struct buf *items, const struct account_id *to, struct amount amount)
{
    uint8_t bytes[AMOUNT_BYTES];
    amount_to_bytes(amount, bytes);
    buf_append(items, to->bytes, ACCOUNT_ID_SIZE);
    buf_append(items, bytes, sizeof bytes);
}

static enum err batch_try(enum world_who who, const struct buf *items)
{
    Openledger__V1__TransferBatch batch = OPENLEDGER__V1__TRANSFER_BATCH__INIT;
    batch.items = ledger_binary(items->data, items->size);
    WORLD_ACTION(body, TRANSFER_BATCH, transfer_batch, &batch);
    return world_try(world, who, &body);
}

static struct account_id stranger(uint64_t number)
{
    struct account_id id = {{7}};
    memcpy(id.bytes + 8, &number, sizeof number);
    return id;
}

START_TEST(a_batch_is_its_transfers)
{
    struct buf items;
    struct amount total = AMOUNT_ZERO;
    struct amount expected[40] = {AMOUNT_ZERO};
    buf_init(&items, LEDGER_ENTRY_MAX);
    for (size_t i = 0; i < TRANSFERS; i++) { /* the same receivers again and again, new ones too */
        uint64_t who = test_rand() % 40;
        struct account_id to = stranger(who);
        struct amount amount = amount_from_units(1 + test_rand() % 1000000);
        item_put(&items, &to, amount);
        accepted(amount_add(total, amount, &total));
        accepted(amount_add(expected[who], amount, &expected[who]));
    }
    struct amount before = ledger_account(world->ledger, &world->ids[WORLD_PAYER])->balance;
    struct amount gas;
    accepted(batch_try(WORLD_PAYER, &items));
    ck_assert_uint_ge(world->effects.leg_count, TRANSFERS + 1);
    ck_assert(amount_equal(world->effects.legs[0].amount, total));
    for (uint64_t who = 0; who < 40; who++) {
        struct account_id to = stranger(who);
        const struct ledger_account *account = ledger_account(world->ledger, &to);
        ck_assert(amount_equal(account == NULL ? AMOUNT_ZERO : account->balance, expected[who]));
    }
    struct amount after = ledger_account(world->ledger, &world->ids[WORLD_PAYER])->balance;
    accepted(amount_sub(before, after, &gas));
    accepted(amount_sub(gas, total, &gas)); /* what is left of the difference: gas, not less */
    roots_agree();
    accepted(world_seal(world));
    roots_agree();
    buf_deinit(&items);
}
END_TEST

START_TEST(a_batch_is_all_or_nothing)
{
    struct digest before;
    struct digest after;
    struct account_id to = stranger(1);
    struct account_id fresh = stranger(2);
    struct buf items;
    buf_init(&items, 2 * LEDGER_ENTRY_MAX);
    ledger_state_root(world->ledger, &before);
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_RANGE); /* nothing in it */
    item_put(&items, &fresh, amount_from_units(5));
    item_put(&items, &to, AMOUNT_ZERO);
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_INVALID); /* of nothing */
    buf_clear(&items);
    item_put(&items, &fresh, amount_from_units(5));
    item_put(&items, &world->ids[WORLD_PAYER], amount_from_units(5));
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_INVALID); /* to oneself */
    buf_clear(&items);
    item_put(&items, &fresh, amount_from_units(5));
    item_put(&items, &to, amount_from_open(AMOUNT_SUPPLY_OPEN));
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_FUNDS);
    buf_clear(&items);
    item_put(&items, &fresh, (struct amount){UINT64_MAX, UINT64_MAX});
    item_put(&items, &to, amount_from_units(1));
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_RANGE); /* the sum overflows */
    buf_clear(&items);
    item_put(&items, &fresh, amount_from_units(5));
    items.size--;
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_RANGE); /* half a transfer */
    buf_clear(&items);
    for (size_t i = 0; i <= LEDGER_TRANSFERS_MAX; i++) {
        item_put(&items, &fresh, amount_from_units(5));
    }
    ck_assert_int_eq(batch_try(WORLD_PAYER, &items), ERR_RANGE); /* one too many */
    ledger_state_root(world->ledger, &after);
    ck_assert(digest_equal(&before, &after));
    ck_assert_ptr_null(ledger_account(world->ledger, &fresh));
    items.size -= LEDGER_TRANSFER_SIZE;
    accepted(batch_try(WORLD_PAYER, &items)); /* as many as there may be */
    buf_deinit(&items);
}
END_TEST

/* ---- netting ------------------------------------------------------------------------------------ */

/* Sums per (account, reason, direction) of legs, to compare what was posted with what is derived. */
static struct amount sum_of(const struct ledger_leg *legs, size_t count,
                            const struct ledger_leg *like)
{
    struct amount sum = AMOUNT_ZERO;
    for (size_t i = 0; i < count; i++) {
        if (account_id_equal(&legs[i].account, &like->account) && legs[i].credit == like->credit &&
            strcmp(legs[i].reason, like->reason) == 0) {
            accepted(amount_add(sum, legs[i].amount, &sum));
        }
    }
    return sum;
}

struct posted {
    struct ledger_leg items[64];
    size_t count;
};

/* Fee legs that refer to batch; gas is not one of them. */
static void posted_take(struct posted *posted)
{
    for (size_t i = 0; i < world->effects.leg_count; i++) {
        if (strncmp(world->effects.legs[i].reason, "fee.", 4) == 0) {
            ck_assert_uint_lt(posted->count, 64);
            posted->items[posted->count++] = world->effects.legs[i];
        }
    }
}

static struct bytes share_set_of(const struct digest *batch, size_t number,
                                 Openledger__V1__ShareBatch **out)
{
    for (size_t i = 0; i < world->blob_count; i++) {
        if (digest_equal(&world->blob_names[i], batch)) {
            *out = openledger__v1__share_batch__unpack(NULL, world->blobs[i].size,
                                                       world->blobs[i].data);
            ck_assert_ptr_nonnull(*out);
            return ledger_bytes((*out)->sets[number]);
        }
    }
    ck_abort();
}

static void legs_collect(const struct digest *id, struct bytes set, struct ledger_leg *all,
                         size_t *count)
{
    struct ledger_receipt_legs legs;
    struct amount sums[2] = {AMOUNT_ZERO, AMOUNT_ZERO};
    const struct ledger_receipt *receipt = ledger_receipt(world->ledger, id);
    ck_assert_ptr_nonnull(receipt);
    accepted(ledger_receipt_legs(world->ledger, receipt, set, &legs, &world->note));
    for (size_t i = 0; i < legs.count; i++) {
        all[(*count)++] = legs.items[i];
        accepted(amount_add(sums[legs.items[i].credit], legs.items[i].amount,
                            &sums[legs.items[i].credit]));
    }
    ck_assert(amount_equal(sums[0], sums[1])); /* each receipt by itself sums to zero */
    ledger_receipt_legs_free(&legs);
}

START_TEST(receipts_net_and_can_be_told_apart)
{
    enum { RECEIPTS = 5 };
    static struct ledger_leg own[256];
    static struct posted posted;
    size_t own_count = 0;
    struct digest ids[RECEIPTS];
    world_setup(world);
    accepted(world_grant(world, "10"));
    struct digest batch = world_receipts(world, 1, RECEIPTS, 101, 7, NULL, ids);
    accepted(world_settle_receipts(world, &batch));
    posted_take(&posted);
    ck_assert_uint_eq(posted.count, 6); /* one leg per account and reason, not per receipt */
    for (size_t i = 0; i < posted.count; i++) {
        ck_assert(posted.items[i].has_reference);
        ck_assert(digest_equal(&posted.items[i].reference, &batch));
    }
    struct digest shares = world_shares(world, ids, RECEIPTS - 1, 333333333, 333333334);
    accepted(world_settle_shares(world, &shares));
    posted_take(&posted);
    ck_assert_uint_eq(posted.count, 10); /* and: release, Alice, Bob, treasury */
    for (uint32_t i = 0; i <= world->deadline_blocks; i++) { /* the last one is never shared */
        accepted(world_seal(world));
        posted_take(&posted);
    }
    ck_assert_uint_eq(posted.count, 12);
    for (size_t i = 0; i < RECEIPTS; i++) {
        Openledger__V1__ShareBatch *decoded = NULL;
        struct bytes set = {NULL, 0};
        if (i < RECEIPTS - 1) {
            set = share_set_of(&shares, i, &decoded);
        }
        legs_collect(&ids[i], set, own, &own_count);
        if (decoded != NULL) {
            openledger__v1__share_batch__free_unpacked(decoded, NULL);
        }
    }
    for (size_t i = 0; i < posted.count; i++) {
        ck_assert(amount_equal(sum_of(own, own_count, &posted.items[i]),
                               sum_of(posted.items, posted.count, &posted.items[i])));
    }
    for (size_t i = 0; i < own_count; i++) { /* and nothing is derived that was not posted */
        ck_assert(amount_equal(sum_of(own, own_count, &own[i]),
                               sum_of(posted.items, posted.count, &own[i])));
    }
    struct ledger_receipt_legs legs;
    Openledger__V1__ShareBatch *decoded = NULL;
    struct bytes foreign = share_set_of(&shares, 1, &decoded);
    ck_assert_int_eq(ledger_receipt_legs(world->ledger, ledger_receipt(world->ledger, &ids[0]),
                                         foreign, &legs, &world->note),
                     ERR_INVALID);
    openledger__v1__share_batch__free_unpacked(decoded, NULL);
    roots_agree();
}
END_TEST

/* ---- the scanner accepts exactly what the decoders accept ---------------------------------------- */

/* A byte more, less, or other; mostly near the fields' tags and sizes. */
static void mutate(struct buf *bytes)
{
    size_t at = test_rand() % (bytes->size + 1);
    switch (test_rand() % 5) {
    case 0:
        bytes->size -= bytes->size > 0 ? test_rand() % 2 : 0;
        break;
    case 1:
        buf_append_byte(bytes, (uint8_t)test_rand());
        break;
    case 2: /* insert */
        buf_append_byte(bytes, 0);
        memmove(bytes->data + at, bytes->data + (at > 0 ? at - 1 : 0),
                bytes->size - at - (at > 0 ? 0 : 1));
        break;
    case 3: /* remove */
        if (at < bytes->size) {
            memmove(bytes->data + at, bytes->data + at + 1, bytes->size - at - 1);
            bytes->size--;
        }
        break;
    default:
        if (at < bytes->size) {
            bytes->data[at] = test_rand() % 2 == 0 ? (uint8_t)test_rand()
                                                   : (uint8_t)(bytes->data[at] + test_rand() % 3);
        }
        break;
    }
}

static void receipt_compare(struct bytes bytes, size_t *accepted_count)
{
    struct receipt_view view;
    Openledger__V1__Receipt *receipt = NULL;
    enum err slow = ledger_receipt_decode(bytes, &receipt, NULL);
    enum err fast = receipt_scan(bytes, &view, NULL);
    ck_assert_int_eq(slow == ERR_OK, fast == ERR_OK);
    if (slow == ERR_OK) {
        char text[AMOUNT_TEXT_SIZE];
        ++*accepted_count;
        ck_assert_uint_eq(view.number, receipt->number);
        ck_assert_uint_eq(view.lease, receipt->lease);
        ck_assert_uint_eq(view.prompt_tokens, receipt->prompt_tokens);
        ck_assert_uint_eq(view.completion_tokens, receipt->completion_tokens);
        ck_assert_str_eq(amount_format(view.fee, text), receipt->fee);
        ck_assert(bytes_equal(view.adapter, bytes_of_text(receipt->adapter)));
        ck_assert(bytes_equal(view.profile, ledger_bytes(receipt->profile)));
        ck_assert_int_eq(view.is_void,
                         receipt->kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_VOID);
        openledger__v1__receipt__free_unpacked(receipt, NULL);
    }
}

static void shares_compare(struct bytes bytes, size_t *accepted_count)
{
    struct share_set_view view;
    Openledger__V1__ShareSet *set = NULL;
    enum err slow = ledger_share_set_decode(bytes, &set, NULL);
    enum err fast = share_set_scan(bytes, &view, NULL);
    ck_assert_int_eq(slow == ERR_OK, fast == ERR_OK);
    if (slow == ERR_OK) {
        struct share_view share;
        size_t count = 0;
        ++*accepted_count;
        ck_assert(bytes_equal(view.receipt, ledger_bytes(set->receipt)));
        ck_assert(bytes_equal(view.index, ledger_bytes(set->index)));
        ck_assert_uint_eq(view.unearned_ppb, set->unearned_ppb);
        while (share_next(&view.shares, &share)) {
            ck_assert_uint_eq(share.ppb, set->shares[count]->share_ppb);
            ck_assert_int_eq(
                memcmp(share.account, set->shares[count]->account.data, ACCOUNT_ID_SIZE), 0);
            count++;
        }
        ck_assert_uint_eq(count, set->n_shares);
        openledger__v1__share_set__free_unpacked(set, NULL);
    }
}

/* A share set written by hand; zeros: numbers of 0 are written although they are the default. */
struct raw_share {
    uint8_t account; /* each of its bytes */
    uint32_t ppb, influence, span;
    bool zeros;
};
struct raw_set {
    struct raw_share shares[2];
    uint32_t unearned;
    bool zeros, accepted;
};

static void append_number(struct buf *out, unsigned field, uint64_t value, bool zero)
{
    if (value == 0 && !zero) {
        return;
    }
    buf_append_byte(out, (uint8_t)(field << 3));
    for (; value >= 0x80; value >>= 7) {
        buf_append_byte(out, (uint8_t)(value | 0x80));
    }
    buf_append_byte(out, (uint8_t)value);
}

static void append_filled(struct buf *out, unsigned field, size_t size, uint8_t filling)
{
    buf_append_byte(out, (uint8_t)(field << 3 | 2));
    buf_append_byte(out, (uint8_t)size);
    for (size_t i = 0; i < size; i++) {
        buf_append_byte(out, filling);
    }
}

static void append_set(struct buf *out, const struct raw_set *set)
{
    append_filled(out, 1, DIGEST_SIZE, 7);
    for (size_t i = 0; i < sizeof set->shares / sizeof set->shares[0]; i++) {
        const struct raw_share *share = &set->shares[i];
        struct buf item;
        buf_init(&item, 128);
        append_filled(&item, 1, ACCOUNT_ID_SIZE, share->account);
        append_number(&item, 2, share->ppb, share->zeros);
        append_number(&item, 3, share->influence, share->zeros);
        append_number(&item, 4, share->span, share->zeros);
        buf_append_byte(out, 2 << 3 | 2);
        buf_append_byte(out, (uint8_t)item.size);
        buf_append_bytes(out, buf_bytes(&item));
        buf_deinit(&item);
    }
    append_number(out, 3, set->unearned, set->zeros);
    append_filled(out, 4, DIGEST_SIZE, 9);
}

START_TEST(shares_have_one_encoding_and_one_meaning)
{
    enum { HALF = LEDGER_SHARE_TOTAL / 2 };
    static const struct raw_set SETS[] = {
        {.shares = {{1, HALF, HALF, 0, false}, {2, HALF, 1, HALF - 1, false}}, .accepted = true},
        {.shares = {{1, HALF, HALF, 0, false}, {2, 1, 1, 0, false}},
         .unearned = HALF - 1,
         .accepted = true},
        {.shares = {{1, HALF, HALF, 0, false}, {1, HALF, HALF, 0, false}}}, /* one account twice */
        {.shares = {{2, HALF, HALF, 0, false}, {1, HALF, HALF, 0, false}}},
        {.shares = {{1, 2 * HALF, 2 * HALF, 0, false},
                    {2, 0, 0, 0, false}}}, /* a share of nothing */
        {.shares = {{1, HALF, HALF, 0, true}, {2, HALF, HALF, 0, false}}},
        {.shares = {{1, HALF, HALF, 0, false}, {2, HALF, HALF, 0, false}}, .zeros = true},
        {.shares = {{1, HALF, HALF - 1, 0, false}, {2, HALF, HALF, 0, false}}},
        {.shares = {{1, HALF, HALF, 0, false}, {2, HALF, HALF, 0, false}}, .unearned = 1},
    };
    struct buf bytes;
    buf_init(&bytes, 1024);
    for (size_t i = 0; i < sizeof SETS / sizeof SETS[0]; i++) {
        size_t accepted_count = 0;
        buf_clear(&bytes);
        append_set(&bytes, &SETS[i]);
        shares_compare(buf_bytes(&bytes), &accepted_count);
        ck_assert_msg(accepted_count == (SETS[i].accepted ? 1 : 0), "set %zu", i);
    }
    buf_deinit(&bytes);
}
END_TEST

/* The last field, a text: left out when it is empty, never there and empty. */
static void receipts_end(const ProtobufCBinaryData *data)
{
    Openledger__V1__Receipt *receipt = openledger__v1__receipt__unpack(NULL, data->len, data->data);
    struct buf bytes;
    size_t accepted_count = 0;
    char *reason = receipt->finish_reason;
    receipt->finish_reason = (char *)(uintptr_t) "";
    buf_init(&bytes, 4096);
    ck_assert_int_eq(ledger_pack(&receipt->base, &bytes), ERR_OK);
    receipt_compare(buf_bytes(&bytes), &accepted_count);
    ck_assert_uint_eq(accepted_count, 1);
    append_filled(&bytes, 15, 0, 0);
    receipt_compare(buf_bytes(&bytes), &accepted_count);
    ck_assert_uint_eq(accepted_count, 1);
    receipt->finish_reason = reason;
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    buf_deinit(&bytes);
}

START_TEST(scanner_and_decoder_agree)
{
    struct digest ids[2];
    struct buf bytes;
    size_t accepted_count = 0;
    world_setup(world);
    accepted(world_grant(world, "10"));
    struct digest batch = world_receipts(world, 1, 2, 300, 200, NULL, ids);
    struct digest shares = world_shares(world, ids, 2, 400000000, 350000000);
    Openledger__V1__ShareBatch *sets = NULL;
    struct bytes set = share_set_of(&shares, 0, &sets);
    Openledger__V1__ReceiptBatch *receipts = NULL;
    for (size_t i = 0; i < world->blob_count; i++) {
        if (digest_equal(&world->blob_names[i], &batch)) {
            receipts = openledger__v1__receipt_batch__unpack(NULL, world->blobs[i].size,
                                                             world->blobs[i].data);
        }
    }
    ck_assert_ptr_nonnull(receipts);
    buf_init(&bytes, 1U << 16);
    for (int i = 0; i < TRIES; i++) {
        bool receipt = i % 2 == 0;
        buf_clear(&bytes);
        buf_append_bytes(&bytes, receipt ? ledger_bytes(receipts->receipts[0]) : set);
        for (uint64_t k = test_rand() % 4; k > 0; k--) {
            mutate(&bytes);
        }
        if (receipt) {
            receipt_compare(buf_bytes(&bytes), &accepted_count);
        } else {
            shares_compare(buf_bytes(&bytes), &accepted_count);
        }
    }
    receipts_end(&receipts->receipts[0]);
    ck_assert_uint_gt(accepted_count, TRIES / 10);
    ck_assert_uint_lt(accepted_count, TRIES);
    buf_deinit(&bytes);
    openledger__v1__receipt_batch__free_unpacked(receipts, NULL);
    openledger__v1__share_batch__free_unpacked(sets, NULL);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("batches");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_batch_is_its_transfers);
    tcase_add_test(tcase, a_batch_is_all_or_nothing);
    tcase_add_test(tcase, receipts_net_and_can_be_told_apart);
    tcase_add_test(tcase, shares_have_one_encoding_and_one_meaning);
    tcase_add_test(tcase, scanner_and_decoder_agree);
    Suite *suite = suite_create("ledger batches");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
