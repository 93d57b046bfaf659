/* verify_trace.c - see verify_trace.h. */
#include "services/openledger/verify_trace.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/blob/blob.h"
#include "shared/json/json.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"

enum { DETAIL_SIZE = 400, STEPS_MAX = 1000000 };

/* One line of the story. */
struct step {
    uint64_t index, height; /* height 0: not sealed */
    const char *kind;       /* of the transaction */
    bool is_leg;
    bool of_receipt; /* the leg is one receipt's part of leg_number */
    struct ledger_leg leg;
    uint32_t leg_number;
    struct amount balance; /* account traces: after the leg */
    char *detail;          /* owned; of steps that are not legs */
};

struct verify_trace {
    struct verify_trace_options options;
    struct step *steps;
    size_t count, capacity;
    size_t unsealed; /* steps before it have their height */
    struct amount balance;
};

struct verify_trace *verify_trace_create(const struct verify_trace_options *options)
{
    struct verify_trace *trace = calloc(1, sizeof *trace);
    if (trace != NULL) {
        trace->options = *options;
    }
    return trace;
}

void verify_trace_destroy(struct verify_trace *trace)
{
    if (trace != NULL) {
        for (size_t i = 0; i < trace->count; i++) {
            free(trace->steps[i].detail);
        }
        free(trace->steps);
        free(trace);
    }
}

static enum err step_add(struct verify_trace *trace, const struct step *step, struct note *note)
{
    if (trace->count == trace->capacity) {
        size_t capacity = trace->capacity == 0 ? 64 : 2 * trace->capacity;
        struct step *steps =
            capacity > STEPS_MAX ? NULL : realloc(trace->steps, capacity * sizeof *trace->steps);
        if (steps == NULL) {
            return note_set(note, ERR_LIMIT, "more than %d steps", STEPS_MAX / 2);
        }
        trace->steps = steps;
        trace->capacity = capacity;
    }
    trace->steps[trace->count++] = *step;
    return ERR_OK;
}

static enum err detail_add(struct verify_trace *trace, const struct ledger_effects *effects,
                           const struct buf *text, struct note *note)
{
    const struct step step = {.index = effects->index, .kind = ledger_kind_name(effects->kind)};
    enum err err = step_add(trace, &step, note);
    if (err == ERR_OK) {
        trace->steps[trace->count - 1].detail = strdup(buf_text(text));
        CHECK(trace->steps[trace->count - 1].detail != NULL);
    }
    return err;
}

/* ---- what concerns us --------------------------------------------------------------------------- */

static bool wanted(const struct verify_trace *trace, const struct ledger_effects *effects,
                   uint32_t number)
{
    const struct verify_trace_options *options = &trace->options;
    const struct ledger_leg *leg = &effects->legs[number];
    switch (options->kind) {
    case TRACE_ACCOUNT:
        return account_id_equal(&leg->account, &options->account);
    case TRACE_RECEIPT:
        return false; /* the ledger's legs are of a whole batch; receipts_look derives its own */
    case TRACE_PAYOUT:
        return effects->index == options->entry && number == options->leg;
    }
    return false;
}

static enum err legs_look(struct verify_trace *trace, const struct ledger_effects *effects,
                          struct note *note)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < effects->leg_count && err == ERR_OK; i++) {
        if (!wanted(trace, effects, (uint32_t)i)) {
            continue;
        }
        struct step step = {.index = effects->index,
                            .kind = ledger_kind_name(effects->kind),
                            .is_leg = true,
                            .leg = effects->legs[i],
                            .leg_number = (uint32_t)i};
        if (trace->options.kind == TRACE_ACCOUNT) {
            err = step.leg.credit ? amount_add(trace->balance, step.leg.amount, &trace->balance)
                                  : amount_sub(trace->balance, step.leg.amount, &trace->balance);
        }
        step.balance = trace->balance;
        err = err ? err : step_add(trace, &step, note);
    }
    return err;
}

/* The share batch that an entry settles: its bytes, checked again. Free with free_unpacked. */
static enum err shares_open(struct verify_trace *trace, const struct ledger *ledger,
                            struct bytes entry_bytes, Openledger__V1__ShareBatch **out_batch,
                            struct note *note)
{
    struct blob_store *blobs = NULL;
    struct ledger_head head;
    struct digest name;
    struct buf bytes;
    ledger_head(ledger, &head);
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    Openledger__V1__Entry *entry =
        openledger__v1__entry__unpack(NULL, entry_bytes.size, entry_bytes.data);
    CHECK(entry != NULL); /* it was applied, and so was what is in it */
    Openledger__V1__SignedTx *tx =
        openledger__v1__signed_tx__unpack(NULL, entry->signed_tx.len, entry->signed_tx.data);
    CHECK(tx != NULL);
    Openledger__V1__TxBody *body =
        openledger__v1__tx_body__unpack(NULL, tx->body.len, tx->body.data);
    CHECK(body != NULL);
    enum err err = digest_from_bytes(ledger_bytes(body->settle_shares->batch), &name);
    err = err ? err : blob_open(trace->options.blob_folder, &blobs, note);
    err = err ? err : blob_get(blobs, &name, &bytes, note);
    err = err ? err : ledger_share_batch_verify(buf_bytes(&bytes), &head.chain_id, out_batch, note);
    openledger__v1__tx_body__free_unpacked(body, NULL);
    openledger__v1__signed_tx__free_unpacked(tx, NULL);
    openledger__v1__entry__free_unpacked(entry, NULL);
    blob_close(blobs);
    buf_deinit(&bytes);
    return err;
}

static enum err share_set_tell(struct verify_trace *trace, const struct ledger_effects *effects,
                               struct bytes share_set, struct note *note)
{
    Openledger__V1__ShareSet *set = NULL;
    enum err err = ledger_share_set_decode(share_set, &set, note);
    if (err != ERR_OK) {
        return err;
    }
    struct buf text;
    buf_init(&text, 1U << 20);
    (void)buf_printf(&text, "%zu contributors share, %.6f %% goes to nobody's row", set->n_shares,
                     (double)set->unearned_ppb / 1e7);
    for (size_t k = 0; k < set->n_shares; k++) {
        struct account_id id;
        char who[ACCOUNT_ID_TEXT_SIZE];
        memcpy(id.bytes, set->shares[k]->account.data, ACCOUNT_ID_SIZE);
        (void)buf_printf(&text, "; %s %.6f %%", account_id_format(&id, who),
                         (double)set->shares[k]->share_ppb / 1e7);
    }
    err = detail_add(trace, effects, &text, note);
    buf_deinit(&text);
    openledger__v1__share_set__free_unpacked(set, NULL);
    return err;
}

static enum err charge_tell(struct verify_trace *trace, const struct ledger_effects *effects,
                            const struct ledger_receipt *receipt, struct note *note)
{
    struct buf text;
    char hex[2 * DIGEST_SIZE + 1];
    char fee[AMOUNT_TEXT_SIZE];
    buf_init(&text, DETAIL_SIZE);
    (void)buf_printf(&text, "receipt %llu of its lease, adapter %s, fee %s OPEN, in batch %s",
                     (unsigned long long)receipt->number, receipt->adapter,
                     amount_format(receipt->fee, fee),
                     hex_encode(receipt->batch.bytes, DIGEST_SIZE, hex));
    enum err err = detail_add(trace, effects, &text, note);
    buf_deinit(&text);
    return err;
}

/* The number of the entry's leg that one receipt's own leg was netted into. */
static uint32_t netted_into(const struct ledger_effects *effects, const struct ledger_leg *own)
{
    uint32_t number = 0;
    while (number < effects->leg_count &&
           (effects->legs[number].credit != own->credit ||
            strcmp(effects->legs[number].reason, own->reason) != 0 ||
            !account_id_equal(&effects->legs[number].account, &own->account))) {
        number++;
    }
    CHECK(number < effects->leg_count);
    return number;
}

/* What one receipt by itself did in this entry: all of it, or what went into the payout. */
static enum err receipt_look(struct verify_trace *trace, const struct ledger *ledger,
                             const struct ledger_effects *effects,
                             const struct ledger_receipt *receipt, struct bytes share_set,
                             struct note *note)
{
    struct ledger_receipt_legs legs;
    bool charges = receipt->charged_index == effects->index;
    enum err err = ledger_receipt_legs(ledger, receipt, share_set, &legs, note);
    if (err != ERR_OK) {
        return err;
    }
    if (trace->options.kind == TRACE_RECEIPT) {
        err = charges              ? charge_tell(trace, effects, receipt, note)
              : share_set.size > 0 ? share_set_tell(trace, effects, share_set, note)
                                   : ERR_OK;
    }
    size_t end = charges ? legs.charge_count : legs.count;
    for (size_t i = charges ? 0 : legs.charge_count; i < end && err == ERR_OK; i++) {
        const struct step step = {.index = effects->index,
                                  .kind = ledger_kind_name(effects->kind),
                                  .is_leg = true,
                                  .of_receipt = true,
                                  .leg = legs.items[i],
                                  .leg_number = netted_into(effects, &legs.items[i])};
        if (trace->options.kind == TRACE_RECEIPT || step.leg_number == trace->options.leg) {
            err = step_add(trace, &step, note);
        }
    }
    ledger_receipt_legs_free(&legs);
    return err;
}

/* The entry's receipts, as far as they concern us. */
static enum err receipts_look(struct verify_trace *trace, const struct ledger *ledger,
                              const struct ledger_effects *effects, struct bytes entry,
                              struct note *note)
{
    Openledger__V1__ShareBatch *batch = NULL;
    bool payout = trace->options.kind == TRACE_PAYOUT && effects->index == trace->options.entry;
    enum err err = ERR_OK;
    for (size_t i = 0; i < effects->receipt_count && err == ERR_OK; i++) {
        const struct digest *id = &effects->receipts[i];
        struct bytes share_set = {NULL, 0};
        if (!payout && !digest_equal(id, &trace->options.receipt)) {
            continue;
        }
        const struct ledger_receipt *receipt = ledger_receipt(ledger, id);
        CHECK(receipt != NULL);
        if (effects->kind == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES) {
            err = batch == NULL ? shares_open(trace, ledger, entry, &batch, note) : ERR_OK;
            if (err == ERR_OK) {
                CHECK(batch->n_sets == effects->receipt_count); /* and in the same order */
                share_set = ledger_bytes(batch->sets[i]);
            }
        }
        err = err ? err : receipt_look(trace, ledger, effects, receipt, share_set, note);
    }
    if (batch != NULL) {
        openledger__v1__share_batch__free_unpacked(batch, NULL);
    }
    return err;
}

enum err verify_trace_entry(void *context, const struct ledger *ledger,
                            const struct ledger_effects *effects, struct bytes entry,
                            struct note *note)
{
    struct verify_trace *trace = context;
    struct ledger_head head;
    enum err err = ERR_OK;
    if (effects->index == 1 && trace->options.kind == TRACE_ACCOUNT) {
        /* What genesis gave: what it has now, less what this first entry moved. */
        const struct ledger_account *account = ledger_account(ledger, &trace->options.account);
        trace->balance = account == NULL ? AMOUNT_ZERO : account->balance;
        for (size_t i = 0; i < effects->leg_count && err == ERR_OK; i++) {
            const struct ledger_leg *leg = &effects->legs[i];
            if (wanted(trace, effects, (uint32_t)i)) {
                err = leg->credit ? amount_sub(trace->balance, leg->amount, &trace->balance)
                                  : amount_add(trace->balance, leg->amount, &trace->balance);
            }
        }
    }
    err = err ? err : legs_look(trace, effects, note);
    if (err == ERR_OK && trace->options.kind != TRACE_ACCOUNT) {
        err = receipts_look(trace, ledger, effects, entry, note);
    }
    if (err == ERR_OK && effects->kind == LEDGER_KIND_SEAL) {
        ledger_head(ledger, &head);
        for (; trace->unsealed < trace->count; trace->unsealed++) {
            trace->steps[trace->unsealed].height = head.height;
        }
    }
    return err;
}

/* ---- telling ------------------------------------------------------------------------------------ */

static void tell_text(const struct verify_trace *trace, const struct step *step, struct buf *out)
{
    char id[ACCOUNT_ID_TEXT_SIZE];
    char amount[AMOUNT_TEXT_SIZE];
    char balance[AMOUNT_TEXT_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    if (step->height == 0) {
        (void)buf_append_text(out, "in no block yet");
    } else {
        (void)buf_printf(out, "block %llu", (unsigned long long)step->height);
    }
    (void)buf_printf(out, ", entry %llu, %s: ", (unsigned long long)step->index, step->kind);
    if (!step->is_leg) {
        (void)buf_printf(out, "%s\n", step->detail);
        return;
    }
    (void)buf_printf(out, "leg %u %s %s OPEN %s %s (%s)", step->leg_number,
                     step->leg.credit ? "pays" : "takes", amount_format(step->leg.amount, amount),
                     step->leg.credit ? "to" : "from", account_id_format(&step->leg.account, id),
                     step->leg.reason);
    if (trace->options.kind == TRACE_ACCOUNT) {
        (void)buf_printf(out, ", balance %s", amount_format(step->balance, balance));
    } else if (trace->options.kind == TRACE_PAYOUT && step->of_receipt) {
        (void)buf_printf(out, ", of receipt %s",
                         hex_encode(step->leg.reference.bytes, DIGEST_SIZE, hex));
    }
    (void)buf_append_text(out, "\n");
}

static void tell_json(const struct verify_trace *trace, const struct step *step,
                      struct json_writer *writer)
{
    char id[ACCOUNT_ID_TEXT_SIZE];
    char amount[AMOUNT_TEXT_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    json_begin_object(writer);
    json_put_u64(writer, "block", step->height);
    json_put_u64(writer, "entry", step->index);
    json_put_text(writer, "kind", step->kind);
    if (step->is_leg) {
        json_put_u64(writer, "leg", step->leg_number);
        json_put_text(writer, "account", account_id_format(&step->leg.account, id));
        json_put_bool(writer, "credit", step->leg.credit);
        json_put_text(writer, "amount", amount_format(step->leg.amount, amount));
        json_put_text(writer, "reason", step->leg.reason);
        json_put_bool(writer, "ofReceipt", step->of_receipt);
        json_put_text(writer, "reference",
                      step->leg.has_reference
                          ? hex_encode(step->leg.reference.bytes, DIGEST_SIZE, hex)
                          : NULL);
        if (trace->options.kind == TRACE_ACCOUNT) {
            json_put_text(writer, "balance", amount_format(step->balance, amount));
        }
    } else {
        json_put_text(writer, "detail", step->detail);
    }
    json_end_object(writer);
}

/* Is every step in a block that the checkpoint is over? Steps are in the log's order. */
static bool is_covered(const struct verify_trace *trace, const struct verify_ledger_report *report)
{
    uint64_t last = trace->count == 0 ? 0 : trace->steps[trace->count - 1].height;
    return trace->count == 0 || (last != 0 && last <= report->checkpoint_height);
}

enum err verify_trace_tell(const struct verify_trace *trace,
                           const struct verify_ledger_report *report, bool json, struct buf *out,
                           struct note *note)
{
    struct json_writer writer;
    char balance[AMOUNT_TEXT_SIZE];
    if (trace->count == 0 && amount_is_zero(trace->balance)) {
        return note_set(note, ERR_NOT_FOUND, "it is nowhere on this ledger");
    }
    (void)amount_format(trace->balance, balance);
    if (json) {
        json_writer_init(&writer, out, true);
        json_begin_object(&writer);
        json_put_bool(&writer, "verified", true);
        json_write_key(&writer, "steps");
        json_begin_array(&writer);
    }
    for (size_t i = 0; i < trace->count; i++) {
        if (json) {
            tell_json(trace, &trace->steps[i], &writer);
        } else {
            tell_text(trace, &trace->steps[i], out);
        }
    }
    if (json) {
        json_end_array(&writer);
        if (trace->options.kind == TRACE_ACCOUNT) {
            json_put_text(&writer, "balance", balance);
        }
        json_put_u64(&writer, "checkpoint", report->checkpoint_height);
        json_put_bool(&writer, "covered", is_covered(trace, report));
        json_put_u64(&writer, "cosignatures", report->cosignatures);
        json_end_object(&writer);
        return buf_append_text(out, "\n");
    }
    if (trace->options.kind == TRACE_ACCOUNT) {
        (void)buf_printf(out, "balance %s OPEN\n", balance);
    }
    return buf_printf(out, "checkpoint %llu %s, signed, with %u cosignatures\n",
                      (unsigned long long)report->checkpoint_height,
                      is_covered(trace, report) ? "covers it" : "does not cover all of it yet",
                      report->cosignatures);
}
