/* test_blob.c - objects there and back, damage found, limits, several writers; files in chunks. */
#include "shared/blob/blob_file.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "tests/harness/folder.h"
#include "tests/harness/full_disk.h"
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
    buf_init(&out, sizeof text);
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
                ck_assert_int_eq(err,
                                 ERR_CORRUPT); /* also where the damage is a size beyond out's */
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

static void expect_get(struct blob_store *store, const struct digest *digest, enum err err,
                       const char *words)
{
    struct buf out;
    buf_init(&out, 1000);
    note.text[0] = '\0';
    ck_assert_int_eq(blob_get(store, digest, &out, &note), err);
    ck_assert_msg(strstr(note.text, words) != NULL, "%s", note.text);
    buf_deinit(&out);
}

/* An object that was put, with a byte changed on disk; the path that it has. */
static const char *damaged_made(struct blob_store *store, struct digest *out_digest)
{
    static char path[FILE_PATH_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    uint8_t byte = 'x';
    int fd = -1;
    ck_assert_uint_eq(blob_put(store, bytes_of_text("some row"), out_digest, &note), ERR_OK);
    (void)hex_encode(out_digest->bytes, DIGEST_SIZE, hex);
    ck_assert_uint_eq(file_path(path, "%s/blobs/%.2s/%s", test_folder, hex, hex), ERR_OK);
    ck_assert_uint_eq(file_open(path, FILE_WRITE, &fd, &note), ERR_OK);
    ck_assert_uint_eq(file_write_at(fd, 3, &byte, 1, &note), ERR_OK);
    file_close(fd);
    return path;
}

/* Who only reads leaves a damaged object where it is. A store that mends frees its name: readers know that it was there,
 * whoever has the bytes puts them, and nothing of it is left. */
START_TEST(test_damage_is_mended)
{
    struct digest digest;
    test_folder_make();
    struct blob_store *store = open_store();
    const char *path = damaged_made(store, &digest);
    char aside[FILE_PATH_SIZE];
    ck_assert_uint_eq(file_path(aside, "%s.damaged", path), ERR_OK);
    expect_get(store, &digest, ERR_CORRUPT, "bytes do not match the name");
    ck_assert(blob_exists(store, &digest));
    blob_mend(store);
    expect_get(store, &digest, ERR_CORRUPT, aside);
    ck_assert(!blob_exists(store, &digest) && file_exists(aside));
    expect_get(store, &digest, ERR_CORRUPT, aside); /* not: there is no such object */
    size_t count = 0;
    ck_assert_uint_eq(blob_each(store, count_one, &count, &note), ERR_OK);
    ck_assert_uint_eq(count, 0);
    ck_assert_uint_eq(blob_put(store, bytes_of_text("some row"), &digest, &note), ERR_OK);
    expect_get(store, &digest, ERR_OK, "");
    ck_assert(!file_exists(aside));

    /* It was put anew between another's look and its rename: the good one lies aside, and is given back. */
    ck_assert_uint_eq(file_rename(path, aside, &note), ERR_OK);
    expect_get(store, &digest, ERR_OK, "");
    ck_assert(file_exists(path) && !file_exists(aside));

    /* What is withdrawn is gone, wherever it lay. */
    (void)damaged_made(store, &digest);
    expect_get(store, &digest, ERR_CORRUPT, aside);
    ck_assert_uint_eq(blob_remove(store, &digest, &note), ERR_OK);
    ck_assert(!file_exists(path) && !file_exists(aside));
    expect_get(store, &digest, ERR_NOT_FOUND, "no blob sha256:");
    ck_assert_uint_eq(blob_remove(store, &digest, &note), ERR_NOT_FOUND);
    blob_close(store);
    test_folder_remove();
}
END_TEST

/* What the disk has no room for is ERR_FULL, not a word about the content; nothing of it is left there. */
START_TEST(test_put_on_a_full_disk)
{
    enum { SIZE = 100000 };
    test_folder_make();
    if (!full_disk_make(1)) {
        test_folder_remove();
        return;
    }
    struct blob_store *store = NULL;
    struct buf out;
    static uint8_t data[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)test_rand();
    }
    ck_assert_uint_eq(blob_open(test_path("disk/blobs"), &store, &note), ERR_OK);
    struct digest digest;
    full_disk_fill(SIZE / 2);
    ck_assert_uint_eq(blob_put(store, bytes_of(data, SIZE), &digest, &note), ERR_FULL);
    ck_assert_ptr_nonnull(strstr(note.text, "No space left"));
    ck_assert_uint_eq(blob_put(store, bytes_of(data, 100), &digest, &note), ERR_OK);
    full_disk_room();
    ck_assert_uint_eq(blob_put(store, bytes_of(data, SIZE), &digest, &note), ERR_OK);
    buf_init(&out, SIZE);
    ck_assert_uint_eq(blob_get(store, &digest, &out, &note), ERR_OK);
    ck_assert(bytes_equal(buf_bytes(&out), bytes_of(data, SIZE)));
    size_t count = 0;
    ck_assert_uint_eq(blob_each(store, count_one, &count, &note), ERR_OK);
    ck_assert_uint_eq(count, 2);
    buf_deinit(&out);
    blob_close(store);
    full_disk_remove();
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

/* ---- files in chunks ---- */

enum { FILE_SIZE = 2 * BLOB_CHUNK_SIZE + 12345, CHUNKS = 3 };

/* A file of random bytes at test_path("file"); the list of it. */
static struct blob_file file_made(struct blob_store *store, uint8_t **out_data)
{
    struct blob_file file;
    uint8_t *data = malloc(FILE_SIZE);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i + 8 <= FILE_SIZE; i += 8) {
        uint64_t word = test_rand();
        memcpy(data + i, &word, sizeof word);
    }
    memset(data + FILE_SIZE - 7, 0, 7);
    struct bytes content = bytes_of(data, FILE_SIZE);
    ck_assert_uint_eq(file_write_quick(test_path("file"), content, 0644, &note), ERR_OK);
    ck_assert_uint_eq(blob_file_put(store, test_path("file"), NULL, &file, &note), ERR_OK);
    ck_assert_uint_eq(file.size, FILE_SIZE);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct digest digest;
        size_t at = (size_t)i * BLOB_CHUNK_SIZE;
        size_t left = FILE_SIZE - at;
        sha256(bytes_of(data + at, left < BLOB_CHUNK_SIZE ? left : BLOB_CHUNK_SIZE), &digest);
        ck_assert(digest_equal(&digest, &file.chunks[i]));
    }
    *out_data = data;
    return file;
}

static void expect_map(struct blob_store *store, const struct blob_file *file, const uint8_t *data)
{
    struct file_map map;
    ck_assert_msg(blob_file_map(store, file, NULL, &map, &note) == ERR_OK, "%s", note.text);
    ck_assert_uint_eq(map.size, FILE_SIZE);
    ck_assert_int_eq(memcmp(map.data, data, FILE_SIZE), 0);
    file_map_close(&map);
}

/* The one copy that there is. */
static const char *copy_path(void)
{
    static char path[FILE_PATH_SIZE];
    struct file_names names = {0};
    ck_assert_uint_eq(file_list(test_path("blobs/files"), 10, &names, &note), ERR_OK);
    ck_assert_uint_eq(names.count, 1);
    ck_assert_uint_eq(file_path(path, "%s/blobs/files/%s", test_folder, names.items[0]), ERR_OK);
    file_names_deinit(&names);
    return path;
}

static bool stop_at_second(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done < total - 12345;
}

/* A fetch that was cut off goes on: chunks that are there are not asked for again. */
START_TEST(test_file_resumes)
{
    test_folder_make();
    struct blob_store *store = open_store();
    struct file_map map;
    uint8_t *data;
    struct blob_file file = file_made(store, &data);
    struct blob_progress progress = {.report = stop_at_second, .total = FILE_SIZE};
    ck_assert_uint_eq(blob_file_map(store, &file, &progress, &map, &note), ERR_CANCELLED);
    ck_assert_ptr_nonnull(strstr(note.text, "stopped after 16777216 of "));
    ck_assert_uint_eq(blob_remove(store, &file.chunks[0], &note), ERR_OK);
    ck_assert_uint_eq(blob_remove(store, &file.chunks[1], &note), ERR_OK);
    expect_map(store, &file, data);
    ck_assert_uint_eq(blob_remove(store, &file.chunks[2], &note), ERR_OK);
    expect_map(store, &file, data); /* the copy alone is enough */
    size_t count = 0;
    ck_assert_uint_eq(blob_each(store, count_one, &count, &note), ERR_OK);
    ck_assert_uint_eq(count, 0); /* copies are no objects */
    ck_assert_uint_eq(file_remove(copy_path(), &note), ERR_OK);
    ck_assert_uint_eq(blob_file_map(store, &file, NULL, &map, &note), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(note.text, "chunk 1 of 3: no blob sha256:"));
    blob_file_deinit(&file);
    free(data);
    blob_close(store);
    test_folder_remove();
}
END_TEST

/* Whatever was done to the copy, what is mapped is the file. */
START_TEST(test_file_copy_is_mended)
{
    test_folder_make();
    struct blob_store *store = open_store();
    uint8_t *data;
    struct blob_file file = file_made(store, &data);
    expect_map(store, &file, data);
    static const uint64_t SIZES[] = {0, 1, BLOB_CHUNK_SIZE, FILE_SIZE - 1, FILE_SIZE + 1};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        int fd = -1;
        ck_assert_uint_eq(file_open(copy_path(), FILE_WRITE, &fd, &note), ERR_OK);
        ck_assert_uint_eq(file_truncate(fd, SIZES[i], &note), ERR_OK);
        file_close(fd);
        expect_map(store, &file, data);
    }
    for (uint32_t i = 0; i < CHUNKS; i++) {
        int fd = -1;
        uint64_t at = (uint64_t)i * BLOB_CHUNK_SIZE + 77;
        uint8_t byte = data[at] ^ 0x80;
        ck_assert_uint_eq(file_open(copy_path(), FILE_WRITE, &fd, &note), ERR_OK);
        ck_assert_uint_eq(file_write_at(fd, at, &byte, 1, &note), ERR_OK);
        file_close(fd);
        expect_map(store, &file, data);
    }
    blob_file_deinit(&file);
    free(data);
    blob_close(store);
    test_folder_remove();
}
END_TEST

static void expect_map_fails(struct blob_store *store, const struct blob_file *file, enum err err,
                             const char *words)
{
    struct file_map map;
    ck_assert_uint_eq(blob_file_map(store, file, NULL, &map, &note), err);
    ck_assert_msg(strstr(note.text, words) != NULL, "%s", note.text);
}

static bool cut_source(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return truncate(context, BLOB_CHUNK_SIZE + 1) == 0;
}

/* Chunks that are objects, but not of the size they must have; a full disk; no file at all. */
START_TEST(test_file_errors)
{
    test_folder_make();
    struct blob_store *store = open_store();
    uint8_t *data;
    struct blob_file file = file_made(store, &data);
    struct digest last = file.chunks[2];
    struct blob_file ignored;
    file.chunks[2] = file.chunks[1]; /* larger */
    expect_map_fails(store, &file, ERR_LIMIT, "chunk 3 of 3");
    ck_assert_uint_eq(blob_put(store, bytes_of(data, 5), &file.chunks[2], &note), ERR_OK);
    expect_map_fails(store, &file, ERR_INVALID, "has 5 bytes, not 12345");
    file.chunks[2] = last;
    char path[FILE_PATH_SIZE];
    ck_assert_uint_eq(file_path(path, "%s", test_path("file")), ERR_OK);
    struct blob_progress cutting = {.report = cut_source, .context = path, .total = FILE_SIZE};
    ck_assert_uint_eq(blob_file_put(store, path, &cutting, &ignored, &note), ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(note.text, "became shorter"));
    ck_assert_uint_eq(blob_file_put(store, test_path("none"), NULL, &ignored, &note),
                      ERR_NOT_FOUND);
    ck_assert_uint_eq(file_write_quick(test_path("none"), bytes_of(data, 0), 0644, &note), ERR_OK);
    ck_assert_uint_eq(blob_file_put(store, test_path("none"), NULL, &ignored, &note), ERR_INVALID);
    ck_assert_uint_eq(file_remove_tree(test_path("blobs/files"), &note), ERR_OK);
    struct rlimit limit = {.rlim_cur = BLOB_CHUNK_SIZE, .rlim_max = RLIM_INFINITY};
    (void)signal(SIGXFSZ, SIG_IGN); /* as a full disk: no room beyond the first chunk */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_map_fails(store, &file, ERR_FULL, ": 16789561 bytes more are needed: ");
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_map(store, &file, data);
    blob_file_deinit(&file);
    free(data);
    blob_close(store);
    test_folder_remove();
}
END_TEST

/* An auditor may read the folder, not write to it. */
START_TEST(test_file_of_a_read_only_store)
{
    test_folder_make();
    struct blob_store *store = open_store();
    uint8_t *data;
    struct blob_file file = file_made(store, &data);
    ck_assert_int_eq(chmod(test_folder, 0755), 0);
    ck_assert_int_eq(chmod(test_path("blobs"), 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        if (getuid() == 0) {
            ck_assert_int_eq(setuid(65534), 0);
        }
        expect_map(store, &file, data);
        _exit(0);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(!file_exists(test_path("blobs/files")));
    ck_assert_int_eq(chmod(test_path("blobs"), 0755), 0);
    blob_file_deinit(&file);
    free(data);
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
    tcase_add_test(rules, test_damage_is_mended);
    tcase_add_test(rules, test_put_on_a_full_disk);
    tcase_add_test(rules, test_many_processes_one_folder);
    tcase_add_test(rules, test_file_resumes);
    tcase_add_test(rules, test_file_copy_is_mended);
    tcase_add_test(rules, test_file_errors);
    tcase_add_test(rules, test_file_of_a_read_only_store);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
