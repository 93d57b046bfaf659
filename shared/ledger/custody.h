/* custody.h - money that waits for a decision, and keys that can be replaced: records and getters. The
 * rules are in rules_transfer.c and rules_recovery.c. Pure; as ledger.h. */
#pragma once

#include "shared/ledger/ledger.h"

#define LEDGER_LINKED_MAX 64 /* transfers of one LinkedTransfers */
#define LEDGER_GUARDIANS_MAX 8
#define LEDGER_RECOVERY_MS_MIN UINT64_C(3600000)    /* an hour: the owner must be able to notice */
#define LEDGER_RECOVERY_MS_MAX UINT64_C(7776000000) /* 90 days */

enum ledger_hold_state {
    LEDGER_HOLD_PENDING = 1,
    LEDGER_HOLD_POSTED = 2,
    LEDGER_HOLD_VOIDED = 3,
};

struct ledger_hold {
    struct digest id; /* of its HoldTransfer transaction */
    struct account_id payer;
    struct account_id to;
    struct account_id arbiter;
    struct amount amount;
    struct amount posted;
    uint64_t expires_ms;
    uint32_t state; /* enum ledger_hold_state */
    uint64_t index;
};

/* An account's guardians, and the key that each of them wants it to have. */
struct ledger_guardians {
    struct account_id account;
    uint32_t count; /* 0: switched off */
    uint32_t threshold;
    uint64_t delay_ms;
    struct account_id guardians[LEDGER_GUARDIANS_MAX]; /* ascending */
    struct public_key keys[LEDGER_GUARDIANS_MAX];
    uint64_t approved_ms[LEDGER_GUARDIANS_MAX]; /* 0: has approved no key */
};

const struct ledger_hold *ledger_hold(const struct ledger *ledger, const struct digest *id);
const struct ledger_guardians *ledger_guardians(const struct ledger *ledger,
                                                const struct account_id *account);
void ledger_hold_escrow_id(const struct digest *hold, struct account_id *out_id);
