/* attrib.h - Proof of Attribution: whose rows shaped an answer, as shares that sum to one.
 *
 * Why: contributors are paid by these numbers, so anyone who holds the base model, the adapter, the
 * rows and an answer's opening must get the same shares, bit for bit, on any machine and with any
 * number of threads. Everything here is pure and uses only correctly rounded operations in a fixed
 * order (DESIGN.md section 5). README.md in this folder states the published rule.
 *
 * Two independent witnesses:
 *   influence - the gradient of the answer's loss with respect to the adapter's parameters against
 *               the same gradient of every training row, projected per module, with a
 *               Kronecker-factored curvature correction (EK-FAC); cosine per row, then z-score.
 *   spans     - runs of the answer's tokens that stand word for word in training rows (suffix
 *               array), but not in the prompt.
 *
 * Sources: Grosse et al. 2023 (EK-FAC influence), Choe et al. 2024 (LoGra: projection per module),
 * Charikar et al. 2002 (count sketch), Liu et al. 2025 (OLMoTrace: longest matches).
 *
 * An index is immutable once made; any number of threads may use it at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/account_id.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/base/parallel.h"
#include "shared/lm/adapter.h"
#include "shared/lm/model.h"
#include "shared/lm/train.h"

#define ATTRIB_RULE_VERSION 1U
#define ATTRIB_WHOLE_PPB 1000000000U      /* shares and unearned part sum to this */
#define ATTRIB_ROWS_MAX 65536U            /* rows in an index; also the most contributors */
#define ATTRIB_INDEX_MAX (60U << 20)      /* bytes of a serialised index: fits a blob */
#define ATTRIB_ROW_TOKENS_MAX 131072U     /* tokens of one row */
#define ATTRIB_QUESTION_TOKENS_MAX 16384U /* prompt and answer together */
#define ATTRIB_RANK_MAX 64U               /* of an adapter that can be indexed */
#define ATTRIB_EVIDENCE_MAX 20U           /* rows named as evidence for one answer */

/* One training row, borrowed. The example is what training saw: its counted tokens are the text
 * that influence and spans look at. A row without a counted token has no evidence, ever. */
struct attrib_row {
    struct lm_example example;
    struct account_id contributor;
};

/* What an index is about; bound into its bytes besides model and adapter. */
struct attrib_source {
    struct digest dataset_root; /* of the dataset version */
    struct digest profile;      /* arithmetic profile id */
};

struct attrib_index;

/* Called now and then while an index is built. False: stop, the build gives ERR_CANCELLED. */
typedef bool attrib_progress_fn(void *context, uint32_t rows_done, uint32_t row_count);

/* What an index is built from; all borrowed for the call. */
struct attrib_build {
    const struct lm_model *model;
    const struct lm_adapter *adapter;
    const struct attrib_row *rows; /* row_count of them, in the dataset version's order */
    uint32_t row_count;            /* 1..ATTRIB_ROWS_MAX */
    const struct attrib_source *source;
    const struct parallel *parallel;
    attrib_progress_fn *progress; /* may be NULL */
    void *context;                /* progress's */
};

/* Builds the index of an adapter.
 * Costs a forward and a backward pass over all rows. ERR_LIMIT: the index would be larger than
 * ATTRIB_INDEX_MAX, or the rank above ATTRIB_RANK_MAX. ERR_INVALID: a non-finite number. */
MUST_USE enum err attrib_index_build(const struct attrib_build *build, struct attrib_index **out,
                                     struct note *note);

/* Accepts NULL. */
void attrib_index_destroy(struct attrib_index *index);

/* Appends the serialised index; equal inputs give equal bytes. SHA-256 of them is what
 * PublishIndex puts on the ledger. */
MUST_USE enum err attrib_index_save(const struct attrib_index *index, struct buf *out);

/* Reads an index from foreign bytes: every count, size, token and number is checked. ERR_INVALID
 * names what is wrong. */
MUST_USE enum err attrib_index_load(struct bytes bytes, struct attrib_index **out,
                                    struct note *note);

/* What the index says of itself. */
struct attrib_info {
    struct attrib_source source;
    struct digest model;   /* lm_model_digest */
    struct digest adapter; /* lm_adapter_digest */
    uint32_t row_count;
    uint32_t contributor_count;
    uint32_t dimensions; /* of a row's vector */
    uint32_t sketch;     /* width that inputs and outputs are projected to */
};
void attrib_index_info(const struct attrib_index *index, struct attrib_info *out);

/* Row `row`'s contributor and tokens (borrowed from the index). row < row_count. */
const struct account_id *attrib_index_contributor(const struct attrib_index *index, uint32_t row);
struct lm_example attrib_index_example(const struct attrib_index *index, uint32_t row);

/* ---- one answer ----------------------------------------------------------------------------- */

/* Token ids as the gateway ran them, borrowed. The answer has at least one token. */
struct attrib_question {
    const uint32_t *prompt;
    uint32_t prompt_count; /* at least 1 */
    const uint32_t *answer;
    uint32_t answer_count; /* at least 1 */
};

/* What both witnesses say about one answer, before it becomes money. */
struct attrib_measure;

/* ERR_INVALID: index, model and adapter do not belong together, or a non-finite number. ERR_RANGE: a
 * token >= vocab, an empty prompt or answer, too many tokens. */
MUST_USE enum err attrib_measure_create(const struct attrib_index *index,
                                        const struct lm_model *model,
                                        const struct lm_adapter *adapter,
                                        const struct attrib_question *question,
                                        const struct parallel *parallel,
                                        struct attrib_measure **out, struct note *note);
void attrib_measure_destroy(struct attrib_measure *measure); /* accepts NULL */

/* z-scores of the rows' influence, row_count of them; borrowed from the measure. */
const float *attrib_measure_influence(const struct attrib_measure *measure);

struct attrib_share {
    struct account_id account;
    uint32_t share_ppb; /* influence_ppb + span_ppb, at least 1 */
    uint32_t influence_ppb;
    uint32_t span_ppb;
};

/* One row's part in the answer. */
struct attrib_evidence {
    uint32_t row;
    float influence;      /* z-score */
    uint32_t span_start;  /* token of the answer */
    uint32_t span_length; /* tokens of the longest credited span; 0: none */
    uint32_t span_row_at; /* where the span stands in the row's tokens */
    uint32_t share_ppb;   /* this row's part of its contributor's share, rounded down */
};

struct attrib_result {
    struct attrib_share *shares; /* owned; ascending by account */
    uint32_t share_count;
    uint32_t unearned_ppb; /* with the shares exactly ATTRIB_WHOLE_PPB */
    struct attrib_evidence evidence[ATTRIB_EVIDENCE_MAX]; /* most important first */
    uint32_t evidence_count;
};

/* Applies the published rule. ERR_NO_MEMORY only. */
MUST_USE enum err attrib_divide(const struct attrib_index *index,
                                const struct attrib_measure *measure, struct attrib_result *out);

/* As attrib_divide, but with the rows' contributors permuted by (seed, PHILOX_PERMUTE): the control
 * that shows what a name earns by chance. Never pays anyone. */
MUST_USE enum err attrib_divide_shuffled(const struct attrib_index *index,
                                         const struct attrib_measure *measure, uint64_t seed,
                                         struct attrib_result *out);

void attrib_result_deinit(struct attrib_result *result); /* a zeroed one is fine */

/* Measure and divide in one: what the service and the verifier call. */
MUST_USE enum err attrib_shares(const struct attrib_index *index, const struct lm_model *model,
                                const struct lm_adapter *adapter,
                                const struct attrib_question *question,
                                const struct parallel *parallel, struct attrib_result *out,
                                struct note *note);

/* The control in one number: mean share of `account` over `repeats` shufflings (seeds 0..repeats-1),
 * beside its true share. With attribution by name only, the two would be alike. */
struct attrib_control {
    uint32_t share_ppb;          /* as paid */
    uint32_t shuffled_share_ppb; /* mean over the shufflings, rounded down */
};
MUST_USE enum err attrib_shuffle_control(const struct attrib_index *index,
                                         const struct attrib_measure *measure,
                                         const struct account_id *account, uint32_t repeats,
                                         struct attrib_control *out);
