/* gradient.h - the loss of given texts, and its gradient for each text alone.
 *
 * For evaluation and for attribution: the same forward and backward as training, example by example.
 * Results do not depend on threads nor on which examples are run together. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/parallel.h"
#include "shared/lm/adapter.h"
#include "shared/lm/train.h"

struct note;

/* Sum of negative log-likelihoods and number of counted tokens of one example. */
struct lm_loss {
    double sum_nll;
    uint64_t count;
};

/* Loss of each example: out[0..count). adapter may be NULL. token_nll, if not NULL: one pointer per
 * example (or NULL) to examples[i].count floats; [t] receives the nll of token t (0 where t is 0 or
 * masked). */
MUST_USE enum err lm_losses(const struct lm_model *model, const struct lm_adapter *adapter,
                            const struct lm_example *examples, uint32_t count,
                            const struct parallel *parallel, struct lm_loss *out,
                            float *const *token_nll, struct note *note);

/* Gradient of the SUMMED nll of each example's counted tokens with respect to the adapter vector
 * (layout: adapter.h). out: count rows of lm_adapter_size floats. out_losses may be NULL. */
MUST_USE enum err lm_adapter_gradients(const struct lm_model *model,
                                       const struct lm_adapter *adapter,
                                       const struct lm_example *examples, uint32_t count,
                                       const struct parallel *parallel, float *out,
                                       struct lm_loss *out_losses, struct note *note);

/* What one adapted module saw for one example; row t is position t. With scale s = alpha / rank:
 *   gradient of B [out x rank] = sum over t of (s dy[t]) (ax[t])^T
 *   gradient of A [rank x in]  = sum over t of (db[t]) (x[t])^T,  db[t] = B^T (s dy[t])
 * so that a caller can project either without ever materialising it. */
struct lm_module_trace {
    uint32_t example; /* index into examples */
    uint32_t layer;
    enum lm_projection projection;
    uint32_t rows;    /* examples[example].count - 1 positions */
    uint32_t in;      /* width of x */
    uint32_t out;     /* width of sdy */
    uint32_t rank;    /* width of ax and db */
    const float *x;   /* [rows x in] input of the projection */
    const float *ax;  /* [rows x rank] A x */
    const float *sdy; /* [rows x out] scale times the gradient at the projection's output */
    const float *db;  /* [rows x rank] B^T sdy: the gradient at A x */
};

/* Called once per (example, adapted module), layers descending, always from the calling thread;
 * the trace is borrowed for the call. */
typedef void lm_trace_fn(void *context, const struct lm_module_trace *trace);

/* As lm_adapter_gradients, but hands over the traces instead. */
MUST_USE enum err lm_adapter_traces(const struct lm_model *model, const struct lm_adapter *adapter,
                                    const struct lm_example *examples, uint32_t count,
                                    const struct parallel *parallel, lm_trace_fn *trace,
                                    void *context, struct lm_loss *out_losses, struct note *note);
