/* weights_gguf.c - config and tensors of a GGUF file as Hugging Face would have them; see weights.h.
 *
 * What llama.cpp does for architectures llama (Mistral too says llama), qwen2 and qwen3 is written down
 * in the file's metadata; a member of it that is not read here would change the numbers, so it is
 * refused by name. Source: ggml's docs/gguf.md, llama.cpp's convert_hf_to_gguf. */
#include "shared/lm/weights_gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/base/note.h"
#include "shared/gguf/gguf.h"
#include "shared/lm/engine.h"
#include "shared/lm/weights.h"

enum { KEY_SIZE = 96 };

/* Rope factors were computed in float32, here in double. */
#define FACTOR_TOLERANCE 1e-4F
/* What every published model with rope_freqs has; the factor itself is read off the table. */
#define LLAMA3_LOW 1.0F
#define LLAMA3_HIGH 4.0F
#define LLAMA3_CONTEXT 8192U

/* Members below the architecture's name that are read, and those that say nothing about one pass. */
static const char *const KNOWN[] = {"context_length",
                                    "embedding_length",
                                    "block_count",
                                    "feed_forward_length",
                                    "vocab_size",
                                    "attention.head_count",
                                    "attention.head_count_kv",
                                    "attention.key_length",
                                    "attention.value_length",
                                    "attention.layer_norm_rms_epsilon",
                                    "attention.sliding_window",
                                    "rope.dimension_count",
                                    "rope.freq_base",
                                    "rope.scaling.type",
                                    "tensor_data_layout"};

static bool begins_with(struct bytes text, const char *prefix)
{
    size_t size = strlen(prefix);
    return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

static enum err members_check(const struct gguf *gguf, const char *architecture, struct note *note)
{
    char prefix[KEY_SIZE];
    (void)snprintf(prefix, sizeof prefix, "%s.", architecture);
    for (uint32_t i = 0; i < gguf->entry_count; i++) {
        struct bytes key = gguf->entries[i].key;
        if (!begins_with(key, prefix)) {
            continue;
        }
        struct bytes name = {key.data + strlen(prefix), key.size - strlen(prefix)};
        bool known = false;
        for (size_t k = 0; k < sizeof KNOWN / sizeof KNOWN[0] && !known; k++) {
            known = gguf_text_is(name, KNOWN[k]);
        }
        if (!known) {
            return note_set(note, ERR_INVALID, "metadata '%.*s' is not supported", (int)key.size,
                            (const char *)key.data);
        }
    }
    return ERR_OK;
}

/* ---- config ---- */

static const char *key_of(const struct lm_config *config, const char *name, char out[KEY_SIZE])
{
    (void)snprintf(out, KEY_SIZE, "%s.%s", lm_architecture_type(config->architecture), name);
    return out;
}

static enum err architecture_read(const struct gguf *gguf, struct lm_config *config,
                                  struct note *note)
{
    struct bytes text;
    struct bytes type;
    uint32_t parts = 1;
    enum err err = gguf_get_text(gguf, "general.architecture", &text, note);
    if (err != ERR_OK) {
        return err;
    }
    if (gguf_text_is(text, "llama")) {
        config->architecture = LM_LLAMA;
    } else if (gguf_text_is(text, "qwen2")) {
        config->architecture = LM_QWEN2;
    } else if (gguf_text_is(text, "qwen3")) {
        config->architecture = LM_QWEN3;
    } else {
        int size = text.size < 40 ? (int)text.size : 40;
        return note_set(note, ERR_INVALID,
                        "general.architecture '%.*s' is not supported, known are llama, qwen2, "
                        "qwen3",
                        size, (const char *)text.data);
    }
    err = gguf_get_text(gguf, "general.type", &type, note);
    if (err == ERR_INVALID || (err == ERR_OK && !gguf_text_is(type, "model"))) {
        return note_set(note, ERR_INVALID, "general.type is not 'model'");
    }
    err = gguf_get_u32(gguf, "split.count", &parts, note);
    if (err == ERR_INVALID || (err == ERR_OK && parts > 1)) {
        return note_set(note, ERR_INVALID, "split.count: a model in parts is not supported");
    }
    return members_check(gguf, lm_architecture_type(config->architecture), note);
}

/* A member of the architecture; absent: *value stays, unless it is required. */
static enum err number_read(const struct gguf *gguf, const struct lm_config *config,
                            const char *name, bool required, uint32_t *value, struct note *note)
{
    char key[KEY_SIZE];
    enum err err = gguf_get_u32(gguf, key_of(config, name, key), value, note);
    return err == ERR_NOT_FOUND ? (required ? ERR_INVALID : ERR_OK) : err;
}

static enum err float_read(const struct gguf *gguf, const struct lm_config *config,
                           const char *name, bool required, float *value, struct note *note)
{
    char key[KEY_SIZE];
    enum err err = gguf_get_f32(gguf, key_of(config, name, key), value, note);
    return err == ERR_NOT_FOUND ? (required ? ERR_INVALID : ERR_OK) : err;
}

/* Is a beginning-of-text token put before every text? As llama.cpp decides it. */
static enum err bos_wanted(const struct gguf *gguf, bool *out, struct note *note)
{
    struct bytes text;
    *out = gguf_get_text(gguf, "tokenizer.ggml.model", &text, note) == ERR_OK &&
           gguf_text_is(text, "llama");
    if (gguf_get_text(gguf, "tokenizer.ggml.pre", &text, note) == ERR_OK &&
        (gguf_text_is(text, "llama-bpe") || gguf_text_is(text, "llama3"))) {
        *out = true;
    }
    enum err err = gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", out, note);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err tokens_read(const struct gguf *gguf, struct lm_config *config, struct note *note)
{
    bool bos = false;
    config->bos = LM_NO_TOKEN;
    config->eos = LM_NO_TOKEN;
    enum err err = bos_wanted(gguf, &bos, note);
    if (err == ERR_OK && bos) {
        err = gguf_get_u32(gguf, "tokenizer.ggml.bos_token_id", &config->bos, note);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    if (err == ERR_OK) {
        err = gguf_get_u32(gguf, "tokenizer.ggml.eos_token_id", &config->eos, note);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    return err;
}

/* Rotation must be of whole heads and, but for rope_freqs, unscaled. */
static enum err rope_read(const struct gguf *gguf, struct lm_config *config, struct note *note)
{
    char key[KEY_SIZE];
    struct bytes type;
    uint32_t rotated = config->head_dim;
    config->rope_theta = 10000.0F;
    enum err err = float_read(gguf, config, "rope.freq_base", false, &config->rope_theta, note);
    if (err == ERR_OK) {
        err = number_read(gguf, config, "rope.dimension_count", false, &rotated, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (rotated != config->head_dim) {
        return note_set(note, ERR_INVALID,
                        "rope.dimension_count %u of heads of %u (partial rotation) is not "
                        "supported",
                        rotated, config->head_dim);
    }
    err = gguf_get_text(gguf, key_of(config, "rope.scaling.type", key), &type, note);
    if (err == ERR_INVALID || (err == ERR_OK && !gguf_text_is(type, "none"))) {
        return note_set(note, ERR_INVALID, "metadata '%s' is not 'none', which is not supported",
                        key);
    }
    return ERR_OK;
}

static enum err shape_read(const struct gguf *gguf, struct lm_config *config, struct note *note)
{
    const struct {
        const char *name;
        uint32_t *value;
    } required[] = {{"context_length", &config->context},
                    {"embedding_length", &config->hidden},
                    {"block_count", &config->layer_count},
                    {"feed_forward_length", &config->ffn},
                    {"attention.head_count", &config->head_count}};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof required / sizeof required[0] && err == ERR_OK; i++) {
        err = number_read(gguf, config, required[i].name, true, required[i].value, note);
    }
    if (err == ERR_OK && config->head_count == 0) {
        err = note_set(note, ERR_RANGE, "attention.head_count is 0");
    }
    if (err != ERR_OK) {
        return err;
    }
    config->kv_head_count = config->head_count;
    config->head_dim = config->hidden / config->head_count;
    uint32_t window = 0;
    err = number_read(gguf, config, "attention.head_count_kv", false, &config->kv_head_count, note);
    if (err == ERR_OK) {
        err = number_read(gguf, config, "attention.key_length", false, &config->head_dim, note);
    }
    uint32_t values = config->head_dim;
    if (err == ERR_OK) {
        err = number_read(gguf, config, "attention.value_length", false, &values, note);
    }
    if (err == ERR_OK && values != config->head_dim) {
        err = note_set(note, ERR_INVALID, "attention.value_length %u is not key_length %u", values,
                       config->head_dim);
    }
    if (err == ERR_OK) {
        err = number_read(gguf, config, "attention.sliding_window", false, &window, note);
    }
    if (err == ERR_OK && window != 0 && window < config->context) {
        config->context = window; /* as config.h says */
    }
    return err;
}

static enum err vocab_read(const struct gguf *gguf, struct lm_config *config, struct note *note)
{
    bool head = false;
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        const struct gguf_tensor *tensor = &gguf->tensors[i];
        if (gguf_text_is(tensor->name, "token_embd.weight")) {
            config->vocab = tensor->rows;
        }
        head = head || gguf_text_is(tensor->name, "output.weight");
    }
    config->tied = !head;
    if (config->vocab == 0) {
        return note_set(note, ERR_INVALID, "tensor 'token_embd.weight' is missing");
    }
    uint32_t promised = config->vocab;
    enum err err = number_read(gguf, config, "vocab_size", false, &promised, note);
    if (err == ERR_OK && promised != config->vocab) {
        err = note_set(note, ERR_INVALID, "vocab_size is %u, token_embd.weight has %u rows",
                       promised, config->vocab);
    }
    return err;
}

/* rope_freqs.weight holds what each frequency is divided by. Only Llama 3.1's rule is known. */
static enum err factors_read(const struct gguf_tensor *tensor, struct lm_config *config,
                             struct note *note)
{
    float wanted[LM_HEAD_DIM_MAX / 2];
    float plain[LM_HEAD_DIM_MAX / 2];
    float factors[LM_HEAD_DIM_MAX / 2];
    uint32_t half = config->head_dim / 2;
    struct lm_config scaled = *config;
    if (tensor->type != GGUF_TENSOR_F32 || tensor->rows != 1 || tensor->columns != half) {
        return note_set(note, ERR_INVALID, "tensor 'rope_freqs.weight' is not F32 of %u", half);
    }
    memcpy(factors, tensor->data.data, half * sizeof factors[0]);
    scaled.rope = (struct lm_rope_scaling){.low_frequency = LLAMA3_LOW,
                                           .high_frequency = LLAMA3_HIGH,
                                           .original_context = LLAMA3_CONTEXT};
    for (uint32_t i = 0; i < half; i++) {
        scaled.rope.factor = factors[i] > scaled.rope.factor ? factors[i] : scaled.rope.factor;
    }
    enum err err = lm_config_check(&scaled, note);
    if (err != ERR_OK) {
        return err;
    }
    lm_rope_frequencies(config, plain);
    lm_rope_frequencies(&scaled, wanted);
    for (uint32_t i = 0; i < half; i++) {
        if (!(fabsf(wanted[i] * factors[i] - plain[i]) <= FACTOR_TOLERANCE * plain[i])) {
            return note_set(note, ERR_INVALID,
                            "tensor 'rope_freqs.weight' is no scaling that is supported (llama3)");
        }
    }
    if (scaled.rope.factor > 1.0F) {
        config->rope = scaled.rope;
    }
    return ERR_OK;
}

static enum err config_read(const struct gguf *gguf, struct lm_config *config, struct note *note)
{
    enum err err = architecture_read(gguf, config, note);
    err = err == ERR_OK ? shape_read(gguf, config, note) : err;
    err = err == ERR_OK ? rope_read(gguf, config, note) : err;
    err = err == ERR_OK ? vocab_read(gguf, config, note) : err;
    err = err == ERR_OK ? tokens_read(gguf, config, note) : err;
    if (err == ERR_OK) {
        err = float_read(gguf, config, "attention.layer_norm_rms_epsilon", true,
                         &config->norm_epsilon, note);
    }
    return err == ERR_OK ? lm_config_check(config, note) : err;
}

/* ---- tensors ---- */

/* llama.cpp's names and Hugging Face's, of one layer and of the whole. */
static const char *const LAYER_NAMES[][2] = {{"attn_q.weight", "self_attn.q_proj.weight"},
                                             {"attn_k.weight", "self_attn.k_proj.weight"},
                                             {"attn_v.weight", "self_attn.v_proj.weight"},
                                             {"attn_output.weight", "self_attn.o_proj.weight"},
                                             {"ffn_gate.weight", "mlp.gate_proj.weight"},
                                             {"ffn_up.weight", "mlp.up_proj.weight"},
                                             {"ffn_down.weight", "mlp.down_proj.weight"},
                                             {"attn_norm.weight", "input_layernorm.weight"},
                                             {"ffn_norm.weight", "post_attention_layernorm.weight"},
                                             {"attn_q.bias", "self_attn.q_proj.bias"},
                                             {"attn_k.bias", "self_attn.k_proj.bias"},
                                             {"attn_v.bias", "self_attn.v_proj.bias"},
                                             {"attn_q_norm.weight", "self_attn.q_norm.weight"},
                                             {"attn_k_norm.weight", "self_attn.k_norm.weight"}};
static const char *const OTHER_NAMES[][2] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                             {"output_norm.weight", "model.norm.weight"},
                                             {"output.weight", "lm_head.weight"}};
enum { INTERLEAVED_COUNT = 2 }; /* of LAYER_NAMES, the first ones */

/* "blk.12.attn_q.weight" -> layer 12; text becomes what follows. False: another form. */
static bool layer_take(struct bytes *text, uint32_t *out)
{
    if (!begins_with(*text, "blk.")) {
        return false;
    }
    size_t at = 4;
    uint32_t layer = 0;
    while (at < text->size && at < 8 && text->data[at] >= '0' && text->data[at] <= '9') {
        layer = layer * 10 + (uint32_t)(text->data[at++] - '0');
    }
    if (at == 4 || at == text->size || text->data[at] != '.' || (text->data[4] == '0' && at > 5)) {
        return false;
    }
    *text = (struct bytes){text->data + at + 1, text->size - at - 1};
    *out = layer;
    return true;
}

/* Hugging Face's name of a tensor; out_interleaved: its rows come as llama.cpp rotates them. */
static bool name_translate(struct bytes name, char out[LM_TENSOR_NAME_SIZE], bool *out_interleaved)
{
    uint32_t layer = 0;
    *out_interleaved = false;
    if (layer_take(&name, &layer)) {
        for (size_t i = 0; i < sizeof LAYER_NAMES / sizeof LAYER_NAMES[0]; i++) {
            if (gguf_text_is(name, LAYER_NAMES[i][0])) {
                (void)snprintf(out, LM_TENSOR_NAME_SIZE, "model.layers.%u.%s", layer,
                               LAYER_NAMES[i][1]);
                *out_interleaved = i < INTERLEAVED_COUNT;
                return true;
            }
        }
        return false;
    }
    for (size_t i = 0; i < sizeof OTHER_NAMES / sizeof OTHER_NAMES[0]; i++) {
        if (gguf_text_is(name, OTHER_NAMES[i][0])) {
            (void)snprintf(out, LM_TENSOR_NAME_SIZE, "%s", OTHER_NAMES[i][1]);
            return true;
        }
    }
    return false;
}

static enum err view_make(const struct gguf_tensor *tensor, const struct lm_config *config,
                          char *name, struct lm_view *out, struct note *note)
{
    static const enum lm_dtype TYPES[] = {[GGUF_TENSOR_F32] = LM_DTYPE_F32,
                                          [GGUF_TENSOR_F16] = LM_DTYPE_F16,
                                          [GGUF_TENSOR_BF16] = LM_DTYPE_BF16,
                                          [GGUF_TENSOR_Q8_0] = LM_DTYPE_Q8_0};
    bool interleaved = false;
    if (!name_translate(tensor->name, name, &interleaved)) {
        return note_set(note, ERR_INVALID, "tensor '%.*s' is not supported", (int)tensor->name.size,
                        (const char *)tensor->name.data);
    }
    interleaved = interleaved && config->architecture == LM_LLAMA;
    if (interleaved && tensor->rows % config->head_dim != 0) {
        return note_set(note, ERR_INVALID, "tensor '%.*s' has %u rows, no whole heads of %u",
                        (int)tensor->name.size, (const char *)tensor->name.data, tensor->rows,
                        config->head_dim);
    }
    *out = (struct lm_view){.name = name,
                            .dtype = TYPES[tensor->type],
                            .vector = tensor->vector,
                            .rows = tensor->rows,
                            .columns = tensor->columns,
                            .interleaved_head = interleaved ? config->head_dim : 0,
                            .data = tensor->data};
    return ERR_OK;
}

static enum err views_make(struct lm_weights *weights, const struct gguf *gguf, struct note *note)
{
    weights->names = calloc((size_t)gguf->tensor_count + 1, LM_TENSOR_NAME_SIZE);
    weights->views = calloc((size_t)gguf->tensor_count + 1, sizeof *weights->views);
    enum err err = weights->names == NULL || weights->views == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (uint32_t i = 0; i < gguf->tensor_count && err == ERR_OK; i++) {
        const struct gguf_tensor *tensor = &gguf->tensors[i];
        if (gguf_text_is(tensor->name, "rope_freqs.weight")) {
            err = factors_read(tensor, &weights->config, note);
            continue;
        }
        err = view_make(tensor, &weights->config,
                        weights->names + (size_t)weights->count * LM_TENSOR_NAME_SIZE,
                        &weights->views[weights->count], note);
        weights->count += err == ERR_OK;
    }
    return err;
}

enum err lm_weights_gguf(struct lm_weights *weights, struct bytes file, struct note *note)
{
    struct gguf gguf = {0};
    enum err err = gguf_init(&gguf, file, note);
    if (err == ERR_OK) {
        err = config_read(&gguf, &weights->config, note);
    }
    if (err == ERR_OK) {
        err = views_make(weights, &gguf, note);
    }
    gguf_deinit(&gguf); /* views borrow the file, not this */
    return err;
}
