/* claims.h - money that waits until its owner asks for it: genesis allocations that vest, and lists of
 * payments of which the ledger knows only the Merkle root. The rules are in rules_claims.c. Pure; as
 * ledger.h. */
#pragma once

#include "shared/ledger/ledger.h"

#define LEDGER_CLAIMS_MAX 10000000 /* leaves under one root */

/* A genesis allocation that vests: its escrow holds total less claimed. */
struct ledger_vesting {
    struct account_id account;
    struct amount total;
    struct amount claimed;
    uint64_t cliff_at_ms; /* log time: nothing has vested before */
    uint64_t vest_ms;     /* after the cliff, linear; 0: all at the cliff */
};

struct ledger_claims {
    struct digest id; /* of its PublishClaims transaction */
    struct account_id publisher;
    struct digest root; /* RFC 6962, over serialised ClaimLeaf */
    uint32_t count;
    uint32_t claimed; /* leaves that were */
    struct amount total;
    struct amount paid;
    uint64_t expires_ms;
    bool closed;
    char title[LEDGER_TITLE_MAX + 1];
    uint64_t index;
};

/* This leaf was paid. */
struct ledger_claimed {
    struct digest claims;
    uint32_t number;
};

const struct ledger_vesting *ledger_vesting(const struct ledger *ledger,
                                            const struct account_id *account);
/* What has vested of the allocation at time_ms (rounded down), claimed or not. */
struct amount ledger_vested(const struct ledger_vesting *vesting, uint64_t time_ms);
const struct ledger_claims *ledger_claims(const struct ledger *ledger, const struct digest *id);
bool ledger_is_claimed(const struct ledger *ledger, const struct digest *claims, uint32_t number);

/* Nobody holds a key to these accounts. */
void ledger_vesting_escrow_id(const struct account_id *account, struct account_id *out_id);
void ledger_claims_escrow_id(const struct digest *claims, struct account_id *out_id);

/* Appends the serialised ClaimLeaf: what the tree's leaves are made of. Errors: as buf. */
MUST_USE enum err ledger_claim_leaf(const struct account_id *account, const char *amount,
                                    struct buf *out);
