/* test_bus.c - the bus against a real nats-server: requests, streams, queues, restarts. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/bus/bus.h"
#include "shared/platform/clock.h"
#include "shared/platform/signals.h"
#include "tests/harness/servers.h"

static struct test_server *nats;
static struct bus *bus;

static struct bytes text(const char *words)
{
    return (struct bytes){.data = (const uint8_t *)words, .size = strlen(words)};
}

static void setup(void)
{
    signals_init();
    nats = test_nats_start();
    ck_assert_int_eq(
        bus_open(&(struct bus_options){.url = test_server_address(nats), .name = "test"}, &bus,
                 NULL),
        ERR_OK);
    ck_assert(bus_wait_ready(bus, 5000));
}

static void teardown(void)
{
    bus_close(bus);
    test_server_destroy(nats);
}

static const char *const job_subjects[] = {"t.jobs.>"};
static const struct bus_stream jobs = {
    .name = "T_JOBS", .subjects = job_subjects, .subject_count = 1, .retention = BUS_WORK_QUEUE};
static const char *const log_subjects[] = {"t.log"};
static const struct bus_stream ledger = {
    .name = "T_LOG", .subjects = log_subjects, .subject_count = 1, .append_only = true};

static void declare(const struct bus_stream *stream)
{
    ck_assert_int_eq(bus_stream_declare(bus, stream), ERR_OK);
    ck_assert(bus_wait_ready(bus, 5000));
}

static void publish(const char *subject, const char *words, uint64_t expected_sequence)
{
    struct bus_receipt receipt;
    struct note note = {0};
    ck_assert_msg(bus_stream_publish(bus, subject, text(words), NULL, &receipt, &note) == ERR_OK,
                  "%s", note.text);
    ck_assert_uint_eq(receipt.sequence, expected_sequence);
}

/* Answers "ping" with "pong" and a header; runs on a bus thread, allowed to publish in this test. */
static void answer(void *context, struct bus_message *message)
{
    atomic_int *count = context;
    atomic_fetch_add(count, 1);
    struct bus_header header = {"Ol-Status", "5"};
    if (bus_message_reply(message) != NULL) {
        ck_assert_int_eq(bus_publish(bus, bus_message_reply(message), NULL,
                                     (struct bus_headers){.items = &header, .count = 1},
                                     bus_message_data(message)),
                         ERR_OK);
    }
    bus_message_destroy(message);
}

START_TEST(test_request_reply_and_errors)
{
    atomic_int count = 0;
    struct bus_subscription *subscription = NULL;
    ck_assert_int_eq(bus_subscribe(bus, "t.echo", "group", answer, &count, &subscription), ERR_OK);
    struct bus_message *reply = NULL;
    ck_assert_int_eq(
        bus_request(bus, "t.echo", (struct bus_headers){0}, text("ping"), 2000, &reply), ERR_OK);
    ck_assert_uint_eq(bus_message_data(reply).size, 4);
    ck_assert_str_eq(bus_message_header(reply, "Ol-Status"), "5");
    ck_assert_ptr_null(bus_message_header(reply, "Absent"));
    bus_message_destroy(reply);
    reply = NULL;
    ck_assert_int_eq(
        bus_request(bus, "t.nobody", (struct bus_headers){0}, text("ping"), 2000, &reply),
        ERR_UNAVAILABLE);
    ck_assert_ptr_null(reply);
    uint8_t *big = calloc(1, BUS_MESSAGE_MAX + 1);
    ck_assert_int_eq(bus_publish(bus, "t.echo", NULL, (struct bus_headers){0},
                                 (struct bytes){.data = big, .size = BUS_MESSAGE_MAX + 1}),
                     ERR_LIMIT);
    ck_assert_int_eq(bus_request(bus, "t.echo", (struct bus_headers){0},
                                 (struct bytes){.data = big, .size = BUS_MESSAGE_MAX}, 5000,
                                 &reply),
                     ERR_OK);
    ck_assert_uint_eq(bus_message_data(reply).size, BUS_MESSAGE_MAX);
    bus_message_destroy(reply);
    free(big);
    bus_unsubscribe(subscription);
    ck_assert_int_eq(atomic_load(&count), 2);
}
END_TEST

static atomic_int answered, timed_out, unserved;

static void on_answer(void *context, enum err err, struct bus_message *reply)
{
    (void)context;
    atomic_fetch_add(err == ERR_OK ? &answered : err == ERR_TIMEOUT ? &timed_out : &unserved, 1);
    bus_message_destroy(reply);
}

static void swallow(void *context, struct bus_message *message)
{
    (void)context;
    bus_message_destroy(message);
}

static bool all_answered(void *argument)
{
    (void)argument;
    return atomic_load(&answered) == 100 && atomic_load(&timed_out) == 1 &&
           atomic_load(&unserved) == 1;
}

START_TEST(test_asynchronous_requests)
{
    atomic_int count = 0;
    struct bus_subscription *echo = NULL;
    struct bus_subscription *silent = NULL;
    ck_assert_int_eq(bus_subscribe(bus, "t.echo", NULL, answer, &count, &echo), ERR_OK);
    ck_assert_int_eq(bus_subscribe(bus, "t.silent", NULL, swallow, NULL, &silent), ERR_OK);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(bus_request_async(bus, "t.echo", (struct bus_headers){0}, text("x"), 5000,
                                           on_answer, NULL),
                         ERR_OK);
    }
    ck_assert_int_eq(
        bus_request_async(bus, "t.silent", (struct bus_headers){0}, text("x"), 50, on_answer, NULL),
        ERR_OK);
    ck_assert_int_eq(bus_request_async(bus, "t.nobody", (struct bus_headers){0}, text("x"), 5000,
                                       on_answer, NULL),
                     ERR_OK);
    ck_assert(test_wait(all_answered, NULL, 5000));
    bus_unsubscribe(echo);
    bus_unsubscribe(silent);
}
END_TEST

START_TEST(test_publish_deduplicates_and_expects)
{
    declare(&ledger);
    struct bus_publish_options options = {.id = "a"};
    struct bus_receipt receipt;
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("1"), &options, &receipt, NULL), ERR_OK);
    ck_assert(!receipt.duplicate);
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("1"), &options, &receipt, NULL), ERR_OK);
    ck_assert(receipt.duplicate);
    ck_assert_uint_eq(receipt.sequence, 1);
    options = (struct bus_publish_options){
        .expect_last = true, .expect_sequence = 0, .expect_subject_sequence = BUS_ANY};
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("2"), &options, NULL, NULL),
                     ERR_CONFLICT);
    options.expect_sequence = 1;
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("2"), &options, NULL, NULL), ERR_OK);
    options.expect_sequence = BUS_ANY;
    options.expect_subject_sequence = 1;
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("3"), &options, NULL, NULL),
                     ERR_CONFLICT);
    options.expect_subject_sequence = 2;
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("3"), &options, NULL, NULL), ERR_OK);
    uint64_t last = 0;
    ck_assert_int_eq(bus_stream_last(bus, "T_LOG", &last), ERR_OK);
    ck_assert_uint_eq(last, 3);
    struct note note = {0};
    ck_assert_int_eq(bus_stream_publish(bus, "t.uncaptured", text("x"), NULL, NULL, &note),
                     ERR_UNAVAILABLE);
    ck_assert_str_ne(note.text, "");
}
END_TEST

static struct bus_message *fetch_one(struct bus_consumer *consumer, uint32_t timeout_ms)
{
    struct bus_message *message = NULL;
    size_t count = 0;
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    while (count == 0 && clock_mono_ms() < end_ms) {
        if (bus_fetch(consumer, 1, 200, &message, &count) == ERR_UNAVAILABLE) {
            clock_sleep_ms(50);
        }
    }
    return count == 1 ? message : NULL;
}

START_TEST(test_work_queue_redelivers_after_a_crash)
{
    declare(&jobs);
    publish("t.jobs.train", "one", 1);
    struct bus_consumer_config config = {
        .stream = "T_JOBS", .durable = "workers", .ack_wait_ms = 300};
    struct bus_consumer *first = NULL;
    struct bus_consumer *second = NULL;
    ck_assert_int_eq(bus_consumer_open(bus, &config, &first), ERR_OK);
    ck_assert_int_eq(bus_consumer_open(bus, &config, &second), ERR_OK);
    struct bus_message *message = fetch_one(first, 3000);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(bus_message_deliveries(message), 1);
    bus_message_destroy(message);
    bus_consumer_close(first); /* the worker dies without a word */
    message = fetch_one(second, 3000);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(bus_message_deliveries(message), 2);
    ck_assert_uint_eq(bus_message_sequence(message), 1);
    bus_nak(message, 50);
    bus_message_destroy(message);
    message = fetch_one(second, 3000);
    ck_assert_ptr_nonnull(message);
    for (int i = 0; i < 4; i++) { /* longer than ack_wait, but it says that it lives */
        clock_sleep_ms(150);
        bus_progress(message);
    }
    ck_assert_ptr_null(fetch_one(second, 400 - 300));
    bus_ack(message);
    bus_message_destroy(message);
    ck_assert_ptr_null(fetch_one(second, 700));
    bus_consumer_close(second);
}
END_TEST

START_TEST(test_fetch_gives_what_is_there)
{
    declare(&jobs);
    for (uint64_t i = 1; i <= 10; i++) {
        publish(i % 2 == 0 ? "t.jobs.even" : "t.jobs.odd", "x", i);
    }
    struct bus_consumer_config config = {
        .stream = "T_JOBS", .durable = "evens", .filter = "t.jobs.even"};
    struct bus_consumer *consumer = NULL;
    ck_assert_int_eq(bus_consumer_open(bus, &config, &consumer), ERR_OK);
    struct bus_message *messages[64];
    size_t total = 0;
    uint64_t start_ms = clock_mono_ms();
    while (total < 5) {
        size_t count = 0;
        ck_assert_int_eq(bus_fetch(consumer, 64, 3000, messages + total, &count), ERR_OK);
        total += count;
    }
    ck_assert_uint_lt(clock_mono_ms() - start_ms, 2500); /* it did not wait for 64 */
    for (size_t i = 0; i < total; i++) {
        ck_assert_str_eq(bus_message_subject(messages[i]), "t.jobs.even");
        ck_assert_uint_eq(bus_message_sequence(messages[i]), 2 * (i + 1));
        bus_term(messages[i]);
        bus_message_destroy(messages[i]);
    }
    size_t count = 9;
    ck_assert_int_eq(bus_fetch(consumer, 64, 100, messages, &count), ERR_TIMEOUT);
    ck_assert_uint_eq(count, 0);
    bus_consumer_close(consumer);
}
END_TEST

static struct bus_message *replay_one(struct bus_replay *replay, uint32_t timeout_ms)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    struct bus_message *message = NULL;
    while (message == NULL && clock_mono_ms() < end_ms) {
        if (bus_replay_next(replay, 200, &message) == ERR_UNAVAILABLE) {
            clock_sleep_ms(50);
        }
    }
    return message;
}

START_TEST(test_replay_is_ordered_and_follows)
{
    declare(&ledger);
    char words[16];
    for (uint64_t i = 1; i <= 600; i++) {
        (void)snprintf(words, sizeof words, "%u", (unsigned)i);
        publish("t.log", words, i);
    }
    struct bus_replay *replay = NULL;
    ck_assert_int_eq(bus_replay_open(bus, "T_LOG", NULL, 3, &replay), ERR_OK);
    for (uint64_t i = 3; i <= 600; i++) {
        struct bus_message *message = replay_one(replay, 5000);
        ck_assert_ptr_nonnull(message);
        ck_assert_uint_eq(bus_message_sequence(message), i);
        bus_message_destroy(message);
    }
    struct bus_message *message = NULL;
    ck_assert_int_eq(bus_replay_next(replay, 50, &message), ERR_TIMEOUT);
    publish("t.log", "new", 601);
    message = replay_one(replay, 3000);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(bus_message_sequence(message), 601);
    bus_message_destroy(message);
    bus_replay_close(replay);
}
END_TEST

static bool not_ready(void *argument)
{
    (void)argument;
    return !bus_ready(bus);
}

START_TEST(test_survives_a_server_restart)
{
    declare(&ledger);
    declare(&jobs);
    publish("t.log", "1", 1);
    atomic_int count = 0;
    struct bus_subscription *echo = NULL;
    ck_assert_int_eq(bus_subscribe(bus, "t.echo", NULL, answer, &count, &echo), ERR_OK);
    struct bus_consumer_config config = {.stream = "T_JOBS", .durable = "workers"};
    struct bus_consumer *consumer = NULL;
    struct bus_replay *replay = NULL;
    ck_assert_int_eq(bus_consumer_open(bus, &config, &consumer), ERR_OK);
    ck_assert_int_eq(bus_replay_open(bus, "T_LOG", NULL, 1, &replay), ERR_OK);
    struct bus_message *message = replay_one(replay, 3000);
    ck_assert_ptr_nonnull(message);
    bus_message_destroy(message);
    ck_assert_ptr_null(fetch_one(consumer, 300));

    test_server_stop(nats);
    ck_assert(test_wait(not_ready, NULL, 3000));
    struct note reason = {0};
    bus_reason(bus, &reason);
    ck_assert_str_ne(reason.text, "");
    uint64_t start_ms = clock_mono_ms();
    ck_assert_int_eq(bus_publish(bus, "t.echo", NULL, (struct bus_headers){0}, text("x")),
                     ERR_UNAVAILABLE);
    ck_assert_int_eq(bus_stream_publish(bus, "t.log", text("x"), NULL, NULL, NULL),
                     ERR_UNAVAILABLE);
    message = NULL;
    ck_assert_int_eq(bus_request(bus, "t.echo", (struct bus_headers){0}, text("x"), 5000, &message),
                     ERR_UNAVAILABLE);
    ck_assert_int_eq(bus_replay_next(replay, 5000, &message), ERR_UNAVAILABLE);
    ck_assert_uint_lt(clock_mono_ms() - start_ms, 1000); /* away is said at once */

    test_server_start(nats);
    ck_assert(bus_wait_ready(bus, 10000));
    publish("t.log", "2", 2);
    publish("t.jobs.a", "job", 1);
    message = replay_one(replay, 5000);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(bus_message_sequence(message), 2);
    bus_message_destroy(message);
    message = fetch_one(consumer, 5000);
    ck_assert_ptr_nonnull(message);
    bus_ack(message);
    bus_message_destroy(message);
    ck_assert_int_eq(bus_request(bus, "t.echo", (struct bus_headers){0}, text("x"), 5000, &message),
                     ERR_OK);
    bus_message_destroy(message);

    test_server_kill(nats); /* and now its disk is lost too */
    test_server_wipe(nats);
    test_server_start(nats);
    ck_assert(test_wait(not_ready, NULL, 3000) || true);
    ck_assert(bus_wait_ready(bus, 10000));
    publish("t.jobs.b", "job", 1);
    message = fetch_one(consumer, 10000);
    ck_assert_ptr_nonnull(message);
    bus_ack(message);
    bus_message_destroy(message);
    bus_replay_close(replay);
    bus_consumer_close(consumer);
    bus_unsubscribe(echo);
}
END_TEST

static void take_all(struct bus_consumer *consumer, size_t expected)
{
    struct bus_message *messages[16];
    uint64_t end_ms = clock_mono_ms() + 10000;
    for (size_t taken = 0; taken < expected;) {
        size_t count = 0;
        ck_assert_uint_lt(clock_mono_ms(), end_ms);
        if (bus_fetch(consumer, 16, 200, messages, &count) == ERR_UNAVAILABLE) {
            clock_sleep_ms(50);
        }
        for (size_t i = 0; i < count; i++) {
            bus_ack(messages[i]);
            bus_message_destroy(messages[i]);
        }
        taken += count;
        ck_assert_uint_le(taken, expected);
    }
}

START_TEST(test_consumer_past_the_end_begins_again)
{
    struct bus_consumer_config config = {.stream = "T_LOG", .durable = "reader"};
    struct bus_consumer *consumer;
    char words[1024];
    char path[512];
    uint64_t left = 0;
    memset(words, 'x', sizeof words);
    words[sizeof words - 1] = '\0';
    declare(&ledger);
    ck_assert_int_eq(bus_consumer_open(bus, &config, &consumer), ERR_OK);
    for (uint64_t i = 1; i <= 10; i++) {
        publish("t.log", words, i);
    }
    take_all(consumer, 10);
    clock_sleep_ms(300); /* the server writes positions a little later */
    test_server_kill(nats);
    snprintf(path, sizeof path, "%s/jetstream/$G/streams/T_LOG/msgs/1.blk",
             test_server_folder(nats));
    ck_assert_int_eq(truncate(path, 5000), 0);
    test_server_start(nats);
    ck_assert(bus_wait_ready(bus, 10000));
    ck_assert_int_eq(bus_stream_last(bus, "T_LOG", &left), ERR_OK);
    ck_assert_uint_lt(left, 10);
    take_all(consumer, left); /* again: readers must know them */
    publish("t.log", "new", left + 1);
    take_all(consumer, 1);
    bus_consumer_close(consumer);
}
END_TEST

START_TEST(test_starts_without_a_server)
{
    test_server_stop(nats);
    struct bus *late = NULL;
    ck_assert_int_eq(
        bus_open(&(struct bus_options){.url = test_server_address(nats), .name = "late"}, &late,
                 NULL),
        ERR_OK);
    ck_assert_int_eq(bus_stream_declare(late, &ledger), ERR_OK);
    ck_assert(!bus_ready(late));
    ck_assert_int_eq(bus_publish(late, "t.x", NULL, (struct bus_headers){0}, text("x")),
                     ERR_UNAVAILABLE);
    test_server_start(nats);
    ck_assert(bus_wait_ready(late, 10000));
    ck_assert_int_eq(bus_stream_publish(late, "t.log", text("x"), NULL, NULL, NULL), ERR_OK);
    bus_close(late);
    struct note note = {0};
    struct bus *bad = NULL;
    ck_assert_int_eq(bus_open(&(struct bus_options){.url = "", .name = "bad"}, &bad, &note),
                     ERR_INVALID);
    ck_assert_ptr_null(bad);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bus");
    TCase *tests = tcase_create("nats");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_request_reply_and_errors);
    tcase_add_test(tests, test_asynchronous_requests);
    tcase_add_test(tests, test_publish_deduplicates_and_expects);
    tcase_add_test(tests, test_work_queue_redelivers_after_a_crash);
    tcase_add_test(tests, test_fetch_gives_what_is_there);
    tcase_add_test(tests, test_replay_is_ordered_and_follows);
    tcase_add_test(tests, test_survives_a_server_restart);
    tcase_add_test(tests, test_consumer_past_the_end_begins_again);
    tcase_add_test(tests, test_starts_without_a_server);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
