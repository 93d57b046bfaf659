/* test_store.c - tables against a sorted model, walks both ways, transactions, limits, damaged files. */
#include "shared/store/store.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/crypto/sha256.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"

enum { TABLE_A, TABLE_B, TABLE_COUNT };
static const char *const TABLES[TABLE_COUNT] = {"a", "b"};
static struct note note;

static enum err try_open(uint64_t size_max, struct store **out)
{
    struct store_options options = {.folder = test_path("store"),
                                    .size_max = size_max,
                                    .tables = TABLES,
                                    .table_count = TABLE_COUNT};
    note.text[0] = '\0';
    return store_open(&options, out, &note);
}

static struct store *open_store(uint64_t size_max)
{
    struct store *store = NULL;
    ck_assert_msg(try_open(size_max, &store) == ERR_OK, "%s", note.text);
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

/* ---- damage ------------------------------------------------------------------------------------- */

enum { PAGE = 4096, FILE_MAX = 1 << 26 };

/* Puts and removes at random, in commits of many: branches, large values, pages freed and used again. */
static void churn(struct store *store, uint32_t commits)
{
    static uint8_t large[30000];
    for (uint32_t i = 0; i < commits; i++) {
        struct store_txn *txn = begin(store, STORE_WRITE);
        for (uint32_t k = 0; k < 300; k++) {
            struct store_key_u64 number = store_key_u64(test_rand() % 5000);
            struct bytes key = bytes_of(number.bytes, 8);
            size_t size = test_rand() % 40 == 0 ? 3000 + test_rand() % 27000 : test_rand() % 300;
            enum err err = test_rand() % 3 == 0
                               ? store_remove(txn, (uint32_t)(test_rand() % 2), key, &note)
                               : store_put(txn, (uint32_t)(test_rand() % 2), key,
                                           bytes_of(large, size), &note);
            ck_assert_msg(err == ERR_OK || err == ERR_NOT_FOUND, "%s", note.text);
        }
        ck_assert_msg(store_commit(txn, &note) == ERR_OK, "%s", note.text);
    }
}

/* Reads everything there is, then writes. Gives the hash of what there was. */
static struct digest use_all(struct store *store)
{
    enum err err = ERR_OK;
    struct digest contents;
    struct sha256 *hash = sha256_create();
    struct store_txn *txn = begin(store, STORE_WRITE);
    for (uint32_t table = 0; table < TABLE_COUNT && err == ERR_OK; table++) {
        struct store_cursor *cursor = NULL;
        struct bytes key;
        struct bytes value;
        err = store_cursor_open(txn, table, bytes_of(NULL, 0), false, &cursor, &note);
        while (err == ERR_OK) {
            err = store_cursor_next(cursor, &key, &value, &note);
            if (err == ERR_OK) {
                sha256_update(hash, key);
                sha256_update(hash, value);
            }
        }
        store_cursor_close(cursor);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    sha256_final(hash, &contents);
    sha256_destroy(hash);
    for (uint64_t i = 0; i < 300 && err == ERR_OK; i++) {
        struct store_key_u64 key = store_key_u64(test_rand() % 5000);
        err = i % 2 == 0
                  ? store_put(txn, TABLE_A, bytes_of(key.bytes, 8), bytes_of(key.bytes, 8), &note)
                  : store_remove(txn, TABLE_B, bytes_of(key.bytes, 8), &note);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    err = err ? err : store_commit(txn, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    return contents;
}

static void read_store(struct buf *out)
{
    buf_init(out, FILE_MAX);
    ck_assert_uint_eq(file_read(test_path("store/data.mdb"), out, &note), ERR_OK);
}

/* Is the store with these bytes refused? If not, it must have these contents, bear use and be sound then. */
static bool is_refused(struct bytes bytes, const struct digest *contents)
{
    struct store *store = NULL;
    ck_assert_uint_eq(file_write_quick(test_path("store/data.mdb"), bytes, 0644, &note), ERR_OK);
    enum err err = try_open(0, &store);
    ck_assert_msg(err == ERR_OK || (err == ERR_CORRUPT && note.text[0] != '\0'), "%s: %s",
                  err_name(err), note.text);
    if (err == ERR_OK) {
        struct digest found = use_all(store);
        ck_assert(digest_equal(&found, contents));
        store_close(store);
        store_close(open_store(0));
    }
    return err != ERR_OK;
}

START_TEST(test_sound_files_open)
{
    test_folder_make();
    for (uint32_t i = 0; i < 40; i++) {
        struct store *store = open_store(0);
        churn(store, 1 + i % 5);
        if (i % 8 == 7) {
            struct store_txn *txn = begin(store, STORE_WRITE);
            ck_assert_uint_eq(store_clear(txn, i % 16 == 7 ? TABLE_A : TABLE_B, &note), ERR_OK);
            ck_assert_uint_eq(store_commit(txn, &note), ERR_OK);
        }
        (void)use_all(store);
        store_close(store);
    }
    test_folder_remove();
}
END_TEST

START_TEST(test_damaged_pages_are_refused)
{
    uint32_t cut = 0;
    uint32_t zeroed = 0;
    uint32_t changed = 0;
    test_folder_make();
    struct store *store = open_store(0);
    churn(store, 12);
    store_close(store);
    struct buf file;
    read_store(&file);
    size_t pages = file.size / PAGE;
    ck_assert_uint_gt(pages, 200);
    store = open_store(0);
    struct digest contents = use_all(store);
    store_close(store);
    ck_assert(!is_refused(buf_bytes(&file), &contents));
    for (size_t page = 0; page < pages; page++) {
        uint8_t kept[PAGE];
        uint8_t *at = file.data + page * PAGE;
        cut +=
            is_refused(bytes_of(file.data, page * PAGE + 1 + test_rand() % (PAGE - 1)), &contents);
        memcpy(kept, at, PAGE);
        memset(at, 0, PAGE);
        zeroed += is_refused(buf_bytes(&file), &contents);
        memcpy(at, kept, PAGE);
        for (int i = 0; i < 4; i++) { /* most of a page's structure is at its beginning */
            at[test_rand() % (test_rand() % 2 == 0 ? 64 : PAGE)] ^=
                (uint8_t)(1U << (test_rand() % 8));
        }
        changed += is_refused(buf_bytes(&file), &contents);
        memcpy(at, kept, PAGE);
    }
    /* The rest is free, or behind a large value. */
    ck_assert_uint_gt(cut, pages * 9 / 10);
    ck_assert_uint_gt(zeroed, pages / 4);
    ck_assert_uint_gt(changed, pages / 4);
    buf_deinit(&file);
    test_folder_remove();
}
END_TEST

START_TEST(test_a_single_bit_is_found_or_means_nothing)
{
    enum { FLIPS = 1500 };
    uint32_t found = 0;
    test_folder_make();
    struct store *store = open_store(0);
    churn(store, 4);
    store_close(store);
    struct buf file;
    read_store(&file);
    store = open_store(0);
    struct digest contents = use_all(store);
    store_close(store);
    for (uint32_t i = 0; i < FLIPS; i++) {
        /* Half of them where pages say what they are: among the meta pages, and at a page's beginning. */
        size_t page = i % 8 == 0 ? test_rand() % 2 : test_rand() % (file.size / PAGE);
        size_t bit = 8 * PAGE * page + test_rand() % (i % 2 == 0 ? 8 * 160 : 8 * PAGE);
        file.data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        found += is_refused(buf_bytes(&file), &contents);
        file.data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    ck_assert_uint_gt(found, FLIPS / 4);
    buf_deinit(&file);
    test_folder_remove();
}
END_TEST

/* ---- damage that a bit by chance seldom makes --------------------------------------------------------- */

/* LMDB's layout, as check.c has it: a page's header, its newest meta, the heads in there, a leaf's nodes. */
enum {
    HEADER = 16,
    NODE = 8,
    META_FREE = 24,
    META_NAMES = 72,
    META_TXN = 128,
    PAIRS = 32,
    ROOT = 40
};

static uint64_t get(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, at, size);
    return value;
}

static uint8_t *newest_meta(const struct buf *file)
{
    uint8_t *first = file->data + HEADER;
    return get(first + META_TXN, 8) > get(first + PAGE + META_TXN, 8) ? first : first + PAGE;
}

/* Some transactions' work, and what it says. */
static struct digest worked_store(struct buf *file)
{
    test_folder_make();
    struct store *store = open_store(0);
    churn(store, 6);
    store_close(store);
    read_store(file);
    store = open_store(0);
    struct digest contents = use_all(store);
    store_close(store);
    ck_assert(!is_refused(buf_bytes(file), &contents));
    return contents;
}

START_TEST(test_a_tree_has_the_pairs_that_it_says)
{
    struct buf file;
    const struct digest contents = worked_store(&file);
    uint8_t *pairs = newest_meta(&file) + META_NAMES + PAIRS;
    ck_assert_uint_eq(*pairs, TABLE_COUNT);
    for (uint8_t says = 0; says < 5; says++) {
        *pairs = says;
        ck_assert_int_eq(is_refused(buf_bytes(&file), &contents), says != TABLE_COUNT);
    }
    buf_deinit(&file);
    test_folder_remove();
}
END_TEST

/* A key that leads to a page must not be above what is there: a search would miss it. */
START_TEST(test_a_branch_leads_to_its_keys)
{
    uint32_t found = 0;
    struct buf file;
    const struct digest contents = worked_store(&file);
    for (uint8_t *page = file.data + (size_t)2 * PAGE; page < file.data + file.size; page += PAGE) {
        if (get(page + 10, 2) != 1 || get(page, 8) != (uint64_t)(page - file.data) / PAGE) {
            continue; /* no branch */
        }
        uint8_t *node = page + get(page + HEADER + 2, 2);
        uint8_t *last = node + NODE + get(node + 6, 2) - 1;
        *last += 1;
        found += *last != 0 && is_refused(buf_bytes(&file), &contents);
        *last -= 1;
    }
    ck_assert_uint_gt(found, 0);
    buf_deinit(&file);
    test_folder_remove();
}
END_TEST

static void two_less(uint8_t *at)
{
    uint16_t number = (uint16_t)(get(at, 2) - 2);
    memcpy(at, &number, sizeof number);
}

/* A page's nodes lie one behind the other up to its end: a gap before them or behind them is not LMDB's work. */
START_TEST(test_nodes_fill_their_page)
{
    uint32_t before = 0;
    uint32_t behind = 0;
    struct buf file;
    const struct digest contents = worked_store(&file);
    for (uint8_t *page = file.data + (size_t)2 * PAGE; page < file.data + file.size; page += PAGE) {
        size_t lower = get(page + 12, 2);
        size_t upper = get(page + 14, 2);
        if (get(page, 8) != (uint64_t)(page - file.data) / PAGE || get(page + 10, 2) > 2 ||
            lower + 2 > upper || upper >= PAGE) {
            continue; /* no tree's, or full */
        }
        uint8_t kept[PAGE];
        memcpy(kept, page, PAGE);
        two_less(page + 14);
        before += is_refused(buf_bytes(&file), &contents);
        memmove(page + upper - 2, page + upper, PAGE - upper);
        for (size_t at = HEADER; at < lower; at += 2) {
            two_less(page + at);
        }
        behind += is_refused(buf_bytes(&file), &contents);
        memcpy(page, kept, PAGE);
    }
    ck_assert_uint_gt(before, 0); /* the others are free */
    ck_assert_uint_eq(behind, before);
    buf_deinit(&file);
    test_folder_remove();
}
END_TEST

/* No page is free twice, or free and in use; free ones are listed from the last to the first. */
START_TEST(test_free_pages_are_nobodys)
{
    struct buf file;
    const struct digest contents = worked_store(&file);
    uint8_t *page = file.data + PAGE * get(newest_meta(&file) + META_FREE + ROOT, 8);
    uint32_t lists = 0;
    ck_assert_uint_eq(get(page + 10, 2), 2); /* a leaf */
    for (size_t i = 0; i < (get(page + 12, 2) - HEADER) / 2; i++) {
        uint8_t *node = page + get(page + HEADER + 2 * i, 2);
        uint8_t *list = node + NODE + get(node + 6, 2);
        uint64_t count = get(list, 8);
        if (get(node + 4, 2) != 0 || count < 2) {
            continue; /* elsewhere, for it is long */
        }
        uint8_t kept[16];
        uint8_t *pair = list + 8 * (count - 1);
        memcpy(kept, pair, sizeof kept);
        memcpy(pair, kept + 8, 8);
        memcpy(pair + 8, kept, 8);
        ck_assert(is_refused(buf_bytes(&file), &contents));
        memcpy(pair, kept, sizeof kept);
        for (uint64_t other = 2; other < get(kept, 8); other += 1 + other / 8) {
            memcpy(pair + 8, &other, sizeof other);
            ck_assert_int_eq(is_refused(buf_bytes(&file), &contents), other != get(kept + 8, 8));
        }
        memcpy(pair, kept, sizeof kept);
        lists++;
    }
    ck_assert_uint_gt(lists, 0);
    buf_deinit(&file);
    test_folder_remove();
}
END_TEST

START_TEST(test_a_table_of_another_name_is_refused)
{
    static const char *const OTHER[1] = {"a"};
    struct store *store = NULL;
    struct store_options options = {
        .folder = test_path("store"), .tables = OTHER, .table_count = 1};
    test_folder_make();
    store_close(open_store(0));
    ck_assert_uint_eq(store_open(&options, &store, &note), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(note.text, "a name that is not ours"));
    test_folder_remove();
}
END_TEST

/* One process at a time: LMDB would let a second one in, whose look at the file a writer disturbs. */
START_TEST(test_a_second_process_is_refused)
{
    struct store *other = NULL;
    test_folder_make();
    struct store *store = open_store(0);
    ck_assert_uint_eq(try_open(0, &other), ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(note.text, "another process has the store open"));
    store_close(store);
    store_close(open_store(0));
    test_folder_remove();
}
END_TEST

/* Set aside, not deleted; sound ones and other errors are as with store_open(). */
START_TEST(test_open_anew)
{
    struct store *store = NULL;
    struct store_options options = {
        .folder = test_path("store"), .tables = TABLES, .table_count = TABLE_COUNT};
    struct buf before;
    struct buf aside;
    bool anew = true;
    char folder[FILE_PATH_SIZE];
    test_folder_make();
    ck_assert_uint_eq(file_path(folder, "%s", test_path("store")), ERR_OK);
    options.folder = folder;
    ck_assert_uint_eq(store_open_anew(&options, &store, &anew, &note), ERR_OK);
    ck_assert(!anew && !store_aside(folder));
    churn(store, 3);
    struct digest contents = use_all(store);
    ck_assert_uint_eq(store_open_anew(&options, &store, &anew, &note), ERR_CONFLICT);
    store_close(store);
    read_store(&before);
    buf_truncate(&before, before.size / 2);
    ck_assert_uint_eq(
        file_write_quick(test_path("store/data.mdb"), buf_bytes(&before), 0644, &note), ERR_OK);
    ck_assert_uint_eq(try_open(0, &store), ERR_CORRUPT);
    ck_assert(!store_aside(folder));
    ck_assert_uint_eq(store_open_anew(&options, &store, &anew, &note), ERR_OK);
    ck_assert(anew && store_aside(folder));
    ck_assert_msg(strstr(note.text, "set aside as ") != NULL &&
                      strstr(note.text, "/store/data.mdb.damaged: ") != NULL,
                  "%s", note.text);
    struct digest empty = use_all(store);
    ck_assert(!digest_equal(&empty, &contents));
    store_close(store);
    buf_init(&aside, FILE_MAX);
    ck_assert_uint_eq(file_read(test_path("store/data.mdb.damaged"), &aside, &note), ERR_OK);
    ck_assert(bytes_equal(buf_bytes(&aside), buf_bytes(&before)));
    ck_assert_uint_eq(store_open_anew(&options, &store, &anew, &note), ERR_OK);
    ck_assert(!anew && store_aside(folder));
    store_close(store);
    ck_assert_uint_eq(store_aside_remove(folder, &note), ERR_OK);
    ck_assert(!store_aside(folder));
    buf_deinit(&before);
    buf_deinit(&aside);
    test_folder_remove();
}
END_TEST

START_TEST(test_lock_file_of_another_time)
{
    uint8_t bytes[9000];
    test_folder_make();
    struct store *store = open_store(0);
    churn(store, 2);
    store_close(store);
    for (int i = 0; i < 30; i++) {
        for (size_t k = 0; k < sizeof bytes; k++) {
            bytes[k] = (uint8_t)test_rand();
        }
        ck_assert_uint_eq(file_write_quick(test_path("store/lock.mdb"),
                                           bytes_of(bytes, test_rand() % sizeof bytes), 0644,
                                           &note),
                          ERR_OK);
        store = open_store(0);
        (void)use_all(store);
        store_close(store);
    }
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
    tcase_add_test(rules, test_sound_files_open);
    tcase_add_test(rules, test_damaged_pages_are_refused);
    tcase_add_test(rules, test_a_single_bit_is_found_or_means_nothing);
    tcase_add_test(rules, test_a_tree_has_the_pairs_that_it_says);
    tcase_add_test(rules, test_a_branch_leads_to_its_keys);
    tcase_add_test(rules, test_nodes_fill_their_page);
    tcase_add_test(rules, test_free_pages_are_nobodys);
    tcase_add_test(rules, test_a_table_of_another_name_is_refused);
    tcase_add_test(rules, test_a_second_process_is_refused);
    tcase_add_test(rules, test_open_anew);
    tcase_add_test(rules, test_lock_file_of_another_time);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
