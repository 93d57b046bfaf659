/* fuzz_tiles.c - a tile server that lies: a true log's tiles with some of their bytes changed or not
 * served at all, and logs of any claimed size.
 *
 * Bytes 0 to 3 choose size, older size and leaf (u16); each further 6 are a lie: level, tile (u16), place (u16), byte.
 * Oracles: whatever the tiles say, a call ends with an error or a proof of bounded length; a proof that holds
 * against the true root is the true proof, and with true tiles it always holds. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/tlog/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum { LEAVES = 66000, LEVELS = 3, LIES_MAX = 64, REFUSED = 255 };

/* Around the edges of tiles, and of tiles of tiles. */
static const uint64_t SIZES[] = {1,
                                 2,
                                 3,
                                 255,
                                 256,
                                 257,
                                 511,
                                 512,
                                 513,
                                 600,
                                 4096,
                                 65280,
                                 65535,
                                 65536,
                                 65537,
                                 LEAVES,
                                 70000,
                                 UINT64_C(1) << 31,
                                 MERKLE_LEAF_MAX,
                                 MERKLE_LEAF_MAX + 1};
enum { SIZE_COUNT = sizeof SIZES / sizeof SIZES[0], TRUE_COUNT = 16 };

struct lie {
    uint32_t level;
    uint64_t index;
    uint32_t place;
    uint8_t byte;
};

struct server {
    struct lie lies[LIES_MAX];
    size_t lie_count;
    bool lied, refused; /* in what it served */
};

static struct digest *hashes[LEVELS]; /* of levels 0, 8 and 16 */
static struct merkle_head heads[TRUE_COUNT];

static void record(uint64_t leaf, uint8_t out[8])
{
    memset(out, 0, 8);
    memcpy(out, &leaf, sizeof leaf);
}

static void start(void)
{
    uint64_t count = LEAVES;
    for (int level = 0; level < LEVELS; level++, count /= TLOG_TILE_WIDTH) {
        hashes[level] = calloc(count, sizeof *hashes[level]);
        CHECK(hashes[level] != NULL);
        for (uint64_t i = 0; i < count; i++) {
            if (level == 0) {
                uint8_t bytes[8];
                record(i, bytes);
                merkle_leaf(bytes, sizeof bytes, &hashes[0][i]);
            } else {
                struct merkle_head head;
                merkle_head((struct merkle_leaves){hashes[level - 1] + i * TLOG_TILE_WIDTH,
                                                   TLOG_TILE_WIDTH},
                            &head);
                hashes[level][i] = head.root;
            }
        }
    }
    for (int i = 0; i < TRUE_COUNT; i++) {
        merkle_head((struct merkle_leaves){hashes[0], SIZES[i]}, &heads[i]);
    }
}

static enum err serve(void *context, const struct tlog_tile *tile, struct digest *out,
                      struct note *note)
{
    struct server *server = context;
    CHECK(!tile->entries && tile->level < TLOG_LEVELS);
    CHECK(tile->width >= 1 && tile->width <= TLOG_TILE_WIDTH);
    for (uint32_t i = 0; i < tile->width; i++) {
        uint64_t at = tile->index * TLOG_TILE_WIDTH + i;
        uint64_t there = (uint64_t)LEAVES >> (TLOG_TILE_HEIGHT * tile->level);
        out[i] = (struct digest){{(uint8_t)at, (uint8_t)tile->level}}; /* beyond the true log */
        if (tile->level < LEVELS && at < there) {
            out[i] = hashes[tile->level][at];
        }
    }
    for (size_t i = 0; i < server->lie_count; i++) {
        const struct lie *lie = &server->lies[i];
        if (lie->level == REFUSED && lie->index == tile->index) {
            server->refused = true;
            return note_set(note, ERR_NOT_FOUND, "no such tile");
        }
        if (lie->level == tile->level && lie->index == tile->index) {
            size_t place = lie->place % (tile->width * sizeof *out);
            ((uint8_t *)out)[place] ^= lie->byte;
            server->lied = server->lied || lie->byte != 0;
        }
    }
    return ERR_OK;
}

static void inclusion(struct server *server, const struct tlog_reader *reader, size_t which,
                      uint64_t leaf)
{
    struct merkle_proof proof;
    struct note note = {""};
    uint8_t bytes[8];
    server->lied = false;
    server->refused = false;
    enum err err = tlog_prove(reader, SIZES[which], leaf, &proof, &note);
    if (err != ERR_OK) {
        CHECK(server->refused || leaf >= SIZES[which] || SIZES[which] > MERKLE_LEAF_MAX);
        return;
    }
    CHECK(!server->refused && proof.path_count <= MERKLE_PATH_MAX && proof.leaf_index == leaf);
    if (which >= TRUE_COUNT) {
        return;
    }
    record(leaf, bytes);
    bool holds = merkle_verify(&heads[which], &proof, bytes, sizeof bytes);
    CHECK(holds || server->lied);
    if (holds && server->lied) { /* then the lies were not in what it is made of */
        struct server honest = {.lie_count = 0};
        const struct tlog_reader other = {serve, &honest};
        struct merkle_proof true_proof;
        CHECK(tlog_prove(&other, SIZES[which], leaf, &true_proof, NULL) == ERR_OK);
        CHECK(true_proof.path_count == proof.path_count &&
              memcmp(true_proof.path, proof.path, proof.path_count * sizeof proof.path[0]) == 0);
    }
}

static void consistency(struct server *server, const struct tlog_reader *reader, size_t older,
                        size_t newer)
{
    struct merkle_consistency proof;
    struct digest root;
    server->lied = false;
    server->refused = false;
    enum err err = tlog_prove_consistency(reader, SIZES[older], SIZES[newer], &proof, NULL);
    if (err == ERR_OK) {
        CHECK(!server->refused && proof.path_count <= MERKLE_CONSISTENCY_MAX);
        CHECK(newer >= TRUE_COUNT || server->lied ||
              merkle_verify_consistency(&heads[older], &heads[newer], &proof));
    }
    server->lied = false;
    err = tlog_root(reader, SIZES[newer], &root, NULL);
    CHECK(err != ERR_OK || newer >= TRUE_COUNT || server->lied ||
          digest_equal(&root, &heads[newer].root));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct server server = {.lie_count = 0};
    const struct tlog_reader reader = {serve, &server};
    struct bytes input = bytes_of(data, data_size);
    uint8_t newer;
    uint8_t older;
    uint8_t level;
    uint16_t leaf;
    uint16_t tile;
    uint16_t place;
    if (hashes[0] == NULL) {
        start();
    }
    if (bytes_take_u8(&input, &newer) != ERR_OK || bytes_take_u8(&input, &older) != ERR_OK ||
        bytes_take_u16le(&input, &leaf) != ERR_OK) {
        return 0;
    }
    while (server.lie_count < LIES_MAX && bytes_take_u8(&input, &level) == ERR_OK &&
           bytes_take_u16le(&input, &tile) == ERR_OK &&
           bytes_take_u16le(&input, &place) == ERR_OK) {
        struct lie *lie = &server.lies[server.lie_count];
        *lie = (struct lie){.level = level, .index = tile, .place = place};
        server.lie_count += bytes_take_u8(&input, &lie->byte) == ERR_OK ? 1 : 0;
    }
    size_t which = newer % SIZE_COUNT;
    inclusion(&server, &reader, which, leaf);
    inclusion(&server, &reader, which, SIZES[which] - 1 - leaf % SIZES[which]);
    consistency(&server, &reader, older % TRUE_COUNT, which);
    return 0;
}
