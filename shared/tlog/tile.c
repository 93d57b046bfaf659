/* tile.c - see tile.h. */
#include "shared/tlog/tile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shared/base/check.h"

enum { GROUP = 1000, GROUPS_MAX = 4, GROUP_DIGITS = 3 }; /* 10^12 tiles are more than 2^32 leaves */

const char *tlog_tile_path(const struct tlog_tile *tile, char out[TLOG_PATH_SIZE])
{
    CHECK(tile->level < TLOG_LEVELS);
    CHECK(tile->width >= 1);
    CHECK(tile->width <= TLOG_TILE_WIDTH);
    char level[12] = "entries";
    if (!tile->entries) {
        (void)snprintf(level, sizeof level, "%" PRIu32, tile->level);
    }
    int size = snprintf(out, TLOG_PATH_SIZE, "tile/%s/", level);
    unsigned groups[GROUPS_MAX];
    uint32_t count = 0;
    uint64_t rest = tile->index;
    do {
        CHECK(count < GROUPS_MAX);
        groups[count++] = (unsigned)(rest % GROUP);
        rest /= GROUP;
    } while (rest > 0);
    while (count > 0) {
        count--;
        size += snprintf(out + size, TLOG_PATH_SIZE - (size_t)size, count > 0 ? "x%03u/" : "%03u",
                         groups[count]);
    }
    if (tile->width < TLOG_TILE_WIDTH) {
        size += snprintf(out + size, TLOG_PATH_SIZE - (size_t)size, ".p/%" PRIu32, tile->width);
    }
    CHECK(size < TLOG_PATH_SIZE);
    return out;
}

/* Takes a decimal number without leading zeros of at most max. */
static bool take_number(const char **at, uint32_t max, uint32_t *out)
{
    uint32_t value = 0;
    const char *text = *at;
    if (*text == '0') {
        *at = text + 1;
        *out = 0;
        return true;
    }
    while (*text >= '0' && *text <= '9' && value <= max) {
        value = value * 10 + (uint32_t)(*text++ - '0');
    }
    if (text == *at || value > max) {
        return false;
    }
    *at = text;
    *out = value;
    return true;
}

/* Takes the groups of an index; whether they are written as they must be is seen afterwards. */
static bool take_index(const char **at, uint64_t *out)
{
    uint64_t index = 0;
    const char *text = *at;
    for (uint32_t group = 0; group < GROUPS_MAX; group++) {
        bool more = *text == 'x';
        text += more ? 1 : 0;
        for (int digit = 0; digit < GROUP_DIGITS; digit++, text++) {
            if (*text < '0' || *text > '9') {
                return false;
            }
            index = index * 10 + (uint64_t)(*text - '0');
        }
        if (!more) {
            *at = text;
            *out = index;
            return true;
        }
        if (*text++ != '/') {
            return false;
        }
    }
    return false;
}

enum err tlog_tile_parse(const char *path, struct tlog_tile *out_tile)
{
    static const char TILE[] = "tile/";
    static const char ENTRIES[] = "entries/";
    static const char PARTIAL[] = ".p/";
    struct tlog_tile tile = {.width = TLOG_TILE_WIDTH};
    const char *at = path;
    char again[TLOG_PATH_SIZE];
    if (strncmp(at, TILE, sizeof TILE - 1) != 0) {
        return ERR_INVALID;
    }
    at += sizeof TILE - 1;
    tile.entries = strncmp(at, ENTRIES, sizeof ENTRIES - 1) == 0;
    if (tile.entries) {
        at += sizeof ENTRIES - 1;
    } else if (!take_number(&at, TLOG_LEVELS - 1, &tile.level) || *at++ != '/') {
        return ERR_INVALID;
    }
    if (!take_index(&at, &tile.index)) {
        return ERR_INVALID;
    }
    if (strncmp(at, PARTIAL, sizeof PARTIAL - 1) == 0) {
        at += sizeof PARTIAL - 1;
        if (!take_number(&at, TLOG_TILE_WIDTH - 1, &tile.width) || tile.width == 0) {
            return ERR_INVALID;
        }
    }
    if (*at != '\0' || strcmp(tlog_tile_path(&tile, again), path) != 0) {
        return ERR_INVALID;
    }
    *out_tile = tile;
    return ERR_OK;
}

uint32_t tlog_tile_width(uint64_t size, uint32_t level, uint64_t index)
{
    CHECK(level < TLOG_LEVELS);
    uint64_t nodes = size >> (TLOG_TILE_HEIGHT * level);
    uint64_t full = nodes / TLOG_TILE_WIDTH;
    return index < full ? TLOG_TILE_WIDTH : index == full ? (uint32_t)(nodes % TLOG_TILE_WIDTH) : 0;
}
