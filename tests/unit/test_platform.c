/* test_platform.c - files, settings, threads and children on the real system. */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/platform/clock.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/pool.h"
#include "shared/platform/process.h"
#include "shared/platform/random.h"
#include "shared/platform/settings.h"
#include "shared/platform/signals.h"
#include "shared/platform/thread.h"
#include "tests/harness/folder.h"

static struct note note;

START_TEST(test_files)
{
    test_folder_make();
    struct buf out;
    struct file_map map = {0};
    uint64_t size = 0;
    buf_init(&out, 5);
    ck_assert_uint_eq(file_read(test_path("a"), &out, &note), ERR_NOT_FOUND);
    ck_assert_uint_eq(file_write_atomic(test_path("a"), bytes_of_text("hello"), 0600, &note),
                      ERR_OK);
    ck_assert_uint_eq(file_read(test_path("a"), &out, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&out), "hello");
    buf_clear(&out);
    ck_assert_uint_eq(file_write_atomic(test_path("a"), bytes_of_text("larger"), 0644, &note),
                      ERR_OK);
    ck_assert_uint_eq(file_read(test_path("a"), &out, &note), ERR_LIMIT);
    ck_assert_uint_eq(out.size, 0);
    ck_assert_uint_eq(file_read(test_folder, &out, &note), ERR_INVALID);
    ck_assert_uint_eq(file_read("/proc/self/status", &out, &note), ERR_LIMIT); /* says size 0 */
    ck_assert_uint_eq(file_size(test_path("a"), &size, &note), ERR_OK);
    ck_assert_uint_eq(size, 6);
    ck_assert_uint_eq(file_map_open(test_path("a"), &map, &note), ERR_OK);
    ck_assert(bytes_equal(bytes_of(map.data, map.size), bytes_of_text("larger")));
    file_map_close(&map);
    struct stat info;
    ck_assert_int_eq(stat(test_path("a"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0644);

    ck_assert_uint_eq(file_make_folders(test_path("x/y/z"), &note), ERR_OK);
    ck_assert_uint_eq(file_make_folders(test_path("x/y/z"), &note), ERR_OK);
    ck_assert_uint_eq(file_make_folders(test_path("a/b"), &note), ERR_NOT_FOUND);
    ck_assert_uint_eq(file_make_folders(test_path("a"), &note), ERR_CONFLICT);
    struct file_names names;
    ck_assert_uint_eq(file_list(test_folder, 1, &names, &note), ERR_LIMIT);
    ck_assert_uint_eq(file_list(test_folder, 2, &names, &note), ERR_OK);
    ck_assert_uint_eq(names.count, 2); /* and no temporary file is left */
    ck_assert_str_eq(names.items[0], "a");
    ck_assert_str_eq(names.items[1], "x");
    file_names_deinit(&names);
    ck_assert_uint_eq(file_remove(test_path("x"), &note), ERR_CONFLICT);

    int fd = -1;
    int second = -1;
    uint8_t byte = 0;
    size_t got = 9;
    ck_assert_uint_eq(file_open(test_path("a"), FILE_WRITE_NEW, &fd, &note), ERR_CONFLICT);
    ck_assert_uint_eq(file_open(test_path("f"), FILE_WRITE_NEW, &fd, &note), ERR_OK);
    ck_assert_uint_eq(file_open(test_path("f"), FILE_WRITE, &second, &note), ERR_OK);
    ck_assert_uint_eq(file_lock(fd, &note), ERR_OK);
    ck_assert_uint_eq(file_lock(second, &note), ERR_CONFLICT);
    ck_assert_uint_eq(file_reserve(fd, 100, &note), ERR_OK);
    ck_assert_uint_eq(file_write_at(fd, 99, "x", 1, &note), ERR_OK);
    ck_assert_uint_eq(file_read_at(second, 99, &byte, 1, &got, &note), ERR_OK);
    ck_assert_uint_eq(byte, 'x');
    ck_assert_uint_eq(file_read_at(second, 100, &byte, 1, &got, &note), ERR_OK);
    ck_assert_uint_eq(got, 0);
    ck_assert_uint_eq(file_sync(fd, &note), ERR_OK);
    file_close(fd);
    file_close(second);
    buf_deinit(&out);
    test_folder_remove();
    ck_assert(!file_exists(test_folder));
}
END_TEST

static const struct setting TABLE[] = {
    {.name = "nats-url", .type = SETTING_TEXT, .fallback = "nats://x", .doc = "where the bus is"},
    {.name = "workers",
     .type = SETTING_U64,
     .fallback = "2",
     .min = 1,
     .max = 64,
     .doc = "threads"},
    {.name = "rate", .type = SETTING_F64, .fallback = "0.5", .min = 0, .max = 1, .doc = "rate"},
    {.name = "trace", .type = SETTING_BOOL, .fallback = "false", .doc = "log more"},
    {.name = "token", .type = SETTING_TEXT, .fallback = "", .secret = true, .doc = "API key"},
    {.name = "folder", .type = SETTING_TEXT, .doc = "where to work"},
};
static const struct settings_spec SPEC = {.program = "test",
                                          .usage = "[options] <file>",
                                          .about = "Tests.",
                                          .table = TABLE,
                                          .count = sizeof TABLE / sizeof TABLE[0],
                                          .positional_max = 2};

/* Loads words given as one NULL-ended list. */
static enum err load(struct settings **out, const char *const *words)
{
    int count = 0;
    while (words[count] != NULL) {
        count++;
    }
    note.text[0] = '\0';
    return settings_load(&SPEC, count, (char *const *)(uintptr_t)words, out, &note);
}
#define LOAD(out, ...) load(out, (const char *[]){"test", __VA_ARGS__, NULL})

START_TEST(test_settings)
{
    struct settings *s = NULL;
    struct buf text;
    buf_init(&text, 10000);
    ck_assert_int_eq(setenv("OPENLEDGER_WORKERS", "7", 1), 0);
    ck_assert_int_eq(setenv("OPENLEDGER_NATS_URL", "nats://env", 1), 0);
    ck_assert_int_eq(setenv("OPENLEDGER_OTHER_PROGRAMS", "1", 1), 0);
    ck_assert_uint_eq(
        LOAD(&s, "--folder", "/f", "one", "--trace", "--nats-url=nats://flag", "--", "--two"),
        ERR_OK);
    ck_assert_str_eq(settings_text(s, "nats-url"), "nats://flag");
    ck_assert_uint_eq(settings_u64(s, "workers"), 7);
    ck_assert(settings_bool(s, "trace"));
    ck_assert(settings_f64(s, "rate") == 0.5);
    ck_assert(settings_given(s, "workers"));
    ck_assert(!settings_given(s, "rate"));
    ck_assert_uint_eq(settings_positional_count(s), 2);
    ck_assert_str_eq(settings_positional(s, 1), "--two");
    settings_show(s, &text);
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "workers=7"));
    settings_destroy(s);
    static const char *const bad[][3] = {
        {"--folder=f", "--worker=1", "unknown option --worker"},
        {"--folder=f", "--workers=0", "between 1 and 64"},
        {"--folder=f", "--workers=65", "--workers: '65'"},
        {"--folder=f", "--workers=1x", "whole number"},
        {"--folder=f", "--workers=-1", "whole number"},
        {"--folder=f", "--workers=", "whole number"},
        {"--folder=f", "--rate=nan", "not a number"},
        {"--folder=f", "--rate=1.5", "between"},
        {"--folder=f", "--trace=maybe", "neither true nor false"},
        {"--folder=f", "--nats-url", "needs a value"},
        {"--folder=f", "-x", "unknown option -x"},
        {"--rate=1", "--no-trace", "--folder is required"},
        {"--folder=f", "--no-folder", "unknown option --no-folder"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *second = bad[i][1];
        s = NULL;
        ck_assert_msg(LOAD(&s, bad[i][0], second) == ERR_INVALID, "%s", second);
        ck_assert_msg(strstr(note.text, bad[i][2]) != NULL, "%s: %s", second, note.text);
        ck_assert_ptr_null(s);
    }
    ck_assert_uint_eq(LOAD(&s, "--folder=f", "1", "2", "3"), ERR_INVALID);
    ck_assert_int_eq(setenv("OPENLEDGER_WORKERS", "many", 1), 0);
    ck_assert_uint_eq(LOAD(&s, "--folder=f"), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "OPENLEDGER_WORKERS"));
    ck_assert_uint_eq(LOAD(&s, "--nonsense", "--help"), ERR_OK);
    ck_assert(settings_help_wanted(s));
    settings_destroy(s);
    buf_clear(&text);
    settings_help(&SPEC, &text);
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "usage: test [options] <file>"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "--workers N"));
    buf_deinit(&text);
}
END_TEST

struct round {
    _Atomic uint32_t hits[100];
};

static void hit(void *argument, uint32_t index)
{
    struct round *round = argument;
    (void)atomic_fetch_add(&round->hits[index], 1);
}

START_TEST(test_pool_runs_every_task_once)
{
    for (uint32_t workers = 1; workers <= 5; workers++) {
        struct pool *pool = pool_create(workers);
        ck_assert_ptr_nonnull(pool);
        const struct parallel *parallel = pool_parallel(pool);
        ck_assert_uint_eq(parallel->worker_count, workers);
        for (uint32_t run = 0; run < 2000; run++) {
            static struct round round;
            memset(&round, 0, sizeof round);
            uint32_t count = run % 101;
            if (run % 500 == 0) {
                clock_sleep_ms(2); /* let the helpers fall asleep */
            }
            parallel->run(parallel->context, count, hit, &round);
            for (uint32_t i = 0; i < 100; i++) {
                ck_assert_uint_eq(atomic_load(&round.hits[i]), i < count ? 1 : 0);
            }
        }
        pool_destroy(pool);
    }
}
END_TEST

enum { MESSAGES = 20000, SENDERS = 4 };

static void send_all(void *argument)
{
    struct mailbox *mailbox = argument;
    for (uintptr_t i = 1; i <= MESSAGES; i++) {
        ck_assert_uint_eq(mailbox_post_wait(mailbox, (void *)i, 10000), ERR_OK);
    }
}

static bool readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

START_TEST(test_mailbox)
{
    struct mailbox *mailbox = mailbox_create(16);
    struct thread *thread[SENDERS];
    void *message = NULL;
    uint64_t sum = 0;
    for (int i = 0; i < SENDERS; i++) {
        ck_assert_uint_eq(thread_start("sender", send_all, mailbox, &thread[i], &note), ERR_OK);
    }
    for (uint32_t i = 0; i < SENDERS * MESSAGES; i++) {
        ck_assert_uint_eq(mailbox_take(mailbox, 10000, &message), ERR_OK);
        sum += (uintptr_t)message;
    }
    for (int i = 0; i < SENDERS; i++) {
        thread_join(thread[i]);
    }
    ck_assert_uint_eq(sum, (uint64_t)SENDERS * MESSAGES * (MESSAGES + 1) / 2);
    ck_assert(!readable(mailbox_fd(mailbox)));
    ck_assert_uint_eq(mailbox_take(mailbox, 1, &message), ERR_TIMEOUT);
    for (uintptr_t i = 0; i < 16; i++) {
        ck_assert_uint_eq(mailbox_post(mailbox, &sum), ERR_OK);
    }
    ck_assert_uint_eq(mailbox_post(mailbox, &sum), ERR_LIMIT);
    ck_assert_uint_eq(mailbox_post_wait(mailbox, &sum, 1), ERR_TIMEOUT);
    ck_assert(readable(mailbox_fd(mailbox)));
    mailbox_close(mailbox);
    ck_assert_uint_eq(mailbox_post(mailbox, &sum), ERR_CANCELLED);
    for (uintptr_t i = 0; i < 16; i++) {
        ck_assert_uint_eq(mailbox_take(mailbox, 0, &message), ERR_OK);
    }
    ck_assert_uint_eq(mailbox_take(mailbox, 1000, &message), ERR_CANCELLED);
    ck_assert(readable(mailbox_fd(mailbox)));
    mailbox_destroy(mailbox, NULL);
}
END_TEST

START_TEST(test_processes)
{
    test_folder_make();
    struct buf out;
    int exit_code = -1;
    buf_init(&out, 100);
    const char *echo[] = {"sh", "-c", "echo out; exit 3", NULL};
    ck_assert_uint_eq(process_output(echo, 5000, &out, &exit_code, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&out), "out\n");
    ck_assert_int_eq(exit_code, 3);
    const char *flood[] = {"sh", "-c", "while :; do echo 0123456789; done", NULL};
    ck_assert_uint_eq(process_output(flood, 5000, &out, &exit_code, &note), ERR_LIMIT);
    buf_clear(&out);
    const char *slow[] = {"sleep", "100", NULL};
    ck_assert_uint_eq(process_output(slow, 50, &out, &exit_code, &note), ERR_TIMEOUT);
    const char *none[] = {"/no/such/program", NULL};
    struct process *process = NULL;
    ck_assert_uint_eq(process_start(&(struct process_options){.argv = none}, &process, &note),
                      ERR_NOT_FOUND);

    char log_path[FILE_PATH_SIZE];
    ck_assert_uint_eq(file_path(log_path, "%s/log", test_folder), ERR_OK);
    const char *child[] = {
        "sh", "-c", "echo $NAME $PWD; trap 'echo term; exit 7' TERM; while :; do sleep 0.01; done",
        NULL};
    const char *env[] = {"NAME=value", NULL};
    ck_assert_uint_eq(process_start(&(struct process_options){.argv = child,
                                                              .env = env,
                                                              .folder = test_folder,
                                                              .log_path = log_path,
                                                              .die_with_parent = true,
                                                              .own_group = true},
                                    &process, &note),
                      ERR_OK);
    ck_assert_uint_eq(process_wait(process, 100, &exit_code), ERR_TIMEOUT);
    ck_assert(process_running(process));
    process_stop(process, 5000);
    ck_assert_uint_eq(process_wait(process, 0, &exit_code), ERR_OK);
    ck_assert_int_eq(exit_code, 7);
    ck_assert(!process_running(process));
    process_signal(process, SIGTERM); /* ended: nothing happens */
    process_destroy(process);
    char expected[FILE_PATH_SIZE + 32];
    (void)snprintf(expected, sizeof expected, "value %s\nterm\n", test_folder);
    struct buf log;
    buf_init(&log, 10000);
    ck_assert_uint_eq(file_read(log_path, &log, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&log), expected);
    buf_deinit(&log);
    buf_deinit(&out);
    uint16_t port = 0;
    ck_assert_uint_eq(process_free_port(&port, &note), ERR_OK);
    ck_assert_uint_ne(port, 0);
    ck_assert(!process_port_open(port));
    test_folder_remove();
}
END_TEST

START_TEST(test_signals_clock_random)
{
    signals_init();
    ck_assert(!signals_stop_requested());
    ck_assert(!readable(signals_fd()));
    uint64_t before_ms = clock_mono_ms();
    ck_assert(!signals_wait(20));
    ck_assert_uint_ge(clock_mono_ms(), before_ms + 20);
    ck_assert_int_eq(raise(SIGPIPE), 0);
    ck_assert_int_eq(raise(SIGTERM), 0);
    ck_assert(signals_wait(1000));
    ck_assert(signals_stop_requested());
    ck_assert(readable(signals_fd()));
    ck_assert_uint_gt(clock_real_ms(), UINT64_C(1600000000000));
    ck_assert_uint_ne(random_u64(), random_u64());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("platform");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_files);
    tcase_add_test(rules, test_settings);
    tcase_add_test(rules, test_pool_runs_every_task_once);
    tcase_add_test(rules, test_mailbox);
    tcase_add_test(rules, test_processes);
    tcase_add_test(rules, test_signals_clock_random);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
