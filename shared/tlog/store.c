/* store.c - see store.h. */
#include "shared/tlog/store.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/file.h"

struct edge { /* the rightmost, unfinished tile of a level */
    struct digest hashes[TLOG_TILE_WIDTH];
    uint32_t count;
};

struct tlog_store {
    char folder[FILE_PATH_SIZE];
    uint64_t size;
    uint64_t published; /* the partial tiles of this size are there */
    struct edge edges[TLOG_LEVELS];
    struct buf bundle; /* the entries under edges[0] */
};

/* ---- reading files ------------------------------------------------------------------------------ */

enum err tlog_bundle_take(struct bytes *bundle, struct bytes *out_entry)
{
    if (bundle->size < 2) {
        return ERR_INVALID;
    }
    size_t size = (size_t)bundle->data[0] << 8 | bundle->data[1];
    if (bundle->size - 2 < size) {
        return ERR_INVALID;
    }
    *out_entry = bytes_of(bundle->data + 2, size);
    *bundle = bytes_of(bundle->data + 2 + size, bundle->size - 2 - size);
    return ERR_OK;
}

enum err tlog_tile_hashes(struct bytes data, uint32_t width, struct digest *out)
{
    if (data.size != (size_t)width * DIGEST_SIZE) {
        return ERR_INVALID;
    }
    memcpy(out, data.data, data.size);
    return ERR_OK;
}

static enum err path_of(const char *folder, const struct tlog_tile *tile, char out[FILE_PATH_SIZE])
{
    char name[TLOG_PATH_SIZE];
    return file_path(out, "%s/%s", folder, tlog_tile_path(tile, name));
}

/* How many bytes the first width entries or hashes take; 0: they are not all there. */
static size_t cut_size(const struct tlog_tile *tile, struct bytes data)
{
    if (!tile->entries) {
        size_t size = (size_t)tile->width * DIGEST_SIZE;
        return data.size < size ? 0 : size;
    }
    struct bytes rest = data;
    struct bytes entry;
    for (uint32_t i = 0; i < tile->width; i++) {
        if (tlog_bundle_take(&rest, &entry) != ERR_OK) {
            return 0;
        }
    }
    return data.size - rest.size;
}

enum err tlog_files_read(const char *folder, const struct tlog_tile *tile, struct buf *out,
                         struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct tlog_tile full = *tile;
    size_t before = out->size;
    full.width = TLOG_TILE_WIDTH;
    enum err err = path_of(folder, tile, path);
    err = err ? err : file_read(path, out, note);
    bool cut = err == ERR_NOT_FOUND && tile->width < TLOG_TILE_WIDTH;
    if (cut) {
        err = path_of(folder, &full, path);
        err = err ? err : file_read(path, out, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct bytes data = bytes_of(out->data + before, out->size - before);
    size_t size = cut_size(tile, data);
    if (size == 0 || (!cut && size != data.size)) {
        buf_truncate(out, before);
        return note_set(note, ERR_CORRUPT, "%s has not %u items", path, tile->width);
    }
    buf_truncate(out, before + size);
    return ERR_OK;
}

static enum err files_tile(void *context, const struct tlog_tile *tile, struct digest *out,
                           struct note *note)
{
    union { /* the reader's context is not const */
        void *in;
        const char *folder;
    } at = {.in = context};
    struct buf data;
    buf_init(&data, (size_t)TLOG_TILE_WIDTH * DIGEST_SIZE);
    enum err err = tlog_files_read(at.folder, tile, &data, note);
    err = err ? err : tlog_tile_hashes(buf_bytes(&data), tile->width, out);
    buf_deinit(&data);
    return err;
}

struct tlog_reader tlog_files_reader(const char *folder)
{
    union {
        const char *in;
        void *context;
    } at = {.in = folder};
    return (struct tlog_reader){.tile = files_tile, .context = at.context};
}

static enum err store_tile(void *context, const struct tlog_tile *tile, struct digest *out,
                           struct note *note)
{
    const struct tlog_store *store = context;
    const struct edge *edge = &store->edges[tile->level];
    uint64_t full = (store->size >> (TLOG_TILE_HEIGHT * tile->level)) / TLOG_TILE_WIDTH;
    if (tile->index < full) {
        struct tlog_reader files = tlog_files_reader(store->folder);
        return files.tile(files.context, tile, out, note);
    }
    CHECK(tile->index == full && tile->width <= edge->count);
    memcpy(out, edge->hashes, tile->width * sizeof *out);
    return ERR_OK;
}

struct tlog_reader tlog_store_reader(struct tlog_store *store)
{
    return (struct tlog_reader){.tile = store_tile, .context = store};
}

/* ---- writing ------------------------------------------------------------------------------------ */

static enum err tile_write(const struct tlog_store *store, const struct tlog_tile *tile,
                           struct bytes data, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = path_of(store->folder, tile, path);
    if (err != ERR_OK) {
        return err;
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    err = file_exists(path) ? ERR_OK : file_make_folders(path, note);
    *slash = '/';
    return err                             ? err
           : tile->width < TLOG_TILE_WIDTH ? file_write_quick(path, data, 0644, note)
                                           : file_write_atomic(path, data, 0644, note);
}

/* The partial tiles of the tile before this one are not needed any more. */
static enum err partials_remove(const struct tlog_store *store, const struct tlog_tile *tile,
                                struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct tlog_tile before = *tile;
    if (tile->index == 0) {
        return ERR_OK;
    }
    before.index--;
    before.width = 1;
    enum err err = path_of(store->folder, &before, path);
    if (err == ERR_OK) {
        *strrchr(path, '/') = '\0'; /* .../233.p */
        err = file_remove_tree(path, note);
    }
    return err;
}

static struct bytes hashes_bytes(const struct edge *edge)
{
    return bytes_of(edge->hashes, edge->count * sizeof edge->hashes[0]);
}

/* Adds a hash to a level and, where that fills a tile, the tile's root to the level above. */
static enum err edge_add(struct tlog_store *store, const struct digest *hash, struct note *note)
{
    struct digest carry = *hash;
    for (uint32_t level = 0; level < TLOG_LEVELS; level++) {
        struct edge *edge = &store->edges[level];
        edge->hashes[edge->count++] = carry;
        if (edge->count < TLOG_TILE_WIDTH) {
            return ERR_OK;
        }
        struct tlog_tile tile = {.level = level,
                                 .index = (store->size >> (TLOG_TILE_HEIGHT * (level + 1))),
                                 .width = TLOG_TILE_WIDTH};
        struct tlog_tile bundle = {.entries = true, .index = tile.index, .width = TLOG_TILE_WIDTH};
        enum err err = ERR_OK;
        if (level == 0) { /* before the tile, whose file says that all of this is there */
            err = tile_write(store, &bundle, buf_bytes(&store->bundle), note);
            err = err ? err : partials_remove(store, &bundle, note);
            buf_clear(&store->bundle);
        }
        err = err ? err : tile_write(store, &tile, hashes_bytes(edge), note);
        err = err ? err : partials_remove(store, &tile, note);
        if (err != ERR_OK) {
            return err;
        }
        struct merkle_head head;
        merkle_head((struct merkle_leaves){edge->hashes, TLOG_TILE_WIDTH}, &head);
        carry = head.root;
        edge->count = 0;
    }
    return ERR_OK;
}

enum err tlog_store_append(struct tlog_store *store, struct bytes entry, struct note *note)
{
    if (entry.size > TLOG_ENTRY_MAX || store->size == MERKLE_LEAF_MAX) {
        return note_set(note, ERR_LIMIT, "leaf %llu of %zu bytes, at most %d",
                        (unsigned long long)store->size, entry.size, TLOG_ENTRY_MAX);
    }
    const uint8_t size[2] = {(uint8_t)(entry.size >> 8), (uint8_t)entry.size};
    struct digest leaf;
    (void)buf_append(&store->bundle, size, sizeof size);
    enum err err = buf_append_bytes(&store->bundle, entry);
    if (err != ERR_OK) {
        return err;
    }
    merkle_leaf(entry.data, entry.size, &leaf);
    err = edge_add(store, &leaf, note);
    store->size++;
    return err;
}

enum err tlog_store_publish(struct tlog_store *store, struct note *note)
{
    enum err err = ERR_OK;
    if (store->published == store->size) {
        return ERR_OK;
    }
    for (uint32_t level = 0; level < TLOG_LEVELS && err == ERR_OK; level++) {
        const struct edge *edge = &store->edges[level];
        if (edge->count == 0) {
            continue;
        }
        struct tlog_tile tile = {.level = level,
                                 .index = store->size >> (TLOG_TILE_HEIGHT * (level + 1)),
                                 .width = edge->count};
        if (level == 0) {
            struct tlog_tile bundle = tile;
            bundle.entries = true;
            err = tile_write(store, &bundle, buf_bytes(&store->bundle), note);
        }
        err = err ? err : tile_write(store, &tile, hashes_bytes(edge), note);
    }
    store->published = err ? store->published : store->size;
    return err;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static bool full_exists(const struct tlog_store *store, uint32_t level, uint64_t index)
{
    char path[FILE_PATH_SIZE];
    const struct tlog_tile tile = {.level = level, .index = index, .width = TLOG_TILE_WIDTH};
    return path_of(store->folder, &tile, path) == ERR_OK && file_exists(path);
}

/* Full tiles of level 0: each is on disk before the next is written, so there is no gap. */
static uint64_t full_count(const struct tlog_store *store)
{
    uint64_t low = 0;
    uint64_t high = 1;
    while (high < MERKLE_LEAF_MAX / TLOG_TILE_WIDTH && full_exists(store, 0, high - 1)) {
        low = high;
        high *= 2;
    }
    while (low < high) { /* low tiles are there; is tile number middle? */
        uint64_t middle = low + (high - low) / 2;
        if (full_exists(store, 0, middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The unfinished tile of a level, from the full ones below; and the last full one, where a crash came
 * between it and the one below. */
static enum err edge_load(struct tlog_store *store, uint32_t level, struct note *note)
{
    struct tlog_reader below = tlog_files_reader(store->folder);
    struct edge *edge = &store->edges[level];
    uint64_t nodes = store->size >> (TLOG_TILE_HEIGHT * level);
    uint64_t first = nodes / TLOG_TILE_WIDTH * TLOG_TILE_WIDTH;
    bool again = first > 0 && !full_exists(store, level, first / TLOG_TILE_WIDTH - 1);
    uint64_t node = again ? first - TLOG_TILE_WIDTH : first;
    enum err err = ERR_OK;
    for (; node < nodes && err == ERR_OK; node++) {
        struct digest hashes[TLOG_TILE_WIDTH];
        struct merkle_head head;
        const struct tlog_tile tile = {.level = level - 1, .index = node, .width = TLOG_TILE_WIDTH};
        err = below.tile(below.context, &tile, hashes, note);
        if (err == ERR_OK) {
            merkle_head((struct merkle_leaves){hashes, TLOG_TILE_WIDTH}, &head);
            edge->hashes[edge->count++] = head.root;
        }
        if (err == ERR_OK && edge->count == TLOG_TILE_WIDTH) {
            const struct tlog_tile full = {
                .level = level, .index = node / TLOG_TILE_WIDTH, .width = TLOG_TILE_WIDTH};
            err = tile_write(store, &full, hashes_bytes(edge), note);
            edge->count = 0;
        }
    }
    return err;
}

enum err tlog_store_open(const char *folder, struct tlog_store **out_store, struct note *note)
{
    struct tlog_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    buf_init(&store->bundle, TLOG_BUNDLE_MAX);
    enum err err = file_path(store->folder, "%s", folder);
    err = err ? err : file_make_folders(folder, note);
    if (err == ERR_OK) {
        store->size = full_count(store) * TLOG_TILE_WIDTH;
    }
    for (uint32_t level = 1; level < TLOG_LEVELS && err == ERR_OK; level++) {
        err = edge_load(store, level, note);
    }
    if (err != ERR_OK) {
        tlog_store_close(store);
        return err;
    }
    *out_store = store;
    return ERR_OK;
}

void tlog_store_close(struct tlog_store *store)
{
    if (store != NULL) {
        buf_deinit(&store->bundle);
        free(store);
    }
}

enum err tlog_store_clear(struct tlog_store *store, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = file_path(path, "%s/tile", store->folder);
    err = err ? err : file_remove_tree(path, note);
    if (err == ERR_OK) {
        store->size = 0;
        store->published = 0;
        buf_clear(&store->bundle);
        memset(store->edges, 0, sizeof store->edges);
    }
    return err;
}

uint64_t tlog_store_size(const struct tlog_store *store)
{
    return store->size;
}

const char *tlog_store_folder(const struct tlog_store *store)
{
    return store->folder;
}
