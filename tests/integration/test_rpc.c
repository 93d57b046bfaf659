/* test_rpc.c - one service called in every way there is: NATS, gRPC, gRPC-Web, Connect, the front
 * door; by our client and by clients that others wrote (python3-grpcio, @grpc/grpc-js, curl). */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/bus/bus.h"
#include "shared/http/http.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/process.h"
#include "shared/platform/signals.h"
#include "shared/platform/thread.h"
#include "shared/rpc/internal.h"
#include "shared/rpc/rpc.h"
#include "tests/harness/rpc_worker.h"
#include "tests/harness/servers.h"

/* ---- the service ---- */

static atomic_int finished_streams;

/* Gives the bytes back; nothing is an error. */
static enum err on_submit(void *context, struct rpc_call *call, const void *request)
{
    (void)context;
    const Openledger__V1__SubmitRequest *submit = request;
    if (submit->signed_tx.len == 0) {
        return note_set(rpc_note(call), ERR_INVALID, "no transaction: 100%% of \xc3\xbc");
    }
    Openledger__V1__SubmitReply reply = OPENLEDGER__V1__SUBMIT_REPLY__INIT;
    reply.tx = submit->signed_tx;
    return rpc_reply(call, &reply);
}

static void finish_later(void *argument)
{
    struct rpc_call *call = argument;
    clock_sleep_ms(20);
    Openledger__V1__JobRecord reply = OPENLEDGER__V1__JOB_RECORD__INIT;
    reply.reason = arena_strdup(rpc_arena(call), rpc_token(call));
    reply.version = rpc_remaining_ms(call) > 0;
    rpc_finish(call, rpc_reply(call, &reply));
}

static struct thread *threads[64];
static atomic_size_t thread_count;

static void spawn(void (*body)(void *argument), void *argument)
{
    size_t index = atomic_fetch_add(&thread_count, 1);
    CHECK(index < 64);
    CHECK(thread_start("later", body, argument, &threads[index], NULL) == ERR_OK);
}

static enum err on_get(void *context, struct rpc_call *call, const void *request)
{
    (void)context;
    (void)request;
    rpc_defer(call);
    spawn(finish_later, call);
    return ERR_OK;
}

/* Takes page_size milliseconds. */
static enum err on_list(void *context, struct rpc_call *call, const void *request)
{
    (void)context;
    const Openledger__V1__ListRequest *list = request;
    clock_sleep_ms(list->page_size);
    Openledger__V1__ListJobsReply reply = OPENLEDGER__V1__LIST_JOBS_REPLY__INIT;
    reply.next_page_token = list->query;
    return rpc_reply(call, &reply);
}

struct watch {
    struct rpc_call *call;
    uint32_t count;
    bool fail;
};

/* "500": that many messages; "3!": three, then NOT_FOUND. */
static void stream(void *argument)
{
    struct watch watch = *(struct watch *)argument;
    free(argument);
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < watch.count; i++) {
        Openledger__V1__TrainProgress progress = OPENLEDGER__V1__TRAIN_PROGRESS__INIT;
        progress.step = i;
        progress.detail = (char[]){"a detail"};
        err = rpc_send(watch.call, &progress);
        if (err == ERR_LIMIT) {
            clock_sleep_ms(1);
            i--;
        } else if (err != ERR_OK) {
            break;
        }
    }
    if (err == ERR_OK && watch.fail) {
        err = note_set(rpc_note(watch.call), ERR_NOT_FOUND, "nothing after %u",
                       (unsigned)watch.count);
    }
    rpc_finish(watch.call, err);
    atomic_fetch_add(&finished_streams, 1);
}

static enum err on_watch(void *context, struct rpc_call *call, const void *request)
{
    (void)context;
    const Openledger__V1__GetJobRequest *get = request;
    struct watch *watch = calloc(1, sizeof *watch);
    char words[16] = "";
    memcpy(words, get->job.data, get->job.len < 15 ? get->job.len : 15);
    *watch = (struct watch){.call = call,
                            .count = (uint32_t)strtoul(words, NULL, 10),
                            .fail = strchr(words, '!') != NULL};
    rpc_defer(call);
    spawn(stream, watch);
    return ERR_OK;
}

static const struct rpc_binding bindings[] = {
    {"SubmitJob", on_submit}, {"GetJob", on_get}, {"ListJobs", on_list}, {"WatchJob", on_watch}};
static const struct rpc_service trainer = {
    .descriptor = &openledger__v1__trainer__descriptor, .bindings = bindings, .count = 4};

/* ---- the wiring: a service, and a front door in front of it ---- */

static struct test_server *nats;
static struct bus *bus, *door_bus;
static struct http_server *http, *door_http;
static struct rpc_server *server, *door;
static struct metrics *metrics;
static struct arena *arena;
static char own_url[64], door_url[64];

static void setup(void)
{
    signals_init();
    nats = test_nats_start();
    jobs = mailbox_create(1000);
    arena = arena_create(RPC_ARENA_MAX);
    metrics = metrics_create();
    ck_assert_int_eq(thread_start("worker", work, NULL, &worker, NULL), ERR_OK);
    struct bus_options options = {.url = test_server_address(nats), .name = "service"};
    ck_assert_int_eq(bus_open(&options, &bus, NULL), ERR_OK);
    ck_assert_int_eq(bus_open(&options, &door_bus, NULL), ERR_OK);
    ck_assert(bus_wait_ready(bus, 5000));
    ck_assert(bus_wait_ready(door_bus, 5000));
    struct http_options web = {.address = "127.0.0.1:0"};
    ck_assert_int_eq(http_open(&web, &http, NULL), ERR_OK);
    ck_assert_int_eq(http_open(&web, &door_http, NULL), ERR_OK);
    struct rpc_executor executor = {.post = post};
    server = rpc_server_create(executor, metrics);
    rpc_serve(server, &trainer, NULL);
    ck_assert_int_eq(rpc_serve_bus(server, bus, NULL), ERR_OK);
    rpc_serve_http(server, http, NULL);
    door = rpc_server_create(executor, NULL);
    rpc_serve_http(door, door_http, door_bus);
    ck_assert_int_eq(http_start(http), ERR_OK);
    ck_assert_int_eq(http_start(door_http), ERR_OK);
    (void)snprintf(own_url, sizeof own_url, "http://127.0.0.1:%u", (unsigned)http_port(http));
    (void)snprintf(door_url, sizeof door_url, "http://127.0.0.1:%u",
                   (unsigned)http_port(door_http));
    clock_sleep_ms(50); /* the subscriptions reach the server */
}

static void teardown(void)
{
    http_close(door_http, 100);
    http_close(http, 100);
    rpc_server_destroy(door);
    mailbox_close(jobs);
    thread_join(worker);
    for (size_t i = 0; i < atomic_load(&thread_count); i++) {
        thread_join(threads[i]);
    }
    rpc_server_destroy(server);
    mailbox_destroy(jobs, free);
    bus_close(door_bus);
    bus_close(bus);
    test_server_destroy(nats);
    metrics_destroy(metrics);
    arena_destroy(arena);
}

/* ---- our own client ---- */

static size_t read_stream(struct rpc_client *client, const char *job, enum err *out_err,
                          struct note *note)
{
    Openledger__V1__GetJobRequest request = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    request.job = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)job, .len = strlen(job)};
    struct rpc_stream *in = NULL;
    size_t count = 0;
    *out_err = rpc_stream_open(client, "Trainer.WatchJob", &request.base, 0, &in, note);
    while (*out_err == ERR_OK) {
        ProtobufCMessage *message = NULL;
        arena_reset(arena);
        *out_err = rpc_stream_next(in, 5000, arena, &message, note);
        if (*out_err != ERR_OK || message == NULL) {
            break;
        }
        ck_assert_uint_eq(((const Openledger__V1__TrainProgress *)(const void *)message)->step,
                          count);
        count++;
    }
    rpc_stream_close(in);
    return count;
}

static bool all_finished(void *argument)
{
    return atomic_load(&finished_streams) >= *(int *)argument;
}

static void check_client(struct rpc_client *client, const char *token)
{
    struct note note = {0};
    ProtobufCMessage *message = NULL;
    uint8_t *big = calloc(1, RPC_MESSAGE_MAX);
    Openledger__V1__SubmitRequest submit = OPENLEDGER__V1__SUBMIT_REQUEST__INIT;
    const size_t sizes[] = {1, 1000, 500000};
    for (size_t i = 0; i < 3; i++) {
        submit.signed_tx = (ProtobufCBinaryData){.data = big, .len = sizes[i]};
        arena_reset(arena);
        enum err err =
            rpc_call(client, "Trainer.SubmitJob", &submit.base, 0, arena, &message, &note);
        ck_assert_msg(err == ERR_OK, "%s %s", err_name(err), note.text);
        ck_assert_uint_eq(((const Openledger__V1__SubmitReply *)(const void *)message)->tx.len,
                          sizes[i]);
    }
    submit.signed_tx.len = RPC_MESSAGE_MAX;
    ck_assert_int_eq(rpc_call(client, "Trainer.SubmitJob", &submit.base, 0, arena, &message, &note),
                     ERR_LIMIT);
    submit.signed_tx.len = 0;
    ck_assert_int_eq(rpc_call(client, "Trainer.SubmitJob", &submit.base, 0, arena, &message, &note),
                     ERR_INVALID);
    ck_assert_str_eq(note.text, "no transaction: 100% of \xc3\xbc");
    free(big);

    Openledger__V1__GetJobRequest get = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    ck_assert_int_eq(rpc_call(client, "Trainer.GetJob", &get.base, 0, arena, &message, &note),
                     ERR_OK);
    const Openledger__V1__JobRecord *record = (const void *)message;
    ck_assert_str_eq(record->reason, token);
    ck_assert_uint_eq(record->version, 1);

    Openledger__V1__ListRequest list = OPENLEDGER__V1__LIST_REQUEST__INIT;
    list.page_size = 1200;
    ck_assert_int_eq(rpc_call(client, "Trainer.ListJobs", &list.base, 100, arena, &message, &note),
                     ERR_TIMEOUT);
    list.page_size = 0;
    list.query = (char[]){"caf\xc3\xa9"};
    ck_assert_int_eq(rpc_call(client, "Trainer.ListJobs", &list.base, 2000, arena, &message, &note),
                     ERR_OK);
    ck_assert_str_eq(
        ((const Openledger__V1__ListJobsReply *)(const void *)message)->next_page_token,
        list.query);
    list.query = (char[]){"\xff"};
    ck_assert_int_eq(rpc_call(client, "Trainer.ListJobs", &list.base, 2000, arena, &message, &note),
                     ERR_INVALID);

    enum err err;
    ck_assert_uint_eq(read_stream(client, "700", &err, &note), 700);
    ck_assert_msg(err == ERR_OK, "%s %s", err_name(err), note.text);
    ck_assert_uint_eq(read_stream(client, "0", &err, &note), 0);
    ck_assert_int_eq(err, ERR_OK);
    ck_assert_uint_eq(read_stream(client, "3!", &err, &note), 3);
    ck_assert_int_eq(err, ERR_NOT_FOUND);
    ck_assert_str_eq(note.text, "nothing after 3");

    int want = atomic_load(&finished_streams) + 1; /* leaving a stream stops its writer */
    Openledger__V1__GetJobRequest endless = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    endless.job = (ProtobufCBinaryData){.data = (uint8_t *)(char[]){"100000000"}, .len = 9};
    struct rpc_stream *in = NULL;
    ck_assert_int_eq(rpc_stream_open(client, "Trainer.WatchJob", &endless.base, 0, &in, &note),
                     ERR_OK);
    for (int i = 0; i < 100; i++) {
        arena_reset(arena);
        ck_assert_int_eq(rpc_stream_next(in, 5000, arena, &message, &note), ERR_OK);
    }
    clock_sleep_ms(100); /* the writer runs into the limit and waits */
    rpc_stream_close(in);
    ck_assert(test_wait(all_finished, &want, 5000));
}

START_TEST(test_over_nats)
{
    struct rpc_client *client = rpc_client_bus(door_bus);
    check_client(client, "");
    rpc_client_destroy(client);
}
END_TEST

/* A process on its way out is not a busy one, and its callers' calls are not cancelled: they may try again. */
START_TEST(test_while_stopping)
{
    struct rpc_client *clients[] = {rpc_client_bus(door_bus), rpc_client_http(own_url, "")};
    Openledger__V1__GetJobRequest get = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    mailbox_close(jobs);
    for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++) {
        struct note note = {0};
        ProtobufCMessage *message = NULL;
        arena_reset(arena);
        ck_assert_int_eq(
            rpc_call(clients[i], "Trainer.GetJob", &get.base, 2000, arena, &message, &note),
            ERR_UNAVAILABLE);
        ck_assert_ptr_nonnull(strstr(note.text, "the service is stopping, try again"));
        rpc_client_destroy(clients[i]);
    }
}
END_TEST

START_TEST(test_over_http)
{
    struct rpc_client *client = rpc_client_http(own_url, "secret-token");
    check_client(client, "secret-token");
    rpc_client_destroy(client);
    struct buf text;
    buf_init(&text, METRICS_TEXT_MAX);
    ck_assert_int_eq(metrics_write(metrics, &text), ERR_OK);
    ck_assert_ptr_nonnull(
        strstr(buf_text(&text), "rpc_errors_total{method=\"Trainer.SubmitJob\"}"));
    buf_deinit(&text);
}
END_TEST

START_TEST(test_through_the_front_door)
{
    struct rpc_client *client = rpc_client_http(door_url, "secret-token");
    check_client(client, "secret-token");
    struct note note = {0};
    ProtobufCMessage *message = NULL;
    Openledger__V1__Empty empty = OPENLEDGER__V1__EMPTY__INIT;
    ck_assert_int_eq(rpc_call(client, "Settlement.GetInfo", &empty.base, 0, arena, &message, &note),
                     ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(note.text, "not running"));
    rpc_client_destroy(client);
    client = rpc_client_http("http://127.0.0.1:1", NULL);
    ck_assert_int_eq(rpc_call(client, "Settlement.GetInfo", &empty.base, 0, arena, &message, &note),
                     ERR_UNAVAILABLE);
    rpc_client_destroy(client);
    client = rpc_client_bus(door_bus);
    ck_assert_int_eq(rpc_call(client, "Settlement.GetInfo", &empty.base, 0, arena, &message, &note),
                     ERR_UNAVAILABLE);
    rpc_client_destroy(client);
}
END_TEST

static atomic_int answers;

static void on_answer(void *context, enum err err, struct bytes reply, const struct note *note)
{
    (void)context;
    (void)note;
    atomic_fetch_add(&answers, err == ERR_OK && reply.size == 4 ? 1 : 1000);
}

static bool all_answered(void *argument)
{
    (void)argument;
    return atomic_load(&answers) >= 50;
}

START_TEST(test_asynchronous)
{
    struct rpc_client *client = rpc_client_bus(door_bus);
    Openledger__V1__SubmitRequest submit = OPENLEDGER__V1__SUBMIT_REQUEST__INIT;
    submit.signed_tx = (ProtobufCBinaryData){.data = (uint8_t *)(char[]){"ab"}, .len = 2};
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(
            rpc_call_async(client, "Trainer.SubmitJob", &submit.base, 0, on_answer, NULL), ERR_OK);
    }
    ck_assert(test_wait(all_answered, NULL, 5000));
    ck_assert_int_eq(atomic_load(&answers), 50);
    rpc_client_destroy(client);
}
END_TEST

/* ---- clients that others wrote ---- */

static bool run_client(const char *const *argv, struct buf *out)
{
    int exit_code = -1;
    struct note note = {0};
    enum err err = process_output(argv, 60000, out, &exit_code, &note);
    if (err != ERR_OK || exit_code != 0) {
        (void)fprintf(stderr, "%s: %s, exit %d\n%s\n", argv[0], note.text, exit_code,
                      buf_text(out));
    }
    return err == ERR_OK && exit_code == 0;
}

START_TEST(test_python_grpc)
{
    const char *const probe[] = {"/usr/bin/python3", "-c", "import grpc", NULL};
    struct buf out;
    buf_init(&out, 65536);
    if (!run_client(probe, &out)) {
        (void)printf("SKIP: python3-grpcio is not installed\n");
    } else {
        const char *const own[] = {"/usr/bin/python3", "tests/e2e/grpc_client.py", own_url + 7,
                                   NULL};
        const char *const fore[] = {"/usr/bin/python3", "tests/e2e/grpc_client.py", door_url + 7,
                                    NULL};
        ck_assert(run_client(own, &out));
        ck_assert(run_client(fore, &out));
    }
    buf_deinit(&out);
}
END_TEST

START_TEST(test_node_grpc)
{
    char modules[FILE_PATH_SIZE];
    ck_assert_ptr_nonnull(getcwd(modules, sizeof modules - 32));
    (void)strncat(modules, "/tests/e2e/node_modules", 32);
    char marker[FILE_PATH_SIZE + 32];
    (void)snprintf(marker, sizeof marker, "%s/@grpc/grpc-js/package.json", modules);
    struct buf out;
    buf_init(&out, 65536);
    if (!file_exists(marker)) {
        (void)printf("SKIP: @grpc/grpc-js is not installed in tests/e2e\n");
    } else {
        const char *const own[] = {"node", "tests/e2e/grpc_client.cjs", own_url + 7, modules, NULL};
        const char *const fore[] = {"node", "tests/e2e/grpc_client.cjs", door_url + 7, modules,
                                    NULL};
        ck_assert(run_client(own, &out));
        ck_assert(run_client(fore, &out));
    }
    buf_deinit(&out);
}
END_TEST

/* curl -i of one Connect call; the whole answer with its head. */
static void connect_call(const char *url, const char *method, const char *type, const char *body,
                         const char *extra, struct buf *out)
{
    char address[256];
    char header[128];
    (void)snprintf(address, sizeof address, "%s/openledger.v1.%s", url, method);
    (void)snprintf(header, sizeof header, "content-type: %s", type);
    const char *const argv[] = {"curl", "-sS",   "-i", "--max-time", "10",
                                "-H",   header,  "-H", extra,        "--data-binary",
                                body,   address, NULL};
    buf_clear(out);
    ck_assert(run_client(argv, out));
}

static void has(const struct buf *out, const char *words)
{
    ck_assert_msg(memmem(out->data, out->size, words, strlen(words)) != NULL, "no '%s' in:\n%s",
                  words, buf_text(out));
}

START_TEST(test_connect_json_with_curl)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    const char *const urls[] = {own_url, door_url};
    for (size_t i = 0; i < 2; i++) {
        const char *url = urls[i];
        connect_call(url, "Trainer/SubmitJob", "application/json", "{\"signedTx\":\"YWJj\"}",
                     "x: y", &out);
        has(&out, " 200 OK");
        has(&out, "content-type: application/json");
        has(&out, "{\"tx\":\"YWJj\"}");
        connect_call(url, "Trainer/SubmitJob", "application/json", "{}", "x: y", &out);
        has(&out, " 400 ");
        has(&out,
            "{\"code\":\"invalid_argument\",\"message\":\"no transaction: 100% of \xc3\xbc\"}");
        connect_call(url, "Trainer/SubmitJob", "application/json", "{\"bad\":1}", "x: y", &out);
        has(&out, "\"code\":\"invalid_argument\"");
        connect_call(url, "Trainer/SubmitJob", "application/json", "{", "x: y", &out);
        has(&out, "\"code\":\"invalid_argument\"");
        connect_call(url, "Trainer/Nothing", "application/json", "{}", "x: y", &out);
        has(&out, "\"code\":\"unimplemented\"");
        connect_call(url, "Trainer/WatchJob", "application/json", "{}", "x: y", &out);
        has(&out, "\"code\":\"unimplemented\"");
        connect_call(url, "Trainer/ListJobs", "application/json", "{\"pageSize\":300}",
                     "connect-timeout-ms: 50", &out);
        has(&out, i == 0 ? " 200 " : "\"code\":\"deadline_exceeded\"");
        connect_call(url, "Trainer/ListJobs", "application/json", "{}", "connect-timeout-ms: x",
                     &out);
        has(&out, "\"code\":\"invalid_argument\"");
        connect_call(url, "Trainer/GetJob", "application/json", "{}", "authorization: Bearer tok",
                     &out);
        has(&out, "\"reason\":\"tok\"");
        connect_call(url, "Trainer/SubmitJob", "text/plain", "{}", "x: y", &out);
        has(&out, " 415 ");
        connect_call(url, "Trainer/SubmitJob", "application/grpc", "", "x: y", &out);
        has(&out, " 505 ");
        connect_call(url, "Trainer/SubmitJob", "application/grpc-web", "abc", "x: y", &out);
        has(&out, "grpc-status: 3\r\n");
        connect_call(url, "Trainer/SubmitJob", "application/json", "{}", "content-encoding: gzip",
                     &out);
        has(&out, "\"code\":\"unimplemented\"");
        char body[FILE_PATH_SIZE];
        (void)snprintf(body, sizeof body, "/tmp/openledger-test-body-%d", (int)getpid());
        static const char framed[] = "\0\0\0\0\x0e{\"job\":\"MyE=\"}";
        ck_assert_int_eq(
            file_write_quick(body, (struct bytes){(const uint8_t *)framed, sizeof framed - 1}, 0600,
                             NULL),
            ERR_OK);
        char at[FILE_PATH_SIZE + 1];
        (void)snprintf(at, sizeof at, "@%s", body);
        connect_call(url, "Trainer/WatchJob", "application/connect+json", at, "x: y", &out);
        has(&out, "application/connect+json");
        has(&out, "\"step\":2");
        has(&out, "{\"error\":{\"code\":\"not_found\",\"message\":\"nothing after 3\"}}");
        ck_assert_int_eq(file_remove(body, NULL), ERR_OK);
    }
    buf_deinit(&out);
}
END_TEST

/* ---- parsers ---- */

START_TEST(test_parsers)
{
    uint32_t ms = 0;
    const struct {
        const char *text;
        uint32_t ms;
    } good[] = {{"1S", 1000},    {"99999999n", 99}, {"5m", 5},      {"1H", 3600000},
                {"9H", 3600000}, {"0m", 1},         {"2M", 120000}, {"7000u", 7}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(rpc_parse_grpc_timeout(good[i].text, &ms), ERR_OK);
        ck_assert_uint_eq(ms, good[i].ms);
    }
    const char *const bad[] = {"", "S", "1", "1x", "123456789S", "-1S", "1SS", " 1S", "1 S"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(rpc_parse_grpc_timeout(bad[i], &ms), ERR_INVALID);
    }
    char out[32];
    char back[32];
    rpc_percent_encode("a b%\n\xc3\xbc", out, sizeof out);
    ck_assert_str_eq(out, "a b%25%0A%C3%BC");
    rpc_percent_decode(out, back, sizeof back);
    ck_assert_str_eq(back, "a b%\n\xc3\xbc");
    rpc_percent_decode("%", back, sizeof back);
    ck_assert_str_eq(back, "%");
    rpc_percent_encode("%%%%", out, 8);
    ck_assert_str_eq(out, "%25%25");
    ck_assert_ptr_nonnull(rpc_find("Settlement.Submit"));
    ck_assert_ptr_null(rpc_find("Settlement"));
    ck_assert_ptr_null(rpc_find("Settlement."));
    ck_assert_ptr_null(rpc_find("."));
    ck_assert_int_eq(rpc_find("Trainer.WatchJob")->kind, RPC_SERVER_STREAM);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rpc");
    TCase *pure = tcase_create("pure");
    tcase_add_test(pure, test_parsers);
    suite_add_tcase(suite, pure);
    TCase *tests = tcase_create("transports");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_over_nats);
    tcase_add_test(tests, test_while_stopping);
    tcase_add_test(tests, test_over_http);
    tcase_add_test(tests, test_through_the_front_door);
    tcase_add_test(tests, test_asynchronous);
    tcase_add_test(tests, test_python_grpc);
    tcase_add_test(tests, test_node_grpc);
    tcase_add_test(tests, test_connect_json_with_curl);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
