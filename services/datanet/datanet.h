/* datanet.h - the datanet's domain: what a valid row is, which rows of a contribution are new, and
 * what a version consists of.
 *
 * The ledger says who committed what and when; the blobs hold the rows; this file joins them. A
 * version's rows are a pure function of the accepted contributions, taken in the order of their
 * commitments on the ledger: whoever committed a text first keeps the credit.
 *
 * Reads and writes blobs through the store it is given; no sockets, no clock. One thread. */
#pragma once

#include <stdint.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/ledger/ledger.h"

#define DATANET_DUPLICATES_LISTED 1000 /* duplicates named in an answer; all are counted */
#define DATANET_PAGE_DEFAULT 100
#define DATANET_PAGE_MAX 1000

struct datanet;

/* How uploaded, not yet reviewed contents are found: ERR_NOT_FOUND when there is none. */
struct datanet_uploads {
    enum err (*content)(void *context, const struct digest *contribution,
                        struct digest *out_content);
    void *context;
};

/* Borrows blobs and uploads' context. NULL: out of memory. */
struct datanet *datanet_create(struct blob_store *blobs, struct datanet_uploads uploads);
void datanet_destroy(struct datanet *datanet); /* NULL is fine */

/* Is content (a serialised Contribution) exactly what was committed: same datanet, contributor, licence,
 * permission, sizes and root, and every row valid? The note names the first row that is not. */
MUST_USE enum err datanet_content_check(const struct ledger *ledger,
                                        const struct ledger_contribution *contribution,
                                        struct bytes content, struct note *note);

/* What is known of a contribution, duplicates included. Messages live in arena. */
MUST_USE enum err datanet_contribution(struct datanet *datanet, const struct ledger *ledger,
                                       const struct ledger_contribution *contribution,
                                       struct arena *arena,
                                       Openledger__V1__ContributionRecord **out_record,
                                       struct note *note);

/* Makes and stores the manifest of the next version: every row of the accepted contributions that
 * duplicates no earlier one. The action is what the owner signs. ERR_NOT_FOUND: no such datanet, or
 * nothing accepted. The same ledger gives the same bytes. */
MUST_USE enum err datanet_prepare_version(struct datanet *datanet, const struct ledger *ledger,
                                          const char *name, struct arena *arena,
                                          Openledger__V1__PublishVersion **out_action,
                                          struct note *note);

/* Rows from_row... of a version. The text is given only where the datanet's permission is
 * PERMISSION_ALLOWED: rows are not public by themselves. */
MUST_USE enum err datanet_rows(struct blob_store *blobs, const struct ledger *ledger,
                               const Openledger__V1__ListRowsRequest *request, struct arena *arena,
                               Openledger__V1__ListRowsReply **out_reply, struct note *note);

/* Shows that a row is in a version: the leaf and its path to the root on the ledger. */
MUST_USE enum err datanet_prove_row(struct blob_store *blobs, const struct ledger *ledger,
                                    const Openledger__V1__ProveRowRequest *request,
                                    struct arena *arena, Openledger__V1__RowProof **out_proof,
                                    struct note *note);
