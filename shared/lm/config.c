/* config.c - bounds, canonical text, frequencies. See config.h; config_read.c parses. */
#include "shared/lm/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"

static const struct {
    const char *type, *class;
} NAMES[LM_ARCHITECTURE_COUNT] = {[LM_LLAMA] = {"llama", "LlamaForCausalLM"},
                                  [LM_MISTRAL] = {"mistral", "MistralForCausalLM"},
                                  [LM_QWEN2] = {"qwen2", "Qwen2ForCausalLM"},
                                  [LM_QWEN3] = {"qwen3", "Qwen3ForCausalLM"}};

const char *lm_architecture_type(enum lm_architecture architecture)
{
    CHECK(architecture < LM_ARCHITECTURE_COUNT);
    return NAMES[architecture].type;
}

const char *lm_architecture_class(enum lm_architecture architecture)
{
    CHECK(architecture < LM_ARCHITECTURE_COUNT);
    return NAMES[architecture].class;
}

struct bound {
    const char *name;
    uint32_t value, min, max;
};

static enum err scaling_check(const struct lm_rope_scaling *rope, struct note *note)
{
    if (rope->factor == 0.0F) {
        return ERR_OK;
    }
    if (!(rope->factor >= 1.0F && rope->factor <= 1024.0F)) {
        return note_set(note, ERR_RANGE, "rope factor is %g, allowed are 1 to 1024",
                        (double)rope->factor);
    }
    if (!(rope->low_frequency > 0.0F && rope->low_frequency < rope->high_frequency &&
          rope->high_frequency <= 1024.0F)) {
        return note_set(note, ERR_RANGE,
                        "low_freq_factor %g and high_freq_factor %g are not ascending in (0, 1024]",
                        (double)rope->low_frequency, (double)rope->high_frequency);
    }
    if (rope->original_context < 1 || rope->original_context > LM_CONTEXT_MAX) {
        return note_set(note, ERR_RANGE,
                        "original_max_position_embeddings is %u, allowed are 1 to %u",
                        rope->original_context, LM_CONTEXT_MAX);
    }
    return ERR_OK;
}

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
    CHECK(config->architecture < LM_ARCHITECTURE_COUNT);
    return scaling_check(&config->rope, note);
}

void lm_rope_frequencies(const struct lm_config *config, float *out)
{
    kernels_rope_frequencies((double)config->rope_theta, config->head_dim, out);
    const struct lm_rope_scaling *rope = &config->rope;
    if (rope->factor == 0.0F) {
        return;
    }
    double context = rope->original_context;
    double low = (double)rope->low_frequency;
    double high = (double)rope->high_frequency;
    for (uint32_t i = 0; i < config->head_dim / 2; i++) {
        double frequency = (double)out[i];
        double turns = context * frequency / (2.0 * M_PI); /* in the original context */
        double slow = frequency / (double)rope->factor;
        if (turns < low) {
            out[i] = (float)slow;
        } else if (turns <= high) {
            double smooth = (turns - low) / (high - low);
            out[i] = (float)((1.0 - smooth) * slow + smooth * frequency);
        }
    }
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

static void scaling_write(struct json_writer *writer, const struct lm_rope_scaling *rope)
{
    if (rope->factor == 0.0F) {
        return;
    }
    json_write_key(writer, "rope_scaling");
    json_begin_object(writer);
    json_put_text(writer, "rope_type", "llama3");
    float_write(writer, "factor", rope->factor);
    float_write(writer, "low_freq_factor", rope->low_frequency);
    float_write(writer, "high_freq_factor", rope->high_frequency);
    json_put_u64(writer, "original_max_position_embeddings", rope->original_context);
    json_end_object(writer);
}

enum err lm_config_write(const struct lm_config *config, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_write_key(&writer, "architectures");
    json_begin_array(&writer);
    json_write_text(&writer, NAMES[config->architecture].class);
    json_end_array(&writer);
    json_put_text(&writer, "model_type", NAMES[config->architecture].type);
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
    if (config->architecture == LM_LLAMA || config->architecture == LM_QWEN3) {
        json_put_bool(&writer, "attention_bias", false);
    }
    if (config->architecture == LM_LLAMA) {
        json_put_bool(&writer, "mlp_bias", false);
    } else {
        json_write_key(&writer, "sliding_window"); /* absent would mean 4096 for Mistral */
        json_write_null(&writer);
    }
    scaling_write(&writer, &config->rope);
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
    layer += lm_has_bias(config) ? lm_query_width(config) + 2ULL * lm_kv_width(config) : 0;
    layer += lm_has_head_norms(config) ? 2ULL * config->head_dim : 0;
    uint64_t tables = (config->tied ? 1U : 2U) * hidden * config->vocab;
    return tables + config->layer_count * layer + hidden;
}
