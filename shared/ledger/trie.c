/* trie.c - see trie.h. Recursion is at most 256 deep, one branch per key bit. */
#include "shared/ledger/trie.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/records.h"
#include "shared/ledger/table.h"

enum {
    KEY_BITS = 8 * DIGEST_SIZE,
    HEAD_BITS = 64,
    PARALLEL_MIN = 512,
    LEAF_FETCHED = 192, /* bytes of a record: an account's, and most others' */
    WARM_MAX = 64       /* changes whose ways down are fetched from memory side by side */
};

struct trie_branch {
    uint64_t head; /* of some key below: its bits before `bit` are all theirs */
    uint16_t bit;  /* the first in which the two sides differ; 0 is the key's first */
    struct trie_node child[2];
    struct digest hash[2]; /* of the children */
};

static const struct trie_node NOTHING = {NULL, NULL};

static bool is_nothing(struct trie_node node)
{
    return node.leaf == NULL && node.branch == NULL;
}

unsigned trie_bit(const struct digest *key, uint16_t bit)
{
    return (unsigned)key->bytes[bit / 8] >> (7 - bit % 8) & 1U;
}

void trie_leaf_hash(const struct leaf *leaf, struct digest *out_hash)
{
    struct record_encoder encoder;
    encoder.size = 0;
    record_encode((enum state_kind)leaf->kind, false, leaf->record, &encoder);
    state_leaf_hash(&leaf->key, bytes_of(encoder.data, encoder.size), out_hash);
}

static size_t leaf_size(enum state_kind kind)
{
    return sizeof(struct leaf) + record_size(kind);
}

struct leaf *trie_leaf_create(struct trie *trie, enum state_kind kind)
{
    return slab_take(&trie->leaves[kind], trie->memory, leaf_size(kind));
}

void trie_leaf_free(struct trie *trie, struct leaf *leaf)
{
    enum state_kind kind = (enum state_kind)leaf->kind;
    slab_give(&trie->leaves[kind], leaf, leaf_size(kind));
}

void trie_change(struct trie *trie, struct leaf *leaf)
{
    trie->fresh = false;
    if (leaf->changed) {
        return;
    }
    if (trie->change_count == trie->change_capacity) {
        trie->change_capacity = trie->change_capacity == 0 ? 256 : 2 * trie->change_capacity;
        trie->changes = realloc(trie->changes, trie->change_capacity * sizeof *trie->changes);
        CHECK(trie->changes != NULL);
    }
    leaf->changed = true;
    trie->changes[trie->change_count++] = (struct trie_change){table_head(&leaf->key), leaf};
}

/* ---- bringing up to date ------------------------------------------------------------------------ */

/* Changes of one subtree, ascending by key. */
struct span {
    const struct trie_change *items;
    size_t count;
};

/* The first bit in which two keys differ; KEY_BITS when they are the same. */
static uint16_t differ(const struct digest *a, const struct digest *b)
{
    for (uint16_t i = 0; i < DIGEST_SIZE; i++) {
        unsigned bits = (unsigned)a->bytes[i] ^ b->bytes[i];
        if (bits != 0) {
            return (uint16_t)(8 * i + __builtin_clz(bits) - 24);
        }
    }
    return KEY_BITS;
}

static uint16_t differ_change(const struct trie_change *a, const struct trie_change *b)
{
    return a->head == b->head ? differ(&a->leaf->key, &b->leaf->key)
                              : (uint16_t)__builtin_clzll(a->head ^ b->head);
}

static unsigned bit_of(const struct trie_change *change, uint16_t bit)
{
    return bit < HEAD_BITS ? (unsigned)(change->head >> (HEAD_BITS - 1 - bit)) & 1U
                           : trie_bit(&change->leaf->key, bit);
}

/* Those with a 0 there come first: how many. */
static size_t split_at(struct span span, uint16_t bit)
{
    size_t low = 0;
    size_t high = span.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bit_of(&span.items[middle], bit) == 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct span side_of(struct span span, size_t split, unsigned side)
{
    return side == 0 ? (struct span){span.items, split}
                     : (struct span){span.items + split, span.count - split};
}

/* A leaf below node: the pointer, not its memory, unless the first 64 bits do not tell. */
static const struct leaf *leaf_below(struct trie_node node)
{
    while (node.branch != NULL) {
        node = node.branch->child[0];
    }
    return node.leaf;
}

/* The first bit before node's own in which a change leaves node's path; KEY_BITS: none does. */
static uint16_t leaves_at(struct trie_node node, struct span span)
{
    const struct trie_change *ends[2] = {&span.items[0], &span.items[span.count - 1]};
    uint16_t own = node.branch != NULL ? node.branch->bit : KEY_BITS;
    uint16_t first = KEY_BITS;
    for (int i = 0; i < 2; i++) { /* sorted: one of the ends leaves first */
        uint16_t bit;
        if (node.branch != NULL && own <= HEAD_BITS) {
            uint64_t bits = ends[i]->head ^ node.branch->head;
            bit = bits == 0 ? HEAD_BITS : (uint16_t)__builtin_clzll(bits);
        } else {
            bit = differ(&ends[i]->leaf->key, &leaf_below(node)->key);
        }
        first = bit < first ? bit : first;
    }
    return first < own ? first : KEY_BITS;
}

/* Where a part's branches come from. */
struct room {
    struct slab *branches;
    struct memory *memory;
};

/* Two sides and where they part. */
struct fork {
    uint16_t bit;
    uint64_t head; /* of some key below */
    struct trie_node child[2];
    struct digest hash[2];
};

/* What is left of two sides: nothing, one of them, or a branch: the given one, or (NULL) a new one. */
static struct trie_node join(struct room *room, struct trie_branch *branch, const struct fork *fork,
                             struct digest *out_hash)
{
    if (is_nothing(fork->child[0]) || is_nothing(fork->child[1])) {
        unsigned side = is_nothing(fork->child[0]) ? 1 : 0;
        *out_hash = fork->hash[side];
        if (branch != NULL) {
            slab_give(room->branches, branch, sizeof *branch);
        }
        return fork->child[side];
    }
    if (branch == NULL) {
        branch = slab_take(room->branches, room->memory, sizeof *branch);
    }
    branch->bit = fork->bit;
    branch->head = fork->head;
    memcpy(branch->child, fork->child, sizeof branch->child);
    memcpy(branch->hash, fork->hash, sizeof branch->hash);
    state_branch_hash(branch->bit, &branch->hash[0], &branch->hash[1], out_hash);
    return (struct trie_node){NULL, branch};
}

/* All changes are of one key: the live one, if any, stands now. */
static struct trie_node stand(struct span span, struct digest *out_hash)
{
    for (size_t i = 0; i < span.count; i++) {
        if (!span.items[i].leaf->dead) {
            trie_leaf_hash(span.items[i].leaf, out_hash);
            return (struct trie_node){span.items[i].leaf, NULL};
        }
    }
    return NOTHING;
}

/* A subtree of new leaves alone. */
static struct trie_node build(struct room *room, struct span span, /* NOLINT(misc-no-recursion) */
                              struct digest *out_hash)
{
    if (span.count == 0) {
        return NOTHING;
    }
    uint16_t bit = differ_change(&span.items[0], &span.items[span.count - 1]);
    if (bit == KEY_BITS) {
        return stand(span, out_hash);
    }
    struct fork fork = {.bit = bit, .head = span.items[0].head};
    size_t split = split_at(span, bit);
    fork.child[0] = build(room, side_of(span, split, 0), &fork.hash[0]);
    fork.child[1] = build(room, side_of(span, split, 1), &fork.hash[1]);
    return join(room, NULL, &fork, out_hash);
}

/* Fetches what an update of this subtree will read. In a large trie each step of a way down is a miss, and
 * each must wait for the one before; but the ways of different changes need not wait for each other. */
static void warm(struct trie_node top, struct span span)
{
    const struct trie_branch *at[WARM_MAX];
    for (size_t i = 0; i < span.count; i++) {
        const struct leaf *leaf = span.items[i].leaf;
        at[i] = top.branch;
        trie_fetch(leaf, sizeof *leaf + LEAF_FETCHED);
    }
    for (size_t left = span.count; left > 0;) {
        left = 0;
        for (size_t i = 0; i < span.count; i++) {
            if (at[i] != NULL) {
                at[i] = at[i]->child[bit_of(&span.items[i], at[i]->bit)].branch;
                trie_fetch(at[i], at[i] == NULL ? 0 : sizeof *at[i]);
                left++;
            }
        }
    }
}

/* Node with the changes made. *hash: node's so far; becomes the result's. */
static struct trie_node update(struct room *room, /* NOLINT(misc-no-recursion) */
                               struct trie_node node, struct span span, struct digest *hash)
{
    if (span.count == 0) {
        return node;
    }
    if (is_nothing(node)) {
        return build(room, span, hash);
    }
    uint16_t bit = leaves_at(node, span);
    if (bit == KEY_BITS && node.leaf != NULL) {
        return stand(span, hash);
    }
    struct fork fork;
    if (bit == KEY_BITS) { /* all changes are below */
        struct trie_branch *branch = node.branch;
        size_t split = split_at(span, branch->bit);
        fork.bit = branch->bit;
        fork.head = branch->head;
        for (unsigned side = 0; side < 2; side++) {
            struct span changes = side_of(span, split, side);
            fork.hash[side] = branch->hash[side];
            if (span.count > WARM_MAX && changes.count <= WARM_MAX) {
                warm(branch->child[side], changes);
            }
            fork.child[side] = update(room, branch->child[side], changes, &fork.hash[side]);
        }
        return join(room, branch, &fork, hash);
    }
    const struct digest *key = &leaf_below(node)->key; /* rare: a new leaf beside this subtree */
    unsigned here = trie_bit(key, bit);
    size_t split = split_at(span, bit);
    fork.bit = bit;
    fork.head = table_head(key);
    fork.hash[here] = *hash;
    fork.child[here] = update(room, node, side_of(span, split, here), &fork.hash[here]);
    fork.child[!here] = build(room, side_of(span, split, !here), &fork.hash[!here]);
    return join(room, NULL, &fork, hash);
}

/* ---- parts -------------------------------------------------------------------------------------- */

struct work {
    struct trie *trie;
    struct trie_change *sorted;
    size_t begin[TRIE_PARTS + 1];
    size_t dead[TRIE_PARTS]; /* leaves that are gone, moved to the beginning of each part */
};

static int change_order(const void *a, const void *b)
{
    const struct trie_change *left = a;
    const struct trie_change *right = b;
    if (left->head != right->head) {
        return left->head < right->head ? -1 : 1;
    }
    return digest_compare(&left->leaf->key, &right->leaf->key);
}

static void part_update(void *argument, uint32_t part)
{
    struct work *work = argument;
    struct trie_change *items = work->sorted + work->begin[part];
    size_t count = work->begin[part + 1] - work->begin[part];
    qsort(items, count, sizeof *items, change_order);
    if (count <= WARM_MAX) {
        warm(work->trie->parts[part], (struct span){items, count});
    }
    struct room room = {&work->trie->branches[part], work->trie->memory};
    work->trie->parts[part] = update(&room, work->trie->parts[part], (struct span){items, count},
                                     &work->trie->hashes[part]);
    for (size_t i = 0; i < count; i++) {
        if (items[i].leaf->dead) {
            items[work->dead[part]++] = items[i];
        } else {
            items[i].leaf->changed = false;
        }
    }
}

static void changes_apply(struct trie *trie)
{
    struct work work = {.trie = trie};
    size_t at[TRIE_PARTS] = {0};
    work.sorted = malloc(trie->change_count * sizeof *work.sorted);
    CHECK(work.sorted != NULL);
    for (size_t i = 0; i < trie->change_count; i++) {
        at[trie->changes[i].head >> 56]++;
    }
    for (size_t i = 0; i < TRIE_PARTS; i++) {
        work.begin[i + 1] = work.begin[i] + at[i];
        at[i] = work.begin[i];
    }
    for (size_t i = 0; i < trie->change_count; i++) {
        work.sorted[at[trie->changes[i].head >> 56]++] = trie->changes[i];
    }
    const struct parallel *parallel =
        trie->change_count >= PARALLEL_MIN ? trie->parallel : &parallel_serial;
    parallel->run(parallel->context, TRIE_PARTS, part_update, &work);
    for (size_t i = 0; i < TRIE_PARTS; i++) {
        for (size_t k = 0; k < work.dead[i]; k++) {
            trie_leaf_free(trie, work.sorted[work.begin[i] + k].leaf);
        }
    }
    free(work.sorted);
    trie->change_count = 0;
}

/* Parts [first, first + count) as one subtree. False: there is nothing. */
static bool top_hash(const struct trie *trie, uint32_t first, /* NOLINT(misc-no-recursion) */
                     uint32_t count, struct digest *out_hash)
{
    if (count == 1) {
        *out_hash = trie->hashes[first];
        return !is_nothing(trie->parts[first]);
    }
    struct digest left;
    struct digest right;
    bool has_left = top_hash(trie, first, count / 2, &left);
    bool has_right = top_hash(trie, first + count / 2, count / 2, &right);
    if (has_left && has_right) {
        uint16_t bit = (uint16_t)(8 - (31 - __builtin_clz(count)));
        state_branch_hash(bit, &left, &right, out_hash);
    } else {
        *out_hash = has_left ? left : right;
    }
    return has_left || has_right;
}

void trie_root(struct trie *trie, struct digest *out_root)
{
    if (!trie->fresh) {
        changes_apply(trie);
        if (!top_hash(trie, 0, TRIE_PARTS, &trie->root)) {
            trie->root = (struct digest){{0}};
        }
        trie->fresh = true;
    }
    *out_root = trie->root;
}

static void step_add(struct state_path *path, uint16_t bit, const struct digest *sibling)
{
    path->steps[path->count++] = (struct state_step){.bit = bit, .sibling = *sibling};
}

const struct leaf *trie_path(const struct trie *trie, const struct digest *key,
                             struct state_path *out_path)
{
    CHECK(trie->fresh);
    out_path->count = 0;
    uint32_t first = 0;
    for (uint32_t count = TRIE_PARTS / 2; count > 0; count /= 2) {
        struct digest sides[2];
        bool has[2] = {top_hash(trie, first, count, &sides[0]),
                       top_hash(trie, first + count, count, &sides[1])};
        uint16_t bit = (uint16_t)(7 - (31 - __builtin_clz(count)));
        unsigned side = trie_bit(key, bit);
        if (has[0] && has[1]) {
            step_add(out_path, bit, &sides[!side]);
        } else {
            side = has[1] ? 1 : 0;
        }
        first += side * count;
    }
    struct trie_node node = trie->parts[first];
    while (node.branch != NULL) {
        unsigned side = trie_bit(key, node.branch->bit);
        step_add(out_path, node.branch->bit, &node.branch->hash[!side]);
        node = node.branch->child[side];
    }
    return node.leaf;
}

void trie_deinit(struct trie *trie)
{
    free(trie->changes);
    *trie = (struct trie){.parallel = trie->parallel, .memory = trie->memory};
}
