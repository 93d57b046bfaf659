/* shares.h - from ledger objects to an attribution index, and from an opening to its ShareSet.
 *
 * The attribution service and the verifier run these very functions; so whoever holds base model,
 * adapter, rows and an opening gets the bytes that were paid by, or shows that they are wrong. Pure. */
#pragma once

#include <stdint.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/attrib/attrib.h"
#include "shared/lineage/lineage.h"

#define LINEAGE_SHARE_SET_MAX (1U << 20) /* bytes of a serialised ShareSet */

/* What the ledger says of an adapter's origin: a copy, for another thread than the ledger's. */
struct lineage_adapter {
    char name[LEDGER_NAME_MAX + 1];
    struct digest content;
    struct digest model_content;
    struct digest model_profile;
    uint32_t context; /* that its job was trained with */
    bool has_index;
    struct digest index;
    struct lineage_plan plan; /* its rows */
};

/* ERR_NOT_FOUND: no such adapter. */
MUST_USE enum err lineage_adapter_init(const struct ledger *ledger, const char *name,
                                       struct lineage_adapter *out, struct note *note);
void lineage_adapter_deinit(struct lineage_adapter *adapter); /* a zeroed one is fine */

/* What an adapter's index is built from; all borrowed for the call. */
struct lineage_build {
    struct blob_store *blobs;
    const struct lineage_adapter *origin;
    const struct lineage_base *base;
    const struct lm_adapter *adapter;
    const struct parallel *parallel;
    attrib_progress_fn *progress; /* may be NULL */
    void *context;                /* progress's */
};

/* Builds the index of an adapter from its objects. Errors as lineage_rows_load and
 * attrib_index_build. */
MUST_USE enum err lineage_index_build(const struct lineage_build *build, struct attrib_index **out,
                                      struct note *note);

/* Does this opening open this receipt: adapter, token counts, both commitments? ERR_INVALID says what
 * does not fit. */
MUST_USE enum err lineage_opening_check(const Openledger__V1__Receipt *receipt,
                                        const struct digest *receipt_id,
                                        const Openledger__V1__Opening *opening, struct note *note);

/* What attribution works with for one adapter; borrowed. */
struct lineage_judge {
    const struct lineage_base *base;
    const struct lm_adapter *adapter;
    const struct attrib_index *index;
    struct digest index_digest; /* as on the ledger */
};

/* Derives the shares of an opened answer and appends the serialised ShareSet to out_set. An answer
 * without tokens is wholly unearned. out_result (for the evidence): deinit it. */
MUST_USE enum err lineage_shares(const struct lineage_judge *judge, const struct digest *receipt_id,
                                 const Openledger__V1__Opening *opening,
                                 const struct parallel *parallel, struct attrib_result *out_result,
                                 struct buf *out_set, struct note *note);
