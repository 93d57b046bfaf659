/* store.c - see store.h. A thin layer: LMDB does the work, this file its errors and bounds. */
#include "shared/store/store.h"

#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "shared/base/check.h"
#include "shared/platform/file.h"
#include "shared/store/check.h"

struct store {
    MDB_env *env;
    uint32_t table_count;
    const char *const *tables;
    MDB_dbi dbi[STORE_TABLES_MAX];
    int lock_fd; /* the folder's: LMDB itself lets several processes in, and we check the file before */
};

struct store_txn {
    struct store *store;
    MDB_txn *txn;
};

struct store_cursor {
    MDB_cursor *cursor;
    MDB_cursor_op next; /* how to go on */
    bool first;         /* the cursor already stands on what comes next */
    bool empty;         /* nothing there */
};

/* LMDB's own codes and errno, as what the caller should do. */
static enum err failed(struct note *note, const char *verb, int rc)
{
    enum err err = ERR_IO;
    if (rc == MDB_NOTFOUND) {
        return ERR_NOT_FOUND;
    }
    if (rc == MDB_MAP_FULL || rc == MDB_TXN_FULL || rc == MDB_DBS_FULL || rc == MDB_READERS_FULL) {
        err = ERR_LIMIT;
    } else if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID ||
               rc == MDB_VERSION_MISMATCH || rc == MDB_PANIC) {
        err = ERR_CORRUPT;
    } else if (rc > 0) {
        err = err_from_errno(rc);
    }
    return note_set(note, err, "could not %s the store: %s", verb, mdb_strerror(rc));
}

static MDB_val val_of(struct bytes bytes)
{
    return (MDB_val){.mv_size = bytes.size, .mv_data = (void *)(uintptr_t)bytes.data};
}

static struct bytes bytes_of_val(MDB_val val)
{
    return bytes_of(val.mv_data, val.mv_size);
}

static enum err unsealed(struct bytes key, MDB_val val, struct bytes *out_value, struct note *note)
{
    *out_value = bytes_of_val(val);
    return store_unseal(key, out_value)
               ? ERR_OK
               : note_set(note, ERR_CORRUPT, "a value in the store is damaged");
}

static enum err open_tables(struct store *store, struct note *note)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    for (uint32_t i = 0; i < store->table_count && rc == 0; i++) {
        rc = mdb_dbi_open(txn, store->tables[i], MDB_CREATE, &store->dbi[i]);
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return failed(note, "open the tables of", rc);
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? ERR_OK : failed(note, "open the tables of", rc);
}

/* Checks the file and opens it; the folder's lock is the caller's. */
static enum err open_file(const struct store_options *options, struct store **out_store,
                          struct note *note)
{
    char file[FILE_PATH_SIZE];
    enum err err = file_path(file, "%s/data.mdb", options->folder);
    err = err ? err : store_check(file, options->tables, options->table_count, note);
    if (err != ERR_OK) {
        return err;
    }
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    store->lock_fd = -1;
    store->table_count = options->table_count;
    store->tables = options->tables;
    uint64_t size_max = options->size_max == 0 ? STORE_SIZE_DEFAULT : options->size_max;
    int rc = mdb_env_create(&store->env);
    rc = rc == 0 ? mdb_env_set_mapsize(store->env, (size_t)size_max) : rc;
    rc = rc == 0 ? mdb_env_set_maxdbs(store->env, options->table_count) : rc;
    /* NOMETASYNC keeps the store consistent after a power cut, but may undo the last commit. */
    unsigned flags = MDB_NORDAHEAD | (options->durable ? 0U : (unsigned)MDB_NOMETASYNC);
    rc = rc == 0 ? mdb_env_open(store->env, options->folder, flags, 0644) : rc;
    err = rc == 0 ? open_tables(store, note) : failed(note, "open", rc);
    if (err != ERR_OK) {
        store_close(store);
        return err;
    }
    *out_store = store;
    return ERR_OK;
}

static enum err aside_path(const char *folder, char out_path[FILE_PATH_SIZE])
{
    return file_path(out_path, "%s/%s", folder, STORE_ASIDE);
}

/* why: what is wrong with the file; gets where it is now. */
static enum err set_aside(const char *folder, struct note *why, struct note *note)
{
    char from[FILE_PATH_SIZE];
    char to[FILE_PATH_SIZE];
    enum err err = file_path(from, "%s/data.mdb", folder);
    err = err ? err : aside_path(folder, to);
    err = err ? err : file_rename(from, to, note);
    if (err == ERR_OK) {
        (void)note_wrap(why, err, "set aside as %s", to);
    }
    return err;
}

static enum err open_store(const struct store_options *options, bool *out_anew,
                           struct store **out_store, struct note *note)
{
    CHECK(options->table_count >= 1);
    CHECK(options->table_count <= STORE_TABLES_MAX);
    struct store *store = NULL;
    struct note why = {""};
    bool anew = false;
    int lock_fd = -1;
    enum err err = file_make_folders(options->folder, &why);
    err = err ? err : file_open(options->folder, FILE_READ, &lock_fd, &why);
    err = err ? err : file_lock(lock_fd, &why);
    if (err == ERR_CONFLICT) {
        err = note_set(&why, err, "another process has the store open");
    }
    err = err ? err : open_file(options, &store, &why);
    if (err == ERR_CORRUPT && out_anew != NULL) {
        struct note detail = {""};
        anew = true;
        err = set_aside(options->folder, &why, &detail);
        err = err ? err : open_file(options, &store, &detail);
        why = err ? detail : why;
    }
    if (err != ERR_OK || anew) {
        (void)note_set(note, err, "%s: %s", options->folder, why.text);
    }
    if (err != ERR_OK) {
        file_close(lock_fd);
        return err;
    }
    store->lock_fd = lock_fd;
    if (out_anew != NULL) {
        *out_anew = anew;
    }
    *out_store = store;
    return ERR_OK;
}

enum err store_open(const struct store_options *options, struct store **out_store,
                    struct note *note)
{
    return open_store(options, NULL, out_store, note);
}

enum err store_open_anew(const struct store_options *options, struct store **out_store,
                         bool *out_anew, struct note *note)
{
    return open_store(options, out_anew, out_store, note);
}

bool store_aside(const char *folder)
{
    char path[FILE_PATH_SIZE];
    return aside_path(folder, path) == ERR_OK && file_exists(path);
}

enum err store_aside_remove(const char *folder, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = aside_path(folder, path);
    return err ? err : file_remove(path, note);
}

void store_close(struct store *store)
{
    if (store != NULL) {
        mdb_env_close(store->env);
        file_close(store->lock_fd);
        free(store);
    }
}

enum err store_begin(struct store *store, enum store_access access, struct store_txn **out_txn,
                     struct note *note)
{
    struct store_txn *txn = malloc(sizeof *txn);
    if (txn == NULL) {
        return ERR_NO_MEMORY;
    }
    *txn = (struct store_txn){.store = store};
    int rc = mdb_txn_begin(store->env, NULL, access == STORE_READ ? MDB_RDONLY : 0, &txn->txn);
    if (rc != 0) {
        free(txn);
        return failed(note, "begin a transaction in", rc);
    }
    *out_txn = txn;
    return ERR_OK;
}

enum err store_commit(struct store_txn *txn, struct note *note)
{
    int rc = mdb_txn_commit(txn->txn);
    free(txn);
    return rc == 0 ? ERR_OK : failed(note, "commit to", rc);
}

void store_abort(struct store_txn *txn)
{
    if (txn != NULL) {
        mdb_txn_abort(txn->txn);
        free(txn);
    }
}

static MDB_dbi dbi_of(const struct store_txn *txn, uint32_t table)
{
    CHECK(table < txn->store->table_count);
    return txn->store->dbi[table];
}

static enum err check_key(struct bytes key, struct note *note)
{
    return key.size >= 1 && key.size <= STORE_KEY_MAX
               ? ERR_OK
               : note_set(note, ERR_INVALID, "store key has %zu bytes, must be 1 to %d", key.size,
                          STORE_KEY_MAX);
}

enum err store_get(struct store_txn *txn, uint32_t table, struct bytes key, struct bytes *out_value,
                   struct note *note)
{
    enum err err = check_key(key, note);
    if (err != ERR_OK) {
        return err;
    }
    MDB_val key_val = val_of(key);
    MDB_val value = {0};
    int rc = mdb_get(txn->txn, dbi_of(txn, table), &key_val, &value);
    return rc == 0 ? unsealed(key, value, out_value, note) : failed(note, "read", rc);
}

enum err store_put(struct store_txn *txn, uint32_t table, struct bytes key, struct bytes value,
                   struct note *note)
{
    enum err err = check_key(key, note);
    if (err != ERR_OK) {
        return err;
    }
    uint8_t seal[STORE_SEAL];
    store_seal(key, value, seal);
    MDB_val key_val = val_of(key);
    MDB_val place = {.mv_size = value.size + STORE_SEAL};
    int rc = mdb_put(txn->txn, dbi_of(txn, table), &key_val, &place, MDB_RESERVE);
    if (rc != 0) {
        return failed(note, "write to", rc);
    }
    if (value.size > 0) {
        memcpy(place.mv_data, value.data, value.size);
    }
    memcpy((uint8_t *)place.mv_data + value.size, seal, STORE_SEAL);
    return ERR_OK;
}

enum err store_remove(struct store_txn *txn, uint32_t table, struct bytes key, struct note *note)
{
    enum err err = check_key(key, note);
    if (err != ERR_OK) {
        return err;
    }
    MDB_val key_val = val_of(key);
    int rc = mdb_del(txn->txn, dbi_of(txn, table), &key_val, NULL);
    return rc == 0 ? ERR_OK : failed(note, "remove from", rc);
}

enum err store_clear(struct store_txn *txn, uint32_t table, struct note *note)
{
    int rc = mdb_drop(txn->txn, dbi_of(txn, table), 0);
    return rc == 0 ? ERR_OK : failed(note, "clear a table of", rc);
}

enum err store_count(struct store_txn *txn, uint32_t table, uint64_t *out_count, struct note *note)
{
    MDB_stat stat;
    int rc = mdb_stat(txn->txn, dbi_of(txn, table), &stat);
    if (rc != 0) {
        return failed(note, "count", rc);
    }
    *out_count = stat.ms_entries;
    return ERR_OK;
}

/* Puts the cursor on the first pair to give. Returns LMDB's code, MDB_NOTFOUND when there is none. */
static int cursor_seek(MDB_cursor *cursor, struct bytes first, bool descending)
{
    MDB_val key = val_of(first);
    MDB_val value;
    if (first.size == 0) {
        return mdb_cursor_get(cursor, &key, &value, descending ? MDB_LAST : MDB_FIRST);
    }
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE); /* first key >= */
    if (!descending) {
        return rc;
    }
    if (rc == MDB_NOTFOUND) {
        return mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    }
    if (rc == 0 && !bytes_equal(bytes_of_val(key), first)) {
        return mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    }
    return rc;
}

enum err store_cursor_open(struct store_txn *txn, uint32_t table, struct bytes first,
                           bool descending, struct store_cursor **out_cursor, struct note *note)
{
    if (first.size > STORE_KEY_MAX) {
        return check_key(first, note);
    }
    struct store_cursor *cursor = malloc(sizeof *cursor);
    if (cursor == NULL) {
        return ERR_NO_MEMORY;
    }
    *cursor = (struct store_cursor){.next = descending ? MDB_PREV : MDB_NEXT, .first = true};
    int rc = mdb_cursor_open(txn->txn, dbi_of(txn, table), &cursor->cursor);
    rc = rc == 0 ? cursor_seek(cursor->cursor, first, descending) : rc;
    if (rc != 0 && rc != MDB_NOTFOUND) {
        store_cursor_close(cursor);
        return failed(note, "walk", rc);
    }
    cursor->empty = rc == MDB_NOTFOUND;
    *out_cursor = cursor;
    return ERR_OK;
}

enum err store_cursor_next(struct store_cursor *cursor, struct bytes *out_key,
                           struct bytes *out_value, struct note *note)
{
    if (cursor->empty) {
        return ERR_NOT_FOUND;
    }
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(cursor->cursor, &key, &value,
                            cursor->first ? MDB_GET_CURRENT : cursor->next);
    cursor->first = false;
    if (rc != 0) {
        cursor->empty = true;
        return failed(note, "walk", rc);
    }
    *out_key = bytes_of_val(key);
    return unsealed(*out_key, value, out_value, note);
}

void store_cursor_close(struct store_cursor *cursor)
{
    if (cursor != NULL) {
        if (cursor->cursor != NULL) {
            mdb_cursor_close(cursor->cursor);
        }
        free(cursor);
    }
}

struct store_key_u64 store_key_u64(uint64_t value)
{
    struct store_key_u64 key;
    for (size_t i = 0; i < sizeof key.bytes; i++) {
        key.bytes[i] = (uint8_t)(value >> (8 * (7 - i)));
    }
    return key;
}

enum err store_key_u64_parse(struct bytes key, uint64_t *out_value)
{
    if (key.size != sizeof(struct store_key_u64)) {
        return ERR_CORRUPT;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < key.size; i++) {
        value = value << 8 | key.data[i];
    }
    *out_value = value;
    return ERR_OK;
}
