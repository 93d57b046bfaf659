/* bundle.c - see bundle.h. */
#include "shared/lineage/bundle.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/check.h"
#include "shared/gguf/gguf.h"
#include "shared/ledger/tx.h"
#include "shared/token/tokenizer_gguf.h"

#define CONFIG "config.json"
#define TOKENIZER "tokenizer.json"
#define SINGLE "model.safetensors"

/* ---- a person's files ---- */

struct listing {
    const char *folder;
    struct note *note;
    uint64_t size; /* bytes of all */
    uint32_t count;
    char names[LM_FILES_MAX][LM_FILE_NAME_MAX + 1];
};

static bool is_gguf(const char *path)
{
    static const char END[] = ".gguf";
    size_t size = strlen(path);
    return size >= sizeof END && strcmp(path + size - (sizeof END - 1), END) == 0;
}

/* Where file `index` of the listing lies: a GGUF is itself what was listed. */
static enum err path_of(const struct listing *listing, uint32_t index, char out[FILE_PATH_SIZE])
{
    enum err err = is_gguf(listing->folder)
                       ? file_path(out, "%s", listing->folder)
                       : file_path(out, "%s/%s", listing->folder, listing->names[index]);
    return err == ERR_OK ? ERR_OK
                         : note_set(listing->note, err, "path too long: %.64s...", listing->folder);
}

static enum err add(struct listing *listing, const char *name)
{
    char path[FILE_PATH_SIZE];
    uint64_t size = 0;
    if (listing->count == LM_FILES_MAX) {
        return note_set(listing->note, ERR_LIMIT, "more than %u files", LM_FILES_MAX);
    }
    CHECK(strlen(name) <= LM_FILE_NAME_MAX);
    memcpy(listing->names[listing->count], name, strlen(name) + 1);
    enum err err = path_of(listing, listing->count, path);
    err = err ? err : file_size(path, &size, listing->note);
    if (err == ERR_OK && (size == 0 || size > LINEAGE_MODEL_SIZE_MAX - listing->size)) {
        err = note_set(listing->note, size == 0 ? ERR_INVALID : ERR_LIMIT,
                       size == 0 ? "%s is empty" : "with %s the files have more than %llu bytes",
                       name, (unsigned long long)LINEAGE_MODEL_SIZE_MAX);
    }
    listing->count += err == ERR_OK;
    listing->size += err == ERR_OK ? size : 0;
    return err;
}

static enum err add_shard(void *context, const char *name)
{
    struct listing *listing = context;
    enum err err = add(listing, name);
    return err == ERR_NOT_FOUND ? note_set(listing->note, err, "there is no '%.80s'", name) : err;
}

static enum err add_shards(struct listing *listing)
{
    char path[FILE_PATH_SIZE];
    struct buf index;
    buf_init(&index, LM_INDEX_SIZE_MAX);
    enum err err = add(listing, LM_INDEX);
    if (err == ERR_NOT_FOUND) {
        err = note_set(listing->note, err, "there is no " SINGLE " and no " LM_INDEX);
    }
    err = err ? err : path_of(listing, listing->count - 1, path);
    err = err ? err : file_read(path, &index, listing->note);
    err = err ? err : lm_index_each_file(buf_bytes(&index), add_shard, listing, listing->note);
    buf_deinit(&index);
    return err;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(left, right);
}

static enum err listing_make(struct listing *listing, const char *path, struct note *note)
{
    static const struct {
        const char *name;
        bool needed;
    } KNOWN[] = {{CONFIG, true},
                 {TOKENIZER, true},
                 {SINGLE, false},
                 {"generation_config.json", false},
                 {"special_tokens_map.json", false},
                 {"tokenizer_config.json", false}};
    *listing = (struct listing){.folder = path, .note = note};
    if (is_gguf(path)) {
        return add(listing, LINEAGE_GGUF);
    }
    bool single = false;
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0] && err == ERR_OK; i++) {
        err = add(listing, KNOWN[i].name);
        single = single || (err == ERR_OK && strcmp(KNOWN[i].name, SINGLE) == 0);
        if (err == ERR_NOT_FOUND) {
            err = KNOWN[i].needed ? note_set(note, err, "there is no %s", KNOWN[i].name) : ERR_OK;
        }
    }
    err = err || single ? err : add_shards(listing);
    qsort(listing->names, listing->count, sizeof listing->names[0], by_name);
    return err;
}

/* ---- mapped ---- */

static struct lineage_bundle *bundle_new(uint32_t count)
{
    struct lineage_bundle *bundle = calloc(1, sizeof *bundle);
    if (bundle != NULL) {
        bundle->count = count;
    }
    return bundle;
}

static void bundle_name(struct lineage_bundle *bundle, uint32_t index, const char *name)
{
    memcpy(bundle->names[index], name, strlen(name) + 1); /* lm_file_name_ok, or one of ours */
    bundle->files[index] = (struct lm_file){
        bundle->names[index], bytes_of(bundle->maps[index].data, bundle->maps[index].size)};
}

enum err lineage_bundle_map(const char *path, struct lineage_bundle **out, struct note *note)
{
    struct listing *listing = malloc(sizeof *listing);
    struct lineage_bundle *bundle = NULL;
    enum err err = listing == NULL ? ERR_NO_MEMORY : listing_make(listing, path, note);
    if (err == ERR_OK) {
        bundle = bundle_new(listing->count);
        err = bundle == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    for (uint32_t i = 0; err == ERR_OK && i < bundle->count; i++) {
        char file[FILE_PATH_SIZE];
        err = path_of(listing, i, file);
        err = err ? err : file_map_open(file, &bundle->maps[i], note);
        if (err == ERR_OK) {
            bundle_name(bundle, i, listing->names[i]);
        }
    }
    free(listing);
    if (err != ERR_OK) {
        lineage_bundle_close(bundle);
        return err;
    }
    *out = bundle;
    return ERR_OK;
}

void lineage_bundle_close(struct lineage_bundle *bundle)
{
    for (uint32_t i = 0; bundle != NULL && i < bundle->count; i++) {
        file_map_close(&bundle->maps[i]);
    }
    free(bundle);
}

/* ---- into the store ---- */

/* One file of a ModelFiles object; chunks point into the digests of a blob_file. */
static enum err message_make(const char *name, const struct blob_file *file,
                             Openledger__V1__ModelFile *out)
{
    uint32_t count = blob_chunk_count(file->size);
    openledger__v1__model_file__init(out);
    out->chunks = calloc(count, sizeof *out->chunks);
    if (out->chunks == NULL) {
        return ERR_NO_MEMORY;
    }
    out->name = (char *)(uintptr_t)name;
    out->size = file->size;
    out->n_chunks = count;
    for (uint32_t i = 0; i < count; i++) {
        out->chunks[i] = ledger_binary(file->chunks[i].bytes, DIGEST_SIZE);
    }
    return ERR_OK;
}

static enum err manifest_put(struct blob_store *blobs, const struct listing *listing,
                             const struct blob_file *files, struct digest *out, struct note *note)
{
    Openledger__V1__ModelFile messages[LM_FILES_MAX];
    Openledger__V1__ModelFile *list[LM_FILES_MAX];
    Openledger__V1__ModelFiles manifest = OPENLEDGER__V1__MODEL_FILES__INIT;
    struct buf packed;
    enum err err = ERR_OK;
    buf_init(&packed, LINEAGE_MANIFEST_MAX);
    for (uint32_t i = 0; i < listing->count && err == ERR_OK; i++) {
        err = message_make(listing->names[i], &files[i], &messages[i]);
        list[i] = &messages[i];
        manifest.n_files += err == ERR_OK;
    }
    manifest.files = list;
    err = err ? err : ledger_pack(&manifest.base, &packed);
    err = err ? err : blob_put(blobs, buf_bytes(&packed), out, note);
    for (size_t i = 0; i < manifest.n_files; i++) {
        free(messages[i].chunks);
    }
    buf_deinit(&packed);
    return err;
}

enum err lineage_bundle_put(struct blob_store *blobs, const char *path,
                            struct blob_progress *progress, struct digest *out_content,
                            struct note *note)
{
    struct listing *listing = malloc(sizeof *listing);
    struct blob_file *files = calloc(LM_FILES_MAX, sizeof *files);
    enum err err =
        listing == NULL || files == NULL ? ERR_NO_MEMORY : listing_make(listing, path, note);
    if (err == ERR_OK && progress != NULL) {
        progress->done = 0;
        progress->total = listing->size;
    }
    for (uint32_t i = 0; err == ERR_OK && i < listing->count; i++) {
        char file[FILE_PATH_SIZE];
        err = path_of(listing, i, file);
        err = err ? err : blob_file_put(blobs, file, progress, &files[i], note);
    }
    err = err ? err : manifest_put(blobs, listing, files, out_content, note);
    for (uint32_t i = 0; files != NULL && i < LM_FILES_MAX; i++) {
        blob_file_deinit(&files[i]);
    }
    free(files);
    free(listing);
    return err;
}

/* ---- out of the store ---- */

static enum err broken(const struct digest *content, struct note *note, const char *why)
{
    char text[DIGEST_TEXT_SIZE];
    return note_set(note, ERR_INVALID, "%s is no base model's list of files: %s",
                    digest_format(content, text), why);
}

/* Everything that a stranger's list could say wrong. */
static enum err manifest_check(const Openledger__V1__ModelFiles *manifest,
                               const struct digest *content, struct note *note)
{
    uint64_t size = 0;
    if (manifest->n_files == 0 || manifest->n_files > LM_FILES_MAX) {
        return broken(content, note, "it has no file, or too many");
    }
    for (size_t i = 0; i < manifest->n_files; i++) {
        const Openledger__V1__ModelFile *file = manifest->files[i];
        if (!lm_file_name_ok(file->name)) {
            return broken(content, note, "a name is no file's");
        }
        if (i > 0 && strcmp(manifest->files[i - 1]->name, file->name) >= 0) {
            return broken(content, note, "names do not ascend");
        }
        if (file->size == 0 || file->size > LINEAGE_MODEL_SIZE_MAX - size) {
            return broken(content, note, "a file is empty, or all are too large");
        }
        size += file->size;
        if (file->n_chunks != blob_chunk_count(file->size)) {
            return broken(content, note, "size and chunks do not agree");
        }
        for (size_t c = 0; c < file->n_chunks; c++) {
            if (file->chunks[c].len != DIGEST_SIZE) {
                return broken(content, note, "a chunk's name is no digest");
            }
        }
    }
    return ERR_OK;
}

static enum err manifest_get(struct blob_store *blobs, const struct digest *content,
                             Openledger__V1__ModelFiles **out, struct note *note)
{
    Openledger__V1__ModelFiles *manifest = NULL;
    struct buf data;
    buf_init(&data, LINEAGE_MANIFEST_MAX);
    enum err err = blob_get(blobs, content, &data, note);
    if (err == ERR_OK) {
        manifest = openledger__v1__model_files__unpack(NULL, data.size, data.data);
        err = manifest == NULL ? broken(content, note, "it is another object")
                               : manifest_check(manifest, content, note);
    }
    buf_deinit(&data);
    if (err != ERR_OK) {
        openledger__v1__model_files__free_unpacked(manifest, NULL);
        return err;
    }
    *out = manifest;
    return ERR_OK;
}

static enum err file_open_stored(struct blob_store *blobs, const Openledger__V1__ModelFile *message,
                                 struct blob_progress *progress, struct file_map *out,
                                 struct note *note)
{
    struct blob_file file = {.size = message->size,
                             .chunks = calloc(message->n_chunks, sizeof *file.chunks)};
    if (file.chunks == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < message->n_chunks; i++) {
        memcpy(file.chunks[i].bytes, message->chunks[i].data, DIGEST_SIZE);
    }
    enum err err = blob_file_map(blobs, &file, progress, out, note);
    blob_file_deinit(&file);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "%s", message->name);
}

enum err lineage_bundle_open(struct blob_store *blobs, const struct digest *content,
                             struct blob_progress *progress, struct lineage_bundle **out,
                             struct note *note)
{
    Openledger__V1__ModelFiles *manifest = NULL;
    struct lineage_bundle *bundle = NULL;
    enum err err = manifest_get(blobs, content, &manifest, note);
    if (err == ERR_OK) {
        bundle = bundle_new((uint32_t)manifest->n_files);
        err = bundle == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK && progress != NULL) {
        progress->done = 0;
        progress->total = 0;
        for (uint32_t i = 0; i < bundle->count; i++) {
            progress->total += manifest->files[i]->size;
        }
    }
    for (uint32_t i = 0; err == ERR_OK && i < bundle->count; i++) {
        err = file_open_stored(blobs, manifest->files[i], progress, &bundle->maps[i], note);
        if (err == ERR_OK) {
            bundle_name(bundle, i, manifest->files[i]->name);
        }
    }
    openledger__v1__model_files__free_unpacked(manifest, NULL);
    if (err != ERR_OK) {
        lineage_bundle_close(bundle);
        return err;
    }
    *out = bundle;
    return ERR_OK;
}

enum err lineage_bundle_check(struct blob_store *blobs, const struct digest *content,
                              struct note *note)
{
    Openledger__V1__ModelFiles *manifest = NULL;
    enum err err = manifest_get(blobs, content, &manifest, note);
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < manifest->n_files && err == ERR_OK; i++) {
        const Openledger__V1__ModelFile *file = manifest->files[i];
        for (size_t c = 0; c < file->n_chunks && err == ERR_OK; c++) {
            struct digest chunk;
            char text[DIGEST_TEXT_SIZE];
            memcpy(chunk.bytes, file->chunks[c].data, DIGEST_SIZE);
            if (!blob_exists(blobs, &chunk)) {
                err = note_set(note, ERR_NOT_FOUND, "%s: no blob %s, chunk %zu of %zu", file->name,
                               digest_format(&chunk, text), c + 1, file->n_chunks);
            }
        }
    }
    openledger__v1__model_files__free_unpacked(manifest, NULL);
    return err;
}

/* ---- the tokenizer ---- */

static const struct lm_file *find(const struct lineage_bundle *bundle, const char *name)
{
    for (uint32_t i = 0; i < bundle->count; i++) {
        if (strcmp(bundle->files[i].name, name) == 0) {
            return &bundle->files[i];
        }
    }
    return NULL;
}

enum err lineage_bundle_tokenizer(const struct lineage_bundle *bundle, struct buf *made,
                                  struct bytes *out, struct note *note)
{
    const struct lm_file *model = find(bundle, LINEAGE_GGUF);
    const struct lm_file *tokenizer = find(bundle, TOKENIZER);
    bool folder = find(bundle, CONFIG) != NULL;
    if (folder && tokenizer != NULL) {
        *out = tokenizer->data;
        return ERR_OK;
    }
    if (folder || model == NULL) {
        return note_set(note, ERR_NOT_FOUND, "bundle of %u files has no %s", bundle->count,
                        folder ? TOKENIZER : CONFIG " and no " LINEAGE_GGUF);
    }
    struct gguf gguf = {0};
    enum err err = gguf_init(&gguf, model->data, note);
    err = err ? err : lm_tokenizer_from_gguf(&gguf, made, note);
    gguf_deinit(&gguf);
    if (err == ERR_OK) {
        *out = buf_bytes(made);
    }
    return err;
}
