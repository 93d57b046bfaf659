/* settle.c - receipts and shares become money. The legs are computed here, never stated by anyone.
 *
 * A charge is split at once: platform, model (half the adapter's developer, half the base model's),
 * stakers, contributors. The contributors' part waits in the datanet's escrow for its share set; the
 * stakers' part goes to their pool, which stake.c spreads over all stake. Every receipt's
 * split is visible as postings that refer to it. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/tx.h"

/* The bytes of a batch, checked against its name. */
static enum err batch_fetch(struct step *step, const struct digest *digest, struct buf *out)
{
    struct digest found;
    if (step->blobs == NULL || step->blobs->get == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "batch %s: no blobs at hand",
                        short_hex(digest->bytes).text);
    }
    enum err err = step->blobs->get(step->blobs->context, digest, out);
    if (err != ERR_OK) {
        return note_set(step->note, err, "batch %s cannot be read: %s",
                        short_hex(digest->bytes).text, err_name(err));
    }
    sha256(buf_bytes(out), &found);
    return digest_equal(&found, digest)
               ? ERR_OK
               : note_set(step->note, ERR_CORRUPT, "batch %s: its bytes have another digest",
                          short_hex(digest->bytes).text);
}

/* ---- receipts ----------------------------------------------------------------------------------- */

struct charge {
    const struct digest *batch;
    struct digest id;
    const Openledger__V1__Receipt *receipt;
    const struct ledger_adapter *adapter;
    struct account_id escrow; /* of the grant */
    struct amount fee;
};

static enum err charge_legs(struct step *step, const struct charge *charge,
                            struct amount *out_pending)
{
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    const struct ledger_model *model = ledger_model(step->ledger, charge->adapter->model);
    CHECK(model != NULL);
    struct ledger_fee_split split;
    struct account_id pool;
    struct account_id pending;
    ledger_split_fee(parameters, charge->fee, &split);
    ledger_stakers_pool_id(&pool);
    ledger_pending_escrow_id(charge->adapter->datanet, &pending);
    const struct digest *id = &charge->id;
    enum err err = step_leg(step, &charge->escrow, false, charge->fee, "fee.charge", id);
    err =
        err ? err : step_leg(step, &parameters->platform, true, split.platform, "fee.platform", id);
    err = err ? err
              : step_leg(step, &charge->adapter->developer, true, split.adapter_developer,
                         "fee.model.adapter", id);
    err = err ? err
              : step_leg(step, &model->developer, true, split.base_developer, "fee.model.base", id);
    err = err ? err : step_leg(step, &pool, true, split.stakers, "fee.stakers", id);
    err =
        err ? err : step_leg(step, &pending, true, split.contributors, "fee.contributors.hold", id);
    *out_pending = split.contributors;
    return err;
}

/* One receipt of a batch that was checked already: price, profile, credit; then the legs. */
static enum err receipt_charge(struct step *step, struct charge *charge, struct ledger_lease *lease,
                               struct ledger_grant *grant)
{
    const Openledger__V1__Receipt *receipt = charge->receipt;
    struct amount stated;
    struct amount drawn;
    bool is_charge = receipt->kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE;
    charge->adapter = ledger_adapter(step->ledger, receipt->adapter);
    if (charge->adapter == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no adapter \"%.64s\"", receipt->adapter);
    }
    const struct ledger_model *model = ledger_model(step->ledger, charge->adapter->model);
    if (!bytes_equal(ledger_bytes(receipt->profile), digest_bytes(&model->profile))) {
        return note_set(step->note, ERR_INVALID, "the profile is not that of model \"%s\"",
                        model->name);
    }
    charge->fee = AMOUNT_ZERO;
    enum err err = ledger_amount_parse(receipt->fee, "fee", &stated, step->note);
    if (err == ERR_OK && is_charge) {
        err = ledger_fee(charge->adapter->price_prompt, charge->adapter->price_completion,
                         receipt->prompt_tokens, receipt->completion_tokens, &charge->fee);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!amount_equal(stated, charge->fee)) {
        char due[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_INVALID, "fee %s, by the adapter's prices it is %s",
                        receipt->fee, amount_format(charge->fee, due));
    }
    if (amount_add(lease->drawn, charge->fee, &drawn) != ERR_OK ||
        amount_compare(drawn, lease->amount) > 0) {
        char has[AMOUNT_TEXT_SIZE];
        char needs[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_FUNDS, "the lease of %s OPEN would be drawn by %s",
                        amount_format(lease->amount, has), amount_format(drawn, needs));
    }
    lease->drawn = drawn;
    CHECK(amount_add(grant->drawn, charge->fee, &grant->drawn) == ERR_OK);
    struct ledger_receipt record = {.id = charge->id,
                                    .batch = *charge->batch,
                                    .grant = grant->id,
                                    .lease = lease->lease,
                                    .number = receipt->number,
                                    .fee = charge->fee,
                                    .waiting = is_charge,
                                    .charged_index = step->index,
                                    .shared_index = is_charge ? 0 : step->index};
    memcpy(record.adapter, charge->adapter->name, sizeof record.adapter);
    record.deadline_height =
        step->ledger->head.height + 1 + ledger_parameters(step->ledger)->share_deadline_blocks;
    if (ledger_receipt(step->ledger, &record.id) != NULL) {
        return note_set(step->note, ERR_CONFLICT, "receipt %s is settled already",
                        short_hex(record.id.bytes).text);
    }
    err = charge_legs(step, charge, &record.pending);
    if (err == ERR_OK) {
        (void)state_add(step->state, STATE_RECEIPT, &record);
        step_receipt(step, &record.id);
    }
    return err;
}

static enum err receipts_apply(struct step *step, const struct digest *digest,
                               const Openledger__V1__ReceiptBatch *batch)
{
    struct digest grant_id;
    struct account_id gateway_id;
    memcpy(grant_id.bytes, batch->grant.data, DIGEST_SIZE);
    memcpy(gateway_id.bytes, batch->gateway.data, ACCOUNT_ID_SIZE);
    const struct ledger_grant *found_grant = ledger_grant(step->ledger, &grant_id);
    const struct ledger_lease *found = ledger_lease(step->ledger, &grant_id, batch->lease);
    if (found_grant == NULL || found == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no grant %s with lease %u",
                        short_hex(grant_id.bytes).text, batch->lease);
    }
    if (found_grant->closed) {
        return note_set(step->note, ERR_DENIED, "grant %s is closed",
                        short_hex(grant_id.bytes).text);
    }
    const struct ledger_account *gateway = ledger_account(step->ledger, &gateway_id);
    if (!account_id_equal(&found_grant->gateway, &gateway_id) || gateway == NULL ||
        !gateway->has_key ||
        !bytes_equal(ledger_bytes(batch->key), bytes_of(gateway->key.bytes, PUBLIC_KEY_SIZE))) {
        return note_set(step->note, ERR_DENIED, "the batch is not signed by the grant's gateway");
    }
    if (batch->first_number != found->next_number) {
        return note_set(
            step->note, ERR_CONFLICT, "the batch begins with receipt %llu, %llu is next",
            (unsigned long long)batch->first_number, (unsigned long long)found->next_number);
    }
    struct ledger_grant *grant = state_edit(step->state, found_grant);
    struct ledger_lease *lease = state_edit(step->state, found);
    struct charge charge = {.batch = digest};
    ledger_grant_escrow_id(&grant_id, &charge.escrow);
    for (size_t i = 0; i < batch->n_receipts; i++) {
        Openledger__V1__Receipt *receipt = NULL;
        enum err err =
            ledger_receipt_decode(ledger_bytes(batch->receipts[i]), &receipt, step->note);
        if (err == ERR_OK) {
            charge.receipt = receipt;
            ledger_receipt_id(ledger_bytes(batch->receipts[i]), &charge.id);
            err = receipt_charge(step, &charge, lease, grant);
            openledger__v1__receipt__free_unpacked(receipt, NULL);
        }
        if (err != ERR_OK) {
            return note_wrap(step->note, err, "batch %s receipt %zu", short_hex(digest->bytes).text,
                             i);
        }
    }
    lease->next_number += batch->n_receipts;
    return ERR_OK;
}

enum err rule_settle_receipts(struct step *step, const Openledger__V1__SettleReceipts *action)
{
    struct digest digest;
    enum err err = step_digest(step, action->batch, "batch", &digest);
    if (err != ERR_OK) {
        return err;
    }
    struct buf bytes;
    Openledger__V1__ReceiptBatch *batch = NULL;
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    err = batch_fetch(step, &digest, &bytes);
    if (err == ERR_OK) {
        err = ledger_receipt_batch_verify(buf_bytes(&bytes), &step->ledger->head.chain_id, &batch,
                                          step->note);
        err = err ? note_wrap(step->note, err, "batch %s", short_hex(digest.bytes).text) : err;
    }
    if (err == ERR_OK) {
        err = receipts_apply(step, &digest, batch);
        openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    }
    buf_deinit(&bytes);
    return err;
}

/* ---- shares ------------------------------------------------------------------------------------- */

static enum err shares_check(struct step *step, const Openledger__V1__ShareSet *set,
                             const struct ledger_receipt *receipt,
                             const struct ledger_adapter *adapter)
{
    if (!receipt->waiting) {
        return note_set(step->note, ERR_CONFLICT,
                        "receipt %s has its shares, or was too late for them",
                        short_hex(receipt->id.bytes).text);
    }
    if (!adapter->has_index) {
        return note_set(step->note, ERR_CONFLICT, "adapter \"%s\" has no published index yet",
                        adapter->name);
    }
    if (!bytes_equal(ledger_bytes(set->index), digest_bytes(&adapter->attribution_index))) {
        return note_set(step->note, ERR_INVALID, "not the published index of adapter \"%s\"",
                        adapter->name);
    }
    for (size_t i = 0; i < set->n_shares; i++) {
        struct account_id account;
        memcpy(account.bytes, set->shares[i]->account.data, ACCOUNT_ID_SIZE);
        if (ledger_version_rows(step->ledger, adapter->datanet, adapter->version, &account) == 0) {
            return note_set(step->note, ERR_INVALID,
                            "account %s contributed nothing to \"%s\" version %u",
                            short_hex(account.bytes).text, adapter->datanet, adapter->version);
        }
    }
    return ERR_OK;
}

/* Splits a receipt's waiting part: each share its portion, the rest to the datanet's treasury. */
static enum err shares_pay(struct step *step, const Openledger__V1__ShareSet *set,
                           struct ledger_receipt *receipt, const struct ledger_adapter *adapter)
{
    size_t count = set->n_shares + 1; /* the last one is unearned */
    uint64_t *weights = calloc(count, sizeof *weights);
    struct amount *parts = calloc(count, sizeof *parts);
    CHECK(weights != NULL);
    CHECK(parts != NULL);
    for (size_t i = 0; i < set->n_shares; i++) {
        weights[i] = set->shares[i]->share_ppb;
    }
    weights[set->n_shares] = set->unearned_ppb;
    CHECK(amount_split(receipt->pending, weights, NULL, count, parts) == ERR_OK);
    struct account_id escrow;
    struct account_id account;
    ledger_pending_escrow_id(adapter->datanet, &escrow);
    enum err err =
        step_leg(step, &escrow, false, receipt->pending, "fee.contributors.release", &receipt->id);
    for (size_t i = 0; i < set->n_shares && err == ERR_OK; i++) {
        memcpy(account.bytes, set->shares[i]->account.data, ACCOUNT_ID_SIZE);
        err = step_leg(step, &account, true, parts[i], "fee.contributor", &receipt->id);
    }
    if (err == ERR_OK) {
        ledger_treasury_id(adapter->datanet, &account);
        err = step_leg(step, &account, true, parts[set->n_shares], "fee.unearned", &receipt->id);
    }
    free(weights);
    free(parts);
    receipt->pending = AMOUNT_ZERO;
    receipt->waiting = false;
    receipt->shared_index = step->index;
    step_receipt(step, &receipt->id);
    return err;
}

static enum err share_set_apply(struct step *step, const Openledger__V1__ShareSet *set)
{
    struct digest id;
    memcpy(id.bytes, set->receipt.data, DIGEST_SIZE);
    const struct ledger_receipt *receipt = ledger_receipt(step->ledger, &id);
    if (receipt == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "receipt %s is not settled yet",
                        short_hex(id.bytes).text);
    }
    const struct ledger_adapter *adapter = ledger_adapter(step->ledger, receipt->adapter);
    CHECK(adapter != NULL);
    enum err err = shares_check(step, set, receipt, adapter);
    return err ? err : shares_pay(step, set, state_edit(step->state, receipt), adapter);
}

static enum err shares_apply(struct step *step, const struct digest *digest,
                             const Openledger__V1__ShareBatch *batch)
{
    struct account_id signer;
    memcpy(signer.bytes, batch->account.data, ACCOUNT_ID_SIZE);
    const struct ledger_account *account = ledger_account(step->ledger, &signer);
    if (account == NULL || !account->has_key ||
        !bytes_equal(ledger_bytes(batch->key), bytes_of(account->key.bytes, PUBLIC_KEY_SIZE)) ||
        !ledger_is_bonded(step->ledger, &signer, LEDGER_ROLE_ATTRIBUTION)) {
        return note_set(step->note, ERR_DENIED,
                        "the batch is not signed by an account bonded as attribution");
    }
    for (size_t i = 0; i < batch->n_sets; i++) {
        Openledger__V1__ShareSet *set = NULL;
        enum err err = ledger_share_set_decode(ledger_bytes(batch->sets[i]), &set, step->note);
        if (err == ERR_OK) {
            err = share_set_apply(step, set);
            openledger__v1__share_set__free_unpacked(set, NULL);
        }
        if (err != ERR_OK) {
            return note_wrap(step->note, err, "batch %s share set %zu",
                             short_hex(digest->bytes).text, i);
        }
    }
    return ERR_OK;
}

enum err rule_settle_shares(struct step *step, const Openledger__V1__SettleShares *action)
{
    struct digest digest;
    enum err err = step_digest(step, action->batch, "batch", &digest);
    if (err != ERR_OK) {
        return err;
    }
    struct buf bytes;
    Openledger__V1__ShareBatch *batch = NULL;
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    err = batch_fetch(step, &digest, &bytes);
    if (err == ERR_OK) {
        err = ledger_share_batch_verify(buf_bytes(&bytes), &step->ledger->head.chain_id, &batch,
                                        step->note);
        err = err ? note_wrap(step->note, err, "batch %s", short_hex(digest.bytes).text) : err;
    }
    if (err == ERR_OK) {
        err = shares_apply(step, &digest, batch);
        openledger__v1__share_batch__free_unpacked(batch, NULL);
    }
    buf_deinit(&bytes);
    return err;
}

/* ---- what waited too long ----------------------------------------------------------------------- */

enum err settle_overdue(struct step *step, uint64_t height)
{
    const struct ledger_receipt *found = step->ledger->waiting;
    for (uint32_t sent = 0; found != NULL && sent < LEDGER_EXPIRE_MAX;
         found = state_next(step->state, STATE_RECEIPT, found)) {
        if (!found->waiting) {
            continue;
        }
        if (found->deadline_height > height) {
            break; /* receipts are in log order, so are their deadlines */
        }
        const struct ledger_adapter *adapter = ledger_adapter(step->ledger, found->adapter);
        CHECK(adapter != NULL);
        struct ledger_receipt *receipt = state_edit(step->state, found);
        struct account_id escrow;
        struct account_id treasury;
        ledger_pending_escrow_id(adapter->datanet, &escrow);
        ledger_treasury_id(adapter->datanet, &treasury);
        enum err err =
            step_pay(step, &escrow, &treasury, receipt->pending, "fee.overdue", &receipt->id);
        if (err != ERR_OK) {
            return err;
        }
        receipt->pending = AMOUNT_ZERO;
        receipt->waiting = false;
        receipt->shared_index = step->index;
        step_receipt(step, &receipt->id);
        sent++;
    }
    return ERR_OK;
}
