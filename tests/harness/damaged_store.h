/* damaged_store.h - what may be wrong with a service's LMDB when it starts, done to a closed one. */
#pragma once

#include <check.h>
#include <lmdb.h>
#include <stdint.h>
#include <string.h>

#include "shared/platform/file.h"

enum damaged_store {
    DAMAGED_BIT, /* of a value */
    DAMAGED_CUT, /* the file's second half is gone */
    DAMAGED_OLD, /* a value is without its checksum, as in an older format */
    DAMAGED_KINDS
};

/* The value as LMDB itself writes it: as it was before values had checksums. */
static inline void damaged_store_old(const char *folder, const char *table, struct bytes value)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi = 0;
    char key[] = "key";
    MDB_val key_val = {sizeof key, key};
    MDB_val val = {value.size, (void *)(uintptr_t)value.data};
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_open(env, folder, 0, 0644), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_put(txn, dbi, &key_val, &val, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* value: bytes of a value in that table of the store in folder. */
static inline void damaged_store_make(const char *folder, enum damaged_store how, const char *table,
                                      struct bytes value)
{
    char path[FILE_PATH_SIZE];
    struct buf file;
    ck_assert_uint_eq(file_path(path, "%s/data.mdb", folder), ERR_OK);
    if (how == DAMAGED_OLD) {
        damaged_store_old(folder, table, value);
        return;
    }
    buf_init(&file, 64U << 20);
    ck_assert_uint_eq(file_read(path, &file, NULL), ERR_OK);
    unsigned flipped = 0;
    for (size_t i = 0; how == DAMAGED_BIT && i + value.size <= file.size; i++) {
        if (memcmp(file.data + i, value.data, value.size) == 0) { /* in pages of before, too */
            file.data[i] ^= 0x04;
            flipped++;
        }
    }
    ck_assert(how != DAMAGED_BIT || flipped > 0);
    if (how == DAMAGED_CUT) {
        buf_truncate(&file, file.size / 2 + 1);
    }
    ck_assert_uint_eq(file_write_quick(path, buf_bytes(&file), 0644, NULL), ERR_OK);
    buf_deinit(&file);
}
