/* servers.c - see servers.h. */
#include "tests/harness/servers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/process.h"

#define START_MS 10000

/* libh2o keeps some freed chunks per thread and does not free a destroyed queue. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:h2o_mem_alloc_recycle\nleak:h2o_multithread_create_queue\n";
}

struct test_server {
    bool redis;
    uint16_t port;
    char folder[FILE_PATH_SIZE];
    char data[FILE_PATH_SIZE]; /* what test_server_wipe removes */
    char address[64];
    struct process *process;
};

void test_server_start(struct test_server *server)
{
    CHECK(server->process == NULL);
    char port[16];
    char log[FILE_PATH_SIZE];
    (void)snprintf(port, sizeof port, "%u", (unsigned)server->port);
    CHECK(file_path(log, "%.4000s/log", server->folder) == ERR_OK);
    CHECK(file_make_folders(server->data, NULL) == ERR_OK);
    const char *const nats[] = {"nats-server", "-a",  "127.0.0.1",  "-p", port,
                                "-js",         "-sd", server->data, NULL};
    const char *const redis[] = {"redis-server", "--bind", "127.0.0.1",  "--port",
                                 port,           "--save", "",           "--appendonly",
                                 "no",           "--dir",  server->data, NULL};
    struct note note = {0};
    struct process_options options = {
        .argv = server->redis ? redis : nats, .log_path = log, .die_with_parent = true};
    if (process_start(&options, &server->process, &note) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", note.text);
        abort();
    }
    uint64_t end_ms = clock_mono_ms() + START_MS;
    while (!process_port_open(server->port)) {
        CHECK(clock_mono_ms() < end_ms);
        CHECK(process_running(server->process));
        clock_sleep_ms(10);
    }
}

static struct test_server *start(bool redis)
{
    struct test_server *server = calloc(1, sizeof *server);
    CHECK(server != NULL);
    server->redis = redis;
    CHECK(file_make_private_folder("/tmp/openledger-test-", server->folder, NULL) == ERR_OK);
    CHECK(file_path(server->data, "%.4000s/data", server->folder) == ERR_OK);
    CHECK(process_free_port(&server->port, NULL) == ERR_OK);
    (void)snprintf(server->address, sizeof server->address, "%s127.0.0.1:%u",
                   redis ? "" : "nats://", (unsigned)server->port);
    test_server_start(server);
    return server;
}

struct test_server *test_nats_start(void)
{
    return start(false);
}

struct test_server *test_redis_start(void)
{
    return start(true);
}

const char *test_server_address(const struct test_server *server)
{
    return server->address;
}

uint16_t test_server_port(const struct test_server *server)
{
    return server->port;
}

const char *test_server_folder(const struct test_server *server)
{
    return server->data;
}

void test_server_stop(struct test_server *server)
{
    process_stop(server->process, 5000);
    process_destroy(server->process);
    server->process = NULL;
}

void test_server_kill(struct test_server *server)
{
    process_destroy(server->process);
    server->process = NULL;
}

void test_server_wipe(struct test_server *server)
{
    CHECK(server->process == NULL);
    CHECK(file_remove_tree(server->data, NULL) == ERR_OK);
}

void test_server_destroy(struct test_server *server)
{
    if (server != NULL) {
        process_destroy(server->process);
        CHECK(file_remove_tree(server->folder, NULL) == ERR_OK);
        free(server);
    }
}

bool test_wait(bool (*condition)(void *argument), void *argument, uint64_t timeout_ms)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    bool holds = condition(argument);
    while (!holds && clock_mono_ms() < end_ms) {
        clock_sleep_ms(5);
        holds = condition(argument);
    }
    return holds;
}
