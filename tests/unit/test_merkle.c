/* test_merkle.c - merkle against published vectors, a naive model, and hostile proofs.
 *
 * Method: vectors pin us to the RFC; the model (the RFC's recursive definition, written the slow
 * obvious way) pins every tree size up to 130; damaged proofs show that verify can say no. */
#include "shared/merkle/merkle.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "tests/harness/seed.h"

enum { LEAF_COUNT = 130 }; /* crosses 1, 2, 64 and 128, each with its neighbours */

static struct digest leaf_hash[LEAF_COUNT];

/* Record i is the four bytes of i, so no two leaves are equal. */
static struct merkle_leaves leaves_make(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        merkle_leaf(&i, sizeof i, &leaf_hash[i]);
    }
    return (struct merkle_leaves){.items = leaf_hash, .count = count};
}

static bool hash_is(const struct digest *hash, const char *expected_hex)
{
    char hex[2 * MERKLE_HASH_SIZE + 1];
    (void)hex_encode(hash->bytes, MERKLE_HASH_SIZE, hex);
    return strcmp(hex, expected_hex) == 0;
}

/* RFC 6962 section 2.1, word for word; recursion is allowed in a model. */
static struct digest model_root(struct merkle_leaves leaves) /* NOLINT(misc-no-recursion) */
{
    if (leaves.count == 1) {
        return leaves.items[0];
    }
    uint64_t k = 1;
    while (k * 2 < leaves.count) {
        k *= 2;
    }
    struct digest left = model_root((struct merkle_leaves){leaves.items, k});
    struct digest right = model_root((struct merkle_leaves){leaves.items + k, leaves.count - k});
    uint8_t node[1 + sizeof left + sizeof right] = {0x01};
    memcpy(node + 1, &left, sizeof left);
    memcpy(node + 1 + sizeof left, &right, sizeof right);
    struct digest root;
    sha256(bytes_of(node, sizeof node), &root);
    return root;
}

/* The reference tree of the Certificate Transparency project. Line i: record i, and the root of
 * the tree of records 0..i. */
static const struct {
    const char *record_hex;
    const char *root_hex;
} vector[] = {
    {"", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
    {"00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
    {"10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
    {"2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
    {"3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
    {"40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
    {"5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
    {"606162636465666768696a6b6c6d6e6f",
     "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
};

START_TEST(test_published_vectors)
{
    enum { VECTOR_COUNT = sizeof vector / sizeof vector[0] };
    struct merkle_leaves leaves = {.items = leaf_hash, .count = 0};
    struct merkle_head head;
    merkle_head(leaves, &head);
    ck_assert(
        hash_is(&head.root, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    for (size_t i = 0; i < VECTOR_COUNT; i++) {
        uint8_t data[16];
        const char *hex = vector[i].record_hex;
        size_t data_size = strlen(hex) / 2;
        ck_assert_uint_eq(hex_decode(hex, strlen(hex), data, data_size), ERR_OK);
        merkle_leaf(data, data_size, &leaf_hash[i]);
        leaves.count = i + 1;
        merkle_head(leaves, &head);
        ck_assert(hash_is(&head.root, vector[i].root_hex));
        ck_assert_uint_eq(head.leaf_count, i + 1);
    }
    struct merkle_proof proof;
    ck_assert_uint_eq(merkle_prove(leaves, 0, &proof), ERR_OK);
    ck_assert_uint_eq(proof.path_count, 3);
    ck_assert(hash_is(&proof.path[0],
                      "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"));
    ck_assert(hash_is(&proof.path[1],
                      "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"));
}
END_TEST

START_TEST(test_every_size_matches_model_and_every_proof_verifies)
{
    for (uint32_t count = 1; count <= LEAF_COUNT; count++) {
        struct merkle_leaves leaves = leaves_make(count);
        struct digest root = model_root(leaves);
        struct merkle_head head;
        merkle_head(leaves, &head);
        ck_assert(memcmp(&head.root, &root, sizeof root) == 0);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t other = i + 1;
            struct merkle_proof proof;
            ck_assert_uint_eq(merkle_prove(leaves, i, &proof), ERR_OK);
            ck_assert(merkle_verify(&head, &proof, &i, sizeof i));
            ck_assert(!merkle_verify(&head, &proof, &other, sizeof other));
        }
    }
}
END_TEST

START_TEST(test_leaves_and_perfect_trees_side_by_side)
{
    struct bytes records[LEAF_COUNT];
    struct digest found[LEAF_COUNT];
    uint32_t number[LEAF_COUNT];
    struct merkle_leaves leaves = leaves_make(LEAF_COUNT);
    for (uint32_t i = 0; i < LEAF_COUNT; i++) {
        number[i] = i;
        records[i] = bytes_of(&number[i], sizeof number[i]);
    }
    merkle_leaves(records, LEAF_COUNT, found);
    ck_assert_mem_eq(found, leaf_hash, sizeof found);
    for (uint32_t level = 0; 1U << level <= LEAF_COUNT; level++) {
        struct digest root;
        leaves.count = UINT64_C(1) << level;
        struct digest expected = model_root(leaves);
        memcpy(found, leaf_hash, sizeof found);
        merkle_perfect(found, level, &root);
        ck_assert_mem_eq(&root, &expected, sizeof root);
    }
}
END_TEST

/* One flipped bit in root, path or index, or one hash more or less: never valid. */
START_TEST(test_damaged_proof_never_verifies)
{
    struct merkle_leaves leaves = leaves_make(100);
    struct merkle_head head;
    merkle_head(leaves, &head);
    for (int run = 0; run < 2000; run++) {
        uint32_t i = (uint32_t)(test_rand() % leaves.count);
        struct merkle_proof proof;
        ck_assert_uint_eq(merkle_prove(leaves, i, &proof), ERR_OK);
        uint8_t bit = (uint8_t)(1U << (test_rand() % 8));
        size_t byte = test_rand() % MERKLE_HASH_SIZE;
        struct merkle_head bad_head = head;
        struct merkle_proof bad[4] = {proof, proof, proof, proof};
        bad_head.root.bytes[byte] ^= bit;
        bad[0].path[test_rand() % proof.path_count].bytes[byte] ^= bit;
        bad[1].leaf_index ^= bit;
        bad[2].path_count--;
        bad[3].path_count++;
        ck_assert(!merkle_verify(&bad_head, &proof, &i, sizeof i));
        for (size_t k = 0; k < 4; k++) {
            ck_assert(!merkle_verify(&head, &bad[k], &i, sizeof i));
        }
    }
}
END_TEST

START_TEST(test_bounds)
{
    uint32_t record = 0;
    struct merkle_head head;
    struct merkle_proof proof = {.leaf_index = 42};
    ck_assert_uint_eq(merkle_prove(leaves_make(3), 3, &proof), ERR_RANGE);
    ck_assert_uint_eq(proof.leaf_index, 42); /* outputs stay untouched on failure */

    /* In a tree of one leaf nothing but the index check tells index 1 from index 0. */
    merkle_head(leaves_make(1), &head);
    ck_assert_uint_eq(merkle_prove(leaves_make(1), 0, &proof), ERR_OK);
    ck_assert(merkle_verify(&head, &proof, &record, sizeof record));
    proof.leaf_index = 1;
    ck_assert(!merkle_verify(&head, &proof, &record, sizeof record));

    /* A deeper tree than path[] can serve must not be read past its end. */
    head.leaf_count = UINT64_MAX;
    proof.path_count = MERKLE_PATH_MAX;
    ck_assert(!merkle_verify(&head, &proof, &record, sizeof record));
    proof.path_count = UINT32_MAX;
    ck_assert(!merkle_verify(&head, &proof, &record, sizeof record));

    merkle_head((struct merkle_leaves){NULL, 0}, &head);
    ck_assert(!merkle_verify(&head, &proof, NULL, 0));
}
END_TEST

/* The CT reference tree's consistency proofs (certificate-transparency/merkletree tests). */
START_TEST(test_consistency_vectors)
{
    static const struct {
        uint64_t old_count, new_count, path_count;
        const char *first_hex;
    } proofs[] = {
        {1, 1, 0, NULL},
        {1, 8, 3, "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"},
        {6, 8, 3, "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"},
        {2, 5, 2, "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"},
    };
    for (size_t i = 0; i < 8; i++) {
        uint8_t data[16];
        const char *hex = vector[i].record_hex;
        ck_assert_uint_eq(hex_decode(hex, strlen(hex), data, strlen(hex) / 2), ERR_OK);
        merkle_leaf(data, strlen(hex) / 2, &leaf_hash[i]);
    }
    for (size_t i = 0; i < sizeof proofs / sizeof proofs[0]; i++) {
        struct merkle_leaves leaves = {.items = leaf_hash, .count = proofs[i].new_count};
        struct merkle_consistency proof;
        ck_assert_uint_eq(merkle_prove_consistency(leaves, proofs[i].old_count, &proof), ERR_OK);
        ck_assert_uint_eq(proof.path_count, proofs[i].path_count);
        ck_assert(proof.path_count == 0 || hash_is(&proof.path[0], proofs[i].first_hex));
    }
}
END_TEST

START_TEST(test_every_pair_of_sizes_is_consistent_and_damage_is_not)
{
    enum { COUNT = 70 };
    struct merkle_head head[COUNT + 1];
    struct merkle_leaves all = leaves_make(COUNT);
    struct merkle_tree tree = {.leaf_count = 0};
    merkle_tree_head(&tree, &head[0]);
    for (uint32_t i = 0; i < COUNT; i++) { /* the growing tree gives each head on the way */
        ck_assert_uint_eq(merkle_tree_append(&tree, &all.items[i]), ERR_OK);
        merkle_tree_head(&tree, &head[i + 1]);
        struct digest root = model_root((struct merkle_leaves){all.items, i + 1});
        ck_assert(digest_equal(&head[i + 1].root, &root));
    }
    for (uint32_t new_count = 0; new_count <= COUNT; new_count++) {
        struct merkle_leaves leaves = {.items = all.items, .count = new_count};
        struct merkle_consistency proof;
        ck_assert_uint_eq(merkle_prove_consistency(leaves, new_count + 1, &proof), ERR_RANGE);
        for (uint32_t old = 0; old <= new_count; old++) {
            ck_assert_uint_eq(merkle_prove_consistency(leaves, old, &proof), ERR_OK);
            ck_assert(merkle_verify_consistency(&head[old], &head[new_count], &proof));
            ck_assert(old == new_count ||
                      !merkle_verify_consistency(&head[new_count], &head[old], &proof));
            struct merkle_consistency bad = proof;
            bad.path_count++;
            ck_assert(!merkle_verify_consistency(&head[old], &head[new_count], &bad));
            bad.path_count = UINT32_MAX;
            ck_assert(!merkle_verify_consistency(&head[old], &head[new_count], &bad));
            struct merkle_head wrong = head[old];
            wrong.root.bytes[test_rand() % MERKLE_HASH_SIZE] ^= 1;
            ck_assert(!merkle_verify_consistency(&wrong, &head[new_count], &proof));
            if (old > 0 && old < new_count) {
                wrong = head[new_count];
                wrong.root.bytes[test_rand() % MERKLE_HASH_SIZE] ^= 1;
                ck_assert(!merkle_verify_consistency(&head[old], &wrong, &proof));
                bad = proof;
                bad.path_count--;
                ck_assert(!merkle_verify_consistency(&head[old], &head[new_count], &bad));
                bad = proof;
                bad.path[test_rand() % proof.path_count].bytes[test_rand() % 32] ^= 1;
                ck_assert(!merkle_verify_consistency(&head[old], &head[new_count], &bad));
            }
        }
    }
    tree.leaf_count = MERKLE_LEAF_MAX;
    ck_assert_uint_eq(merkle_tree_append(&tree, &all.items[0]), ERR_LIMIT);
}
END_TEST

/* Leaves given in perfect subtrees, wherever one fits, make the tree of the leaves given one by one. */
START_TEST(test_subtrees_make_the_same_tree)
{
    enum { COUNT = LEAF_COUNT };
    struct merkle_leaves all = leaves_make(COUNT);
    for (uint32_t most = 0; most <= 4; most++) {
        struct merkle_tree tree = {.leaf_count = 0};
        struct merkle_head head;
        struct merkle_head part;
        while (tree.leaf_count < COUNT) {
            uint32_t level = (uint32_t)(test_rand() % (most + 1));
            while (level > 0 && (tree.leaf_count % (UINT64_C(1) << level) != 0 ||
                                 COUNT - tree.leaf_count < UINT64_C(1) << level)) {
                level--;
            }
            merkle_head((struct merkle_leaves){all.items + tree.leaf_count, UINT64_C(1) << level},
                        &part);
            ck_assert_uint_eq(merkle_tree_append_subtree(&tree, level, &part.root), ERR_OK);
            merkle_tree_head(&tree, &head);
            struct digest root = model_root((struct merkle_leaves){all.items, tree.leaf_count});
            ck_assert(digest_equal(&head.root, &root));
        }
    }
    struct merkle_tree full = {.leaf_count = MERKLE_LEAF_MAX - 4};
    ck_assert_uint_eq(merkle_tree_append_subtree(&full, 2, &all.items[0]), ERR_OK);
    ck_assert_uint_eq(full.leaf_count, MERKLE_LEAF_MAX);
    ck_assert_uint_eq(merkle_tree_append_subtree(&full, 2, &all.items[0]), ERR_LIMIT);
}
END_TEST

/* Misuse by our own code aborts, in every build. */
START_TEST(test_subtree_in_the_wrong_place_aborts)
{
    struct merkle_tree tree = {.leaf_count = 2};
    ck_assert_uint_eq(merkle_tree_append_subtree(&tree, 2, &leaves_make(1).items[0]), ERR_OK);
}
END_TEST

START_TEST(test_null_output_aborts)
{
    merkle_head(leaves_make(1), NULL);
}
END_TEST

START_TEST(test_null_leaves_abort)
{
    struct merkle_head head;
    merkle_head((struct merkle_leaves){NULL, 1}, &head);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merkle");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, test_published_vectors);
    tcase_add_test(rules, test_every_size_matches_model_and_every_proof_verifies);
    tcase_add_test(rules, test_leaves_and_perfect_trees_side_by_side);
    tcase_add_test(rules, test_damaged_proof_never_verifies);
    tcase_add_test(rules, test_subtrees_make_the_same_tree);
    tcase_add_test(rules, test_bounds);
    tcase_add_test(rules, test_consistency_vectors);
    tcase_add_test(rules, test_every_pair_of_sizes_is_consistent_and_damage_is_not);
    suite_add_tcase(suite, rules);
    TCase *misuse = tcase_create("misuse");
    tcase_add_test_raise_signal(misuse, test_subtree_in_the_wrong_place_aborts, SIGABRT);
    tcase_add_test_raise_signal(misuse, test_null_output_aborts, SIGABRT);
    tcase_add_test_raise_signal(misuse, test_null_leaves_abort, SIGABRT);
    suite_add_tcase(suite, misuse);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
