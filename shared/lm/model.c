/* model.c - a base model from its files and back. See model.h. */
#include "shared/lm/model.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/crypto/sha256.h"
#include "shared/json/json.h"
#include "shared/lm/engine.h"
#include "shared/lm/safetensors.h"
#include "shared/lm/weights.h"

enum err lm_model_make(const struct lm_config *config, const struct lm_view *views,
                       const struct lm_load *how, struct lm_model **out, struct note *note)
{
    static const char DOMAIN[] = "openledger-model-v1";
    struct lm_model *model = calloc(1, sizeof *model);
    struct sha256 *sha = sha256_create();
    struct buf text;
    buf_init(&text, LM_CONFIG_SIZE_MAX);
    enum err err = model == NULL ? ERR_NO_MEMORY : lm_config_write(config, &text);
    if (err == ERR_OK) {
        err = lm_net_init(&model->net, config, how->kernels, note);
    }
    if (err == ERR_OK) {
        sha256_update(sha, bytes_of(DOMAIN, sizeof DOMAIN));
        sha256_update(sha, buf_bytes(&text));
        err = lm_net_pack(&model->net, views, how, sha, note);
    }
    if (err == ERR_OK) {
        sha256_final(sha, &model->digest);
        *out = model;
    } else {
        lm_model_destroy(model);
    }
    sha256_destroy(sha);
    buf_deinit(&text);
    return err;
}

static bool shape_is(const struct lm_view *found, const struct lm_tensor *wanted)
{
    return found->vector == !wanted->matrix && found->rows == wanted->rows &&
           found->columns == wanted->columns;
}

/* One view per tensor of this shape, and no tensor left over; tensors: places only, no weights. */
static enum err views_choose(const struct lm_net *places, const struct lm_weights *weights,
                             struct lm_view *views, struct note *note)
{
    const struct lm_config *config = &places->config;
    char name[LM_TENSOR_NAME_SIZE];
    uint32_t used = 0;
    for (uint32_t t = 0; t < places->tensor_count; t++) {
        const struct lm_tensor *tensor = &places->tensors[t];
        if (tensor->rows == 0) {
            continue;
        }
        lm_tensor_name(config, t, name);
        const struct lm_view *found = lm_weights_find(weights, name);
        if (found == NULL) {
            return note_set(note, ERR_INVALID, "tensor '%s' is missing", name);
        }
        if (!shape_is(found, tensor)) {
            return note_set(note, ERR_INVALID, "tensor '%s' is not %u x %u", name, tensor->rows,
                            tensor->columns);
        }
        views[t] = *found;
        used++;
    }
    /* Published files of tied models may repeat the embedding under the head's name. */
    used += config->tied && lm_weights_find(weights, "lm_head.weight") != NULL;
    if (weights->count != used) {
        return note_set(note, ERR_INVALID, "%u tensors belong to no part of this architecture",
                        weights->count - used);
    }
    return ERR_OK;
}

static enum err weights_use(const struct lm_weights *weights, const struct lm_load *how,
                            struct lm_model **out, struct note *note)
{
    /* The files must at least be large enough before memory is taken for what config promises. */
    uint64_t promised = lm_config_weights(&weights->config);
    uint64_t held = 0;
    for (uint32_t i = 0; i < weights->count; i++) {
        held += (uint64_t)weights->views[i].rows * weights->views[i].columns;
    }
    if (promised > held) {
        return note_set(note, ERR_INVALID, "the files hold %llu of config.json's %llu weights",
                        (unsigned long long)held, (unsigned long long)promised);
    }
    struct lm_net places = {0};
    enum err err = lm_net_init(&places, &weights->config, how->kernels, note);
    struct lm_view *views = NULL;
    if (err == ERR_OK) {
        views = calloc(places.tensor_count, sizeof *views);
        err = views == NULL ? ERR_NO_MEMORY : views_choose(&places, weights, views, note);
    }
    if (err == ERR_OK) {
        err = lm_model_make(&weights->config, views, how, out, note);
    }
    free(views);
    lm_net_deinit(&places);
    return err;
}

enum err lm_model_open(const struct lm_file *files, uint32_t count, const struct lm_load *how,
                       struct lm_model **out, struct note *note)
{
    static const struct lm_load PLAIN = {0};
    struct lm_weights weights = {0};
    enum err err = lm_weights_init(&weights, files, count, note);
    if (err == ERR_OK) {
        err = weights_use(&weights, how == NULL ? &PLAIN : how, out, note);
    }
    lm_weights_deinit(&weights);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "model");
}

enum err lm_model_load(struct bytes config_json, struct bytes safetensors,
                       const struct lm_load *how, struct lm_model **out, struct note *note)
{
    const struct lm_file files[] = {{"config.json", config_json},
                                    {"model.safetensors", safetensors}};
    return lm_model_open(files, 2, how, out, note);
}

void lm_model_destroy(struct lm_model *model)
{
    if (model != NULL) {
        lm_net_deinit(&model->net);
        free(model);
    }
}

const struct lm_config *lm_model_config(const struct lm_model *model)
{
    return &model->net.config;
}

enum lm_precision lm_model_precision(const struct lm_model *model)
{
    return model->net.precision;
}

enum err lm_model_gradients_check(const struct lm_model *model, struct note *note)
{
    if (model->net.precision == LM_INT8) {
        return note_set(note, ERR_INVALID,
                        "the base model is loaded as int8, gradients need fp32, bf16 or f16");
    }
    if (model->net.matrices[lm_tensor_embed() + 1].back == NULL) {
        return note_set(note, ERR_INVALID, "the base model is loaded to serve only");
    }
    return ERR_OK;
}

uint64_t lm_model_memory(const struct lm_model *model)
{
    const struct lm_net *net = &model->net;
    uint64_t tables = (uint64_t)net->config.context * net->config.head_dim;
    return net->memory_size + (net->vector_count + tables) * sizeof(float) +
           net->tensor_count * (sizeof *net->matrices + sizeof *net->tensors);
}

void lm_model_digest(const struct lm_model *model, struct digest *out)
{
    *out = model->digest;
}

/* The whole weight vector in fp32, as products see it. */
static void values_read(const struct lm_net *net, float *out)
{
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        const struct lm_tensor *tensor = &net->tensors[t];
        float *values = out + tensor->offset;
        if (!tensor->matrix && tensor->rows > 0) {
            memcpy(values, lm_net_vector(net, t), tensor->columns * sizeof(float));
        }
        for (size_t row = 0; tensor->matrix && row < tensor->rows; row++) {
            lm_net_row(net, t, row, values + row * tensor->columns);
        }
    }
}

enum err lm_model_export(const struct lm_model *model, struct buf *out)
{
    const struct lm_net *net = &model->net;
    struct safetensors_source *sources = calloc(net->tensor_count, sizeof *sources);
    char(*names)[LM_TENSOR_NAME_SIZE] = calloc(net->tensor_count, sizeof *names);
    float *values = malloc(net->value_count * sizeof *values);
    enum err err = sources == NULL || names == NULL || values == NULL ? ERR_NO_MEMORY : ERR_OK;
    uint32_t count = 0;
    for (uint32_t t = 0; t < net->tensor_count && err == ERR_OK; t++) {
        const struct lm_tensor *tensor = &net->tensors[t];
        if (tensor->rows == 0) {
            continue;
        }
        lm_tensor_name(&net->config, t, names[count]);
        struct safetensors_source *source = &sources[count];
        *source = (struct safetensors_source){.name = names[count],
                                              .type = SAFETENSORS_BF16,
                                              .dim_count = tensor->matrix ? 2 : 1,
                                              .values = values + tensor->offset};
        source->dims[0] = tensor->matrix ? tensor->rows : tensor->columns;
        source->dims[1] = tensor->columns;
        count++;
    }
    if (err == ERR_OK) {
        values_read(net, values);
        err = safetensors_write(sources, count, out);
    }
    free(values);
    free(sources);
    free(names);
    return err;
}

enum err lm_generation_config_write(const struct lm_config *config, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_put_bool(&writer, "_from_model_config", true);
    if (config->bos != LM_NO_TOKEN) {
        json_put_u64(&writer, "bos_token_id", config->bos);
    }
    if (config->eos != LM_NO_TOKEN) {
        json_put_u64(&writer, "eos_token_id", config->eos);
        json_put_u64(&writer, "pad_token_id", config->eos);
    }
    json_end_object(&writer);
    return buf_err(out);
}

void lm_profile_id(const struct lm_profile *profile, struct digest *out)
{
    static const char DOMAIN[] = "openledger-arithmetic-profile-v1";
    static const char ARITHMETIC[] = KERNELS_ARITHMETIC;
    static const char ARITHMETIC_INT8[] = KERNELS_ARITHMETIC_INT8;
    CHECK(profile->precision != LM_STORED);
    const char *precision = lm_precision_name(profile->precision);
    bool int8 = profile->precision == LM_INT8;
    struct bytes parts[] = {
        bytes_of(DOMAIN, sizeof DOMAIN), /* NULs separate the texts */
        bytes_of(precision, strlen(precision) + 1),
        bytes_of(ARITHMETIC, sizeof ARITHMETIC),
        bytes_of(ARITHMETIC_INT8, int8 ? sizeof ARITHMETIC_INT8 : 0),
        digest_bytes(&profile->tokenizer_digest),
        digest_bytes(&profile->template_digest),
    };
    sha256_parts(parts, sizeof parts / sizeof parts[0], out);
}
