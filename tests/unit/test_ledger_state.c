/* test_ledger_state.c - the trie against its definition, under random changes and chosen keys. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/ledger/memory.h"
#include "shared/ledger/state.h"
#include "shared/ledger/table.h"
#include "shared/ledger/trie.h"
#include "shared/platform/pool.h"
#include "tests/harness/seed.h"

enum { KEYS = 300, PROBES = 600, ROUNDS = 400, MANY = 20000 };

/* ---- the trie with keys that no hash would give ------------------------------------------------ */

static int by_key(const void *a, const void *b)
{
    return digest_compare(&(*(struct leaf *const *)a)->key, &(*(struct leaf *const *)b)->key);
}

static void root_slow(struct leaf **leaves, size_t count, /* NOLINT(misc-no-recursion) */
                      struct digest *out)
{
    if (count == 1) {
        trie_leaf_hash(leaves[0], out);
        return;
    }
    uint16_t bit = 0;
    while (trie_bit(&leaves[0]->key, bit) == trie_bit(&leaves[count - 1]->key, bit)) {
        bit++;
    }
    size_t split = 0;
    while (trie_bit(&leaves[split]->key, bit) == 0) {
        split++;
    }
    struct digest left;
    struct digest right;
    root_slow(leaves, split, &left);
    root_slow(leaves + split, count - split, &right);
    state_branch_hash(bit, &left, &right, out);
}

/* Keys that agree in their first 0, 7, 8, 60, 64, 100 or 255 bits with a common one. */
static struct digest chosen_key(void)
{
    static const uint16_t AGREE[] = {0, 7, 8, 60, 63, 64, 65, 100, 200, 255};
    struct digest key = {{0}};
    memset(key.bytes, 0xa5, sizeof key.bytes);
    uint16_t bit = AGREE[test_rand() % (sizeof AGREE / sizeof AGREE[0])];
    key.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
    for (uint16_t i = (uint16_t)(bit + 1); i < 256; i += 17) {
        if (test_rand() % 8 == 0) {
            key.bytes[i / 8] ^= (uint8_t)(0x80 >> i % 8);
        }
    }
    return key;
}

START_TEST(keys_with_long_common_beginnings)
{
    struct memory *memory = memory_create();
    struct trie trie = {.parallel = &parallel_serial, .memory = memory};
    struct leaf *live[KEYS] = {NULL};
    size_t count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint64_t k = test_rand() % 8; k > 0; k--) {
            struct digest key = chosen_key();
            size_t at = 0;
            while (at < count && !digest_equal(&live[at]->key, &key)) {
                at++;
            }
            if (at < count && test_rand() % 3 == 0) {
                struct state_tx *tx = (struct state_tx *)(void *)live[at]->record;
                tx->valid_until_ms++;
                trie_change(&trie, live[at]);
            } else if (at < count) {
                live[at]->dead = true;
                trie_change(&trie, live[at]);
                live[at] = live[--count];
            } else if (count < KEYS) {
                struct leaf *leaf = trie_leaf_create(&trie, STATE_TX);
                *leaf = (struct leaf){.kind = STATE_TX, .key = key};
                memset(leaf->record, 0, sizeof(struct state_tx));
                live[count++] = leaf;
                trie_change(&trie, leaf);
            }
        }
        struct digest fast;
        struct digest slow = {{0}};
        trie_root(&trie, &fast);
        struct leaf *sorted[KEYS];
        memcpy(sorted, live, sizeof sorted);
        qsort(sorted, count, sizeof(struct leaf *), by_key);
        if (count > 0) {
            root_slow(sorted, count, &slow);
        }
        ck_assert(digest_equal(&fast, &slow));
    }
    ck_assert_uint_gt(count, 20);
    trie_deinit(&trie);
    memory_destroy(memory);
}
END_TEST

/* ---- the state: commits, rollbacks, threads ----------------------------------------------------- */

static struct state_tx tx_of(uint64_t number)
{
    struct state_tx tx = {.valid_until_ms = 1};
    memcpy(tx.id.bytes, &number, sizeof number);
    return tx;
}

static void change_some(struct state *state, uint64_t keys, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct state_tx probe = tx_of(test_rand() % keys);
        const struct state_tx *found = state_get(state, STATE_TX, &probe);
        if (found == NULL) {
            (void)state_add(state, STATE_TX, &probe);
        } else if (test_rand() % 2 == 0) {
            ((struct state_tx *)state_edit(state, found))->valid_until_ms++;
        }
    }
}

/* Removes some records that this entry has not touched. */
static void remove_some(struct state *state, uint64_t keys, uint64_t count)
{
    state_commit(state);
    uint64_t from = test_rand() % keys;
    for (uint64_t i = from; i < from + count && i < keys; i++) {
        struct state_tx probe = tx_of(i);
        const struct state_tx *found = state_get(state, STATE_TX, &probe);
        if (found != NULL) {
            state_remove(state, found);
        }
    }
}

START_TEST(roots_under_random_changes)
{
    struct state *state = state_create();
    struct digest fast;
    struct digest slow;
    struct digest before;
    for (int round = 0; round < ROUNDS; round++) {
        change_some(state, KEYS, test_rand() % 40);
        if (test_rand() % 2 == 0) {
            remove_some(state, KEYS, test_rand() % 20);
        }
        state_commit(state);
        if (test_rand() % 3 == 0) {
            continue; /* several commits under one root */
        }
        state_root(state, &before);
        change_some(state, KEYS, 30);
        state_rollback(state);
        state_root(state, &fast);
        state_root_slow(state, &slow);
        ck_assert(digest_equal(&fast, &slow));
        ck_assert(digest_equal(&fast, &before));
    }
    state_destroy(state);
}
END_TEST

START_TEST(many_records_on_many_threads)
{
    struct pool *pool = pool_create(3);
    struct state *state = state_create();
    ck_assert_ptr_nonnull(pool);
    state_parallel(state, pool_parallel(pool));
    struct digest fast;
    struct digest slow;
    for (int round = 0; round < 5; round++) {
        change_some(state, MANY, MANY / 2);
        state_commit(state);
        remove_some(state, MANY, 2000);
        state_commit(state);
        state_root(state, &fast);
        state_root_slow(state, &slow);
        ck_assert(digest_equal(&fast, &slow));
    }
    state_destroy(state);
    pool_destroy(pool);
}
END_TEST

/* A path hashes up to the root; for a key that is not there it ends in another leaf. */
START_TEST(paths_lead_to_the_root)
{
    struct state *state = state_create();
    struct state_path *path = calloc(1, sizeof *path);
    ck_assert_ptr_nonnull(path);
    struct digest root;
    struct buf record;
    buf_init(&record, 4096);
    ck_assert_int_eq(state_path(state, &(struct digest){{0}}, path, &record), ERR_NOT_FOUND);
    change_some(state, KEYS, KEYS);
    state_commit(state);
    state_root(state, &root);
    for (uint64_t i = 0; i < PROBES; i++) {
        struct state_tx probe = tx_of(i);
        struct digest key;
        struct digest hash;
        state_key(STATE_TX, &probe, &key);
        buf_clear(&record);
        ck_assert_int_eq(state_path(state, &key, path, &record), ERR_OK);
        ck_assert_int_eq(digest_equal(&path->leaf_key, &key), state_get_key(state, &key) != NULL);
        state_leaf_hash(&path->leaf_key, buf_bytes(&record), &hash);
        for (uint32_t k = path->count; k > 0; k--) {
            const struct state_step *step = &path->steps[k - 1];
            unsigned side = trie_bit(&key, step->bit);
            ck_assert_uint_eq(side, trie_bit(&path->leaf_key, step->bit));
            state_branch_hash(step->bit, side == 0 ? &hash : &step->sibling,
                              side == 0 ? &step->sibling : &hash, &hash);
        }
        ck_assert(digest_equal(&hash, &root));
    }
    buf_deinit(&record);
    free(path);
    state_destroy(state);
}
END_TEST

/* ---- the table ---------------------------------------------------------------------------------- */

static const struct digest *itself(const void *item)
{
    return item;
}

START_TEST(table_with_equal_heads)
{
    struct table *table = calloc(1, sizeof *table);
    ck_assert_ptr_nonnull(table);
    table->key_of = itself;
    table->memory = memory_create();
    static struct digest keys[256];
    for (size_t i = 0; i < 256; i++) { /* all in one segment, many with the same first 8 bytes */
        keys[i].bytes[6] = (uint8_t)(i % 4);
        keys[i].bytes[31] = (uint8_t)i;
        table_put(table, &keys[i]);
    }
    for (size_t i = 0; i < 256; i += 3) {
        table_remove(table, &keys[i]);
    }
    for (size_t i = 0; i < 256; i++) {
        ck_assert_ptr_eq(table_get(table, &keys[i]), i % 3 == 0 ? NULL : &keys[i]);
    }
    memory_destroy(table->memory);
    free(table);
}
END_TEST

/* ---- the memory --------------------------------------------------------------------------------- */

START_TEST(blocks_do_not_overlap)
{
    enum { BLOCKS = 500 };
    static struct {
        uint8_t *start;
        size_t size;
    } blocks[BLOCKS];
    struct memory *memory = memory_create();
    for (size_t round = 0; round < 20000; round++) {
        size_t at = test_rand() % BLOCKS;
        uint8_t mark = (uint8_t)at;
        if (blocks[at].start == NULL) {
            size_t size = (size_t)MEMORY_BLOCK_MIN << test_rand() % 10;
            blocks[at].size = round % 1000 == 0 ? (size_t)4 << 20 : size; /* more than a region */
            blocks[at].start = memory_take(memory, blocks[at].size);
            size_t aligned = blocks[at].size < 2 << 20 ? blocks[at].size : 2 << 20;
            ck_assert_uint_eq((uintptr_t)blocks[at].start % aligned, 0);
            memset(blocks[at].start, mark, blocks[at].size);
        } else {
            for (size_t i = 0; i < blocks[at].size; i += 64) {
                ck_assert_uint_eq(blocks[at].start[i], mark);
            }
            ck_assert_uint_eq(blocks[at].start[blocks[at].size - 1], mark);
            memory_give(memory, blocks[at].start, blocks[at].size);
            blocks[at].start = NULL;
        }
    }
    memory_destroy(memory);
}
END_TEST

START_TEST(slab_items_do_not_overlap)
{
    enum { ITEMS = 5000 };
    static uint8_t *items[ITEMS];
    static const size_t SIZES[] = {8, 64, 100, 4000};
    for (size_t s = 0; s < sizeof SIZES / sizeof SIZES[0]; s++) {
        struct memory *memory = memory_create();
        struct slab slab = {.block = 0};
        memset(items, 0, sizeof items);
        size_t lines = 0;
        for (size_t round = 0; round < (size_t)4 * ITEMS; round++) {
            size_t at = test_rand() % ITEMS;
            uint8_t mark = (uint8_t)at;
            if (items[at] == NULL) {
                items[at] = slab_take(&slab, memory, SIZES[s]);
                lines += (uintptr_t)items[at] % 64 != 0;
                memset(items[at], mark, SIZES[s]);
            } else {
                ck_assert_uint_eq(items[at][0], mark);
                ck_assert_uint_eq(items[at][SIZES[s] - 1], mark);
                slab_give(&slab, items[at], SIZES[s]);
                items[at] = NULL;
            }
        }
        ck_assert_uint_eq(lines, 0); /* each begins on a cache line */
        memory_destroy(memory);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("state");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, keys_with_long_common_beginnings);
    tcase_add_test(tcase, roots_under_random_changes);
    tcase_add_test(tcase, many_records_on_many_threads);
    tcase_add_test(tcase, paths_lead_to_the_root);
    tcase_add_test(tcase, table_with_equal_heads);
    tcase_add_test(tcase, blocks_do_not_overlap);
    tcase_add_test(tcase, slab_items_do_not_overlap);
    Suite *suite = suite_create("ledger state");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
