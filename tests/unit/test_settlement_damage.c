/* test_settlement_damage.c - bytes that change on the disk behind the sequencer's back.
 *
 * Method: exhaustive. Every byte of a small journal and of a published batch is changed in turn, and the index is
 * replaced, cut, filled with other bytes, or has bits flipped, those of its mark and at random: truth that changed
 * must be refused (of the journal's last record, which may be half of one that nobody was told of, at least be said to be cut
 * off), and what is derived must be made anew. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/settlement/settlement.h"
#include "services/settlement/store.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/platform/file.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

enum { SEGMENT = 8192, JOURNAL_MAX = 1 << 20, INDEX_MAX = 1 << 26, PAGE = 4096 };

static struct world *world;
static struct blob_store *blobs;
static struct settlement *settlement;
static struct note note;
static char folder[FILE_PATH_SIZE], index_folder[FILE_PATH_SIZE], blob_folder[FILE_PATH_SIZE];

static void fine(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static enum err start(void)
{
    const struct settlement_options options = {.folder = folder,
                                               .index_folder = index_folder,
                                               .genesis = buf_bytes(&world->genesis),
                                               .blobs = blobs,
                                               .sequencer = world->sequencer,
                                               .snapshot_blocks = 1,
                                               .segment_size = SEGMENT};
    return settlement_open(&options, &settlement, &note);
}

static void stop(void)
{
    settlement_close(settlement);
    settlement = NULL;
}

static void setup(void)
{
    const char *prefix =
        file_exists("/dev/shm") ? "/dev/shm/openledger-test-" : "/tmp/openledger-test-";
    world = world_create();
    fine(file_make_private_folder(prefix, folder, &note));
    fine(file_path(index_folder, "%.4000s/index", folder));
    fine(file_path(blob_folder, "%.4000s/blobs", folder));
    fine(blob_open(blob_folder, &blobs, &note));
    fine(start());
}

static void teardown(void)
{
    stop();
    blob_close(blobs);
    world_destroy(world);
    fine(file_remove_tree(folder, &note));
}

static void put_blobs(void)
{
    for (size_t i = 0; i < world->blob_count; i++) {
        struct digest digest;
        fine(blob_put(blobs, buf_bytes(&world->blobs[i]), &digest, &note));
    }
}

/* Settlement gets the world's log from entry first on. */
static void feed(size_t first)
{
    put_blobs();
    for (size_t i = first; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry;
        struct settlement_result result;
        struct bytes tx = world_signed_tx(&world->entries[i], &entry);
        fine(tx.size == 0 ? settlement_seal(settlement, entry->time_ms, &note)
                          : settlement_submit(settlement, tx, entry->time_ms, &result, &note));
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    fine(settlement_sync(settlement, &note));
}

static uint64_t entries(void)
{
    struct ledger_head head;
    ledger_head(settlement_ledger(settlement), &head);
    return head.index;
}

static void same_as_world(void)
{
    struct digest theirs;
    struct digest ours;
    ledger_state_root(world->ledger, &theirs);
    settlement_state_root(settlement, &ours);
    ck_assert_uint_eq(entries(), world->entry_count);
    ck_assert(digest_equal(&theirs, &ours));
    ledger_state_root_slow(settlement_ledger(settlement), &ours);
    ck_assert(digest_equal(&theirs, &ours));
}

static void read_file(const char *path, size_t max, struct buf *out)
{
    buf_init(out, max);
    fine(file_read(path, out, &note));
}

static void no_index(void)
{
    fine(file_remove_tree(index_folder, &note));
}

/* Nothing but the journal is left. */
static void no_derived(void)
{
    char checkpoint[FILE_PATH_SIZE];
    fine(file_path(checkpoint, "%.4000s/checkpoint", folder));
    no_index();
    fine(file_remove_tree(checkpoint, &note));
}

/* It is refused, and the note says this. */
static void refused(enum err expected, const char *words)
{
    note.text[0] = '\0';
    enum err err = start();
    ck_assert_msg(err == expected && strstr(note.text, words) != NULL, "%s: %s", err_name(err),
                  note.text);
}

enum { SEGMENTS_MAX = 32 };
static char segments[SEGMENTS_MAX][FILE_PATH_SIZE];

/* Stops, and gives the paths of the journal's segments. */
static size_t segments_of(void)
{
    struct file_names names;
    char log[FILE_PATH_SIZE];
    size_t found = 0;
    fine(file_path(log, "%.3000s", settlement_log_folder(settlement)));
    stop();
    fine(file_list(log, SEGMENTS_MAX, &names, &note));
    for (size_t i = 0; i < names.count; i++) {
        if (strstr(names.items[i], ".journal") != NULL) {
            fine(file_path(segments[found++], "%.3000s/%.200s", log, names.items[i]));
        }
    }
    file_names_deinit(&names);
    return found;
}

/* The one segment of the journal, and where its records end. */
static size_t journal_of(char path[FILE_PATH_SIZE], struct buf *out)
{
    ck_assert_uint_eq(segments_of(), 1);
    fine(file_path(path, "%s", segments[0]));
    read_file(path, JOURNAL_MAX, out);
    size_t used = out->size;
    while (used > 0 && out->data[used - 1] == 0) {
        used--;
    }
    return used;
}

START_TEST(every_byte_of_the_journal_counts)
{
    char path[FILE_PATH_SIZE];
    struct buf journal;
    uint32_t refused = 0;
    uint32_t cut = 0;
    for (int i = 0; i < 3; i++) {
        fine(world_transfer(world, WORLD_PAYER, WORLD_DEV, "2.5"));
    }
    fine(world_seal(world));
    feed(0);
    size_t used = journal_of(path, &journal);
    ck_assert_uint_gt(used, 500);
    for (size_t at = 0; at < used; at++) {
        journal.data[at] ^= (uint8_t)(1U << (at % 8));
        fine(file_write_atomic(path, buf_bytes(&journal), 0600, &note));
        journal.data[at] ^= (uint8_t)(1U << (at % 8));
        no_derived();
        enum err err = start();
        if (err == ERR_OK) { /* the last record, taken for one that was never whole */
            ck_assert_uint_gt(settlement_torn_size(settlement), 0);
            ck_assert_uint_eq(entries(), world->entry_count - 1);
            stop();
            cut++;
        } else {
            ck_assert_msg(err == ERR_CORRUPT, "byte %zu: %s: %s", at, err_name(err), note.text);
            refused++;
        }
    }
    ck_assert_uint_eq(refused + cut, used);
    ck_assert_uint_gt(refused, cut);
    fine(file_write_atomic(path, buf_bytes(&journal), 0600, &note));
    no_derived();
    fine(start());
    same_as_world();
    stop();
    /* With the index or the checkpoint that was made of it, the last record is missed too. */
    for (size_t at = used - cut; at < used; at++) {
        for (int without_index = 0; without_index < 2; without_index++) {
            journal.data[at] ^= (uint8_t)(1U << (at % 8));
            fine(file_write_atomic(path, buf_bytes(&journal), 0600, &note));
            journal.data[at] ^= (uint8_t)(1U << (at % 8));
            if (without_index == 1) {
                no_index();
            }
            ck_assert(start() == ERR_CORRUPT);
            ck_assert_ptr_nonnull(strstr(note.text, "lacks them"));
            fine(file_write_atomic(path, buf_bytes(&journal), 0600, &note));
            fine(start());
            same_as_world();
            stop();
        }
    }
    buf_deinit(&journal);
}
END_TEST

START_TEST(a_journal_without_a_segment_is_refused)
{
    char away[FILE_PATH_SIZE];
    for (int i = 0; i < 60; i++) {
        fine(world_transfer(world, WORLD_PAYER, WORLD_DEV, "0.25"));
    }
    fine(world_seal(world));
    feed(0);
    size_t count = segments_of();
    ck_assert_uint_gt(count, 2);
    fine(file_path(away, "%.4000s/away", folder));
    for (size_t i = 0; i < count; i++) {
        fine(file_rename(segments[i], away, &note));
        refused(ERR_CORRUPT, i == 0           ? "first segment missing"
                             : i + 1 == count ? "entries were final"
                                              : "record damaged or missing");
        if (i + 1 == count) {
            no_index();
            refused(ERR_CORRUPT, "blocks were final");
        }
        fine(file_rename(away, segments[i], &note));
        fine(start());
        same_as_world();
        stop();
    }
    /* A journal of the same chain and length, but not this one. */
    struct world *other = world_create();
    char elsewhere[FILE_PATH_SIZE];
    char ours[FILE_PATH_SIZE];
    char theirs[FILE_PATH_SIZE];
    struct world *kept = world;
    fine(file_path(elsewhere, "%.4000s/elsewhere", folder));
    fine(file_path(ours, "%.4000s/log", folder));
    fine(file_path(theirs, "%.4000s/log", elsewhere));
    for (int i = 0; i < 60; i++) {
        fine(world_transfer(other, WORLD_PAYER, WORLD_DEV, "0.75"));
    }
    fine(world_seal(other));
    world = other;
    const struct settlement_options options = {.folder = elsewhere,
                                               .genesis = buf_bytes(&world->genesis),
                                               .blobs = blobs,
                                               .sequencer = world->sequencer,
                                               .segment_size = SEGMENT};
    fine(settlement_open(&options, &settlement, &note));
    feed(0);
    stop();
    fine(file_remove_tree(ours, &note));
    fine(file_rename(theirs, ours, &note));
    refused(ERR_CORRUPT, "entries were final");
    no_index();
    refused(ERR_CORRUPT, "blocks were final");
    world_destroy(kept);
}
END_TEST

START_TEST(a_lock_file_of_another_time_locks_nothing)
{
    char journal[FILE_PATH_SIZE];
    char index[FILE_PATH_SIZE];
    uint8_t bytes[9000];
    world_setup(world);
    fine(world_seal(world));
    feed(0);
    stop();
    fine(file_path(journal, "%.4000s/log/LOCK", folder));
    fine(file_path(index, "%.4000s/lock.mdb", index_folder));
    for (size_t size = 0; size <= sizeof bytes; size += 1500) {
        memset(bytes, (int)(size / 1500 * 37), sizeof bytes);
        fine(file_write_quick(journal, bytes_of(bytes, size), 0644, &note));
        fine(file_write_quick(index, bytes_of(bytes, size), 0644, &note));
        fine(start());
        same_as_world();
        stop();
    }
}
END_TEST

START_TEST(a_damaged_checkpoint_is_signed_again)
{
    char path[FILE_PATH_SIZE];
    struct buf kept;
    struct buf now;
    world_setup(world);
    fine(world_seal(world));
    feed(0);
    stop();
    fine(file_path(path, "%.4000s/checkpoint", folder));
    read_file(path, 4096, &kept);
    buf_init(&now, 4096);
    for (size_t at = 0; at <= kept.size; at += at < kept.size && at + 7 > kept.size ? 1 : 7) {
        if (at == kept.size) {
            fine(file_write_quick(path, bytes_of_text(""), 0644, &note));
        } else {
            kept.data[at] ^= 1;
            fine(file_write_quick(path, buf_bytes(&kept), 0644, &note));
            kept.data[at] ^= 1;
        }
        fine(start());
        same_as_world();
        stop();
        buf_clear(&now);
        fine(file_read(path, &now, &note));
        ck_assert(bytes_equal(buf_bytes(&now), buf_bytes(&kept)));
    }
    buf_deinit(&kept);
    buf_deinit(&now);
}
END_TEST

/* Settles a batch on a ledger that then stops; gives where its blob lies, and its bytes. */
static void settle_a_batch(char path[FILE_PATH_SIZE], struct buf *blob)
{
    char hex[2 * DIGEST_SIZE + 1];
    struct digest ids[1];
    world_setup(world);
    fine(world_grant(world, "10"));
    struct digest batch = world_receipts(world, 1, 1, 100, 50, NULL, ids);
    fine(world_settle_receipts(world, &batch));
    fine(world_seal(world));
    feed(0);
    stop();
    (void)hex_encode(batch.bytes, DIGEST_SIZE, hex);
    fine(file_path(path, "%.3000s/%.2s/%s", blob_folder, hex, hex));
    read_file(path, JOURNAL_MAX, blob);
}

START_TEST(every_byte_of_a_batch_counts)
{
    char path[FILE_PATH_SIZE];
    struct buf blob;
    size_t refused = 0;
    settle_a_batch(path, &blob);
    ck_assert_uint_gt(blob.size, 200);
    for (size_t at = 0; at < blob.size; at++) {
        blob.data[at] ^= (uint8_t)(1U << (at % 8));
        fine(file_write_atomic(path, buf_bytes(&blob), 0600, &note));
        blob.data[at] ^= (uint8_t)(1U << (at % 8));
        no_index();
        enum err err = start();
        if (err == ERR_OK) { /* a bit of the packing that its contents do not depend on */
            same_as_world();
            stop();
        } else {
            ck_assert_msg(err == ERR_CORRUPT, "byte %zu: %s: %s", at, err_name(err), note.text);
            refused++;
        }
    }
    ck_assert_uint_gt(refused, blob.size / 10 * 9);
    fine(file_write_atomic(path, buf_bytes(&blob), 0600, &note));
    no_index();
    fine(start());
    same_as_world();
    buf_deinit(&blob);
}
END_TEST

START_TEST(a_missing_or_short_batch_is_named)
{
    char path[FILE_PATH_SIZE];
    struct buf blob;
    settle_a_batch(path, &blob);
    for (size_t size = 0; size < blob.size; size++) {
        fine(file_write_quick(path, bytes_of(blob.data, size), 0644, &note));
        no_index();
        refused(ERR_CORRUPT, "entry ");
    }
    fine(file_remove(path, &note));
    no_index();
    refused(ERR_NOT_FOUND, "entry ");
    char part[9];
    (void)snprintf(part, sizeof part, "%.8s", strrchr(path, '/') + 1);
    ck_assert_msg(strstr(note.text, part) != NULL, "%s", note.text); /* and which batch */
    fine(file_remove_tree(blob_folder, &note));                      /* with everything */
    refused(ERR_NOT_FOUND, part);
    put_blobs(); /* from another copy */
    fine(start());
    same_as_world();
    buf_deinit(&blob);
}
END_TEST

static enum err posting_add(void *context, uint64_t index, uint32_t leg, struct bytes posting)
{
    (void)index, (void)leg;
    return buf_append_bytes(context, posting);
}

/* The hash of all that the index can be asked: where each transaction is, its postings, headers, histories. */
static struct digest answers(void)
{
    struct settlement_store *index = settlement_index(settlement);
    struct digest digest;
    struct buf all;
    struct ledger_head head;
    uint64_t at = 0;
    uint64_t history[64];
    size_t count = 0;
    buf_init(&all, JOURNAL_MAX);
    ledger_head(world->ledger, &head);
    for (size_t i = 0; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry;
        struct bytes tx = world_signed_tx(&world->entries[i], &entry);
        if (tx.size != 0) {
            struct settlement_result result;
            fine(settlement_submit(settlement, tx, entry->time_ms, &result, &note));
            ck_assert(result.repeated);
            fine(settlement_store_tx(index, &result.tx, head.index, UINT64_MAX, &at));
            buf_append_u64be(&all, at);
        }
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    fine(settlement_store_legs(index, 1, head.index, posting_add, &all));
    for (uint64_t height = 1; height <= head.height; height++) {
        fine(settlement_store_header(index, height, &all));
    }
    for (size_t who = 0; who < WORLD_COUNT; who++) {
        fine(settlement_store_account(
            index, ledger_account(settlement_ledger(settlement), &world->ids[who]), 0, history, 64,
            &count));
        buf_append(&all, history, count * sizeof *history);
    }
    fine(buf_err(&all));
    sha256(buf_bytes(&all), &digest);
    buf_deinit(&all);
    return digest;
}

/* The index's file with other bytes in it: opened, it must be as if it had been right. */
static void with_index(const char *path, struct bytes bytes)
{
    fine(file_write_atomic(path, bytes, 0600, &note));
    fine(start());
    same_as_world();
    stop();
}

/* Changes one bit, or some neighbouring bytes, anywhere in the index: it must answer as if it had been right. */
START_TEST(any_damage_of_the_index_is_found_or_means_nothing)
{
    enum { FLIPS = 600 };
    char path[FILE_PATH_SIZE];
    struct buf index;
    uint32_t anew = 0;
    world_setup(world);
    for (int i = 0; i < 20; i++) {
        fine(world_transfer(world, WORLD_PAYER, WORLD_DEV, "0.5"));
        fine(world_seal(world));
    }
    feed(0);
    struct digest expected = answers();
    stop();
    fine(file_path(path, "%.4000s/data.mdb", index_folder));
    read_file(path, INDEX_MAX, &index);
    for (uint32_t i = 0; i < FLIPS; i++) {
        size_t size = i % 3 == 0 ? 1 + test_rand() % 64 : 1;
        size_t at = test_rand() % (index.size - size);
        uint8_t kept[64];
        memcpy(kept, index.data + at, size);
        for (size_t k = 0; k < size; k++) {
            index.data[at + k] =
                size == 1 ? kept[0] ^ (uint8_t)(1U << (test_rand() % 8)) : (uint8_t)test_rand();
        }
        fine(file_write_quick(path, buf_bytes(&index), 0600, &note));
        memcpy(index.data + at, kept, size);
        fine(start());
        same_as_world();
        struct digest found = answers();
        ck_assert_msg(digest_equal(&found, &expected), "%zu bytes at %zu", size, at);
        anew += settlement_replayed(settlement) == world->entry_count;
        stop();
    }
    ck_assert_uint_gt(anew, FLIPS / 10); /* much of so small an index is free pages */
    buf_deinit(&index);
}
END_TEST

START_TEST(a_damaged_index_is_made_anew)
{
    char path[FILE_PATH_SIZE];
    struct buf index;
    world_setup(world);
    fine(world_seal(world));
    fine(world_transfer(world, WORLD_PAYER, WORLD_DEV, "2.5"));
    fine(world_seal(world));
    feed(0);
    stop();
    fine(file_path(path, "%.4000s/data.mdb", index_folder));
    read_file(path, INDEX_MAX, &index);
    with_index(path, (struct bytes){0});
    with_index(path, bytes_of_text("this is no index"));
    uint8_t *zeros = calloc(1, index.size);
    ck_assert_ptr_nonnull(zeros);
    with_index(path, bytes_of(zeros, index.size));
    free(zeros);
    for (size_t page = 0; page + PAGE <= index.size; page += PAGE) {
        uint8_t kept[PAGE];
        with_index(path, bytes_of(index.data, page)); /* cut short: LMDB would be killed by it */
        with_index(path, bytes_of(index.data, page + PAGE / 2));
        memcpy(kept, index.data + page, PAGE);
        memset(index.data + page, 0, PAGE);
        with_index(path, buf_bytes(&index));
        memset(index.data + page, 0xa5, PAGE);
        with_index(path, buf_bytes(&index));
        memcpy(index.data + page, kept, PAGE);
    }
    struct buf longer; /* more than there was: nobody's pages */
    buf_init(&longer, INDEX_MAX);
    fine(buf_append_bytes(&longer, buf_bytes(&index)));
    fine(buf_append(&longer, index.data, PAGE + 77));
    with_index(path, buf_bytes(&longer));
    buf_deinit(&longer);
    /* A damaged mark is damage of the index, not proof that the journal lost something. */
    struct ledger_head head;
    uint32_t marks = 0;
    ledger_head(world->ledger, &head);
    for (size_t at = 4; at + 112 < index.size; at++) {
        if (memcmp(index.data + at - 4, "mark", 4) == 0 &&
            memcmp(index.data + at, head.chain_id.bytes, DIGEST_SIZE) == 0) {
            marks++;
            for (size_t i = 0; i < 104; i++) {
                index.data[at + i] ^= (uint8_t)(1U << (i % 8));
                with_index(path, buf_bytes(&index));
                index.data[at + i] ^= (uint8_t)(1U << (i % 8));
            }
        }
    }
    ck_assert_uint_ge(marks, 1);
    with_index(path, buf_bytes(&index));
    no_index();
    fine(start());
    same_as_world();
    buf_deinit(&index);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settlement damage");
    TCase *tests = tcase_create("damage");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, every_byte_of_the_journal_counts);
    tcase_add_test(tests, a_journal_without_a_segment_is_refused);
    tcase_add_test(tests, a_lock_file_of_another_time_locks_nothing);
    tcase_add_test(tests, a_damaged_checkpoint_is_signed_again);
    tcase_add_test(tests, every_byte_of_a_batch_counts);
    tcase_add_test(tests, a_missing_or_short_batch_is_named);
    tcase_add_test(tests, a_damaged_index_is_made_anew);
    tcase_add_test(tests, any_damage_of_the_index_is_found_or_means_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
