/* trie.h - the Merkle trie over the state's records; state.h defines the hashes. Internal to this room.
 *
 * Changed leaves are only listed (trie_change). trie_root() sorts them by key and brings the trie up
 * to date in one descent per top-level part: a branch above a thousand changes is hashed once, and
 * the parts (by the key's first byte) are independent, so they can be done on several cores. A branch
 * keeps its children's hashes, so an update reads nothing beside its path. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/digest.h"
#include "shared/base/parallel.h"
#include "shared/ledger/memory.h"
#include "shared/ledger/state.h"

enum { TRIE_PARTS = 256 }; /* one per first byte of the key */

struct leaf {
    struct digest key;
    struct leaf *previous; /* of its kind, in the order of adding */
    struct leaf *next;
    uint64_t saved_tick; /* the entry in which it was added or saved for undo */
    uint8_t kind;
    bool dead;    /* removed: it leaves the trie at the next root, and is freed then */
    bool changed; /* listed for the next root */
    _Alignas(max_align_t) uint8_t record[];
};

/* A leaf or a branch; both NULL: nothing. */
struct trie_node {
    struct leaf *leaf;
    struct trie_branch *branch;
};

struct trie_change {
    uint64_t head; /* the key's first 8 bytes */
    struct leaf *leaf;
};

/* Zeroed but for its first two members it is empty. */
struct trie {
    const struct parallel *parallel;
    struct memory *memory; /* borrowed: where leaves and branches are; they end with it */
    struct slab leaves[STATE_KIND_END];
    struct slab branches[TRIE_PARTS]; /* each part's own: parts are updated side by side */
    struct trie_node parts[TRIE_PARTS];
    struct digest hashes[TRIE_PARTS];
    struct trie_change *changes;
    size_t change_count, change_capacity;
    bool fresh; /* root is that of now */
    struct digest root;
};

/* A leaf of a kind for a record of record_size(kind) bytes, its contents undefined; it is in no trie yet. */
struct leaf *trie_leaf_create(struct trie *trie, enum state_kind kind);
/* Only for one that was never listed as a change. */
void trie_leaf_free(struct trie *trie, struct leaf *leaf);

/* A committed change: leaf is new, edited or dead. */
void trie_change(struct trie *trie, struct leaf *leaf);
/* Applies the changes; frees leaves that are dead. */
void trie_root(struct trie *trie, struct digest *out_root);
/* Fills steps and count; NULL: the trie is empty. Only right after trie_root. */
const struct leaf *trie_path(const struct trie *trie, const struct digest *key,
                             struct state_path *out_path);
void trie_deinit(struct trie *trie); /* but for what is in its memory */

/* Asks the CPU to fetch memory of the state. */
static inline void trie_fetch(const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += 64) { /* bytes of a cache line */
        __builtin_prefetch((const char *)from + at);
    }
}

unsigned trie_bit(const struct digest *key, uint16_t bit);
void trie_leaf_hash(const struct leaf *leaf, struct digest *out_hash);
