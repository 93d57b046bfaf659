/* blob.h - content-addressed objects in a folder: the bytes' SHA-256 is their name.
 *
 * Why: rows, versions, models, adapters, receipt batches are named on the ledger by digest; whoever
 * hands out the bytes need not be trusted, because every read is checked against the name.
 *
 * On disk: folder/ab/<64 hex digits>, the first byte says plain (0) or zstd (1). A name appears only
 * when its bytes are durable; putting what is there costs one look. Several processes may share
 * a folder; any thread may use one struct blob_store. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define BLOB_SIZE_MAX (64U << 20) /* bytes of one object */

/* Bytes of all copies of whole files in a folder (blob_file.h), unless a setting says otherwise: two of the largest. */
#define BLOB_COPIES_MAX (UINT64_C(128) << 30)

struct blob_store;

/* Opens or makes the folder. */
MUST_USE enum err blob_open(const char *folder, struct blob_store **out_store, struct note *note);
void blob_close(struct blob_store *store); /* NULL is fine */
const char *blob_store_folder(const struct blob_store *store);
/* Another bound than BLOB_COPIES_MAX; before a second thread has the store. */
void blob_copies_limit(struct blob_store *store, uint64_t size_max);
uint64_t blob_copies_max(const struct blob_store *store);
/* From now on blob_get() sets aside what it finds damaged, so that whoever has the bytes can put them again; for those
 * who keep the folder, not for those who only judge it. Before a second thread has the store. */
void blob_mend(struct blob_store *store);

/* Stores content durably and gives its name. ERR_LIMIT: above BLOB_SIZE_MAX. ERR_FULL,
 * ERR_DENIED, ERR_IO: the disk did not take it, which says nothing about the content. */
MUST_USE enum err blob_put(struct blob_store *store, struct bytes content,
                           struct digest *out_digest, struct note *note);

/* Appends the object to out, whose limit is the ceiling. ERR_NOT_FOUND; ERR_LIMIT: larger than
 * out allows; ERR_CORRUPT: the bytes are not what the name says (the note names it), or were not and lie aside: this folder's
 * fault, never the object's, and over once the bytes are put again. On an error out's contents are as before. */
MUST_USE enum err blob_get(struct blob_store *store, const struct digest *digest, struct buf *out,
                           struct note *note);

bool blob_exists(struct blob_store *store, const struct digest *digest);

/* Forgets an object (a withdrawn row), also what was set aside of it. ERR_NOT_FOUND. */
MUST_USE enum err blob_remove(struct blob_store *store, const struct digest *digest,
                              struct note *note);

/* Calls visit for every object, in the order of names; stops at its first error. */
MUST_USE enum err blob_each(struct blob_store *store,
                            enum err (*visit)(void *argument, const struct digest *digest),
                            void *argument, struct note *note);
