/* slash.c - takes a part of everything that is at stake in a role: the bond, what is on its way out of it,
 * and, of a validator, what others delegated. The reporter gets its part, then who was harmed, the rest
 * goes to the stakers' pool: nothing is burnt. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

enum { BP_TOTAL = 10000 };

static const struct account_id NOBODY;

/* ---- keys --------------------------------------------------------------------------------------- */

void key_replace(struct step *step, const struct ledger_account *account,
                 const struct public_key *key)
{
    const struct ledger_former_key former = {
        .account = account->id, .key = account->key, .until_ms = step->time_ms};
    const struct ledger_former_key *found = state_get(step->state, STATE_FORMER_KEY, &former);
    if (found == NULL) {
        (void)state_add(step->state, STATE_FORMER_KEY, &former);
    } else {
        *(struct ledger_former_key *)state_edit(step->state, found) = former;
    }
    ((struct ledger_account *)state_edit(step->state, account))->key = *key;
}

bool key_answers(const struct step *step, const struct account_id *account,
                 const struct public_key *key)
{
    const struct ledger_account *found = ledger_account(step->ledger, account);
    const struct ledger_former_key probe = {.account = *account, .key = *key};
    if (found != NULL && found->has_key && public_key_equal(&found->key, key)) {
        return true;
    }
    const struct ledger_former_key *former = state_get(step->state, STATE_FORMER_KEY, &probe);
    return former != NULL &&
           step->time_ms - former->until_ms < ledger_parameters(step->ledger)->unbonding_ms;
}

/* ---- slashing ----------------------------------------------------------------------------------- */

static struct amount part_of(struct amount amount, uint32_t bp)
{
    struct amount part;
    CHECK(amount_mul_ratio(amount, bp, BP_TOTAL, &part) == ERR_OK);
    return part;
}

static void sum_add(struct amount *sum, struct amount part)
{
    CHECK(amount_add(*sum, part, sum) == ERR_OK);
}

static struct amount less(struct amount amount, struct amount part)
{
    struct amount rest;
    CHECK(amount_sub(amount, part, &rest) == ERR_OK);
    return rest;
}

static enum err bond_cut(struct step *step, const struct slash *slash, struct amount *sum)
{
    struct amount bond = ledger_bond(step->ledger, &slash->account, slash->role);
    struct amount part = part_of(bond, slash->bp);
    sum_add(sum, part);
    return amount_is_zero(part)
               ? ERR_OK
               : stake_set_bond(step, &slash->account, slash->role, less(bond, part));
}

static enum err delegations_cut(struct step *step, const struct slash *slash, struct amount *sum)
{
    const struct ledger_delegation *item = NULL;
    enum err err = ERR_OK;
    while (err == ERR_OK && (item = ledger_next_delegation(step->ledger, item)) != NULL) {
        struct amount part = part_of(item->amount, slash->bp);
        if (account_id_equal(&item->validator, &slash->account) && !amount_is_zero(part)) {
            sum_add(sum, part);
            err = stake_set_delegation(step, &item->delegator, &item->validator,
                                       less(item->amount, part));
        }
    }
    return err;
}

/* What left the bond, or was undelegated from it, and is not released yet. */
static void unbondings_cut(struct step *step, const struct slash *slash, struct amount *sum)
{
    const struct ledger_unbonding *item = NULL;
    while ((item = ledger_next_unbonding(step->ledger, item)) != NULL) {
        bool own = account_id_equal(&item->account, &slash->account) &&
                   account_id_equal(&item->validator, &NOBODY);
        bool delegated = account_id_equal(&item->validator, &slash->account);
        if (item->role == (uint32_t)slash->role && (own || delegated)) {
            struct amount part = part_of(item->amount, slash->bp);
            sum_add(sum, part);
            ((struct ledger_unbonding *)state_edit(step->state, item))->amount =
                less(item->amount, part);
        }
    }
}

enum err slash_apply(struct step *step, const struct slash *slash, struct amount *out_amount)
{
    struct amount sum = AMOUNT_ZERO;
    struct account_id escrow;
    struct account_id pool;
    enum err err = bond_cut(step, slash, &sum);
    if (err == ERR_OK && slash->role == LEDGER_ROLE_VALIDATOR) {
        err = delegations_cut(step, slash, &sum);
    }
    if (err != ERR_OK) {
        return err;
    }
    unbondings_cut(step, slash, &sum);
    if (amount_is_zero(sum)) {
        return note_set(step->note, ERR_CONFLICT, "account %s has nothing at stake in that role",
                        short_hex(slash->account.bytes).text);
    }
    struct amount reporter = part_of(sum, ledger_parameters(step->ledger)->slash_reporter_bp);
    struct amount rest = less(sum, reporter);
    struct amount harmed =
        slash->harmed == NULL ? AMOUNT_ZERO : amount_min(rest, slash->harmed_max);
    ledger_bond_escrow_id(&slash->account, slash->role, &escrow);
    ledger_stakers_pool_id(&pool);
    err = step_pay(step, &escrow, &slash->reporter, reporter, "slash.reporter", &slash->reference);
    if (err == ERR_OK && slash->harmed != NULL) {
        err = step_pay(step, &escrow, slash->harmed, harmed, "slash.harmed", &slash->reference);
    }
    err = err ? err
              : step_pay(step, &escrow, &pool, less(rest, harmed), "slash.stakers",
                         &slash->reference);
    if (err == ERR_OK) {
        *out_amount = sum;
    }
    return err;
}
