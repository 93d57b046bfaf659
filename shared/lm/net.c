/* net.c - places of tensors, rotary tables, packing, memory of activations. See engine.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/engine.h"

#define HUGE_PAGE (2UL << 20) /* bytes, of x86-64 and, with pages of 4 KiB, of AArch64 */

static const char *const PROJECTIONS[LM_PROJECTION_COUNT] = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

static const char *const OTHERS[LM_LAYER_TENSORS - LM_PROJECTION_COUNT] = {
    "input_layernorm.weight",  "post_attention_layernorm.weight", "self_attn.q_proj.bias",
    "self_attn.k_proj.bias",   "self_attn.v_proj.bias",           "self_attn.q_norm.weight",
    "self_attn.k_norm.weight",
};

const char *lm_projection_name(enum lm_projection projection)
{
    CHECK(projection < LM_PROJECTION_COUNT);
    return PROJECTIONS[projection];
}

uint32_t lm_projection_in(const struct lm_config *config, enum lm_projection projection)
{
    CHECK(projection < LM_PROJECTION_COUNT);
    return projection == LM_O      ? lm_query_width(config)
           : projection == LM_DOWN ? config->ffn
                                   : config->hidden;
}

uint32_t lm_projection_out(const struct lm_config *config, enum lm_projection projection)
{
    CHECK(projection < LM_PROJECTION_COUNT);
    return projection == LM_Q                             ? lm_query_width(config)
           : projection == LM_K || projection == LM_V     ? lm_kv_width(config)
           : projection == LM_GATE || projection == LM_UP ? config->ffn
                                                          : config->hidden;
}

void lm_tensor_name(const struct lm_config *config, uint32_t tensor, char out[LM_TENSOR_NAME_SIZE])
{
    if (tensor == lm_tensor_embed()) {
        (void)snprintf(out, LM_TENSOR_NAME_SIZE, "model.embed_tokens.weight");
    } else if (tensor == lm_tensor_norm(config)) {
        (void)snprintf(out, LM_TENSOR_NAME_SIZE, "model.norm.weight");
    } else if (tensor > lm_tensor_norm(config)) {
        (void)snprintf(out, LM_TENSOR_NAME_SIZE, "lm_head.weight");
    } else {
        uint32_t layer = (tensor - 1) / LM_LAYER_TENSORS;
        uint32_t which = (tensor - 1) % LM_LAYER_TENSORS;
        if (which < LM_PROJECTION_COUNT) {
            (void)snprintf(out, LM_TENSOR_NAME_SIZE, "model.layers.%u.%s.%s.weight", layer,
                           which >= LM_GATE ? "mlp" : "self_attn", PROJECTIONS[which]);
        } else {
            (void)snprintf(out, LM_TENSOR_NAME_SIZE, "model.layers.%u.%s", layer,
                           OTHERS[which - LM_PROJECTION_COUNT]);
        }
    }
}

static void tensor_place(struct lm_net *net, uint32_t tensor, uint32_t rows, uint32_t columns)
{
    bool matrix = rows > 1;
    net->tensors[tensor] = (struct lm_tensor){.offset = net->value_count,
                                              .vector_offset = net->vector_count,
                                              .rows = rows,
                                              .columns = columns,
                                              .matrix = matrix};
    net->value_count += (size_t)rows * columns;
    net->vector_count += matrix ? 0 : columns;
}

static void tensors_place(struct lm_net *net)
{
    const struct lm_config *config = &net->config;
    tensor_place(net, lm_tensor_embed(), config->vocab, config->hidden);
    for (uint32_t layer = 0; layer < config->layer_count; layer++) {
        for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
            tensor_place(net, lm_tensor_layer(layer, p), lm_projection_out(config, p),
                         lm_projection_in(config, p));
        }
        tensor_place(net, lm_tensor_layer(layer, LM_NORM_ATTENTION), 1, config->hidden);
        tensor_place(net, lm_tensor_layer(layer, LM_NORM_FFN), 1, config->hidden);
        for (uint32_t p = LM_Q; p <= LM_V && lm_has_bias(config); p++) {
            tensor_place(net, lm_tensor_layer(layer, LM_BIAS_Q + p), 1,
                         lm_projection_out(config, p));
        }
        for (uint32_t i = 0; i < 2 && lm_has_head_norms(config); i++) {
            tensor_place(net, lm_tensor_layer(layer, LM_NORM_Q + i), 1, config->head_dim);
        }
    }
    tensor_place(net, lm_tensor_norm(config), 1, config->hidden);
    if (!config->tied) {
        tensor_place(net, lm_tensor_head(config), config->vocab, config->hidden);
    }
}

enum err lm_net_init(struct lm_net *net, const struct lm_config *config,
                     const struct kernels *kernels, struct note *note)
{
    enum err err = lm_config_check(config, note);
    if (err != ERR_OK) {
        return err;
    }
    struct lm_net made = {.config = *config, .kernels = kernels, .precision = LM_FP32};
    if (made.kernels == NULL) {
        made.kernels = kernels_get(NULL, note);
        if (made.kernels == NULL) {
            return ERR_UNAVAILABLE;
        }
    }
    size_t half = config->head_dim / 2;
    size_t table = half * config->context;
    float frequency[LM_HEAD_DIM_MAX / 2];
    made.tensor_count = lm_tensor_norm(config) + (config->tied ? 1 : 2);
    made.tensors = calloc(made.tensor_count, sizeof *made.tensors);
    made.cos = malloc(table * sizeof(float));
    made.sin = malloc(table * sizeof(float));
    if (made.tensors == NULL || made.cos == NULL || made.sin == NULL) {
        lm_net_deinit(&made);
        return note_set(note, ERR_NO_MEMORY, "no memory for a model of %llu weights",
                        (unsigned long long)lm_config_weights(config));
    }
    tensors_place(&made);
    lm_rope_frequencies(config, frequency);
    kernels_rope_table(frequency, half, config->context, made.cos, made.sin);
    *net = made;
    return ERR_OK;
}

void lm_net_deinit(struct lm_net *net)
{
    free(net->tensors);
    free(net->values);
    free(net->vectors);
    free(net->matrices);
    if (net->memory != NULL) {
        kernels_forget(net->kernels, net->memory);
    }
    free(net->memory);
    free(net->cos);
    free(net->sin);
    *net = (struct lm_net){0};
}

enum err lm_lora_init(struct lm_lora *lora, const struct lm_config *config,
                      const struct lm_adapter_config *adapter, const float *vector)
{
    struct lm_lora_module *modules =
        calloc((size_t)config->layer_count * LM_PROJECTION_COUNT, sizeof *modules);
    if (modules == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t layer = 0; layer < config->layer_count; layer++) {
        for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
            struct lm_adapter_place place;
            if (lm_adapter_offset(config, adapter, layer, p, &place)) {
                modules[layer * LM_PROJECTION_COUNT + p] =
                    (struct lm_lora_module){.a = vector + place.a_offset,
                                            .b = vector + place.b_offset,
                                            .in = place.in,
                                            .out = place.out};
            }
        }
    }
    *lora = (struct lm_lora){
        .rank = adapter->rank, .scale = adapter->alpha / (float)adapter->rank, .modules = modules};
    return ERR_OK;
}

void lm_lora_deinit(struct lm_lora *lora)
{
    free(lora->modules);
    *lora = (struct lm_lora){0};
}

/* Hands out consecutive pieces of one allocation; with no memory it only counts. */
struct cut {
    float *memory;
    size_t used;
};

static float *cut_take(struct cut *cut, size_t count)
{
    float *piece = cut->memory == NULL ? NULL : cut->memory + cut->used;
    cut->used += (count + 15) / 16 * 16; /* every piece starts on a cache line */
    return piece;
}

/* Everything of a layer but its input x. */
static void layer_cut(struct lm_layer_acts *layer, const struct lm_config *config, size_t rows,
                      uint32_t rank, bool saved, struct cut *cut)
{
    layer->norm1 = cut_take(cut, rows * config->hidden);
    layer->inv1 = cut_take(cut, rows);
    layer->q = cut_take(cut, rows * lm_query_width(config));
    layer->k = cut_take(cut, rows * lm_kv_width(config));
    layer->v = cut_take(cut, rows * lm_kv_width(config));
    bool raw = saved && lm_has_head_norms(config);
    layer->q_raw = raw ? cut_take(cut, rows * lm_query_width(config)) : layer->q;
    layer->k_raw = raw ? cut_take(cut, rows * lm_kv_width(config)) : layer->k;
    layer->q_inv = raw ? cut_take(cut, rows * config->head_count) : NULL;
    layer->k_inv = raw ? cut_take(cut, rows * config->kv_head_count) : NULL;
    layer->attention = cut_take(cut, rows * lm_query_width(config));
    layer->stats = saved ? cut_take(cut, rows * config->head_count * 2) : NULL;
    layer->mid = saved ? cut_take(cut, rows * config->hidden) : layer->x;
    layer->norm2 = cut_take(cut, rows * config->hidden);
    layer->inv2 = cut_take(cut, rows);
    layer->gate = cut_take(cut, rows * config->ffn);
    layer->up = cut_take(cut, rows * config->ffn);
    layer->act = saved ? cut_take(cut, rows * config->ffn) : layer->gate;
    for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
        layer->ax[p] = p == 0 || saved ? cut_take(cut, rows * rank) : layer->ax[0];
    }
}

static uint32_t width_max(const struct lm_config *config)
{
    uint32_t width = config->hidden > config->ffn ? config->hidden : config->ffn;
    return width > lm_query_width(config) ? width : lm_query_width(config);
}

static void acts_cut(struct lm_acts *acts, const struct lm_net *net, struct cut *cut)
{
    const struct lm_config *config = &net->config;
    size_t rows = acts->rows;
    uint32_t wide = width_max(config);
    const bool saved = acts->keep != LM_KEEP_NOTHING;
    acts->wide = wide;
    for (uint32_t i = 0; i < config->layer_count; i++) {
        struct lm_layer_acts *layer = &acts->layers[i];
        float *x = i == 0 || saved ? cut_take(cut, rows * config->hidden) : acts->layers[0].x;
        if (i > 0 && acts->keep != LM_KEEP_LAYERS) {
            *layer = acts->layers[0];
            layer->x = x;
            continue;
        }
        layer->x = x; /* mid may be the same memory */
        layer_cut(layer, config, rows, acts->rank, saved, cut);
    }
    acts->x_out = saved ? cut_take(cut, rows * config->hidden) : acts->layers[0].x;
    acts->final = cut_take(cut, rows * config->hidden);
    acts->final_inv = cut_take(cut, rows);
    acts->lora_u = cut_take(cut, acts->rank > 0 ? rows * wide : 0);
    acts->head = cut_take(cut, (size_t)LM_HEAD_ROWS * config->hidden);
    acts->logits = cut_take(cut, (size_t)LM_HEAD_ROWS * config->vocab);
    if (net->precision == LM_INT8) {
        size_t most = rows > LM_HEAD_ROWS ? rows : LM_HEAD_ROWS;
        size_t blocks = most * kernels_quant_blocks(wide);
        acts->codes = (int8_t *)cut_take(cut, blocks * KERNELS_QUANT / sizeof(float));
        acts->scales = cut_take(cut, blocks);
    }
    if (saved) {
        acts->dx = cut_take(cut, rows * config->hidden);
        acts->dnorm = cut_take(cut, rows * config->hidden);
        acts->dwide = cut_take(cut, rows * wide);
        acts->dq = cut_take(cut, rows * lm_query_width(config));
        acts->dk = cut_take(cut, rows * lm_kv_width(config));
        acts->dv = cut_take(cut, rows * lm_kv_width(config));
        acts->sdy = cut_take(cut, acts->rank > 0 ? rows * wide : 0);
        acts->db = cut_take(cut, rows * acts->rank);
    }
}

float *lm_floats_alloc(size_t count)
{
    if (count > SIZE_MAX / 2 / sizeof(float)) {
        return NULL;
    }
    const size_t size = count * sizeof(float);
    const size_t align = size < HUGE_PAGE ? 64 : HUGE_PAGE;
    const size_t whole = (size + align - 1) / align * align;
    float *floats = aligned_alloc(align, whole > 0 ? whole : align);
    if (floats != NULL && align == HUGE_PAGE) {
        (void)madvise(floats, whole, MADV_HUGEPAGE); /* only a wish */
    }
    return floats;
}

enum err lm_acts_init(struct lm_acts *acts, const struct lm_net *net, size_t rows, uint32_t rank,
                      enum lm_keep keep)
{
    struct lm_acts made = {.rows = rows, .rank = rank, .keep = keep};
    made.layers = calloc(net->config.layer_count, sizeof *made.layers);
    if (made.layers == NULL) {
        return ERR_NO_MEMORY;
    }
    struct cut cut = {0};
    acts_cut(&made, net, &cut);
    /* Serving touches what its batches need, and no more of a page than that. */
    cut.memory = keep == LM_KEEP_NOTHING ? aligned_alloc(64, cut.used * sizeof(float))
                                         : lm_floats_alloc(cut.used);
    if (cut.memory == NULL) {
        free(made.layers);
        return ERR_NO_MEMORY;
    }
    made.memory = cut.memory;
    cut.used = 0;
    acts_cut(&made, net, &cut);
    *acts = made;
    return ERR_OK;
}

uint64_t lm_acts_memory(const struct lm_net *net, size_t rows, uint32_t rank, enum lm_keep keep)
{
    struct lm_layer_acts layers[LM_LAYERS_MAX] = {0};
    struct lm_acts counted = {.rows = rows, .rank = rank, .keep = keep, .layers = layers};
    struct cut cut = {0};
    acts_cut(&counted, net, &cut);
    return cut.used * sizeof(float);
}

void lm_acts_deinit(struct lm_acts *acts)
{
    free(acts->layers);
    free(acts->memory);
    *acts = (struct lm_acts){0};
}
