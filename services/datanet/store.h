/* store.h - what the datanet service must remember by itself: uploads under way and uploaded contents.
 *
 * The bytes of an upload grow in a file of their own; LMDB holds what was announced and, once the
 * upload is whole, the digest of its blob. Both are durable before the caller hears of them, so an
 * upload goes on after a kill where it stopped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define UPLOAD_TOKEN_SIZE 16

struct datanet_store;

struct upload {
    struct digest contribution;
    uint64_t size;        /* announced, bytes */
    struct digest digest; /* announced, of all bytes */
    uint8_t token[UPLOAD_TOKEN_SIZE];
    bool finished; /* then digest names a blob */
};

/* A damaged store, or one of an older format, is set aside (STORE_ASIDE) and made anew, with a line in the log. */
MUST_USE enum err datanet_store_open(const char *folder, struct datanet_store **out_store,
                                     struct note *note);
void datanet_store_close(struct datanet_store *store); /* NULL is fine */

/* Was it made anew, and are its finished uploads not found again yet (recover.h)? Also after a restart: the damaged
 * file stays until datanet_store_found() deletes it. */
bool datanet_store_lost(const struct datanet_store *store);
MUST_USE enum err datanet_store_found(struct datanet_store *store, struct note *note);

/* ERR_NOT_FOUND: never begun. */
MUST_USE enum err datanet_store_get(struct datanet_store *store, const struct digest *contribution,
                                    struct upload *out_upload, struct note *note);
/* Inserts or replaces, durably. */
MUST_USE enum err datanet_store_put(struct datanet_store *store, const struct upload *upload,
                                    struct note *note);

/* Bytes received so far; 0 when there is no file. */
MUST_USE enum err datanet_store_received(struct datanet_store *store,
                                         const struct digest *contribution, uint64_t *out_size,
                                         struct note *note);
/* Writes data at offset (<= received), durably. */
MUST_USE enum err datanet_store_append(struct datanet_store *store,
                                       const struct digest *contribution, uint64_t offset,
                                       struct bytes data, struct note *note);
/* Appends the whole file to out, whose limit is the ceiling. */
MUST_USE enum err datanet_store_read(struct datanet_store *store, const struct digest *contribution,
                                     struct buf *out, struct note *note);
/* Forgets the file (a finished upload lives as a blob); a missing one is fine. */
MUST_USE enum err datanet_store_discard(struct datanet_store *store,
                                        const struct digest *contribution, struct note *note);
