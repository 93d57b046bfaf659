/* base.c - base models and adapters out of their file bundles; see lineage.h. */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/buf.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"

/* ModelFiles and AdapterFiles are one format: a list of NamedFile. */
static enum err load_files(const struct lineage_blobs *blobs, const struct digest *content,
                           Openledger__V1__ModelFiles **out, struct note *note)
{
    struct buf data;
    buf_init(&data, LINEAGE_OBJECT_MAX);
    enum err err = blobs->get(blobs->context, content, &data, note);
    if (err == ERR_OK) {
        *out = openledger__v1__model_files__unpack(NULL, data.size, data.data);
        if (*out == NULL) {
            char text[DIGEST_TEXT_SIZE];
            err = note_set(note, ERR_INVALID, "%s is no bundle of files",
                           digest_format(content, text));
        }
    }
    buf_deinit(&data);
    return err;
}

static enum err find_file(const Openledger__V1__ModelFiles *files, const char *name,
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

static enum err base_build(struct lineage_base *base, const Openledger__V1__ModelFiles *files,
                           struct note *note)
{
    struct bytes config;
    struct bytes weights;
    struct bytes tokenizer;
    enum err err = find_file(files, "config.json", &config, note);
    if (err == ERR_OK) {
        err = find_file(files, "model.safetensors", &weights, note);
    }
    if (err == ERR_OK) {
        err = find_file(files, "tokenizer.json", &tokenizer, note);
    }
    if (err == ERR_OK) {
        err = lm_tokenizer_load(tokenizer, &base->tokenizer, note);
    }
    if (err == ERR_OK) {
        err = lm_model_load(config, weights, NULL, &base->model, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    const struct lm_config *shape = lm_model_config(base->model);
    if (lm_tokenizer_vocab(base->tokenizer) > shape->vocab) {
        return note_set(note, ERR_INVALID, "tokenizer has %u ids, the model %u",
                        lm_tokenizer_vocab(base->tokenizer), shape->vocab);
    }
    lm_chat_init(&base->chat, base->tokenizer, shape->bos, shape->eos);
    struct lm_profile profile = {.precision = lm_model_precision(base->model)};
    sha256(tokenizer, &profile.tokenizer_digest);
    sha256(bytes_of_text(LM_CHAT_TEMPLATE), &profile.template_digest);
    lm_profile_id(&profile, &base->profile);
    return ERR_OK;
}

enum err lineage_base_load(const struct lineage_blobs *blobs, const struct digest *content,
                           struct lineage_base **out, struct note *note)
{
    Openledger__V1__ModelFiles *files = NULL;
    enum err err = load_files(blobs, content, &files, note);
    if (err != ERR_OK) {
        return err;
    }
    struct lineage_base *base = calloc(1, sizeof *base);
    err = base == NULL ? ERR_NO_MEMORY : base_build(base, files, note);
    openledger__v1__model_files__free_unpacked(files, NULL);
    if (err != ERR_OK) {
        lineage_base_destroy(base);
        return err;
    }
    base->content = *content;
    *out = base;
    return ERR_OK;
}

void lineage_base_destroy(struct lineage_base *base)
{
    if (base != NULL) {
        lm_model_destroy(base->model);
        lm_tokenizer_destroy(base->tokenizer);
        free(base);
    }
}

enum err lineage_adapter_load(const struct lineage_blobs *blobs, const struct lineage_base *base,
                              const struct digest *content, struct lm_adapter **out,
                              struct note *note)
{
    Openledger__V1__ModelFiles *files = NULL;
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
    openledger__v1__model_files__free_unpacked(files, NULL);
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
    buf_init(&weights, LINEAGE_OBJECT_MAX);
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
