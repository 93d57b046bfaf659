/* model_folder.h - a random model of any size as the Hugging Face folder a user would bring, sharded as
 * large ones are. */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/lm/config.h"
#include "shared/lm/engine.h"
#include "shared/lm/weights.h"
#include "shared/platform/file.h"

#define MODEL_FOLDER_TOKENIZER "deploy/models/openledger-3m/tokenizer.json" /* 4,096 ids */

/* A Llama of about layers * (4.75 hidden^2 + 3 hidden ffn) + 4096 hidden weights. */
static inline struct lm_config model_folder_config(uint32_t hidden, uint32_t ffn, uint32_t layers)
{
    return (struct lm_config){.hidden = hidden,
                              .ffn = ffn,
                              .layer_count = layers,
                              .head_count = hidden / 64,
                              .kv_head_count = hidden / 256,
                              .head_dim = 64,
                              .vocab = 4096,
                              .context = 64,
                              .norm_epsilon = 1e-5F,
                              .rope_theta = 10000.0F,
                              .tied = true,
                              .bos = LM_NO_TOKEN,
                              .eos = 0};
}

static inline void model_folder_file(const char *folder, const char *name, struct bytes content)
{
    char path[FILE_PATH_SIZE];
    ck_assert_int_eq(file_path(path, "%s/%s", folder, name), ERR_OK);
    ck_assert_int_eq(file_write_quick(path, content, 0644, NULL), ERR_OK);
}

static inline void model_folder_name(uint32_t shard, uint32_t shards, char out[64])
{
    (void)snprintf(out, 64, "model-%05u-of-%05u.safetensors", shard + 1, shards);
}

/* bf16 numbers in +-(0.007, 0.03); every norm weight is one. */
static inline void model_folder_values(const struct lm_tensor *tensor, uint64_t *state,
                                       struct buf *out)
{
    uint64_t count = (uint64_t)tensor->rows * tensor->columns;
    uint16_t *values = (uint16_t *)(void *)buf_reserve(out, count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (uint64_t i = 0; i < count; i++) {
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407U;
        uint16_t bits = (uint16_t)(*state >> 48);
        values[i] = tensor->matrix ? (uint16_t)((bits & 0x80ffU) | 0x3c00U) : 0x3f80U;
    }
    buf_commit(out, count * sizeof *values);
}

/* Tensors [first, end) as one safetensors file; every name goes into the index. */
static inline void model_folder_shard(const char *folder, const struct lm_net *net, uint32_t first,
                                      uint32_t end, const char *name, uint64_t *state,
                                      struct buf *index)
{
    struct buf header;
    struct buf data;
    uint64_t offset = 0;
    buf_init(&header, 1U << 20);
    buf_init(&data, UINT64_C(1) << 30);
    (void)buf_append_text(&header, "{");
    for (uint32_t t = first; t < end; t++) {
        const struct lm_tensor *tensor = &net->tensors[t];
        char tensor_name[LM_TENSOR_NAME_SIZE];
        char entry[512];
        char shape[64];
        uint64_t size = 2ULL * tensor->rows * tensor->columns;
        if (tensor->rows == 0) {
            continue;
        }
        lm_tensor_name(&net->config, t, tensor_name);
        (void)snprintf(shape, sizeof shape, tensor->matrix ? "%u,%u" : "%u",
                       tensor->matrix ? tensor->rows : tensor->columns, tensor->columns);
        (void)snprintf(entry, sizeof entry,
                       "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                       offset == 0 ? "" : ",", tensor_name, shape, (unsigned long long)offset,
                       (unsigned long long)(offset + size));
        (void)buf_append_text(&header, entry);
        (void)snprintf(entry, sizeof entry, "%s\"%s\":\"%s\"",
                       index->data[index->size - 1] == '{' ? "" : ",", tensor_name, name);
        (void)buf_append_text(index, entry);
        offset += size;
    }
    (void)buf_append_text(&header, "}");
    while (header.size % 8 != 0) {
        (void)buf_append_byte(&header, ' ');
    }
    (void)buf_append_u64le(&data, header.size);
    (void)buf_append_bytes(&data, buf_bytes(&header));
    for (uint32_t t = first; t < end; t++) {
        model_folder_values(&net->tensors[t], state, &data);
    }
    ck_assert_int_eq(buf_err(&header), ERR_OK);
    ck_assert_int_eq(buf_err(&data), ERR_OK);
    model_folder_file(folder, name, buf_bytes(&data));
    buf_deinit(&header);
    buf_deinit(&data);
}

/* Makes the folder: config.json, tokenizer.json, the index and its shards. */
static inline void model_folder_write(const char *folder, const struct lm_config *config,
                                      uint32_t shards)
{
    struct lm_net net = {0};
    struct buf text;
    uint64_t state = 1;
    ck_assert_int_eq(file_make_folders(folder, NULL), ERR_OK);
    ck_assert_int_eq(lm_net_init(&net, config, NULL, NULL), ERR_OK);
    buf_init(&text, LM_INDEX_SIZE_MAX);
    ck_assert_int_eq(lm_config_write(config, &text), ERR_OK);
    model_folder_file(folder, "config.json", buf_bytes(&text));
    buf_clear(&text);
    ck_assert_int_eq(file_read(MODEL_FOLDER_TOKENIZER, &text, NULL), ERR_OK);
    model_folder_file(folder, "tokenizer.json", buf_bytes(&text));
    buf_clear(&text);
    (void)buf_append_text(&text, "{\"metadata\":{},\"weight_map\":{");
    for (uint32_t i = 0; i < shards; i++) {
        char name[64];
        model_folder_name(i, shards, name);
        model_folder_shard(folder, &net, net.tensor_count * i / shards,
                           net.tensor_count * (i + 1) / shards, name, &state, &text);
    }
    ck_assert_int_eq(buf_append_text(&text, "}}"), ERR_OK);
    model_folder_file(folder, LM_INDEX, buf_bytes(&text));
    buf_deinit(&text);
    lm_net_deinit(&net);
}
