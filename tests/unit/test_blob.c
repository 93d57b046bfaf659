/* test_blob.c - objects there and back, damage found, limits, several writers. */
#include "shared/blob/blob.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"

static struct note note;

static struct blob_store *open_store(void)
{
    struct blob_store *store = NULL;
    ck_assert_msg(blob_open(test_path("blobs"), &store, &note) == ERR_OK, "%s", note.text);
    return store;
}

static enum err count_one(void *argument, const struct digest *digest)
{
    (void)digest;
    ++*(size_t *)argument;
    return ERR_OK;
}

START_TEST(test_put_get_each_remove)
{
    test_folder_make();
    struct blob_store *store = open_store();
    struct digest digest[40];
    struct buf out;
    static uint8_t data[40 * 4096];
    for (size_t i = 0; i < sizeof data; i++) { /* half of it compresses well */
        data[i] = i % 8192 < 4096 ? (uint8_t)(i % 7) : (uint8_t)test_rand();
    }
    buf_init(&out, sizeof data);
    for (size_t i = 0; i < 40; i++) {
        struct bytes content = bytes_of(data + i * 100, i * 4000);
        struct digest expected;
        sha256(content, &expected);
        ck_assert_uint_eq(blob_put(store, content, &digest[i], &note), ERR_OK);
        ck_assert(digest_equal(&digest[i], &expected));
        ck_assert_uint_eq(blob_put(store, content, &digest[i], &note), ERR_OK);
        ck_assert(blob_exists(store, &digest[i]));
        buf_clear(&out);
        ck_assert_uint_eq(buf_append_text(&out, "before"), ERR_OK);
        ck_assert_uint_eq(blob_get(store, &digest[i], &out, &note), ERR_OK);
        ck_assert(bytes_equal(bytes_of(out.data + 6, out.size - 6), content));
    }
    buf_deinit(&out);
    buf_init(&out, 3999);
    ck_assert_uint_eq(blob_get(store, &digest[1], &out, &note), ERR_LIMIT);
    ck_assert_uint_eq(out.size, 0);
    size_t count = 0;
    ck_assert_uint_eq(blob_each(store, count_one, &count, &note), ERR_OK);
    ck_assert_uint_eq(count, 40);
    ck_assert_uint_eq(blob_remove(store, &digest[1], &note), ERR_OK);
    ck_assert_uint_eq(blob_remove(store, &digest[1], &note), ERR_NOT_FOUND);
    buf_clear(&out);
    ck_assert_uint_eq(blob_get(store, &digest[1], &out, &note), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(note.text, "sha256:"));
    struct digest ignored;
    ck_assert_uint_eq(blob_put(store, bytes_of(data, (size_t)BLOB_SIZE_MAX + 1), &ignored, &note),
                      ERR_LIMIT); /* refused before it is looked at */
    buf_deinit(&out);
    blob_close(store);
    test_folder_remove();
}
END_TEST

/* Any changed, missing or added byte of a stored object is found by the next read. */
START_TEST(test_damage)
{
    test_folder_make();
    struct blob_store *store = open_store();
    struct buf out;
    struct buf file;
    char text[400] = "";
    buf_init(&out, 10000);
    buf_init(&file, 10000);
    for (int compressible = 0; compressible < 2; compressible++) {
        for (size_t i = 0; i < sizeof text; i++) {
            text[i] = (char)(compressible != 0 ? 'a' : test_rand());
        }
        struct digest digest;
        char hex[2 * DIGEST_SIZE + 1];
        char path[FILE_PATH_SIZE];
        ck_assert_uint_eq(blob_put(store, bytes_of(text, sizeof text), &digest, &note), ERR_OK);
        (void)hex_encode(digest.bytes, DIGEST_SIZE, hex);
        ck_assert_uint_eq(file_path(path, "%s/blobs/%.2s/%s", test_folder, hex, hex), ERR_OK);
        buf_clear(&file);
        ck_assert_uint_eq(file_read(path, &file, &note), ERR_OK);
        ck_assert(compressible == 0 || file.size < 100);
        for (size_t at = 0; at <= file.size; at++) {
            struct bytes damaged = bytes_of(file.data, at); /* cut off at every byte */
            ck_assert_uint_eq(file_write_quick(path, damaged, 0644, &note), ERR_OK);
            buf_clear(&out);
            enum err err = blob_get(store, &digest, &out, &note);
            ck_assert_uint_eq(err, at == file.size ? ERR_OK : ERR_CORRUPT);
            if (at == file.size) {
                break;
            }
            file.data[at] ^= 0x10;
            ck_assert_uint_eq(file_write_quick(path, buf_bytes(&file), 0644, &note), ERR_OK);
            file.data[at] ^= 0x10;
            buf_clear(&out);
            err = blob_get(store, &digest, &out, &note);
            if (err == ERR_OK) { /* a bit of zstd's framing that decodes to the same bytes */
                ck_assert(bytes_equal(buf_bytes(&out), bytes_of(text, sizeof text)));
            } else {
                ck_assert(err == ERR_CORRUPT || err == ERR_LIMIT);
                ck_assert_ptr_nonnull(strstr(note.text, hex));
                ck_assert_uint_eq(out.size, 0);
            }
        }
    }
    buf_deinit(&out);
    buf_deinit(&file);
    blob_close(store);
    test_folder_remove();
}
END_TEST

START_TEST(test_many_processes_one_folder)
{
    enum { WRITERS = 4, OBJECTS = 30 };
    test_folder_make();
    for (int writer = 0; writer < WRITERS; writer++) {
        if (fork() == 0) {
            struct blob_store *store = open_store();
            for (uint32_t i = 0; i < OBJECTS; i++) {
                struct digest digest;
                ck_assert_uint_eq(blob_put(store, bytes_of(&i, sizeof i), &digest, &note), ERR_OK);
            }
            blob_close(store);
            _exit(0);
        }
    }
    for (int writer = 0; writer < WRITERS; writer++) {
        int status = -1;
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    struct blob_store *store = open_store();
    size_t count = 0;
    ck_assert_uint_eq(blob_each(store, count_one, &count, &note), ERR_OK);
    ck_assert_uint_eq(count, OBJECTS);
    blob_close(store);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blob");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_put_get_each_remove);
    tcase_add_test(rules, test_damage);
    tcase_add_test(rules, test_many_processes_one_folder);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
