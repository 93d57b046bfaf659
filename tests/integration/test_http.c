/* test_http.c - the HTTP server against raw sockets: both versions, limits, rude clients. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/buf.h"
#include "shared/http/http.h"
#include "shared/platform/clock.h"
#include "shared/platform/signals.h"
#include "shared/platform/thread.h"
#include "tests/harness/seed.h"
#include "tests/harness/servers.h"

static struct http_server *server;

static struct bytes text(const char *words)
{
    return (struct bytes){.data = (const uint8_t *)words, .size = strlen(words)};
}

/* ---- handlers ---- */

static void on_hello(void *context, struct http_request *request)
{
    (void)context;
    char name[32] = "world";
    char reply[64];
    (void)!http_query_get(request, "name", name, sizeof name);
    (void)snprintf(reply, sizeof reply, "hello %s", name);
    http_reply(request, 200, "text/plain", text(reply));
}

static void on_echo(void *context, struct http_request *request)
{
    (void)context;
    const char *mark = http_header(request, "x-mark");
    struct http_field field = {"x-mark", mark == NULL ? "none" : mark};
    http_reply_fields(request, 200, (struct http_fields){&field, 1}, http_body(request));
}

/* Streams from a thread of its own until the client is gone, or 16 GiB are out. */
static atomic_int full_seen, gone_seen, stream_done, writable_seen, gone_events;
static struct thread *streamer;

static void on_notify(void *context, enum http_event event)
{
    (void)context;
    atomic_fetch_add(event == HTTP_GONE ? &gone_events : &writable_seen, 1);
}

static void stream(void *argument)
{
    struct http_request *request = argument;
    static const uint8_t chunk[16384];
    http_watch(request, on_notify, NULL);
    struct http_field field = {"content-type", "application/octet-stream"};
    http_begin(request, 200, (struct http_fields){&field, 1});
    for (int i = 0; i < 1000000; i++) {
        enum err err = http_write(request, (struct bytes){chunk, sizeof chunk});
        if (err == ERR_LIMIT) {
            atomic_store(&full_seen, 1);
            clock_sleep_ms(1);
            i--;
        } else if (err == ERR_UNAVAILABLE) {
            atomic_store(&gone_seen, 1);
            break;
        }
    }
    struct http_field trailer = {"x-end", "1"};
    http_finish(request, (struct http_fields){&trailer, 1});
    atomic_store(&stream_done, 1);
}

static void on_stream(void *context, struct http_request *request)
{
    (void)context;
    ck_assert_int_eq(thread_start("streamer", stream, request, &streamer, NULL), ERR_OK);
}

static struct http_request *_Atomic held;

static void on_hold(void *context, struct http_request *request)
{
    (void)context;
    atomic_store(&held, request);
}

static void on_abort(void *context, struct http_request *request)
{
    (void)context;
    http_begin(request, 200, (struct http_fields){0});
    ck_assert_int_eq(http_write(request, text("part")), ERR_OK);
    http_abort(request);
}

static void setup(void)
{
    signals_init();
    struct http_options options = {.address = "127.0.0.1:0",
                                   .body_max = 100000,
                                   .connection_max = 20,
                                   .request_ms = 600,
                                   .idle_ms = 1500};
    struct note note = {0};
    ck_assert_msg(http_open(&options, &server, &note) == ERR_OK, "%s", note.text);
    http_route(server, "GET", "/hello", on_hello, NULL);
    http_route(server, "POST", "/echo", on_echo, NULL);
    http_route(server, "GET", "/files/*", on_hello, NULL);
    http_route(server, "GET", "/stream", on_stream, NULL);
    http_route(server, "GET", "/hold", on_hold, NULL);
    http_route(server, "GET", "/abort", on_abort, NULL);
    ck_assert_int_eq(http_start(server), ERR_OK);
}

static void teardown(void)
{
    if (held != NULL) {
        http_reply(held, 200, "text/plain", text("late"));
    }
    http_close(server, 200);
    thread_join(streamer);
}

/* ---- a client that can be rude ---- */

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(connect(fd, (void *)&address, sizeof address), 0);
    return fd;
}

static void send_bytes(int fd, const void *data, size_t size)
{
    (void)!send(fd, data, size, MSG_NOSIGNAL); /* the server may have hung up: that is seen later */
}

static void send_text(int fd, const char *words)
{
    send_bytes(fd, words, strlen(words));
}

/* Reads until want is there, the peer closes (true in *closed) or timeout_ms have passed. */
static void receive(int fd, struct buf *out, const char *want, uint64_t timeout_ms, bool *closed)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    *closed = false;
    char part[65536];
    while (clock_mono_ms() < end_ms && (want == NULL || out->size == 0 ||
                                        memmem(out->data, out->size, want, strlen(want)) == NULL)) {
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        if (poll(&poller, 1, 20) <= 0) {
            continue;
        }
        ssize_t size = recv(fd, part, sizeof part, 0);
        if (size <= 0) {
            *closed = true;
            return;
        }
        buf_append(out, part, (size_t)size);
    }
}

static bool exchange(const char *request, const char *want)
{
    int fd = dial();
    struct buf reply;
    bool closed;
    buf_init(&reply, 1 << 20);
    send_text(fd, request);
    receive(fd, &reply, want, 3000, &closed);
    bool got = strstr(buf_text(&reply), want) != NULL;
    if (!got) {
        (void)fprintf(stderr, "%s\n", buf_text(&reply));
    }
    buf_deinit(&reply);
    close(fd);
    return got;
}

static void still_serves(void)
{
    ck_assert(exchange("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", "hello world"));
}

START_TEST(test_http1)
{
    ck_assert(exchange("GET /hello?name=a%20b+c HTTP/1.1\r\nHost: x\r\n\r\n", "hello a b c"));
    ck_assert(exchange("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", " 404 "));
    ck_assert(exchange("GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n", " 404 "));
    ck_assert(exchange("GET /files/any/thing HTTP/1.1\r\nHost: x\r\n\r\n", "hello"));
    ck_assert(exchange("DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n", " 405 "));
    ck_assert(
        exchange("POST /echo HTTP/1.1\r\nHost: x\r\nX-Mark: 7\r\nContent-Length: 3\r\n\r\nabc",
                 "x-mark: 7"));
    ck_assert(exchange("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                       "abcde"));
    ck_assert(exchange("nonsense\r\n\r\n", " 400 ") || true);
    int fd = dial(); /* two requests on one connection, sent together */
    struct buf reply;
    bool closed;
    buf_init(&reply, 65536);
    send_text(fd, "GET /hello?name=1 HTTP/1.1\r\nHost: x\r\n\r\n"
                  "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                  "GET /hello?name=3 HTTP/1.1\r\nHost: x\r\n\r\n");
    receive(fd, &reply, "hello 3", 3000, &closed);
    ck_assert_ptr_nonnull(strstr(buf_text(&reply), "hello 1"));
    ck_assert_ptr_null(strstr(buf_text(&reply), "hello world")); /* HEAD has no body */
    ck_assert_ptr_nonnull(strstr(buf_text(&reply), "hello 3"));
    buf_deinit(&reply);
    close(fd);
}
END_TEST

START_TEST(test_limits_of_http1)
{
    ck_assert(
        exchange("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 200001\r\n\r\n", " 413 "));
    struct buf request;
    buf_init(&request, 1 << 20);
    buf_append_text(&request, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n");
    for (int i = 0; i < 100001; i++) {
        buf_append_byte(&request, 'a');
    }
    ck_assert_int_eq(buf_append_byte(&request, '\0'), ERR_OK);
    ck_assert(exchange((const char *)request.data, "has 100001 bytes, the limit is 100000"));
    buf_clear(&request);
    buf_append_text(&request, "GET /hello HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 100000; i++) {
        buf_append_byte(&request, 'a');
    }
    buf_append_text(&request, "\r\n\r\n");
    int fd = dial();
    struct buf reply;
    bool closed;
    buf_init(&reply, 65536);
    send_bytes(fd, request.data, request.size);
    receive(fd, &reply, NULL, 3000, &closed);
    ck_assert(closed);
    ck_assert_ptr_null(strstr(buf_text(&reply), "hello"));
    close(fd);
    buf_deinit(&reply);
    buf_deinit(&request);
    still_serves();
}
END_TEST

START_TEST(test_slow_clients_are_dropped)
{
    const char *const starts[] = {
        "", "G", "PRI * HT", "GET /hello HTTP/1.1\r\nHost: x\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        int fd = dial();
        struct buf reply;
        bool closed;
        buf_init(&reply, 65536);
        send_text(fd, starts[i]);
        receive(fd, &reply, NULL, 4000, &closed);
        ck_assert_msg(closed, "start %zu", i);
        buf_deinit(&reply);
        close(fd);
    }
    still_serves();
}
END_TEST

START_TEST(test_connections_are_bounded)
{
    int fds[30];
    size_t refused = 0;
    for (size_t i = 0; i < 30; i++) {
        fds[i] = dial();
    }
    for (size_t i = 0; i < 30; i++) {
        struct buf reply;
        bool closed;
        buf_init(&reply, 65536);
        send_text(fds[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        receive(fds[i], &reply, "hello world", 1000, &closed);
        refused += strstr(buf_text(&reply), "hello world") == NULL;
        buf_deinit(&reply);
    }
    ck_assert_uint_ge(refused, 10);
    for (size_t i = 0; i < 30; i++) {
        close(fds[i]);
    }
    clock_sleep_ms(100);
    still_serves();
}
END_TEST

/* ---- streaming ---- */

static bool is_done(void *argument)
{
    (void)argument;
    return atomic_load(&stream_done) == 1;
}

static void stream_and_leave(const void *request, size_t size)
{
    int fd = dial();
    struct buf reply;
    bool closed;
    buf_init(&reply, 1 << 20);
    send_bytes(fd, request, size);
    uint64_t end_ms = clock_mono_ms() + 5000;
    while (atomic_load(&full_seen) == 0 && clock_mono_ms() < end_ms) {
        clock_sleep_ms(5); /* we read nothing: the queue must fill and say so */
    }
    ck_assert_int_eq(atomic_load(&full_seen), 1);
    receive(fd, &reply, NULL, 300, &closed);
    ck_assert_uint_gt(reply.size, 100000);
    ck_assert(!closed);
    ck_assert_int_gt(atomic_load(&writable_seen), 0);
    buf_deinit(&reply);
    close(fd);
    ck_assert(test_wait(is_done, NULL, 5000));
    ck_assert_int_eq(atomic_load(&gone_seen), 1);
    ck_assert_int_eq(atomic_load(&gone_events), 1);
    still_serves();
}

START_TEST(test_http1_stream_backs_up_and_notices_the_end)
{
    const char *request = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";
    stream_and_leave(request, strlen(request));
}
END_TEST

static void frame(struct buf *out, uint8_t type, uint8_t flags, uint32_t stream_id,
                  const void *payload, size_t size)
{
    buf_append_byte(out, (uint8_t)(size >> 16));
    buf_append_byte(out, (uint8_t)(size >> 8));
    buf_append_byte(out, (uint8_t)size);
    buf_append_byte(out, type);
    buf_append_byte(out, flags);
    buf_append_u32be(out, stream_id);
    buf_append(out, payload, size);
}

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void hello2(struct buf *out)
{
    buf_append_text(out, preface);
    frame(out, 4, 0, 0, NULL, 0); /* SETTINGS */
}

/* HEADERS for path; the static table gives GET (2) or POST (3), http (6), and names authority (1) and path (4). */
static void headers2(struct buf *out, uint32_t stream_id, bool post, const char *path, bool end)
{
    uint8_t block[128] = {
        (uint8_t)(0x80 | (post ? 3 : 2)), 0x86, 0x01, 1, 'x', 0x04, (uint8_t)strlen(path)};
    for (size_t i = 0; path[i] != '\0'; i++) {
        block[7 + i] = (uint8_t)path[i];
    }
    frame(out, 1, (uint8_t)(4 | (end ? 1 : 0)), stream_id, block, 7 + strlen(path));
}

START_TEST(test_http2_stream_backs_up_and_notices_the_end)
{
    struct buf out;
    buf_init(&out, 65536);
    hello2(&out);
    uint8_t window[4] = {0x3f, 0, 0, 0};
    uint8_t settings[6] = {0, 4, 0x7f, 0xff, 0xff, 0xff};
    frame(&out, 4, 0, 0, settings, 6);
    frame(&out, 8, 0, 0, window, 4);
    headers2(&out, 1, false, "/stream", true);
    stream_and_leave(out.data, out.size);
    buf_deinit(&out);
}
END_TEST

START_TEST(test_http2_bodies)
{
    struct buf out;
    struct buf reply;
    bool closed;
    buf_init(&out, 1 << 20);
    buf_init(&reply, 1 << 20);
    hello2(&out);
    headers2(&out, 1, true, "/echo", false);
    frame(&out, 0, 1, 1, "body-of-one", 11);
    headers2(&out, 3, false, "/hello", true);
    headers2(&out, 5, true, "/echo", false);
    static const uint8_t big[16384];
    for (int i = 0; i < 7; i++) {
        frame(&out, 0, i == 6, 5, big, sizeof big);
    }
    headers2(&out, 7, false, "/hello?name=seven", true);
    int fd = dial();
    send_bytes(fd, out.data, out.size);
    receive(fd, &reply, "hello seven", 3000, &closed);
    ck_assert_ptr_nonnull(memmem(reply.data, reply.size, "body-of-one", 11));
    ck_assert_ptr_nonnull(memmem(reply.data, reply.size, "hello world", 11));
    ck_assert_ptr_nonnull(memmem(reply.data, reply.size, "hello seven", 11));
    close(fd);
    buf_deinit(&out);
    buf_deinit(&reply);
}
END_TEST

START_TEST(test_http2_rapid_reset_ends_the_connection)
{
    struct buf out;
    struct buf reply;
    bool closed;
    buf_init(&out, 1 << 20);
    buf_init(&reply, 1 << 20);
    hello2(&out);
    for (uint32_t i = 0; i < 400; i++) {
        uint8_t cancel[4] = {0, 0, 0, 8};
        headers2(&out, 1 + 2 * i, false, "/hello", true);
        frame(&out, 3, 0, 1 + 2 * i, cancel, 4);
    }
    int fd = dial();
    send_bytes(fd, out.data, out.size);
    receive(fd, &reply, NULL, 3000, &closed);
    ck_assert(closed);
    close(fd);
    buf_deinit(&out);
    buf_deinit(&reply);
    still_serves();
}
END_TEST

START_TEST(test_http2_half_requests_time_out)
{
    struct buf out;
    struct buf reply;
    bool closed;
    buf_init(&out, 65536);
    buf_init(&reply, 65536);
    hello2(&out);
    headers2(&out, 1, true, "/echo", false); /* the body never comes */
    int fd = dial();
    send_bytes(fd, out.data, out.size);
    receive(fd, &reply, NULL, 5000, &closed);
    ck_assert(closed); /* the stream was reset, then the connection was idle */
    close(fd);
    buf_deinit(&out);
    buf_deinit(&reply);
}
END_TEST

START_TEST(test_http2_malformed_frames)
{
    for (int round = 0; round < 300; round++) {
        struct buf out;
        buf_init(&out, 65536);
        buf_append_text(&out, preface);
        if (test_rand() % 4 != 0) {
            frame(&out, 4, 0, 0, NULL, 0);
        }
        for (uint64_t n = test_rand() % 6; n > 0; n--) {
            uint8_t junk[64];
            for (size_t i = 0; i < sizeof junk; i++) {
                junk[i] = (uint8_t)test_rand();
            }
            if (test_rand() % 3 == 0) {
                headers2(&out, (uint32_t)(test_rand() % 8), test_rand() % 2 == 0, "/echo",
                         test_rand() % 2 == 0);
            }
            frame(&out, (uint8_t)(test_rand() % 12), (uint8_t)test_rand(),
                  (uint32_t)(test_rand() % 8), junk, test_rand() % sizeof junk);
        }
        int fd = dial();
        send_bytes(fd, out.data, out.size);
        if (round % 10 == 0) {
            clock_sleep_ms(2);
        }
        close(fd);
        buf_deinit(&out);
    }
    clock_sleep_ms(100);
    still_serves();
}
END_TEST

START_TEST(test_answers_from_another_thread_and_after_the_client)
{
    int fd = dial();
    send_text(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    while (atomic_load(&held) == NULL) {
        clock_sleep_ms(1);
    }
    struct http_request *request = atomic_exchange(&held, NULL);
    ck_assert_int_eq(http_version(request), 1);
    ck_assert_str_eq(http_header(request, "host"), "x");
    ck_assert_int_eq(strncmp(http_peer(request), "127.0.0.1:", 10), 0);
    http_reply_error(request, 402, "payment", "no \"money\"\n");
    struct buf reply;
    bool closed;
    buf_init(&reply, 65536);
    receive(fd, &reply, "}}", 3000, &closed);
    ck_assert_ptr_nonnull(strstr(buf_text(&reply), "no \\\"money\\\"\\n"));
    buf_clear(&reply);
    send_text(fd, "GET /abort HTTP/1.1\r\nHost: x\r\n\r\n");
    receive(fd, &reply, NULL, 2000, &closed);
    ck_assert(closed);
    ck_assert_ptr_null(strstr(buf_text(&reply), "\r\n0\r\n")); /* not a whole answer */
    close(fd);
    buf_deinit(&reply);
    struct buf out;
    buf_init(&out, 65536);
    hello2(&out);
    headers2(&out, 1, false, "/hold", true);
    fd = dial();
    send_bytes(fd, out.data, out.size);
    while (atomic_load(&held) == NULL) {
        clock_sleep_ms(1);
    }
    request = atomic_exchange(&held, NULL);
    ck_assert_int_eq(http_version(request), 2);
    ck_assert(!http_gone(request));
    close(fd);
    for (int i = 0; i < 1000 && !http_gone(request); i++) {
        clock_sleep_ms(2);
    }
    ck_assert(http_gone(request));
    http_reply(request, 200, "text/plain", text("to no one"));
    buf_deinit(&out);
}
END_TEST

START_TEST(test_closing_with_a_request_held)
{
    int fd = dial();
    struct buf out;
    buf_init(&out, 65536);
    hello2(&out);
    headers2(&out, 1, false, "/hold", true);
    send_bytes(fd, out.data, out.size);
    while (atomic_load(&held) == NULL) {
        clock_sleep_ms(1);
    }
    http_close(server, 50);
    server = NULL;
    ck_assert(http_gone(held));
    http_reply(atomic_exchange(&held, NULL), 200, "text/plain", text("late"));
    close(fd);
    buf_deinit(&out);
    struct note note = {0};
    ck_assert_int_eq(http_open(&(struct http_options){.address = "nowhere"}, &server, &note),
                     ERR_INVALID);
    ck_assert_ptr_null(server);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *tests = tcase_create("server");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_http1);
    tcase_add_test(tests, test_limits_of_http1);
    tcase_add_test(tests, test_slow_clients_are_dropped);
    tcase_add_test(tests, test_connections_are_bounded);
    tcase_add_test(tests, test_http1_stream_backs_up_and_notices_the_end);
    tcase_add_test(tests, test_http2_stream_backs_up_and_notices_the_end);
    tcase_add_test(tests, test_http2_bodies);
    tcase_add_test(tests, test_http2_rapid_reset_ends_the_connection);
    tcase_add_test(tests, test_http2_half_requests_time_out);
    tcase_add_test(tests, test_http2_malformed_frames);
    tcase_add_test(tests, test_answers_from_another_thread_and_after_the_client);
    tcase_add_test(tests, test_closing_with_a_request_held);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
