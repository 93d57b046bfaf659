/* lineage.h - what an adapter comes from, read out of content-addressed objects and checked.
 *
 * Why a room: trainer, attribution and verifier must turn the same blobs into the same model, the same
 * adapter and the same training examples, or nothing could be recomputed. Every object is checked
 * against what the ledger says of it; the dataset version's Merkle root is computed again.
 *
 * Bytes come from a blob store. Loaded things are immutable and usable from any thread. */
#pragma once

#include <stdint.h>

#include "shared/base/account_id.h"
#include "shared/base/buf.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/ledger/ledger.h"
#include "shared/lm/adapter.h"
#include "shared/lm/model.h"
#include "shared/lm/train.h"
#include "shared/token/chat.h"
#include "shared/token/tokenizer.h"

#define LINEAGE_ROWS_MAX 65536U        /* rows of a version that can be trained on */
#define LINEAGE_TOKENS_MAX (32U << 20) /* tokens of all rows together, after cutting */

/* ---- base model and adapter ----------------------------------------------------------------- */

struct lineage_base {
    struct digest content; /* of the ModelFiles blob; zero: not from a store */
    struct digest profile; /* arithmetic profile id, derived from what was loaded */
    struct lm_model *model;
    struct lm_tokenizer *tokenizer;
    struct lm_chat chat;
};

/* How to load a base. The profile under which a model is registered says the precision; whoever
 * registers one says the precision instead. */
struct lineage_load {
    enum lm_precision
        precision; /* LM_STORED: what the profile says, without one what the file says */
    const struct digest *profile;   /* the registered one, or NULL */
    bool serve_only;                /* no gradients, half the memory */
    const struct kernels *kernels;  /* NULL: the best of this machine (all give the same bits) */
    struct blob_progress *progress; /* of the files' bytes on their way from the store; or NULL */
};

/* What a service's setting `backend` names (kernels.h): "" is NULL above. ERR_INVALID, and why: no such
 * backend, or this machine cannot run it. */
MUST_USE enum err lineage_backend(const char *name, const struct kernels **out, struct note *note);

/* how: NULL for all zeros. ERR_INVALID: not a model, or not one that computes under the profile; and the
 * errors of lineage_bundle_open(). */
MUST_USE enum err lineage_base_load(struct blob_store *blobs, const struct digest *content,
                                    const struct lineage_load *how, struct lineage_base **out,
                                    struct note *note);
/* The same of files that are at hand; the bundle is not needed afterwards. */
struct lineage_bundle;
MUST_USE enum err lineage_base_build(const struct lineage_bundle *bundle,
                                     const struct lineage_load *how, struct lineage_base **out,
                                     struct note *note);
void lineage_base_destroy(struct lineage_base *base); /* NULL is fine */

/* The adapter in an AdapterFiles blob; lm_adapter_destroy() it. */
MUST_USE enum err lineage_adapter_load(struct blob_store *blobs, const struct lineage_base *base,
                                       const struct digest *content, struct lm_adapter **out,
                                       struct note *note);

/* Appends a serialised AdapterFiles of adapter (PEFT); base_name goes into adapter_config.json. */
MUST_USE enum err lineage_adapter_pack(const struct lm_adapter *adapter, const char *base_name,
                                       struct buf *out, struct note *note);

/* ---- the rows of a dataset version ------------------------------------------------------------ */

/* A row is UTF-8 JSON, an object of one of the three forms {"text"}, {"prompt","completion"},
 * {"messages":[{"role","content"}]}, all texts non-empty, nothing else in it. ERR_INVALID, ERR_LIMIT
 * (LEDGER_ROW_SIZE_MAX). out_text, when not NULL, gets the words alone, for comparison. */
MUST_USE enum err lineage_row_check(struct bytes row, struct buf *out_text, struct note *note);

/* What the ledger says of a version: a copy, so that another thread than the ledger's may load it. */
struct lineage_contribution {
    struct digest id;
    struct digest content; /* of the Contribution blob, as reviewed */
    struct account_id contributor;
};

struct lineage_plan {
    char datanet[LEDGER_NAME_MAX + 1];
    uint32_t version;
    uint32_t row_count;
    struct digest root;
    struct digest manifest;
    struct lineage_contribution
        *contributions; /* accepted ones of the datanet, in log order; owned */
    uint32_t contribution_count;
};

/* Takes the plan from the ledger. ERR_NOT_FOUND: no such version. */
MUST_USE enum err lineage_plan_init(const struct ledger *ledger, const char *datanet,
                                    uint32_t version, struct lineage_plan *out, struct note *note);
void lineage_plan_deinit(struct lineage_plan *plan); /* a zeroed one is fine */

/* Rows as training sees them. */
struct lineage_rows {
    uint32_t count;
    struct lm_example *examples;     /* per row; borrow from tokens below */
    struct account_id *contributors; /* per row */
    uint32_t *trainable;             /* rows with a counted token, ascending: what is trained on */
    uint32_t trainable_count;
    struct lm_chat_row tokens; /* owned storage behind the examples */
};

/* Loads every row, checks root, contributors and commitments, and tokenises through chat; a row is
 * cut to context + 1 tokens (context: at most the model's). ERR_INVALID / ERR_CORRUPT: an object
 * contradicts the ledger, or a row is not training data (permanent); ERR_NOT_FOUND: a blob is not
 * there (yet); ERR_LIMIT: past a bound above. */
MUST_USE enum err lineage_rows_load(struct blob_store *blobs, const struct lineage_plan *plan,
                                    const struct lineage_base *base, uint32_t context,
                                    struct lineage_rows *out, struct note *note);
void lineage_rows_deinit(struct lineage_rows *rows); /* a zeroed one is fine */
