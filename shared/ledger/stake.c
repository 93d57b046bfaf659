/* stake.c - see stake.h: positions, the pool's index, checkpoints of power. */
#include "shared/ledger/stake.h"

#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

enum { BP_TOTAL = 10000 };

/* ---- getters ------------------------------------------------------------------------------------ */

const struct ledger_bond *ledger_bond_record(const struct ledger *ledger,
                                             const struct account_id *account,
                                             enum ledger_role role)
{
    return state_get(ledger->state, STATE_BOND,
                     &(struct ledger_bond){.account = *account, .role = (uint32_t)role});
}

const struct ledger_delegation *ledger_delegation(const struct ledger *ledger,
                                                  const struct account_id *delegator,
                                                  const struct account_id *validator)
{
    return state_get(ledger->state, STATE_DELEGATION,
                     &(struct ledger_delegation){.delegator = *delegator, .validator = *validator});
}

const struct ledger_delegation *ledger_next_delegation(const struct ledger *ledger,
                                                       const struct ledger_delegation *previous)
{
    return state_next(ledger->state, STATE_DELEGATION, previous);
}

const struct ledger_unbonding *ledger_next_unbonding(const struct ledger *ledger,
                                                     const struct ledger_unbonding *previous)
{
    return state_next(ledger->state, STATE_UNBONDING, previous);
}

const struct ledger_staker *ledger_staker(const struct ledger *ledger,
                                          const struct account_id *account)
{
    return state_get(ledger->state, STATE_STAKER, &(struct ledger_staker){.account = *account});
}

uint64_t ledger_power_at(const struct ledger *ledger, enum ledger_series series,
                         const struct account_id *account, uint64_t height)
{
    struct ledger_power probe = {.series = (uint32_t)series};
    if (account != NULL) {
        probe.account = *account;
    }
    const struct ledger_power *power = state_get(ledger->state, STATE_POWER, &probe);
    uint64_t grains = 0;
    for (uint32_t i = 0; power != NULL && i < power->count && power->heights[i] <= height; i++) {
        grains = power->grains[i];
    }
    return grains;
}

static uint64_t grains_of(struct amount amount)
{
    struct amount grains;
    CHECK(amount_mul_ratio(amount, 1, LEDGER_STAKE_GRAIN, &grains) == ERR_OK);
    CHECK(grains.high == 0); /* the whole supply is 10^18 grains */
    return grains.low;
}

/* ---- the pool ----------------------------------------------------------------------------------- */

static struct ledger_staking staking_now(const struct ledger *ledger)
{
    const struct ledger_staking *found = state_next(ledger->state, STATE_STAKING, NULL);
    const struct ledger_staking none = {0};
    return found == NULL ? none : *found;
}

/* Spreads what the pool holds and does not owe yet: index += floor(fresh * scale / grains). What one
 * step of the index cannot express stays for the next time. owed grows by at least the sum of what all
 * positions can claim for it. */
static void pool_spread(const struct ledger *ledger, struct ledger_staking *staking)
{
    const struct amount scale = amount_from_units(LEDGER_REWARD_SCALE);
    const struct amount grains = amount_from_units(staking->grains);
    struct account_id pool;
    struct amount fresh;
    struct amount step;
    struct amount index;
    struct amount spread;
    ledger_stakers_pool_id(&pool);
    const struct ledger_account *account = ledger_account(ledger, &pool);
    if (account == NULL || staking->grains == 0) {
        return;
    }
    CHECK(amount_sub(account->balance, staking->owed, &fresh) == ERR_OK);
    if (amount_mul_div(fresh, scale, grains, &step) != ERR_OK || amount_is_zero(step) ||
        amount_add(staking->index, step, &index) != ERR_OK) {
        return; /* too little for a step, or (with next to no stake) too much: it waits in the pool */
    }
    CHECK(amount_mul_div(step, grains, scale, &spread) == ERR_OK);
    CHECK(amount_add(spread, amount_from_units(1), &spread) == ERR_OK);
    CHECK(amount_add(staking->owed, amount_min(spread, fresh), &staking->owed) == ERR_OK);
    staking->index = index;
}

static struct amount reward_due(struct amount position, struct amount rewarded_to,
                                struct amount index)
{
    struct amount earned;
    struct amount due;
    CHECK(amount_sub(index, rewarded_to, &earned) == ERR_OK);
    CHECK(amount_mul_div(amount_from_units(grains_of(position)), earned,
                         amount_from_units(LEDGER_REWARD_SCALE), &due) == ERR_OK);
    return due;
}

struct amount ledger_rewards(const struct ledger *ledger, const struct account_id *account)
{
    struct ledger_staking staking = staking_now(ledger);
    const uint32_t commission_bp = ledger_parameters(ledger)->commission_bp;
    struct amount sum = AMOUNT_ZERO;
    struct amount part;
    pool_spread(ledger, &staking);
    for (int role = 1; role < LEDGER_ROLE_END; role++) {
        const struct ledger_bond *bond =
            ledger_bond_record(ledger, account, (enum ledger_role)role);
        if (bond != NULL) {
            part = reward_due(bond->amount, bond->rewarded_to, staking.index);
            CHECK(amount_add(sum, part, &sum) == ERR_OK);
        }
    }
    const struct ledger_delegation *item = NULL;
    while ((item = ledger_next_delegation(ledger, item)) != NULL) {
        if (account_id_equal(&item->delegator, account)) {
            struct amount commission;
            part = reward_due(item->amount, item->rewarded_to, staking.index);
            CHECK(amount_mul_ratio(part, commission_bp, BP_TOTAL, &commission) == ERR_OK);
            CHECK(amount_sub(part, commission, &part) == ERR_OK);
            CHECK(amount_add(sum, part, &sum) == ERR_OK);
        }
    }
    return sum;
}

/* The pool's record, writable, with everything spread. */
static struct ledger_staking *staking_edit(struct step *step)
{
    const struct ledger_staking *found = state_next(step->state, STATE_STAKING, NULL);
    struct ledger_staking *staking =
        found == NULL ? state_add(step->state, STATE_STAKING, &(struct ledger_staking){0})
                      : state_edit(step->state, found);
    pool_spread(step->ledger, staking);
    return staking;
}

static enum err pool_pay(struct step *step, struct ledger_staking *staking,
                         const struct account_id *to, struct amount amount, const char *reason)
{
    struct account_id pool;
    ledger_stakers_pool_id(&pool);
    CHECK(amount_sub(staking->owed, amount, &staking->owed) == ERR_OK);
    return step_pay(step, &pool, to, amount, reason, &step->tx);
}

/* Pays what the bond has earned. */
static enum err bond_reward(struct step *step, struct ledger_bond *bond)
{
    struct ledger_staking *staking = staking_edit(step);
    struct amount due = reward_due(bond->amount, bond->rewarded_to, staking->index);
    bond->rewarded_to = staking->index;
    return pool_pay(step, staking, &bond->account, due, "stakers.reward");
}

static enum err delegation_reward(struct step *step, struct ledger_delegation *item)
{
    struct ledger_staking *staking = staking_edit(step);
    struct amount due = reward_due(item->amount, item->rewarded_to, staking->index);
    struct amount commission;
    item->rewarded_to = staking->index;
    CHECK(amount_mul_ratio(due, ledger_parameters(step->ledger)->commission_bp, BP_TOTAL,
                           &commission) == ERR_OK);
    CHECK(amount_sub(due, commission, &due) == ERR_OK);
    enum err err = pool_pay(step, staking, &item->validator, commission, "stakers.commission");
    return err ? err : pool_pay(step, staking, &item->delegator, due, "stakers.reward");
}

enum err stake_claim_bonds(struct step *step, bool *out_any)
{
    enum err err = ERR_OK;
    *out_any = false;
    for (int role = 1; role < LEDGER_ROLE_END && err == ERR_OK; role++) {
        const struct ledger_bond *bond =
            ledger_bond_record(step->ledger, &step->sender, (enum ledger_role)role);
        if (bond != NULL) {
            *out_any = true;
            err = bond_reward(step, state_edit(step->state, bond));
        }
    }
    return err;
}

enum err stake_claim_delegation(struct step *step, const struct account_id *validator)
{
    const struct ledger_delegation *item =
        ledger_delegation(step->ledger, &step->sender, validator);
    return item == NULL ? note_set(step->note, ERR_NOT_FOUND, "nothing is delegated to %s",
                                   short_hex(validator->bytes).text)
                        : delegation_reward(step, state_edit(step->state, item));
}

/* ---- power -------------------------------------------------------------------------------------- */

static uint64_t block_now(const struct step *step)
{
    return step->ledger->head.height + 1;
}

static const struct ledger_snapshot_slot *slot_at(const struct step *step, uint32_t slot)
{
    return state_get(step->state, STATE_SNAPSHOT, &(struct ledger_snapshot_slot){.slot = slot});
}

/* Does an open snapshot fall into [from, before)? */
static bool snapshot_between(const struct step *step, uint64_t from, uint64_t before)
{
    for (uint32_t i = 0; i < LEDGER_SNAPSHOTS_MAX; i++) {
        const struct ledger_snapshot_slot *slot = slot_at(step, i);
        if (slot != NULL && slot->until_height >= block_now(step) && slot->height >= from &&
            slot->height < before) {
            return true;
        }
    }
    return false;
}

static void power_append(struct step *step, struct ledger_power *power, uint64_t height,
                         uint64_t grains)
{
    if (power->count > 0 && power->heights[power->count - 1] == height) {
        power->grains[power->count - 1] = grains;
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < power->count; i++) {
        uint64_t next = i + 1 < power->count ? power->heights[i + 1] : height;
        if (snapshot_between(step, power->heights[i], next)) {
            power->heights[kept] = power->heights[i];
            power->grains[kept++] = power->grains[i];
        }
    }
    CHECK(kept < LEDGER_CHECKPOINTS_MAX); /* each kept one holds a snapshot of its own */
    for (uint32_t i = kept; i < LEDGER_CHECKPOINTS_MAX; i++) {
        power->heights[i] = 0;
        power->grains[i] = 0;
    }
    power->heights[kept] = height;
    power->grains[kept] = grains;
    power->count = kept + 1;
}

static void power_change(struct step *step, enum ledger_series series,
                         const struct account_id *account, uint64_t less, uint64_t more)
{
    struct ledger_power probe = {.series = (uint32_t)series};
    if (account != NULL) {
        probe.account = *account;
    }
    if (less == more) {
        return;
    }
    const struct ledger_power *found = state_get(step->state, STATE_POWER, &probe);
    struct ledger_power *power = found == NULL ? state_add(step->state, STATE_POWER, &probe)
                                               : state_edit(step->state, found);
    uint64_t grains = power->count == 0 ? 0 : power->grains[power->count - 1];
    CHECK(grains >= less);
    power_append(step, power, block_now(step), grains - less + more);
}

static struct ledger_staker *staker_edit(struct step *step, const struct account_id *account)
{
    const struct ledger_staker *found = ledger_staker(step->ledger, account);
    const struct ledger_staker fresh = {.account = *account, .delegate = *account};
    return found == NULL ? state_add(step->state, STATE_STAKER, &fresh)
                         : state_edit(step->state, found);
}

/* A position of holder went from before to after; validator: whose weight it counts to, or NULL. */
static void position_moved(struct step *step, const struct account_id *holder,
                           const struct account_id *validator, uint64_t before, uint64_t after)
{
    struct ledger_staking *staking = staking_edit(step);
    struct ledger_staker *staker = staker_edit(step, holder);
    staking->grains = staking->grains - before + after;
    staker->grains = staker->grains - before + after;
    power_change(step, LEDGER_SERIES_VOTES, &staker->delegate, before, after);
    power_change(step, LEDGER_SERIES_VOTES, NULL, before, after);
    if (validator != NULL) {
        power_change(step, LEDGER_SERIES_VALIDATORS, validator, before, after);
        power_change(step, LEDGER_SERIES_VALIDATORS, NULL, before, after);
    }
}

void stake_delegate_votes(struct step *step, const struct account_id *to)
{
    struct ledger_staker *staker = staker_edit(step, &step->sender);
    power_change(step, LEDGER_SERIES_VOTES, &staker->delegate, staker->grains, 0);
    staker->delegate = *to;
    power_change(step, LEDGER_SERIES_VOTES, to, 0, staker->grains);
}

enum err stake_snapshot(struct step *step, bool proposal, const struct ledger_snapshot_slot *wanted)
{
    uint32_t first = proposal ? 0 : LEDGER_PROPOSALS_MAX;
    uint32_t end = proposal ? LEDGER_PROPOSALS_MAX : LEDGER_SNAPSHOTS_MAX;
    const struct ledger_snapshot_slot *gone = NULL;
    uint32_t free_slot = end;
    for (uint32_t i = end; i-- > first;) {
        const struct ledger_snapshot_slot *slot = slot_at(step, i);
        bool open = slot != NULL && slot->until_height >= block_now(step);
        if (open && account_id_equal(&slot->opener, &wanted->opener)) {
            return note_set(step->note, ERR_CONFLICT, "account %s has an open %s already",
                            short_hex(wanted->opener.bytes).text,
                            proposal ? "proposal" : "challenge");
        }
        if (!open) {
            free_slot = i;
            gone = slot;
        }
    }
    if (free_slot == end) {
        return note_set(step->note, ERR_LIMIT, "%u are open, which is the limit", end - first);
    }
    struct ledger_snapshot_slot fresh = *wanted;
    fresh.slot = free_slot;
    if (gone == NULL) {
        (void)state_add(step->state, STATE_SNAPSHOT, &fresh);
    } else {
        *(struct ledger_snapshot_slot *)state_edit(step->state, gone) = fresh;
    }
    return ERR_OK;
}

void stake_snapshot_close(struct step *step, const struct digest *subject)
{
    for (uint32_t i = 0; i < LEDGER_SNAPSHOTS_MAX; i++) {
        const struct ledger_snapshot_slot *slot = slot_at(step, i);
        if (slot != NULL && digest_equal(&slot->subject, subject)) {
            ((struct ledger_snapshot_slot *)state_edit(step->state, slot))->until_height = 0;
        }
    }
}

/* ---- positions ---------------------------------------------------------------------------------- */

enum err stake_set_bond(struct step *step, const struct account_id *account, enum ledger_role role,
                        struct amount amount)
{
    struct ledger_bond fresh = {.account = *account, .role = (uint32_t)role};
    const struct ledger_bond *found = ledger_bond_record(step->ledger, account, role);
    if (found == NULL) {
        fresh.rewarded_to = staking_edit(step)->index;
    }
    struct ledger_bond *bond =
        found == NULL ? state_add(step->state, STATE_BOND, &fresh) : state_edit(step->state, found);
    enum err err = bond_reward(step, bond);
    uint64_t before = grains_of(bond->amount);
    bond->amount = amount;
    position_moved(step, account, role == LEDGER_ROLE_VALIDATOR ? account : NULL, before,
                   grains_of(amount));
    return err;
}

enum err stake_set_delegation(struct step *step, const struct account_id *delegator,
                              const struct account_id *validator, struct amount amount)
{
    struct ledger_delegation fresh = {.delegator = *delegator, .validator = *validator};
    const struct ledger_delegation *found = ledger_delegation(step->ledger, delegator, validator);
    if (found == NULL) {
        fresh.rewarded_to = staking_edit(step)->index;
    }
    struct ledger_delegation *item = found == NULL
                                         ? state_add(step->state, STATE_DELEGATION, &fresh)
                                         : state_edit(step->state, found);
    enum err err = delegation_reward(step, item);
    uint64_t before = grains_of(item->amount);
    if (amount_is_zero(item->amount) != amount_is_zero(amount)) {
        const struct ledger_bond *found_bond =
            ledger_bond_record(step->ledger, validator, LEDGER_ROLE_VALIDATOR);
        CHECK(found_bond != NULL);
        struct ledger_bond *bond = state_edit(step->state, found_bond);
        bond->delegations += amount_is_zero(amount) ? UINT32_MAX : 1;
    }
    item->amount = amount;
    position_moved(step, delegator, validator, before, grains_of(amount));
    return err;
}
