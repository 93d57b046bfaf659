/* test_service.c - the process shell: work of every kind on one thread, outages, a clean stop. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/health.pb-c.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/thread.h"
#include "shared/service/service.h"
#include "tests/harness/servers.h"

static struct test_server *nats;
static struct service *service;
static struct thread *runner;
static char folder[FILE_PATH_SIZE];
static atomic_int exit_code, ticks, done, retried, parked, followed, events, routed;
static pthread_t worker;

static const struct setting settings[] = {
    {.name = "colour", .type = SETTING_TEXT, .fallback = "red", .doc = "of the test"}};
static const struct service_config config = {
    .name = "tester", .about = "A service under test.", .settings = settings, .setting_count = 1};

static const char *const job_subjects[] = {"t.jobs"};
static const struct bus_stream jobs = {
    .name = "T_JOBS", .subjects = job_subjects, .subject_count = 1, .retention = BUS_WORK_QUEUE};
static const char *const log_subjects[] = {"t.log"};
static const struct bus_stream journal = {
    .name = "T_LOG", .subjects = log_subjects, .subject_count = 1};

static struct bytes text(const char *words)
{
    return (struct bytes){.data = (const uint8_t *)words, .size = strlen(words)};
}

static void on_worker(void)
{
    if (worker == 0) {
        worker = pthread_self();
    }
    ck_assert(pthread_equal(worker, pthread_self()) != 0);
}

static void on_tick(void *context)
{
    (void)context;
    on_worker();
    atomic_fetch_add(&ticks, 1);
}

/* "retry" is put off twice, "park" is parked, the rest is done. */
static enum service_verdict on_job(void *context, struct bus_message *message, struct note *note)
{
    (void)context;
    on_worker();
    struct bytes data = bus_message_data(message);
    if (data.size == 5 && bus_message_deliveries(message) < 3) {
        atomic_fetch_add(&retried, 1);
        (void)note_set(note, ERR_OK, "not yet");
        return SERVICE_RETRY;
    }
    if (data.size == 4) {
        atomic_fetch_add(&parked, 1);
        (void)note_set(note, ERR_OK, "never");
        return SERVICE_PARK;
    }
    atomic_fetch_add(&done, 1);
    return SERVICE_DONE;
}

static enum service_verdict on_entry(void *context, struct bus_message *message, struct note *note)
{
    (void)context;
    (void)note;
    on_worker();
    ck_assert_uint_eq(bus_message_sequence(message), (uint64_t)atomic_load(&followed) + 1);
    atomic_fetch_add(&followed, 1);
    return SERVICE_DONE;
}

static enum service_verdict on_event(void *context, struct bus_message *message, struct note *note)
{
    (void)context;
    (void)message;
    (void)note;
    on_worker();
    atomic_fetch_add(&events, 1);
    return SERVICE_DONE;
}

static void on_page(void *context, struct http_request *request)
{
    (void)context;
    on_worker();
    atomic_fetch_add(&routed, 1);
    http_reply(request, 200, "text/plain", text("page"));
}

static void run(void *argument)
{
    (void)argument;
    atomic_store(&exit_code, service_run(service));
}

static void start(const char *url)
{
    ck_assert_int_eq(file_make_private_folder("/tmp/openledger-test-", folder, NULL), ERR_OK);
    const char *argv[] = {
        "tester",     "--nats-url", url,           "--redis", "",  "--colour=blue",
        "--data-dir", folder,       "--log-level", "error",   NULL};
    ck_assert_int_eq(service_open(&config, 10, (char **)(uintptr_t)argv, &service), 0);
    ck_assert_ptr_nonnull(service);
    ck_assert_str_eq(settings_text(service_settings(service), "colour"), "blue");
    ck_assert_int_eq(bus_stream_declare(service_bus(service), &jobs), ERR_OK);
    ck_assert_int_eq(bus_stream_declare(service_bus(service), &journal), ERR_OK);
    static const struct service_consumer consumer = {
        .bus = {.stream = "T_JOBS", .durable = "workers"}, .retry_ms = 50};
    service_every(service, 20, on_tick, NULL);
    service_consume(service, &consumer, on_job, NULL);
    service_follow(service, "T_LOG", NULL, 1, on_entry, NULL);
    service_subscribe(service, "t.event", on_event, NULL);
    service_route(service, "GET", "/page", on_page, NULL);
    service_ready(service, true, NULL);
    ck_assert_int_eq(thread_start("runner", run, NULL, &runner, NULL), ERR_OK);
}

static void finish(int want)
{
    uint64_t start_ms = clock_mono_ms();
    service_stop(service, want);
    thread_join(runner);
    ck_assert_uint_lt(clock_mono_ms() - start_ms, SERVICE_STOP_MS);
    ck_assert_int_eq(atomic_load(&exit_code), want);
    service_close(service);
    ck_assert_int_eq(file_remove_tree(folder, NULL), ERR_OK);
}

static bool check_ready(void *argument)
{
    struct rpc_client *client = argument;
    struct arena *arena = arena_create(65536);
    ProtobufCMessage *message = NULL;
    Openledger__V1__HealthRequest request = OPENLEDGER__V1__HEALTH_REQUEST__INIT;
    enum err err = rpc_call(client, "Health.Check", &request.base, 1000, arena, &message, NULL);
    bool ready =
        err == ERR_OK && ((const Openledger__V1__HealthReply *)(const void *)message)->ready;
    arena_destroy(arena);
    return ready;
}

static bool check_not_ready(void *argument)
{
    return !check_ready(argument);
}

static bool at_least(void *argument)
{
    const int *want = argument;
    return atomic_load(&done) >= want[0] && atomic_load(&followed) >= want[1] &&
           atomic_load(&events) >= want[2];
}

static void publish(const char *subject, const char *words)
{
    struct note note = {0};
    ck_assert_msg(
        bus_stream_publish(service_bus(service), subject, text(words), NULL, NULL, &note) == ERR_OK,
        "%s", note.text);
}

START_TEST(test_work_of_every_kind_and_an_outage)
{
    nats = test_nats_start();
    start(test_server_address(nats));
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)service_http_port(service));
    struct rpc_client *client = rpc_client_http(url, NULL);
    ck_assert(test_wait(check_ready, client, 5000));
    publish("t.jobs", "a");
    publish("t.jobs", "retry");
    publish("t.jobs", "park");
    publish("t.log", "1");
    publish("t.log", "2");
    ck_assert_int_eq(
        bus_publish(service_bus(service), "t.event", NULL, (struct bus_headers){0}, text("x")),
        ERR_OK);
    int want[] = {2, 2, 1};
    ck_assert(test_wait(at_least, want, 5000));
    ck_assert_int_eq(atomic_load(&retried), 2);
    ck_assert_int_eq(atomic_load(&parked), 1);

    test_server_stop(nats);
    ck_assert(test_wait(check_not_ready, client, 3000));
    int before = atomic_load(&ticks);
    clock_sleep_ms(200);
    ck_assert_int_gt(atomic_load(&ticks), before); /* it lives on */
    test_server_start(nats);
    ck_assert(test_wait(check_ready, client, 10000));
    publish("t.jobs", "b");
    publish("t.log", "3");
    ck_assert_int_eq(
        bus_publish(service_bus(service), "t.event", NULL, (struct bus_headers){0}, text("x")),
        ERR_OK);
    int more[] = {3, 3, 2};
    ck_assert(test_wait(at_least, more, 10000));
    ck_assert_int_eq(atomic_load(&done), 3);
    ck_assert_int_eq(atomic_load(&parked), 1);
    rpc_client_destroy(client);
    finish(0);
    test_server_destroy(nats);
}
END_TEST

START_TEST(test_starts_and_stops_without_nats)
{
    start("nats://127.0.0.1:1");
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)service_http_port(service));
    struct rpc_client *client = rpc_client_http(url, NULL);
    clock_sleep_ms(300);
    ck_assert(!check_ready(client));
    ck_assert_int_gt(atomic_load(&ticks), 0);
    rpc_client_destroy(client);
    finish(1);
}
END_TEST

START_TEST(test_bad_settings)
{
    const char *unknown[] = {"tester", "--colr=red", NULL};
    struct service *none = NULL;
    ck_assert_int_eq(service_open(&config, 2, (char **)(uintptr_t)unknown, &none), 2);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(test_help)
{
    const char *help[] = {"tester", "--help", NULL};
    struct service *none = NULL;
    ck_assert_int_eq(service_open(&config, 2, (char **)(uintptr_t)help, &none), 0);
    ck_assert_ptr_null(none);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *tests = tcase_create("shell");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_work_of_every_kind_and_an_outage);
    tcase_add_test(tests, test_starts_and_stops_without_nats);
    tcase_add_test(tests, test_bad_settings);
    tcase_add_test(tests, test_help);
    suite_add_tcase(suite, tests);
    SRunner *suite_runner = srunner_create(suite);
    srunner_run_all(suite_runner, CK_NORMAL);
    int failed = srunner_ntests_failed(suite_runner);
    srunner_free(suite_runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
