/* config_read.c - reading a config.json. See config.h.
 *
 * Every member must be one that is read here, or one that is known not to change the numbers. */
#include <stdio.h>
#include <string.h>

#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/lm/config.h"

/* What is read below, and what says nothing about one forward pass: bookkeeping, training-time
 * noise, defaults of generation. A member that is null says nothing either. */
static const char *const READ[] = {"model_type",
                                   "architectures",
                                   "hidden_act",
                                   "attention_bias",
                                   "mlp_bias",
                                   "pretraining_tp",
                                   "rope_interleaved",
                                   "rope_scaling",
                                   "rope_parameters",
                                   "rope_theta",
                                   "sliding_window",
                                   "use_sliding_window",
                                   "layer_types",
                                   "hidden_size",
                                   "intermediate_size",
                                   "num_hidden_layers",
                                   "num_attention_heads",
                                   "num_key_value_heads",
                                   "head_dim",
                                   "vocab_size",
                                   "max_position_embeddings",
                                   "rms_norm_eps",
                                   "tie_word_embeddings",
                                   "bos_token_id",
                                   "eos_token_id"};
static const char *const HARMLESS[] = {"_name_or_path",
                                       "_attn_implementation_autoset",
                                       "attention_dropout",
                                       "dtype",
                                       "initializer_range",
                                       "is_llama_config",
                                       "max_window_layers",
                                       "output_attentions",
                                       "output_hidden_states",
                                       "pad_token_id",
                                       "return_dict",
                                       "torch_dtype",
                                       "transformers.js_config",
                                       "transformers_version",
                                       "unk_token_id",
                                       "unsloth_fixed",
                                       "unsloth_version",
                                       "use_cache"};

/* A value as people write it, cut to fit. */
static const char *value_text(const struct json *node, char out[64])
{
    switch (json_kind(node)) {
    case JSON_KIND_NULL:
        return "null";
    case JSON_KIND_BOOL:
        return json_as_bool(node, false) ? "true" : "false";
    case JSON_KIND_INTEGER:
        (void)snprintf(out, 64, "%lld", (long long)json_as_i64(node, 0));
        return out;
    case JSON_KIND_REAL:
        (void)snprintf(out, 64, "%g", json_as_double(node, 0.0));
        return out;
    case JSON_KIND_TEXT:
        (void)snprintf(out, 64, "'%.60s'", json_as_text(node, ""));
        return out;
    case JSON_KIND_ARRAY:
        return "a list";
    case JSON_KIND_OBJECT:
        break;
    }
    return "an object";
}

static enum err unsupported(const char *key, const struct json *value, struct note *note)
{
    char text[64];
    return note_set(note, ERR_INVALID, "%.60s is %s, which is not supported", key,
                    value_text(value, text));
}

static bool listed(const char *const *names, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static enum err member_check(void *argument, const char *key, const struct json *value)
{
    bool known = listed(READ, sizeof READ / sizeof READ[0], key) ||
                 listed(HARMLESS, sizeof HARMLESS / sizeof HARMLESS[0], key) ||
                 json_kind(value) == JSON_KIND_NULL;
    return known ? ERR_OK : unsupported(key, value, argument);
}

static const struct json *present(const struct json *root, const char *key)
{
    const struct json *node = json_member(root, key);
    return node != NULL && json_kind(node) == JSON_KIND_NULL ? NULL : node;
}

static enum err architecture_read(const struct json *root, struct lm_config *config,
                                  struct note *note)
{
    const char *type = "llama";
    enum err err = json_opt_text(root, "model_type", &type, note);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t found = 0;
    while (found < LM_ARCHITECTURE_COUNT && strcmp(type, lm_architecture_type(found)) != 0) {
        found++;
    }
    if (found == LM_ARCHITECTURE_COUNT) {
        return note_set(note, ERR_INVALID,
                        "model_type '%.40s' is not supported, known are llama, mistral, qwen2, "
                        "qwen3",
                        type);
    }
    config->architecture = (enum lm_architecture)found;
    const struct json *classes = present(root, "architectures");
    const char *class = lm_architecture_class(config->architecture);
    for (size_t i = 0; i < json_count(classes); i++) {
        if (strcmp(json_as_text(json_item(classes, i), ""), class) != 0) {
            return unsupported("architectures", json_item(classes, i), note);
        }
    }
    return ERR_OK;
}

/* Fields that change the arithmetic and that we implement for one value only. */
static enum err fixed_fields(const struct json *root, struct note *note)
{
    static const char *const OFF[] = {"attention_bias", "mlp_bias", "rope_interleaved"};
    for (size_t i = 0; i < sizeof OFF / sizeof OFF[0]; i++) {
        const struct json *node = present(root, OFF[i]);
        if (node != NULL && json_as_bool(node, true)) {
            return unsupported(OFF[i], node, note);
        }
    }
    const struct json *activation = present(root, "hidden_act");
    if (activation != NULL && strcmp(json_as_text(activation, ""), "silu") != 0) {
        return unsupported("hidden_act", activation, note);
    }
    const struct json *parallel = present(root, "pretraining_tp");
    if (parallel != NULL && json_as_i64(parallel, 0) != 1) {
        return unsupported("pretraining_tp", parallel, note);
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

static enum err opt_float(const struct json *root, const char *key, float *value, struct note *note)
{
    double wide = (double)*value;
    enum err err = json_opt_double(root, key, &wide, note);
    if (err == ERR_OK) {
        *value = (float)wide;
    }
    return err;
}

/* A token id: a number, null, or (eos) a list whose first entry counts. */
static enum err token_id(const struct json *root, const char *key, uint32_t *out, struct note *note)
{
    const struct json *node = present(root, key);
    *out = LM_NO_TOKEN;
    if (node != NULL && json_kind(node) == JSON_KIND_ARRAY) {
        node = json_item(node, 0);
    }
    if (node == NULL) {
        return ERR_OK;
    }
    int64_t id = json_as_i64(node, -1);
    if (id < 0 || id >= (int64_t)LM_VOCAB_MAX) {
        return note_set(note, ERR_INVALID, "%s is not a token id", key);
    }
    *out = (uint32_t)id;
    return ERR_OK;
}

/* rope_scaling, or rope_parameters as newer files call it (theta included). */
static enum err scaling_read(const struct json *scaling, struct lm_config *config,
                             struct note *note)
{
    static const char *const MEMBERS[] = {"type",
                                          "rope_type",
                                          "rope_theta",
                                          "factor",
                                          "low_freq_factor",
                                          "high_freq_factor",
                                          "original_max_position_embeddings"};
    if (scaling == NULL) {
        return ERR_OK;
    }
    const char *type = "default";
    enum err err = json_opt_text(scaling, "type", &type, note);
    if (err == ERR_OK) {
        err = json_opt_text(scaling, "rope_type", &type, note);
    }
    if (err == ERR_OK) {
        err = opt_float(scaling, "rope_theta", &config->rope_theta, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    bool scaled = strcmp(type, "llama3") == 0;
    if (!scaled && strcmp(type, "default") != 0) {
        return note_set(note, ERR_INVALID,
                        "rope_type '%.40s' is not supported, known are default, llama3", type);
    }
    size_t known = 0;
    for (size_t i = 0; i < (scaled ? sizeof MEMBERS / sizeof MEMBERS[0] : 3); i++) {
        known += json_member(scaling, MEMBERS[i]) != NULL;
        if (i >= 3 && present(scaling, MEMBERS[i]) == NULL) {
            return note_set(note, ERR_INVALID, "%s is missing", MEMBERS[i]);
        }
    }
    if (known != json_count(scaling)) {
        return note_set(note, ERR_INVALID, "rope_type '%s' has a member that is not supported",
                        type);
    }
    if (!scaled) {
        return ERR_OK;
    }
    struct lm_rope_scaling *rope = &config->rope;
    err = opt_float(scaling, "factor", &rope->factor, note);
    if (err == ERR_OK && !(rope->factor >= 1.0F)) {
        err = note_set(note, ERR_RANGE, "factor is below 1");
    }
    if (err == ERR_OK) {
        err = opt_float(scaling, "low_freq_factor", &rope->low_frequency, note);
    }
    if (err == ERR_OK) {
        err = opt_float(scaling, "high_freq_factor", &rope->high_frequency, note);
    }
    return err == ERR_OK
               ? opt_u32(scaling, "original_max_position_embeddings", &rope->original_context, note)
               : err;
}

static enum err rope_read(const struct json *root, struct lm_config *config, struct note *note)
{
    static const char *const PLACES[] = {"rope_scaling", "rope_parameters"};
    config->rope_theta = 10000.0F;
    enum err err = opt_float(root, "rope_theta", &config->rope_theta, note);
    for (size_t i = 0; i < 2 && err == ERR_OK; i++) {
        const struct json *scaling = NULL;
        err = json_opt_object(root, PLACES[i], &scaling, note);
        if (err == ERR_OK) {
            err = scaling_read(scaling, config, note);
            err = err == ERR_OK ? ERR_OK : note_wrap(note, err, "%s", PLACES[i]);
        }
    }
    return err;
}

/* Where a window begins to hide positions the context ends: up to there the answers are exact. */
static enum err window_read(const struct json *root, struct lm_config *config, struct note *note)
{
    const struct json *node = json_member(root, "sliding_window");
    bool used = config->architecture == LM_MISTRAL;
    if (config->architecture == LM_LLAMA && present(root, "sliding_window") != NULL) {
        return unsupported("sliding_window", node, note);
    }
    enum err err = ERR_OK;
    if (config->architecture == LM_QWEN2 || config->architecture == LM_QWEN3) {
        err = json_opt_bool(root, "use_sliding_window", &used, note);
    }
    uint32_t window = 0;
    if (err == ERR_OK && used) {
        /* MistralConfig and the Qwen configs take 4096 for a missing member; null means none. */
        window = node == NULL ? 4096 : 0;
        err = opt_u32(root, "sliding_window", &window, note);
    }
    const struct json *types = present(root, "layer_types");
    for (size_t i = 0; i < json_count(types) && err == ERR_OK; i++) {
        const char *type = json_as_text(json_item(types, i), "");
        if (strcmp(type, "full_attention") != 0 &&
            (window == 0 || strcmp(type, "sliding_attention") != 0)) {
            err = unsupported("layer_types", json_item(types, i), note);
        }
    }
    if (err == ERR_OK && window != 0 && window < config->context) {
        config->context = window;
    }
    return err;
}

static enum err shape_read(const struct json *root, struct lm_config *config, struct note *note)
{
    /* The last two have a default that is the same for llama only. */
    static const char *const REQUIRED[] = {
        "hidden_size", "intermediate_size",   "num_hidden_layers",      "num_attention_heads",
        "vocab_size",  "num_key_value_heads", "max_position_embeddings"};
    size_t required = config->architecture == LM_LLAMA ? 5 : 7;
    for (size_t i = 0; i < required; i++) {
        if (present(root, REQUIRED[i]) == NULL) {
            return note_set(note, ERR_INVALID, "%s is missing", REQUIRED[i]);
        }
    }
    config->context = 2048;
    struct {
        const char *key;
        uint32_t *value;
    } fields[] = {
        {"hidden_size", &config->hidden},
        {"intermediate_size", &config->ffn},
        {"num_hidden_layers", &config->layer_count},
        {"num_attention_heads", &config->head_count},
        {"num_key_value_heads", &config->kv_head_count},
        {"head_dim", &config->head_dim},
        {"vocab_size", &config->vocab},
        {"max_position_embeddings", &config->context},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        enum err err = opt_u32(root, fields[i].key, fields[i].value, note);
        if (err != ERR_OK) {
            return err;
        }
        if (i == 3 && config->head_count != 0) {
            config->kv_head_count = config->head_count;
            config->head_dim =
                config->architecture == LM_QWEN3 ? 128 : config->hidden / config->head_count;
        }
    }
    return ERR_OK;
}

static enum err config_fields(const struct json *root, struct lm_config *config, struct note *note)
{
    enum err err = architecture_read(root, config, note);
    if (err == ERR_OK) {
        err = json_each_member(root, member_check, note);
    }
    if (err == ERR_OK) {
        err = fixed_fields(root, note);
    }
    if (err == ERR_OK) {
        err = shape_read(root, config, note);
    }
    if (err == ERR_OK) {
        err = rope_read(root, config, note);
    }
    if (err == ERR_OK) {
        err = window_read(root, config, note);
    }
    config->norm_epsilon = 1e-6F;
    if (err == ERR_OK) {
        err = opt_float(root, "rms_norm_eps", &config->norm_epsilon, note);
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
    return err == ERR_OK ? lm_config_check(config, note) : err;
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
        err = config_fields(root, &config, note);
    }
    json_destroy(root);
    if (err != ERR_OK) {
        return note_wrap(note, err, "config.json");
    }
    *out = config;
    return ERR_OK;
}
