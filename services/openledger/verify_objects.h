/* verify_objects.h - does the ledger say the truth about the objects it names? */
#pragma once

#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/ledger/ledger.h"

struct verify_objects {
    uint64_t blobs, contributions, versions, transcripts;
};

/* Derives again, from the blobs, each accepted contribution's root, each version's root and
 * contributors, each transcript's root; models, adapters and indexes must be there; every blob in the
 * folder must hash to its name. The first that does not: an error that names it. */
MUST_USE enum err verify_objects(const struct ledger *ledger, struct blob_store *blobs,
                                 struct verify_objects *out_counts, struct note *note);
