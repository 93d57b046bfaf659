/* blob_file.c - see blob_file.h. */
#include "shared/blob/blob_file.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/blob/blob_room.h"
#include "shared/crypto/sha256.h"

uint32_t blob_chunk_count(uint64_t size)
{
    CHECK(size <= BLOB_FILE_SIZE_MAX);
    return (uint32_t)((size + BLOB_CHUNK_SIZE - 1) / BLOB_CHUNK_SIZE);
}

/* Where chunk `index` lies in the file. */
static uint64_t chunk_at(uint32_t index)
{
    return (uint64_t)index * BLOB_CHUNK_SIZE;
}

static size_t chunk_size(const struct blob_file *file, uint32_t index)
{
    uint64_t left = file->size - chunk_at(index);
    return left < BLOB_CHUNK_SIZE ? (size_t)left : BLOB_CHUNK_SIZE;
}

static enum err advance(struct blob_progress *progress, size_t size, struct note *note)
{
    if (progress == NULL) {
        return ERR_OK;
    }
    progress->done += size;
    return progress->report(progress->context, progress->done, progress->total)
               ? ERR_OK
               : note_set(note, ERR_CANCELLED, "stopped after %llu of %llu bytes",
                          (unsigned long long)progress->done, (unsigned long long)progress->total);
}

/* ---- into the store ---- */

static enum err chunks_put(struct blob_store *store, int fd, uint8_t *memory,
                           struct blob_progress *progress, struct blob_file *file,
                           struct note *note)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < blob_chunk_count(file->size) && err == ERR_OK; i++) {
        size_t wanted = chunk_size(file, i);
        size_t got = 0;
        err = file_read_at(fd, chunk_at(i), memory, wanted, &got, note);
        if (err == ERR_OK && got != wanted) {
            err = note_set(note, ERR_CONFLICT, "the file became shorter while it was read");
        }
        err = err ? err : blob_put(store, bytes_of(memory, got), &file->chunks[i], note);
        err = err ? err : advance(progress, wanted, note);
    }
    return err;
}

enum err blob_file_put(struct blob_store *store, const char *path, struct blob_progress *progress,
                       struct blob_file *out, struct note *note)
{
    struct blob_file file = {.size = 0};
    uint8_t *memory = NULL;
    int fd = -1;
    enum err err = file_open(path, FILE_READ, &fd, note);
    err = err ? err : file_fd_size(fd, &file.size, note);
    if (err == ERR_OK && (file.size == 0 || file.size > BLOB_FILE_SIZE_MAX)) {
        err = note_set(note, file.size == 0 ? ERR_INVALID : ERR_LIMIT,
                       "%s has %llu bytes, allowed are 1 to %llu", path,
                       (unsigned long long)file.size, (unsigned long long)BLOB_FILE_SIZE_MAX);
    }
    if (err == ERR_OK) {
        file.chunks = calloc((size_t)blob_chunk_count(file.size) + 1, sizeof *file.chunks);
        memory = malloc(BLOB_CHUNK_SIZE);
        err = file.chunks == NULL || memory == NULL
                  ? ERR_NO_MEMORY
                  : chunks_put(store, fd, memory, progress, &file, note);
        err = err ? note_wrap(note, err, "%s", path) : ERR_OK;
    }
    file_close(fd);
    free(memory);
    if (err != ERR_OK) {
        blob_file_deinit(&file);
        return err;
    }
    *out = file;
    return ERR_OK;
}

void blob_file_deinit(struct blob_file *file)
{
    free(file->chunks);
    *file = (struct blob_file){.size = 0};
}

/* ---- out of the store ---- */

/* The copy's path, named after size and chunks. */
static enum err copy_path(const struct blob_store *store, const struct blob_file *file,
                          char out[FILE_PATH_SIZE], struct note *note)
{
    static const char DOMAIN[] = "openledger-blob-file-v1";
    char folder[FILE_PATH_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    struct digest name;
    const struct bytes parts[] = {
        bytes_of(DOMAIN, sizeof DOMAIN), bytes_of(&file->size, sizeof file->size),
        bytes_of(file->chunks, blob_chunk_count(file->size) * sizeof *file->chunks)};
    sha256_parts(parts, sizeof parts / sizeof parts[0], &name);
    (void)hex_encode(name.bytes, DIGEST_SIZE, hex);
    enum err err = file_path(folder, "%s/files", blob_store_folder(store));
    err = err ? err : file_path(out, "%s/%s", folder, hex);
    err = err ? err : file_make_folders(folder, note);
    return err;
}

/* The copy on its way. */
struct copy {
    int fd;         /* of the file's size, with a shared lock: nobody removes it to make room */
    uint64_t old;   /* so many bytes of it may be good already */
    uint8_t *chunk; /* room for one */
};

/* One attempt. *out_gone: what was opened is not at path any more, or was never ours. */
static enum err copy_try(const char *path, uint64_t size, struct copy *copy, bool *out_gone,
                         struct note *note)
{
    enum err err = file_open(path, FILE_WRITE, &copy->fd, note);
    err = err ? err : file_lock_wait(copy->fd, true, note);
    err = err ? err : file_fd_size(copy->fd, &copy->old, note);
    *out_gone = err == ERR_OK && !file_is_at(copy->fd, path); /* removed before we had the lock */
    if (err == ERR_OK && !*out_gone && copy->old > size) {
        *out_gone = true; /* nobody of ours wrote that; others may have it mapped */
        err = file_remove(path, note);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    return err;
}

static enum err copy_open(const struct blob_store *store, const char *path, uint64_t size,
                          struct copy *copy, struct note *note)
{
    enum { ATTEMPTS_MAX = 16 }; /* each lost only to somebody who removes it at that very moment */
    bool gone = true;
    enum err err = ERR_OK;
    for (int i = 0; i < ATTEMPTS_MAX && gone && err == ERR_OK; i++) {
        file_close(copy->fd);
        copy->fd = -1;
        err = copy_try(path, size, copy, &gone, note);
    }
    if (err == ERR_OK && gone) {
        return note_set(note, ERR_UNAVAILABLE, "%s is removed as often as it is made", path);
    }
    err = err ? err : blob_room_reserve(path, copy->fd, size, blob_copies_max(store), note);
    return err ? err : file_use(copy->fd, note);
}

static enum err chunk_fetch(struct blob_store *store, const struct digest *digest, int fd,
                            uint64_t at, size_t size, struct note *note)
{
    struct buf data;
    buf_init(&data, size);
    enum err err = blob_get(store, digest, &data, note);
    if (err == ERR_OK && data.size != size) {
        char text[DIGEST_TEXT_SIZE];
        err = note_set(note, ERR_INVALID, "chunk %s has %zu bytes, not %zu",
                       digest_format(digest, text), data.size, size);
    }
    err = err ? err : file_write_at(fd, at, data.data, size, note);
    buf_deinit(&data);
    return err;
}

/* Makes every chunk of the copy the right one. Two processes at once write the same bytes. */
static enum err copy_fill(struct blob_store *store, const struct blob_file *file,
                          const struct copy *copy, struct blob_progress *progress,
                          struct note *note)
{
    enum err err = ERR_OK;
    uint32_t count = blob_chunk_count(file->size);
    for (uint32_t i = 0; i < count && err == ERR_OK; i++) {
        uint64_t at = chunk_at(i);
        size_t size = chunk_size(file, i);
        size_t got = 0;
        struct digest digest;
        if (at < copy->old) {
            err = file_read_at(copy->fd, at, copy->chunk, size, &got, note);
        }
        sha256(bytes_of(copy->chunk, got), &digest);
        if (err == ERR_OK && !digest_equal(&digest, &file->chunks[i])) {
            err = chunk_fetch(store, &file->chunks[i], copy->fd, at, size, note);
            err = err ? note_wrap(note, err, "chunk %u of %u", i + 1, count) : ERR_OK;
        }
        err = err ? err : advance(progress, size, note);
    }
    return err;
}

/* Fills the copy at path and maps it. */
static enum err copy_map(struct blob_store *store, const struct blob_file *file, const char *path,
                         struct blob_progress *progress, struct file_map *out, struct note *note)
{
    struct copy copy = {.fd = -1, .chunk = malloc(BLOB_CHUNK_SIZE)};
    struct file_map map = {.size = 0};
    enum err err =
        copy.chunk == NULL ? ERR_NO_MEMORY : copy_open(store, path, file->size, &copy, note);
    err = err ? err : copy_fill(store, file, &copy, progress, note);
    err = err ? err : file_map_take(copy.fd, &map, note);
    free(copy.chunk);
    if (err != ERR_OK) {
        file_close(copy.fd);
        return err;
    }
    if (map.size != file->size) {
        file_map_close(&map);
        return note_set(note, ERR_IO, "%s changed while it was opened", path);
    }
    *out = map;
    return ERR_OK;
}

static enum err nameless_map(struct blob_store *store, const struct blob_file *file,
                             struct blob_progress *progress, struct file_map *out,
                             struct note *note)
{
    char folder[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    enum err err = file_make_private_folder("/var/tmp/openledger-", folder, note);
    if (err != ERR_OK) {
        return err;
    }
    err = file_path(path, "%s/copy", folder);
    err = err ? err : copy_map(store, file, path, progress, out, note);
    (void)!file_remove_tree(folder, NULL); /* a map needs no name */
    return err;
}

enum err blob_file_map(struct blob_store *store, const struct blob_file *file,
                       struct blob_progress *progress, struct file_map *out, struct note *note)
{
    CHECK(file->size > 0);
    CHECK(file->size <= BLOB_FILE_SIZE_MAX);
    char path[FILE_PATH_SIZE];
    enum err err = copy_path(store, file, path, note);
    err = err ? err : copy_map(store, file, path, progress, out, note);
    return err == ERR_DENIED ? nameless_map(store, file, progress, out, note) : err;
}
