/* peft.c - adapters as PEFT stores them, both ways. See adapter.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/lm/engine.h"
#include "shared/lm/safetensors.h"

/* A matrix has a name, a place and a shape: NOLINTBEGIN(readability-function-size) */

#define ADAPTER_CONFIG_SIZE_MAX 65536U
enum { NAME_SIZE = 128 };

/* PEFT's name of one matrix; which is 'A' or 'B'. */
static void matrix_name(uint32_t layer, enum lm_projection projection, char which,
                        char out[NAME_SIZE])
{
    (void)snprintf(out, NAME_SIZE, "base_model.model.model.layers.%u.%s.%s.lora_%c.weight", layer,
                   projection >= LM_GATE ? "mlp" : "self_attn", lm_projection_name(projection),
                   which);
}

/* ---- import ---- */

/* A member that would change the arithmetic: only absent, null, false, or empty will do. */
static bool switched_off(const struct json *node)
{
    if (node == NULL) {
        return true;
    }
    switch (json_kind(node)) {
    case JSON_KIND_NULL:
        return true;
    case JSON_KIND_BOOL:
        return !json_as_bool(node, true);
    case JSON_KIND_ARRAY:
    case JSON_KIND_OBJECT:
        return json_count(node) == 0;
    case JSON_KIND_TEXT:
    case JSON_KIND_INTEGER:
    case JSON_KIND_REAL:
        return false;
    }
    return false;
}

/* What is read, and what says nothing about the product: bookkeeping, training, places. layers_to_transform
 * only says which layers have tensors, and those are found by name. */
static const char *const KNOWN[] = {"peft_type",
                                    "bias",
                                    "r",
                                    "lora_alpha",
                                    "target_modules",
                                    "use_rslora",
                                    "task_type",
                                    "auto_mapping",
                                    "init_lora_weights",
                                    "inference_mode",
                                    "lora_dropout",
                                    "revision",
                                    "peft_version",
                                    "layers_to_transform",
                                    "layers_pattern",
                                    "megatron_core",
                                    "loftq_config",
                                    "eva_config",
                                    "qalora_group_size",
                                    "corda_config",
                                    "base_model_name_or_path"};

/* Ways to begin that leave the base as it is. PiSSA, OLoRA, CorDA and LoftQ train against another base
 * than the one an adapter is put on. */
static bool start_known(const struct json *node)
{
    static const char *const STARTS[] = {"gaussian", "eva", "orthogonal"};
    const char *text = json_as_text(node, NULL);
    for (size_t i = 0; text != NULL && i < sizeof STARTS / sizeof STARTS[0]; i++) {
        if (strcmp(text, STARTS[i]) == 0) {
            return true;
        }
    }
    return text == NULL;
}

static enum err member_check(void *argument, const char *key, const struct json *value)
{
    bool known = switched_off(value);
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0] && !known; i++) {
        known = strcmp(key, KNOWN[i]) == 0;
    }
    if (!known) {
        return note_set(argument, ERR_INVALID, "%.60s is not supported", key);
    }
    if (strcmp(key, "init_lora_weights") == 0 && !start_known(value)) {
        return note_set(argument, ERR_INVALID, "init_lora_weights '%.40s' is not supported",
                        json_as_text(value, ""));
    }
    return ERR_OK;
}

static enum err unsupported_refuse(const struct json *root, struct note *note)
{
    const char *type = NULL;
    const char *bias = "none";
    enum err err = json_each_member(root, member_check, note);
    if (err == ERR_OK) {
        err = json_get_text(root, "peft_type", &type, note);
    }
    if (err == ERR_OK) {
        err = json_opt_text(root, "bias", &bias, note);
    }
    if (err == ERR_OK && strcmp(type, "LORA") != 0) {
        err = note_set(note, ERR_INVALID, "peft_type '%.40s' is not supported, only LORA", type);
    }
    if (err == ERR_OK && strcmp(bias, "none") != 0) {
        err = note_set(note, ERR_INVALID, "bias '%.40s' is not supported, only none", bias);
    }
    return err;
}

static enum err targets_read(const struct json *root, uint32_t *out, struct note *note)
{
    const struct json *node = json_member(root, "target_modules");
    if (strcmp(json_as_text(node, ""), "all-linear") == 0) {
        *out = LM_TARGETS_ALL;
        return ERR_OK;
    }
    if (node == NULL || json_kind(node) != JSON_KIND_ARRAY) {
        return note_set(note, ERR_INVALID, "target_modules is not a list of names");
    }
    uint32_t targets = 0;
    for (size_t i = 0; i < json_count(node); i++) {
        const char *name = json_as_text(json_item(node, i), "");
        uint32_t p = 0;
        while (p < LM_PROJECTION_COUNT && strcmp(name, lm_projection_name(p)) != 0) {
            p++;
        }
        if (p == LM_PROJECTION_COUNT) {
            return note_set(note, ERR_INVALID, "target module '%.60s' is not supported", name);
        }
        targets |= 1U << p;
    }
    *out = targets;
    return ERR_OK;
}

static enum err config_read(struct bytes json, struct lm_adapter_config *config, struct note *note)
{
    struct json *root = NULL;
    uint64_t rank = 0;
    double alpha = 0.0;
    bool rank_stable = false;
    enum err err = json_parse(json, ADAPTER_CONFIG_SIZE_MAX, &root, note);
    if (err != ERR_OK) {
        return note_wrap(note, err, "adapter_config.json");
    }
    if (json_kind(root) != JSON_KIND_OBJECT) {
        err = note_set(note, ERR_INVALID, "not an object");
    }
    if (err == ERR_OK) {
        err = unsupported_refuse(root, note);
    }
    if (err == ERR_OK) {
        err = json_get_u64(root, "r", &rank, note);
    }
    if (err == ERR_OK) {
        err = json_get_double(root, "lora_alpha", &alpha, note);
    }
    if (err == ERR_OK) {
        err = json_opt_bool(root, "use_rslora", &rank_stable, note);
    }
    if (err == ERR_OK) {
        err = targets_read(root, &config->targets, note);
    }
    if (err == ERR_OK) {
        config->rank = rank > LM_RANK_MAX ? LM_RANK_MAX + 1 : (uint32_t)rank;
        /* rsLoRA scales by alpha / sqrt(rank), which is alpha sqrt(rank) over rank. */
        config->alpha = (float)(rank_stable ? alpha * sqrt((double)rank) : alpha);
        err = lm_adapter_config_check(config, note);
    }
    json_destroy(root);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "adapter_config.json");
}

static enum err matrix_read(const struct safetensors *set, const char *name, uint64_t rows,
                            uint64_t columns, float *out, bool *out_found, struct note *note)
{
    const struct safetensors_tensor *tensor = safetensors_find(set, name);
    *out_found = tensor != NULL;
    if (tensor == NULL) {
        return ERR_OK;
    }
    if (tensor->dim_count != 2 || tensor->dims[0] != rows || tensor->dims[1] != columns) {
        return note_set(note, ERR_INVALID, "tensor '%s' is not %llu x %llu", name,
                        (unsigned long long)rows, (unsigned long long)columns);
    }
    safetensors_read(tensor, out);
    return ERR_OK;
}

/* One module's pair; a module without tensors stays zero: B = 0 changes nothing. */
static enum err module_read(const struct safetensors *set, const struct lm_adapter_place *place,
                            const struct lm_adapter_config *config, uint32_t layer,
                            enum lm_projection projection, float *vector, uint32_t *used,
                            struct note *note)
{
    char a_name[NAME_SIZE];
    char b_name[NAME_SIZE];
    bool a = false;
    bool b = false;
    matrix_name(layer, projection, 'A', a_name);
    matrix_name(layer, projection, 'B', b_name);
    enum err err =
        matrix_read(set, a_name, config->rank, place->in, vector + place->a_offset, &a, note);
    if (err == ERR_OK) {
        err =
            matrix_read(set, b_name, place->out, config->rank, vector + place->b_offset, &b, note);
    }
    if (err == ERR_OK && a != b) {
        err = note_set(note, ERR_INVALID, "tensor '%s' is missing", a ? b_name : a_name);
    }
    *used += (uint32_t)a + (uint32_t)b;
    return err;
}

/* Names the first tensor that no module of ours asked for. */
static enum err stranger_name(const struct safetensors *set, const struct lm_config *base,
                              const struct lm_adapter_config *config, struct note *note)
{
    for (uint32_t i = 0; i < set->count; i++) {
        bool known = false;
        for (uint32_t m = 0; m < base->layer_count * LM_PROJECTION_COUNT && !known; m++) {
            char name[NAME_SIZE];
            struct lm_adapter_place place;
            uint32_t layer = m / LM_PROJECTION_COUNT;
            uint32_t projection = m % LM_PROJECTION_COUNT;
            if (lm_adapter_offset(base, config, layer, projection, &place)) {
                matrix_name(layer, projection, 'A', name);
                known = strcmp(name, set->tensors[i].name) == 0;
                matrix_name(layer, projection, 'B', name);
                known = known || strcmp(name, set->tensors[i].name) == 0;
            }
        }
        if (!known) {
            return note_set(note, ERR_INVALID, "tensor '%.120s' belongs to no target module",
                            set->tensors[i].name);
        }
    }
    return note_set(note, ERR_INVALID, "adapter without tensors");
}

static enum err vector_read(const struct safetensors *set, const struct lm_config *base,
                            const struct lm_adapter_config *config, float *vector,
                            struct note *note)
{
    uint32_t used = 0;
    for (uint32_t layer = 0; layer < base->layer_count; layer++) {
        for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
            struct lm_adapter_place place;
            if (!lm_adapter_offset(base, config, layer, p, &place)) {
                continue;
            }
            enum err err = module_read(set, &place, config, layer, p, vector, &used, note);
            if (err != ERR_OK) {
                return err;
            }
        }
    }
    return used == set->count && used > 0 ? ERR_OK : stranger_name(set, base, config, note);
}

enum err lm_adapter_import(const struct lm_model *model, struct bytes config_json,
                           struct bytes file, struct lm_adapter **out, struct note *note)
{
    const struct lm_config *base = &model->net.config;
    struct lm_adapter_config config = {0};
    struct safetensors set = {0};
    float *vector = NULL;
    enum err err = config_read(config_json, &config, note);
    if (err == ERR_OK) {
        err = safetensors_init(&set, file, note);
    }
    if (err == ERR_OK) {
        vector = calloc(lm_adapter_size(base, &config), sizeof *vector);
        err = vector == NULL ? ERR_NO_MEMORY : vector_read(&set, base, &config, vector, note);
    }
    if (err == ERR_OK) {
        err = lm_adapter_create(model, &config, vector, out, note);
    }
    free(vector);
    safetensors_deinit(&set);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "adapter");
}

/* ---- export ---- */

static void config_write(const struct lm_adapter *adapter, const char *base, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_write_key(&writer, "alpha_pattern");
    json_begin_object(&writer);
    json_end_object(&writer);
    json_put_text(&writer, "base_model_name_or_path", base);
    json_put_text(&writer, "bias", "none");
    json_put_bool(&writer, "fan_in_fan_out", false);
    json_put_bool(&writer, "inference_mode", true);
    json_put_bool(&writer, "init_lora_weights", true);
    json_put_double(&writer, "lora_alpha", (double)adapter->config.alpha);
    json_put_double(&writer, "lora_dropout", 0.0);
    json_write_key(&writer, "modules_to_save");
    json_write_null(&writer);
    json_put_text(&writer, "peft_type", "LORA");
    json_put_u64(&writer, "r", adapter->config.rank);
    json_write_key(&writer, "rank_pattern");
    json_begin_object(&writer);
    json_end_object(&writer);
    json_write_key(&writer, "target_modules");
    json_begin_array(&writer);
    for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
        if ((adapter->config.targets >> p & 1U) != 0) {
            json_write_text(&writer, lm_projection_name(p));
        }
    }
    json_end_array(&writer);
    json_put_text(&writer, "task_type", "CAUSAL_LM");
    json_put_bool(&writer, "use_dora", false);
    json_put_bool(&writer, "use_rslora", false);
    json_end_object(&writer);
    (void)buf_append_byte(out, '\n');
}

static void source_put(struct safetensors_source *source, char name[NAME_SIZE], uint32_t layer,
                       enum lm_projection projection, char which, uint64_t rows, uint64_t columns,
                       const float *values)
{
    matrix_name(layer, projection, which, name);
    *source = (struct safetensors_source){.name = name,
                                          .type = SAFETENSORS_BF16,
                                          .dim_count = 2,
                                          .dims = {rows, columns},
                                          .values = values};
}

enum err lm_adapter_export(const struct lm_adapter *adapter, const char *base,
                           struct buf *out_config, struct buf *out_safetensors)
{
    size_t room = (size_t)adapter->base.layer_count * LM_PROJECTION_COUNT * 2;
    struct safetensors_source *sources = calloc(room, sizeof *sources);
    char(*names)[NAME_SIZE] = calloc(room, sizeof *names);
    enum err err = sources == NULL || names == NULL ? ERR_NO_MEMORY : ERR_OK;
    uint32_t count = 0;
    for (uint32_t layer = 0; layer < adapter->base.layer_count && err == ERR_OK; layer++) {
        for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
            struct lm_adapter_place place;
            if (!lm_adapter_offset(&adapter->base, &adapter->config, layer, p, &place)) {
                continue;
            }
            source_put(&sources[count], names[count], layer, p, 'A', adapter->config.rank, place.in,
                       adapter->vector + place.a_offset);
            count++;
            source_put(&sources[count], names[count], layer, p, 'B', place.out,
                       adapter->config.rank, adapter->vector + place.b_offset);
            count++;
        }
    }
    if (err == ERR_OK) {
        err = safetensors_write(sources, count, out_safetensors);
    }
    if (err == ERR_OK) {
        config_write(adapter, base, out_config);
        err = buf_err(out_config);
    }
    free(sources);
    free(names);
    return err;
}
/* NOLINTEND(readability-function-size) */
