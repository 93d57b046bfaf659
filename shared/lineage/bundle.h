/* bundle.h - the files of a base model, mapped: a person's own, or out of the store.
 *
 * Why: a base has gigabytes and many files, and the ledger names it by one digest: of a ModelFiles object
 * that lists every file in chunks. This is the only way in and out, for a model of any size.
 *
 * A person's model is a Hugging Face folder (config.json, tokenizer.json, model.safetensors, or
 * model.safetensors.index.json and the shards that it names; links are followed) or one GGUF file.
 * A person's files must not be cut while they are mapped. Any thread. */
#pragma once

#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob_file.h"
#include "shared/lm/weights.h"

#define LINEAGE_GGUF "model.gguf" /* a base that is one GGUF file, tokenizer and all */
#define LINEAGE_MODEL_SIZE_MAX (UINT64_C(64) << 30) /* bytes of all files; at most LM_FILES_MAX */
#define LINEAGE_MANIFEST_MAX (1U << 20)             /* bytes of a ModelFiles object */

struct lineage_bundle {
    uint32_t count;
    struct lm_file files[LM_FILES_MAX]; /* ascending by name; the bytes are those of maps */
    struct file_map maps[LM_FILES_MAX];
    char names[LM_FILES_MAX][LM_FILE_NAME_MAX + 1];
};

/* Maps the files at path. ERR_NOT_FOUND: config.json, tokenizer.json, weights, or a shard of the index is
 * missing; ERR_INVALID: the index is none; ERR_LIMIT: past a limit above. */
MUST_USE enum err lineage_bundle_map(const char *path, struct lineage_bundle **out,
                                     struct note *note);

/* Puts the files at path into the store; out_content names them. Errors as above, and those of
 * blob_file_put(). What is stored already costs one look, so a run that was cut off goes on. */
MUST_USE enum err lineage_bundle_put(struct blob_store *blobs, const char *path,
                                     struct blob_progress *progress, struct digest *out_content,
                                     struct note *note);

/* The files of a ModelFiles object, every byte checked. ERR_INVALID: it is none, or breaks a rule;
 * otherwise the errors of blob_file_map(), with the file's name. */
MUST_USE enum err lineage_bundle_open(struct blob_store *blobs, const struct digest *content,
                                      struct blob_progress *progress, struct lineage_bundle **out,
                                      struct note *note);

void lineage_bundle_close(struct lineage_bundle *bundle); /* NULL is fine */

/* Is the ModelFiles object in order, and is every chunk in the store? Their bytes are not looked at. */
MUST_USE enum err lineage_bundle_check(struct blob_store *blobs, const struct digest *content,
                                       struct note *note);

/* The tokenizer.json, or the one that a GGUF holds, written into made (LM_TOKENIZER_FILE_MAX). */
MUST_USE enum err lineage_bundle_tokenizer(const struct lineage_bundle *bundle, struct buf *made,
                                           struct bytes *out, struct note *note);
