/* test_settlement.c - the sequencer on a real disk: restarts, torn tails, lost indexes, repeats.
 *
 * The world (tests/harness) makes transactions against its own ledger; settlement takes the same
 * transactions and must come to the same state, whatever happens to its folder between two starts. */
#include "services/settlement/settlement.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/journal/journal.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/tx.h"
#include "shared/platform/file.h"
#include "tests/harness/ledger_world.h"

static struct world *world;
static struct settlement *settlement;
static struct blob_store *blobs;
static char folder[FILE_PATH_SIZE];
static uint64_t snapshot_blocks = 1000;
static struct note note;

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static void start(void)
{
    const struct settlement_options options = {.folder = folder,
                                               .genesis = buf_bytes(&world->genesis),
                                               .blobs = blobs,
                                               .sequencer = world->sequencer,
                                               .snapshot_blocks = snapshot_blocks};
    accepted(settlement_open(&options, &settlement, &note));
}

static void setup(void)
{
    char path[FILE_PATH_SIZE];
    world = world_create();
    accepted(file_make_private_folder("/tmp/openledger-test-", folder, &note));
    accepted(file_path(path, "%s/blobs", folder));
    accepted(blob_open(path, &blobs, &note));
    start();
}

static void teardown(void)
{
    settlement_close(settlement);
    blob_close(blobs);
    world_destroy(world);
    accepted(file_remove_tree(folder, &note));
}

static void restart(void)
{
    settlement_close(settlement);
    start();
}

/* Gives settlement the world's blobs, and its log from entry first on; world and settlement number
 * alike. */
static void feed(size_t first)
{
    for (size_t i = 0; i < world->blob_count; i++) {
        struct digest digest;
        accepted(blob_put(blobs, buf_bytes(&world->blobs[i]), &digest, &note));
    }
    for (size_t i = first; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry;
        struct settlement_result result;
        struct bytes tx = world_signed_tx(&world->entries[i], &entry);
        if (tx.size == 0) {
            accepted(settlement_seal(settlement, entry->time_ms, &note));
        } else {
            accepted(settlement_submit(settlement, tx, entry->time_ms, &result, &note));
            ck_assert_uint_eq(result.index, i + 1);
            ck_assert(!result.repeated);
        }
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    accepted(settlement_sync(settlement, &note));
}

static void same_as_world(void)
{
    struct ledger_head a;
    struct ledger_head b;
    struct digest root_a;
    struct digest root_b;
    ledger_head(world->ledger, &a);
    ledger_head(settlement_ledger(settlement), &b);
    ck_assert_uint_eq(a.index, b.index);
    ck_assert(memcmp(&a, &b, sizeof a) == 0);
    ledger_state_root(world->ledger, &root_a);
    settlement_state_root(settlement, &root_b);
    ck_assert(digest_equal(&root_a, &root_b));
}

/* A busy day: everything from accounts to shares, in several blocks. */
static void busy(struct digest ids[4])
{
    world_setup(world);
    accepted(world_seal(world));
    accepted(world_grant(world, "10"));
    struct digest batch = world_receipts(world, 1, 4, 100, 50, NULL, ids);
    accepted(world_settle_receipts(world, &batch));
    accepted(world_seal(world));
    struct digest shares = world_shares(world, ids, 4, 400000000, 100000000);
    accepted(world_settle_shares(world, &shares));
    accepted(world_seal(world));
    accepted(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "3"));
}

START_TEST(test_restart_comes_to_the_same_state)
{
    struct digest ids[4];
    busy(ids);
    feed(0);
    same_as_world();
    restart();
    same_as_world();
    ck_assert_uint_eq(settlement_replayed(settlement), world->entry_count);
    /* Without its derived files. */
    char path[FILE_PATH_SIZE];
    settlement_close(settlement);
    accepted(file_path(path, "%s/index", folder));
    accepted(file_remove_tree(path, &note));
    accepted(file_path(path, "%s/checkpoint", folder));
    accepted(file_remove(path, &note));
    start();
    same_as_world();
    ck_assert(file_exists(path));
    /* From a snapshot. */
    snapshot_blocks = 1;
    restart();
    size_t so_far = world->entry_count;
    accepted(world_seal(world));
    accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "3"));
    feed(so_far);
    restart();
    same_as_world();
    ck_assert_uint_eq(settlement_replayed(settlement), 1);
}
END_TEST

/* Puts a journal in the place of ours whose entry `forged` has another signature, and whose later entries fit, as
 * does what the index says of it. */
static void forge(uint64_t forged)
{
    char path[FILE_PATH_SIZE];
    struct journal *journal;
    struct settlement_store *store;
    struct settlement_store_mark mark;
    struct digest previous;
    struct buf out;
    uint64_t at;
    buf_init(&out, LEDGER_ENTRY_MAX);
    settlement_close(settlement);
    settlement = NULL;
    accepted(file_path(path, "%s/index", folder));
    accepted(settlement_store_open(path, &store, &note));
    accepted(settlement_store_mark_get(store, &mark));
    accepted(file_path(path, "%s/log", folder));
    const struct journal_options options = {.folder = path};
    accepted(journal_open(&options, &journal, &note));
    accepted(journal_truncate(journal, forged - 1, &note));
    for (size_t i = forged - 1; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry =
            openledger__v1__entry__unpack(NULL, world->entries[i].size, world->entries[i].data);
        ck_assert_ptr_nonnull(entry);
        if (i + 1 == forged) { /* it ends with its signature */
            entry->signed_tx.data[entry->signed_tx.len - 40] ^= 1;
        } else {
            memcpy(entry->previous.data, previous.bytes, DIGEST_SIZE);
        }
        buf_clear(&out);
        ck_assert_int_eq(ledger_pack(&entry->base, &out), ERR_OK);
        ledger_entry_hash(buf_bytes(&out), &previous);
        accepted(journal_append(journal, buf_bytes(&out), &at, &note));
        mark.entry_hash = i + 1 == mark.index ? previous : mark.entry_hash;
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    accepted(journal_sync(journal, &note));
    journal_close(journal);
    accepted(settlement_store_mark_put(store, &mark, &note));
    accepted(settlement_store_commit(store, &note));
    settlement_store_close(store);
    buf_deinit(&out);
}

/* A start does not check again what its own checkpoint vouches for, but who rewrites the journal gains nothing:
 * neither below the checkpoint, where the root is another, nor behind it. */
START_TEST(test_forged_signatures_are_found)
{
    /* That the checkpoint or the snapshot is not of this journal is told, not only acted on. */
    static const char *const TOLD[] = {
        "event=checkpoint_refuted height=3 root=sha256:", "event=snapshot_refused index=", ""};
    enum { BELOW_CHECKPOINT, BELOW_SNAPSHOT, BEHIND };
    struct digest ids[4];
    char text[64];
    snapshot_blocks = _i == BELOW_SNAPSHOT ? 1 : snapshot_blocks;
    restart();
    busy(ids);
    feed(0);
    uint64_t forged = _i == BEHIND ? world->entry_count : 1; /* the last: no block has it yet */
    forge(forged);
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(dup2(fileno(file), 2), 0);
    const struct settlement_options options = {.folder = folder,
                                               .genesis = buf_bytes(&world->genesis),
                                               .blobs = blobs,
                                               .sequencer = world->sequencer};
    ck_assert_int_eq(settlement_open(&options, &settlement, &note), ERR_DENIED);
    (void)snprintf(text, sizeof text, "entry %llu of", (unsigned long long)forged);
    ck_assert_msg(strstr(note.text, text) != NULL, "%s", note.text);
    static char log[8192];
    rewind(file);
    log[fread(log, 1, sizeof log - 1, file)] = '\0';
    ck_assert_msg(strstr(log, TOLD[_i]) != NULL && (_i != BEHIND || log[0] == '\0'), "%s", log);
    (void)fclose(file);
}
END_TEST

START_TEST(test_repeats_and_refusals)
{
    struct digest ids[4];
    busy(ids);
    feed(0);
    for (size_t i = 0; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry;
        struct settlement_result result;
        struct bytes tx = world_signed_tx(&world->entries[i], &entry);
        if (tx.size != 0) { /* also long after its validity has ended */
            accepted(settlement_submit(settlement, tx, entry->time_ms + 99999999, &result, &note));
            ck_assert(result.repeated);
            ck_assert_uint_eq(result.index, i + 1);
        }
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    struct settlement_result result;
    ck_assert_int_eq(
        settlement_submit(settlement, bytes_of_text("nonsense"), world->now_ms, &result, &note),
        ERR_INVALID);
    same_as_world();
}
END_TEST

/* The last record is damaged, as a crash in the middle of a write leaves it: it was never answered,
 * so it is gone, and everything before it is there. */
START_TEST(test_torn_tail)
{
    struct digest ids[4];
    struct file_names names;
    struct buf segment;
    char path[FILE_PATH_SIZE];
    busy(ids);
    feed(0);
    settlement_close(settlement);
    settlement = NULL;
    char log[FILE_PATH_SIZE];
    accepted(file_path(log, "%s/log", folder));
    accepted(file_list(log, 10, &names, &note));
    buf_init(&segment, 64U << 20);
    for (size_t i = 0; i < names.count; i++) {
        accepted(file_path(path, "%s/%s", log, names.items[i]));
        buf_clear(&segment);
        accepted(file_read(path, &segment, &note));
        if (segment.size > 0) {
            break;
        }
    }
    file_names_deinit(&names);
    size_t end = segment.size;
    while (segment.data[end - 1] == 0) {
        end--;
    }
    memset(segment.data + end - 10, 0, 10);
    accepted(file_write_atomic(path, buf_bytes(&segment), 0644, &note));
    buf_deinit(&segment);
    start();
    struct ledger_head head;
    ledger_head(settlement_ledger(settlement), &head);
    ck_assert_uint_eq(head.index, world->entry_count - 1);
    ck_assert_uint_gt(settlement_torn_size(settlement), 0);
    feed(world->entry_count - 1); /* submitted again, it gets the same number */
    same_as_world();
}
END_TEST

/* Page by page, and from the middle of nowhere, an account's history is the same. */
static void check_pages(const uint64_t *indexes, size_t count)
{
    const struct ledger_account *alice =
        ledger_account(settlement_ledger(settlement), &world->ids[WORLD_ALICE]);
    uint64_t page[2];
    size_t found = 0;
    for (uint64_t before = alice->last_index + 1; before > 0; before--) {
        size_t first = 0;
        while (first < count && indexes[first] >= before) {
            first++;
        }
        accepted(
            settlement_store_account(settlement_index(settlement), alice, before, page, 2, &found));
        ck_assert_uint_eq(found, count - first < 2 ? count - first : 2);
        ck_assert_mem_eq(page, indexes + first, found * sizeof *page);
    }
    accepted(settlement_store_account(settlement_index(settlement), NULL, 0, page, 2, &found));
    ck_assert_uint_eq(found, 0);
}

START_TEST(test_proofs_and_index)
{
    struct digest ids[4];
    struct buf proof;
    struct ledger_proof_claim claim;
    struct ledger_head head;
    busy(ids);
    feed(0);
    buf_init(&proof, 1U << 20);
    ledger_head(world->ledger, &head);
    struct ledger_trust trust;
    ledger_trust(world->ledger, &trust);
    uint64_t charged = ledger_receipt(world->ledger, &ids[2])->charged_index;
    ck_assert_uint_eq(settlement_height_of(settlement, charged), 2);
    accepted(settlement_prove_entry(settlement, charged, &proof, &note));
    accepted(ledger_proof_verify(buf_bytes(&proof), &trust, &claim, &note));
    ck_assert_uint_eq(claim.index, charged);
    buf_clear(&proof);
    accepted(settlement_prove_leg(settlement, charged, 3, &proof, &note));
    accepted(ledger_proof_verify(buf_bytes(&proof), &trust, &claim, &note));
    ck_assert(claim.posting && claim.leg == 3);
    ck_assert_int_eq(settlement_prove_leg(settlement, charged, 999, &proof, &note), ERR_NOT_FOUND);
    ck_assert_int_eq(settlement_prove_entry(settlement, head.index, &proof, &note),
                     ERR_UNAVAILABLE);
    ck_assert_int_eq(settlement_prove_entry(settlement, 0, &proof, &note), ERR_UNAVAILABLE);
    uint64_t indexes[8];
    size_t count = 0;
    accepted(settlement_store_account(
        settlement_index(settlement),
        ledger_account(settlement_ledger(settlement), &world->ids[WORLD_ALICE]), 0, indexes, 8,
        &count));
    ck_assert_uint_eq(count, 4); /* opened, committed rows, earned, got a transfer */
    ck_assert_uint_eq(indexes[0], head.index);
    check_pages(indexes, count);
    buf_deinit(&proof);
}
END_TEST

START_TEST(test_wrong_sequencer_key)
{
    const struct settlement_options options = {.folder = folder,
                                               .genesis = buf_bytes(&world->genesis),
                                               .blobs = blobs,
                                               .sequencer = world->keys[WORLD_BOB]};
    struct settlement *other = NULL;
    ck_assert_int_eq(settlement_open(&options, &other, &note), ERR_DENIED);
    ck_assert_ptr_null(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settlement");
    TCase *disk = tcase_create("disk");
    tcase_add_checked_fixture(disk, setup, teardown);
    tcase_set_timeout(disk, 60);
    tcase_add_test(disk, test_restart_comes_to_the_same_state);
    tcase_add_loop_test(disk, test_forged_signatures_are_found, 0, 3);
    tcase_add_test(disk, test_repeats_and_refusals);
    tcase_add_test(disk, test_torn_tail);
    tcase_add_test(disk, test_proofs_and_index);
    tcase_add_test(disk, test_wrong_sequencer_key);
    suite_add_tcase(suite, disk);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
