/* store.h - a log's tiles as files: appended to, published, read for proofs.
 *
 * A folder with tile/0/x001/234 and so on, named as over HTTP, so any web server may serve it. A full tile
 * is written once, on disk before the next one, and never changes. Partial tiles are written when a tree
 * size is published; those of a tile go when the tile after it is full. All of it can be rebuilt
 * from the leaves.
 *
 * A store belongs to one thread; tlog_files_* read the published files from any thread. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/tlog/tree.h"

struct tlog_store;

/* Opens or makes the folder. What was appended behind the last full tile is forgotten: ask
 * tlog_store_size() and append the rest again. ERR_CORRUPT: a tile has a wrong size; clear it. */
MUST_USE enum err tlog_store_open(const char *folder, struct tlog_store **out_store,
                                  struct note *note);
void tlog_store_close(struct tlog_store *store); /* NULL is fine */
/* Removes every tile: for when the root is not what it should be. */
MUST_USE enum err tlog_store_clear(struct tlog_store *store, struct note *note);

uint64_t tlog_store_size(const struct tlog_store *store); /* leaves */
const char *tlog_store_folder(const struct tlog_store *store);

/* Appends a leaf. ERR_LIMIT: above TLOG_ENTRY_MAX bytes, or MERKLE_LEAF_MAX leaves. Writes to disk once in
 * 256 leaves; after an error of the disk the store must be closed. */
MUST_USE enum err tlog_store_append(struct tlog_store *store, struct bytes entry,
                                    struct note *note);
/* Writes the partial tiles of the tree as it is now; quick, not waiting for the disk. */
MUST_USE enum err tlog_store_publish(struct tlog_store *store, struct note *note);

/* Reads all leaves so far, published or not. Borrowed from the store; its thread only. */
struct tlog_reader tlog_store_reader(struct tlog_store *store);

/* Appends a published tile or bundle. A partial one that is gone is cut from the full one.
 * ERR_NOT_FOUND: neither is there; ERR_CORRUPT: of a wrong size. */
MUST_USE enum err tlog_files_read(const char *folder, const struct tlog_tile *tile, struct buf *out,
                                  struct note *note);
/* folder is borrowed. */
struct tlog_reader tlog_files_reader(const char *folder);

/* Takes the next entry of a bundle. ERR_INVALID: it is cut off. */
MUST_USE enum err tlog_bundle_take(struct bytes *bundle, struct bytes *out_entry);
/* Hashes of a tile's bytes. ERR_INVALID: not width of them. */
MUST_USE enum err tlog_tile_hashes(struct bytes data, uint32_t width, struct digest *out);
