/* adapter.h - a LoRA adapter: y = W x + scale * (B (A x)) on any of the seven projections.
 *
 * Never merged into the base, one rounding order in training and serving: h = A x is one chain over
 * the input, u = B h one chain over the rank, then y = fmaf(scale, u, W x). scale = alpha / rank.
 *
 * Stored as PEFT stores it (adapter_config.json + adapter_model.safetensors, bf16, names
 * base_model.model.model.layers.N.self_attn.q_proj.lora_A.weight); ours load in PEFT and theirs
 * load here. Trained fp32 values are rounded to bf16 once, on export.
 *
 * Flat layout of parameters and of gradients ("the adapter vector"): layers ascending; in a layer
 * the projections in enum lm_projection order, those in `targets` only; for each A [rank x in] row
 * by row, then B [out x rank] row by row. lm_adapter_offset() gives every place.
 *
 * An adapter is immutable once made; any number of threads may use it at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/lm/config.h"
#include "shared/lm/model.h"

struct buf;
struct note;
struct kernels;

#define LM_RANK_MAX 256U
#define LM_TARGETS_ALL ((1U << LM_PROJECTION_COUNT) - 1U)

struct lm_adapter_config {
    uint32_t rank;    /* 1..LM_RANK_MAX */
    float alpha;      /* > 0, finite; scale = alpha / rank */
    uint32_t targets; /* bit 1 << enum lm_projection for every adapted projection; at least one */
};

struct lm_adapter;

/* Where one module's matrices lie in the adapter vector. */
struct lm_adapter_place {
    uint64_t a_offset; /* floats; A is [rank x in] */
    uint64_t b_offset; /* floats; B is [out x rank] */
    uint32_t in;
    uint32_t out;
};

/* Returns true and the place if that module is adapted. */
bool lm_adapter_offset(const struct lm_config *config, const struct lm_adapter_config *adapter,
                       uint32_t layer, enum lm_projection projection, struct lm_adapter_place *out);

/* Floats in the adapter vector. */
uint64_t lm_adapter_size(const struct lm_config *config, const struct lm_adapter_config *adapter);

MUST_USE enum err lm_adapter_config_check(const struct lm_adapter_config *config,
                                          struct note *note);

/* Fresh values: A uniform in +-1/sqrt(in) (what PEFT's kaiming_uniform with a = sqrt 5 gives) from
 * (seed, PHILOX_ADAPTER, index in the vector), B zero. vector has lm_adapter_size floats. */
void lm_adapter_initialise(const struct lm_config *config, const struct lm_adapter_config *adapter,
                           uint64_t seed, float *vector);

/* Makes an adapter from an adapter vector (copied). model gives shape and kernels. */
MUST_USE enum err lm_adapter_create(const struct lm_model *model,
                                    const struct lm_adapter_config *config, const float *vector,
                                    struct lm_adapter **out, struct note *note);

/* As create, but every value is rounded to bf16 first: the adapter that export and import of the
 * same vector would give. */
MUST_USE enum err lm_adapter_create_rounded(const struct lm_model *model,
                                            const struct lm_adapter_config *config,
                                            const float *vector, struct lm_adapter **out,
                                            struct note *note);

/* Reads a PEFT folder's two files. A subset of targets and layers may be present (absent modules
 * are not adapted; a target absent in some layers has B = 0 there). rsLoRA's scale is taken as the alpha
 * that gives it. Refuses by name what we do not do (DoRA, bias, modules_to_save, rank or alpha patterns,
 * starts that change the base, other peft types) and every member that is not known. */
MUST_USE enum err lm_adapter_import(const struct lm_model *model, struct bytes config_json,
                                    struct bytes safetensors, struct lm_adapter **out,
                                    struct note *note);

/* Appends adapter_config.json (base: base_model_name_or_path) and adapter_model.safetensors. */
MUST_USE enum err lm_adapter_export(const struct lm_adapter *adapter, const char *base,
                                    struct buf *out_config, struct buf *out_safetensors);

/* Accepts NULL. */
void lm_adapter_destroy(struct lm_adapter *adapter);

const struct lm_adapter_config *lm_adapter_get_config(const struct lm_adapter *adapter);

/* The adapter vector; lm_adapter_size floats, borrowed until destroy. */
const float *lm_adapter_vector(const struct lm_adapter *adapter);

/* SHA-256 over rank, alpha, targets and the vector rounded to bf16: the same before export and after
 * import. */
void lm_adapter_digest(const struct lm_adapter *adapter, struct digest *out);

/* Resident memory in bytes: what a cache of adapters must budget. */
uint64_t lm_adapter_memory(const struct lm_adapter *adapter);
