/* recover.h - uploads found again among the blobs, after the store of uploads was damaged.
 *
 * An uploaded, not yet reviewed content is a blob, but which one is known only to the store: the ledger has its root
 * of salted rows, not its digest. Nothing is lost with the store, though: whichever blob gives exactly the root that
 * was committed is the content. */
#pragma once

#include "services/datanet/store.h"
#include "shared/blob/blob.h"
#include "shared/ledger/ledger.h"

/* Looks through all blobs for the contents of contributions that are not reviewed, or were rejected, and notes
 * them as finished uploads (under a new token). Blobs that are too large, damaged or something else are passed over.
 * *out_count: contents found. Costs a read of every blob: a folder of 100,000 takes about a minute. Errors: the
 * store's and the disk's; what was found until then is kept, and it can be called again. */
MUST_USE enum err datanet_recover(struct datanet_store *store, struct blob_store *blobs,
                                  const struct ledger *ledger, uint64_t *out_count,
                                  struct note *note);
