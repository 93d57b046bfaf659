/* trie_hash.h - the hashes of a trie's changed nodes, many side by side. Internal to this room.
 *
 * Why: hashing is most of what a root costs, and a CPU hashes sixteen nodes in the time of a few (sha256_many). A
 * node waits for its children but not for its neighbours: so nodes are listed while the trie changes, children
 * before their parent, and hashed afterwards, all of one height at a time.
 *
 * One thread at a time. Out of memory aborts (state.h). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/ledger/trie.h"

/* What a branch's hash is over, as it lies in memory: its bit (u16 BE), its children's hashes. */
struct trie_label {
    uint8_t bit[2];
    struct digest hash[2];
};

#define TRIE_HASH_NONE UINT32_MAX /* no listed node: its hash is known */

struct trie_hash;

/* A zeroed one is empty. */
struct trie_hashes {
    struct trie_hash *items;
    const struct trie_hash **sorted; /* room for as many */
    uint32_t count, capacity;
};

/* Lists a node; says under which number. What it points to must stay as it is, but for a label's hashes that
 * children yet to be hashed go to, until trie_hashes_run. left, right: the children's numbers or TRIE_HASH_NONE. */
uint32_t trie_hashes_leaf(struct trie_hashes *hashes, const struct leaf *leaf);
uint32_t trie_hashes_branch(struct trie_hashes *hashes, const struct trie_label *label,
                            uint32_t left, uint32_t right);
/* Where a listed node's hash goes to. Exactly once for each before trie_hashes_run. */
void trie_hashes_to(struct trie_hashes *hashes, uint32_t number, struct digest *out_hash);
/* Hashes what is listed under `first` and higher numbers, and forgets it. What remains is above none of it, but
 * for what trie_hashes_to said. */
void trie_hashes_run(struct trie_hashes *hashes, uint32_t first);
void trie_hashes_deinit(struct trie_hashes *hashes);
