/* changes.h - what can change after it was published: withdrawn rows, prices over time, payouts from
 * treasuries. The rules are in rules_roles.c and rules_price.c. Pure; as ledger.h. */
#pragma once

#include "shared/ledger/ledger.h"

#define LEDGER_WITHDRAW_MAX 1024 /* rows of one WithdrawRows */

/* Its contributor withdrew this row of a contribution. */
struct ledger_withdrawn_row {
    struct digest contribution;
    uint32_t row; /* from 0 */
};

/* A price that an adapter had before its present one. */
struct ledger_price {
    char adapter[LEDGER_NAME_MAX + 1];
    uint32_t number; /* from 0 */
    struct amount prompt, completion;
    uint64_t from_ms; /* for receipts opened from then on, until the next price's */
};

/* What a datanet's owner has paid out of its treasury in the period that began then. */
struct ledger_payouts {
    char datanet[LEDGER_NAME_MAX + 1];
    uint64_t from_ms;
    struct amount limit;
    struct amount paid;
};

bool ledger_row_withdrawn(const struct ledger *ledger, const struct digest *contribution,
                          uint32_t row);
/* The price for a receipt opened at that time. */
void ledger_price_at(const struct ledger *ledger, const struct ledger_adapter *adapter,
                     uint64_t opened_ms, struct ledger_price *out_price);
/* May no receipt be opened at that time? */
bool ledger_adapter_revoked(const struct ledger_adapter *adapter, uint64_t opened_ms);
const struct ledger_payouts *ledger_payouts(const struct ledger *ledger, const char *datanet);
