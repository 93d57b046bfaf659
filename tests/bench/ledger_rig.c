/* ledger_rig.c - see ledger_bench.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"
#include "tests/bench/ledger_bench.h"

enum { SEAL_MS = 1000, DEADLINE_BLOCKS = 100 };

static void must(enum err err, const struct note *note, const char *what)
{
    if (err != ERR_OK) {
        (void)fprintf(stderr, "bench_ledger: %s: %s: %s\n", what, err_name(err), note->text);
        abort();
    }
}

static uint64_t random_next(struct rig *rig) /* splitmix64 */
{
    uint64_t z = rig->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct buf *txs_next(struct signed_txs *txs)
{
    if ((txs->count & (txs->count - 1)) == 0) {
        size_t capacity = txs->count == 0 ? 1 : 2 * txs->count;
        txs->items = realloc(txs->items, capacity * sizeof *txs->items);
        CHECK(txs->items != NULL);
    }
    struct buf *out = &txs->items[txs->count++];
    buf_init(out, LEDGER_ENTRY_MAX);
    return out;
}

void signed_txs_free(struct signed_txs *txs)
{
    for (size_t i = 0; i < txs->count; i++) {
        buf_deinit(&txs->items[i]);
    }
    free(txs->items);
    *txs = (struct signed_txs){.count = 0};
}

static void build(struct rig *rig, const struct account_id *id, const struct key_pair *keys,
                  Openledger__V1__TxBody *action, struct signed_txs *txs)
{
    uint8_t nonce[LEDGER_NONCE_SIZE] = {1};
    struct ledger_head head;
    ledger_head(rig->world->ledger, &head);
    rig->nonce++;
    memcpy(nonce + 8, &rig->nonce, sizeof rig->nonce);
    struct ledger_tx tx =
        ledger_tx_at(&head.chain_id, id, clock_real_ms(), LEDGER_TX_VALIDITY_MS, nonce);
    CHECK(ledger_tx_build(&tx, action, keys, txs_next(txs), &rig->world->tx) == ERR_OK);
}

void rig_build(struct rig *rig, uint32_t signer, Openledger__V1__TxBody *action,
               struct signed_txs *txs)
{
    build(rig, &rig->ids[signer], rig->signers[signer], action, txs);
}

void rig_build_world(struct rig *rig, enum world_who who, Openledger__V1__TxBody *action,
                     struct signed_txs *txs)
{
    build(rig, &rig->world->ids[who], rig->world->keys[who], action, txs);
}

static void item_put(struct buf *items, const struct account_id *to, struct amount amount)
{
    uint8_t bytes[AMOUNT_BYTES];
    amount_to_bytes(amount, bytes);
    CHECK(buf_append(items, to->bytes, ACCOUNT_ID_SIZE) == ERR_OK);
    CHECK(buf_append(items, bytes, sizeof bytes) == ERR_OK);
}

static struct account_id account(uint64_t number)
{
    struct account_id id = {{0xac}};
    memcpy(id.bytes + 8, &number, sizeof number);
    return id;
}

static struct account_id receiver(struct rig *rig, uint64_t accounts)
{
    return account(random_next(rig) % accounts);
}

static void batch_build(struct rig *rig, const struct buf *items, uint32_t signer,
                        struct signed_txs *txs)
{
    Openledger__V1__TransferBatch batch = OPENLEDGER__V1__TRANSFER_BATCH__INIT;
    batch.items = ledger_binary(items->data, items->size);
    WORLD_ACTION(body, TRANSFER_BATCH, transfer_batch, &batch);
    rig_build(rig, signer, &body, txs);
}

void load_batches(struct rig *rig, uint64_t accounts, size_t count, struct signed_txs *txs)
{
    struct buf items;
    buf_init(&items, LEDGER_ENTRY_MAX);
    for (size_t i = 0; i < count; i++) {
        buf_clear(&items);
        for (uint32_t k = 0; k < BENCH_BATCH; k++) {
            struct account_id to = receiver(rig, accounts);
            item_put(&items, &to, (struct amount){.low = 1});
        }
        batch_build(rig, &items, (uint32_t)(i % BENCH_SIGNERS), txs);
    }
    buf_deinit(&items);
}

void load_openings(struct rig *rig, uint64_t first, size_t count, struct signed_txs *txs)
{
    struct buf items;
    buf_init(&items, LEDGER_ENTRY_MAX);
    for (size_t i = 0; i < count; i++) {
        buf_clear(&items);
        for (uint32_t k = 0; k < BENCH_BATCH; k++) {
            struct account_id to = account(first++);
            item_put(&items, &to, (struct amount){.low = 1});
        }
        batch_build(rig, &items, (uint32_t)(i % BENCH_SIGNERS), txs);
    }
    buf_deinit(&items);
}

void load_singles(struct rig *rig, uint64_t accounts, size_t count, struct signed_txs *txs)
{
    for (size_t i = 0; i < count; i++) {
        struct account_id to = receiver(rig, accounts);
        Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
        transfer.to = ledger_binary(to.bytes, ACCOUNT_ID_SIZE);
        transfer.amount = world_text("0.000000000000000001");
        WORLD_ACTION(body, TRANSFER, transfer, &transfer);
        rig_build(rig, (uint32_t)(i % BENCH_SIGNERS), &body, txs);
    }
}

/* ---- life --------------------------------------------------------------------------------------- */

static void start(struct rig *rig)
{
    char path[FILE_PATH_SIZE];
    struct note note = {""};
    must(file_path(path, "%s/settlement", rig->folder), &note, "path");
    const struct settlement_options options = {.folder = path,
                                               .genesis = buf_bytes(&rig->world->genesis),
                                               .blobs = rig->blobs,
                                               .sequencer = rig->world->sequencer,
                                               .parallel = pool_parallel(rig->pool)};
    must(settlement_open(&options, &rig->settlement, &note), &note, "open");
}

void rig_restart(struct rig *rig)
{
    settlement_close(rig->settlement);
    start(rig);
}

static void fund(struct rig *rig)
{
    struct signed_txs txs = {.count = 0};
    struct buf items;
    buf_init(&items, LEDGER_ENTRY_MAX);
    for (uint32_t i = 0; i < BENCH_SIGNERS; i++) {
        rig->signers[i] = key_pair_create();
        account_id_from_key(key_pair_public(rig->signers[i]), &rig->ids[i]);
        item_put(&items, &rig->ids[i], amount_from_open(1000000));
    }
    Openledger__V1__TransferBatch batch = OPENLEDGER__V1__TRANSFER_BATCH__INIT;
    batch.items = ledger_binary(items.data, items.size);
    WORLD_ACTION(body, TRANSFER_BATCH, transfer_batch, &batch);
    rig_build_world(rig, WORLD_PLATFORM, &body, &txs);
    for (uint32_t i = 0; i < BENCH_SIGNERS; i++) {
        Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
        open.key = ledger_binary(key_pair_public(rig->signers[i])->bytes, PUBLIC_KEY_SIZE);
        open.name = world_text("");
        WORLD_ACTION(opening, OPEN_ACCOUNT, open_account, &open);
        rig_build(rig, i, &opening, &txs);
    }
    (void)rig_run(rig, &txs, BENCH_CLIENTS);
    buf_deinit(&items);
    signed_txs_free(&txs);
}

void rig_open(struct rig *rig)
{
    char path[FILE_PATH_SIZE];
    struct note note = {""};
    const char *below = getenv("TMPDIR");
    *rig = (struct rig){.random = 20261124};
    rig->world = world_create_with(clock_real_ms() - 2000, DEADLINE_BLOCKS, true);
    must(file_path(path, "%s/openledger-bench-", below == NULL ? "/tmp" : below), &note, "path");
    must(file_make_private_folder(path, rig->folder, &note), &note, "folder");
    must(file_path(path, "%s/blobs", rig->folder), &note, "path");
    must(blob_open(path, &rig->blobs, &note), &note, "blobs");
    must(file_path(path, "%s/genesis.json", rig->folder), &note, "path");
    must(file_write_quick(path, buf_bytes(&rig->world->genesis), 0600, &note), &note, "genesis");
    rig->pool = pool_create(pool_cores());
    CHECK(rig->pool != NULL);
    start(rig);
    fund(rig);
}

void rig_close(struct rig *rig)
{
    settlement_close(rig->settlement);
    blob_close(rig->blobs);
    pool_destroy(rig->pool);
    world_destroy(rig->world);
    for (uint32_t i = 0; i < BENCH_SIGNERS; i++) {
        key_pair_destroy(rig->signers[i]);
    }
    struct note note = {""};
    must(file_remove_tree(rig->folder, &note), &note, "remove");
}

/* ---- driving ------------------------------------------------------------------------------------ */

static void seal_when_due(struct rig *rig, bool now)
{
    struct note note = {""};
    if (now || clock_mono_ms() - rig->sealed_ms >= SEAL_MS) {
        rig->sealed_ms = clock_mono_ms();
        must(settlement_seal(rig->settlement, clock_real_ms(), &note), &note, "seal");
    }
}

static void submit(struct rig *rig, const struct signed_txs *txs, size_t first, size_t count)
{
    static struct settlement_submission items[SETTLEMENT_GROUP_MAX];
    struct note note = {""};
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct settlement_submission){.signed_tx = buf_bytes(&txs->items[first + i])};
    }
    settlement_submit_many(rig->settlement, items, count, clock_real_ms());
    for (size_t i = 0; i < count; i++) {
        must(items[i].err, &items[i].note, "submit");
        CHECK(!items[i].result.repeated);
    }
    must(settlement_sync(rig->settlement, &note), &note, "sync");
}

double rig_run(struct rig *rig, const struct signed_txs *txs, size_t group)
{
    rig->sealed_ms = clock_mono_ms();
    uint64_t begin_us = clock_mono_us();
    for (size_t i = 0; i < txs->count; i += group) {
        submit(rig, txs, i, txs->count - i < group ? txs->count - i : group);
        seal_when_due(rig, false);
    }
    seal_when_due(rig, true);
    return (double)(clock_mono_us() - begin_us) / 1e6;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Who serves what arrives: `serve` ends when the answers are out, `after` does what nobody waits for. */
struct server {
    void (*serve)(void *context, size_t first, size_t count);
    void (*after)(void *context);
    void *context;
};

static void pace(const struct server *server, size_t all, double per_s, double *out_ms)
{
    uint64_t begin_us = clock_mono_us();
    for (size_t done = 0; done < all;) {
        double elapsed_us = (double)(clock_mono_us() - begin_us);
        size_t due = (size_t)(elapsed_us * per_s / 1e6) + 1;
        due = due > all ? all : due;
        if (due == done) {
            continue; /* nobody sleeps through a microsecond */
        }
        size_t count = due - done < SETTLEMENT_GROUP_MAX ? due - done : SETTLEMENT_GROUP_MAX;
        server->serve(server->context, done, count);
        elapsed_us = (double)(clock_mono_us() - begin_us);
        for (size_t i = 0; i < count; i++) {
            out_ms[done + i] = (elapsed_us - (double)(done + i) / per_s * 1e6) / 1e3;
        }
        done += count;
        server->after(server->context);
    }
    qsort(out_ms, all, sizeof *out_ms, by_value);
}

struct ledger_server {
    struct rig *rig;
    const struct signed_txs *txs;
};

static void ledger_serve(void *context, size_t first, size_t count)
{
    const struct ledger_server *server = context;
    submit(server->rig, server->txs, first, count);
}

static void ledger_after(void *context)
{
    const struct ledger_server *server = context;
    seal_when_due(server->rig, false);
}

void rig_pace(struct rig *rig, const struct signed_txs *txs, double per_s, double *out_ms)
{
    struct ledger_server context = {rig, txs};
    const struct server server = {ledger_serve, ledger_after, &context};
    rig->sealed_ms = clock_mono_ms();
    pace(&server, txs->count, per_s, out_ms);
}

static void spin(size_t count)
{
    static volatile uint64_t kept = 1;
    for (size_t i = 0; i < count; i++) {
        kept = kept * UINT64_C(6364136223846793005) + 1;
    }
}

static void machine_serve(void *context, size_t first, size_t count)
{
    (void)first;
    spin(count * *(const size_t *)context);
}

static void machine_after(void *context)
{
    (void)context;
}

void rig_pace_machine(size_t count, double per_s, double busy, double *out_ms)
{
    enum { TRY = 100000, TRIES = 50 };
    uint64_t best_us = UINT64_MAX; /* undisturbed */
    for (int i = 0; i < TRIES; i++) {
        uint64_t begin_us = clock_mono_us();
        spin(TRY);
        uint64_t took_us = clock_mono_us() - begin_us;
        best_us = took_us < best_us ? took_us : best_us;
    }
    size_t each = (size_t)(busy / per_s * 1e6 * TRY / (double)best_us);
    const struct server server = {machine_serve, machine_after, &each};
    pace(&server, count, per_s, out_ms);
}

uint64_t rig_size(const struct rig *rig, const char *part)
{
    char folder[FILE_PATH_SIZE];
    struct note note = {""};
    struct buf out;
    int exit_code = 0;
    uint64_t size = 0;
    must(file_path(folder, "%s/%s", rig->folder, part), &note, "path");
    buf_init(&out, 256);
    const char *const argv[] = {"du", "-sb", folder, NULL};
    must(process_output(argv, 60000, &out, &exit_code, &note), &note, "du");
    size = strtoull(buf_text(&out), NULL, 10);
    buf_deinit(&out);
    return size;
}
