/* model.h - a resident base model: weights in fp32, packed once for the kernels.
 *
 * Llama architecture: RMSNorm, rotary positions (half-split layout, as transformers), grouped-query
 * attention, SiLU-gated feed-forward; Qwen2's biases, Qwen3's head norms, Llama 3.1's rotary scaling. Results are the same bits for any thread count,
 * batch, chunking and backend (DESIGN.md section 5).
 *
 * A model is immutable: any number of threads may use it at once. */
#pragma once

#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/lm/config.h"

struct buf;
struct note;
struct kernels;

/* The seven projections that an adapter can change, in the order of all our layouts. */
enum lm_projection { LM_Q, LM_K, LM_V, LM_O, LM_GATE, LM_UP, LM_DOWN, LM_PROJECTION_COUNT };

/* "q_proj" ... "down_proj". */
const char *lm_projection_name(enum lm_projection projection);

/* Width of the projection's input row and output row. */
uint32_t lm_projection_in(const struct lm_config *config, enum lm_projection projection);
uint32_t lm_projection_out(const struct lm_config *config, enum lm_projection projection);

struct lm_model;

/* Builds a model from the bytes of config.json and model.safetensors (one file, not sharded).
 * kernels: the arithmetic backend, NULL for the best of this machine (all give the same bits).
 * Returns ERR_INVALID or ERR_RANGE for bad files (missing tensor, wrong shape, a non-finite weight,
 * an unknown tensor), ERR_NO_MEMORY. The bytes are not needed afterwards. */
MUST_USE enum err lm_model_load(struct bytes config_json, struct bytes safetensors,
                                const struct kernels *kernels, struct lm_model **out,
                                struct note *note);

/* Accepts NULL. */
void lm_model_destroy(struct lm_model *model);

const struct lm_config *lm_model_config(const struct lm_model *model);

/* SHA-256 over the canonical config and every tensor's fp32 bits in a fixed order. The same model
 * stored as bf16 or fp32 has one digest. Computed once, at load. */
void lm_model_digest(const struct lm_model *model, struct digest *out);

/* Appends model.safetensors in bf16 (rounded to nearest even once). */
MUST_USE enum err lm_model_export(const struct lm_model *model, struct buf *out);

/* Appends generation_config.json for this model. */
MUST_USE enum err lm_generation_config_write(const struct lm_config *config, struct buf *out);

/* What fixes every bit of an answer besides weights, prompt and seed. */
struct lm_profile {
    const char *precision;          /* "fp32" */
    struct digest tokenizer_digest; /* of tokenizer.json */
    struct digest template_digest;  /* of the chat template */
};

/* The arithmetic profile's id: SHA-256 of "openledger-arithmetic-profile-v1", precision, the kernel
 * specification's version, tokenizer and template. Manifests and receipts carry it. */
void lm_profile_id(const struct lm_profile *profile, struct digest *out);
