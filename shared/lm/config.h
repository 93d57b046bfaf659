/* config.h - the shape of a Llama-family model, read from a Hugging Face config.json.
 *
 * Known are model_type llama (Llama 2 and 3, TinyLlama, SmolLM), mistral, qwen2 (biases on q, k, v)
 * and qwen3 (norms on each query and key head). Why strict: a field we do not implement would change
 * the numbers silently, so every field that is not known to be harmless is an error that names it
 * and its value. Every dimension is bounded before anything is allocated from it.
 *
 * A sliding window is not implemented: the context ends where the window would begin to matter.
 *
 * Source: transformers' LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, modeling_rope_utils.
 * Pure; any function may run on any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct buf;
struct note;

#define LM_HIDDEN_MAX 8192U
#define LM_FFN_MAX 32768U
#define LM_LAYERS_MAX 128U
#define LM_HEADS_MAX 256U
#define LM_HEAD_DIM_MAX 256U
#define LM_VOCAB_MAX 262144U
#define LM_CONTEXT_MAX 131072U
#define LM_CONFIG_SIZE_MAX 65536U /* bytes of a config.json */
#define LM_NO_TOKEN UINT32_MAX    /* an absent bos or eos */

enum lm_architecture { LM_LLAMA, LM_MISTRAL, LM_QWEN2, LM_QWEN3, LM_ARCHITECTURE_COUNT };

/* rope_type "llama3": rotary frequencies whose wavelength exceeds original_context / low_frequency
 * are divided by factor, those below original_context / high_frequency stay, between them a blend. */
struct lm_rope_scaling {
    float factor;         /* >= 1; 0: frequencies are not scaled and the rest is 0 */
    float low_frequency;  /* low_freq_factor, > 0 */
    float high_frequency; /* high_freq_factor, > low_frequency */
    uint32_t original_context;
};

/* All counts are at least 1 and at most their maximum above. */
struct lm_config {
    uint32_t hidden;        /* width of the residual stream */
    uint32_t ffn;           /* width inside the feed-forward block */
    uint32_t layer_count;   /* transformer blocks */
    uint32_t head_count;    /* query heads; a multiple of kv_head_count */
    uint32_t kv_head_count; /* key and value heads */
    uint32_t head_dim;      /* even */
    uint32_t vocab;         /* rows of the embedding */
    uint32_t context;       /* positions 0..context-1: max_position_embeddings, or the window */
    float norm_epsilon;     /* rms_norm_eps, in (0, 1) */
    float rope_theta;       /* > 1 */
    bool tied;              /* the output head is the embedding */
    uint32_t bos;           /* LM_NO_TOKEN when absent */
    uint32_t eos;           /* LM_NO_TOKEN when absent; the first, when the file lists several */
    enum lm_architecture architecture;
    struct lm_rope_scaling rope;
};

/* Reads config.json. Returns ERR_INVALID (not JSON, missing or unsupported field; the note names it)
 * or ERR_RANGE (a dimension outside its bounds). */
MUST_USE enum err lm_config_parse(struct bytes json, struct lm_config *out, struct note *note);

/* Checks the bounds and divisibility that lm_config_parse promises, for a config made by hand. */
MUST_USE enum err lm_config_check(const struct lm_config *config, struct note *note);

/* Appends config.json (torch_dtype bfloat16) as transformers writes it; fixed field order, so equal
 * configs give equal bytes. */
MUST_USE enum err lm_config_write(const struct lm_config *config, struct buf *out);

/* Widths of the key and value rows, and of the query row. */
static inline uint32_t lm_kv_width(const struct lm_config *config)
{
    return config->kv_head_count * config->head_dim;
}

static inline uint32_t lm_query_width(const struct lm_config *config)
{
    return config->head_count * config->head_dim;
}

/* Do the query, key and value projections add a bias? */
static inline bool lm_has_bias(const struct lm_config *config)
{
    return config->architecture == LM_QWEN2;
}

/* Is every query and key head normalised before rotation? */
static inline bool lm_has_head_norms(const struct lm_config *config)
{
    return config->architecture == LM_QWEN3;
}

/* "llama" and "LlamaForCausalLM", as config.json says it. */
const char *lm_architecture_type(enum lm_architecture architecture);
const char *lm_architecture_class(enum lm_architecture architecture);

/* Rotary frequencies, scaled as the config says; out has head_dim / 2 floats. */
void lm_rope_frequencies(const struct lm_config *config, float *out);

/* Number of weights, the shared embedding counted once. */
uint64_t lm_config_weights(const struct lm_config *config);
