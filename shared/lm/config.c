/* config.c - see config.h. */
#include "shared/lm/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"

struct bound {
    const char *name;
    uint32_t value, min, max;
};

enum err lm_config_check(const struct lm_config *config, struct note *note)
{
    const struct bound bounds[] = {
        {"hidden_size", config->hidden, 2, LM_HIDDEN_MAX},
        {"intermediate_size", config->ffn, 2, LM_FFN_MAX},
        {"num_hidden_layers", config->layer_count, 1, LM_LAYERS_MAX},
        {"num_attention_heads", config->head_count, 1, LM_HEADS_MAX},
        {"num_key_value_heads", config->kv_head_count, 1, LM_HEADS_MAX},
        {"head_dim", config->head_dim, 2, LM_HEAD_DIM_MAX},
        {"vocab_size", config->vocab, 2, LM_VOCAB_MAX},
        {"max_position_embeddings", config->context, 1, LM_CONTEXT_MAX},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].value < bounds[i].min || bounds[i].value > bounds[i].max) {
            return note_set(note, ERR_RANGE, "%s is %u, allowed are %u to %u", bounds[i].name,
                            bounds[i].value, bounds[i].min, bounds[i].max);
        }
    }
    if (config->head_count % config->kv_head_count != 0 ||
        config->head_count / config->kv_head_count > 32) {
        return note_set(note, ERR_RANGE, "%u attention heads cannot share %u key-value heads",
                        config->head_count, config->kv_head_count);
    }
    if (config->head_dim % 2 != 0) {
        return note_set(note, ERR_RANGE, "head_dim %u is odd", config->head_dim);
    }
    if (!(config->norm_epsilon > 0.0F && config->norm_epsilon < 1.0F)) {
        return note_set(note, ERR_RANGE, "rms_norm_eps is outside (0, 1)");
    }
    if (!(config->rope_theta > 1.0F && config->rope_theta < 1e9F)) {
        return note_set(note, ERR_RANGE, "rope_theta is outside (1, 1e9)");
    }
    if ((config->bos != LM_NO_TOKEN && config->bos >= config->vocab) ||
        (config->eos != LM_NO_TOKEN && config->eos >= config->vocab)) {
        return note_set(note, ERR_RANGE, "bos or eos token is outside the vocabulary of %u",
                        config->vocab);
    }
    return ERR_OK;
}

/* Keeps what is absent; refuses what does not fit 32 bits. */
static enum err opt_u32(const struct json *root, const char *key, uint32_t *value,
                        struct note *note)
{
    uint64_t wide = *value;
    enum err err = json_opt_u64(root, key, &wide, note);
    if (err == ERR_OK && wide > UINT32_MAX) {
        err = note_set(note, ERR_RANGE, "%s is %llu, far too large", key, (unsigned long long)wide);
    }
    if (err == ERR_OK) {
        *value = (uint32_t)wide;
    }
    return err;
}

/* A token id: a number, null, or (eos) a list whose first entry counts. */
static enum err token_id(const struct json *root, const char *key, uint32_t *out, struct note *note)
{
    const struct json *node = json_member(root, key);
    *out = LM_NO_TOKEN;
    if (node != NULL && json_kind(node) == JSON_KIND_ARRAY) {
        node = json_item(node, 0);
    }
    if (node == NULL || json_kind(node) == JSON_KIND_NULL) {
        return ERR_OK;
    }
    int64_t id = json_as_i64(node, -1);
    if (id < 0 || id >= (int64_t)LM_VOCAB_MAX) {
        return note_set(note, ERR_INVALID, "%s is not a token id", key);
    }
    *out = (uint32_t)id;
    return ERR_OK;
}

/* Fields that change the arithmetic and that we implement for one value only. */
static enum err fixed_fields(const struct json *root, struct note *note)
{
    const char *type = "llama";
    const char *activation = "silu";
    bool bias[2] = {false, false};
    double parallel = 1.0;
    enum err err = json_opt_text(root, "model_type", &type, note);
    if (err == ERR_OK) {
        err = json_opt_text(root, "hidden_act", &activation, note);
    }
    if (err == ERR_OK) {
        err = json_opt_bool(root, "attention_bias", &bias[0], note);
    }
    if (err == ERR_OK) {
        err = json_opt_bool(root, "mlp_bias", &bias[1], note);
    }
    if (err == ERR_OK) {
        err = json_opt_double(root, "pretraining_tp", &parallel, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (strcmp(type, "llama") != 0) {
        return note_set(note, ERR_INVALID, "model_type '%.40s' is not supported, only llama", type);
    }
    if (strcmp(activation, "silu") != 0) {
        return note_set(note, ERR_INVALID, "hidden_act '%.40s' is not supported, only silu",
                        activation);
    }
    if (bias[0] || bias[1]) {
        return note_set(note, ERR_INVALID, "%s is not supported",
                        bias[0] ? "attention_bias" : "mlp_bias");
    }
    if (parallel != 1.0) {
        return note_set(note, ERR_INVALID, "pretraining_tp other than 1 is not supported");
    }
    static const char *const UNSUPPORTED[] = {"rope_scaling", "quantization_config",
                                              "sliding_window", "num_local_experts"};
    for (size_t i = 0; i < sizeof UNSUPPORTED / sizeof UNSUPPORTED[0]; i++) {
        const struct json *node = json_member(root, UNSUPPORTED[i]);
        if (node != NULL && json_kind(node) != JSON_KIND_NULL) {
            return note_set(note, ERR_INVALID, "%s is not supported", UNSUPPORTED[i]);
        }
    }
    return ERR_OK;
}

static enum err config_fields(const struct json *root, struct lm_config *config, struct note *note)
{
    static const char *const REQUIRED[] = {"hidden_size", "intermediate_size", "num_hidden_layers",
                                           "num_attention_heads", "vocab_size"};
    for (size_t i = 0; i < sizeof REQUIRED / sizeof REQUIRED[0]; i++) {
        if (json_member(root, REQUIRED[i]) == NULL) {
            return note_set(note, ERR_INVALID, "%s is missing", REQUIRED[i]);
        }
    }
    double epsilon = 1e-6;
    double theta = 10000.0;
    config->context = 2048;
    enum err err = opt_u32(root, "hidden_size", &config->hidden, note);
    if (err == ERR_OK) {
        err = opt_u32(root, "intermediate_size", &config->ffn, note);
    }
    if (err == ERR_OK) {
        err = opt_u32(root, "num_hidden_layers", &config->layer_count, note);
    }
    if (err == ERR_OK) {
        err = opt_u32(root, "num_attention_heads", &config->head_count, note);
    }
    config->kv_head_count = config->head_count;
    config->head_dim = config->head_count == 0 ? 0 : config->hidden / config->head_count;
    if (err == ERR_OK) {
        err = opt_u32(root, "num_key_value_heads", &config->kv_head_count, note);
    }
    if (err == ERR_OK) {
        err = opt_u32(root, "head_dim", &config->head_dim, note);
    }
    if (err == ERR_OK) {
        err = opt_u32(root, "vocab_size", &config->vocab, note);
    }
    if (err == ERR_OK) {
        err = opt_u32(root, "max_position_embeddings", &config->context, note);
    }
    if (err == ERR_OK) {
        err = json_opt_double(root, "rms_norm_eps", &epsilon, note);
    }
    if (err == ERR_OK) {
        err = json_opt_double(root, "rope_theta", &theta, note);
    }
    if (err == ERR_OK) {
        err = json_opt_bool(root, "tie_word_embeddings", &config->tied, note);
    }
    if (err == ERR_OK) {
        err = token_id(root, "bos_token_id", &config->bos, note);
    }
    if (err == ERR_OK) {
        err = token_id(root, "eos_token_id", &config->eos, note);
    }
    config->norm_epsilon = (float)epsilon;
    config->rope_theta = (float)theta;
    return err;
}

enum err lm_config_parse(struct bytes json, struct lm_config *out, struct note *note)
{
    struct json *root = NULL;
    enum err err = json_parse(json, LM_CONFIG_SIZE_MAX, &root, note);
    if (err != ERR_OK) {
        return note_wrap(note, err, "config.json");
    }
    struct lm_config config = {0};
    if (json_kind(root) != JSON_KIND_OBJECT) {
        err = note_set(note, ERR_INVALID, "not an object");
    }
    if (err == ERR_OK) {
        err = fixed_fields(root, note);
    }
    if (err == ERR_OK) {
        err = config_fields(root, &config, note);
    }
    if (err == ERR_OK) {
        err = lm_config_check(&config, note);
    }
    json_destroy(root);
    if (err != ERR_OK) {
        return note_wrap(note, err, "config.json");
    }
    *out = config;
    return ERR_OK;
}

static void token_write(struct json_writer *writer, const char *key, uint32_t token)
{
    if (token != LM_NO_TOKEN) {
        json_put_u64(writer, key, token);
    }
}

/* The shortest decimal that reads back as the float. */
static void float_write(struct json_writer *writer, const char *key, float value)
{
    for (int digits = 1; digits <= 9; digits++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)value);
        double back = strtod(text, NULL);
        if ((float)back == value) {
            json_put_double(writer, key, back);
            return;
        }
    }
    json_put_double(writer, key, (double)value);
}

enum err lm_config_write(const struct lm_config *config, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_write_key(&writer, "architectures");
    json_begin_array(&writer);
    json_write_text(&writer, "LlamaForCausalLM");
    json_end_array(&writer);
    json_put_text(&writer, "model_type", "llama");
    json_put_u64(&writer, "hidden_size", config->hidden);
    json_put_u64(&writer, "intermediate_size", config->ffn);
    json_put_u64(&writer, "num_hidden_layers", config->layer_count);
    json_put_u64(&writer, "num_attention_heads", config->head_count);
    json_put_u64(&writer, "num_key_value_heads", config->kv_head_count);
    json_put_u64(&writer, "head_dim", config->head_dim);
    json_put_u64(&writer, "vocab_size", config->vocab);
    json_put_u64(&writer, "max_position_embeddings", config->context);
    float_write(&writer, "rms_norm_eps", config->norm_epsilon);
    float_write(&writer, "rope_theta", config->rope_theta);
    json_put_bool(&writer, "tie_word_embeddings", config->tied);
    json_put_text(&writer, "hidden_act", "silu");
    json_put_bool(&writer, "attention_bias", false);
    json_put_bool(&writer, "mlp_bias", false);
    token_write(&writer, "bos_token_id", config->bos);
    token_write(&writer, "eos_token_id", config->eos);
    json_put_text(&writer, "torch_dtype", "bfloat16");
    json_end_object(&writer);
    return buf_err(out);
}

uint64_t lm_config_weights(const struct lm_config *config)
{
    uint64_t hidden = config->hidden;
    uint64_t layer = hidden * (2ULL * lm_query_width(config) + 2ULL * lm_kv_width(config) +
                               3ULL * config->ffn + 2);
    uint64_t tables = (config->tied ? 1U : 2U) * hidden * config->vocab;
    return tables + config->layer_count * layer + hidden;
}
