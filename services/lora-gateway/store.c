/* store.c - see store.h.
 *
 *   KEYS         SHA-256 of a key        -> grant
 *   RECEIPTS     receipt id              -> journal index, u64 BE
 *   IDEMPOTENCY  digest of grant and key -> body digest, journal index u64 BE
 *   META         "applied", "published", "settled"  -> journal index, u64 BE */
#include "services/lora-gateway/store.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/store/store.h"

#define FOLLOW_MAX 4096 /* records in one transaction */

enum { KEYS, RECEIPTS, IDEMPOTENCY, META, TABLE_COUNT };
static const char *const TABLES[TABLE_COUNT] = {"keys", "receipts", "idempotency", "meta"};

struct gateway_store {
    struct store *store;
    uint64_t applied;
    struct gateway_progress progress;
};

static struct bytes digest_key(const struct digest *digest)
{
    return bytes_of(digest->bytes, DIGEST_SIZE);
}

static enum err read_number(struct store_txn *txn, const char *name, uint64_t *out,
                            struct note *note)
{
    struct bytes value;
    enum err err = store_get(txn, META, bytes_of_text(name), &value, note);
    if (err == ERR_NOT_FOUND) {
        *out = 0;
        return ERR_OK;
    }
    return err != ERR_OK ? err : store_key_u64_parse(value, out);
}

static enum err write_number(struct store_txn *txn, const char *name, uint64_t value,
                             struct note *note)
{
    struct store_key_u64 number = store_key_u64(value);
    return store_put(txn, META, bytes_of_text(name), bytes_of(number.bytes, sizeof number.bytes),
                     note);
}

enum err gateway_store_open(const char *folder, struct gateway_store **out, struct note *note)
{
    struct gateway_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    struct store_options options = {.folder = folder, .tables = TABLES, .table_count = TABLE_COUNT};
    struct store_txn *txn = NULL;
    struct note why = {""};
    bool anew = false;
    enum err err = store_open_anew(&options, &store->store, &anew, &why);
    if (err != ERR_OK) {
        (void)note_set(note, err, "%s", why.text);
    } else if (anew) {
        log_warn("index_anew note=\"%s\" now=\"deleted, and made again from the journal\"",
                 why.text);
        err = store_aside_remove(folder, note);
    }
    if (err == ERR_OK) {
        err = store_begin(store->store, STORE_READ, &txn, note);
    }
    if (err == ERR_OK) {
        err = read_number(txn, "applied", &store->applied, note);
    }
    if (err == ERR_OK) {
        err = read_number(txn, "published", &store->progress.published, note);
    }
    if (err == ERR_OK) {
        err = read_number(txn, "settled", &store->progress.settled, note);
    }
    store_abort(txn);
    if (err != ERR_OK) {
        gateway_store_close(store);
        return err;
    }
    *out = store;
    return ERR_OK;
}

void gateway_store_close(struct gateway_store *store)
{
    if (store != NULL) {
        store_close(store->store);
        free(store);
    }
}

/* ---- following the journal ---------------------------------------------------------------------- */

enum err gateway_record_decode(struct bytes data, Openledger__V1__GatewayRecord **out,
                               struct note *note)
{
    *out = openledger__v1__gateway_record__unpack(NULL, data.size, data.data);
    return *out != NULL ? ERR_OK : note_set(note, ERR_CORRUPT, "journal record is malformed");
}

enum err gateway_record_read(struct journal *journal, uint64_t index,
                             Openledger__V1__GatewayRecord **out, struct note *note)
{
    struct buf data;
    buf_init(&data, JOURNAL_RECORD_MAX);
    enum err err = journal_read(journal, index, &data, note);
    if (err == ERR_OK) {
        err = gateway_record_decode(buf_bytes(&data), out, note);
    }
    buf_deinit(&data);
    return err;
}

static enum err index_key(struct store_txn *txn, const Openledger__V1__GatewayKey *key,
                          struct note *note)
{
    if (key->revoked) {
        enum err err = store_remove(txn, KEYS, ledger_bytes(key->hash), note);
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    return store_put(txn, KEYS, ledger_bytes(key->hash), ledger_bytes(key->grant), note);
}

static enum err index_finished(struct store_txn *txn, uint64_t index,
                               const Openledger__V1__GatewayFinished *finished, struct note *note)
{
    struct digest id;
    uint8_t value[DIGEST_SIZE + 8];
    struct store_key_u64 number = store_key_u64(index);
    ledger_receipt_id(ledger_bytes(finished->receipt), &id);
    enum err err = store_put(txn, RECEIPTS, digest_key(&id),
                             bytes_of(number.bytes, sizeof number.bytes), note);
    /* A void served nothing, so its idempotency key may be tried again. */
    if (err == ERR_OK && finished->idempotency.len > 0 && finished->opening.len > 0 &&
        finished->body.len == DIGEST_SIZE) {
        memcpy(value, finished->body.data, DIGEST_SIZE);
        memcpy(value + DIGEST_SIZE, number.bytes, sizeof number.bytes);
        err = store_put(txn, IDEMPOTENCY, ledger_bytes(finished->idempotency),
                        bytes_of(value, sizeof value), note);
    }
    return err;
}

static enum err index_record(struct store_txn *txn, struct journal *journal, uint64_t index,
                             struct note *note)
{
    Openledger__V1__GatewayRecord *record = NULL;
    enum err err = gateway_record_read(journal, index, &record, note);
    if (err != ERR_OK) {
        return err;
    }
    if (record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_KEY) {
        err = index_key(txn, record->key, note);
    } else if (record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED) {
        err = index_finished(txn, index, record->finished, note);
    }
    openledger__v1__gateway_record__free_unpacked(record, NULL);
    return err;
}

static enum err start_over(struct gateway_store *store, struct note *note)
{
    struct store_txn *txn;
    enum err err = store_begin(store->store, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t table = 0; table < TABLE_COUNT && err == ERR_OK; table++) {
        err = store_clear(txn, table, note);
    }
    if (err != ERR_OK) {
        store_abort(txn);
        return err;
    }
    err = store_commit(txn, note);
    if (err == ERR_OK) {
        store->applied = 0;
        store->progress = (struct gateway_progress){0};
    }
    return err;
}

enum err gateway_store_follow(struct gateway_store *store, struct journal *journal,
                              struct note *note)
{
    uint64_t count = journal_synced_count(journal);
    enum err err = store->applied > count ? start_over(store, note) : ERR_OK;
    while (err == ERR_OK && store->applied < count) {
        uint64_t end = count - store->applied > FOLLOW_MAX ? store->applied + FOLLOW_MAX : count;
        struct store_txn *txn;
        err = store_begin(store->store, STORE_WRITE, &txn, note);
        if (err != ERR_OK) {
            return err;
        }
        for (uint64_t index = store->applied; index < end && err == ERR_OK; index++) {
            err = index_record(txn, journal, index, note);
        }
        if (err == ERR_OK) {
            err = write_number(txn, "applied", end, note);
        }
        if (err != ERR_OK) {
            store_abort(txn);
            return err;
        }
        err = store_commit(txn, note);
        if (err == ERR_OK) {
            store->applied = end;
        }
    }
    return err;
}

/* ---- looking up --------------------------------------------------------------------------------- */

/* Copies the value of key, which must have exactly size bytes. */
static enum err look_up(struct gateway_store *store, uint32_t table, struct bytes key, void *out,
                        size_t size, struct note *note)
{
    struct store_txn *txn;
    struct bytes value;
    enum err err = store_begin(store->store, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_get(txn, table, key, &value, note);
    if (err == ERR_OK && value.size != size) {
        err = note_set(note, ERR_CORRUPT, "%s holds %zu bytes where %zu belong", TABLES[table],
                       value.size, size);
    }
    if (err == ERR_OK) {
        memcpy(out, value.data, size);
    }
    store_abort(txn);
    return err;
}

enum err gateway_store_key(struct gateway_store *store, const struct digest *hash,
                           struct digest *out_grant, struct note *note)
{
    return look_up(store, KEYS, digest_key(hash), out_grant->bytes, DIGEST_SIZE, note);
}

enum err gateway_store_receipt(struct gateway_store *store, const struct digest *receipt,
                               uint64_t *out_index, struct note *note)
{
    uint8_t value[8];
    enum err err = look_up(store, RECEIPTS, digest_key(receipt), value, sizeof value, note);
    return err != ERR_OK ? err : store_key_u64_parse(bytes_of(value, sizeof value), out_index);
}

enum err gateway_store_idempotent(struct gateway_store *store, const struct digest *idempotency,
                                  struct digest *out_body, uint64_t *out_index, struct note *note)
{
    uint8_t value[DIGEST_SIZE + 8];
    enum err err = look_up(store, IDEMPOTENCY, digest_key(idempotency), value, sizeof value, note);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(out_body->bytes, value, DIGEST_SIZE);
    return store_key_u64_parse(bytes_of(value + DIGEST_SIZE, 8), out_index);
}

struct gateway_progress gateway_store_progress(const struct gateway_store *store)
{
    return store->progress;
}

enum err gateway_store_set_progress(struct gateway_store *store,
                                    const struct gateway_progress *progress, struct note *note)
{
    CHECK(progress->settled <= progress->published);
    struct store_txn *txn;
    enum err err = store_begin(store->store, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = write_number(txn, "published", progress->published, note);
    if (err == ERR_OK) {
        err = write_number(txn, "settled", progress->settled, note);
    }
    if (err != ERR_OK) {
        store_abort(txn);
        return err;
    }
    err = store_commit(txn, note);
    if (err == ERR_OK) {
        store->progress = *progress;
    }
    return err;
}
