/* sample.h - choosing a token from logits, the same on every machine.
 *
 * Tokens are ordered by (logit descending, id ascending); probabilities become integers in units of
 * 2^-40, so that the choice is integer arithmetic; the random number is Philox at (seed,
 * PHILOX_SAMPLE, index). Pure. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"

struct kernels;

struct lm_sampling {
    float temperature; /* 0: greedy. 0..LM_TEMPERATURE_MAX */
    uint32_t top_k;    /* keep the k best; 0: all */
    float top_p;       /* keep the smallest set whose probability reaches top_p; (0, 1], 1: all */
    uint64_t seed;
};

#define LM_TEMPERATURE_MAX 100.0f

/* Scratch for one vocabulary; one per thread. */
struct lm_sampler;
MUST_USE enum err lm_sampler_create(const struct kernels *kernels, uint32_t vocab,
                                    struct lm_sampler **out);
void lm_sampler_destroy(struct lm_sampler *sampler);

/* Checks the bounds above. */
MUST_USE enum err lm_sampling_check(const struct lm_sampling *sampling);

/* Chooses token number `index` of a completion. out_logprob (may be NULL): log-probability of the
 * token under the unmodified distribution (temperature 1, nothing cut). Returns ERR_INVALID for a
 * non-finite logit. */
MUST_USE enum err lm_sample(struct lm_sampler *sampler, const struct lm_sampling *sampling,
                            const float *logits, uint64_t index, uint32_t *out_token,
                            float *out_logprob);

/* The `count` best tokens with their log-probabilities, best first (for top_logprobs).
 * count <= vocab. */
MUST_USE enum err lm_top(struct lm_sampler *sampler, const float *logits, uint32_t count,
                         uint32_t *out_tokens, float *out_logprobs);

/* log softmax(logits)[token]. */
MUST_USE enum err lm_logprob(struct lm_sampler *sampler, const float *logits, uint32_t token,
                             float *out);
