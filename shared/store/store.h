/* store.h - ordered key-value tables with transactions on LMDB: checkpoints and indexes.
 *
 * Everything in a store is derived from log and blobs and may be deleted at any time; a service
 * rebuilds it. Keys are 1..STORE_KEY_MAX bytes and sort by byte order: write numbers big-endian.
 *
 *     struct store_options options = {.folder = path, .tables = NAMES, .table_count = 2};
 *     store_open(&options, &store, &note);
 *     store_begin(store, STORE_WRITE, &txn, &note);
 *     store_put(txn, TABLE_HEADS, key, value, &note);
 *     store_commit(txn, &note);
 *
 * Threads: one write transaction at a time (others wait); reads never wait. A transaction belongs to
 * the thread that began it; a thread has at most one read transaction. Caveats: do not open the
 * same folder twice in one process; a read transaction left open keeps old pages from being reused.
 * Values given by reads are borrowed until the transaction's next write or its end. Each is kept with a checksum:
 * a read of one that was changed since the opening gives ERR_CORRUPT. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define STORE_KEY_MAX 511 /* bytes, LMDB's own bound */
#define STORE_TABLES_MAX 64
#define STORE_SIZE_DEFAULT (UINT64_C(4) << 30) /* bytes of address space, not of disk */

struct store;
struct store_txn;

struct store_options {
    const char *folder; /* made when missing */
    uint64_t size_max;  /* 0: STORE_SIZE_DEFAULT; past it puts get ERR_LIMIT */
    const char *const *tables;
    uint32_t table_count; /* tables are then named by position */
    bool durable; /* false: a crash keeps the store consistent, but may lose the last commits */
};

enum store_access { STORE_READ, STORE_WRITE };

/* ERR_CORRUPT: the file is no store, was cut short or has damaged pages (note: which), or tables of other names:
 * all that is in use is read first, so that no damage is believed or ends the process. ERR_CONFLICT: another process has
 * it open (or this one). */
MUST_USE enum err store_open(const struct store_options *options, struct store **out_store,
                             struct note *note);
/* As store_open, for a service that can make the contents again: where that is ERR_CORRUPT, the file is set aside in
 * its folder as STORE_ASIDE (replacing an earlier one), the store begins empty, *out_anew is true and the note says
 * why and where the file is now. */
#define STORE_ASIDE "data.mdb.damaged"
MUST_USE enum err store_open_anew(const struct store_options *options, struct store **out_store,
                                  bool *out_anew, struct note *note);
/* The file that was set aside: is it still there? It may go once its contents are there again. */
bool store_aside(const char *folder);
MUST_USE enum err store_aside_remove(const char *folder, struct note *note);
void store_close(struct store *store); /* NULL is fine; no transaction may be open */

MUST_USE enum err store_begin(struct store *store, enum store_access access,
                              struct store_txn **out_txn, struct note *note);
/* Ends the transaction in any case; on an error nothing of it is kept. */
MUST_USE enum err store_commit(struct store_txn *txn, struct note *note);
void store_abort(struct store_txn *txn); /* NULL is fine */

/* ERR_NOT_FOUND without a word in the note: often no error. */
MUST_USE enum err store_get(struct store_txn *txn, uint32_t table, struct bytes key,
                            struct bytes *out_value, struct note *note);
/* Inserts or replaces. value: not one that a read of this store gave. ERR_INVALID: key empty or too long.
 * ERR_LIMIT: store full. */
MUST_USE enum err store_put(struct store_txn *txn, uint32_t table, struct bytes key,
                            struct bytes value, struct note *note);
MUST_USE enum err store_remove(struct store_txn *txn, uint32_t table, struct bytes key,
                               struct note *note); /* ERR_NOT_FOUND */
MUST_USE enum err store_clear(struct store_txn *txn, uint32_t table, struct note *note);
MUST_USE enum err store_count(struct store_txn *txn, uint32_t table, uint64_t *out_count,
                              struct note *note);

/* A walk in key order. Ends with its transaction; close it before. */
struct store_cursor;
/* Stands before the first key >= first (empty: the smallest); descending: before the last key
 * <= first (empty: the largest). */
MUST_USE enum err store_cursor_open(struct store_txn *txn, uint32_t table, struct bytes first,
                                    bool descending, struct store_cursor **out_cursor,
                                    struct note *note);
/* Gives the next pair. ERR_NOT_FOUND at the end. */
MUST_USE enum err store_cursor_next(struct store_cursor *cursor, struct bytes *out_key,
                                    struct bytes *out_value, struct note *note);
void store_cursor_close(struct store_cursor *cursor); /* NULL is fine */

/* Numbers as keys that sort by value. */
struct store_key_u64 {
    uint8_t bytes[8];
};
struct store_key_u64 store_key_u64(uint64_t value);
MUST_USE enum err store_key_u64_parse(struct bytes key, uint64_t *out_value); /* ERR_CORRUPT */
