/* test_settlement_damage.c - bytes that change on the disk behind the sequencer's back.
 *
 * Method: exhaustive. Every byte of a small journal and of a published batch is changed in turn, and the index is
 * replaced, cut, filled with other bytes, or has bits of its snapshot flipped: truth that changed must be refused
 * (of the journal's last record, which may be half of one that nobody was told of, at least be said to be cut
 * off), and what is derived must be made anew. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "services/settlement/settlement.h"
#include "shared/base/hex.h"
#include "shared/platform/file.h"
#include "tests/harness/ledger_world.h"

enum { SEGMENT = 8192, JOURNAL_MAX = 1 << 20, INDEX_MAX = 1 << 26 };

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

/* Settlement gets the world's log from entry first on. */
static void feed(size_t first)
{
    for (size_t i = 0; i < world->blob_count; i++) {
        struct digest digest;
        fine(blob_put(blobs, buf_bytes(&world->blobs[i]), &digest, &note));
    }
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

/* The one segment of the journal, and where its records end. */
static size_t journal_of(char path[FILE_PATH_SIZE], struct buf *out)
{
    struct file_names names;
    char log[FILE_PATH_SIZE];
    size_t found = 0;
    fine(file_path(log, "%.3000s", settlement_log_folder(settlement)));
    stop();
    fine(file_list(log, 16, &names, &note));
    for (size_t i = 0; i < names.count; i++) {
        if (strstr(names.items[i], ".journal") != NULL) {
            found++;
            fine(file_path(path, "%.3000s/%.200s", log, names.items[i]));
        }
    }
    file_names_deinit(&names);
    ck_assert_uint_eq(found, 1);
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
        no_index();
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
    no_index();
    fine(start());
    same_as_world();
    buf_deinit(&journal);
}
END_TEST

START_TEST(every_byte_of_a_batch_counts)
{
    char path[FILE_PATH_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    struct digest ids[1];
    struct buf blob;
    size_t refused = 0;
    world_setup(world);
    fine(world_grant(world, "10"));
    struct digest batch = world_receipts(world, 1, 1, 100, 50, NULL, ids);
    fine(world_settle_receipts(world, &batch));
    fine(world_seal(world));
    feed(0);
    stop();
    (void)hex_encode(batch.bytes, DIGEST_SIZE, hex);
    fine(file_path(path, "%.3000s/%.2s/%s", blob_folder, hex, hex));
    read_file(path, JOURNAL_MAX, &blob);
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

/* The index's file with other bytes in it: opened, it must be as if it had been right. */
static void with_index(const char *path, struct bytes bytes)
{
    fine(file_write_atomic(path, bytes, 0600, &note));
    fine(start());
    same_as_world();
    stop();
}

START_TEST(a_damaged_index_is_made_anew)
{
    char path[FILE_PATH_SIZE];
    struct buf index;
    uint32_t flips = 0;
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
    /* Bits of values that still parse: what the snapshot says of the payer's account. */
    const uint8_t *id = world->ids[WORLD_PAYER].bytes;
    for (size_t at = 0; at + 64 < index.size; at++) {
        if (memcmp(index.data + at, id, ACCOUNT_ID_SIZE) == 0 && flips < 600) {
            for (size_t i = 0; i < 20; i++, flips++) {
                size_t where = at + ACCOUNT_ID_SIZE + i;
                index.data[where] ^= (uint8_t)(1U << (i % 8));
                with_index(path, buf_bytes(&index));
                index.data[where] ^= (uint8_t)(1U << (i % 8));
            }
        }
    }
    ck_assert_uint_gt(flips, 20);
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
    tcase_add_test(tests, every_byte_of_a_batch_counts);
    tcase_add_test(tests, a_damaged_index_is_made_anew);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
