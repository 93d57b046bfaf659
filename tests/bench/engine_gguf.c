/* engine_gguf.c - one set of random weights as our files and as llama.cpp's. See engine_bench.h.
 *
 * GGUF version 3: ggml's docs/gguf.md. llama.cpp pairs neighbours when it rotates a head, Hugging
 * Face (and we) the two halves: rows of q and k change places on the way. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/lm/engine.h"
#include "shared/lm/safetensors.h"
#include "tests/bench/engine_bench.h"

enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_STRING = 8, GGUF_ARRAY = 9 };
enum { TENSOR_F32 = 0, TENSOR_F16 = 1, TENSOR_Q8_0 = 8 };
enum { ALIGNMENT = 32, Q8_BLOCK = 32 };

struct lm_config bench_shape(const char *name)
{
    struct lm_config config = {.hidden = 192,
                               .ffn = 512,
                               .layer_count = 6,
                               .head_count = 6,
                               .kv_head_count = 2,
                               .head_dim = 32,
                               .vocab = 4096,
                               .context = 256,
                               .norm_epsilon = 1e-5F,
                               .rope_theta = 10000.0F,
                               .tied = true,
                               .bos = 1,
                               .eos = 2};
    if (strcmp(name, "12m") == 0) {
        config.hidden = 384;
        config.ffn = 1024;
        config.head_dim = 64;
        config.vocab = 8192;
    } else if (strcmp(name, "135m") == 0) {
        config.hidden = 576;
        config.ffn = 1536;
        config.layer_count = 30;
        config.head_count = 9;
        config.kv_head_count = 3;
        config.head_dim = 64;
        config.vocab = 49152;
        config.context = 2048;
    } else {
        CHECK(strcmp(name, "3m") == 0);
    }
    return config;
}

/* Multiples of 2^-12 below 2^-5: 8 significant bits. Standard deviation 0.018. */
float *bench_weights(const struct lm_config *config)
{
    const size_t count = lm_config_weights(config);
    float *weights = malloc(count * sizeof *weights);
    CHECK(weights != NULL);
    uint64_t state = 20261123;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        weights[i] = (float)((int)(state >> 56) - 128) * 0x1p-12F;
    }
    return weights;
}

/* A net without values serves as the list of places. */
static void net_places(const struct lm_config *config, struct lm_net *net)
{
    enum err err = lm_net_init(net, config, NULL, NULL);
    CHECK(err == ERR_OK);
}

bool bench_safetensors(const struct lm_config *config, const float *weights, struct buf *out)
{
    struct lm_net net;
    net_places(config, &net);
    struct safetensors_source *sources = calloc(net.tensor_count, sizeof *sources);
    char(*names)[LM_TENSOR_NAME_SIZE] = calloc(net.tensor_count, sizeof *names);
    CHECK(sources != NULL && names != NULL);
    uint32_t count = 0;
    for (uint32_t t = 0; t < net.tensor_count; t++) {
        const struct lm_tensor *tensor = &net.tensors[t];
        if (tensor->rows == 0) {
            continue; /* this architecture has none */
        }
        lm_tensor_name(config, t, names[t]);
        struct safetensors_source *source = &sources[count++];
        *source = (struct safetensors_source){.name = names[t],
                                              .type = SAFETENSORS_BF16,
                                              .dim_count = tensor->matrix ? 2 : 1,
                                              .values = weights + tensor->offset};
        source->dims[0] = tensor->matrix ? tensor->rows : tensor->columns;
        source->dims[1] = tensor->columns;
    }
    enum err err = safetensors_write(sources, count, out);
    free(sources);
    free(names);
    lm_net_deinit(&net);
    return err == ERR_OK;
}

/* ---- GGUF ---- */

static void put(FILE *out, const void *data, size_t size)
{
    CHECK(fwrite(data, 1, size, out) == size);
}
static void put_u32(FILE *out, uint32_t value)
{
    put(out, &value, sizeof value); /* little-endian, as the machines this bench runs on */
}
static void put_u64(FILE *out, uint64_t value)
{
    put(out, &value, sizeof value);
}
static void put_text(FILE *out, const char *text)
{
    put_u64(out, strlen(text));
    put(out, text, strlen(text));
}
static void meta_text(FILE *out, const char *key, const char *value)
{
    put_text(out, key);
    put_u32(out, GGUF_STRING);
    put_text(out, value);
}
static void meta_u32(FILE *out, const char *key, uint32_t value)
{
    put_text(out, key);
    put_u32(out, GGUF_U32);
    put_u32(out, value);
}
static void meta_f32(FILE *out, const char *key, float value)
{
    put_text(out, key);
    put_u32(out, GGUF_F32);
    put(out, &value, sizeof value);
}
static void meta_array(FILE *out, const char *key, uint32_t type, uint64_t count)
{
    put_text(out, key);
    put_u32(out, GGUF_ARRAY);
    put_u32(out, type);
    put_u64(out, count);
}

/* A vocabulary of the right size; its words do not matter, but every byte must have one. */
enum { BYTES_FIRST = 3, BYTES_END = BYTES_FIRST + 256 };

/* Types: 1 normal, 2 unknown, 3 control, 6 byte. */
static void vocabulary_put(FILE *out, uint32_t vocab)
{
    char word[32];
    meta_text(out, "tokenizer.ggml.model", "llama");
    meta_array(out, "tokenizer.ggml.tokens", GGUF_STRING, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        const bool byte = i >= BYTES_FIRST && i < BYTES_END;
        (void)snprintf(word, sizeof word, byte ? "<0x%02X>" : "w%u", byte ? i - BYTES_FIRST : i);
        put_text(out, word);
    }
    meta_array(out, "tokenizer.ggml.scores", GGUF_F32, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        const float score = -(float)i;
        put(out, &score, sizeof score);
    }
    meta_array(out, "tokenizer.ggml.token_type", GGUF_I32, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        put_u32(out, i == 0 ? 2 : i < BYTES_FIRST ? 3 : i < BYTES_END ? 6 : 1);
    }
}

static void metadata_put(FILE *out, const struct lm_config *config, enum bench_gguf type)
{
    meta_text(out, "general.architecture", "llama");
    meta_u32(out, "general.file_type", type == BENCH_GGUF_F16 ? 1 : 7);
    meta_u32(out, "llama.context_length", config->context);
    meta_u32(out, "llama.embedding_length", config->hidden);
    meta_u32(out, "llama.block_count", config->layer_count);
    meta_u32(out, "llama.feed_forward_length", config->ffn);
    meta_u32(out, "llama.attention.head_count", config->head_count);
    meta_u32(out, "llama.attention.head_count_kv", config->kv_head_count);
    meta_u32(out, "llama.rope.dimension_count", config->head_dim);
    meta_u32(out, "llama.vocab_size", config->vocab);
    meta_f32(out, "llama.rope.freq_base", config->rope_theta);
    meta_f32(out, "llama.attention.layer_norm_rms_epsilon", config->norm_epsilon);
    meta_u32(out, "tokenizer.ggml.bos_token_id", config->bos);
    meta_u32(out, "tokenizer.ggml.eos_token_id", config->eos);
    vocabulary_put(out, config->vocab);
}
enum { METADATA_COUNT = 18 };

static void tensor_name(const struct lm_config *config, uint32_t tensor, char out[64])
{
    static const char *const NAMES[LM_LAYER_TENSORS] = {"attn_q",      "attn_k",    "attn_v",
                                                        "attn_output", "ffn_gate",  "ffn_up",
                                                        "ffn_down",    "attn_norm", "ffn_norm"};
    if (tensor == lm_tensor_embed() || tensor == lm_tensor_norm(config)) {
        (void)snprintf(out, 64,
                       tensor == lm_tensor_embed() ? "token_embd.weight" : "output_norm.weight");
    } else {
        (void)snprintf(out, 64, "blk.%u.%s.weight", (tensor - 1) / LM_LAYER_TENSORS,
                       NAMES[(tensor - 1) % LM_LAYER_TENSORS]);
    }
}

/* Exact for our weights; rounds the scales of Q8_0 blocks to nearest. Normal numbers only. */
static uint16_t f16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffU) == 0) {
        return (uint16_t)(bits >> 16);
    }
    const uint32_t rounded = (bits & 0x7fffffffU) + 0xfffU + ((bits >> 13) & 1U);
    CHECK(rounded >> 23 > 112 && rounded >> 23 < 143);
    return (uint16_t)((bits >> 16 & 0x8000U) | ((rounded - (112U << 23)) >> 13));
}

static void row_put(FILE *out, const float *row, uint32_t columns, enum bench_gguf type)
{
    if (type == BENCH_GGUF_F16) {
        for (uint32_t i = 0; i < columns; i++) {
            const uint16_t half = f16_of(row[i]);
            put(out, &half, sizeof half);
        }
        return;
    }
    for (uint32_t first = 0; first < columns; first += Q8_BLOCK) {
        float most = 0.0F;
        for (uint32_t i = 0; i < Q8_BLOCK; i++) {
            most = fmaxf(most, fabsf(row[first + i]));
        }
        int8_t codes[Q8_BLOCK];
        for (uint32_t i = 0; i < Q8_BLOCK; i++) {
            codes[i] = (int8_t)lrintf(row[first + i] * (127.0F / most));
        }
        const uint16_t scale = f16_of(most / 127.0F);
        put(out, &scale, sizeof scale);
        put(out, codes, sizeof codes);
    }
}

static uint32_t stored_type(const struct lm_tensor *tensor, enum bench_gguf type)
{
    return !tensor->matrix ? TENSOR_F32 : type == BENCH_GGUF_F16 ? TENSOR_F16 : TENSOR_Q8_0;
}

static uint64_t stored_size(const struct lm_tensor *tensor, enum bench_gguf type)
{
    const uint64_t count = (uint64_t)tensor->rows * tensor->columns;
    const uint64_t size = !tensor->matrix          ? count * 4
                          : type == BENCH_GGUF_F16 ? count * 2
                                                   : count / Q8_BLOCK * (Q8_BLOCK + 2);
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void pad(FILE *out)
{
    static const char ZEROS[ALIGNMENT] = {0};
    const long at = ftell(out);
    CHECK(at >= 0);
    put(out, ZEROS, (ALIGNMENT - (size_t)at % ALIGNMENT) % ALIGNMENT);
}

static void tensor_put(FILE *out, const struct lm_config *config, uint32_t t,
                       const struct lm_tensor *tensor, const float *weights, enum bench_gguf type)
{
    const float *data = weights + tensor->offset;
    if (!tensor->matrix) {
        put(out, data, tensor->columns * sizeof *data);
        return;
    }
    const bool in_layer = t > lm_tensor_embed() && t < lm_tensor_norm(config);
    const uint32_t which = in_layer ? (t - 1) % LM_LAYER_TENSORS : UINT32_MAX;
    const uint32_t dim = config->head_dim;
    for (uint32_t row = 0; row < tensor->rows; row++) {
        uint32_t from = row;
        if (which == LM_Q || which == LM_K) {
            const uint32_t at = row % dim;
            from = row - at + at / 2 + at % 2 * (dim / 2);
        }
        row_put(out, data + (size_t)from * tensor->columns, tensor->columns, type);
    }
}

bool bench_gguf_write(const struct lm_config *config, const float *weights, enum bench_gguf type,
                      const char *path)
{
    FILE *out = fopen(path, "wb");
    if (out == NULL) {
        return false;
    }
    struct lm_net net;
    net_places(config, &net);
    put(out, "GGUF", 4);
    put_u32(out, 3);
    uint64_t count = 0;
    for (uint32_t t = 0; t < net.tensor_count; t++) {
        count += net.tensors[t].rows > 0;
    }
    put_u64(out, count);
    put_u64(out, METADATA_COUNT);
    metadata_put(out, config, type);
    uint64_t offset = 0;
    for (uint32_t t = 0; t < net.tensor_count; t++) {
        const struct lm_tensor *tensor = &net.tensors[t];
        if (tensor->rows == 0) {
            continue;
        }
        char name[64];
        tensor_name(config, t, name);
        put_text(out, name);
        put_u32(out, tensor->matrix ? 2 : 1);
        put_u64(out, tensor->columns);
        if (tensor->matrix) {
            put_u64(out, tensor->rows);
        }
        put_u32(out, stored_type(tensor, type));
        put_u64(out, offset);
        offset += stored_size(tensor, type);
    }
    for (uint32_t t = 0; t < net.tensor_count; t++) {
        if (net.tensors[t].rows == 0) {
            continue;
        }
        pad(out);
        tensor_put(out, config, t, &net.tensors[t], weights, type);
    }
    pad(out);
    lm_net_deinit(&net);
    return fclose(out) == 0;
}
