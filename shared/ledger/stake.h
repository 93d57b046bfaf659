/* stake.h - bonds, delegations, what they earn and how they vote: records and getters.
 *
 * All stake earns from one pool, pro rata, without touching every staker at every payment: the pool
 * keeps an index of what one grain of stake has earned since genesis, and each position remembers the
 * index up to which it was paid. Money that reaches the pool is spread when a position changes or is
 * paid, which gives the same as spreading it at once, because positions did not change in between.
 *
 * Votes and validators' weights are kept as checkpoints by height, so that what counts at a snapshot
 * is what was staked then. A checkpoint is dropped when no open snapshot needs it.
 *
 * Pure; as ledger.h. */
#pragma once

#include "shared/ledger/ledger.h"

#define LEDGER_STAKE_GRAIN UINT64_C(1000000000)     /* base units: stake weighs in whole grains */
#define LEDGER_REWARD_SCALE UINT64_C(1000000000000) /* index units in a base unit per grain */
#define LEDGER_UNBONDINGS_MAX 8                     /* waiting at once for one position */
#define LEDGER_SNAPSHOTS_MAX 32                     /* open at once: proposals, then challenges */
#define LEDGER_PROPOSALS_MAX 16                     /* of them for proposals */
#define LEDGER_DELEGATIONS_MAX 1024 /* to one validator: a slash reaches all of them in one entry */
#define LEDGER_CHECKPOINTS_MAX (LEDGER_SNAPSHOTS_MAX + 1)

struct ledger_delegation {
    struct account_id delegator;
    struct account_id validator;
    struct amount amount;
    struct amount rewarded_to; /* pool index */
};

/* Stake on its way out: in escrow until then, and slashed with what it came from. */
struct ledger_unbonding {
    struct account_id account;
    uint32_t role;
    struct account_id validator; /* zero: the account's own bond */
    uint32_t slot;               /* 0..LEDGER_UNBONDINGS_MAX - 1 */
    struct amount amount;
    uint64_t release_ms;
};

/* The pool: one record. */
struct ledger_staking {
    uint64_t grains;     /* all bonds and delegations */
    struct amount index; /* what a grain has earned since genesis, in 1/LEDGER_REWARD_SCALE units */
    struct amount owed;  /* of the pool's balance; the rest is not spread yet */
};

struct ledger_staker {
    struct account_id account;
    uint64_t grains;            /* all its bonds and delegations */
    struct account_id delegate; /* who votes with them; itself at first */
};

enum ledger_series {
    LEDGER_SERIES_VOTES = 1,      /* by account that votes */
    LEDGER_SERIES_VALIDATORS = 2, /* by validator: its bond and what is delegated to it */
};

/* Account zero: the sum over all accounts. */
struct ledger_power {
    struct account_id account;
    uint32_t series; /* enum ledger_series */
    uint32_t count;
    uint64_t heights[LEDGER_CHECKPOINTS_MAX]; /* ascending; changed in the block of this height */
    uint64_t grains[LEDGER_CHECKPOINTS_MAX];  /* from then on */
};

/* Somebody will ask for power at this height until a block is sealed. */
struct ledger_snapshot_slot {
    uint32_t slot; /* 0..LEDGER_SNAPSHOTS_MAX - 1 */
    uint64_t height;
    uint64_t until_height; /* the last block in which it is needed */
    struct digest subject; /* proposal or challenge */
    struct account_id opener;
};

const struct ledger_bond *ledger_bond_record(const struct ledger *ledger,
                                             const struct account_id *account,
                                             enum ledger_role role);
const struct ledger_delegation *ledger_delegation(const struct ledger *ledger,
                                                  const struct account_id *delegator,
                                                  const struct account_id *validator);
const struct ledger_delegation *ledger_next_delegation(const struct ledger *ledger,
                                                       const struct ledger_delegation *previous);
const struct ledger_unbonding *ledger_next_unbonding(const struct ledger *ledger,
                                                     const struct ledger_unbonding *previous);
const struct ledger_staker *ledger_staker(const struct ledger *ledger,
                                          const struct account_id *account);
/* Grains of an account (NULL: of all) at the end of the block of this height. Right for the newest
 * block, for the one being built, and for heights of open snapshots. */
uint64_t ledger_power_at(const struct ledger *ledger, enum ledger_series series,
                         const struct account_id *account, uint64_t height);
/* All that ClaimRewards would pay the account now. */
struct amount ledger_rewards(const struct ledger *ledger, const struct account_id *account);
