/* config.h - the shape of a Llama-family model, read from a Hugging Face config.json.
 *
 * Why strict: a field we do not implement would change the numbers silently, so it is an error that
 * names the field. Every dimension is bounded before anything is allocated from it.
 *
 * Source: transformers' LlamaConfig. Pure; any function may run on any thread. */
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

/* All counts are at least 1 and at most their maximum above. */
struct lm_config {
    uint32_t hidden;        /* width of the residual stream */
    uint32_t ffn;           /* width inside the feed-forward block */
    uint32_t layer_count;   /* transformer blocks */
    uint32_t head_count;    /* query heads; a multiple of kv_head_count */
    uint32_t kv_head_count; /* key and value heads */
    uint32_t head_dim;      /* even */
    uint32_t vocab;         /* rows of the embedding */
    uint32_t context;       /* max_position_embeddings: positions 0..context-1 */
    float norm_epsilon;     /* rms_norm_eps, in (0, 1) */
    float rope_theta;       /* > 1 */
    bool tied;              /* the output head is the embedding */
    uint32_t bos;           /* LM_NO_TOKEN when absent */
    uint32_t eos;           /* LM_NO_TOKEN when absent; the first, when the file lists several */
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

/* Number of weights, the shared embedding counted once. */
uint64_t lm_config_weights(const struct lm_config *config);
