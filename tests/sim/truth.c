/* truth.c - see truth.h. */
#include "tests/sim/truth.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/proof.h"
#include "shared/merkle/merkle.h"
#include "tests/sim/attributions.h"
#include "tests/sim/disk.h"

static void wrong(struct truth *truth, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void wrong(struct truth *truth, const char *format, ...)
{
    if (truth->report->failure[0] == '\0') {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(truth->report->failure, sizeof truth->report->failure, format, arguments);
        va_end(arguments);
    }
}

void truth_start(struct truth *truth, struct work *work, struct sim_report *report)
{
    *truth = (struct truth){.work = work, .report = report};
    CHECK(ledger_create(buf_bytes(&work->world->genesis), &truth->witness, NULL) == ERR_OK);
    ledger_effects_init(&truth->effects);
}

void truth_end(struct truth *truth)
{
    ledger_effects_deinit(&truth->effects);
    ledger_destroy(truth->witness);
}

static enum err blob_find(void *context, const struct digest *digest, struct buf *out)
{
    return blob_get(context, digest, out, NULL);
}

static size_t task_of(const struct truth *truth, const struct digest *tx)
{
    size_t task = 0;
    while (task < truth->work->count && !digest_equal(&truth->work->tasks[task].id, tx)) {
        task++;
    }
    return task;
}

static struct truth_receipt *receipt_find(const struct truth *truth, const struct digest *id)
{
    for (size_t i = truth->receipt_count; i > 0; i--) {
        if (digest_equal(&truth->receipts[i - 1].id, id)) {
            return (struct truth_receipt *)(uintptr_t)&truth->receipts[i - 1];
        }
    }
    return NULL;
}

bool truth_charged(const struct truth *truth, const struct digest *receipt)
{
    return receipt_find(truth, receipt) != NULL;
}

/* A receipt's life: charged once, then paid to those who share it or to a treasury, once. */
static void count_receipts(struct truth *truth)
{
    const struct ledger_effects *effects = &truth->effects;
    bool charges = effects->kind == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS;
    for (size_t i = 0; i < effects->receipt_count; i++) {
        struct truth_receipt *known = receipt_find(truth, &effects->receipts[i]);
        const struct ledger_receipt *record = ledger_receipt(truth->witness, &effects->receipts[i]);
        CHECK(record != NULL);
        if (charges && known == NULL) {
            CHECK(truth->receipt_count < TRUTH_RECEIPTS_MAX);
            truth->receipts[truth->receipt_count++] =
                (struct truth_receipt){.id = effects->receipts[i], .waiting = record->waiting};
            truth->waiting += record->waiting ? 1 : 0;
        } else if (!charges && known != NULL && known->waiting && !record->waiting) {
            known->waiting = false;
            truth->waiting--;
            if (effects->kind == LEDGER_KIND_SEAL) {
                truth->overdue++;
                attributions_overdue(&effects->receipts[i]);
            }
        } else {
            wrong(truth, "entry %llu %s a receipt for the second time",
                  (unsigned long long)effects->index, charges ? "charges" : "pays");
        }
    }
}

/* What is held for contributors is what waits for shares: nothing is forgotten there, nothing taken from it. */
static void check_held(struct truth *truth)
{
    struct amount waiting = AMOUNT_ZERO;
    struct account_id escrow;
    ledger_pending_escrow_id("net", &escrow);
    for (size_t i = 0; i < truth->receipt_count; i++) {
        const struct ledger_receipt *record =
            ledger_receipt(truth->witness, &truth->receipts[i].id);
        if (truth->receipts[i].waiting) {
            CHECK(amount_add(waiting, record->pending, &waiting) == ERR_OK);
        }
    }
    const struct ledger_account *held = ledger_account(truth->witness, &escrow);
    if (!amount_equal(held == NULL ? AMOUNT_ZERO : held->balance, waiting)) {
        wrong(truth, "entry %llu: what is held for contributors is not what waits for shares",
              (unsigned long long)truth->effects.index);
    }
}

static void count_false(struct truth *truth, size_t task)
{
    if (truth->work->tasks[task].kind == WORK_FALSE) {
        wrong(truth, "entry %llu pays by shares that are false",
              (unsigned long long)truth->effects.index);
    }
}

/* Charges and payouts: each receipt once. */
static void count_money(struct truth *truth)
{
    const struct ledger_effects *effects = &truth->effects;
    if (effects->kind == LEDGER_KIND_SEAL) {
        return;
    }
    size_t task = task_of(truth, &effects->tx);
    if (task == truth->work->count) {
        wrong(truth, "entry %llu: a transaction that nobody submitted",
              (unsigned long long)effects->index);
    } else if (truth->placed[task] != 0) {
        wrong(truth, "transaction %zu is in the log twice: %llu and %llu", task,
              (unsigned long long)truth->placed[task], (unsigned long long)effects->index);
    } else {
        truth->placed[task] = effects->index;
        if (truth->work->tasks[task].kind == WORK_RECEIPTS) {
            truth->charges++;
            bool *charged = truth->charged[truth->work->tasks[task].batch];
            for (size_t i = 0; i < WORK_BATCH_ITEMS; i++) {
                if (charged[i]) {
                    wrong(truth, "entry %llu charges a receipt for the second time",
                          (unsigned long long)effects->index);
                }
                charged[i] = true;
            }
        }
        truth->payouts += truth->work->tasks[task].kind == WORK_SHARES ? 1 : 0;
        count_false(truth, task);
        attributions_charged(effects, task);
    }
}

/* The next entry of the one final log. */
static void grow(struct truth *truth, struct bytes entry)
{
    struct ledger_blobs blobs = {.get = blob_find, .context = truth->work->blobs};
    struct note note = {""};
    struct ledger_head head;
    CHECK(truth->count < TRUTH_ENTRIES_MAX);
    enum err err = ledger_apply(truth->witness, entry, &blobs, &truth->effects, &note);
    if (err != ERR_OK) {
        wrong(truth, "the witness refuses final entry %llu: %s: %s",
              (unsigned long long)truth->count + 1, err_name(err), note.text);
        return;
    }
    truth->hashes[truth->count++] = truth->effects.entry_hash;
    count_money(truth);
    count_receipts(truth);
    check_held(truth);
    ledger_head(truth->witness, &head);
    if (truth->effects.kind == LEDGER_KIND_SEAL) {
        struct buf *header = &truth->effects.header;
        merkle_leaf(header->data, header->size, &truth->headers[truth->height]);
        truth->headers_root[truth->height++] = head.headers_root;
    }
    truth->epochs += head.epoch != truth->epoch ? 1 : 0;
    truth->epoch = head.epoch;
    if (!amount_equal(ledger_supply(truth->witness), amount_from_open(AMOUNT_SUPPLY_OPEN))) {
        wrong(truth, "entry %llu changes the supply", (unsigned long long)truth->count);
    }
}

static void check_entries(struct truth *truth, uint32_t node, struct settlement *settlement,
                          struct truth_view *view, bool unreadable)
{
    struct buf entry;
    struct digest hash;
    buf_init(&entry, LEDGER_ENTRY_MAX);
    uint64_t final = settlement_durable(settlement);
    while (view->entries < final && truth->report->failure[0] == '\0') {
        struct note note = {""};
        buf_clear(&entry);
        enum err err = settlement_entry(settlement, view->entries + 1, &entry, &note);
        if (err != ERR_OK) {
            if (!unreadable && !disk_dead(node)) {
                wrong(truth, "node %u cannot read its final entry %llu: %s", node,
                      (unsigned long long)view->entries + 1, note.text);
            }
            break;
        }
        ledger_entry_hash(buf_bytes(&entry), &hash);
        if (view->entries == truth->count) {
            grow(truth, buf_bytes(&entry));
        } else if (!digest_equal(&hash, &truth->hashes[view->entries])) {
            wrong(truth, "node %u shows another entry %llu than was final before", node,
                  (unsigned long long)view->entries + 1);
        }
        view->entries++;
    }
    buf_deinit(&entry);
}

static void check_checkpoint(struct truth *truth, uint32_t node, struct settlement *settlement,
                             struct truth_view *view)
{
    struct bytes note = settlement_checkpoint(settlement);
    struct ledger_head head;
    struct buf expected;
    char text[160] = "";
    if (note.data == NULL) {
        return;
    }
    memcpy(text, note.data, note.size < sizeof text ? note.size : sizeof text - 1);
    const char *line = strchr(text, '\n');
    char *end = NULL;
    unsigned long long size = line == NULL ? 0 : strtoull(line + 1, &end, 10);
    if (line == NULL || end == line + 1 || size == view->checkpoint) {
        return;
    }
    if (size < view->checkpoint || size > truth->height) {
        wrong(truth, "node %u: checkpoint %llu after %llu, final are %llu blocks", node, size,
              (unsigned long long)view->checkpoint, (unsigned long long)truth->height);
        return;
    }
    ledger_head(truth->witness, &head);
    buf_init(&expected, 4096);
    CHECK(ledger_checkpoint_sign(&head.chain_id, size, &truth->headers_root[size - 1],
                                 truth->work->world->sequencer, &expected) == ERR_OK);
    if (expected.size > note.size || memcmp(expected.data, note.data, expected.size) != 0) {
        wrong(truth, "node %u: checkpoint %llu is not the witness's", node, size);
    }
    buf_deinit(&expected);
    view->checkpoint = size;
}

void truth_check(struct truth *truth, uint32_t node, struct replica *replica,
                 struct truth_view *view, bool unreadable)
{
    struct settlement *settlement = replica_settlement(replica);
    if (settlement == NULL) {
        return;
    }
    if (settlement_durable(settlement) < view->entries) {
        view->entries = 0; /* opened again: it may know less for a while, but nothing else */
        view->headers = 0;
    }
    check_entries(truth, node, settlement, view, unreadable);
    uint64_t final = settlement_durable(settlement);
    if (view->entries < final) {
        return; /* its disk is failing: nothing of it is shown to anybody */
    }
    while (view->headers < truth->height && truth->report->failure[0] == '\0') {
        uint64_t height = settlement_height_of(settlement, final + 1);
        struct ledger_head head;
        ledger_head(settlement_ledger(settlement), &head);
        if (view->headers >= (height == 0 ? head.height : height - 1)) {
            break;
        }
        view->headers++;
        if (!digest_equal(settlement_header_leaf(settlement, view->headers),
                          &truth->headers[view->headers - 1])) {
            wrong(truth, "node %u: block %llu has another header than the witness's", node,
                  (unsigned long long)view->headers);
        }
    }
    if (truth->report->failure[0] == '\0') {
        check_checkpoint(truth, node, settlement, view);
    }
}

void truth_promise(struct truth *truth, size_t task, uint64_t index)
{
    if (truth->promised[task] != 0 && truth->promised[task] != index) {
        wrong(truth, "transaction %zu was acknowledged at %llu and at %llu", task,
              (unsigned long long)truth->promised[task], (unsigned long long)index);
    }
    truth->promised[task] = index;
}

void truth_conclude(struct truth *truth)
{
    struct digest root;
    struct digest slow;
    for (size_t task = 0; task < truth->work->count; task++) {
        if (truth->promised[task] != 0 && truth->promised[task] != truth->placed[task]) {
            wrong(truth, "transaction %zu was acknowledged at %llu and is at %llu", task,
                  (unsigned long long)truth->promised[task],
                  (unsigned long long)truth->placed[task]);
        }
    }
    ledger_state_root(truth->witness, &root);
    ledger_state_root_slow(truth->witness, &slow);
    if (!digest_equal(&root, &slow)) {
        wrong(truth, "the witness's state root is not that of its records");
    }
    if (truth->charges != WORK_BATCHES) {
        wrong(truth, "%u of %d receipt batches were charged", truth->charges, WORK_BATCHES);
    }
}
