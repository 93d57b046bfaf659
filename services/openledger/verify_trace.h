/* verify_trace.h - what a whole replay says about one account, receipt or payout, step by step.
 *
 * Settlement posts one leg for what a whole batch does to an account, so a receipt's own legs are derived again from
 * its share set; a payout is told with the part of every receipt that was netted into it.
 *
 * Collects while verify_ledger() replays, so every step told was checked: the transaction's signatures, its legs,
 * the block that has it, and at the end the checkpoint over that block. */
#pragma once

#include "services/openledger/verify_ledger.h"
#include "shared/base/account_id.h"
#include "shared/base/buf.h"

struct verify_trace;

enum verify_trace_kind { TRACE_ACCOUNT, TRACE_RECEIPT, TRACE_PAYOUT };

struct verify_trace_options {
    enum verify_trace_kind kind;
    struct account_id account;
    struct digest receipt;
    uint64_t entry; /* of the payout */
    uint32_t leg;
    const char *blob_folder; /* borrowed */
};

/* NULL: out of memory. */
MUST_USE struct verify_trace *verify_trace_create(const struct verify_trace_options *options);
void verify_trace_destroy(struct verify_trace *trace); /* NULL is fine */

/* A verify_ledger_options.on_entry; context is the struct verify_trace. */
MUST_USE enum err verify_trace_entry(void *context, const struct ledger *ledger,
                                     const struct ledger_effects *effects, struct bytes entry,
                                     struct note *note);

/* After the replay: appends the steps as text or JSON. ERR_NOT_FOUND: nothing was met. */
MUST_USE enum err verify_trace_tell(const struct verify_trace *trace,
                                    const struct verify_ledger_report *report, bool json,
                                    struct buf *out, struct note *note);
