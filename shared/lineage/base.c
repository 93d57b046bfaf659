/* base.c - base models and adapters out of their file bundles; see lineage.h. */
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "openledger/v1/objects.pb-c.h"
#include "shared/base/buf.h"
#include "shared/crypto/sha256.h"
#include "shared/gguf/gguf.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/weights.h"
#include "shared/token/tokenizer_gguf.h"

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

/* The bundle's tokenizer.json, or the one that a GGUF holds, written into made. */
static enum err tokenizer_find(const Openledger__V1__ModelFiles *files, const struct lm_file *views,
                               struct buf *made, struct bytes *out, struct note *note)
{
    struct gguf gguf = {0};
    struct bytes config;
    if (find_file(files, "config.json", &config, note) == ERR_OK) {
        return find_file(files, "tokenizer.json", out, note);
    }
    uint32_t found = 0;
    while (found < files->n_files && strcmp(views[found].name, LINEAGE_GGUF) != 0) {
        found++;
    }
    if (found == files->n_files) {
        return note_set(note, ERR_NOT_FOUND,
                        "bundle of %zu files has no config.json and no " LINEAGE_GGUF,
                        files->n_files);
    }
    enum err err = gguf_init(&gguf, views[found].data, note);
    err = err == ERR_OK ? lm_tokenizer_from_gguf(&gguf, made, note) : err;
    gguf_deinit(&gguf);
    *out = buf_bytes(made);
    return err;
}

/* Tokenizer, then weights under the precision that the profile says; out_tokenizer may lie in made. */
static enum err base_open(struct lineage_base *base, const Openledger__V1__ModelFiles *files,
                          const struct lineage_load *how, struct buf *made,
                          struct bytes *out_tokenizer, struct note *note)
{
    struct lm_file views[LM_FILES_MAX];
    struct lm_load load = {.kernels = how->kernels, .serve_only = how->serve_only};
    if (files->n_files > LM_FILES_MAX) {
        return note_set(note, ERR_LIMIT, "bundle of %zu files, at most %u", files->n_files,
                        LM_FILES_MAX);
    }
    for (size_t i = 0; i < files->n_files; i++) {
        views[i] = (struct lm_file){
            files->files[i]->name, bytes_of(files->files[i]->data.data, files->files[i]->data.len)};
    }
    enum err err = tokenizer_find(files, views, made, out_tokenizer, note);
    if (err == ERR_OK) {
        err = lm_tokenizer_load(*out_tokenizer, &base->tokenizer, note);
    }
    if (err == ERR_OK) {
        err = precision_choose(how, *out_tokenizer, &load.precision, note);
    }
    return err == ERR_OK ? lm_model_open(views, (uint32_t)files->n_files, &load, &base->model, note)
                         : err;
}

static enum err base_build(struct lineage_base *base, const Openledger__V1__ModelFiles *files,
                           const struct lineage_load *how, struct note *note)
{
    struct bytes tokenizer = {0};
    struct buf made;
    buf_init(&made, LM_TOKENIZER_FILE_MAX);
    enum err err = base_open(base, files, how, &made, &tokenizer, note);
    if (err == ERR_OK) {
        profile_make(lm_model_precision(base->model), tokenizer, &base->profile);
    }
    buf_deinit(&made);
    if (err != ERR_OK) {
        return err;
    }
    const struct lm_config *shape = lm_model_config(base->model);
    if (lm_tokenizer_vocab(base->tokenizer) > shape->vocab) {
        return note_set(note, ERR_INVALID, "tokenizer has %u ids, the model %u",
                        lm_tokenizer_vocab(base->tokenizer), shape->vocab);
    }
    lm_chat_init(&base->chat, base->tokenizer, shape->bos, shape->eos);
    return ERR_OK;
}

enum err lineage_base_load(const struct lineage_blobs *blobs, const struct digest *content,
                           const struct lineage_load *how, struct lineage_base **out,
                           struct note *note)
{
    static const struct lineage_load PLAIN = {0};
    Openledger__V1__ModelFiles *files = NULL;
    enum err err = load_files(blobs, content, &files, note);
    if (err != ERR_OK) {
        return err;
    }
    struct lineage_base *base = calloc(1, sizeof *base);
    err = base == NULL ? ERR_NO_MEMORY : base_build(base, files, how == NULL ? &PLAIN : how, note);
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
