/* blob.c - see blob.h. A temporary file, synced, then renamed to its digest: a name that exists has
 * all its bytes, and two writers of one object only replace it by itself.
 *
 * A damaged object is renamed too, without a lock: between our look and the rename somebody may have put it anew, and
 * then it is the good one that we set aside. So whoever finds the name free looks at what was set aside, and gives
 * it back when it is the object after all. */
#include "shared/blob/blob.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/platform/file.h"

enum {
    FORM_PLAIN = 0,
    FORM_ZSTD = 1,
    LEVEL = 3,           /* zstd's own default */
    COMPRESS_FROM = 128, /* bytes; below it nothing is won */
    SHARD_COUNT = 256,
    NAMES_MAX = 4 << 20, /* objects in one shard */
    HEX_SIZE = 2 * DIGEST_SIZE,
};

struct blob_store {
    char folder[FILE_PATH_SIZE];
    uint64_t copies_max; /* bytes */
    bool mends;
};

enum err blob_open(const char *folder, struct blob_store **out_store, struct note *note)
{
    struct blob_store *store = malloc(sizeof *store);
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    store->copies_max = BLOB_COPIES_MAX;
    store->mends = false;
    enum err err = file_path(store->folder, "%s", folder);
    err = err == ERR_OK && strlen(folder) + HEX_SIZE + 32 >= FILE_PATH_SIZE ? ERR_LIMIT : err;
    err = err == ERR_OK ? file_make_folders(folder, note)
                        : note_set(note, err, "path too long: %.64s...", folder);
    if (err != ERR_OK) {
        free(store);
        return err;
    }
    *out_store = store;
    return ERR_OK;
}

void blob_close(struct blob_store *store)
{
    free(store);
}

const char *blob_store_folder(const struct blob_store *store)
{
    return store->folder;
}

void blob_copies_limit(struct blob_store *store, uint64_t size_max)
{
    store->copies_max = size_max;
}

uint64_t blob_copies_max(const struct blob_store *store)
{
    return store->copies_max;
}

void blob_mend(struct blob_store *store)
{
    store->mends = true;
}

/* Where an object lies. */
struct place {
    char shard[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    char aside[FILE_PATH_SIZE]; /* what lay at path and was damaged */
};

/* The paths fit: blob_open saw to it. */
static void place_of(const struct blob_store *store, const struct digest *digest, struct place *out)
{
    char hex[HEX_SIZE + 1];
    (void)hex_encode(digest->bytes, DIGEST_SIZE, hex);
    CHECK(file_path(out->shard, "%s/%.2s", store->folder, hex) == ERR_OK);
    CHECK(file_path(out->path, "%s/%s", out->shard, hex) == ERR_OK);
    CHECK(file_path(out->aside, "%s.damaged", out->path) == ERR_OK);
}

bool blob_exists(struct blob_store *store, const struct digest *digest)
{
    struct place place;
    place_of(store, digest, &place);
    return file_exists(place.path);
}

/* Appends the stored form: compressed where that is smaller. */
static enum err encode(struct bytes content, struct buf *out)
{
    size_t bound = ZSTD_compressBound(content.size);
    uint8_t *at = content.size < COMPRESS_FROM ? NULL : buf_reserve(out, bound + 1);
    if (at != NULL) {
        size_t size = ZSTD_compress(at + 1, bound, content.data, content.size, LEVEL);
        if (!ZSTD_isError(size) && size < content.size) {
            at[0] = FORM_ZSTD;
            buf_commit(out, size + 1);
            return ERR_OK;
        }
    }
    (void)buf_append_byte(out, FORM_PLAIN);
    return buf_append_bytes(out, content);
}

enum err blob_put(struct blob_store *store, struct bytes content, struct digest *out_digest,
                  struct note *note)
{
    if (content.size > BLOB_SIZE_MAX) {
        return note_set(note, ERR_LIMIT, "object has %zu bytes, the limit is %u", content.size,
                        BLOB_SIZE_MAX);
    }
    struct digest digest;
    struct place place;
    sha256(content, &digest);
    place_of(store, &digest, &place);
    enum err err = ERR_OK;
    if (!file_exists(place.path)) {
        struct buf stored;
        buf_init(&stored, ZSTD_compressBound(content.size) + 1);
        err = encode(content, &stored);
        if (err == ERR_OK && !file_exists(place.shard)) {
            err = file_make_folders(place.shard, note);
            err = err == ERR_OK ? file_sync_parent(place.shard, note) : err;
        }
        err = err == ERR_OK ? file_write_atomic(place.path, buf_bytes(&stored), 0644, note) : err;
        buf_deinit(&stored);
        if (err == ERR_OK && file_exists(place.aside)) {
            (void)!file_remove(place.aside, NULL); /* a leftover does no harm */
        }
    }
    if (err == ERR_OK) {
        *out_digest = digest;
    }
    return err;
}

static enum err corrupt(struct note *note, const struct digest *digest, const char *why)
{
    char text[DIGEST_TEXT_SIZE];
    return note_set(note, ERR_CORRUPT, "blob %s: %s", digest_format(digest, text), why);
}

static enum err too_large(struct note *note, const struct digest *digest, unsigned long long size,
                          size_t limit)
{
    char text[DIGEST_TEXT_SIZE];
    return note_set(note, ERR_LIMIT, "blob %s has %llu bytes, the limit is %zu",
                    digest_format(digest, text), size, limit);
}

/* Appends the plain bytes of a stored form. */
static enum err decode(struct bytes stored, const struct digest *digest, struct buf *out,
                       struct note *note)
{
    uint8_t form = 0;
    if (bytes_take_u8(&stored, &form) != ERR_OK) {
        return corrupt(note, digest, "empty file");
    }
    size_t room = out->limit - out->size;
    if (form == FORM_PLAIN) {
        return stored.size > room ? too_large(note, digest, stored.size, room)
                                  : buf_append_bytes(out, stored);
    }
    unsigned long long size = ZSTD_getFrameContentSize(stored.data, stored.size);
    if (form != FORM_ZSTD || size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR ||
        size > BLOB_SIZE_MAX) {
        return corrupt(note, digest, "neither plain nor zstd");
    }
    if (size > room) {
        return too_large(note, digest, size, room);
    }
    uint8_t *at = buf_reserve(out, (size_t)size);
    if (at == NULL) {
        return buf_err(out);
    }
    if (ZSTD_decompress(at, (size_t)size, stored.data, stored.size) != size) {
        return corrupt(note, digest, "damaged zstd data");
    }
    buf_commit(out, (size_t)size);
    return ERR_OK;
}

/* Appends the plain bytes of a stored form if they are the object's. On an error out is as before. */
static enum err decode_checked(struct bytes stored, const struct digest *digest, struct buf *out,
                               struct note *note)
{
    size_t before = out->size;
    enum err err = decode(stored, digest, out, note);
    if (err == ERR_OK) {
        struct digest actual;
        sha256(bytes_of(out->data + before, out->size - before), &actual);
        err = digest_equal(&actual, digest) ? ERR_OK
                                            : corrupt(note, digest, "bytes do not match the name");
    }
    if (err != ERR_OK) {
        buf_truncate(out, before);
    }
    return err;
}

/* Appends the object that the file at path holds. ERR_LIMIT only when it is the object that is too large, and not
 * damage that says so. */
static enum err object_read(const char *path, const struct digest *digest, struct buf *out,
                            struct note *note)
{
    struct buf stored;
    buf_init(&stored, BLOB_SIZE_MAX + 1);
    enum err err = file_read(path, &stored, note);
    if (err == ERR_LIMIT) {
        err = corrupt(note, digest, "file larger than any object");
    } else if (err == ERR_OK) {
        err = decode_checked(buf_bytes(&stored), digest, out, note);
        if (err == ERR_LIMIT) {
            struct buf whole;
            struct note why;
            buf_init(&whole, BLOB_SIZE_MAX);
            enum err sound = decode_checked(buf_bytes(&stored), digest, &whole, &why);
            err = sound == ERR_OK ? err : note_set(note, sound, "%s", why.text);
            buf_deinit(&whole);
        }
    }
    buf_deinit(&stored);
    return err;
}

enum err blob_get(struct blob_store *store, const struct digest *digest, struct buf *out,
                  struct note *note)
{
    struct place place;
    char text[DIGEST_TEXT_SIZE];
    place_of(store, digest, &place);
    if (out->err != ERR_OK) {
        return out->err;
    }
    enum err err = object_read(place.path, digest, out, note);
    if (err == ERR_CORRUPT && store->mends &&
        file_rename(place.path, place.aside, NULL) == ERR_OK) {
        return note_wrap(note, err, "set aside as %s", place.aside);
    }
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = object_read(place.aside, digest, out, note);
    if (err == ERR_CORRUPT) {
        return note_wrap(note, err, "set aside as %s", place.aside);
    }
    if (err == ERR_OK && store->mends) {
        (void)!file_rename(place.aside, place.path, NULL); /* else the next reader finds it there */
    }
    return err == ERR_NOT_FOUND ? note_set(note, err, "no blob %s", digest_format(digest, text))
                                : err;
}

enum err blob_remove(struct blob_store *store, const struct digest *digest, struct note *note)
{
    struct place place;
    place_of(store, digest, &place);
    enum err aside = file_remove(place.aside, note); /* most of it can still be read there */
    enum err err =
        aside == ERR_OK || aside == ERR_NOT_FOUND ? file_remove(place.path, note) : aside;
    err = err == ERR_NOT_FOUND ? aside : err;
    return err == ERR_OK ? file_sync_folder(place.shard, note) : err;
}

enum err blob_each(struct blob_store *store,
                   enum err (*visit)(void *argument, const struct digest *digest), void *argument,
                   struct note *note)
{
    enum err err = ERR_OK;
    for (unsigned shard = 0; shard < SHARD_COUNT && err == ERR_OK; shard++) {
        char folder[FILE_PATH_SIZE];
        struct file_names names = {0};
        CHECK(file_path(folder, "%s/%02x", store->folder, shard) == ERR_OK);
        err = file_list(folder, NAMES_MAX, &names, note);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
        for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
            struct digest digest;
            if (hex_decode(names.items[i], strlen(names.items[i]), digest.bytes, DIGEST_SIZE) ==
                ERR_OK) { /* else a temporary file, or a damaged object */
                err = visit(argument, &digest);
            }
        }
        file_names_deinit(&names);
    }
    return err;
}
