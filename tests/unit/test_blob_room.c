/* test_blob_room.c - whole-file copies of chunked objects within their bound: which go, which stay, who waits. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/blob/blob_file.h"
#include "tests/harness/folder.h"
#include "tests/harness/full_disk.h"
#include "tests/harness/seed.h"

enum { FILES = 5, SIZE = 1 << 20, LARGE = BLOB_CHUNK_SIZE + 4096 };

static struct note note;
static struct blob_store *store;
static uint8_t *data[FILES];
static struct blob_file files[FILES];
static size_t sizes[FILES];

static void fine(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

/* Files of random bytes, all of one size, in the store of this folder, of which room copies fit. */
static void begin(const char *folder, size_t size, size_t room)
{
    fine(blob_open(test_path(folder), &store, &note));
    blob_copies_limit(store, room * size);
    for (uint32_t f = 0; f < FILES; f++) {
        sizes[f] = size;
        data[f] = malloc(size);
        ck_assert_ptr_nonnull(data[f]);
        for (size_t i = 0; i < size; i += 8) {
            uint64_t word = test_rand();
            memcpy(data[f] + i, &word, sizeof word);
        }
        fine(file_write_quick(test_path("file"), bytes_of(data[f], size), 0644, &note));
        fine(blob_file_put(store, test_path("file"), NULL, &files[f], &note));
    }
}

static void end(void)
{
    for (uint32_t f = 0; f < FILES; f++) {
        free(data[f]);
        blob_file_deinit(&files[f]);
    }
    blob_close(store);
}

static void map_file(uint32_t which, struct file_map *out)
{
    fine(blob_file_map(store, &files[which], NULL, out, &note));
    ck_assert_uint_eq(out->size, sizes[which]);
    ck_assert_int_eq(memcmp(out->data, data[which], sizes[which]), 0);
}

/* Maps and lets go; time passes, also by the clock of the file system. */
static void use(uint32_t which)
{
    struct file_map map;
    map_file(which, &map);
    file_map_close(&map);
    usleep(20000);
}

/* Which copies there are, as bits: a copy's bytes tell whose it is. */
static unsigned copies(const char *folder)
{
    unsigned bits = 0;
    struct file_names names = {0};
    fine(file_list(test_path(folder), 100, &names, &note));
    for (size_t i = 0; i < names.count; i++) {
        char path[FILE_PATH_SIZE];
        struct file_map map;
        fine(file_path(path, "%s/%s/%s", test_folder, folder, names.items[i]));
        fine(file_map_open(path, &map, &note));
        for (uint32_t f = 0; f < FILES; f++) {
            bits |= map.size == sizes[f] && memcmp(map.data, data[f], map.size) == 0 ? 1U << f : 0;
        }
        file_map_close(&map);
    }
    file_names_deinit(&names);
    return bits;
}

static void expect_full(uint32_t which, const char *words)
{
    struct file_map map;
    ck_assert_uint_eq(blob_file_map(store, &files[which], NULL, &map, &note), ERR_FULL);
    ck_assert_msg(strstr(note.text, words) != NULL, "%s", note.text);
}

/* The one used longest ago goes, and only as many as must. */
START_TEST(test_oldest_goes_first)
{
    test_folder_make();
    begin("blobs", SIZE, 3);
    use(0);
    use(1);
    use(2);
    ck_assert_uint_eq(copies("blobs/files"), 7);
    use(0); /* used again: 1 is the oldest now */
    use(3);
    ck_assert_uint_eq(copies("blobs/files"), 13);
    use(4);
    ck_assert_uint_eq(copies("blobs/files"), 25);
    blob_copies_limit(store,
                      2 * SIZE + SIZE - 1); /* a smaller bound counts from the next new copy on */
    use(4);
    ck_assert_uint_eq(copies("blobs/files"), 25);
    use(1);
    ck_assert_uint_eq(copies("blobs/files"), 18);
    blob_copies_limit(store, SIZE - 1);
    expect_full(0, "1048576 bytes do not fit: copies may have 1048575 bytes (blob-copies-mib), ");
    ck_assert_uint_eq(copies("blobs/files"), 0); /* nobody had them, and any were too many */
    end();
    test_folder_remove();
}
END_TEST

/* What is mapped stays, however old; when that is all, the error says so and passes with it. */
START_TEST(test_in_use_stays)
{
    struct file_map maps[2];
    test_folder_make();
    begin("blobs", SIZE, 2);
    map_file(0, &maps[0]);
    usleep(20000);
    use(1);
    use(2);
    ck_assert_uint_eq(copies("blobs/files"), 5);
    map_file(2, &maps[1]);
    expect_full(3, "copies may have 2097152 bytes (blob-copies-mib), those in use have 2097152");
    ck_assert_uint_eq(copies("blobs/files"), 5);
    ck_assert_int_eq(memcmp(maps[0].data, data[0], SIZE), 0);
    file_map_close(&maps[0]);
    use(3);
    ck_assert_uint_eq(copies("blobs/files"), 12);
    file_map_close(&maps[1]);
    end();
    test_folder_remove();
}
END_TEST

static bool tell_and_wait(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    CHECK(write(*(const int *)context, "x", 1) == 1);
    for (;;) {
        (void)pause();
    }
}

/* A child maps file 0, or gets as far as its first chunk, and stays so until it is killed. */
static pid_t child_with(bool half)
{
    int pipes[2];
    char byte;
    ck_assert_int_eq(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct file_map map;
        struct blob_progress progress = {.report = tell_and_wait, .context = &pipes[1]};
        if (half) {
            (void)!blob_file_map(store, &files[0], &progress, &map, &note);
        } else {
            map_file(0, &map);
            (void)tell_and_wait(&pipes[1], 0, 0);
        }
        _exit(1);
    }
    ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
    ck_assert_int_eq(close(pipes[0]), 0);
    ck_assert_int_eq(close(pipes[1]), 0);
    return child;
}

static void kill_child(pid_t child)
{
    int status = 0;
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    usleep(20000);
}

/* Another process keeps its copy as long as it lives. */
START_TEST(test_another_process_keeps_its_copy)
{
    test_folder_make();
    begin("blobs", SIZE, 2);
    pid_t child = child_with(false);
    usleep(20000);
    use(1);
    use(2);
    ck_assert_uint_eq(copies("blobs/files"), 5);
    kill_child(child);
    use(1);
    ck_assert_uint_eq(copies("blobs/files"), 6);
    end();
    test_folder_remove();
}
END_TEST

/* A copy that is being made is in use; killed in its middle it has its size, but is neither taken for whole nor kept. */
START_TEST(test_killed_while_copying)
{
    test_folder_make();
    begin("blobs", LARGE, 2);
    pid_t child = child_with(true);
    use(1);
    use(2);
    struct file_names names = {0};
    fine(file_list(test_path("blobs/files"), 100, &names, &note));
    ck_assert_uint_eq(names.count, 2); /* the half one and 2 */
    file_names_deinit(&names);
    ck_assert_uint_eq(copies("blobs/files"), 4);
    kill_child(child);
    use(0); /* made whole from where it is */
    ck_assert_uint_eq(copies("blobs/files"), 5);
    use(1);
    ck_assert_uint_eq(copies("blobs/files"), 3);
    fine(file_remove_tree(test_path("blobs/files"), &note));
    kill_child(child_with(true));
    use(1);
    use(2); /* the half one goes, as any other */
    ck_assert_uint_eq(copies("blobs/files"), 6);
    fine(file_list(test_path("blobs/files"), 100, &names, &note));
    ck_assert_uint_eq(names.count, 2);
    file_names_deinit(&names);
    end();
    test_folder_remove();
}
END_TEST

/* Opened and then removed by somebody who makes room: it is opened again, so that others find it. */
START_TEST(test_removed_while_it_is_opened)
{
    struct file_names names = {0};
    char path[FILE_PATH_SIZE];
    int fd = -1;
    test_folder_make();
    begin("blobs", SIZE, 2);
    use(0);
    fine(file_list(test_path("blobs/files"), 100, &names, &note));
    fine(file_path(path, "%s/blobs/files/%s", test_folder, names.items[0]));
    file_names_deinit(&names);
    fine(file_write_quick(test_path("blobs/files/foreign"), bytes_of(data[0], SIZE), 0644, &note));
    fine(file_open(path, FILE_READ, &fd, &note));
    fine(file_lock(fd, &note));
    pid_t child = fork();
    if (child == 0) {
        file_close(fd); /* the lock stays with the parent */
        use(0);
        _exit(0);
    }
    usleep(200000); /* it waits for the lock */
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, WNOHANG), 0);
    fine(file_remove(path, &note));
    file_close(fd);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(file_exists(path));
    use(1);
    use(2);
    ck_assert(file_exists(test_path("blobs/files/foreign"))); /* has no copy's name */
    fine(file_remove(test_path("blobs/files/foreign"), &note));
    ck_assert_uint_eq(copies("blobs/files"), 6);
    end();
    test_folder_remove();
}
END_TEST

/* How often there was room. */
static uint32_t map_again_and_again(uint32_t process)
{
    enum { ROUNDS = 60 };
    uint32_t mapped = 0;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t which = (process + i * (process + 1)) % FILES;
        struct file_map map;
        enum err err = blob_file_map(store, &files[which], NULL, &map, &note);
        CHECK(err == ERR_OK || err == ERR_FULL);
        if (err == ERR_OK) {
            CHECK(map.size == sizes[which]);
            CHECK(memcmp(map.data, data[which], map.size) == 0);
            file_map_close(&map);
            mapped++;
        }
    }
    return mapped;
}

/* Processes that remove each other's copies at every moment: each maps its file's bytes or has no room. */
START_TEST(test_many_processes_make_room)
{
    enum { PROCESSES = 4 };
    pid_t children[PROCESSES];
    test_folder_make();
    begin("blobs", SIZE / 16, 2);
    for (uint32_t p = 0; p < PROCESSES; p++) {
        children[p] = fork();
        if (children[p] == 0) {
            _exit(map_again_and_again(p) > 0 ? 0 : 1);
        }
    }
    for (uint32_t p = 0; p < PROCESSES; p++) {
        int status = -1;
        ck_assert_int_eq(waitpid(children[p], &status, 0), children[p]);
        ck_assert_int_eq(status, 0);
    }
    unsigned left = copies("blobs/files");
    ck_assert_int_le(__builtin_popcount(left), 2); /* the bound holds among processes too */
    end();
    test_folder_remove();
}
END_TEST

/* A full disk makes room for a copy by others, of which one in use is none. */
START_TEST(test_a_full_disk)
{
    struct file_map map;
    test_folder_make();
    if (!full_disk_make(16)) {
        test_folder_remove();
        return;
    }
    begin("disk/blobs", SIZE, 100);
    use(0);
    use(1);
    full_disk_fill(SIZE / 2);
    use(2);
    ck_assert_uint_eq(copies("disk/blobs/files"), 6);
    map_file(1, &map);
    usleep(20000);
    full_disk_room();
    full_disk_fill(0);
    use(3);
    ck_assert_uint_eq(copies("disk/blobs/files"), 10);
    full_disk_fill(0);
    struct file_map other;
    map_file(3, &other);
    expect_full(4, "/disk/blobs/files/");
    ck_assert_ptr_nonnull(strstr(note.text, "1048576 bytes more are needed: could not reserve"));
    ck_assert_uint_eq(copies("disk/blobs/files"), 10);
    file_map_close(&other);
    full_disk_room();
    use(4);
    ck_assert_uint_eq(copies("disk/blobs/files"), 26);
    file_map_close(&map);
    end();
    full_disk_remove();
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blob_room");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_oldest_goes_first);
    tcase_add_test(rules, test_in_use_stays);
    tcase_add_test(rules, test_another_process_keeps_its_copy);
    tcase_add_test(rules, test_killed_while_copying);
    tcase_add_test(rules, test_removed_while_it_is_opened);
    tcase_add_test(rules, test_many_processes_make_room);
    tcase_add_test(rules, test_a_full_disk);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
