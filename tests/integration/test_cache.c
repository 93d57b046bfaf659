/* test_cache.c - the cache against a real redis-server, and without one. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cache/cache.h"
#include "shared/platform/clock.h"
#include "shared/platform/signals.h"
#include "tests/harness/servers.h"

static struct test_server *redis;
static struct cache *cache;

static struct bytes text(const char *words)
{
    return (struct bytes){.data = (const uint8_t *)words, .size = strlen(words)};
}

static void setup(void)
{
    signals_init();
    redis = test_redis_start();
    ck_assert_int_eq(
        cache_open(&(struct cache_options){.address = test_server_address(redis), .prefix = "t:"},
                   &cache),
        ERR_OK);
}

static void teardown(void)
{
    cache_close(cache);
    test_server_destroy(redis);
}

START_TEST(test_values)
{
    struct cache_value value = {0};
    ck_assert_int_eq(cache_get(cache, "a", &value), ERR_NOT_FOUND);
    ck_assert_int_eq(cache_set(cache, "a", (struct bytes){(const uint8_t *)"x\0y", 3}, 0), ERR_OK);
    ck_assert_int_eq(cache_get(cache, "a", &value), ERR_OK);
    ck_assert_uint_eq(value.size, 3);
    ck_assert_mem_eq(value.data, "x\0y", 4);
    cache_value_clear(&value);
    ck_assert_int_eq(cache_add(cache, "a", text("z"), 0), ERR_CONFLICT);
    ck_assert_int_eq(cache_del(cache, "a"), ERR_OK);
    ck_assert_int_eq(cache_add(cache, "a", text("z"), 50), ERR_OK);
    clock_sleep_ms(120);
    ck_assert_int_eq(cache_get(cache, "a", &value), ERR_NOT_FOUND);
    int64_t count = 0;
    ck_assert_int_eq(cache_incr(cache, "n", 5, 60, &count), ERR_OK);
    ck_assert_int_eq(cache_incr(cache, "n", -2, 60, &count), ERR_OK);
    ck_assert_int_eq(count, 3);
    clock_sleep_ms(120);
    ck_assert_int_eq(cache_incr(cache, "n", 1, 0, &count), ERR_OK);
    ck_assert_int_eq(count, 1); /* the window was over */
    char *key = calloc(1, CACHE_KEY_MAX + 2);
    memset(key, 'k', CACHE_KEY_MAX + 1);
    ck_assert_int_eq(cache_set(cache, key, text(""), 0), ERR_LIMIT);
    free(key);
    uint8_t *big = calloc(1, CACHE_VALUE_MAX + 1);
    ck_assert_int_eq(cache_set(cache, "b", (struct bytes){big, CACHE_VALUE_MAX + 1}, 0), ERR_LIMIT);
    ck_assert_int_eq(cache_set(cache, "b", (struct bytes){big, CACHE_VALUE_MAX}, 0), ERR_OK);
    free(big);
    ck_assert_int_eq(cache_hset(cache, "n", "f", text("v")), ERR_INVALID); /* a number, no hash */
}
END_TEST

START_TEST(test_hashes_and_scores)
{
    struct cache_list list = {0};
    ck_assert_int_eq(cache_hgetall(cache, "h", &list), ERR_OK);
    ck_assert_uint_eq(list.count, 0);
    cache_list_clear(&list);
    ck_assert_int_eq(cache_hset(cache, "h", "f", text("v")), ERR_OK);
    struct cache_value value = {0};
    ck_assert_int_eq(cache_hget(cache, "h", "f", &value), ERR_OK);
    ck_assert_str_eq(value.data, "v");
    cache_value_clear(&value);
    ck_assert_int_eq(cache_hget(cache, "h", "g", &value), ERR_NOT_FOUND);
    ck_assert_int_eq(cache_hgetall(cache, "h", &list), ERR_OK);
    ck_assert_uint_eq(list.count, 1);
    ck_assert_str_eq(list.items[0].name.data, "f");
    ck_assert_str_eq(list.items[0].value.data, "v");
    cache_list_clear(&list);
    ck_assert_int_eq(cache_zadd(cache, "z", "ann", 2.5), ERR_OK);
    ck_assert_int_eq(cache_zadd(cache, "z", "bob", 1), ERR_OK);
    ck_assert_int_eq(cache_zincr(cache, "z", "bob", 2), ERR_OK);
    ck_assert_int_eq(cache_ztop(cache, "z", 1, &list), ERR_OK);
    ck_assert_uint_eq(list.count, 1);
    ck_assert_str_eq(list.items[0].name.data, "bob");
    ck_assert_double_eq(list.items[0].score, 3);
    cache_list_clear(&list);
}
END_TEST

START_TEST(test_pipeline)
{
    char key[16];
    cache_pipeline_begin(cache);
    for (int i = 0; i < CACHE_PIPELINE_MAX; i++) {
        (void)snprintf(key, sizeof key, "p%d", i);
        ck_assert_int_eq(cache_set(cache, key, text("v"), 0), ERR_OK);
    }
    ck_assert_int_eq(cache_set(cache, "more", text("v"), 0), ERR_LIMIT);
    ck_assert_int_eq(cache_pipeline_end(cache), ERR_OK);
    struct cache_value value = {0};
    ck_assert_int_eq(cache_get(cache, key, &value), ERR_OK);
    cache_value_clear(&value);
    ck_assert_int_eq(cache_get(cache, "more", &value), ERR_NOT_FOUND);
}
END_TEST

START_TEST(test_away_is_said_quickly_and_heals)
{
    ck_assert_int_eq(cache_set(cache, "a", text("v"), 0), ERR_OK);
    test_server_kill(redis);
    uint64_t start_ms = clock_mono_ms();
    struct cache_value value = {0};
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(cache_get(cache, "a", &value), ERR_UNAVAILABLE);
        ck_assert_int_eq(cache_set(cache, "a", text("v"), 0), ERR_UNAVAILABLE);
    }
    cache_pipeline_begin(cache);
    ck_assert_int_eq(cache_set(cache, "a", text("v"), 0), ERR_OK);
    ck_assert_int_eq(cache_pipeline_end(cache), ERR_UNAVAILABLE);
    ck_assert_uint_lt(clock_mono_ms() - start_ms, 1000);
    ck_assert(!cache_connected(cache));
    test_server_start(redis);
    enum err err = ERR_UNAVAILABLE;
    for (int i = 0; i < 200 && err != ERR_OK; i++) {
        clock_sleep_ms(50);
        err = cache_set(cache, "a", text("v"), 0);
    }
    ck_assert_int_eq(err, ERR_OK);
    ck_assert(cache_connected(cache));
}
END_TEST

START_TEST(test_addresses)
{
    struct cache *none = NULL;
    ck_assert_int_eq(cache_open(&(struct cache_options){.address = ""}, &none), ERR_OK);
    struct cache_value value = {0};
    ck_assert_int_eq(cache_get(none, "a", &value), ERR_UNAVAILABLE);
    cache_close(none);
    const char *const bad[] = {"localhost", ":1", "host:", "host:0", "host:65536", "host:1x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(cache_open(&(struct cache_options){.address = bad[i]}, &none),
                         ERR_INVALID);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cache");
    TCase *tests = tcase_create("redis");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_values);
    tcase_add_test(tests, test_hashes_and_scores);
    tcase_add_test(tests, test_pipeline);
    tcase_add_test(tests, test_away_is_said_quickly_and_heals);
    tcase_add_test(tests, test_addresses);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
