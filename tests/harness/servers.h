/* servers.h - real servers for integration tests: each on a free loopback port, in a private folder. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct test_server; /* one nats-server or redis-server process */

/* Starts nats-server with JetStream on file storage; waits until it answers. Aborts the test when it
 * cannot. Stopped and its folder removed by test_server_destroy(), or killed with the test. */
struct test_server *test_nats_start(void);
struct test_server *test_redis_start(void);

/* "nats://127.0.0.1:4222" or "127.0.0.1:6379". */
const char *test_server_address(const struct test_server *server);
uint16_t test_server_port(const struct test_server *server);
const char *
test_server_folder(const struct test_server *server); /* what test_server_wipe removes */

void test_server_stop(struct test_server *server);  /* SIGTERM; keeps folder and port */
void test_server_kill(struct test_server *server);  /* SIGKILL */
void test_server_start(struct test_server *server); /* again, same port, same folder */
void test_server_wipe(struct test_server *server);  /* while stopped: forget everything */
void test_server_destroy(struct test_server *server);

/* Waits up to timeout_ms for condition(argument); returns whether it came true. */
bool test_wait(bool (*condition)(void *argument), void *argument, uint64_t timeout_ms);
