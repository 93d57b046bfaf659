/* store.c - see store.h; on shared/store. Numbers in keys are big-endian. */
#include "services/settlement/store.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/check.h"
#include "shared/ledger/proof.h"
#include "shared/store/store.h"

enum table {
    TABLE_META, /* "mark", "snapshot" */
    TABLE_TXS,  /* run, tx -> index; run is index / TX_RUN */
    TABLE_LEGS, /* index, leg -> that leg and what fits behind it: account, u64 previous, u16 size, Posting */
    TABLE_SENT,    /* index -> sender, u64 previous: where no leg says it */
    TABLE_HEADERS, /* height -> BlockHeader */
    TABLE_PARKED,  /* batch -> reason */
    TABLE_COUNT
};

static const char *const TABLES[TABLE_COUNT] = {"meta", "txs", "legs", "sent", "headers", "parked"};

enum {
    LINK_SIZE = ACCOUNT_ID_SIZE + 8,
    LEG_KEY_SIZE = 12,
    CHUNK_SIZE = 16000, /* bytes of a value, about: four pages of LMDB's */
    /* Ids are random: were they one run, each would dirty a page of its own in an ever larger tree. A run
     * is some 1,500 pages, and a look-up goes through all runs that it may be in. */
    TX_RUN = 65536,
    PENDING_MAX = 16384
};
/* Of address space, not of disk: what a log of some 10^9 legs needs. */
static const uint64_t INDEX_SIZE_MAX = UINT64_C(1) << 38;

struct tx_place {
    struct digest tx;
    uint64_t index;
};

struct settlement_store {
    struct store *store;
    /* Put into their run together, as late as possible: one by one they would dirty its pages for every
     * commit between. */
    struct tx_place pending[PENDING_MAX];
    size_t pending_count;
    struct store_txn *writing; /* NULL: nothing to commit */
};

struct key {
    uint8_t data[8 + DIGEST_SIZE];
    size_t size;
};

static struct key key_of(uint64_t index)
{
    struct key key = {.size = sizeof index};
    for (size_t i = 0; i < sizeof index; i++) {
        key.data[i] = (uint8_t)(index >> (56 - 8 * i));
    }
    return key;
}

static struct key leg_key(uint64_t index, uint32_t leg)
{
    struct key key = key_of(index);
    for (int shift = 24; shift >= 0; shift -= 8) {
        key.data[key.size++] = (uint8_t)(leg >> shift);
    }
    return key;
}

static struct key tx_key(const struct digest *tx, uint64_t run)
{
    struct key key = key_of(run);
    memcpy(key.data + key.size, tx->bytes, DIGEST_SIZE);
    key.size += DIGEST_SIZE;
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
        .folder = folder, .tables = TABLES, .table_count = TABLE_COUNT, .size_max = INDEX_SIZE_MAX};
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

static enum err put(struct settlement_store *store, enum table table, const struct key *key,
                    struct bytes value, struct note *note)
{
    return store_put(store->writing, table, key_bytes(key), value, note);
}

static enum err pending_put(struct settlement_store *store, struct note *note)
{
    enum err err = store->pending_count == 0 ? ERR_OK : write_begin(store, note);
    for (size_t i = 0; i < store->pending_count && err == ERR_OK; i++) {
        const struct tx_place *place = &store->pending[i];
        struct key index = key_of(place->index);
        struct key tx = tx_key(&place->tx, place->index / TX_RUN);
        err = put(store, TABLE_TXS, &tx, key_bytes(&index), note);
    }
    store->pending_count = err ? store->pending_count : 0;
    return err;
}

enum err settlement_store_spill(struct settlement_store *store, struct note *note)
{
    struct store_txn *txn = store->writing;
    store->writing = NULL;
    return txn == NULL ? ERR_OK : store_commit(txn, note);
}

enum err settlement_store_commit(struct settlement_store *store, struct note *note)
{
    enum err err = pending_put(store, note);
    return err ? err : settlement_store_spill(store, note);
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
    store->pending_count = 0;
    for (uint32_t table = 0; table < TABLE_COUNT && err == ERR_OK; table++) {
        if (table != TABLE_PARKED) { /* parked batches are not in the journal */
            err = store_clear(store->writing, table, note);
        }
    }
    return err ? err : settlement_store_commit(store, note);
}

/* Legs of an entry, in few values: one after the other, so that writing them is appending. */
static enum err index_legs(struct settlement_store *store, const struct ledger_effects *effects,
                           struct note *note)
{
    struct bytes postings = buf_bytes(&effects->postings);
    struct buf chunk;
    buf_init(&chunk, (size_t)2 * CHUNK_SIZE);
    enum err err = ERR_OK;
    uint32_t first = 0;
    for (uint32_t i = 0; i < effects->leg_count && err == ERR_OK; i++) {
        const struct ledger_leg *leg = &effects->legs[i];
        uint16_t size = 0;
        struct bytes posting;
        CHECK(bytes_take_u16le(&postings, &size) == ERR_OK);
        CHECK(bytes_take(&postings, size, &posting) == ERR_OK);
        buf_append(&chunk, leg->account.bytes, ACCOUNT_ID_SIZE);
        buf_append_u64be(&chunk, leg->previous);
        buf_append_u16le(&chunk, size);
        buf_append_bytes(&chunk, posting);
        if (chunk.size >= CHUNK_SIZE || i + 1 == effects->leg_count) {
            struct key key = leg_key(effects->index, first);
            err = buf_err(&chunk);
            err = err ? err : put(store, TABLE_LEGS, &key, buf_bytes(&chunk), note);
            buf_clear(&chunk);
            first = i + 1;
        }
    }
    buf_deinit(&chunk);
    return err;
}

static enum err index_sent(struct settlement_store *store, const struct ledger_effects *effects,
                           struct note *note)
{
    uint8_t link[LINK_SIZE];
    struct key key = key_of(effects->index);
    if (effects->sender_previous == effects->index) {
        return ERR_OK;
    }
    memcpy(link, effects->sender.bytes, ACCOUNT_ID_SIZE);
    memcpy(link + ACCOUNT_ID_SIZE, key_of(effects->sender_previous).data, 8);
    return put(store, TABLE_SENT, &key, bytes_of(link, sizeof link), note);
}

enum err settlement_store_index(struct settlement_store *store,
                                const struct ledger_effects *effects, struct note *note)
{
    enum err err = write_begin(store, note);
    err = err ? err : index_legs(store, effects, note);
    if (err == ERR_OK && effects->kind == LEDGER_KIND_SEAL) {
        Openledger__V1__BlockHeader *header =
            openledger__v1__block_header__unpack(NULL, effects->header.size, effects->header.data);
        CHECK(header != NULL);
        struct key key = key_of(header->height);
        openledger__v1__block_header__free_unpacked(header, NULL);
        err = put(store, TABLE_HEADERS, &key, buf_bytes(&effects->header), note);
    } else if (err == ERR_OK) {
        if (store->pending_count == PENDING_MAX) {
            err = pending_put(store, note);
        }
        if (err == ERR_OK) {
            store->pending[store->pending_count++] = (struct tx_place){effects->tx, effects->index};
        }
        err = err ? err : index_sent(store, effects, note);
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
                             uint64_t newest, uint64_t back, uint64_t *out_index)
{
    struct store_txn *txn;
    struct bytes value;
    enum err err = pending_put(store, NULL);
    err = err ? err : read_begin(store, &txn);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t run = newest / TX_RUN;
    uint64_t last = back < newest ? (newest - back) / TX_RUN : 0;
    do {
        struct key key = tx_key(tx, run);
        err = store_get(txn, TABLE_TXS, key_bytes(&key), &value, NULL);
    } while (err == ERR_NOT_FOUND && run-- > last);
    if (err == ERR_OK) {
        *out_index = number_at(value.data, value.size);
    }
    read_end(store, txn);
    return err;
}

enum err settlement_store_header(struct settlement_store *store, uint64_t height, struct buf *out)
{
    struct store_txn *txn;
    struct bytes value;
    struct key key = key_of(height);
    enum err err = read_begin(store, &txn);
    if (err == ERR_OK) {
        err = store_get(txn, TABLE_HEADERS, key_bytes(&key), &value, NULL);
        err = err ? err : buf_append_bytes(out, value);
        read_end(store, txn);
    }
    return err;
}

struct leg_record {
    struct bytes account, posting;
    uint64_t previous;
};

static enum err leg_take(struct bytes *in, struct leg_record *out)
{
    uint16_t size = 0;
    enum err err = bytes_take(in, ACCOUNT_ID_SIZE, &out->account);
    err = err ? err : bytes_take_u64be(in, &out->previous);
    err = err ? err : bytes_take_u16le(in, &size);
    return err ? err : bytes_take(in, size, &out->posting);
}

typedef enum err leg_visit(void *context, uint64_t index, uint32_t leg,
                           const struct leg_record *record);

/* Calls visit with each leg of entries first..last, in order; stops at its error. */
static enum err legs_walk(struct store_txn *txn, uint64_t first, uint64_t last, leg_visit *visit,
                          void *context)
{
    struct store_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    struct key begin = leg_key(first, 0);
    enum err err = store_cursor_open(txn, TABLE_LEGS, key_bytes(&begin), false, &cursor, NULL);
    while (err == ERR_OK) {
        err = store_cursor_next(cursor, &key, &value, NULL);
        err = err == ERR_OK && key.size != LEG_KEY_SIZE ? ERR_CORRUPT : err;
        uint64_t index = err ? 0 : number_at(key.data, 8);
        if (err == ERR_OK && index > last) {
            break;
        }
        uint32_t leg = err ? 0 : (uint32_t)number_at(key.data + 8, 4);
        while (err == ERR_OK && value.size > 0) {
            struct leg_record record;
            err = leg_take(&value, &record);
            err = err ? err : visit(context, index, leg++, &record);
        }
    }
    store_cursor_close(cursor);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

struct postings_visit {
    settlement_store_visit *visit;
    void *context;
};

static enum err posting_give(void *context, uint64_t index, uint32_t leg,
                             const struct leg_record *record)
{
    const struct postings_visit *to = context;
    return to->visit(to->context, index, leg, record->posting);
}

enum err settlement_store_legs(struct settlement_store *store, uint64_t first, uint64_t last,
                               settlement_store_visit *visit, void *context)
{
    struct store_txn *txn;
    struct postings_visit to = {visit, context};
    enum err err = read_begin(store, &txn);
    if (err == ERR_OK) {
        err = legs_walk(txn, first, last, posting_give, &to);
        read_end(store, txn);
    }
    return err;
}

struct link_search {
    const struct account_id *account;
    uint64_t previous;
    bool found;
};

static enum err link_look(void *context, uint64_t index, uint32_t leg,
                          const struct leg_record *record)
{
    struct link_search *search = context;
    (void)index, (void)leg;
    if (memcmp(record->account.data, search->account->bytes, ACCOUNT_ID_SIZE) == 0) {
        search->previous = record->previous; /* its first leg of the entry says */
        search->found = true;
        return ERR_CANCELLED;
    }
    return ERR_OK;
}

/* The entry of the account's history before this one of it. ERR_NOT_FOUND: index is none of it. */
static enum err link_of(struct store_txn *txn, const struct account_id *account, uint64_t index,
                        uint64_t *out_previous)
{
    struct link_search search = {.account = account};
    struct bytes value;
    struct key key = key_of(index);
    enum err err = legs_walk(txn, index, index, link_look, &search);
    if (search.found) {
        *out_previous = search.previous;
        return ERR_OK;
    }
    err = err ? err : store_get(txn, TABLE_SENT, key_bytes(&key), &value, NULL);
    if (err == ERR_OK &&
        (value.size != LINK_SIZE || memcmp(value.data, account->bytes, ACCOUNT_ID_SIZE) != 0)) {
        return ERR_NOT_FOUND;
    }
    *out_previous = err ? 0 : number_at(value.data + ACCOUNT_ID_SIZE, 8);
    return err;
}

enum err settlement_store_account(struct settlement_store *store,
                                  const struct ledger_account *account, uint64_t before,
                                  uint64_t *out_indexes, size_t max, size_t *out_count)
{
    struct store_txn *txn;
    uint64_t at = account == NULL ? 0 : account->last_index;
    size_t count = 0;
    enum err err = read_begin(store, &txn);
    if (err != ERR_OK) {
        return err;
    }
    if (before != 0 && before <= at) { /* the next page: usually, before is an entry of it */
        uint64_t previous;
        at = link_of(txn, &account->id, before, &previous) == ERR_OK ? previous : at;
    }
    while (err == ERR_OK && count < max && at != 0) {
        if (before == 0 || at < before) {
            out_indexes[count++] = at;
        }
        uint64_t previous = 0;
        err = link_of(txn, &account->id, at, &previous);
        err = err == ERR_OK && previous < at ? ERR_OK : ERR_CORRUPT;
        at = previous;
    }
    read_end(store, txn);
    *out_count = count;
    return err;
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
