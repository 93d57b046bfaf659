/* gguf_file.h - GGUF files of random models, for tests: written from the format's description alone.
 *
 * Source: ggml's docs/gguf.md. llama.cpp rotates neighbours of a head where Hugging Face rotates its
 * halves, so rows of q and k of llama models change places on the way. */
#pragma once

#include "kernels/kernels.h"
#include "tests/harness/lm_random.h"

enum { GGUF_FILE_U32 = 4, GGUF_FILE_F32 = 6, GGUF_FILE_BOOL = 7, GGUF_FILE_TEXT = 8 };
/* ggml's numbers of tensor types. */
enum gguf_file_type {
    GGUF_FILE_TYPE_F32 = 0,
    GGUF_FILE_TYPE_F16 = 1,
    GGUF_FILE_TYPE_Q8_0 = 8,
    GGUF_FILE_TYPE_BF16 = 30
};

struct gguf_file {
    struct buf meta, table, data;
    uint32_t version, meta_count, tensor_count;
};

static inline void gguf_file_init(struct gguf_file *file)
{
    *file = (struct gguf_file){.version = 3};
    buf_init(&file->meta, 1 << 20);
    buf_init(&file->table, 1 << 20);
    buf_init(&file->data, (size_t)64 << 20);
}

static inline void gguf_file_deinit(struct gguf_file *file)
{
    buf_deinit(&file->meta);
    buf_deinit(&file->table);
    buf_deinit(&file->data);
}

static inline void gguf_file_text(struct buf *out, const char *text)
{
    (void)buf_append_u64le(out, strlen(text));
    (void)buf_append_text(out, text);
}

static inline void gguf_file_meta(struct gguf_file *file, const char *key, uint32_t kind)
{
    gguf_file_text(&file->meta, key);
    (void)buf_append_u32le(&file->meta, kind);
    file->meta_count++;
}

static inline void gguf_file_u32(struct gguf_file *file, const char *key, uint32_t value)
{
    gguf_file_meta(file, key, GGUF_FILE_U32);
    (void)buf_append_u32le(&file->meta, value);
}

static inline void gguf_file_f32(struct gguf_file *file, const char *key, float value)
{
    gguf_file_meta(file, key, GGUF_FILE_F32);
    (void)buf_append(&file->meta, &value, sizeof value);
}

static inline void gguf_file_bool(struct gguf_file *file, const char *key, bool value)
{
    gguf_file_meta(file, key, GGUF_FILE_BOOL);
    (void)buf_append_byte(&file->meta, value);
}

static inline void gguf_file_string(struct gguf_file *file, const char *key, const char *value)
{
    gguf_file_meta(file, key, GGUF_FILE_TEXT);
    gguf_file_text(&file->meta, value);
}

static inline void gguf_file_pad(struct buf *out)
{
    while (out->size % 32 != 0) {
        (void)buf_append_byte(out, 0);
    }
}

/* Begins a tensor: rows 0 is a vector. Its data is then appended to file->data. */
static inline void gguf_file_tensor(struct gguf_file *file, const char *name, uint32_t rows,
                                    uint32_t columns, uint32_t type)
{
    gguf_file_pad(&file->data);
    gguf_file_text(&file->table, name);
    (void)buf_append_u32le(&file->table, rows == 0 ? 1 : 2);
    (void)buf_append_u64le(&file->table, columns);
    if (rows != 0) {
        (void)buf_append_u64le(&file->table, rows);
    }
    (void)buf_append_u32le(&file->table, type);
    (void)buf_append_u64le(&file->table, file->data.size);
    file->tensor_count++;
}

/* One row as stored; row becomes what the stored numbers are. */
static inline void gguf_file_row(struct buf *out, uint32_t columns, uint32_t type, float *row)
{
    static uint16_t halves[4096];
    static uint8_t blocks[4096 / 32 * 34];
    ck_assert_uint_le(columns, 4096);
    if (type == GGUF_FILE_TYPE_F32) {
        (void)buf_append(out, row, columns * sizeof *row);
    } else if (type == GGUF_FILE_TYPE_Q8_0) {
        ck_assert_uint_eq(columns % 32, 0);
        kernels_quantize_q8(columns, row, blocks);
        kernels_dequantize_q8(columns, blocks, row);
        (void)buf_append(out, blocks, columns / 32 * 34);
    } else {
        bool bf16 = type == GGUF_FILE_TYPE_BF16;
        (bf16 ? kernels_to_bf16 : kernels_to_f16)(columns, row, halves);
        (bf16 ? kernels_from_bf16 : kernels_from_f16)(columns, halves, row);
        (void)buf_append(out, halves, columns * sizeof halves[0]);
    }
}

/* llama.cpp's name of one of Hugging Face's. */
static inline void gguf_file_name(const char *name, char out[96])
{
    static const char *const PARTS[][2] = {
        {"self_attn.q_proj", "attn_q"},          {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},          {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"},     {"self_attn.k_norm", "attn_k_norm"},
        {"mlp.gate_proj", "ffn_gate"},           {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},           {"input_layernorm", "attn_norm"},
        {"post_attention_layernorm", "ffn_norm"}};
    unsigned layer = 0;
    int used = 0;
    if (sscanf(name, "model.layers.%u.%n", &layer, &used) == 1) {
        const char *end = strrchr(name, '.');
        for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
            size_t size = strlen(PARTS[i][0]);
            if ((size_t)(end - name - used) == size &&
                memcmp(name + used, PARTS[i][0], size) == 0) {
                (void)snprintf(out, 96, "blk.%u.%s%s", layer, PARTS[i][1], end);
                return;
            }
        }
        ck_abort_msg("%s", name);
    }
    (void)snprintf(out, 96, "%s",
                   strcmp(name, "model.norm.weight") == 0 ? "output_norm.weight"
                   : strcmp(name, "lm_head.weight") == 0  ? "output.weight"
                                                          : "token_embd.weight");
}

static inline void gguf_file_config(struct gguf_file *file, const struct lm_config *config,
                                    const char *architecture)
{
    char key[96];
    const struct {
        const char *name;
        uint32_t value;
    } numbers[] = {{"context_length", config->context},
                   {"embedding_length", config->hidden},
                   {"block_count", config->layer_count},
                   {"feed_forward_length", config->ffn},
                   {"attention.head_count", config->head_count},
                   {"attention.head_count_kv", config->kv_head_count},
                   {"attention.key_length", config->head_dim},
                   {"attention.value_length", config->head_dim},
                   {"rope.dimension_count", config->head_dim},
                   {"vocab_size", config->vocab}};
    gguf_file_string(file, "general.architecture", architecture);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)snprintf(key, sizeof key, "%s.%s", architecture, numbers[i].name);
        gguf_file_u32(file, key, numbers[i].value);
    }
    (void)snprintf(key, sizeof key, "%s.rope.freq_base", architecture);
    gguf_file_f32(file, key, config->rope_theta);
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    gguf_file_f32(file, key, config->norm_epsilon);
    gguf_file_u32(file, "tokenizer.ggml.eos_token_id", config->eos);
}

/* Every matrix as type, vectors as F32; the model's values become what is stored. */
static inline void gguf_file_model(struct gguf_file *file, struct random_model *model,
                                   const char *architecture, uint32_t type)
{
    gguf_file_config(file, &model->config, architecture);
    for (uint32_t t = 0; t < model->count; t++) {
        struct safetensors_source *tensor = &model->tensors[t];
        bool vector = tensor->dim_count == 1;
        uint32_t rows = vector ? 1 : (uint32_t)tensor->dims[0];
        uint32_t columns = (uint32_t)tensor->dims[vector ? 0 : 1];
        bool turned =
            strcmp(architecture, "llama") == 0 && (strstr(tensor->name, "q_proj.weight") != NULL ||
                                                   strstr(tensor->name, "k_proj.weight") != NULL);
        float *values = (float *)(uintptr_t)tensor->values;
        uint32_t stored = vector ? GGUF_FILE_TYPE_F32 : type;
        uint32_t dim = model->config.head_dim;
        char name[96];
        gguf_file_name(tensor->name, name);
        gguf_file_tensor(file, name, vector ? 0 : rows, columns, stored);
        for (uint32_t row = 0; row < rows; row++) {
            uint32_t at = row % dim;
            uint32_t from = turned ? row - at + at / 2 + at % 2 * (dim / 2) : row;
            gguf_file_row(&file->data, columns, stored, values + (size_t)from * columns);
        }
        tensor->type = SAFETENSORS_F32;
    }
}

/* The whole file into out, which is initialised here. */
static inline void gguf_file_write(const struct gguf_file *file, struct buf *out)
{
    buf_init(out, (size_t)64 << 20);
    (void)buf_append_text(out, "GGUF");
    (void)buf_append_u32le(out, file->version);
    (void)buf_append_u64le(out, file->tensor_count);
    (void)buf_append_u64le(out, file->meta_count);
    (void)buf_append_bytes(out, buf_bytes(&file->meta));
    (void)buf_append_bytes(out, buf_bytes(&file->table));
    gguf_file_pad(out);
    (void)buf_append_bytes(out, buf_bytes(&file->data));
    ck_assert_int_eq(buf_err(out), ERR_OK);
}
