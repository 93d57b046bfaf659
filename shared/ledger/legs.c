/* legs.c - one receipt's own legs, derived again: see batch.h. Settlement nets what a batch does to an
 * account; this is what it netted, so that anyone can follow a single answer's money. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/settle.h"

enum { LEGS_FIXED = 9 }; /* besides one for each share */

uint64_t settle_split_pack(const struct ledger_parameters *parameters)
{
    return (uint64_t)parameters->platform_bp << 48 | (uint64_t)parameters->model_bp << 32 |
           (uint64_t)parameters->stakers_bp << 16 | parameters->contributors_bp;
}

void settle_split_unpack(uint64_t split, struct ledger_parameters *out_parameters)
{
    out_parameters->platform_bp = (uint32_t)(split >> 48);
    out_parameters->model_bp = (uint32_t)(split >> 32) & 0xffff;
    out_parameters->stakers_bp = (uint32_t)(split >> 16) & 0xffff;
    out_parameters->contributors_bp = (uint32_t)split & 0xffff;
}

static void add(struct ledger_receipt_legs *legs, const struct account_id *account, bool credit,
                struct amount amount, const char *reason)
{
    if (!amount_is_zero(amount)) {
        legs->items[legs->count++] = (struct ledger_leg){
            .account = *account, .credit = credit, .amount = amount, .reason = reason};
    }
}

static void charge_add(const struct ledger *ledger, const struct ledger_receipt *receipt,
                       const struct ledger_adapter *adapter, struct ledger_receipt_legs *legs,
                       struct amount *out_contributors)
{
    const struct ledger_model *model = ledger_model(ledger, adapter->model);
    CHECK(model != NULL);
    struct ledger_parameters then = *ledger_parameters(ledger);
    struct ledger_fee_split split;
    struct account_id escrow;
    struct account_id pool;
    struct account_id pending;
    settle_split_unpack(receipt->split, &then);
    ledger_split_fee(&then, receipt->fee, &split);
    ledger_grant_escrow_id(&receipt->grant, &escrow);
    ledger_stakers_pool_id(&pool);
    ledger_pending_escrow_id(adapter->datanet, &pending);
    add(legs, &escrow, false, receipt->fee, "fee.charge");
    add(legs, &then.platform, true, split.platform, "fee.platform");
    add(legs, &adapter->developer, true, split.adapter_developer, "fee.model.adapter");
    add(legs, &model->developer, true, split.base_developer, "fee.model.base");
    add(legs, &pool, true, split.stakers, "fee.stakers");
    add(legs, &pending, true, split.contributors, "fee.contributors.hold");
    *out_contributors = split.contributors;
}

static void shares_add(const struct ledger_adapter *adapter, const struct share_set_view *set,
                       struct amount contributors, struct ledger_receipt_legs *legs)
{
    struct amount *parts = calloc(set->share_count + 1, sizeof *parts);
    CHECK(parts != NULL);
    settle_split_shares(contributors, set, parts);
    struct bytes shares = set->shares;
    struct share_view share;
    struct account_id account;
    for (size_t i = 0; share_next(&shares, &share); i++) {
        memcpy(account.bytes, share.account, ACCOUNT_ID_SIZE);
        add(legs, &account, true, parts[i], "fee.contributor");
    }
    ledger_treasury_id(adapter->datanet, &account);
    add(legs, &account, true, parts[set->share_count], "fee.unearned");
    free(parts);
}

enum err ledger_receipt_legs(const struct ledger *ledger, const struct ledger_receipt *receipt,
                             struct bytes share_set, struct ledger_receipt_legs *out_legs,
                             struct note *note)
{
    struct share_set_view set = {.share_count = 0};
    if (share_set.size > 0) {
        enum err err = share_set_scan(share_set, &set, note);
        if (err == ERR_OK && !bytes_equal(set.receipt, digest_bytes(&receipt->id))) {
            err = note_set(note, ERR_INVALID, "the share set is of another receipt");
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    const struct ledger_adapter *adapter = ledger_adapter(ledger, receipt->adapter);
    CHECK(adapter != NULL);
    struct ledger_receipt_legs legs = {.count = 0};
    legs.items = calloc(LEGS_FIXED + set.share_count, sizeof *legs.items);
    CHECK(legs.items != NULL);
    struct amount contributors;
    struct account_id pending;
    struct account_id treasury;
    charge_add(ledger, receipt, adapter, &legs, &contributors);
    legs.charge_count = legs.count;
    ledger_pending_escrow_id(adapter->datanet, &pending);
    ledger_treasury_id(adapter->datanet, &treasury);
    if (share_set.size > 0) {
        add(&legs, &pending, false, contributors, "fee.contributors.release");
        shares_add(adapter, &set, contributors, &legs);
    } else if (!receipt->waiting) {
        add(&legs, &pending, false, contributors, "fee.overdue");
        add(&legs, &treasury, true, contributors, "fee.overdue");
    }
    for (size_t i = 0; i < legs.count; i++) {
        legs.items[i].has_reference = true;
        legs.items[i].reference = receipt->id;
    }
    *out_legs = legs;
    return ERR_OK;
}

void ledger_receipt_legs_free(struct ledger_receipt_legs *legs)
{
    free(legs->items);
    *legs = (struct ledger_receipt_legs){.count = 0};
}
