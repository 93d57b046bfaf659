/* merkle.h - RFC 6962 Merkle trees over SHA-256: heads, inclusion and consistency proofs.
 *
 * Why: a service signs one small head per batch; whoever holds a record can then check, with at
 * most 32 hashes and no trust in us, that the record is in that batch, and that a later head only
 * appended to an earlier one.
 *
 * Source: RFC 6962 section 2.1 (tree, proofs); RFC 9162 section 2.1.2 (the iterative head) and
 * 2.1.4.2 (checking consistency).
 *
 * Hard to misuse: merkle_verify() takes the record, not its hash, so an inner node cannot pass for
 * a leaf; leaf_count sits in the signed head, not in the proof, as the root does not bind it.
 *
 * No allocation, no I/O, no globals: any function may run on any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"

#define MERKLE_HASH_SIZE DIGEST_SIZE        /* bytes */
#define MERKLE_PATH_MAX 32                  /* hashes in an inclusion proof */
#define MERKLE_CONSISTENCY_MAX 33           /* hashes in a consistency proof */
#define MERKLE_LEAF_MAX (UINT64_C(1) << 32) /* leaves in a tree */

/* Borrowed leaf hashes in tree order. items may be NULL only when count is 0. */
struct merkle_leaves {
    const struct digest *items;
    uint64_t count; /* 0..MERKLE_LEAF_MAX */
};

/* What gets signed: the root and how many leaves are under it. */
struct merkle_head {
    uint64_t leaf_count;
    struct digest root;
};

/* What a peer sends along with a record. Untrusted until merkle_verify() accepts it. */
struct merkle_proof {
    uint64_t leaf_index;                 /* 0-based position of the record */
    uint32_t path_count;                 /* hashes in use in path[] */
    struct digest path[MERKLE_PATH_MAX]; /* siblings, leaf level first */
};

/* Shows that a tree's first leaves are an older tree. Untrusted until verified. */
struct merkle_consistency {
    uint32_t path_count;
    struct digest path[MERKLE_CONSISTENCY_MAX];
};

/* Hashes one record: SHA-256(0x00 || data). data may be NULL only when data_size (bytes) is 0. */
void merkle_leaf(const void *data, size_t data_size, struct digest *out_leaf);

/* merkle_leaf of each of `count` records, several side by side where the CPU can (sha256_many). */
void merkle_leaves(const struct bytes *records, size_t count, struct digest *out_leaves);

/* Hashes two subtrees into the one over them: SHA-256(0x01 || left || right). out may alias either. */
void merkle_node(const struct digest *left, const struct digest *right, struct digest *out);

/* The root over 2^level leaves, which are overwritten: the levels above them, each side by side. */
void merkle_perfect(struct digest *leaves, uint32_t level, struct digest *out_root);

/* Computes a tree's head; an empty tree has root SHA-256(""). Costs count - 1 hashes. */
void merkle_head(struct merkle_leaves leaves, struct merkle_head *out_head);

/* Proves that leaves.items[leaf_index] is in the tree. Costs about count hashes.
 * Returns ERR_RANGE, leaving *out_proof untouched, if leaf_index >= leaves.count: the index may
 * come from a request, so it is an error and not a CHECK. */
MUST_USE enum err merkle_prove(struct merkle_leaves leaves, uint64_t leaf_index,
                               struct merkle_proof *out_proof);

/* Returns true only if data is leaf proof->leaf_index of the tree *head describes. head must come
 * from a verified signature; proof and data may be hostile. */
MUST_USE bool merkle_verify(const struct merkle_head *head, const struct merkle_proof *proof,
                            const void *data, size_t data_size);

/* Proves that the tree of the first old_count leaves is a prefix of the whole. ERR_RANGE if
 * old_count > leaves.count. old_count 0 and leaves.count give an empty path. Costs about count
 * hashes. */
MUST_USE enum err merkle_prove_consistency(struct merkle_leaves leaves, uint64_t old_count,
                                           struct merkle_consistency *out_proof);

/* Returns true only if the tree of *new_head begins with the tree of *old_head. Both heads must come
 * from verified signatures; the proof may be hostile. An empty old tree begins every tree. */
MUST_USE bool merkle_verify_consistency(const struct merkle_head *old_head,
                                        const struct merkle_head *new_head,
                                        const struct merkle_consistency *proof);

/* A tree that grows: the roots of its perfect subtrees, largest first, one per 1-bit of leaf_count.
 * A zeroed tree is the empty one. Copying the struct copies the tree. */
struct merkle_tree {
    uint64_t leaf_count;
    struct digest edge[MERKLE_PATH_MAX + 1];
};

/* Adds one leaf hash (of merkle_leaf). ERR_LIMIT at MERKLE_LEAF_MAX. Costs 1 hash on average. */
MUST_USE enum err merkle_tree_append(struct merkle_tree *tree, const struct digest *leaf);

/* Adds 2^level leaves at once by the root of the tree over them. The leaves before must be a multiple of as many
 * (CHECKed). ERR_LIMIT past MERKLE_LEAF_MAX. */
MUST_USE enum err merkle_tree_append_subtree(struct merkle_tree *tree, uint32_t level,
                                             const struct digest *root);

/* The head at this moment: equals merkle_head() of all leaves so far. At most 32 hashes. */
void merkle_tree_head(const struct merkle_tree *tree, struct merkle_head *out_head);
