/* tree.c - see tree.h. The walks are those of merkle.c; a subtree's root comes from tiles. */
#include "shared/tlog/tree.h"

#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"

enum { TILES_KEPT = 8 }; /* a proof asks for the same tile once per level of hashes in it */

struct walk {
    const struct tlog_reader *reader;
    uint64_t size;
    struct note *note;
    struct tlog_tile kept[TILES_KEPT];
    struct digest hashes[TILES_KEPT][TLOG_TILE_WIDTH];
    uint32_t next; /* place of the next tile, round robin */
};

static enum err walk_create(const struct tlog_reader *reader, uint64_t size, struct note *note,
                            struct walk **out)
{
    if (size > MERKLE_LEAF_MAX) {
        return note_set(note, ERR_RANGE, "a log of %llu leaves", (unsigned long long)size);
    }
    struct walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL) {
        return note_set(note, ERR_NO_MEMORY, "out of memory");
    }
    walk->reader = reader;
    walk->size = size;
    walk->note = note;
    *out = walk;
    return ERR_OK;
}

/* The hashes of a tile; valid until TILES_KEPT others were asked for. */
static enum err tile_get(struct walk *walk, uint32_t level, uint64_t index,
                         const struct digest **out)
{
    CHECK(walk != NULL);
    for (uint32_t i = 0; i < TILES_KEPT; i++) {
        const struct tlog_tile *kept = &walk->kept[i];
        if (kept->width != 0 && kept->level == level && kept->index == index) {
            *out = walk->hashes[i];
            return ERR_OK;
        }
    }
    const struct tlog_tile tile = {
        .level = level, .index = index, .width = tlog_tile_width(walk->size, level, index)};
    CHECK(tile.width > 0);
    uint32_t place = walk->next++ % TILES_KEPT;
    walk->kept[place] = (struct tlog_tile){.width = 0};
    enum err err =
        walk->reader->tile(walk->reader->context, &tile, walk->hashes[place], walk->note);
    if (err == ERR_OK) {
        walk->kept[place] = tile;
        *out = walk->hashes[place];
    }
    return err;
}

/* Root of the perfect subtree of 2^height leaves, number index at its height, all inside the tree. */
static enum err perfect(struct walk *walk, uint32_t height, uint64_t index, struct digest *out)
{
    uint32_t level = height / TLOG_TILE_HEIGHT;
    uint32_t above = height % TLOG_TILE_HEIGHT; /* levels over the tile's hashes */
    uint64_t first = index << above;
    const struct digest *tile;
    enum err err = tile_get(walk, level, first / TLOG_TILE_WIDTH, &tile);
    if (err != ERR_OK) {
        return err;
    }
    struct merkle_head head;
    merkle_head((struct merkle_leaves){tile + first % TLOG_TILE_WIDTH, UINT64_C(1) << above},
                &head);
    *out = head.root;
    return ERR_OK;
}

/* Root of leaves [first, end): first is a multiple of a power of two that is not below end - first. */
static enum err subtree(struct walk *walk, uint64_t first, uint64_t end, struct digest *out)
{
    struct digest parts[MERKLE_PATH_MAX + 1]; /* perfect subtrees, largest first */
    uint32_t count = 0;
    CHECK(first < end);
    parts[0] = (struct digest){{0}};
    while (first < end) {
        uint32_t height = 63 - (uint32_t)__builtin_clzll(end - first);
        CHECK(count < MERKLE_PATH_MAX + 1);
        enum err err = perfect(walk, height, first >> height, &parts[count++]);
        if (err != ERR_OK) {
            return err;
        }
        first += UINT64_C(1) << height;
    }
    *out = parts[--count];
    while (count > 0) {
        merkle_node(&parts[--count], out, out);
    }
    return ERR_OK;
}

enum err tlog_root(const struct tlog_reader *reader, uint64_t size, struct digest *out_root,
                   struct note *note)
{
    if (size == 0) {
        sha256(bytes_of(NULL, 0), out_root);
        return ERR_OK;
    }
    struct walk *walk = NULL;
    struct digest root;
    enum err err = walk_create(reader, size, note, &walk);
    err = err ? err : subtree(walk, 0, size, &root);
    free(walk);
    if (err == ERR_OK) {
        *out_root = root;
    }
    return err;
}

/* The siblings from node upwards, node being a position at height; appended to path. */
static enum err siblings(struct walk *walk, uint32_t height, uint64_t node, struct digest *path,
                         uint32_t capacity, uint32_t *count)
{
    enum err err = ERR_OK;
    CHECK(walk != NULL);
    for (uint64_t last = (walk->size - 1) >> height; last > 0 && err == ERR_OK;
         height++, node >>= 1, last >>= 1) {
        uint64_t sibling = node ^ 1;
        if (sibling > last) {
            continue;
        }
        uint64_t first = sibling << height;
        uint64_t end = (sibling + 1) << height;
        end = end < walk->size ? end : walk->size;
        CHECK(*count < capacity);
        err = subtree(walk, first, end, &path[*count]);
        *count += 1;
    }
    return err;
}

enum err tlog_prove(const struct tlog_reader *reader, uint64_t size, uint64_t leaf_index,
                    struct merkle_proof *out_proof, struct note *note)
{
    if (leaf_index >= size) {
        return note_set(note, ERR_RANGE, "leaf %llu, the log has %llu",
                        (unsigned long long)leaf_index, (unsigned long long)size);
    }
    struct walk *walk = NULL;
    struct merkle_proof proof = {.leaf_index = leaf_index};
    enum err err = walk_create(reader, size, note, &walk);
    if (err == ERR_OK) {
        CHECK(walk != NULL);
        err = siblings(walk, 0, leaf_index, proof.path, MERKLE_PATH_MAX, &proof.path_count);
    }
    free(walk);
    if (err == ERR_OK) {
        *out_proof = proof;
    }
    return err;
}

enum err tlog_prove_consistency(const struct tlog_reader *reader, uint64_t old_size, uint64_t size,
                                struct merkle_consistency *out_proof, struct note *note)
{
    struct merkle_consistency proof = {.path_count = 0};
    if (old_size > size) {
        return note_set(note, ERR_RANGE, "an older tree of %llu leaves, the log has %llu",
                        (unsigned long long)old_size, (unsigned long long)size);
    }
    if (old_size > 0 && old_size < size) {
        struct walk *walk = NULL;
        uint64_t node = old_size - 1;
        uint32_t height = 0;
        for (; (node & 1) != 0; height++, node >>= 1) { /* as in merkle.c: up to a left child */
        }
        enum err err = walk_create(reader, size, note, &walk);
        if (err == ERR_OK && node > 0) {
            err = perfect(walk, height, node, &proof.path[proof.path_count++]);
        }
        err = err ? err
                  : siblings(walk, height, node, proof.path, MERKLE_CONSISTENCY_MAX,
                             &proof.path_count);
        free(walk);
        if (err != ERR_OK) {
            return err;
        }
    }
    *out_proof = proof;
    return ERR_OK;
}
