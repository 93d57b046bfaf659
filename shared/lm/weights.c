/* weights.c - see weights.h. */
#include "shared/lm/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/lm/safetensors.h"
#include "shared/lm/weights_gguf.h"

#define CONFIG "config.json"
#define SINGLE "model.safetensors"
#define SAFETENSORS ".safetensors"
#define GGUF ".gguf"

static const struct lm_file *file_find(const struct lm_file *files, uint32_t count,
                                       const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(files[i].name, name) == 0) {
            return &files[i];
        }
    }
    return NULL;
}

/* Is there something before the end, too? */
static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name);
    size_t end_size = strlen(end);
    return size > end_size && strcmp(name + size - end_size, end) == 0;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct lm_view *)left)->name, ((const struct lm_view *)right)->name);
}

const struct lm_view *lm_weights_find(const struct lm_weights *weights, const char *name)
{
    struct lm_view key = {.name = name};
    return weights->count == 0 ? NULL
                               : bsearch(&key, weights->views, weights->count, sizeof key, by_name);
}

/* ---- safetensors ---- */

static enum err view_of_safetensors(const struct safetensors_tensor *tensor, struct lm_view *view,
                                    struct note *note)
{
    static const enum lm_dtype TYPES[] = {[SAFETENSORS_F32] = LM_DTYPE_F32,
                                          [SAFETENSORS_F16] = LM_DTYPE_F16,
                                          [SAFETENSORS_BF16] = LM_DTYPE_BF16};
    const uint64_t *dims = tensor->dims;
    bool vector = tensor->dim_count == 1;
    uint64_t rows = vector ? 1 : dims[0];
    uint64_t columns = vector ? dims[0] : dims[1];
    if (tensor->dim_count < 1 || tensor->dim_count > 2 || rows < 1 || rows > UINT32_MAX ||
        columns < 1 || columns > UINT32_MAX) {
        return note_set(note, ERR_INVALID, "tensor '%.80s' is no matrix and no vector",
                        tensor->name);
    }
    *view = (struct lm_view){.name = tensor->name,
                             .dtype = TYPES[tensor->type],
                             .vector = vector,
                             .rows = (uint32_t)rows,
                             .columns = (uint32_t)columns,
                             .data = tensor->data};
    return ERR_OK;
}

static enum err shard_open(struct lm_weights *weights, const struct lm_file *file,
                           struct note *note)
{
    struct safetensors *shard = &weights->shards[weights->shard_count];
    enum err err = safetensors_init(shard, file->data, note);
    if (err != ERR_OK) {
        return note_wrap(note, err, "%.80s", file->name);
    }
    weights->shard_count++;
    struct lm_view *grown =
        realloc(weights->views, ((size_t)weights->count + shard->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return note_set(note, ERR_NO_MEMORY, "no memory for %u tensors", shard->count);
    }
    weights->views = grown;
    for (uint32_t i = 0; i < shard->count && err == ERR_OK; i++) {
        /* Saved by old versions of transformers: a table, no weights; its shape is anybody's. */
        if (strstr(shard->tensors[i].name, "rotary_emb.inv_freq") == NULL) {
            err = view_of_safetensors(&shard->tensors[i], &weights->views[weights->count], note);
            weights->count += err == ERR_OK;
        }
    }
    return err;
}

/* ---- the index of a sharded folder ---- */

bool lm_file_name_ok(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > LM_FILE_NAME_MAX || name[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '/') {
            return false;
        }
    }
    return true;
}

/* One walk over the index's weight_map, which says of each tensor which file holds it. */
struct index_walk {
    const char *names[LM_FILES_MAX]; /* met so far; the JSON's */
    uint32_t count;
    enum err (*visit)(void *context, const char *name);
    void *context;
    struct note *note;
};

static enum err index_member(void *argument, const char *tensor, const struct json *value)
{
    struct index_walk *walk = argument;
    const char *name = json_as_text(value, "");
    for (uint32_t i = 0; i < walk->count; i++) {
        if (strcmp(walk->names[i], name) == 0) {
            return ERR_OK;
        }
    }
    if (!lm_file_name_ok(name) || !ends_with(name, SAFETENSORS)) {
        return note_set(walk->note, ERR_INVALID,
                        "tensor '%.80s' is in '%.80s', which is no file *" SAFETENSORS, tensor,
                        name);
    }
    if (walk->count == LM_FILES_MAX) {
        return note_set(walk->note, ERR_LIMIT, "more than %u files", LM_FILES_MAX);
    }
    walk->names[walk->count++] = name;
    return walk->visit(walk->context, name);
}

static enum err index_parse(struct bytes text, struct json **out_root, const struct json **out_map,
                            struct note *note)
{
    struct json *root = NULL;
    enum err err = json_parse(text, LM_INDEX_SIZE_MAX, &root, note);
    if (err == ERR_OK) {
        err = json_get_object(root, "weight_map", out_map, note);
    }
    if (err != ERR_OK) {
        json_destroy(root);
        return err;
    }
    *out_root = root;
    return ERR_OK;
}

enum err lm_index_each_file(struct bytes index_json,
                            enum err (*visit)(void *context, const char *name), void *context,
                            struct note *note)
{
    struct index_walk walk = {.visit = visit, .context = context, .note = note};
    struct json *root = NULL;
    const struct json *map = NULL;
    enum err err = index_parse(index_json, &root, &map, note);
    err = err ? err : json_each_member(map, index_member, &walk);
    json_destroy(root);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, LM_INDEX);
}

/* The weights of an index's files, opened in the order it first names them. */
struct sharding {
    struct lm_weights *weights;
    const struct lm_file *files;
    uint32_t file_count;
    const struct lm_file *opened[LM_FILES_MAX]; /* by shard */
    uint32_t named;                             /* tensors in the map that carry weights */
    struct note *note;
};

static enum err sharding_open(void *context, const char *name)
{
    struct sharding *sharding = context;
    const struct lm_file *file = file_find(sharding->files, sharding->file_count, name);
    if (file == NULL) {
        return note_set(sharding->note, ERR_INVALID, "there is no file '%.80s'", name);
    }
    sharding->opened[sharding->weights->shard_count] = file;
    return shard_open(sharding->weights, file, sharding->note);
}

static enum err sharding_member(void *argument, const char *tensor, const struct json *value)
{
    struct sharding *sharding = argument;
    const char *name = json_as_text(value, "");
    uint32_t shard = 0;
    while (strcmp(sharding->opened[shard]->name, name) != 0) {
        shard++; /* every file that is named here is open */
    }
    if (safetensors_find(&sharding->weights->shards[shard], tensor) == NULL) {
        return note_set(sharding->note, ERR_INVALID, LM_INDEX ": tensor '%.80s' is not in '%.80s'",
                        tensor, name);
    }
    sharding->named += strstr(tensor, "rotary_emb.inv_freq") == NULL;
    return ERR_OK;
}

static enum err index_open(struct lm_weights *weights, const struct lm_file *files, uint32_t count,
                           struct bytes index, struct note *note)
{
    struct sharding sharding = {
        .weights = weights, .files = files, .file_count = count, .note = note};
    struct json *root = NULL;
    const struct json *map = NULL;
    enum err err = lm_index_each_file(index, sharding_open, &sharding, note);
    err = err ? err : index_parse(index, &root, &map, note);
    err = err ? err : json_each_member(map, sharding_member, &sharding);
    json_destroy(root);
    if (err == ERR_OK && sharding.named != weights->count) {
        err = note_set(note, ERR_INVALID, LM_INDEX " names %u tensors, its files hold %u",
                       sharding.named, weights->count);
    }
    return err;
}

static enum err folder_open(struct lm_weights *weights, const struct lm_file *files, uint32_t count,
                            struct note *note)
{
    const struct lm_file *config = file_find(files, count, CONFIG);
    const struct lm_file *index = file_find(files, count, LM_INDEX);
    const struct lm_file *single = file_find(files, count, SINGLE);
    enum err err = lm_config_parse(config->data, &weights->config, note);
    if (err != ERR_OK) {
        return err;
    }
    weights->shards = calloc((size_t)count + 1, sizeof *weights->shards);
    if (weights->shards == NULL) {
        return ERR_NO_MEMORY;
    }
    if (single != NULL) {
        return shard_open(weights, single, note);
    }
    if (index == NULL) {
        return note_set(note, ERR_NOT_FOUND, "there is no " SINGLE " and no " LM_INDEX);
    }
    return index_open(weights, files, count, index->data, note);
}

/* ---- gguf ---- */

/* The one file whose name ends so; more than one: which is the model? */
static enum err gguf_open(struct lm_weights *weights, const struct lm_file *files, uint32_t count,
                          struct note *note)
{
    const struct lm_file *file = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!ends_with(files[i].name, GGUF)) {
            continue;
        }
        if (file != NULL) {
            return note_set(note, ERR_INVALID, "there are two models, '%.80s' and '%.80s'",
                            file->name, files[i].name);
        }
        file = &files[i];
    }
    if (file == NULL) {
        return note_set(note, ERR_NOT_FOUND, "there is no " CONFIG " and no file *" GGUF);
    }
    enum err err = lm_weights_gguf(weights, file->data, note);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "%.80s", file->name);
}

/* ---- both ---- */

static enum err names_check(struct lm_weights *weights, struct note *note)
{
    if (weights->count == 0) {
        return ERR_OK;
    }
    qsort(weights->views, weights->count, sizeof *weights->views, by_name);
    for (uint32_t i = 1; i < weights->count; i++) {
        if (strcmp(weights->views[i].name, weights->views[i - 1].name) == 0) {
            return note_set(note, ERR_INVALID, "two tensors are named '%.80s'",
                            weights->views[i].name);
        }
    }
    return ERR_OK;
}

enum err lm_weights_init(struct lm_weights *out, const struct lm_file *files, uint32_t count,
                         struct note *note)
{
    struct lm_weights made = {0};
    enum err err = ERR_OK;
    if (count > LM_FILES_MAX) {
        return note_set(note, ERR_RANGE, "%u files, at most %u", count, LM_FILES_MAX);
    }
    if (file_find(files, count, CONFIG) != NULL) {
        err = folder_open(&made, files, count, note);
    } else {
        err = gguf_open(&made, files, count, note);
    }
    if (err == ERR_OK) {
        err = names_check(&made, note);
    }
    if (err != ERR_OK) {
        lm_weights_deinit(&made);
        return err;
    }
    *out = made;
    return ERR_OK;
}

void lm_weights_deinit(struct lm_weights *weights)
{
    for (uint32_t i = 0; i < weights->shard_count; i++) {
        safetensors_deinit(&weights->shards[i]);
    }
    free(weights->shards);
    free(weights->views);
    free(weights->names);
    *weights = (struct lm_weights){0};
}

/* ---- rows ---- */

size_t lm_view_row_size(const struct lm_view *view)
{
    switch (view->dtype) {
    case LM_DTYPE_F32:
        return (size_t)view->columns * 4;
    case LM_DTYPE_F16:
    case LM_DTYPE_BF16:
        return (size_t)view->columns * 2;
    case LM_DTYPE_Q8_0:
        break;
    }
    return (size_t)view->columns / KERNELS_QUANT * KERNELS_Q8_SIZE;
}

const uint8_t *lm_view_row(const struct lm_view *view, uint32_t row)
{
    CHECK(row < view->rows);
    uint32_t head = view->interleaved_head;
    if (head != 0) {
        uint32_t within = row % head;
        uint32_t half = head / 2;
        row = row - within + within % half * 2 + within / half;
    }
    return view->data.data + row * lm_view_row_size(view);
}
