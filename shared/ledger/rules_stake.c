/* rules_stake.c - bond, unbond, release, delegate, undelegate, claim rewards. README.md has the rules in
 * words. The escrow of a bond also holds what is delegated to it and what is on its way out. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

enum { CLAIM_VALIDATORS_MAX = 64 };

static enum err role_take(struct step *step, int role, enum ledger_role *out)
{
    if (role <= 0 || role >= LEDGER_ROLE_END) {
        return note_set(step->note, ERR_INVALID, "role %d is unknown", role);
    }
    *out = (enum ledger_role)role;
    return ERR_OK;
}

/* What a position may be: nothing, or at least the minimum. */
static enum err minimum_check(struct step *step, struct amount amount)
{
    const struct amount minimum = ledger_parameters(step->ledger)->minimum_bond;
    if (!amount_is_zero(amount) && amount_compare(amount, minimum) < 0) {
        char has[AMOUNT_TEXT_SIZE];
        char needs[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_RANGE, "the bond would be %s OPEN, the minimum is %s",
                        amount_format(amount, has), amount_format(minimum, needs));
    }
    return ERR_OK;
}

/* before + amount; the sum of all money fits, so only a lie about it does not. */
static enum err total_take(struct step *step, struct amount before, struct amount amount,
                           struct amount *out)
{
    enum err err = amount_add(before, amount, out) == ERR_OK
                       ? ERR_OK
                       : note_set(step->note, ERR_RANGE, "the bond is too large");
    return err ? err : minimum_check(step, *out);
}

static enum err rest_take(struct step *step, struct amount before, struct amount amount,
                          struct amount *out)
{
    char has[AMOUNT_TEXT_SIZE];
    enum err err =
        amount_sub(before, amount, out) == ERR_OK
            ? ERR_OK
            : note_set(step->note, ERR_FUNDS, "only %s OPEN is bonded", amount_format(before, has));
    return err ? err : minimum_check(step, *out);
}

/* Pays first: a stake that its owner cannot pay must never be large for a moment. */
enum err rule_bond(struct step *step, const Openledger__V1__Bond *action)
{
    enum ledger_role role = LEDGER_ROLE_END;
    struct amount amount;
    struct amount total;
    struct account_id escrow;
    enum err err = role_take(step, (int)action->role, &role);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    if (err != ERR_OK) {
        return err;
    }
    ledger_bond_escrow_id(&step->sender, role, &escrow);
    err = total_take(step, ledger_bond(step->ledger, &step->sender, role), amount, &total);
    err = err ? err : step_pay(step, &step->sender, &escrow, amount, "bond", &step->tx);
    return err ? err : stake_set_bond(step, &step->sender, role, total);
}

/* Notes that amount leaves a position and is free once the unbonding time has passed. */
static enum err unbonding_add(struct step *step, enum ledger_role role,
                              const struct account_id *validator, struct amount amount)
{
    struct ledger_unbonding item = {.account = step->sender,
                                    .role = (uint32_t)role,
                                    .amount = amount,
                                    .release_ms = step->time_ms +
                                                  ledger_parameters(step->ledger)->unbonding_ms};
    if (validator != NULL) {
        item.validator = *validator;
    }
    while (item.slot < LEDGER_UNBONDINGS_MAX) {
        const struct ledger_unbonding *found = state_get(step->state, STATE_UNBONDING, &item);
        if (found == NULL) {
            (void)state_add(step->state, STATE_UNBONDING, &item);
            return ERR_OK;
        }
        if (amount_is_zero(found->amount)) {
            *(struct ledger_unbonding *)state_edit(step->state, found) = item;
            return ERR_OK;
        }
        item.slot++;
    }
    return note_set(step->note, ERR_LIMIT, "%d parts are on their way out already: release them",
                    LEDGER_UNBONDINGS_MAX);
}

enum err rule_unbond(struct step *step, const Openledger__V1__Unbond *action)
{
    enum ledger_role role = LEDGER_ROLE_END;
    struct amount amount;
    struct amount rest;
    enum err err = role_take(step, (int)action->role, &role);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    err =
        err ? err : rest_take(step, ledger_bond(step->ledger, &step->sender, role), amount, &rest);
    err = err ? err : stake_set_bond(step, &step->sender, role, rest);
    return err ? err : unbonding_add(step, role, NULL, amount);
}

enum err rule_release(struct step *step, const Openledger__V1__Release *action)
{
    enum ledger_role role = LEDGER_ROLE_END;
    struct ledger_unbonding probe = {.account = step->sender};
    enum err err = role_take(step, (int)action->role, &role);
    if (err == ERR_OK && action->validator.len != 0) {
        err = step_account(step, action->validator, "validator", &probe.validator);
        if (err == ERR_OK && role != LEDGER_ROLE_VALIDATOR) {
            err = note_set(step->note, ERR_INVALID, "only validators have delegations");
        }
    }
    struct amount sum = AMOUNT_ZERO;
    uint64_t next_ms = 0;
    probe.role = (uint32_t)role;
    for (; err == ERR_OK && probe.slot < LEDGER_UNBONDINGS_MAX; probe.slot++) {
        const struct ledger_unbonding *found = state_get(step->state, STATE_UNBONDING, &probe);
        if (found == NULL || amount_is_zero(found->amount)) {
            continue;
        }
        if (found->release_ms > step->time_ms) {
            next_ms = next_ms == 0 || found->release_ms < next_ms ? found->release_ms : next_ms;
            continue;
        }
        CHECK(amount_add(sum, found->amount, &sum) == ERR_OK);
        ((struct ledger_unbonding *)state_edit(step->state, found))->amount = AMOUNT_ZERO;
    }
    if (err == ERR_OK && amount_is_zero(sum)) {
        err = note_set(step->note, ERR_CONFLICT, "nothing is due at %llu ms, the next is at %llu",
                       (unsigned long long)step->time_ms, (unsigned long long)next_ms);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct account_id escrow;
    ledger_bond_escrow_id(action->validator.len != 0 ? &probe.validator : &step->sender, role,
                          &escrow);
    return step_pay(step, &escrow, &step->sender, sum, "unbond", &step->tx);
}

static struct amount delegated(const struct step *step, const struct account_id *validator)
{
    const struct ledger_delegation *found =
        ledger_delegation(step->ledger, &step->sender, validator);
    return found == NULL ? AMOUNT_ZERO : found->amount;
}

enum err rule_delegate(struct step *step, const Openledger__V1__Delegate *action)
{
    struct account_id validator;
    struct amount amount;
    struct amount total;
    struct account_id escrow;
    enum err err = step_account(step, action->validator, "validator", &validator);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    if (err != ERR_OK) {
        return err;
    }
    if (account_id_equal(&validator, &step->sender)) {
        return note_set(step->note, ERR_INVALID, "a delegation to oneself: bond instead");
    }
    if (!ledger_is_bonded(step->ledger, &validator, LEDGER_ROLE_VALIDATOR)) {
        return note_set(step->note, ERR_DENIED, "%s has no bond as validator",
                        short_hex(validator.bytes).text);
    }
    const struct ledger_bond *bond =
        ledger_bond_record(step->ledger, &validator, LEDGER_ROLE_VALIDATOR);
    if (bond->delegations >= LEDGER_DELEGATIONS_MAX &&
        amount_is_zero(delegated(step, &validator))) {
        return note_set(step->note, ERR_LIMIT, "%d accounts delegate to %s already",
                        LEDGER_DELEGATIONS_MAX, short_hex(validator.bytes).text);
    }
    ledger_bond_escrow_id(&validator, LEDGER_ROLE_VALIDATOR, &escrow);
    err = total_take(step, delegated(step, &validator), amount, &total);
    err = err ? err : step_pay(step, &step->sender, &escrow, amount, "delegate", &step->tx);
    return err ? err : stake_set_delegation(step, &step->sender, &validator, total);
}

enum err rule_undelegate(struct step *step, const Openledger__V1__Undelegate *action)
{
    struct account_id validator;
    struct amount amount;
    struct amount rest;
    enum err err = step_account(step, action->validator, "validator", &validator);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    err = err ? err : rest_take(step, delegated(step, &validator), amount, &rest);
    err = err ? err : stake_set_delegation(step, &step->sender, &validator, rest);
    return err ? err : unbonding_add(step, LEDGER_ROLE_VALIDATOR, &validator, amount);
}

enum err rule_claim_rewards(struct step *step, const Openledger__V1__ClaimRewards *action)
{
    bool any = false;
    if (action->n_validators > CLAIM_VALIDATORS_MAX) {
        return note_set(step->note, ERR_LIMIT, "%zu validators, the limit is %d",
                        action->n_validators, CLAIM_VALIDATORS_MAX);
    }
    enum err err = stake_claim_bonds(step, &any);
    for (size_t i = 0; i < action->n_validators && err == ERR_OK; i++) {
        struct account_id validator;
        err = step_account(step, action->validators[i], "validator", &validator);
        err = err ? err : stake_claim_delegation(step, &validator);
    }
    return err == ERR_OK && !any && action->n_validators == 0
               ? note_set(step->note, ERR_NOT_FOUND, "account %s has no bond",
                          short_hex(step->sender.bytes).text)
               : err;
}
