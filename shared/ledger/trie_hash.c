/* trie_hash.c - see trie_hash.h. */
#include "shared/ledger/trie_hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/records.h"

enum {
    HEIGHTS = 8 * DIGEST_SIZE +
              1, /* a leaf has height 0, and a path at most as many branches as keys have bits */
    SIDE_BY_SIDE = 32,
    LEAVES_BYTES = 4 * RECORD_ENCODED_MAX /* of leaves hashed together */
};

static_assert(sizeof(struct trie_label) == 2 + 2 * DIGEST_SIZE, "nothing between its members");

struct trie_hash {
    const struct leaf *leaf;        /* NULL: a branch */
    const struct trie_label *label; /* of the branch */
    struct digest *out;
    uint32_t height;
};

static uint32_t put(struct trie_hashes *hashes, struct trie_hash hash)
{
    if (hashes->count == hashes->capacity) {
        hashes->capacity = hashes->capacity == 0 ? 256 : 2 * hashes->capacity;
        hashes->items = realloc(hashes->items, hashes->capacity * sizeof *hashes->items);
        hashes->sorted = realloc(hashes->sorted, hashes->capacity * sizeof *hashes->sorted);
        CHECK(hashes->items != NULL);
        CHECK(hashes->sorted != NULL);
    }
    hashes->items[hashes->count] = hash;
    return hashes->count++;
}

uint32_t trie_hashes_leaf(struct trie_hashes *hashes, const struct leaf *leaf)
{
    return put(hashes, (struct trie_hash){.leaf = leaf});
}

/* Of a branch above that child. */
static uint32_t height_above(const struct trie_hashes *hashes, uint32_t child)
{
    return child == TRIE_HASH_NONE ? 1 : hashes->items[child].height + 1;
}

uint32_t trie_hashes_branch(struct trie_hashes *hashes, const struct trie_label *label,
                            uint32_t left, uint32_t right)
{
    uint32_t above_left = height_above(hashes, left);
    uint32_t above_right = height_above(hashes, right);
    return put(hashes,
               (struct trie_hash){.label = label,
                                  .height = above_left > above_right ? above_left : above_right});
}

void trie_hashes_to(struct trie_hashes *hashes, uint32_t number, struct digest *out_hash)
{
    CHECK(number < hashes->count);
    CHECK(hashes->items[number].out == NULL);
    hashes->items[number].out = out_hash;
}

/* Messages gathered to be hashed together, and whose they are. */
struct gathered {
    struct bytes messages[SIDE_BY_SIDE];
    const struct trie_hash *of[SIDE_BY_SIDE];
    size_t count;
    uint8_t leaves[LEAVES_BYTES]; /* key and record of each */
    size_t used;
};

static void gathered_hash(struct gathered *gathered, uint8_t prefix)
{
    struct digest digests[SIDE_BY_SIDE];
    sha256_many(bytes_of(&prefix, 1), gathered->messages, gathered->count, digests);
    for (size_t i = 0; i < gathered->count; i++) {
        *gathered->of[i]->out = digests[i];
    }
    gathered->count = 0;
    gathered->used = 0;
}

static void gather(struct gathered *gathered, uint8_t prefix, const struct trie_hash *hash,
                   struct bytes message)
{
    gathered->messages[gathered->count] = message;
    gathered->of[gathered->count++] = hash;
    if (gathered->count == SIDE_BY_SIDE) {
        gathered_hash(gathered, prefix);
    }
}

static void gather_leaf(struct gathered *gathered, const struct trie_hash *hash)
{
    const struct leaf *leaf = hash->leaf;
    struct record_encoder encoder;
    encoder.size = 0;
    record_put(&encoder, leaf->key.bytes, DIGEST_SIZE);
    record_encode((enum state_kind)leaf->kind, false, leaf->record, &encoder);
    if (LEAVES_BYTES - gathered->used < encoder.size) {
        gathered_hash(gathered, STATE_LEAF_PREFIX);
    }
    uint8_t *at = gathered->leaves + gathered->used;
    memcpy(at, encoder.data, encoder.size);
    gathered->used += encoder.size;
    gather(gathered, STATE_LEAF_PREFIX, hash, bytes_of(at, encoder.size));
}

/* By height; out_end[h]: behind the last of height h. Returns how many heights there are. */
static uint32_t sort(const struct trie_hashes *hashes, uint32_t first, uint32_t out_end[HEIGHTS])
{
    uint32_t heights = 0;
    uint32_t begin = 0;
    for (uint32_t i = first; i < hashes->count; i++) {
        for (; heights <= hashes->items[i].height; heights++) {
            CHECK(heights < HEIGHTS);
            out_end[heights] = 0;
        }
        out_end[hashes->items[i].height]++;
    }
    for (uint32_t height = 0; height < heights; height++) {
        uint32_t count = out_end[height];
        out_end[height] = begin;
        begin += count;
    }
    for (uint32_t i = first; i < hashes->count; i++) {
        hashes->sorted[out_end[hashes->items[i].height]++] = &hashes->items[i];
    }
    return heights;
}

void trie_hashes_run(struct trie_hashes *hashes, uint32_t first)
{
    uint32_t end[HEIGHTS];
    uint32_t heights = sort(hashes, first, end);
    struct gathered gathered;
    gathered.count = 0;
    gathered.used = 0;
    for (uint32_t height = 0, i = 0; height < heights; height++) {
        for (; i < end[height]; i++) {
            const struct trie_hash *hash = hashes->sorted[i];
            if (hash->leaf != NULL) {
                gather_leaf(&gathered, hash);
            } else {
                gather(&gathered, STATE_BRANCH_PREFIX, hash,
                       bytes_of(hash->label, sizeof *hash->label));
            }
        }
        gathered_hash(&gathered, height == 0 ? STATE_LEAF_PREFIX : STATE_BRANCH_PREFIX);
    }
    hashes->count = first;
}

void trie_hashes_deinit(struct trie_hashes *hashes)
{
    free(hashes->items);
    free(hashes->sorted);
    *hashes = (struct trie_hashes){.count = 0};
}
