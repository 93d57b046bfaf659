/* lm_random.h - a random model of any architecture as the files a user would bring, and its forward
 * pass written the obvious way in double: what shared/lm is held to.
 *
 * Nothing here calls shared/lm's network. Source: the models' papers and transformers' modeling
 * files; whole sequence at once, no cache, no blocks. */
#pragma once

#include <math.h>

#include "shared/lm/safetensors.h"
#include "tests/harness/lm_fixture.h"

#define RANDOM_TENSORS_MAX 64U
#define RANDOM_NAME_SIZE 96U

struct random_model {
    struct lm_config config;
    struct safetensors_source tensors[RANDOM_TENSORS_MAX];
    char names[RANDOM_TENSORS_MAX][RANDOM_NAME_SIZE];
    uint32_t count;
};

/* A tiny config of each architecture; LM_ARCHITECTURE_COUNT and above: variants of llama. */
enum { RANDOM_VARIANTS = LM_ARCHITECTURE_COUNT + 1 };
static inline struct lm_config random_config(uint32_t variant)
{
    struct lm_config config = fixture_config(variant % 2 == 0);
    config.context = 96;
    if (variant < LM_ARCHITECTURE_COUNT) {
        config.architecture = (enum lm_architecture)variant;
        config.head_dim = variant == LM_QWEN3 ? 16 : 10;
        config.rope_theta = variant == LM_LLAMA ? 10000.0F : 1000000.0F;
    } else { /* Llama 3.1: one frequency stays, one is blended, the others are slowed */
        config.rope = (struct lm_rope_scaling){
            .factor = 8.0F, .low_frequency = 1.0F, .high_frequency = 4.0F, .original_context = 64};
    }
    return config;
}

/* Values in +-scale (norm weights around 1), rounded to bf16 so that every file type holds them. */
static inline void random_tensor(struct random_model *model, const char *name, uint32_t rows,
                                 uint32_t columns, float scale)
{
    ck_assert_uint_lt(model->count, RANDOM_TENSORS_MAX);
    uint32_t index = model->count++;
    uint64_t count = (uint64_t)(rows == 0 ? 1 : rows) * columns;
    float *values = malloc(count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half;
        values[i] = scale * philox_signed(index + 1, PHILOX_DEMO, i);
        values[i] += strstr(name, "norm") == NULL ? 0.0F : 1.0F;
        kernels_to_bf16(1, &values[i], &half);
        kernels_from_bf16(1, &half, &values[i]);
    }
    (void)snprintf(model->names[index], RANDOM_NAME_SIZE, "%s", name);
    model->tensors[index] = (struct safetensors_source){
        .name = model->names[index], .type = SAFETENSORS_BF16, .values = values};
    model->tensors[index].dim_count = rows == 0 ? 1 : 2;
    model->tensors[index].dims[0] = rows == 0 ? columns : rows;
    model->tensors[index].dims[1] = columns;
}

static inline void random_model_make(struct random_model *model, const struct lm_config *config)
{
    *model = (struct random_model){.config = *config};
    uint32_t hidden = config->hidden;
    uint32_t query = config->head_count * config->head_dim;
    uint32_t width = config->kv_head_count * config->head_dim;
    const struct {
        const char *name;
        uint32_t rows, columns; /* rows 0: a vector */
        bool there;
    } layer[] = {
        {"self_attn.q_proj.weight", query, hidden, true},
        {"self_attn.k_proj.weight", width, hidden, true},
        {"self_attn.v_proj.weight", width, hidden, true},
        {"self_attn.o_proj.weight", hidden, query, true},
        {"mlp.gate_proj.weight", config->ffn, hidden, true},
        {"mlp.up_proj.weight", config->ffn, hidden, true},
        {"mlp.down_proj.weight", hidden, config->ffn, true},
        {"input_layernorm.weight", 0, hidden, true},
        {"post_attention_layernorm.weight", 0, hidden, true},
        {"self_attn.q_proj.bias", 0, query, config->architecture == LM_QWEN2},
        {"self_attn.k_proj.bias", 0, width, config->architecture == LM_QWEN2},
        {"self_attn.v_proj.bias", 0, width, config->architecture == LM_QWEN2},
        {"self_attn.q_norm.weight", 0, config->head_dim, config->architecture == LM_QWEN3},
        {"self_attn.k_norm.weight", 0, config->head_dim, config->architecture == LM_QWEN3},
    };
    random_tensor(model, "model.embed_tokens.weight", config->vocab, hidden, 1.0F);
    for (uint32_t i = 0; i < config->layer_count; i++) {
        for (size_t t = 0; t < sizeof layer / sizeof layer[0]; t++) {
            char name[RANDOM_NAME_SIZE];
            (void)snprintf(name, sizeof name, "model.layers.%u.%s", i, layer[t].name);
            if (layer[t].there) {
                random_tensor(model, name, layer[t].rows, layer[t].columns, 0.3F);
            }
        }
    }
    random_tensor(model, "model.norm.weight", 0, hidden, 0.3F);
    if (!config->tied) {
        random_tensor(model, "lm_head.weight", config->vocab, hidden, 1.0F);
    }
}

static inline void random_model_free(struct random_model *model)
{
    for (uint32_t i = 0; i < model->count; i++) {
        free((void *)(uintptr_t)model->tensors[i].values);
    }
    *model = (struct random_model){0};
}

/* The model's files, and what lm_model_load makes of them. */
static inline struct lm_model *random_model_load(const struct random_model *random,
                                                 const struct kernels *kernels)
{
    struct buf config;
    struct buf weights;
    struct lm_model *model = NULL;
    struct note note = {0};
    buf_init(&config, LM_CONFIG_SIZE_MAX);
    buf_init(&weights, (size_t)64 << 20);
    ck_assert_int_eq(lm_config_write(&random->config, &config), ERR_OK);
    ck_assert_int_eq(safetensors_write(random->tensors, random->count, &weights), ERR_OK);
    struct lm_load how = {.kernels = kernels};
    enum err err = lm_model_load(buf_bytes(&config), buf_bytes(&weights), &how, &model, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    buf_deinit(&config);
    buf_deinit(&weights);
    return model;
}

/* ---- the forward pass in double ---- */

static inline const float *random_find(const struct random_model *model, int layer,
                                       const char *part)
{
    char name[RANDOM_NAME_SIZE];
    if (layer < 0) {
        (void)snprintf(name, sizeof name, "%s", part);
    } else {
        (void)snprintf(name, sizeof name, "model.layers.%d.%s", layer, part);
    }
    for (uint32_t i = 0; i < model->count; i++) {
        if (strcmp(model->names[i], name) == 0) {
            return model->tensors[i].values;
        }
    }
    return NULL;
}

/* y[out] = W x (+ bias) */
static inline void plain_linear(const float *w, const float *bias, uint32_t in, uint32_t out,
                                const double *x, double *y)
{
    ck_assert_ptr_nonnull(w);
    for (uint32_t o = 0; o < out; o++) {
        y[o] = bias == NULL ? 0.0 : (double)bias[o];
        for (uint32_t i = 0; i < in; i++) {
            y[o] += (double)w[(size_t)o * in + i] * x[i];
        }
    }
}

static inline void plain_norm(const struct lm_config *config, const float *w, uint32_t width,
                              const double *x, double *y)
{
    double mean = 0.0;
    ck_assert_ptr_nonnull(w);
    for (uint32_t i = 0; i < width; i++) {
        mean += x[i] * x[i] / width;
    }
    for (uint32_t i = 0; i < width; i++) {
        y[i] = x[i] / sqrt(mean + (double)config->norm_epsilon) * (double)w[i];
    }
}

/* Frequencies as transformers' _compute_llama3_parameters puts it: by wavelength. */
static inline double plain_frequency(const struct lm_config *config, uint32_t i)
{
    double frequency = pow((double)config->rope_theta, -2.0 * i / config->head_dim);
    const struct lm_rope_scaling *rope = &config->rope;
    if (rope->factor == 0.0F) {
        return frequency;
    }
    double wavelength = 2.0 * M_PI / frequency;
    double longest = rope->original_context / (double)rope->low_frequency;
    double shortest = rope->original_context / (double)rope->high_frequency;
    if (wavelength < shortest) {
        return frequency;
    }
    if (wavelength > longest) {
        return frequency / (double)rope->factor;
    }
    double smooth = (rope->original_context / wavelength - (double)rope->low_frequency) /
                    (double)(rope->high_frequency - rope->low_frequency);
    return (1.0 - smooth) * frequency / (double)rope->factor + smooth * frequency;
}

static inline void plain_rotate(const struct lm_config *config, uint32_t position, double *head)
{
    uint32_t half = config->head_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double angle = position * plain_frequency(config, i);
        double a = head[i];
        double b = head[i + half];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + half] = b * cos(angle) + a * sin(angle);
    }
}

enum { PLAIN_ROWS = 96, PLAIN_WIDTH = 128 };

/* One query head of one row over the keys of its group. */
static inline void plain_head(uint32_t dim, uint32_t row, const double *q, double (*k)[PLAIN_WIDTH],
                              double (*v)[PLAIN_WIDTH], double *out)
{
    double score[PLAIN_ROWS];
    double sum = 0.0;
    for (uint32_t j = 0; j <= row; j++) {
        score[j] = 0.0;
        for (uint32_t d = 0; d < dim; d++) {
            score[j] += q[d] * k[j][d] / sqrt(dim);
        }
        score[j] = exp(score[j]);
        sum += score[j];
    }
    for (uint32_t d = 0; d < dim; d++) {
        out[d] = 0.0;
        for (uint32_t j = 0; j <= row; j++) {
            out[d] += score[j] / sum * v[j][d];
        }
    }
}

static inline void plain_attention(const struct random_model *model, int layer, uint32_t rows,
                                   double (*x)[PLAIN_WIDTH])
{
    static double q[PLAIN_ROWS][PLAIN_WIDTH], k[PLAIN_ROWS][PLAIN_WIDTH],
        v[PLAIN_ROWS][PLAIN_WIDTH], mixed[PLAIN_ROWS][PLAIN_WIDTH];
    const struct lm_config *config = &model->config;
    uint32_t dim = config->head_dim;
    uint32_t query = config->head_count * dim;
    uint32_t width = config->kv_head_count * dim;
    bool norms = config->architecture == LM_QWEN3;
    for (uint32_t t = 0; t < rows; t++) {
        double y[PLAIN_WIDTH];
        plain_norm(config, random_find(model, layer, "input_layernorm.weight"), config->hidden,
                   x[t], y);
        plain_linear(random_find(model, layer, "self_attn.q_proj.weight"),
                     random_find(model, layer, "self_attn.q_proj.bias"), config->hidden, query, y,
                     q[t]);
        plain_linear(random_find(model, layer, "self_attn.k_proj.weight"),
                     random_find(model, layer, "self_attn.k_proj.bias"), config->hidden, width, y,
                     k[t]);
        plain_linear(random_find(model, layer, "self_attn.v_proj.weight"),
                     random_find(model, layer, "self_attn.v_proj.bias"), config->hidden, width, y,
                     v[t]);
        for (uint32_t h = 0; h < config->head_count + config->kv_head_count; h++) {
            bool is_query = h < config->head_count;
            double *head = is_query ? &q[t][h * dim] : &k[t][(h - config->head_count) * dim];
            if (norms) {
                plain_norm(
                    config,
                    random_find(model, layer,
                                is_query ? "self_attn.q_norm.weight" : "self_attn.k_norm.weight"),
                    dim, head, head);
            }
            plain_rotate(config, t, head);
        }
    }
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t h = 0; h < config->head_count; h++) {
            size_t group = (size_t)(h / (config->head_count / config->kv_head_count)) * dim;
            plain_head(dim, t, &q[t][h * dim], (double(*)[PLAIN_WIDTH])(void *)&k[0][group],
                       (double(*)[PLAIN_WIDTH])(void *)&v[0][group], &mixed[t][h * dim]);
        }
    }
    for (uint32_t t = 0; t < rows; t++) {
        double y[PLAIN_WIDTH];
        plain_linear(random_find(model, layer, "self_attn.o_proj.weight"), NULL, query,
                     config->hidden, mixed[t], y);
        for (uint32_t i = 0; i < config->hidden; i++) {
            x[t][i] += y[i];
        }
    }
}

static inline void plain_ffn(const struct random_model *model, int layer, double *x)
{
    const struct lm_config *config = &model->config;
    double y[PLAIN_WIDTH];
    double gate[PLAIN_WIDTH];
    double up[PLAIN_WIDTH];
    plain_norm(config, random_find(model, layer, "post_attention_layernorm.weight"), config->hidden,
               x, y);
    plain_linear(random_find(model, layer, "mlp.gate_proj.weight"), NULL, config->hidden,
                 config->ffn, y, gate);
    plain_linear(random_find(model, layer, "mlp.up_proj.weight"), NULL, config->hidden, config->ffn,
                 y, up);
    for (uint32_t i = 0; i < config->ffn; i++) {
        gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
    }
    plain_linear(random_find(model, layer, "mlp.down_proj.weight"), NULL, config->ffn,
                 config->hidden, gate, y);
    for (uint32_t i = 0; i < config->hidden; i++) {
        x[i] += y[i];
    }
}

/* Logits [rows][vocab] of a whole text. */
static inline void plain_forward(const struct random_model *model, const uint32_t *tokens,
                                 uint32_t rows, double *out)
{
    static double x[PLAIN_ROWS][PLAIN_WIDTH];
    const struct lm_config *config = &model->config;
    const float *embed = random_find(model, -1, "model.embed_tokens.weight");
    ck_assert(rows <= PLAIN_ROWS && config->ffn <= PLAIN_WIDTH && config->hidden <= PLAIN_WIDTH);
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t i = 0; i < config->hidden; i++) {
            x[t][i] = (double)embed[(size_t)tokens[t] * config->hidden + i];
        }
    }
    for (uint32_t layer = 0; layer < config->layer_count; layer++) {
        plain_attention(model, (int)layer, rows, x);
        for (uint32_t t = 0; t < rows; t++) {
            plain_ffn(model, (int)layer, x[t]);
        }
    }
    for (uint32_t t = 0; t < rows; t++) {
        double y[PLAIN_WIDTH];
        plain_norm(config, random_find(model, -1, "model.norm.weight"), config->hidden, x[t], y);
        plain_linear(config->tied ? embed : random_find(model, -1, "lm_head.weight"), NULL,
                     config->hidden, config->vocab, y, out + (size_t)t * config->vocab);
    }
}
