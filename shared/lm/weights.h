/* weights.h - a model as people bring it: where every tensor lies in the files, and as what.
 *
 * Known are a Hugging Face folder (config.json with model.safetensors, or with
 * model.safetensors.index.json and its shards) and one GGUF file (llama, qwen2, qwen3). Tensors are
 * named as Hugging Face names them, whatever the file calls them, and stay as they are stored: a
 * view is borrowed from the file's bytes, usually a map, and nothing is widened or copied here.
 *
 * Pure. Immutable once opened; any thread may read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/lm/config.h"

struct note;
struct safetensors;

#define LM_FILES_MAX 256U     /* files in a folder */
#define LM_FILE_NAME_MAX 255U /* bytes of a file's name */
#define LM_INDEX "model.safetensors.index.json"
#define LM_INDEX_SIZE_MAX (UINT32_C(16) << 20) /* bytes of it */

/* One file of a folder: its name without a path, and its bytes. */
struct lm_file {
    const char *name;
    struct bytes data;
};

/* Q8_0: blocks of 32 along a row, an f16 scale and 32 codes each (34 bytes). */
enum lm_dtype { LM_DTYPE_F32, LM_DTYPE_F16, LM_DTYPE_BF16, LM_DTYPE_Q8_0 };

/* A matrix [rows][columns], or a vector (rows 1, vector true). */
struct lm_view {
    const char *name; /* as Hugging Face names it; owned by the weights */
    enum lm_dtype dtype;
    bool vector;
    uint32_t rows, columns;
    /* Not 0: rows come in heads of so many, the two halves of each head interleaved, as llama.cpp
     * stores q and k of llama models. lm_view_row undoes it. */
    uint32_t interleaved_head;
    struct bytes data;
};

struct lm_weights {
    struct lm_config config;
    struct lm_view *views; /* ascending by name */
    uint32_t count;
    struct safetensors *shards; /* the rest is the weights' own */
    uint32_t shard_count;
    char *names; /* behind the views of a GGUF */
};

/* Opens the one model among the files (other files are not looked at); they must outlive out. A
 * GGUF is taken when there is no config.json. ERR_INVALID, ERR_RANGE: the note names file and
 * tensor. Free with lm_weights_deinit (a zeroed one is fine). */
MUST_USE enum err lm_weights_init(struct lm_weights *out, const struct lm_file *files,
                                  uint32_t count, struct note *note);
void lm_weights_deinit(struct lm_weights *weights);

/* Calls visit once for each file that an index.json names, until one fails. ERR_INVALID: not an index, or
 * a name that is no plain file's; ERR_LIMIT: more than LM_FILES_MAX. */
MUST_USE enum err lm_index_each_file(struct bytes index_json,
                                     enum err (*visit)(void *context, const char *name),
                                     void *context, struct note *note);

/* Is this the plain name of a file: printable, without '/', not hidden, of at most LM_FILE_NAME_MAX? */
bool lm_file_name_ok(const char *name);

/* The tensor of that name, or NULL. */
const struct lm_view *lm_weights_find(const struct lm_weights *weights, const char *name);

/* Bytes of one row, and the place of row `row` (in Hugging Face's order). */
size_t lm_view_row_size(const struct lm_view *view);
const uint8_t *lm_view_row(const struct lm_view *view, uint32_t row);
