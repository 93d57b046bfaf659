/* test_store.c - tables against a sorted model, walks both ways, transactions, limits. */
#include "shared/store/store.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/folder.h"

enum { TABLE_A, TABLE_B, TABLE_COUNT };
static const char *const TABLES[TABLE_COUNT] = {"a", "b"};
static struct note note;

static struct store *open_store(uint64_t size_max)
{
    struct store *store = NULL;
    struct store_options options = {.folder = test_path("store"),
                                    .size_max = size_max,
                                    .tables = TABLES,
                                    .table_count = TABLE_COUNT};
    ck_assert_msg(store_open(&options, &store, &note) == ERR_OK, "%s", note.text);
    return store;
}

static struct store_txn *begin(struct store *store, enum store_access access)
{
    struct store_txn *txn = NULL;
    ck_assert_msg(store_begin(store, access, &txn, &note) == ERR_OK, "%s", note.text);
    return txn;
}

static void put(struct store_txn *txn, uint64_t number)
{
    struct store_key_u64 key = store_key_u64(number);
    ck_assert_uint_eq(
        store_put(txn, TABLE_A, bytes_of(key.bytes, 8), bytes_of(&number, sizeof number), &note),
        ERR_OK);
}

/* Walks from `first` and compares with the sorted numbers [low, high), upwards or downwards. */
static void check_walk(struct store_txn *txn, struct bytes first, bool descending,
                       const uint64_t *numbers, size_t count)
{
    struct store_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    ck_assert_uint_eq(store_cursor_open(txn, TABLE_A, first, descending, &cursor, &note), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        uint64_t number = 0;
        ck_assert_uint_eq(store_cursor_next(cursor, &key, &value, &note), ERR_OK);
        ck_assert_uint_eq(store_key_u64_parse(key, &number), ERR_OK);
        ck_assert_uint_eq(number, descending ? numbers[count - 1 - i] : numbers[i]);
        ck_assert(bytes_equal(value, bytes_of(&number, sizeof number)));
    }
    ck_assert_uint_eq(store_cursor_next(cursor, &key, &value, &note), ERR_NOT_FOUND);
    ck_assert_uint_eq(store_cursor_next(cursor, &key, &value, &note), ERR_NOT_FOUND);
    store_cursor_close(cursor);
}

START_TEST(test_walks_match_a_sorted_model)
{
    enum { COUNT = 200 };
    test_folder_make();
    struct store *store = open_store(0);
    struct store_txn *txn = begin(store, STORE_WRITE);
    uint64_t numbers[COUNT];
    check_walk(txn, bytes_of(NULL, 0), false, NULL, 0);
    check_walk(txn, bytes_of(NULL, 0), true, NULL, 0);
    for (size_t i = 0; i < COUNT; i++) {
        numbers[i] = i * UINT64_C(0x0100000001000001) + 5;
    }
    for (size_t i = 0; i < COUNT; i++) {
        put(txn, numbers[i * 77 % COUNT]);
    }
    ck_assert_uint_eq(store_commit(txn, &note), ERR_OK);
    txn = begin(store, STORE_READ);
    uint64_t count = 0;
    ck_assert_uint_eq(store_count(txn, TABLE_A, &count, &note), ERR_OK);
    ck_assert_uint_eq(count, COUNT);
    check_walk(txn, bytes_of(NULL, 0), false, numbers, COUNT);
    check_walk(txn, bytes_of(NULL, 0), true, numbers, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        for (uint64_t off = 0; off < 3; off++) { /* just below, at, and just above a key */
            struct store_key_u64 key = store_key_u64(numbers[i] + off - 1);
            size_t from = off == 2 ? i + 1 : i;
            size_t to = off == 0 ? i : i + 1;
            check_walk(txn, bytes_of(key.bytes, 8), false, numbers + from, COUNT - from);
            check_walk(txn, bytes_of(key.bytes, 8), true, numbers, to);
        }
    }
    store_abort(txn);
    store_close(store);
    test_folder_remove();
}
END_TEST

START_TEST(test_transactions_and_limits)
{
    test_folder_make();
    struct store *store = open_store(1 << 20);
    struct store_txn *txn = begin(store, STORE_WRITE);
    struct bytes value = bytes_of_text("untouched");
    struct bytes key = bytes_of_text("key");
    char large[STORE_KEY_MAX + 1] = "";
    ck_assert_uint_eq(store_put(txn, TABLE_A, key, bytes_of_text("1"), &note), ERR_OK);
    ck_assert_uint_eq(store_get(txn, TABLE_B, key, &value, &note), ERR_NOT_FOUND);
    ck_assert(bytes_equal(value, bytes_of_text("untouched")));
    ck_assert_uint_eq(store_get(txn, TABLE_A, key, &value, &note), ERR_OK);
    ck_assert(bytes_equal(value, bytes_of_text("1")));
    ck_assert_uint_eq(store_put(txn, TABLE_A, bytes_of(NULL, 0), key, &note), ERR_INVALID);
    ck_assert_uint_eq(store_put(txn, TABLE_A, bytes_of(large, sizeof large), key, &note),
                      ERR_INVALID);
    ck_assert_uint_eq(
        store_put(txn, TABLE_A, bytes_of(large, STORE_KEY_MAX), bytes_of(NULL, 0), &note), ERR_OK);
    store_abort(txn);
    txn = begin(store, STORE_WRITE);
    ck_assert_uint_eq(store_get(txn, TABLE_A, key, &value, &note), ERR_NOT_FOUND); /* undone */
    ck_assert_uint_eq(store_put(txn, TABLE_A, key, bytes_of_text("2"), &note), ERR_OK);
    ck_assert_uint_eq(store_commit(txn, &note), ERR_OK);
    store_close(store);

    store = open_store(1 << 20);
    txn = begin(store, STORE_WRITE);
    ck_assert_uint_eq(store_get(txn, TABLE_A, key, &value, &note), ERR_OK);
    ck_assert(bytes_equal(value, bytes_of_text("2")));
    ck_assert_uint_eq(store_remove(txn, TABLE_A, key, &note), ERR_OK);
    ck_assert_uint_eq(store_remove(txn, TABLE_A, key, &note), ERR_NOT_FOUND);
    enum err err = ERR_OK; /* past its size: a clear refusal, and the store goes on */
    static uint8_t block[10000];
    for (uint32_t i = 0; i < 1000 && err == ERR_OK; i++) {
        err = store_put(txn, TABLE_B, bytes_of(&i, sizeof i), bytes_of(block, sizeof block), &note);
    }
    ck_assert_uint_eq(err, ERR_LIMIT);
    store_abort(txn);
    txn = begin(store, STORE_WRITE);
    ck_assert_uint_eq(store_clear(txn, TABLE_A, &note), ERR_OK);
    ck_assert_uint_eq(store_commit(txn, &note), ERR_OK);
    txn = begin(store, STORE_READ);
    ck_assert_uint_eq(store_get(txn, TABLE_A, key, &value, &note), ERR_NOT_FOUND);
    store_abort(txn);
    store_close(store);
    uint64_t number = 0;
    ck_assert_uint_eq(store_key_u64_parse(bytes_of_text("short"), &number), ERR_CORRUPT);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_walks_match_a_sorted_model);
    tcase_add_test(rules, test_transactions_and_limits);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
