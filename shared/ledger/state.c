/* state.c - see state.h: trie, undo, roots, snapshots. */
#include "shared/ledger/state.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/records.h"

/* ---- trie -------------------------------------------------------------------------------------- */

struct node { /* what leaf and branch have in common */
    struct digest hash;
    bool is_leaf;
    bool stale; /* hash must be computed again */
};

struct leaf {
    struct node node;
    uint8_t kind;
    bool dead;           /* removed at the next commit */
    uint64_t saved_tick; /* the entry in which it was added or saved for undo */
    struct digest key;
    struct leaf *previous; /* of its kind, in the order of adding */
    struct leaf *next;
    _Alignas(max_align_t) uint8_t record[];
};

struct branch {
    struct node node;
    uint16_t bit; /* 0: the first bit of the key */
    struct node *child[2];
};

enum undo_type { UNDO_ADDED, UNDO_EDITED, UNDO_REMOVED };

struct undo {
    enum undo_type type;
    struct leaf *leaf;
    void *saved; /* UNDO_EDITED: the record as it was */
};

struct state {
    struct node *root; /* NULL: empty */
    struct leaf *first[STATE_KIND_END];
    struct leaf *last[STATE_KIND_END];
    struct undo *undo;
    size_t undo_count, undo_capacity;
    uint64_t tick; /* counts commits and rollbacks */
};

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    CHECK(memory != NULL);
    return memory;
}

static struct leaf *leaf_of(const void *record)
{
    CHECK(record != NULL);
    union {
        const uint8_t *in;
        uint8_t *out;
    } at = {.in = (const uint8_t *)record - offsetof(struct leaf, record)};
    return (struct leaf *)(void *)at.out;
}

static unsigned bit_at(const struct digest *key, uint16_t bit)
{
    return (unsigned)key->bytes[bit / 8] >> (7 - bit % 8) & 1U;
}

static void record_key(enum state_kind kind, const void *record, struct digest *out_key)
{
    struct record_encoder encoder;
    encoder.size = 0;
    record_put_number(&encoder, (uint64_t)kind, 1);
    record_encode(kind, true, record, &encoder);
    sha256(bytes_of(encoder.data, encoder.size), out_key);
}

static void leaf_hash(const struct leaf *leaf, struct digest *out_hash)
{
    struct record_encoder encoder;
    encoder.size = 0;
    record_put_number(&encoder, 0, 1);
    record_put(&encoder, leaf->key.bytes, DIGEST_SIZE);
    record_encode((enum state_kind)leaf->kind, false, leaf->record, &encoder);
    sha256(bytes_of(encoder.data, encoder.size), out_hash);
}

void state_branch_hash(uint16_t bit, const struct digest *left, const struct digest *right,
                       struct digest *out_hash)
{
    uint8_t data[3 + 2 * DIGEST_SIZE] = {0x01, (uint8_t)(bit >> 8), (uint8_t)bit};
    memcpy(data + 3, left->bytes, DIGEST_SIZE);
    memcpy(data + 3 + DIGEST_SIZE, right->bytes, DIGEST_SIZE);
    sha256(bytes_of(data, sizeof data), out_hash);
}

/* The leaf that shares the longest path with key; marks the way stale when asked. */
static struct leaf *walk(const struct state *state, const struct digest *key, bool stale)
{
    struct node *node = state->root;
    while (node != NULL) {
        node->stale = node->stale || stale;
        if (node->is_leaf) {
            break;
        }
        struct branch *branch = (struct branch *)(void *)node;
        node = branch->child[bit_at(key, branch->bit)];
    }
    return (struct leaf *)(void *)node;
}

static void trie_insert(struct state *state, struct leaf *leaf)
{
    struct leaf *near = walk(state, &leaf->key, false);
    if (near == NULL) {
        state->root = &leaf->node;
        return;
    }
    uint16_t bit = 0;
    while (bit < 8 * DIGEST_SIZE && bit_at(&near->key, bit) == bit_at(&leaf->key, bit)) {
        bit++;
    }
    CHECK(bit < 8 * DIGEST_SIZE);
    struct branch *branch = allocate(sizeof *branch);
    branch->bit = bit;
    branch->node.stale = true;
    struct node **slot = &state->root;
    while (!(*slot)->is_leaf && ((struct branch *)(void *)*slot)->bit < bit) {
        struct branch *above = (struct branch *)(void *)*slot;
        above->node.stale = true;
        slot = &above->child[bit_at(&leaf->key, above->bit)];
    }
    branch->child[bit_at(&leaf->key, bit)] = &leaf->node;
    branch->child[!bit_at(&leaf->key, bit)] = *slot;
    *slot = &branch->node;
}

/* Takes leaf out of trie and list, and frees it. */
static void leaf_drop(struct state *state, struct leaf *leaf)
{
    struct node **slot = &state->root;
    struct node **parent = NULL;
    CHECK(*slot != NULL);
    while (!(*slot)->is_leaf) {
        struct branch *branch = (struct branch *)(void *)*slot;
        branch->node.stale = true;
        parent = slot;
        slot = &branch->child[bit_at(&leaf->key, branch->bit)];
    }
    CHECK(*slot == &leaf->node);
    if (parent == NULL) {
        state->root = NULL;
    } else {
        struct branch *branch = (struct branch *)(void *)*parent;
        *parent = branch->child[!bit_at(&leaf->key, branch->bit)];
        free(branch);
    }
    *(leaf->previous == NULL ? &state->first[leaf->kind] : &leaf->previous->next) = leaf->next;
    *(leaf->next == NULL ? &state->last[leaf->kind] : &leaf->next->previous) = leaf->previous;
    free(leaf);
}

struct state *state_create(void)
{
    struct state *state = allocate(sizeof *state);
    state->tick = 1;
    return state;
}

void state_destroy(struct state *state)
{
    if (state == NULL) {
        return;
    }
    state_rollback(state);
    for (int kind = 1; kind < STATE_KIND_END; kind++) {
        while (state->first[kind] != NULL) {
            leaf_drop(state, state->first[kind]);
        }
    }
    CHECK(state->root == NULL);
    free(state->undo);
    free(state);
}

const void *state_get(const struct state *state, enum state_kind kind, const void *probe)
{
    struct digest key;
    record_key(kind, probe, &key);
    const struct leaf *leaf = walk(state, &key, false);
    return leaf != NULL && digest_equal(&leaf->key, &key) ? leaf->record : NULL;
}

const void *state_next(const struct state *state, enum state_kind kind, const void *previous)
{
    const struct leaf *leaf = previous == NULL ? state->first[kind] : leaf_of(previous)->next;
    return leaf == NULL ? NULL : leaf->record;
}

/* ---- change and undo --------------------------------------------------------------------------- */

static void undo_push(struct state *state, enum undo_type type, struct leaf *leaf, void *saved)
{
    if (state->undo_count == state->undo_capacity) {
        state->undo_capacity = state->undo_capacity == 0 ? 64 : 2 * state->undo_capacity;
        state->undo = realloc(state->undo, state->undo_capacity * sizeof *state->undo);
        CHECK(state->undo != NULL);
    }
    state->undo[state->undo_count++] = (struct undo){type, leaf, saved};
}

void *state_add(struct state *state, enum state_kind kind, const void *record)
{
    struct leaf *leaf = allocate(sizeof *leaf + record_size(kind));
    leaf->node.is_leaf = true;
    leaf->node.stale = true;
    leaf->kind = (uint8_t)kind;
    leaf->saved_tick = state->tick;
    memcpy(leaf->record, record, record_size(kind));
    record_key(kind, record, &leaf->key);
    trie_insert(state, leaf);
    leaf->previous = state->last[kind];
    *(leaf->previous == NULL ? &state->first[kind] : &leaf->previous->next) = leaf;
    state->last[kind] = leaf;
    undo_push(state, UNDO_ADDED, leaf, NULL);
    return leaf->record;
}

void *state_edit(struct state *state, const void *record)
{
    struct leaf *leaf = leaf_of(record);
    CHECK(!leaf->dead);
    if (leaf->saved_tick != state->tick) {
        size_t size = record_size((enum state_kind)leaf->kind);
        void *saved = allocate(size);
        memcpy(saved, leaf->record, size);
        undo_push(state, UNDO_EDITED, leaf, saved);
        leaf->saved_tick = state->tick;
        CHECK(walk(state, &leaf->key, true) == leaf);
    }
    return leaf->record;
}

void state_remove(struct state *state, const void *record)
{
    struct leaf *leaf = leaf_of(record);
    CHECK(!leaf->dead);
    CHECK(leaf->saved_tick != state->tick);
    leaf->dead = true;
    undo_push(state, UNDO_REMOVED, leaf, NULL);
}

void state_commit(struct state *state)
{
    for (size_t i = 0; i < state->undo_count; i++) {
        free(state->undo[i].saved);
        if (state->undo[i].type == UNDO_REMOVED) {
            leaf_drop(state, state->undo[i].leaf);
        }
    }
    state->undo_count = 0;
    state->tick++;
}

void state_rollback(struct state *state)
{
    while (state->undo_count > 0) {
        struct undo *undo = &state->undo[--state->undo_count];
        switch (undo->type) {
        case UNDO_ADDED:
            leaf_drop(state, undo->leaf);
            break;
        case UNDO_EDITED:
            memcpy(undo->leaf->record, undo->saved, record_size((enum state_kind)undo->leaf->kind));
            CHECK(walk(state, &undo->leaf->key, true) == undo->leaf);
            free(undo->saved);
            break;
        case UNDO_REMOVED:
            undo->leaf->dead = false;
            break;
        }
    }
    state->tick++;
}

/* ---- roots ------------------------------------------------------------------------------------- */

/* Depth is at most 256, one branch per key bit. */
static void refresh(struct node *node) /* NOLINT(misc-no-recursion) */
{
    if (!node->stale) {
        return;
    }
    if (node->is_leaf) {
        leaf_hash((struct leaf *)(void *)node, &node->hash);
    } else {
        struct branch *branch = (struct branch *)(void *)node;
        refresh(branch->child[0]);
        refresh(branch->child[1]);
        state_branch_hash(branch->bit, &branch->child[0]->hash, &branch->child[1]->hash,
                          &node->hash);
    }
    node->stale = false;
}

void state_root(struct state *state, struct digest *out_root)
{
    *out_root = (struct digest){{0}};
    if (state->root != NULL) {
        refresh(state->root);
        *out_root = state->root->hash;
    }
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
        leaf_hash(leaves[0], out);
        return;
    }
    uint16_t bit = 0; /* sorted: the first and last leaf differ first where any two do */
    while (bit_at(&leaves[0]->key, bit) == bit_at(&leaves[count - 1]->key, bit)) {
        bit++;
    }
    size_t split = 0;
    while (bit_at(&leaves[split]->key, bit) == 0) {
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
    struct leaf **leaves = allocate(count * sizeof(struct leaf *));
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

/* ---- paths ------------------------------------------------------------------------------------- */

void state_key(enum state_kind kind, const void *probe, struct digest *out_key)
{
    record_key(kind, probe, out_key);
}

void state_leaf_hash(const struct digest *key, struct bytes fields, struct digest *out_hash)
{
    static const uint8_t LEAF = 0x00;
    const struct bytes parts[3] = {bytes_of(&LEAF, 1), digest_bytes(key), fields};
    sha256_parts(parts, 3, out_hash);
}

enum err state_path(struct state *state, const struct digest *key, struct state_path *out_path,
                    struct buf *out_record)
{
    struct digest root;
    struct record_encoder encoder;
    state_root(state, &root); /* so that every hash is fresh */
    if (state->root == NULL) {
        return ERR_NOT_FOUND;
    }
    const struct node *node = state->root;
    uint32_t count = 0;
    while (!node->is_leaf) {
        const struct branch *branch = (const struct branch *)(const void *)node;
        unsigned right = bit_at(key, branch->bit);
        CHECK(count < STATE_PATH_MAX);
        out_path->steps[count++] = (struct state_step){branch->bit, branch->child[!right]->hash};
        node = branch->child[right];
    }
    const struct leaf *leaf = (const struct leaf *)(const void *)node;
    out_path->count = count;
    out_path->leaf_key = leaf->key;
    encoder.size = 0;
    record_encode((enum state_kind)leaf->kind, false, leaf->record, &encoder);
    return buf_append(out_record, encoder.data, encoder.size);
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
    CHECK(state->root == NULL);
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
