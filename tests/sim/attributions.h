/* attributions.h - attribution's part of a history: it hears openings as the bus brings them (late, twice, out of
 * order, or only when the gateway publishes again), works out shares, and publishes them in batches until the
 * ledger shows that their receipts wait no more. What is read, picked into a batch and published again is
 * decided by the service's own rules (services/attribution/attribution.c).
 *
 * Its shares come in time, late, never, with a rival that disagrees (the first one counts), or after false
 * ones, which nothing may be paid by. Its store is durable: a death loses what it had not acknowledged, which
 * the stream brings again.
 *
 * The rule it is held to: a part goes to the treasury only if its shares could not come in time. */
#pragma once

#include "shared/base/bytes.h"
#include "shared/ledger/ledger.h"

void attributions_start(void);
/* A gateway publishes an AnswerFinished: sends it over the bus, which may lose, double or delay it. */
void attributions_publish(struct bytes message);
/* The bus brings it. */
void attributions_heard(struct bytes message, uint64_t stream);
void attributions_step(void);
/* A gateway's batch was charged for good, by this task. */
void attributions_charged(const struct ledger_effects *effects, size_t task);
/* The contributors' part of a receipt went to its treasury. */
void attributions_overdue(const struct digest *receipt);
/* The streams lose their disks: what is on its way to attribution is gone. */
void attributions_wipe(void);
