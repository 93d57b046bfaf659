/* merkle.c - see merkle.h for what, why and source; comments here say only how. */
#include "shared/merkle/merkle.h"

#include <assert.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"

static_assert(MERKLE_LEAF_MAX >> MERKLE_PATH_MAX == 1, "the deepest proof fits path[]");

enum {
    SIDE_BY_SIDE = 64, /* nodes given to sha256_many at a time */
    CHUNK_LEVEL = 6,   /* merkle_head does as many leaves at once */
    CHUNK = 1 << CHUNK_LEVEL
};

/* Without distinct prefixes an inner node could be replayed as a leaf (RFC 6962 section 2.1). */
static const uint8_t LEAF_PREFIX = 0x00;
static const uint8_t NODE_PREFIX = 0x01;

/* SHA-256(prefix || a || b). out may alias a or b: it is written last. */
static void hash_two(uint8_t prefix, const void *a, size_t a_size, const void *b, size_t b_size,
                     struct digest *out)
{
    struct bytes parts[3] = {bytes_of(&prefix, 1), bytes_of(a, a_size), bytes_of(b, b_size)};
    sha256_parts(parts, 3, out);
}

void merkle_node(const struct digest *left, const struct digest *right, struct digest *out)
{
    hash_two(NODE_PREFIX, left, sizeof *left, right, sizeof *right, out);
}

void merkle_leaf(const void *data, size_t data_size, struct digest *out_leaf)
{
    CHECK(data != NULL || data_size == 0);
    CHECK(out_leaf != NULL);
    hash_two(LEAF_PREFIX, data, data_size, NULL, 0, out_leaf);
}

void merkle_leaves(const struct bytes *records, size_t count, struct digest *out_leaves)
{
    sha256_many(bytes_of(&LEAF_PREFIX, 1), records, count, out_leaves);
}

void merkle_perfect(struct digest *leaves, uint32_t level, struct digest *out_root)
{
    CHECK(level <= MERKLE_PATH_MAX);
    for (uint64_t count = (UINT64_C(1) << level) / 2; count > 0; count /= 2) {
        for (uint64_t done = 0; done < count; done += SIDE_BY_SIDE) {
            uint64_t some = count - done < SIDE_BY_SIDE ? count - done : SIDE_BY_SIDE;
            struct bytes pairs[SIDE_BY_SIDE];
            struct digest nodes[SIDE_BY_SIDE];
            for (uint64_t i = 0; i < some; i++) {
                pairs[i] = bytes_of(&leaves[2 * (done + i)], 2 * sizeof *leaves);
            }
            sha256_many(bytes_of(&NODE_PREFIX, 1), pairs, some, nodes);
            memcpy(leaves + done, nodes, some * sizeof *nodes);
        }
    }
    *out_root = leaves[0];
}

/* A binary counter of perfect subtrees: after leaf i the edge holds one root per 1-bit of i + 1,
 * largest subtree first; each 1-bit of i carries, joining two subtrees of equal size. A subtree of 2^level
 * leaves counts as one, where no smaller subtree is on the edge. */
static void append(struct merkle_tree *tree, uint32_t level, const struct digest *root)
{
    uint32_t depth = (uint32_t)__builtin_popcountll(tree->leaf_count);
    CHECK(depth < MERKLE_PATH_MAX + 1);
    tree->edge[depth++] = *root;
    for (uint64_t carry = tree->leaf_count >> level; (carry & 1) != 0; carry >>= 1, depth--) {
        merkle_node(&tree->edge[depth - 2], &tree->edge[depth - 1], &tree->edge[depth - 2]);
    }
    tree->leaf_count += UINT64_C(1) << level;
}

void merkle_head(struct merkle_leaves leaves, struct merkle_head *out_head)
{
    CHECK(leaves.items != NULL || leaves.count == 0);
    CHECK(leaves.count <= MERKLE_LEAF_MAX);
    CHECK(out_head != NULL);

    struct merkle_tree tree = {.leaf_count = 0};
    uint64_t done = 0;
    for (; leaves.count - done >= CHUNK; done += CHUNK) {
        struct digest chunk[CHUNK];
        struct digest root;
        memcpy(chunk, leaves.items + done, sizeof chunk);
        merkle_perfect(chunk, CHUNK_LEVEL, &root);
        append(&tree, CHUNK_LEVEL, &root);
    }
    for (; done < leaves.count; done++) {
        append(&tree, 0, &leaves.items[done]);
    }
    merkle_tree_head(&tree, out_head);
}

enum err merkle_tree_append_subtree(struct merkle_tree *tree, uint32_t level,
                                    const struct digest *root)
{
    CHECK(level <= MERKLE_PATH_MAX);
    CHECK(tree->leaf_count <= MERKLE_LEAF_MAX);
    CHECK(tree->leaf_count % (UINT64_C(1) << level) == 0);
    if (MERKLE_LEAF_MAX - tree->leaf_count < UINT64_C(1) << level) {
        return ERR_LIMIT;
    }
    append(tree, level, root);
    return ERR_OK;
}

enum err merkle_tree_append(struct merkle_tree *tree, const struct digest *leaf)
{
    return merkle_tree_append_subtree(tree, 0, leaf);
}

void merkle_tree_head(const struct merkle_tree *tree, struct merkle_head *out_head)
{
    CHECK(tree->leaf_count <= MERKLE_LEAF_MAX);
    CHECK(out_head != NULL);
    struct digest root;
    uint32_t depth = (uint32_t)__builtin_popcountll(tree->leaf_count);
    if (depth == 0) {
        sha256(bytes_of(NULL, 0), &root);
    } else {
        root = tree->edge[--depth];
    }
    while (depth > 0) {
        merkle_node(&tree->edge[--depth], &root, &root);
    }
    *out_head = (struct merkle_head){.leaf_count = tree->leaf_count, .root = root};
}

/* Both walks below go from the leaf up, one level per step. 'node' is our position in the level and
 * 'last' the level's last position. An even last node has no sibling: it climbs unhashed. */

enum err merkle_prove(struct merkle_leaves leaves, uint64_t leaf_index,
                      struct merkle_proof *out_proof)
{
    CHECK(leaves.items != NULL || leaves.count == 0);
    CHECK(leaves.count <= MERKLE_LEAF_MAX);
    CHECK(out_proof != NULL);
    if (leaf_index >= leaves.count) {
        return ERR_RANGE;
    }
    *out_proof = (struct merkle_proof){.leaf_index = leaf_index};
    uint64_t node = leaf_index;
    uint64_t last = leaves.count - 1;
    for (uint32_t level = 0; last > 0; level++, node >>= 1, last >>= 1) {
        uint64_t sibling = node ^ 1;
        if (sibling > last) {
            continue;
        }
        uint64_t first = sibling << level; /* the leaves under the sibling: [first, end) */
        uint64_t end = (sibling + 1) << level;
        end = end < leaves.count ? end : leaves.count;
        struct merkle_leaves under = {.items = leaves.items + first, .count = end - first};
        struct merkle_head subtree;
        merkle_head(under, &subtree);
        CHECK(out_proof->path_count < MERKLE_PATH_MAX);
        out_proof->path[out_proof->path_count++] = subtree.root;
    }
    return ERR_OK;
}

bool merkle_verify(const struct merkle_head *head, const struct merkle_proof *proof,
                   const void *data, size_t data_size)
{
    CHECK(head != NULL);
    CHECK(proof != NULL);
    if (proof->leaf_index >= head->leaf_count || proof->path_count > MERKLE_PATH_MAX) {
        return false;
    }
    struct digest hash;
    merkle_leaf(data, data_size, &hash);
    uint32_t used_count = 0;
    uint64_t node = proof->leaf_index;
    uint64_t last = head->leaf_count - 1;
    for (; last > 0; node >>= 1, last >>= 1) {
        uint64_t sibling = node ^ 1;
        if (sibling > last) {
            continue;
        }
        if (used_count == proof->path_count) {
            return false; /* the path is shorter than the tree is deep */
        }
        CHECK(used_count < MERKLE_PATH_MAX); /* ASan cannot see reads inside libcrypto */
        const struct digest *other = &proof->path[used_count++];
        merkle_node(sibling < node ? other : &hash, sibling < node ? &hash : other, &hash);
    }
    /* memcmp, not a constant-time compare: roots are public. */
    return used_count == proof->path_count &&
           memcmp(hash.bytes, head->root.bytes, MERKLE_HASH_SIZE) == 0;
}

/* Root of leaves [first, first + 2^level), cut at the end of the tree. */
static struct digest subtree_root(struct merkle_leaves leaves, uint64_t first, uint32_t level)
{
    uint64_t end = first + (UINT64_C(1) << level);
    end = end < leaves.count ? end : leaves.count;
    struct merkle_head head;
    merkle_head((struct merkle_leaves){leaves.items + first, end - first}, &head);
    return head.root;
}

/* Both walks start at the old tree's last leaf and first climb past the levels at which it is a right
 * child: up to there the node is a perfect subtree, whole in both trees. Unless it is all of the old
 * tree, its root comes first in the path; then the siblings follow as in an inclusion proof. */

enum err merkle_prove_consistency(struct merkle_leaves leaves, uint64_t old_count,
                                  struct merkle_consistency *out_proof)
{
    CHECK(leaves.items != NULL || leaves.count == 0);
    CHECK(leaves.count <= MERKLE_LEAF_MAX);
    CHECK(out_proof != NULL);
    if (old_count > leaves.count) {
        return ERR_RANGE;
    }
    *out_proof = (struct merkle_consistency){.path_count = 0};
    if (old_count == 0 || old_count == leaves.count) {
        return ERR_OK;
    }
    uint64_t node = old_count - 1;
    uint64_t last = leaves.count - 1;
    uint32_t level = 0;
    for (; (node & 1) != 0; level++, node >>= 1, last >>= 1) {
    }
    if (node > 0) {
        out_proof->path[out_proof->path_count++] = subtree_root(leaves, node << level, level);
    }
    for (; last > 0; level++, node >>= 1, last >>= 1) {
        uint64_t sibling = node ^ 1;
        if (sibling > last) {
            continue;
        }
        CHECK(out_proof->path_count < MERKLE_CONSISTENCY_MAX);
        out_proof->path[out_proof->path_count++] = subtree_root(leaves, sibling << level, level);
    }
    return ERR_OK;
}

/* Rebuilds both roots from one path: a left sibling is in both trees, a right one only in the new. */
bool merkle_verify_consistency(const struct merkle_head *old_head,
                               const struct merkle_head *new_head,
                               const struct merkle_consistency *proof)
{
    CHECK(old_head != NULL);
    CHECK(new_head != NULL);
    CHECK(proof != NULL);
    if (old_head->leaf_count > new_head->leaf_count || proof->path_count > MERKLE_CONSISTENCY_MAX) {
        return false;
    }
    if (old_head->leaf_count == 0) {
        struct merkle_head empty;
        merkle_head((struct merkle_leaves){NULL, 0}, &empty);
        return proof->path_count == 0 && digest_equal(&old_head->root, &empty.root);
    }
    if (old_head->leaf_count == new_head->leaf_count) {
        return proof->path_count == 0 && digest_equal(&old_head->root, &new_head->root);
    }
    uint64_t node = old_head->leaf_count - 1;
    uint64_t last = new_head->leaf_count - 1;
    for (; (node & 1) != 0; node >>= 1, last >>= 1) {
    }
    uint32_t used_count = 0;
    struct digest old_root = old_head->root;
    if (node > 0) {
        if (proof->path_count == 0) {
            return false;
        }
        old_root = proof->path[used_count++];
    }
    struct digest new_root = old_root;
    for (; last > 0; node >>= 1, last >>= 1) {
        uint64_t sibling = node ^ 1;
        if (sibling > last) {
            continue;
        }
        if (used_count == proof->path_count) {
            return false;
        }
        const struct digest *other = &proof->path[used_count++];
        if (sibling < node) {
            merkle_node(other, &old_root, &old_root);
            merkle_node(other, &new_root, &new_root);
        } else {
            merkle_node(&new_root, other, &new_root);
        }
    }
    return used_count == proof->path_count && digest_equal(&old_root, &old_head->root) &&
           digest_equal(&new_root, &new_head->root);
}
