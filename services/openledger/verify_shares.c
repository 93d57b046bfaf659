/* verify_shares.c - see verify_shares.h. */
#include "services/openledger/verify_shares.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/blob/blob_file.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/shares.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"

/* Bytes under a receipt's id: a receipt, or a share set. */
struct item {
    struct digest id;
    uint8_t *data; /* owned */
    size_t size;
    bool opened;
};

struct items {
    struct item *list;
    size_t count, capacity;
};

struct opened {
    Openledger__V1__Opening *message;
    struct digest receipt;
    char file[64];
};

struct verify_shares {
    const struct verify_shares_options *options;
    struct blob_store *blobs;
    struct pool *pool;
    struct items receipts, sets;
    struct lineage_adapter *adapters; /* with a published index, in log order */
    size_t adapter_count, adapter_capacity;
    struct opened *openings;
    uint32_t opening_count;
    struct lineage_base *base; /* the one used last */
    struct verify_shares_report *report;
};

enum err verify_shares_create(const struct verify_shares_options *options,
                              struct verify_shares **out, struct note *note)
{
    struct verify_shares *shares = calloc(1, sizeof *shares);
    if (shares == NULL) {
        return ERR_NO_MEMORY;
    }
    shares->options = options;
    enum err err = blob_open(options->blob_folder, &shares->blobs, note);
    if (err == ERR_OK) {
        shares->pool = pool_create(options->threads);
        err = shares->pool == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        verify_shares_destroy(shares);
        return err;
    }
    *out = shares;
    return ERR_OK;
}

static void items_deinit(struct items *items)
{
    for (size_t i = 0; i < items->count; i++) {
        free(items->list[i].data);
    }
    free(items->list);
}

void verify_shares_destroy(struct verify_shares *shares)
{
    if (shares == NULL) {
        return;
    }
    items_deinit(&shares->receipts);
    items_deinit(&shares->sets);
    for (size_t i = 0; i < shares->adapter_count; i++) {
        lineage_adapter_deinit(&shares->adapters[i]);
    }
    free(shares->adapters);
    for (uint32_t i = 0; i < shares->opening_count; i++) {
        openledger__v1__opening__free_unpacked(shares->openings[i].message, NULL);
    }
    free(shares->openings);
    lineage_base_destroy(shares->base);
    pool_destroy(shares->pool);
    blob_close(shares->blobs);
    free(shares);
}

/* ---- collecting ---------------------------------------------------------------------------------- */

/* Makes room for one more of size bytes each; false: no memory. */
static bool grow(void **list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return true;
    }
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *larger = realloc(*list, wanted * size);
    if (larger == NULL) {
        return false;
    }
    *list = larger;
    *capacity = wanted;
    return true;
}

static enum err items_add(struct items *items, const struct digest *id, struct bytes bytes)
{
    void *list = items->list;
    if (!grow(&list, items->count, &items->capacity, sizeof *items->list)) {
        return ERR_NO_MEMORY;
    }
    items->list = list;
    struct item item = {.id = *id, .data = malloc(bytes.size + 1), .size = bytes.size};
    if (item.data == NULL) {
        return ERR_NO_MEMORY;
    }
    if (bytes.size > 0) {
        memcpy(item.data, bytes.data, bytes.size);
    }
    items->list[items->count++] = item;
    return ERR_OK;
}

static enum err add_receipts(struct verify_shares *shares, struct bytes blob)
{
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, blob.size, blob.data);
    enum err err = batch == NULL ? ERR_CORRUPT : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < batch->n_receipts; i++) {
        struct digest id;
        struct bytes receipt = ledger_bytes(batch->receipts[i]);
        ledger_receipt_id(receipt, &id);
        err = items_add(&shares->receipts, &id, receipt);
    }
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return err;
}

static enum err add_sets(struct verify_shares *shares, struct bytes blob)
{
    Openledger__V1__ShareBatch *batch =
        openledger__v1__share_batch__unpack(NULL, blob.size, blob.data);
    enum err err = batch == NULL ? ERR_CORRUPT : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < batch->n_sets; i++) {
        struct bytes bytes = ledger_bytes(batch->sets[i]);
        struct digest id;
        Openledger__V1__ShareSet *set =
            openledger__v1__share_set__unpack(NULL, bytes.size, bytes.data);
        err = set == NULL ? ERR_CORRUPT : digest_from_bytes(ledger_bytes(set->receipt), &id);
        openledger__v1__share_set__free_unpacked(set, NULL);
        if (err == ERR_OK) {
            err = items_add(&shares->sets, &id, bytes);
        }
    }
    openledger__v1__share_batch__free_unpacked(batch, NULL);
    return err;
}

static enum err add_batch(struct verify_shares *shares, ProtobufCBinaryData name,
                          enum err (*add)(struct verify_shares *shares, struct bytes blob),
                          struct note *note)
{
    struct digest digest;
    struct buf blob;
    buf_init(&blob, LEDGER_BATCH_BLOB_MAX);
    enum err err = digest_from_bytes(ledger_bytes(name), &digest);
    if (err == ERR_OK) {
        err = blob_get(shares->blobs, &digest, &blob, note);
    }
    if (err == ERR_OK) {
        err = add(shares, buf_bytes(&blob));
    }
    buf_deinit(&blob);
    return err;
}

static enum err add_adapter(struct verify_shares *shares, const struct ledger *ledger,
                            const char *name, struct note *note)
{
    void *list = shares->adapters;
    if (!grow(&list, shares->adapter_count, &shares->adapter_capacity, sizeof *shares->adapters)) {
        return ERR_NO_MEMORY;
    }
    shares->adapters = list;
    enum err err =
        lineage_adapter_init(ledger, name, &shares->adapters[shares->adapter_count], note);
    shares->adapter_count += err == ERR_OK;
    return err;
}

static enum err collect(struct verify_shares *shares, const struct ledger *ledger,
                        const Openledger__V1__TxBody *body, struct note *note)
{
    if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_INDEX) {
        return add_adapter(shares, ledger, body->publish_index->adapter, note);
    }
    if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS) {
        return add_batch(shares, body->settle_receipts->batch, add_receipts, note);
    }
    if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES) {
        return add_batch(shares, body->settle_shares->batch, add_sets, note);
    }
    return ERR_OK;
}

enum err verify_shares_entry(void *context, const struct ledger *ledger,
                             const struct ledger_effects *effects, struct bytes entry,
                             struct note *note)
{
    if (effects->kind != OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_INDEX &&
        effects->kind != OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS &&
        effects->kind != OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES) {
        return ERR_OK;
    }
    Openledger__V1__Entry *outer = openledger__v1__entry__unpack(NULL, entry.size, entry.data);
    Openledger__V1__SignedTx *tx =
        outer == NULL
            ? NULL
            : openledger__v1__signed_tx__unpack(NULL, outer->signed_tx.len, outer->signed_tx.data);
    Openledger__V1__TxBody *body =
        tx == NULL ? NULL : openledger__v1__tx_body__unpack(NULL, tx->body.len, tx->body.data);
    enum err err = body == NULL ? note_set(note, ERR_CORRUPT, "an entry does not decode")
                                : collect(context, ledger, body, note);
    openledger__v1__tx_body__free_unpacked(body, NULL);
    openledger__v1__signed_tx__free_unpacked(tx, NULL);
    openledger__v1__entry__free_unpacked(outer, NULL);
    return err;
}

/* ---- openings ------------------------------------------------------------------------------------ */

static int item_compare(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;
    return digest_compare(&x->id, &y->id);
}

static struct item *items_find(const struct items *items, const struct digest *id)
{
    struct item key = {.id = *id};
    return items->count == 0 ? NULL
                             : bsearch(&key, items->list, items->count, sizeof key, item_compare);
}

/* Reads one opening and checks it against its receipt on the ledger. */
static enum err opening_read(struct verify_shares *shares, const char *name, struct opened *out,
                             struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf data;
    struct opened opened = {.message = NULL};
    Openledger__V1__Receipt *receipt = NULL;
    buf_init(&data, VERIFY_OPENING_SIZE_MAX);
    enum err err = file_path(path, "%s/%s", shares->options->openings_folder, name);
    if (err == ERR_OK) {
        err = file_read(path, &data, note);
    }
    if (err == ERR_OK) {
        opened.message = openledger__v1__opening__unpack(NULL, data.size, data.data);
        err = opened.message == NULL
                  ? ERR_INVALID
                  : digest_from_bytes(ledger_bytes(opened.message->receipt), &opened.receipt);
        err = err == ERR_OK ? ERR_OK : note_set(note, ERR_INVALID, "it is no Opening");
    }
    const struct item *found =
        err == ERR_OK ? items_find(&shares->receipts, &opened.receipt) : NULL;
    if (err == ERR_OK && found == NULL) {
        err = note_set(note, ERR_NOT_FOUND, "its receipt is not on the ledger");
    }
    if (err == ERR_OK && found != NULL) {
        err = ledger_receipt_decode(bytes_of(found->data, found->size), &receipt, note);
    }
    if (err == ERR_OK) {
        err = lineage_opening_check(receipt, &opened.receipt, opened.message, note);
    }
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    buf_deinit(&data);
    if (err != ERR_OK) {
        openledger__v1__opening__free_unpacked(opened.message, NULL);
        return note_wrap(note, err, "opening %.60s", name);
    }
    (void)snprintf(opened.file, sizeof opened.file, "%.63s", name);
    *out = opened;
    return ERR_OK;
}

static enum err openings_read(struct verify_shares *shares, struct note *note)
{
    struct file_names names = {.count = 0};
    enum err err = file_list(shares->options->openings_folder, VERIFY_OPENINGS_MAX, &names, note);
    if (err != ERR_OK) {
        return err;
    }
    shares->openings = calloc(names.count + 1, sizeof *shares->openings);
    shares->opening_count = 0;
    err = shares->openings == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < names.count; i++) {
        err = opening_read(shares, names.items[i], &shares->openings[shares->opening_count], note);
        shares->opening_count += err == ERR_OK;
    }
    shares->report->openings = shares->opening_count;
    file_names_deinit(&names);
    return err;
}

/* ---- deriving ------------------------------------------------------------------------------------ */

static void say(const struct verify_shares *shares, const char *what, uint32_t done, uint32_t total)
{
    if (shares->options->progress != NULL) {
        shares->options->progress(shares->options->context, what, done, total);
    }
}

/* The base's files come out of the store. */
static bool on_loading(void *context, uint64_t done, uint64_t total)
{
    if (total > BLOB_SIZE_MAX) { /* a smaller one is there before a line is read */
        say(context, "loading the base", (uint32_t)(done >> 20), (uint32_t)(total >> 20));
    }
    return true;
}

/* Says how two share sets differ, for people. */
static enum err differ(const struct opened *opened, struct bytes want, struct bytes got,
                       struct note *note)
{
    char id[DIGEST_TEXT_SIZE];
    (void)digest_format(&opened->receipt, id);
    Openledger__V1__ShareSet *ours = openledger__v1__share_set__unpack(NULL, want.size, want.data);
    Openledger__V1__ShareSet *theirs = openledger__v1__share_set__unpack(NULL, got.size, got.data);
    enum err err =
        note_set(note, ERR_CORRUPT, "receipt %s: its shares are not what its opening gives", id);
    for (size_t i = 0; ours != NULL && theirs != NULL; i++) {
        const Openledger__V1__Share *a = i < ours->n_shares ? ours->shares[i] : NULL;
        const Openledger__V1__Share *b = i < theirs->n_shares ? theirs->shares[i] : NULL;
        if (a == NULL && b == NULL) {
            break;
        }
        bool same = a != NULL && b != NULL && a->share_ppb == b->share_ppb &&
                    bytes_equal(ledger_bytes(a->account), ledger_bytes(b->account));
        if (!same) {
            err = note_set(note, ERR_CORRUPT,
                           "receipt %s: share %zu should be %u ppb and was paid as %u ppb", id, i,
                           a == NULL ? 0 : a->share_ppb, b == NULL ? 0 : b->share_ppb);
            break;
        }
    }
    openledger__v1__share_set__free_unpacked(ours, NULL);
    openledger__v1__share_set__free_unpacked(theirs, NULL);
    return err;
}

static enum err check_opening(struct verify_shares *shares, const struct lineage_judge *judge,
                              const struct opened *opened, struct note *note)
{
    struct item *paid = items_find(&shares->sets, &opened->receipt);
    if (paid == NULL) {
        shares->report->unshared++;
        return ERR_OK;
    }
    struct attrib_result result = {.share_count = 0};
    struct buf set;
    buf_init(&set, LINEAGE_SHARE_SET_MAX);
    enum err err = lineage_shares(judge, &opened->receipt, opened->message,
                                  pool_parallel(shares->pool), &result, &set, note);
    if (err == ERR_OK && !bytes_equal(buf_bytes(&set), bytes_of(paid->data, paid->size))) {
        err = differ(opened, buf_bytes(&set), bytes_of(paid->data, paid->size), note);
    }
    if (err == ERR_OK) {
        paid->opened = true;
        shares->report->share_sets++;
    }
    attrib_result_deinit(&result);
    buf_deinit(&set);
    return err;
}

/* Builds an adapter's index again; its bytes must have the digest that was published. */
static enum err rebuild(struct verify_shares *shares, const struct lineage_adapter *origin,
                        const struct lm_adapter *adapter, struct attrib_index **out,
                        struct note *note)
{
    struct buf bytes;
    struct digest digest;
    struct attrib_index *index = NULL;
    const struct lineage_build build = {.blobs = shares->blobs,
                                        .origin = origin,
                                        .base = shares->base,
                                        .adapter = adapter,
                                        .parallel = pool_parallel(shares->pool)};
    buf_init(&bytes, ATTRIB_INDEX_MAX);
    enum err err = lineage_index_build(&build, &index, note);
    if (err == ERR_OK) {
        err = attrib_index_save(index, &bytes);
    }
    if (err == ERR_OK) {
        sha256(buf_bytes(&bytes), &digest);
        if (!digest_equal(&digest, &origin->index)) {
            err =
                note_set(note, ERR_CORRUPT, "the published index is not what model and rows give");
        }
    }
    buf_deinit(&bytes);
    if (err != ERR_OK) {
        attrib_index_destroy(index);
        return err;
    }
    *out = index;
    return ERR_OK;
}

static enum err check_adapter(struct verify_shares *shares, const struct lineage_adapter *origin,
                              struct note *note)
{
    struct lm_adapter *adapter = NULL;
    struct attrib_index *index = NULL;
    enum err err = ERR_OK;
    if (shares->base == NULL || !digest_equal(&shares->base->content, &origin->model_content) ||
        !digest_equal(&shares->base->profile, &origin->model_profile)) {
        lineage_base_destroy(shares->base);
        shares->base = NULL;
        struct blob_progress loading = {.report = on_loading, .context = shares};
        struct lineage_load how = {.profile = &origin->model_profile, .progress = &loading};
        err = lineage_base_load(shares->blobs, &origin->model_content, &how, &shares->base, note);
    }
    if (err == ERR_OK) {
        err = lineage_adapter_load(shares->blobs, shares->base, &origin->content, &adapter, note);
    }
    if (err == ERR_OK) {
        err = rebuild(shares, origin, adapter, &index, note);
    }
    if (err == ERR_OK) {
        shares->report->indexes++;
        shares->report->rows += origin->plan.row_count;
    }
    struct lineage_judge judge = {
        .base = shares->base, .adapter = adapter, .index = index, .index_digest = origin->index};
    for (uint32_t i = 0; err == ERR_OK && i < shares->opening_count; i++) {
        if (strcmp(shares->openings[i].message->adapter, origin->name) == 0) {
            err = check_opening(shares, &judge, &shares->openings[i], note);
        }
    }
    lm_adapter_destroy(adapter);
    attrib_index_destroy(index);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "adapter %s", origin->name);
}

enum err verify_shares_run(struct verify_shares *shares, struct verify_shares_report *out_report,
                           struct note *note)
{
    *out_report = (struct verify_shares_report){.indexes = 0};
    shares->report = out_report;
    if (shares->receipts.count > 0) {
        qsort(shares->receipts.list, shares->receipts.count, sizeof *shares->receipts.list,
              item_compare);
    }
    if (shares->sets.count > 0) {
        qsort(shares->sets.list, shares->sets.count, sizeof *shares->sets.list, item_compare);
    }
    enum err err = openings_read(shares, note);
    for (size_t i = 0; err == ERR_OK && i < shares->adapter_count; i++) {
        say(shares, shares->adapters[i].name, (uint32_t)i, (uint32_t)shares->adapter_count);
        err = check_adapter(shares, &shares->adapters[i], note);
    }
    for (size_t i = 0; i < shares->sets.count; i++) {
        out_report->unopened += !shares->sets.list[i].opened;
    }
    say(shares, "", (uint32_t)shares->adapter_count, (uint32_t)shares->adapter_count);
    return err;
}
