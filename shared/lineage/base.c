/* base.c - base models and adapters out of their file bundles; see lineage.h. */
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "openledger/v1/objects.pb-c.h"
#include "shared/base/buf.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/bundle.h"
#include "shared/lineage/lineage.h"

static enum err load_files(struct blob_store *blobs, const struct digest *content,
                           Openledger__V1__AdapterFiles **out, struct note *note)
{
    struct buf data;
    buf_init(&data, BLOB_SIZE_MAX);
    enum err err = blob_get(blobs, content, &data, note);
    if (err == ERR_OK) {
        *out = openledger__v1__adapter_files__unpack(NULL, data.size, data.data);
        if (*out == NULL) {
            char text[DIGEST_TEXT_SIZE];
            err = note_set(note, ERR_INVALID, "%s is no bundle of files",
                           digest_format(content, text));
        }
    }
    buf_deinit(&data);
    return err;
}

static enum err find_file(const Openledger__V1__AdapterFiles *files, const char *name,
                          struct bytes *out, struct note *note)
{
    for (size_t i = 0; i < files->n_files; i++) {
        if (strcmp(files->files[i]->name, name) == 0) {
            *out = bytes_of(files->files[i]->data.data, files->files[i]->data.len);
            return ERR_OK;
        }
    }
    return note_set(note, ERR_NOT_FOUND, "bundle of %zu files has no %s", files->n_files, name);
}

static void profile_make(enum lm_precision precision, struct bytes tokenizer, struct digest *out)
{
    struct lm_profile profile = {.precision = precision};
    sha256(tokenizer, &profile.tokenizer_digest);
    sha256(bytes_of_text(LM_CHAT_TEMPLATE), &profile.template_digest);
    lm_profile_id(&profile, out);
}

/* The precision that the registered profile names; it must be the one asked for, if any is. */
static enum err precision_choose(const struct lineage_load *how, struct bytes tokenizer,
                                 enum lm_precision *out, struct note *note)
{
    *out = how->precision;
    if (how->profile == NULL) {
        return ERR_OK;
    }
    for (uint32_t i = LM_STORED + 1; i < LM_PRECISION_COUNT; i++) {
        struct digest id;
        profile_make((enum lm_precision)i, tokenizer, &id);
        if (!digest_equal(&id, how->profile)) {
            continue;
        }
        if (how->precision != LM_STORED && how->precision != (enum lm_precision)i) {
            return note_set(note, ERR_INVALID, "the model is registered under %s, not %s",
                            lm_precision_name((enum lm_precision)i),
                            lm_precision_name(how->precision));
        }
        *out = (enum lm_precision)i;
        return ERR_OK;
    }
    return note_set(note, ERR_INVALID,
                    "the model's registered profile is none that this program computes under");
}

enum err lineage_backend(const char *name, const struct kernels **out, struct note *note)
{
    const struct kernels *kernels = name[0] == '\0' ? NULL : kernels_get(name, note);
    if (name[0] != '\0' && kernels == NULL) {
        return ERR_INVALID; /* the note says why */
    }
    *out = kernels;
    return ERR_OK;
}

/* Tokenizer, then weights under the precision that the profile says; made: room for a tokenizer. */
static enum err base_fill(struct lineage_base *base, const struct lineage_bundle *bundle,
                          const struct lineage_load *how, struct buf *made, struct note *note)
{
    struct bytes tokenizer = {0};
    struct lm_load load = {.kernels = how->kernels, .serve_only = how->serve_only};
    enum err err = lineage_bundle_tokenizer(bundle, made, &tokenizer, note);
    err = err ? err : lm_tokenizer_load(tokenizer, &base->tokenizer, note);
    err = err ? err : precision_choose(how, tokenizer, &load.precision, note);
    err = err ? err : lm_model_open(bundle->files, bundle->count, &load, &base->model, note);
    if (err != ERR_OK) {
        return err;
    }
    profile_make(lm_model_precision(base->model), tokenizer, &base->profile);
    const struct lm_config *shape = lm_model_config(base->model);
    if (lm_tokenizer_vocab(base->tokenizer) > shape->vocab) {
        return note_set(note, ERR_INVALID, "tokenizer has %u ids, the model %u",
                        lm_tokenizer_vocab(base->tokenizer), shape->vocab);
    }
    lm_chat_init(&base->chat, base->tokenizer, shape->bos, shape->eos);
    return ERR_OK;
}

static const struct lineage_load PLAIN = {0};

enum err lineage_base_build(const struct lineage_bundle *bundle, const struct lineage_load *how,
                            struct lineage_base **out, struct note *note)
{
    struct lineage_base *base = calloc(1, sizeof *base);
    struct buf made;
    buf_init(&made, LM_TOKENIZER_FILE_MAX);
    enum err err = base == NULL ? ERR_NO_MEMORY
                                : base_fill(base, bundle, how == NULL ? &PLAIN : how, &made, note);
    buf_deinit(&made);
    if (err != ERR_OK) {
        lineage_base_destroy(base);
        return err;
    }
    *out = base;
    return ERR_OK;
}

enum err lineage_base_load(struct blob_store *blobs, const struct digest *content,
                           const struct lineage_load *how, struct lineage_base **out,
                           struct note *note)
{
    struct lineage_bundle *bundle = NULL;
    struct lineage_base *base = NULL;
    how = how == NULL ? &PLAIN : how;
    enum err err = lineage_bundle_open(blobs, content, how->progress, &bundle, note);
    err = err ? err : lineage_base_build(bundle, how, &base, note);
    lineage_bundle_close(bundle);
    if (err == ERR_OK) {
        base->content = *content;
        *out = base;
    }
    return err;
}

void lineage_base_destroy(struct lineage_base *base)
{
    if (base != NULL) {
        lm_model_destroy(base->model);
        lm_tokenizer_destroy(base->tokenizer);
        free(base);
    }
}

enum err lineage_adapter_load(struct blob_store *blobs, const struct lineage_base *base,
                              const struct digest *content, struct lm_adapter **out,
                              struct note *note)
{
    Openledger__V1__AdapterFiles *files = NULL;
    struct bytes config = {.size = 0};
    struct bytes weights = {.size = 0};
    enum err err = load_files(blobs, content, &files, note);
    if (err != ERR_OK) {
        return err;
    }
    err = find_file(files, "adapter_config.json", &config, note);
    if (err == ERR_OK) {
        err = find_file(files, "adapter_model.safetensors", &weights, note);
    }
    if (err == ERR_OK) {
        err = lm_adapter_import(base->model, config, weights, out, note);
    }
    openledger__v1__adapter_files__free_unpacked(files, NULL);
    return err;
}

enum err lineage_adapter_pack(const struct lm_adapter *adapter, const char *base_name,
                              struct buf *out, struct note *note)
{
    char config_name[] = "adapter_config.json";
    char weights_name[] = "adapter_model.safetensors";
    struct buf config;
    struct buf weights;
    buf_init(&config, LM_CONFIG_SIZE_MAX);
    buf_init(&weights, BLOB_SIZE_MAX);
    enum err err = lm_adapter_export(adapter, base_name, &config, &weights);
    if (err == ERR_OK) {
        Openledger__V1__NamedFile first = OPENLEDGER__V1__NAMED_FILE__INIT;
        Openledger__V1__NamedFile second = OPENLEDGER__V1__NAMED_FILE__INIT;
        Openledger__V1__NamedFile *list[2] = {&first, &second};
        Openledger__V1__AdapterFiles files = OPENLEDGER__V1__ADAPTER_FILES__INIT;
        first.name = config_name;
        first.data = ledger_binary(config.data, config.size);
        second.name = weights_name;
        second.data = ledger_binary(weights.data, weights.size);
        files.files = list;
        files.n_files = 2;
        err = ledger_pack(&files.base, out);
    }
    buf_deinit(&config);
    buf_deinit(&weights);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "could not pack the adapter");
}
