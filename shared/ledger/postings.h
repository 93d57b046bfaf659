/* postings.h - the RFC 6962 tree over a block's postings, hashed beside the thread that applies.
 *
 * Why: an entry may have thousands of postings, and hashing them costs more than applying them. What is added
 * is therefore copied into parts of a fixed number of leaves: each part is a perfect subtree, so any thread can
 * hash it, and only the parts' roots are put together in order. Internal to this room.
 *
 * One thread owns it; only postings_hash() may run elsewhere, between take and the next take or root. */
#pragma once

#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/parallel.h"
#include "shared/merkle/merkle.h"

/* Bytes of one with its size before it: account, reference, an amount of 39 digits, a reason of 31 bytes. */
#define POSTING_MAX 256

struct postings_part; /* a full part */

struct postings_parts {
    struct postings_part *items;
    uint32_t count, capacity;
};

/* A zeroed one is the empty tree. */
struct postings {
    struct merkle_tree tree;      /* of what is hashed and in its place */
    struct postings_parts taken;  /* being hashed: next in the tree */
    struct postings_parts filled; /* behind them */
    struct postings_leaves *last; /* behind those, not full; may be NULL */
};

/* The next leaf: a u16 (little endian) size and as many bytes. At most POSTING_MAX bytes, copied. */
void postings_add(struct postings *postings, struct bytes sized_posting);
/* Says how many parts wait to be hashed: postings_hash() must run once for each i below that, in any order, and
 * have returned, before the next take or root (CHECKed). */
uint32_t postings_take(struct postings *postings);
void postings_hash(struct postings *postings, uint32_t i);
/* The tree's root, hashing what is left with `parallel`; the tree is empty then. */
void postings_root(struct postings *postings, const struct parallel *parallel,
                   struct digest *out_root);
void postings_deinit(struct postings *postings);
