/* test_datanet_store.c - uploads on disk: a full one, and a store that is damaged and found again among the blobs. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "services/datanet/recover.h"
#include "shared/ledger/rows.h"
#include "tests/harness/damaged_store.h"
#include "tests/harness/folder.h"
#include "tests/harness/full_disk.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

static struct note note;
static struct datanet_store *store;

static void fine(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static uint64_t received(const struct digest *contribution)
{
    uint64_t size = 0;
    fine(datanet_store_received(store, contribution, &size, &note));
    return size;
}

/* A chunk that finds no room is ERR_FULL; what was there goes on when there is room. */
START_TEST(test_an_upload_on_a_full_disk)
{
    enum { CHUNK = 100000 };
    static uint8_t data[2 * CHUNK];
    struct digest contribution = {{7}};
    struct buf out;
    test_folder_make();
    if (!full_disk_make(1)) {
        test_folder_remove();
        return;
    }
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)test_rand();
    }
    fine(datanet_store_open(test_path("disk"), &store, &note));
    fine(datanet_store_append(store, &contribution, 0, bytes_of(data, CHUNK), &note));
    full_disk_fill(CHUNK / 2);
    ck_assert_int_eq(
        datanet_store_append(store, &contribution, CHUNK, bytes_of(data + CHUNK, CHUNK), &note),
        ERR_FULL);
    uint64_t at = received(&contribution); /* part of it may be there, and is as sent */
    ck_assert_uint_ge(at, CHUNK);
    ck_assert_uint_lt(at, sizeof data);
    full_disk_fill(0);
    struct upload upload = {.contribution = contribution, .size = sizeof data};
    enum err err = ERR_OK; /* LMDB has free pages of its own for a while */
    for (uint8_t i = 0; i < 100 && err == ERR_OK; i++) {
        upload.contribution.bytes[1] = i;
        err = datanet_store_put(store, &upload, &note);
    }
    ck_assert_int_eq(err, ERR_FULL);
    full_disk_room();
    fine(datanet_store_put(store, &upload, &note));
    fine(datanet_store_append(store, &contribution, at, bytes_of(data + at, sizeof data - at),
                              &note));
    buf_init(&out, sizeof data);
    fine(datanet_store_read(store, &contribution, &out, &note));
    ck_assert(bytes_equal(buf_bytes(&out), bytes_of(data, sizeof data)));
    buf_deinit(&out);
    datanet_store_close(store);
    full_disk_remove();
    test_folder_remove();
}
END_TEST

/* ---- damage ---- */

enum { ROWS = 3 };
#define HEX62 "01234567890123456789012345678901234567890123456789012345678901"

/* Commits rows of Alice, different for each number, and gives the content that was not reviewed yet. */
static struct digest commit(struct world *world, int number, struct buf *out_content)
{
    static const uint8_t salt[SALT_SIZE] = {0x11};
    Openledger__V1__Row items[ROWS];
    Openledger__V1__Row *pointers[ROWS];
    char texts[ROWS][64];
    for (int i = 0; i < ROWS; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "{\"text\":\"row %d of upload %d\"}", i, number);
        openledger__v1__row__init(&items[i]);
        items[i].salt = ledger_binary(salt, sizeof salt);
        items[i].data = ledger_binary(texts[i], strlen(texts[i]));
        pointers[i] = &items[i];
    }
    Openledger__V1__Contribution content = OPENLEDGER__V1__CONTRIBUTION__INIT;
    content.datanet = world_text("net");
    content.contributor = world_id_field(world, WORLD_ALICE);
    content.licence = world_text("CC0-1.0");
    content.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    content.n_rows = ROWS;
    content.rows = pointers;
    struct digest root;
    uint64_t byte_count;
    fine(ledger_contribution_root(&content, &root, &byte_count, NULL, &note));
    buf_init(out_content, 1U << 16);
    fine(ledger_pack(&content.base, out_content));
    Openledger__V1__CommitRows rows = OPENLEDGER__V1__COMMIT_ROWS__INIT;
    rows.datanet = world_text("net");
    rows.root = ledger_binary(root.bytes, DIGEST_SIZE);
    rows.row_count = ROWS;
    rows.byte_count = byte_count;
    WORLD_ACTION(body, COMMIT_ROWS, commit_rows, &rows);
    fine(world_try(world, WORLD_ALICE, &body));
    return world->tx;
}

START_TEST(test_uploads_are_found_among_the_blobs)
{
    enum { UPLOADS = 2 };
    static const uint8_t TOKEN[UPLOAD_TOKEN_SIZE] = "A token to find.";
    struct world *world = world_create();
    struct blob_store *blobs = NULL;
    struct digest ids[UPLOADS];
    struct digest contents[UPLOADS];
    struct digest other;
    struct digest unsent;
    struct buf content;
    uint64_t count = 0;
    world_setup(world);
    test_folder_make();
    fine(blob_open(test_path("blobs"), &blobs, &note));
    for (size_t i = 0; i < world->blob_count; i++) { /* reviewed contents and all kinds of others */
        fine(blob_put(blobs, buf_bytes(&world->blobs[i]), &other, &note));
    }
    fine(blob_put(blobs, bytes_of_text("no message"), &other, &note));
    fine(file_make_folders(test_path("blobs/ab"),
                           &note)); /* and one that is not what its name says */
    fine(file_write_quick(test_path("blobs/ab/ab" HEX62), bytes_of_text("decayed"), 0644, &note));
    unsent = commit(world, 99, &content); /* committed, and its content never came */
    buf_deinit(&content);
    fine(datanet_store_open(test_path("data"), &store, &note));
    for (int i = 0; i < UPLOADS; i++) {
        ids[i] = commit(world, i, &content);
        fine(blob_put(blobs, buf_bytes(&content), &contents[i], &note));
        struct upload upload = {
            .contribution = ids[i], .size = content.size, .digest = contents[i], .finished = true};
        memcpy(upload.token, TOKEN, sizeof TOKEN);
        fine(datanet_store_put(store, &upload, &note));
        buf_deinit(&content);
    }
    for (enum damaged_store how = 0; how < DAMAGED_KINDS; how++) {
        struct upload upload;
        ck_assert(!datanet_store_lost(store));
        datanet_store_close(store);
        damaged_store_make(test_path("data/index"), how, "uploads", bytes_of(TOKEN, sizeof TOKEN));
        fine(datanet_store_open(test_path("data"), &store, &note));
        ck_assert(datanet_store_lost(store));
        ck_assert_int_eq(datanet_store_get(store, &ids[0], &upload, &note), ERR_NOT_FOUND);
        datanet_store_close(store); /* killed before they were looked for */
        fine(datanet_store_open(test_path("data"), &store, &note));
        ck_assert(datanet_store_lost(store));
        fine(datanet_recover(store, blobs, world->ledger, &count, &note));
        ck_assert_uint_eq(count, UPLOADS);
        for (int i = 0; i < UPLOADS; i++) {
            fine(datanet_store_get(store, &ids[i], &upload, &note));
            ck_assert(upload.finished);
            ck_assert(digest_equal(&upload.digest, &contents[i]));
            memcpy(upload.token, TOKEN, sizeof TOKEN); /* for the next damage */
            fine(datanet_store_put(store, &upload, &note));
        }
        ck_assert_int_eq(datanet_store_get(store, &unsent, &upload, &note), ERR_NOT_FOUND);
        fine(datanet_store_found(store, &note));
    }
    datanet_store_close(store);
    blob_close(blobs);
    world_destroy(world);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("datanet_store");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_an_upload_on_a_full_disk);
    tcase_add_test(rules, test_uploads_are_found_among_the_blobs);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
