/* lm_digest.h - one training run and one serving run whose digests are the same everywhere.
 *
 * Why: exactness is proven by one number that every machine, backend, thread count and way of cutting
 * the work comes to. Whoever changes it on purpose changes the arithmetic of everything that was ever
 * receipted (KERNELS_ARITHMETIC).
 *
 * Needs neither Check nor threads nor files, so that it can be built for another machine: the caller
 * brings backend and workers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/base/parallel.h"

#define LM_DIGEST_STEPS 50U
#define LM_DIGEST_PROMPT 262U /* tokens before the first answer: beyond an attention block */
#define LM_DIGEST_ANSWER 3U   /* tokens after it, one by one */

/* How the 50 steps are made; none of it may show. */
struct lm_digest_training {
    const struct kernels *kernels;
    const struct parallel *parallel;
    uint32_t micro_batches; /* 1: a step's 8 examples at once; 4; 8: each alone */
    uint32_t cut;           /* stopped after this step and resumed from its checkpoint; 0: never */
    bool recompute;
};

/* A small model is trained from nothing for three steps (all weights), then an adapter over it for
 * LM_DIGEST_STEPS. The digest is over the model, every loss, and the adapter's last values. */
MUST_USE enum err lm_digest_train(const struct lm_digest_training *how, struct digest *out,
                                  struct note *note);

/* How LM_DIGEST_PROMPT + LM_DIGEST_ANSWER tokens are served; none of it may show, but for int8. */
struct lm_digest_serving {
    const struct kernels *kernels;
    const struct parallel *parallel;
    bool int8;
    bool forget;      /* no cache: every answer is made from the whole text again */
    uint32_t chunk;   /* tokens of the prompt in one step, at least 1 */
    uint32_t company; /* sequences in the batch, ours among them: 1..128 */
};

/* The digest is over our sequence's logits after the prompt and after each token of the answer. */
MUST_USE enum err lm_digest_serve(const struct lm_digest_serving *how, struct digest *out,
                                  struct note *note);

/* What all of them are, in hexadecimal. */
#define LM_DIGEST_TRAINED "sha256:44f57d03ccef21aeb7006b4fa3be19cedb94ca054dcce24b2d6d14bff1a49f7c"
#define LM_DIGEST_SERVED "sha256:970a11b7afb443584b4a55f7a028eedc99604a2b163e65f8b7d5c3c8f7d640dd"
#define LM_DIGEST_SERVED_INT8                                                                      \
    "sha256:2b5fec70ca1227268c033f76ee5496ee0dd09a315dadecc1d1e9685623b9aec3"
