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

static enum err digest_make(struct lm_model *model)
{
    struct buf config;
    buf_init(&config, LM_CONFIG_SIZE_MAX);
    enum err err = lm_config_write(&model->net.config, &config);
    if (err == ERR_OK) {
        static const char DOMAIN[] = "openledger-model-v1";
        struct bytes parts[] = {
            {(const uint8_t *)DOMAIN, sizeof DOMAIN},
            buf_bytes(&config),
            {(const uint8_t *)model->net.values, model->net.value_count * sizeof(float)}};
        sha256_parts(parts, sizeof parts / sizeof parts[0], &model->digest);
    }
    buf_deinit(&config);
    return err;
}

enum err lm_model_seal(struct lm_model *model, struct note *note)
{
    if (!kernels_all_finite(model->net.kernels, model->net.value_count, model->net.values)) {
        return note_set(note, ERR_INVALID, "the model holds a weight that is not finite");
    }
    enum err err = lm_net_pack(&model->net);
    if (err == ERR_OK) {
        err = digest_make(model);
    }
    return err == ERR_OK ? ERR_OK : note_set(note, err, "no memory for the model");
}

static bool shape_is(const struct safetensors_tensor *found, const struct lm_tensor *wanted)
{
    if (!wanted->matrix) {
        return found->dim_count == 1 && found->dims[0] == wanted->columns;
    }
    return found->dim_count == 2 && found->dims[0] == wanted->rows &&
           found->dims[1] == wanted->columns;
}

/* Tensors that are present in published files and carry no weights. */
static bool ignorable(const struct lm_config *config, const char *name)
{
    return strstr(name, "rotary_emb.inv_freq") != NULL ||
           (config->tied && strcmp(name, "lm_head.weight") == 0);
}

static enum err tensors_read(struct lm_net *net, const struct safetensors *set, struct note *note)
{
    char name[LM_TENSOR_NAME_SIZE];
    uint32_t extra = 0;
    uint32_t used = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        extra += ignorable(&net->config, set->tensors[i].name);
    }
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        if (net->tensors[t].rows == 0) {
            continue;
        }
        used++;
        lm_tensor_name(&net->config, t, name);
        const struct safetensors_tensor *found = safetensors_find(set, name);
        if (found == NULL) {
            return note_set(note, ERR_INVALID, "tensor '%s' is missing", name);
        }
        if (!shape_is(found, &net->tensors[t])) {
            return note_set(note, ERR_INVALID, "tensor '%s' is not %u x %u", name,
                            net->tensors[t].rows, net->tensors[t].columns);
        }
        safetensors_read(found, net->values + net->tensors[t].offset);
    }
    if (set->count - extra != used) {
        return note_set(note, ERR_INVALID, "%u tensors belong to no part of this architecture",
                        set->count - extra - used);
    }
    return ERR_OK;
}

enum err lm_model_load(struct bytes config_json, struct bytes file, const struct kernels *kernels,
                       struct lm_model **out, struct note *note)
{
    struct lm_config config;
    struct safetensors set = {0};
    enum err err = lm_config_parse(config_json, &config, note);
    if (err == ERR_OK) {
        err = safetensors_init(&set, file, note);
    }
    /* The file must at least be large enough before memory is taken for what config promises. */
    if (err == ERR_OK && lm_config_weights(&config) * 2 > file.size) {
        err = note_set(note, ERR_INVALID, "%zu bytes cannot hold the %llu weights of config.json",
                       file.size, (unsigned long long)lm_config_weights(&config));
    }
    struct lm_model *model = NULL;
    if (err == ERR_OK) {
        model = calloc(1, sizeof *model);
        err = model == NULL ? ERR_NO_MEMORY : lm_net_init(&model->net, &config, kernels, note);
    }
    if (err == ERR_OK) {
        err = tensors_read(&model->net, &set, note);
    }
    if (err == ERR_OK) {
        err = lm_model_seal(model, note);
    }
    safetensors_deinit(&set);
    if (err != ERR_OK) {
        lm_model_destroy(model);
        return note_wrap(note, err, "model");
    }
    *out = model;
    return ERR_OK;
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

void lm_model_digest(const struct lm_model *model, struct digest *out)
{
    *out = model->digest;
}

enum err lm_model_export(const struct lm_model *model, struct buf *out)
{
    const struct lm_net *net = &model->net;
    struct safetensors_source *sources = calloc(net->tensor_count, sizeof *sources);
    char(*names)[LM_TENSOR_NAME_SIZE] = calloc(net->tensor_count, sizeof *names);
    enum err err = sources == NULL || names == NULL ? ERR_NO_MEMORY : ERR_OK;
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
                                              .values = net->values + tensor->offset};
        source->dims[0] = tensor->matrix ? tensor->rows : tensor->columns;
        source->dims[1] = tensor->columns;
        count++;
    }
    if (err == ERR_OK) {
        err = safetensors_write(sources, count, out);
    }
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
    struct bytes parts[] = {
        {(const uint8_t *)DOMAIN, sizeof DOMAIN}, /* NULs separate the texts */
        {(const uint8_t *)profile->precision, strlen(profile->precision) + 1},
        {(const uint8_t *)ARITHMETIC, sizeof ARITHMETIC},
        digest_bytes(&profile->tokenizer_digest),
        digest_bytes(&profile->template_digest),
    };
    sha256_parts(parts, sizeof parts / sizeof parts[0], out);
}
