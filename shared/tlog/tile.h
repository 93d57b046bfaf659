/* tile.h - where a log's tiles and entry bundles lie: the paths of C2SP tlog-tiles.
 *
 *     tile/<L>/<N>[.p/<W>]       up to 256 hashes of level 8 * L of the RFC 6962 tree
 *     tile/entries/<N>[.p/<W>]   the leaves under tile 0/N, each after its size (u16, big-endian)
 *
 * N is written in groups of three digits, all but the last after an 'x': 1234067 is x001/x234/067. A tile
 * of fewer than 256 hashes is partial and says its width W.
 *
 * Source: https://c2sp.org/tlog-tiles. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/err.h"
#include "shared/merkle/merkle.h"

#define TLOG_TILE_HEIGHT 8
#define TLOG_TILE_WIDTH 256
#define TLOG_LEVELS 5            /* of tiles, enough for MERKLE_LEAF_MAX leaves */
#define TLOG_PATH_SIZE 64        /* bytes of a path with its NUL */
#define TLOG_ENTRY_MAX 65535     /* bytes of one leaf */
#define TLOG_BUNDLE_MAX 16777472 /* bytes of an entry bundle: 256 * (2 + TLOG_ENTRY_MAX) */

struct tlog_tile {
    bool entries;   /* an entry bundle; level is 0 then */
    uint32_t level; /* below TLOG_LEVELS */
    uint64_t index; /* within the level, from 0 */
    uint32_t width; /* 1..TLOG_TILE_WIDTH hashes */
};

/* Writes the path, without a slash in front. Returns out. */
const char *tlog_tile_path(const struct tlog_tile *tile, char out[TLOG_PATH_SIZE]);
/* Reads a path exactly as tlog_tile_path() writes it: ERR_INVALID for any other text. */
MUST_USE enum err tlog_tile_parse(const char *path, struct tlog_tile *out_tile);

/* Hashes (or bundles' entries) that tile index of a level holds in a tree of size leaves; 0: none. */
uint32_t tlog_tile_width(uint64_t size, uint32_t level, uint64_t index);
