/* model.h - a resident base model: weights packed once for the kernels, shared by everyone.
 *
 * Llama architecture: RMSNorm, rotary positions (half-split layout, as transformers), grouped-query
 * attention, SiLU-gated feed-forward; Qwen2's biases, Qwen3's head norms, Llama 3.1's rotary
 * scaling. Results are the same bits for any thread count, batch, chunking and backend (DESIGN.md
 * section 5).
 *
 * A model is immutable: any number of threads may use it at once. */
#pragma once

#include <stdbool.h>
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

/* The arithmetic of products with the base's weights. fp32: the weights as the file has them, exactly;
 * bf16, f16: the weights rounded to that first, which changes nothing in a file of that type. These
 * three compute in fp32, and a weight stays in memory in the narrowest type that holds it, since
 * widening is exact. int8: blocks of 32 codes with a scale for every matrix, the embedding and the head
 * too (a token's input row is its codes times their scales), and activations are quantised before each
 * product (kernels_gemm_int8); it serves and judges, but has no gradients.
 * LM_STORED, the default: int8 when every matrix of the file is Q8_0, else fp32. */
enum lm_precision { LM_STORED, LM_FP32, LM_BF16, LM_F16, LM_INT8, LM_PRECISION_COUNT };

/* "stored", "fp32", "bf16", "f16", "int8". */
const char *lm_precision_name(enum lm_precision precision);
/* ERR_INVALID: no precision has that name; the note lists them. */
MUST_USE enum err lm_precision_find(const char *name, enum lm_precision *out, struct note *note);

struct lm_load {
    const struct kernels *kernels; /* NULL: the best of this machine (all give the same bits) */
    enum lm_precision precision;
    bool serve_only; /* half the memory; the model then has no gradients */
};

/* Builds a model from its files (weights.h says which). how: NULL for all zeros.
 * Returns ERR_INVALID or ERR_RANGE for bad files (missing tensor, wrong shape, a non-finite weight,
 * an unknown tensor), ERR_NO_MEMORY. The bytes are not needed afterwards. */
struct lm_file;
MUST_USE enum err lm_model_open(const struct lm_file *files, uint32_t count,
                                const struct lm_load *how, struct lm_model **out,
                                struct note *note);

/* The same from the bytes of config.json and model.safetensors. */
MUST_USE enum err lm_model_load(struct bytes config_json, struct bytes safetensors,
                                const struct lm_load *how, struct lm_model **out,
                                struct note *note);

/* Accepts NULL. */
void lm_model_destroy(struct lm_model *model);

const struct lm_config *lm_model_config(const struct lm_model *model);

/* What LM_STORED became; never LM_STORED. */
enum lm_precision lm_model_precision(const struct lm_model *model);

/* ERR_INVALID, and why, when the model cannot give gradients (int8, serve_only). */
MUST_USE enum err lm_model_gradients_check(const struct lm_model *model, struct note *note);

/* Bytes of weights and tables in memory. */
uint64_t lm_model_memory(const struct lm_model *model);

/* SHA-256 over the canonical config and every tensor's fp32 bits, as stored, in a fixed order. The
 * same model stored as bf16 or fp32 has one digest, whatever its precision here. Computed at load. */
void lm_model_digest(const struct lm_model *model, struct digest *out);

/* Appends model.safetensors in bf16 (rounded to nearest even once): of the weights as products see
 * them, so of a model loaded as f16 or int8 not the original's. */
MUST_USE enum err lm_model_export(const struct lm_model *model, struct buf *out);

/* Appends generation_config.json for this model. */
MUST_USE enum err lm_generation_config_write(const struct lm_config *config, struct buf *out);

/* What fixes every bit of an answer besides weights, prompt and seed. */
struct lm_profile {
    enum lm_precision precision;    /* not LM_STORED */
    struct digest tokenizer_digest; /* of tokenizer.json */
    struct digest template_digest;  /* of the chat template */
};

/* The arithmetic profile's id: SHA-256 of "openledger-arithmetic-profile-v1", precision, the kernel
 * specification's version (of int8 also that of its products), tokenizer and template. Manifests and receipts carry it. */
void lm_profile_id(const struct lm_profile *profile, struct digest *out);
