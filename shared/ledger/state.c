/* state.c - see state.h: finding records, undo, roots, snapshots. */
#include "shared/ledger/state.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/records.h"
#include "shared/ledger/table.h"
#include "shared/ledger/trie.h"

enum undo_type { UNDO_ADDED, UNDO_EDITED, UNDO_REMOVED };

struct undo {
    enum undo_type type;
    struct leaf *leaf;
    size_t saved; /* UNDO_EDITED: where in saved[] the record as it was begins */
};

struct state {
    struct memory *memory; /* of table and trie: the records themselves, too */
    struct table table;
    struct trie trie;
    struct leaf *first[STATE_KIND_END];
    struct leaf *last[STATE_KIND_END];
    struct undo *undo;
    size_t undo_count, undo_capacity;
    uint8_t *saved;
    size_t saved_size, saved_capacity;
    uint64_t tick; /* counts commits and rollbacks */
};

static struct leaf *leaf_of(const void *record)
{
    CHECK(record != NULL);
    union {
        const uint8_t *in;
        uint8_t *out;
    } at = {.in = (const uint8_t *)record - offsetof(struct leaf, record)};
    return (struct leaf *)(void *)at.out;
}

static const struct digest *leaf_key(const void *item)
{
    return &((const struct leaf *)item)->key;
}

void state_keys(enum state_kind kind, const void *probes, size_t stride, size_t count,
                struct digest *out_keys)
{
    enum { SIDE_BY_SIDE = 16, FIELDS_MAX = 256 };
    const uint8_t prefix = (uint8_t)kind;
    uint8_t fields[SIDE_BY_SIDE][FIELDS_MAX];
    struct bytes messages[SIDE_BY_SIDE];
    for (size_t done = 0; done < count; done += SIDE_BY_SIDE) {
        size_t some = count - done < SIDE_BY_SIDE ? count - done : SIDE_BY_SIDE;
        for (size_t i = 0; i < some; i++) {
            struct record_encoder encoder;
            encoder.size = 0;
            record_encode(kind, true, (const uint8_t *)probes + (done + i) * stride, &encoder);
            CHECK(encoder.size <= FIELDS_MAX);
            memcpy(fields[i], encoder.data, encoder.size);
            messages[i] = bytes_of(fields[i], encoder.size);
        }
        sha256_many(bytes_of(&prefix, 1), messages, some, out_keys + done);
    }
}

void state_key(enum state_kind kind, const void *probe, struct digest *out_key)
{
    state_keys(kind, probe, 0, 1, out_key);
}

struct state *state_create(void)
{
    struct state *state = calloc(1, sizeof *state);
    CHECK(state != NULL);
    state->tick = 1;
    state->memory = memory_create();
    state->table.key_of = leaf_key;
    state->table.memory = state->memory;
    state->trie.memory = state->memory;
    state->trie.parallel = &parallel_serial;
    return state;
}

const struct parallel *state_parallel(struct state *state, const struct parallel *parallel)
{
    const struct parallel *before = state->trie.parallel;
    state->trie.parallel = parallel;
    return before;
}

void state_destroy(struct state *state)
{
    if (state == NULL) {
        return;
    }
    trie_deinit(&state->trie);
    memory_destroy(state->memory);
    free(state->undo);
    free(state->saved);
    free(state);
}

const void *state_get(const struct state *state, enum state_kind kind, const void *probe)
{
    struct digest key;
    state_key(kind, probe, &key);
    const struct leaf *leaf = table_get(&state->table, &key);
    return leaf == NULL ? NULL : leaf->record;
}

void state_prefetch(const struct state *state, const struct digest *key)
{
    table_prefetch(&state->table, key);
}

void state_prefetch_record(const struct state *state, enum state_kind kind,
                           const struct digest *key)
{
    const void *leaf = table_likely(&state->table, key);
    if (leaf != NULL) {
        trie_fetch(leaf, sizeof(struct leaf) + record_size(kind));
    }
}

const void *state_get_key(const struct state *state, const struct digest *key)
{
    const struct leaf *leaf = table_get(&state->table, key);
    return leaf == NULL ? NULL : leaf->record;
}

const void *state_next(const struct state *state, enum state_kind kind, const void *previous)
{
    const struct leaf *leaf = previous == NULL ? state->first[kind] : leaf_of(previous)->next;
    return leaf == NULL ? NULL : leaf->record;
}

/* Takes a leaf out of table and list; it still exists. */
static void leaf_unlink(struct state *state, struct leaf *leaf)
{
    table_remove(&state->table, leaf);
    *(leaf->previous == NULL ? &state->first[leaf->kind] : &leaf->previous->next) = leaf->next;
    *(leaf->next == NULL ? &state->last[leaf->kind] : &leaf->next->previous) = leaf->previous;
}

/* ---- change and undo --------------------------------------------------------------------------- */

static void undo_push(struct state *state, enum undo_type type, struct leaf *leaf)
{
    if (state->undo_count == state->undo_capacity) {
        state->undo_capacity = state->undo_capacity == 0 ? 64 : 2 * state->undo_capacity;
        state->undo = realloc(state->undo, state->undo_capacity * sizeof *state->undo);
        CHECK(state->undo != NULL);
    }
    state->undo[state->undo_count++] = (struct undo){type, leaf, state->saved_size};
}

static void undo_save(struct state *state, const struct leaf *leaf)
{
    size_t size = record_size((enum state_kind)leaf->kind);
    if (state->saved_capacity - state->saved_size < size) {
        state->saved_capacity = 2 * state->saved_capacity + RECORD_ENCODED_MAX;
        state->saved = realloc(state->saved, state->saved_capacity);
        CHECK(state->saved != NULL);
    }
    memcpy(state->saved + state->saved_size, leaf->record, size);
    state->saved_size += size;
}

void *state_add(struct state *state, enum state_kind kind, const void *record)
{
    size_t size = record_size(kind);
    struct leaf *leaf = trie_leaf_create(&state->trie, kind);
    *leaf = (struct leaf){.kind = (uint8_t)kind, .saved_tick = state->tick};
    memcpy(leaf->record, record, size);
    state_key(kind, record, &leaf->key);
    table_put(&state->table, leaf);
    leaf->previous = state->last[kind];
    *(leaf->previous == NULL ? &state->first[kind] : &leaf->previous->next) = leaf;
    state->last[kind] = leaf;
    undo_push(state, UNDO_ADDED, leaf);
    return leaf->record;
}

void *state_edit(struct state *state, const void *record)
{
    struct leaf *leaf = leaf_of(record);
    CHECK(!leaf->dead);
    if (leaf->saved_tick != state->tick) {
        undo_push(state, UNDO_EDITED, leaf);
        undo_save(state, leaf);
        leaf->saved_tick = state->tick;
    }
    return leaf->record;
}

void state_remove(struct state *state, const void *record)
{
    struct leaf *leaf = leaf_of(record);
    CHECK(!leaf->dead);
    CHECK(leaf->saved_tick != state->tick);
    leaf->dead = true;
    undo_push(state, UNDO_REMOVED, leaf);
}

static void undo_clear(struct state *state)
{
    state->undo_count = 0;
    state->saved_size = 0;
    state->tick++;
}

void state_commit(struct state *state)
{
    for (size_t i = 0; i < state->undo_count; i++) {
        struct leaf *leaf = state->undo[i].leaf;
        if (state->undo[i].type == UNDO_REMOVED) {
            leaf_unlink(state, leaf);
        }
        trie_change(&state->trie, leaf);
    }
    undo_clear(state);
}

void state_rollback(struct state *state)
{
    while (state->undo_count > 0) {
        struct undo *undo = &state->undo[--state->undo_count];
        struct leaf *leaf = undo->leaf;
        switch (undo->type) {
        case UNDO_ADDED:
            leaf_unlink(state, leaf);
            trie_leaf_free(&state->trie, leaf);
            break;
        case UNDO_EDITED:
            memcpy(leaf->record, state->saved + undo->saved,
                   record_size((enum state_kind)leaf->kind));
            break;
        case UNDO_REMOVED:
            leaf->dead = false;
            break;
        }
    }
    undo_clear(state);
}

/* ---- roots ------------------------------------------------------------------------------------- */

void state_root(struct state *state, struct digest *out_root)
{
    CHECK(state->undo_count == 0);
    trie_root(&state->trie, out_root);
}

void state_leaf_hash(const struct digest *key, struct bytes fields, struct digest *out_hash)
{
    static const uint8_t PREFIX = STATE_LEAF_PREFIX;
    const struct bytes parts[3] = {bytes_of(&PREFIX, 1), digest_bytes(key), fields};
    sha256_parts(parts, 3, out_hash);
}

void state_branch_hash(uint16_t bit, const struct digest *left, const struct digest *right,
                       struct digest *out_hash)
{
    uint8_t data[3 + 2 * DIGEST_SIZE] = {STATE_BRANCH_PREFIX, (uint8_t)(bit >> 8), (uint8_t)bit};
    memcpy(data + 3, left->bytes, DIGEST_SIZE);
    memcpy(data + 3 + DIGEST_SIZE, right->bytes, DIGEST_SIZE);
    sha256(bytes_of(data, sizeof data), out_hash);
}

enum err state_path(struct state *state, const struct digest *key, struct state_path *out_path,
                    struct buf *out_record)
{
    struct digest root;
    struct record_encoder encoder;
    state_root(state, &root); /* so that every hash is that of now */
    const struct leaf *leaf = trie_path(&state->trie, key, out_path);
    if (leaf == NULL) {
        return ERR_NOT_FOUND;
    }
    out_path->leaf_key = leaf->key;
    encoder.size = 0;
    record_encode((enum state_kind)leaf->kind, false, leaf->record, &encoder);
    return buf_append(out_record, encoder.data, encoder.size);
}

static int leaf_order(const void *a, const void *b)
{
    const struct leaf *const *left = a;
    const struct leaf *const *right = b;
    return digest_compare(&(*left)->key, &(*right)->key);
}

/* The trie's definition, from sorted leaves: no cache, no pointers of the real one. */
static void slow_root(struct leaf *const *leaves, size_t count, /* NOLINT(misc-no-recursion) */
                      struct digest *out)
{
    if (count == 1) {
        trie_leaf_hash(leaves[0], out);
        return;
    }
    uint16_t bit = 0; /* sorted: the first and last leaf differ first where any two do */
    while (trie_bit(&leaves[0]->key, bit) == trie_bit(&leaves[count - 1]->key, bit)) {
        bit++;
    }
    size_t split = 0;
    while (trie_bit(&leaves[split]->key, bit) == 0) {
        split++;
    }
    struct digest left;
    struct digest right;
    slow_root(leaves, split, &left);
    slow_root(leaves + split, count - split, &right);
    state_branch_hash(bit, &left, &right, out);
}

void state_root_slow(const struct state *state, struct digest *out_root)
{
    CHECK(state->undo_count == 0);
    size_t count = 0;
    for (int kind = 1; kind < STATE_KIND_END; kind++) {
        for (struct leaf *leaf = state->first[kind]; leaf != NULL; leaf = leaf->next) {
            count++;
        }
    }
    *out_root = (struct digest){{0}};
    if (count == 0) {
        return;
    }
    struct leaf **leaves = calloc(count, sizeof(struct leaf *));
    CHECK(leaves != NULL);
    count = 0;
    for (int kind = 1; kind < STATE_KIND_END; kind++) {
        for (struct leaf *leaf = state->first[kind]; leaf != NULL; leaf = leaf->next) {
            leaves[count++] = leaf;
        }
    }
    qsort(leaves, count, sizeof(struct leaf *), leaf_order);
    slow_root(leaves, count, out_root);
    free(leaves);
}

/* ---- snapshots --------------------------------------------------------------------------------- */

enum err state_encode(const struct state *state, struct buf *out)
{
    CHECK(state->undo_count == 0);
    struct record_encoder encoder;
    for (int kind = 1; kind < STATE_KIND_END; kind++) {
        for (struct leaf *leaf = state->first[kind]; leaf != NULL; leaf = leaf->next) {
            encoder.size = 0;
            record_put_number(&encoder, (uint64_t)kind, 1);
            record_encode((enum state_kind)kind, false, leaf->record, &encoder);
            buf_append(out, encoder.data, encoder.size);
        }
    }
    return buf_err(out);
}

enum err state_decode(struct state *state, struct bytes data)
{
    CHECK(state->first[STATE_PARAMETERS] == NULL);
    while (data.size > 0) {
        uint8_t kind;
        if (bytes_take_u8(&data, &kind) != ERR_OK || kind == 0 || kind >= STATE_KIND_END) {
            return ERR_CORRUPT;
        }
        _Alignas(max_align_t) uint8_t record[RECORD_ENCODED_MAX] = {0};
        CHECK(record_size((enum state_kind)kind) <= sizeof record);
        if (record_decode((enum state_kind)kind, &data, record) != ERR_OK) {
            return ERR_CORRUPT;
        }
        if (state_get(state, (enum state_kind)kind, record) != NULL) {
            return ERR_CORRUPT;
        }
        (void)state_add(state, (enum state_kind)kind, record);
    }
    state_commit(state);
    return ERR_OK;
}
