/* test_openledger.c - the verifier: a whole ledger passes; any changed byte of log, blob, receipt,
 * share or checkpoint fails, with words that say what. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/verify_ledger.h"
#include "shared/blob/blob.h"
#include "shared/journal/journal.h"
#include "shared/ledger/proof.h"
#include "shared/platform/file.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

static struct world *world;
static struct note note;
static char folder[FILE_PATH_SIZE], log_folder[FILE_PATH_SIZE], blob_folder[FILE_PATH_SIZE];
static char genesis_file[FILE_PATH_SIZE], checkpoint_file[FILE_PATH_SIZE];
static struct digest receipts_blob, shares_blob;

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static void log_write_all(size_t count)
{
    struct journal *journal = NULL;
    const struct journal_options options = {.folder = log_folder};
    accepted(file_remove_tree(log_folder, &note));
    accepted(journal_open(&options, &journal, &note));
    for (size_t i = 0; i < count; i++) {
        uint64_t index;
        accepted(journal_append(journal, buf_bytes(&world->entries[i]), &index, &note));
    }
    accepted(journal_sync(journal, &note));
    journal_close(journal);
}

static void blobs_write(void)
{
    struct blob_store *blobs = NULL;
    accepted(file_remove_tree(blob_folder, &note));
    accepted(blob_open(blob_folder, &blobs, &note));
    for (size_t i = 0; i < world->blob_count; i++) {
        struct digest digest;
        accepted(blob_put(blobs, buf_bytes(&world->blobs[i]), &digest, &note));
    }
    blob_close(blobs);
}

static void checkpoint_write(void)
{
    struct ledger_head head;
    struct buf checkpoint;
    buf_init(&checkpoint, 4096);
    ledger_head(world->ledger, &head);
    accepted(ledger_checkpoint_sign(&head.chain_id, head.height, &head.headers_root,
                                    world->sequencer, &checkpoint));
    accepted(file_write_quick(checkpoint_file, buf_bytes(&checkpoint), 0644, &note));
    buf_deinit(&checkpoint);
}

static void setup(void)
{
    struct digest ids[4];
    world = world_create();
    accepted(file_make_private_folder("/tmp/openledger-test-", folder, &note));
    accepted(file_path(log_folder, "%s/log", folder));
    accepted(file_path(blob_folder, "%s/blobs", folder));
    accepted(file_path(genesis_file, "%s/genesis.json", folder));
    accepted(file_path(checkpoint_file, "%s/checkpoint", folder));
    world_setup(world);
    accepted(world_seal(world));
    accepted(world_grant(world, "10"));
    receipts_blob = world_receipts(world, 1, 4, 100, 50, NULL, ids);
    accepted(world_settle_receipts(world, &receipts_blob));
    accepted(world_seal(world));
    shares_blob = world_shares(world, ids, 4, 400000000, 100000000);
    accepted(world_settle_shares(world, &shares_blob));
    accepted(world_seal(world));
    accepted(file_write_quick(genesis_file, buf_bytes(&world->genesis), 0644, &note));
    log_write_all(world->entry_count);
    blobs_write();
    checkpoint_write();
}

static void teardown(void)
{
    accepted(file_remove_tree(folder, &note));
    world_destroy(world);
}

static enum err verify(struct verify_ledger_report *report)
{
    const struct verify_ledger_options options = {
        .log_folder = log_folder, .blob_folder = blob_folder, .genesis_file = genesis_file};
    note = (struct note){""};
    return verify_ledger(&options, report, &note);
}

static void fails_with(const char *words)
{
    struct verify_ledger_report report;
    enum err err = verify(&report);
    ck_assert_msg(err != ERR_OK, "nothing was noticed, expected: %s", words);
    ck_assert_msg(strstr(note.text, words) != NULL, "note: %s", note.text);
}

static void flip(const char *path, size_t at)
{
    struct buf bytes;
    struct note detail;
    buf_init(&bytes, 64U << 20);
    ck_assert(file_read(path, &bytes, &detail) == ERR_OK);
    ck_assert_uint_lt(at, bytes.size);
    bytes.data[at] ^= 0x20;
    ck_assert(file_write_quick(path, buf_bytes(&bytes), 0644, &detail) == ERR_OK);
    buf_deinit(&bytes);
}

START_TEST(test_whole_ledger_passes)
{
    struct verify_ledger_report report;
    struct digest root;
    accepted(verify(&report));
    ledger_state_root(world->ledger, &root);
    ck_assert_uint_eq(report.entries, world->entry_count);
    ck_assert_uint_eq(report.blocks, 3);
    ck_assert_uint_eq(report.transactions, world->entry_count - 3);
    ck_assert_uint_eq(report.receipts, 4);
    ck_assert_uint_eq(report.share_sets, 4);
    ck_assert_uint_eq(report.contributions, 2);
    ck_assert_uint_eq(report.versions, 1);
    ck_assert_uint_eq(report.transcripts, 1);
    ck_assert_uint_eq(report.blobs, world->blob_count);
    ck_assert_uint_eq(report.signatures, report.transactions + 3);
    ck_assert(amount_equal(report.supply, amount_from_open(1000000000)));
    ck_assert(digest_equal(&report.state_root, &root));
}
END_TEST

struct heard {
    uint32_t times;
    uint64_t done, total;
};

static void on_progress(void *context, uint64_t done, uint64_t total)
{
    struct heard *heard = context;
    ck_assert_uint_gt(done, heard->done);
    *heard = (struct heard){heard->times + 1, done, total};
}

/* A long replay says how far it is; a short one is over before. */
START_TEST(test_progress)
{
    struct heard heard = {0};
    struct verify_ledger_report report;
    const struct verify_ledger_options options = {.log_folder = log_folder,
                                                  .blob_folder = blob_folder,
                                                  .genesis_file = genesis_file,
                                                  .on_progress = on_progress,
                                                  .progress_context = &heard};
    accepted(verify_ledger(&options, &report, &note));
    ck_assert_uint_eq(heard.times, 0);
    while (world->entry_count < 2100) {
        accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "0.001"));
    }
    accepted(world_seal(world));
    log_write_all(world->entry_count);
    checkpoint_write();
    accepted(verify_ledger(&options, &report, &note));
    ck_assert_uint_eq(heard.times, 2);
    ck_assert_uint_eq(heard.done, 2048);
    ck_assert_uint_eq(heard.total, world->entry_count);
}
END_TEST

/* Someone who can write the journal's files well-formed again still cannot change an entry. */
START_TEST(test_changed_entries)
{
    for (int run = 0; run < 60; run++) {
        struct buf *entry = &world->entries[test_rand() % world->entry_count];
        size_t at = test_rand() % entry->size;
        uint8_t bit = (uint8_t)(1U << (test_rand() % 8));
        entry->data[at] ^= bit;
        log_write_all(world->entry_count);
        fails_with("");
        ck_assert(note.text[0] != '\0');
        entry->data[at] ^= bit;
    }
}
END_TEST

/* Nobody signs a seal and no entry names the last one: only the checkpoint's root holds it. */
START_TEST(test_changed_last_seal)
{
    uint32_t by_checkpoint = 0;
    struct buf *entry = &world->entries[world->entry_count - 1];
    for (size_t at = 0; at < entry->size; at++) {
        entry->data[at] ^= 2;
        log_write_all(world->entry_count);
        fails_with("");
        ck_assert(note.text[0] != '\0');
        by_checkpoint += strstr(note.text, "is not the one that the sequencer signed") != NULL;
        entry->data[at] ^= 2;
    }
    ck_assert_uint_gt(by_checkpoint, 0);
}
END_TEST

START_TEST(test_changed_log_file)
{
    struct file_names names;
    char path[FILE_PATH_SIZE];
    accepted(file_list(log_folder, 10, &names, &note));
    for (size_t i = 0; i < names.count; i++) {
        accepted(file_path(path, "%s/%s", log_folder, names.items[i]));
        uint64_t size = 0;
        accepted(file_size(path, &size, &note));
        if (size > 600) {
            flip(path, 500);
        }
    }
    file_names_deinit(&names);
    fails_with("");
    ck_assert(note.text[0] != '\0');
}
END_TEST

START_TEST(test_shortened_log)
{
    log_write_all(world->entry_count - 1); /* even though everything left is valid */
    fails_with("its end is missing");
}
END_TEST

static void flip_blob(const struct digest *digest)
{
    char text[DIGEST_TEXT_SIZE];
    char path[FILE_PATH_SIZE];
    const char *hex = digest_format(digest, text) + strlen(DIGEST_PREFIX);
    uint64_t size = 0;
    accepted(file_path(path, "%s/%.2s/%s", blob_folder, hex, hex));
    accepted(file_size(path, &size, &note));
    flip(path, (size_t)size / 2);
    fails_with(hex);
    flip(path, (size_t)size / 2);
}

START_TEST(test_changed_blobs)
{
    for (size_t i = 0; i < world->blob_count; i++) { /* rows, manifest, receipts, shares, ... */
        flip_blob(&world->blob_names[i]);
    }
    struct verify_ledger_report report;
    accepted(verify(&report));
}
END_TEST

START_TEST(test_checkpoint_and_genesis)
{
    flip(checkpoint_file, 20);
    fails_with("checkpoint");
    checkpoint_write();
    flip(genesis_file, buf_text(&world->genesis) != NULL ? 20 : 0);
    fails_with("");
    accepted(file_write_quick(genesis_file, buf_bytes(&world->genesis), 0644, &note));
    accepted(file_remove(checkpoint_file, &note));
    fails_with("checkpoint");
    /* Signed by somebody else. */
    struct key_pair *own = world->sequencer;
    world->sequencer = world->keys[WORLD_BOB];
    checkpoint_write();
    world->sequencer = own;
    fails_with("checkpoint");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("openledger");
    TCase *verifier = tcase_create("verifier");
    tcase_add_checked_fixture(verifier, setup, teardown);
    tcase_set_timeout(verifier, 120);
    tcase_add_test(verifier, test_whole_ledger_passes);
    tcase_add_test(verifier, test_progress);
    tcase_add_test(verifier, test_changed_entries);
    tcase_add_test(verifier, test_changed_last_seal);
    tcase_add_test(verifier, test_changed_log_file);
    tcase_add_test(verifier, test_shortened_log);
    tcase_add_test(verifier, test_changed_blobs);
    tcase_add_test(verifier, test_checkpoint_and_genesis);
    suite_add_tcase(suite, verifier);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
