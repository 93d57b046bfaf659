/* store.c - see store.h. One LMDB table: contribution id -> struct record below, little-endian. */
#include "services/datanet/store.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/hex.h"
#include "shared/base/log.h"
#include "shared/platform/file.h"
#include "shared/store/store.h"

enum { TABLE_UPLOADS, TABLE_COUNT };

struct datanet_store {
    struct store *store;
    char folder[FILE_PATH_SIZE]; /* of upload files, named by the contribution's hex id */
    char index[FILE_PATH_SIZE];  /* of LMDB */
};

enum err datanet_store_open(const char *folder, struct datanet_store **out_store, struct note *note)
{
    static const char *const TABLES[TABLE_COUNT] = {"uploads"};
    struct datanet_store *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return ERR_NO_MEMORY;
    }
    struct store_options options = {
        .folder = opened->index, .tables = TABLES, .table_count = TABLE_COUNT, .durable = true};
    enum err err = file_path(opened->folder, "%s/uploads", folder);
    err = err != ERR_OK ? err : file_path(opened->index, "%s/index", folder);
    err = err != ERR_OK ? err : file_make_folders(opened->folder, note);
    struct note why = {""};
    bool anew = false;
    if (err == ERR_OK) {
        err = store_open_anew(&options, &opened->store, &anew, &why);
        (void)(err ? note_set(note, err, "%s", why.text) : ERR_OK);
    }
    if (err != ERR_OK) {
        free(opened);
        return err;
    }
    if (anew) {
        log_warn("uploads_anew note=\"%s\" now=\"finished ones are looked for among the blobs, "
                 "those under way begin again\"",
                 why.text);
    }
    *out_store = opened;
    return ERR_OK;
}

void datanet_store_close(struct datanet_store *store)
{
    if (store != NULL) {
        store_close(store->store);
        free(store);
    }
}

bool datanet_store_lost(const struct datanet_store *store)
{
    return store_aside(store->index);
}

enum err datanet_store_found(struct datanet_store *store, struct note *note)
{
    return store_aside_remove(store->index, note);
}

static enum err decode(const struct digest *contribution, struct bytes value,
                       struct upload *out_upload, struct note *note)
{
    struct upload upload = {.contribution = *contribution};
    uint8_t finished = 0;
    enum err err = bytes_take_u64le(&value, &upload.size);
    err = err != ERR_OK ? err : bytes_take_copy(&value, upload.digest.bytes, DIGEST_SIZE);
    err = err != ERR_OK ? err : bytes_take_copy(&value, upload.token, UPLOAD_TOKEN_SIZE);
    err = err != ERR_OK ? err : bytes_take_u8(&value, &finished);
    if (err != ERR_OK || value.size != 0) {
        return note_set(note, ERR_CORRUPT, "an upload's record in the store is damaged");
    }
    upload.finished = finished != 0;
    *out_upload = upload;
    return ERR_OK;
}

enum err datanet_store_get(struct datanet_store *store, const struct digest *contribution,
                           struct upload *out_upload, struct note *note)
{
    struct store_txn *txn;
    struct bytes value;
    enum err err = store_begin(store->store, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_get(txn, TABLE_UPLOADS, digest_bytes(contribution), &value, note);
    if (err == ERR_OK) {
        err = decode(contribution, value, out_upload, note);
    }
    store_abort(txn);
    return err;
}

enum err datanet_store_put(struct datanet_store *store, const struct upload *upload,
                           struct note *note)
{
    struct buf value;
    struct store_txn *txn;
    buf_init(&value, 256);
    buf_append_u64le(&value, upload->size);
    buf_append(&value, upload->digest.bytes, DIGEST_SIZE);
    buf_append(&value, upload->token, UPLOAD_TOKEN_SIZE);
    buf_append_byte(&value, upload->finished ? 1 : 0);
    enum err err = buf_err(&value);
    err = err != ERR_OK ? err : store_begin(store->store, STORE_WRITE, &txn, note);
    if (err == ERR_OK) {
        err = store_put(txn, TABLE_UPLOADS, digest_bytes(&upload->contribution), buf_bytes(&value),
                        note);
        if (err == ERR_OK) {
            err = store_commit(txn, note);
        } else {
            store_abort(txn);
        }
    }
    buf_deinit(&value);
    return err;
}

/* The name is made of our own hex digits, never of foreign text. */
static enum err upload_path(const struct datanet_store *store, const struct digest *contribution,
                            char out_path[FILE_PATH_SIZE])
{
    char name[2 * DIGEST_SIZE + 1];
    return file_path(out_path, "%s/%s", store->folder,
                     hex_encode(contribution->bytes, DIGEST_SIZE, name));
}

enum err datanet_store_received(struct datanet_store *store, const struct digest *contribution,
                                uint64_t *out_size, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = upload_path(store, contribution, path);
    if (err == ERR_OK && !file_exists(path)) {
        *out_size = 0;
        return ERR_OK;
    }
    return err != ERR_OK ? err : file_size(path, out_size, note);
}

enum err datanet_store_append(struct datanet_store *store, const struct digest *contribution,
                              uint64_t offset, struct bytes data, struct note *note)
{
    char path[FILE_PATH_SIZE];
    int fd = -1;
    enum err err = upload_path(store, contribution, path);
    err = err != ERR_OK ? err : file_open(path, FILE_WRITE, &fd, note);
    err = err != ERR_OK ? err : file_write_at(fd, offset, data.data, data.size, note);
    err = err != ERR_OK ? err : file_sync(fd, note);
    file_close(fd);
    return err != ERR_OK || offset != 0 ? err : file_sync_folder(store->folder, note);
}

enum err datanet_store_read(struct datanet_store *store, const struct digest *contribution,
                            struct buf *out, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = upload_path(store, contribution, path);
    return err != ERR_OK ? err : file_read(path, out, note);
}

enum err datanet_store_discard(struct datanet_store *store, const struct digest *contribution,
                               struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = upload_path(store, contribution, path);
    err = err != ERR_OK ? err : file_remove(path, note);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
