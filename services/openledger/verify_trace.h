/* verify_trace.h - what a whole replay says about one account, receipt or payout, step by step.
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

/* The receipt that a payout refers to; false: none, or the payout was not met. */
bool verify_trace_reference(const struct verify_trace *trace, struct digest *out_receipt);

/* After the replay: appends the steps as text or JSON. ERR_NOT_FOUND: nothing was met. */
MUST_USE enum err verify_trace_tell(const struct verify_trace *trace,
                                    const struct verify_ledger_report *report, bool json,
                                    struct buf *out, struct note *note);
