/* store.c - see store.h; on shared/store. Numbers in keys are big-endian. */
#include "services/settlement/store.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/check.h"
#include "shared/ledger/proof.h"
#include "shared/store/store.h"

enum table {
    TABLE_META,     /* "mark", "snapshot" */
    TABLE_TXS,      /* tx -> index */
    TABLE_LEGS,     /* index, leg -> Posting */
    TABLE_ACCOUNTS, /* account, index -> nothing */
    TABLE_HEADERS,  /* height -> BlockHeader */
    TABLE_PARKED,   /* batch -> reason */
    TABLE_COUNT
};

static const char *const TABLES[TABLE_COUNT] = {"meta",     "txs",     "legs",
                                                "accounts", "headers", "parked"};
static const uint8_t NOTHING = 1; /* a value that says only: the key is there */

struct settlement_store {
    struct store *store;
    struct store_txn *writing; /* NULL: nothing to commit */
};

struct key {
    uint8_t data[DIGEST_SIZE + 12];
    size_t size;
};

static struct key key_of(const uint8_t *prefix, uint64_t index, bool with_leg, uint32_t leg)
{
    struct key key = {.size = 0};
    if (prefix != NULL) {
        memcpy(key.data, prefix, DIGEST_SIZE);
        key.size = DIGEST_SIZE;
    }
    for (int shift = 56; shift >= 0; shift -= 8) {
        key.data[key.size++] = (uint8_t)(index >> shift);
    }
    for (int shift = 24; with_leg && shift >= 0; shift -= 8) {
        key.data[key.size++] = (uint8_t)(leg >> shift);
    }
    return key;
}

static struct bytes key_bytes(const struct key *key)
{
    return bytes_of(key->data, key->size);
}

static uint64_t number_at(const uint8_t *data, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value = value << 8 | data[i];
    }
    return value;
}

enum err settlement_store_open(const char *folder, struct settlement_store **out_store,
                               struct note *note)
{
    struct settlement_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    const struct store_options options = {
        .folder = folder, .tables = TABLES, .table_count = TABLE_COUNT};
    enum err err = store_open(&options, &store->store, note);
    if (err != ERR_OK) {
        free(store);
        return err;
    }
    *out_store = store;
    return ERR_OK;
}

void settlement_store_close(struct settlement_store *store)
{
    if (store != NULL) {
        store_abort(store->writing);
        store_close(store->store);
        free(store);
    }
}

static enum err write_begin(struct settlement_store *store, struct note *note)
{
    return store->writing != NULL ? ERR_OK
                                  : store_begin(store->store, STORE_WRITE, &store->writing, note);
}

enum err settlement_store_commit(struct settlement_store *store, struct note *note)
{
    struct store_txn *txn = store->writing;
    store->writing = NULL;
    return txn == NULL ? ERR_OK : store_commit(txn, note);
}

/* Reads go through the open write transaction, so that they see what is not committed yet. */
static enum err read_begin(struct settlement_store *store, struct store_txn **out_txn)
{
    *out_txn = store->writing;
    return *out_txn != NULL ? ERR_OK : store_begin(store->store, STORE_READ, out_txn, NULL);
}

static void read_end(struct settlement_store *store, struct store_txn *txn)
{
    if (txn != store->writing) {
        store_abort(txn);
    }
}

enum err settlement_store_clear(struct settlement_store *store, struct note *note)
{
    enum err err = write_begin(store, note);
    for (uint32_t table = 0; table < TABLE_COUNT && err == ERR_OK; table++) {
        if (table != TABLE_PARKED) { /* parked batches are not in the journal */
            err = store_clear(store->writing, table, note);
        }
    }
    return err ? err : settlement_store_commit(store, note);
}

static enum err put(struct settlement_store *store, enum table table, const struct key *key,
                    struct bytes value, struct note *note)
{
    return store_put(store->writing, table, key_bytes(key), value, note);
}

static enum err index_leg(struct settlement_store *store, uint64_t index, uint32_t number,
                          const struct ledger_leg *leg, struct buf *posting, struct note *note)
{
    const struct bytes nothing = bytes_of(&NOTHING, 1);
    struct key key = key_of(NULL, index, true, number);
    buf_clear(posting);
    enum err err = ledger_posting_encode(index, number, leg, posting);
    err = err ? err : put(store, TABLE_LEGS, &key, buf_bytes(posting), note);
    if (err == ERR_OK) {
        key = key_of(leg->account.bytes, index, false, 0);
        err = put(store, TABLE_ACCOUNTS, &key, nothing, note);
    }
    return err;
}

enum err settlement_store_index(struct settlement_store *store,
                                const struct ledger_effects *effects, struct note *note)
{
    enum err err = write_begin(store, note);
    struct buf posting;
    buf_init(&posting, 4096);
    for (size_t i = 0; i < effects->leg_count && err == ERR_OK; i++) {
        err = index_leg(store, effects->index, (uint32_t)i, &effects->legs[i], &posting, note);
    }
    buf_deinit(&posting);
    if (err == ERR_OK && effects->kind == LEDGER_KIND_SEAL) {
        Openledger__V1__BlockHeader *header =
            openledger__v1__block_header__unpack(NULL, effects->header.size, effects->header.data);
        CHECK(header != NULL);
        struct key key = key_of(NULL, header->height, false, 0);
        openledger__v1__block_header__free_unpacked(header, NULL);
        err = put(store, TABLE_HEADERS, &key, buf_bytes(&effects->header), note);
    } else if (err == ERR_OK) {
        struct key index = key_of(NULL, effects->index, false, 0);
        struct key sender = key_of(effects->sender.bytes, effects->index, false, 0);
        err = store_put(store->writing, TABLE_TXS, digest_bytes(&effects->tx), key_bytes(&index),
                        note);
        err = err ? err : put(store, TABLE_ACCOUNTS, &sender, bytes_of(&NOTHING, 1), note);
    }
    return err;
}

/* ---- mark and snapshot -------------------------------------------------------------------------- */

static const char MARK[] = "mark";
static const char SNAPSHOT[] = "snapshot";

static enum err meta_get(struct settlement_store *store, const char *name, struct buf *out)
{
    struct store_txn *txn;
    struct bytes value;
    enum err err = read_begin(store, &txn);
    if (err == ERR_OK) {
        err = store_get(txn, TABLE_META, bytes_of_text(name), &value, NULL);
        err = err ? err : buf_append_bytes(out, value);
        read_end(store, txn);
    }
    return err;
}

static enum err meta_put(struct settlement_store *store, const char *name, struct bytes value,
                         struct note *note)
{
    enum err err = write_begin(store, note);
    return err ? err : store_put(store->writing, TABLE_META, bytes_of_text(name), value, note);
}

enum err settlement_store_mark_get(struct settlement_store *store,
                                   struct settlement_store_mark *out_mark)
{
    struct settlement_store_mark mark = {.index = 0};
    struct buf buf;
    buf_init(&buf, 4096);
    enum err err = meta_get(store, MARK, &buf);
    struct bytes in = buf_bytes(&buf);
    if (err == ERR_OK) {
        err = bytes_take_copy(&in, mark.chain_id.bytes, DIGEST_SIZE);
        err = err ? err : bytes_take_u64be(&in, &mark.index);
        err = err ? err : bytes_take_copy(&in, mark.entry_hash.bytes, DIGEST_SIZE);
    }
    buf_deinit(&buf);
    if (err == ERR_OK) {
        *out_mark = mark;
    }
    return err;
}

enum err settlement_store_mark_put(struct settlement_store *store,
                                   const struct settlement_store_mark *mark, struct note *note)
{
    struct buf buf;
    buf_init(&buf, 4096);
    buf_append_bytes(&buf, digest_bytes(&mark->chain_id));
    buf_append_u64be(&buf, mark->index);
    buf_append_bytes(&buf, digest_bytes(&mark->entry_hash));
    enum err err = buf_err(&buf);
    err = err ? err : meta_put(store, MARK, buf_bytes(&buf), note);
    buf_deinit(&buf);
    return err;
}

enum err settlement_store_snapshot_get(struct settlement_store *store, struct buf *out)
{
    return meta_get(store, SNAPSHOT, out);
}

enum err settlement_store_snapshot_put(struct settlement_store *store, struct bytes snapshot,
                                       struct note *note)
{
    return meta_put(store, SNAPSHOT, snapshot, note);
}

/* ---- questions ---------------------------------------------------------------------------------- */

enum err settlement_store_tx(struct settlement_store *store, const struct digest *tx,
                             uint64_t *out_index)
{
    struct store_txn *txn;
    struct bytes value;
    enum err err = read_begin(store, &txn);
    if (err == ERR_OK) {
        err = store_get(txn, TABLE_TXS, digest_bytes(tx), &value, NULL);
        if (err == ERR_OK) {
            *out_index = number_at(value.data, value.size);
        }
        read_end(store, txn);
    }
    return err;
}

enum err settlement_store_header(struct settlement_store *store, uint64_t height, struct buf *out)
{
    struct store_txn *txn;
    struct bytes value;
    struct key key = key_of(NULL, height, false, 0);
    enum err err = read_begin(store, &txn);
    if (err == ERR_OK) {
        err = store_get(txn, TABLE_HEADERS, key_bytes(&key), &value, NULL);
        err = err ? err : buf_append_bytes(out, value);
        read_end(store, txn);
    }
    return err;
}

enum err settlement_store_legs(struct settlement_store *store, uint64_t first, uint64_t last,
                               settlement_store_visit *visit, void *context)
{
    struct store_txn *txn;
    struct store_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    struct key begin = key_of(NULL, first, true, 0);
    enum err err = read_begin(store, &txn);
    if (err != ERR_OK) {
        return err;
    }
    err = store_cursor_open(txn, TABLE_LEGS, key_bytes(&begin), false, &cursor, NULL);
    while (err == ERR_OK) {
        err = store_cursor_next(cursor, &key, &value, NULL);
        if (err == ERR_OK) {
            uint64_t index = number_at(key.data, 8);
            if (index > last) {
                break;
            }
            err = visit(context, index, (uint32_t)number_at(key.data + 8, 4), value);
        }
    }
    store_cursor_close(cursor);
    read_end(store, txn);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err settlement_store_account(struct settlement_store *store, const struct account_id *account,
                                  uint64_t before, uint64_t *out_indexes, size_t max,
                                  size_t *out_count)
{
    struct store_txn *txn;
    struct store_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    struct key begin = key_of(account->bytes, before == 0 ? UINT64_MAX : before - 1, false, 0);
    size_t count = 0;
    enum err err = read_begin(store, &txn);
    if (err != ERR_OK) {
        return err;
    }
    err = store_cursor_open(txn, TABLE_ACCOUNTS, key_bytes(&begin), true, &cursor, NULL);
    while (err == ERR_OK && count < max) {
        err = store_cursor_next(cursor, &key, &value, NULL);
        if (err == ERR_OK) {
            if (memcmp(key.data, account->bytes, ACCOUNT_ID_SIZE) != 0) {
                break;
            }
            out_indexes[count++] = number_at(key.data + ACCOUNT_ID_SIZE, 8);
        }
    }
    store_cursor_close(cursor);
    read_end(store, txn);
    *out_count = count;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err settlement_store_park(struct settlement_store *store, const struct digest *batch,
                               const char *reason, struct note *note)
{
    enum err err = write_begin(store, note);
    err = err ? err
              : store_put(store->writing, TABLE_PARKED, digest_bytes(batch), bytes_of_text(reason),
                          note);
    return err ? err : settlement_store_commit(store, note);
}

uint64_t settlement_store_parked(struct settlement_store *store)
{
    struct store_txn *txn;
    uint64_t count = 0;
    if (read_begin(store, &txn) == ERR_OK) {
        if (store_count(txn, TABLE_PARKED, &count, NULL) != ERR_OK) {
            count = 0;
        }
        read_end(store, txn);
    }
    return count;
}
