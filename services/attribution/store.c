/* store.c - see store.h; on shared/store. Numbers in keys are big-endian. */
#include "services/attribution/store.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/log.h"
#include "shared/store/store.h"

enum table { TABLE_EVIDENCE, TABLE_PENDING, TABLE_OUTBOX, TABLE_PARKED, TABLE_COUNT };

static const char *const TABLES[TABLE_COUNT] = {"evidence", "pending", "outbox", "parked"};

#define EVIDENCE_MAX (1U << 20)
#define OUTBOX_MAX (64U + STORE_BATCH_MAX * DIGEST_SIZE)

struct attribution_store {
    struct store *db;
};

enum err attribution_store_open(const char *folder, struct attribution_store **out,
                                struct note *note)
{
    struct attribution_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    struct store_options options = {
        .folder = folder, .tables = TABLES, .table_count = TABLE_COUNT, .durable = true};
    struct note why = {""};
    bool anew = false;
    enum err err = store_open_anew(&options, &store->db, &anew, &why);
    if (err != ERR_OK) {
        free(store);
        return note_set(note, err, "%s", why.text);
    }
    if (anew) {
        log_warn(
            "store_anew note=\"%s\" now=\"answers whose shares the ledger waits for come again "
            "from the gateways; rows behind answers settled before are not shown\"",
            why.text);
    }
    *out = store;
    return ERR_OK;
}

void attribution_store_close(struct attribution_store *store)
{
    if (store != NULL) {
        store_close(store->db);
        free(store);
    }
}

/* Commits when all went well, else drops the transaction. */
static enum err finish(struct store_txn *txn, enum err err, struct note *note)
{
    if (err != ERR_OK) {
        store_abort(txn);
        return err;
    }
    return store_commit(txn, note);
}

static struct bytes key_of(const struct digest *digest)
{
    return digest_bytes(digest);
}

/* ---- reading -------------------------------------------------------------------------------------- */

enum err attribution_store_counts(struct attribution_store *store, struct attribution_counts *out,
                                  struct note *note)
{
    struct store_txn *txn = NULL;
    struct attribution_counts counts = {0};
    enum err err = store_begin(store->db, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_count(txn, TABLE_EVIDENCE, &counts.answers, note);
    if (err == ERR_OK) {
        err = store_count(txn, TABLE_PENDING, &counts.pending, note);
    }
    if (err == ERR_OK) {
        err = store_count(txn, TABLE_PARKED, &counts.parked, note);
    }
    store_abort(txn);
    if (err == ERR_OK) {
        *out = counts;
    }
    return err;
}

enum err attribution_store_evidence(struct attribution_store *store, const struct digest *receipt,
                                    struct buf *out, struct note *note)
{
    struct store_txn *txn = NULL;
    struct bytes value;
    enum err err = store_begin(store->db, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_get(txn, TABLE_EVIDENCE, key_of(receipt), &value, note);
    if (err == ERR_OK) {
        err = buf_append_bytes(out, value);
    }
    store_abort(txn);
    return err;
}

enum err attribution_store_known(struct attribution_store *store, const struct digest *receipt,
                                 bool *out, struct note *note)
{
    struct store_txn *txn = NULL;
    struct bytes value;
    enum err err = store_begin(store->db, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_get(txn, TABLE_EVIDENCE, key_of(receipt), &value, note);
    if (err == ERR_NOT_FOUND) {
        err = store_get(txn, TABLE_PARKED, key_of(receipt), &value, note);
    }
    store_abort(txn);
    if (err == ERR_OK || err == ERR_NOT_FOUND) {
        *out = err == ERR_OK;
        err = ERR_OK;
    }
    return err;
}

static enum err pending_copy(const struct digest *receipt, struct bytes set,
                             struct attribution_pending *out)
{
    uint8_t *copy = malloc(set.size + 1);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, set.data, set.size);
    *out = (struct attribution_pending){.receipt = *receipt, .set = copy, .size = set.size};
    return ERR_OK;
}

/* Where pending sets are copied to: the caller's array, with room for max. */
struct pending_list {
    struct attribution_pending *items;
    uint32_t max, count;
};

/* Appends the pending sets of one side of `after` to list: those behind it, or up to it. */
static enum err pending_side(struct store_txn *txn, const struct digest *after, bool behind,
                             struct pending_list *list, struct note *note)
{
    struct store_cursor *cursor = NULL;
    struct bytes first = behind ? key_of(after) : (struct bytes){.size = 0};
    enum err err = store_cursor_open(txn, TABLE_PENDING, first, false, &cursor, note);
    while (err == ERR_OK && list->count < list->max) {
        struct bytes key;
        struct bytes set;
        struct digest receipt;
        err = store_cursor_next(cursor, &key, &set, note);
        err = err ? err : digest_from_bytes(key, &receipt);
        int order = err ? 0 : memcmp(receipt.bytes, after->bytes, DIGEST_SIZE);
        if (!behind && order > 0) {
            break;
        }
        if (err == ERR_OK && (!behind || order > 0)) {
            err = pending_copy(&receipt, set, &list->items[list->count]);
            list->count += err == ERR_OK;
        }
    }
    store_cursor_close(cursor);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err attribution_store_pending(struct attribution_store *store, const struct digest *after,
                                   uint32_t max, struct attribution_pending *out,
                                   uint32_t *out_count, struct note *note)
{
    struct store_txn *txn = NULL;
    struct pending_list list = {.items = out, .max = max};
    enum err err = store_begin(store->db, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = pending_side(txn, after, true, &list, note);
    if (err == ERR_OK) {
        err = pending_side(txn, after, false, &list, note);
    }
    store_abort(txn);
    if (err == ERR_OK) {
        *out_count = list.count;
        return ERR_OK;
    }
    for (uint32_t i = 0; i < list.count; i++) {
        free(out[i].set);
    }
    return err;
}

/* ---- writing -------------------------------------------------------------------------------------- */

enum err attribution_store_answer(struct attribution_store *store, const struct digest *receipt,
                                  struct bytes evidence, struct bytes share_set, struct note *note)
{
    struct store_txn *txn = NULL;
    enum err err = store_begin(store->db, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_put(txn, TABLE_EVIDENCE, key_of(receipt), evidence, note);
    if (err == ERR_OK) {
        err = store_put(txn, TABLE_PENDING, key_of(receipt), share_set, note);
    }
    return finish(txn, err, note);
}

enum err attribution_store_park(struct attribution_store *store, const struct digest *key,
                                const char *reason, struct note *note)
{
    struct store_txn *txn = NULL;
    enum err err = store_begin(store->db, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_put(txn, TABLE_PARKED, key_of(key), bytes_of_text(reason), note);
    return finish(txn, err, note);
}

static enum err forget(struct store_txn *txn, enum table table, struct bytes key, struct note *note)
{
    enum err err = store_remove(txn, table, key, note);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err attribution_store_drop(struct attribution_store *store, const struct digest *receipts,
                                uint32_t count, struct note *note)
{
    struct store_txn *txn = NULL;
    enum err err = store_begin(store->db, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        err = forget(txn, TABLE_PENDING, key_of(&receipts[i]), note);
    }
    return finish(txn, err, note);
}

/* ---- the outbox ------------------------------------------------------------------------------------ */

static void batch_encode(const struct attribution_batch *batch, struct buf *out)
{
    (void)buf_append(out, batch->digest.bytes, DIGEST_SIZE);
    (void)buf_append_u64le(out, batch->announced_ms);
    (void)buf_append_u32le(out, batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        (void)buf_append(out, batch->receipts[i].bytes, DIGEST_SIZE);
    }
}

static enum err batch_decode(struct bytes in, struct attribution_batch *out)
{
    bool ok = bytes_take_copy(&in, out->digest.bytes, DIGEST_SIZE) == ERR_OK &&
              bytes_take_u64le(&in, &out->announced_ms) == ERR_OK &&
              bytes_take_u32le(&in, &out->count) == ERR_OK && out->count <= STORE_BATCH_MAX;
    for (uint32_t i = 0; ok && i < out->count; i++) {
        ok = bytes_take_copy(&in, out->receipts[i].bytes, DIGEST_SIZE) == ERR_OK;
    }
    return ok && in.size == 0 ? ERR_OK : ERR_CORRUPT;
}

static enum err batch_put(struct store_txn *txn, const struct attribution_batch *batch,
                          struct note *note)
{
    struct buf value;
    buf_init(&value, OUTBOX_MAX);
    batch_encode(batch, &value);
    struct store_key_u64 key = store_key_u64(batch->number);
    enum err err = buf_err(&value);
    if (err == ERR_OK) {
        err = store_put(txn, TABLE_OUTBOX, bytes_of(key.bytes, sizeof key.bytes), buf_bytes(&value),
                        note);
    }
    buf_deinit(&value);
    return err;
}

/* The number after the last one in use. */
static enum err next_number(struct store_txn *txn, uint64_t *out, struct note *note)
{
    struct store_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    enum err err =
        store_cursor_open(txn, TABLE_OUTBOX, (struct bytes){.size = 0}, true, &cursor, note);
    *out = 1;
    if (err == ERR_OK) {
        err = store_cursor_next(cursor, &key, &value, note);
        if (err == ERR_OK) {
            err = store_key_u64_parse(key, out);
            *out += 1;
        } else if (err == ERR_NOT_FOUND) {
            err = ERR_OK;
        }
    }
    store_cursor_close(cursor);
    return err;
}

enum err attribution_store_batch(struct attribution_store *store, const struct digest *digest,
                                 const struct digest *receipts, uint32_t count,
                                 enum err (*edit)(struct bytes evidence, const struct digest *batch,
                                                  struct buf *out),
                                 struct note *note)
{
    struct store_txn *txn = NULL;
    struct attribution_batch *batch = calloc(1, sizeof *batch);
    struct buf edited;
    buf_init(&edited, EVIDENCE_MAX);
    enum err err = batch == NULL ? ERR_NO_MEMORY : store_begin(store->db, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        free(batch);
        return err;
    }
    batch->digest = *digest;
    batch->count = count;
    memcpy(batch->receipts, receipts, count * sizeof *receipts);
    err = next_number(txn, &batch->number, note);
    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        struct bytes evidence;
        err = store_get(txn, TABLE_EVIDENCE, key_of(&receipts[i]), &evidence, note);
        if (err == ERR_OK) {
            buf_clear(&edited);
            err = edit(evidence, digest, &edited);
        }
        if (err == ERR_OK) {
            err = store_put(txn, TABLE_EVIDENCE, key_of(&receipts[i]), buf_bytes(&edited), note);
        }
        if (err == ERR_OK) {
            err = forget(txn, TABLE_PENDING, key_of(&receipts[i]), note);
        }
    }
    if (err == ERR_OK) {
        err = batch_put(txn, batch, note);
    }
    buf_deinit(&edited);
    free(batch);
    return finish(txn, err, note);
}

enum err attribution_store_outbox(struct attribution_store *store, uint64_t from,
                                  struct attribution_batch *out, struct note *note)
{
    struct store_txn *txn = NULL;
    struct store_cursor *cursor = NULL;
    struct store_key_u64 first = store_key_u64(from);
    struct bytes key;
    struct bytes value;
    enum err err = store_begin(store->db, STORE_READ, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = store_cursor_open(txn, TABLE_OUTBOX, bytes_of(first.bytes, sizeof first.bytes), false,
                            &cursor, note);
    if (err == ERR_OK) {
        err = store_cursor_next(cursor, &key, &value, note);
    }
    if (err == ERR_OK) {
        err = store_key_u64_parse(key, &out->number);
    }
    if (err == ERR_OK) {
        err = batch_decode(value, out);
    }
    store_cursor_close(cursor);
    store_abort(txn);
    return err;
}

enum err attribution_store_announced(struct attribution_store *store,
                                     const struct attribution_batch *batch, struct note *note)
{
    struct store_txn *txn = NULL;
    enum err err = store_begin(store->db, STORE_WRITE, &txn, note);
    return err != ERR_OK ? err : finish(txn, batch_put(txn, batch, note), note);
}

enum err attribution_store_settle(struct attribution_store *store, uint64_t number,
                                  const struct attribution_pending *sets, uint32_t count,
                                  struct note *note)
{
    struct store_txn *txn = NULL;
    struct store_key_u64 key = store_key_u64(number);
    enum err err = store_begin(store->db, STORE_WRITE, &txn, note);
    if (err != ERR_OK) {
        return err;
    }
    err = forget(txn, TABLE_OUTBOX, bytes_of(key.bytes, sizeof key.bytes), note);
    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        err = store_put(txn, TABLE_PENDING, key_of(&sets[i].receipt),
                        bytes_of(sets[i].set, sets[i].size), note);
    }
    return finish(txn, err, note);
}
