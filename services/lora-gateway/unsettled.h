/* unsettled.h - what is published and the ledger does not show yet, and when it goes out again.
 *
 * Why: the bus acknowledges before it syncs, and when its disk is gone so is what it acknowledged and
 * nobody had taken. A receipt lost that way would stop its lease, since numbers have no gaps. So an
 * acknowledgement ends nothing: a published record stays in view until the ledger shows what came of it,
 *
 *     Batch              its last receipt's number is settled
 *     Finished, charged  the receipt is settled and its contributors' part does not wait any more
 *     both               or the grant is closed, and nothing can come of it
 *
 * and is published again while the ledger does not: after retry_ms, then twice that, and so on up to
 * UNSETTLED_WAIT_MAX times retry_ms. Whoever takes a repetition knows it by the receipt's number or id;
 * the ledger charges and shares each receipt once. Records come from the journal in order and the
 * journal keeps them, so after a restart everything before unsettled_floor() need not be looked at.
 *
 * Pure: no I/O, no clock. One thread (the desk's). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openledger/v1/gateway.pb-c.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/ledger/ledger.h"

#define UNSETTLED_MAX 65536   /* records in view; those behind them wait for their turn */
#define UNSETTLED_WAIT_MAX 16 /* times retry_ms between two repetitions, at most */

struct unsettled;

/* first: journal index of the first record that will be added. retry_ms > 0. NULL: out of memory. */
MUST_USE struct unsettled *unsettled_create(uint64_t first, uint64_t retry_ms);
void unsettled_destroy(struct unsettled *unsettled); /* NULL is fine */

/* Takes the record at unsettled_next() into view, published at now_ms (a clock that never goes back).
 * Kinds that are not published only move unsettled_next(). ERR_LIMIT: the view is full, try later;
 * ERR_CORRUPT: the record is malformed. */
MUST_USE enum err unsettled_add(struct unsettled *unsettled,
                                const Openledger__V1__GatewayRecord *record, uint64_t now_ms,
                                struct note *note);
/* Journal index of the record to be added next. */
uint64_t unsettled_next(const struct unsettled *unsettled);

/* Publishes the record at index again; false: not now, ask again. */
typedef bool unsettled_send(void *context, uint64_t index);

/* Forgets what the ledger shows and sends what is due, oldest first, until send says no. The ledger must
 * be up to date, else what it does not show yet goes out for nothing. Returns how many were sent. Cost: a
 * look at the oldest record, and one at all of them when something is due. */
size_t unsettled_look(struct unsettled *unsettled, const struct ledger *ledger, uint64_t now_ms,
                      unsettled_send *send, void *context);

/* The ledger showed every record before this index, as of the last look. */
uint64_t unsettled_floor(const struct unsettled *unsettled);
size_t unsettled_count(const struct unsettled *unsettled); /* in view */
