/* trie.c - see trie.h. Recursion is at most 256 deep, one branch per key bit. */
#include "shared/ledger/trie.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/records.h"
#include "shared/ledger/table.h"
#include "shared/ledger/trie_hash.h"

enum {
    KEY_BITS = 8 * DIGEST_SIZE,
    HEAD_BITS = 64,
    PARALLEL_MIN = 512,
    LEAF_FETCHED = 192, /* bytes of a record: an account's, and most others' */
    WARM_MAX = 64, /* changes whose ways down are fetched from memory, and hashed, side by side */
    TASK_PARTS = 8 /* updated by one task; those with few changes are hashed together */
};

struct trie_branch {
    uint64_t head; /* of some key below: its bits before `bit` are all theirs */
    struct trie_node child[2];
    uint16_t bit; /* the first in which the two sides differ; 0 is the key's first */
    struct trie_label label;
};

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
    if (a == b) { /* most changes are of a leaf that is there */
        return KEY_BITS;
    }
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

/* Where a part's branches come from, and where its changed nodes are listed. */
struct room {
    struct slab *branches;
    struct memory *memory;
    struct trie_hashes *hashes;
};

struct subtree {
    struct trie_node node;
    uint32_t listed;    /* in hashes, with nowhere to go yet; or TRIE_HASH_NONE: */
    struct digest hash; /* this is it */
};

static const struct subtree EMPTY = {.listed = TRIE_HASH_NONE};

/* Two sides and where they part. */
struct fork {
    uint16_t bit;
    uint64_t head; /* of some key below */
    struct subtree side[2];
};

static void hash_to(struct trie_hashes *hashes, const struct subtree *subtree,
                    struct digest *out_hash)
{
    if (subtree->listed == TRIE_HASH_NONE) {
        *out_hash = subtree->hash;
    } else {
        trie_hashes_to(hashes, subtree->listed, out_hash);
    }
}

/* What is left of two sides: nothing, one of them, or a branch: the given one, or (NULL) a new one. */
static struct subtree join(struct room *room, struct trie_branch *branch, const struct fork *fork)
{
    const struct subtree *side = fork->side;
    if (is_nothing(side[0].node) || is_nothing(side[1].node)) {
        if (branch != NULL) {
            slab_give(room->branches, branch, sizeof *branch);
        }
        return side[is_nothing(side[0].node) ? 1 : 0];
    }
    if (branch == NULL) {
        branch = slab_take(room->branches, room->memory, sizeof *branch);
    }
    branch->head = fork->head;
    branch->bit = fork->bit;
    branch->label.bit[0] = (uint8_t)(fork->bit >> 8);
    branch->label.bit[1] = (uint8_t)fork->bit;
    for (unsigned i = 0; i < 2; i++) {
        branch->child[i] = side[i].node;
        hash_to(room->hashes, &side[i], &branch->label.hash[i]);
    }
    return (struct subtree){
        {NULL, branch},
        trie_hashes_branch(room->hashes, &branch->label, side[0].listed, side[1].listed),
        {{0}}};
}

/* All changes are of one key: the live one, if any, stands now. */
static struct subtree stand(struct room *room, struct span span)
{
    for (size_t i = 0; i < span.count; i++) {
        if (!span.items[i].leaf->dead) {
            struct leaf *leaf = span.items[i].leaf;
            return (struct subtree){{leaf, NULL}, trie_hashes_leaf(room->hashes, leaf), {{0}}};
        }
    }
    return EMPTY;
}

/* A subtree of new leaves alone. */
static struct subtree build(struct room *room, struct span span) /* NOLINT(misc-no-recursion) */
{
    if (span.count == 0) {
        return EMPTY;
    }
    uint16_t bit = differ_change(&span.items[0], &span.items[span.count - 1]);
    if (bit == KEY_BITS) {
        return stand(room, span);
    }
    struct fork fork = {.bit = bit, .head = span.items[0].head};
    size_t split = split_at(span, bit);
    fork.side[0] = build(room, side_of(span, split, 0));
    fork.side[1] = build(room, side_of(span, split, 1));
    return join(room, NULL, &fork);
}

/* Fetches what an update of this subtree will read. In a large trie each step of a way down is a miss, and
 * each must wait for the one before; but the ways of different changes need not wait for each other. */
static void warm(struct trie_node top, struct span span)
{
    const struct trie_branch *at[WARM_MAX] = {NULL};
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

static struct subtree update(struct room *room, struct subtree before, struct span span);

/* As update, for few changes: their ways are fetched before, and hashed while they are at hand. */
static struct subtree update_few(struct room *room, /* NOLINT(misc-no-recursion) */
                                 struct subtree before, struct span span)
{
    const uint32_t first = room->hashes->count;
    warm(before.node, span);
    struct subtree after = update(room, before, span);
    struct digest hash;
    hash_to(room->hashes, &after, &hash);
    trie_hashes_run(room->hashes, first);
    return (struct subtree){after.node, TRIE_HASH_NONE, hash};
}

/* With the changes made, and listed what is to be hashed anew. before: nothing of it is listed. */
static struct subtree update(struct room *room, /* NOLINT(misc-no-recursion) */
                             struct subtree before, struct span span)
{
    if (span.count == 0) {
        return before;
    }
    if (is_nothing(before.node)) {
        return build(room, span);
    }
    uint16_t bit = leaves_at(before.node, span);
    if (bit == KEY_BITS && before.node.leaf != NULL) {
        return stand(room, span);
    }
    struct fork fork;
    if (bit == KEY_BITS) { /* all changes are below */
        struct trie_branch *branch = before.node.branch;
        size_t split = split_at(span, branch->bit);
        fork.bit = branch->bit;
        fork.head = branch->head;
        for (unsigned side = 0; side < 2; side++) {
            struct span changes = side_of(span, split, side);
            const struct subtree below = {branch->child[side], TRIE_HASH_NONE,
                                          branch->label.hash[side]};
            bool few = span.count > WARM_MAX && changes.count <= WARM_MAX;
            fork.side[side] = few ? update_few(room, below, changes) : update(room, below, changes);
        }
        return join(room, branch, &fork);
    }
    const struct digest *key = &leaf_below(before.node)->key; /* rare: a new leaf beside it */
    unsigned here = trie_bit(key, bit);
    size_t split = split_at(span, bit);
    fork.bit = bit;
    fork.head = table_head(key);
    fork.side[here] = update(room, before, side_of(span, split, here));
    fork.side[!here] = build(room, side_of(span, split, !here));
    return join(room, NULL, &fork);
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

static void part_update(struct work *work, uint32_t part, struct trie_hashes *hashes)
{
    struct trie *trie = work->trie;
    struct trie_change *items = work->sorted + work->begin[part];
    const struct span span = {items, work->begin[part + 1] - work->begin[part]};
    if (span.count == 0) {
        return;
    }
    qsort(items, span.count, sizeof *items, change_order);
    if (span.count <= WARM_MAX) {
        warm(trie->parts[part], span);
    }
    struct room room = {&trie->branches[part], trie->memory, hashes};
    const struct subtree before = {trie->parts[part], TRIE_HASH_NONE, trie->hashes[part]};
    const struct subtree after = update(&room, before, span);
    trie->parts[part] = after.node;
    hash_to(hashes, &after, &trie->hashes[part]);
    for (size_t i = 0; i < span.count; i++) {
        if (items[i].leaf->dead) {
            items[work->dead[part]++] = items[i];
        } else {
            items[i].leaf->changed = false;
        }
    }
}

static void parts_update(void *argument, uint32_t task)
{
    struct work *work = argument;
    struct trie_hashes hashes = {.count = 0};
    for (uint32_t part = task * TASK_PARTS; part < (task + 1) * TASK_PARTS; part++) {
        part_update(work, part, &hashes);
    }
    trie_hashes_run(&hashes, 0);
    trie_hashes_deinit(&hashes);
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
    parallel->run(parallel->context, TRIE_PARTS / TASK_PARTS, parts_update, &work);
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
        step_add(out_path, node.branch->bit, &node.branch->label.hash[!side]);
        node = node.branch->child[side];
    }
    return node.leaf;
}

void trie_deinit(struct trie *trie)
{
    free(trie->changes);
    *trie = (struct trie){.parallel = trie->parallel, .memory = trie->memory};
}
