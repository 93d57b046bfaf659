/* run.h - the job thread: one job at a time from the queue to the ledger.
 *
 * A message is acknowledged once the ledger says that the job is over, or is another trainer's. What
 * may work later is given back with a delay; what cannot work fails the job with its reason. */
#pragma once

#include <stdbool.h>

#include "services/trainer/jobs.h"

#define RUNNER_RETRY_MS 2000     /* before a job that could not be done now is looked at again */
#define RUNNER_DISK_MS 30000     /* the same, when this machine's disk is why */
#define RUNNER_ATTEMPTS_MAX 30   /* for a blob that does not come; then the job fails */
#define RUNNER_REPORT_MS 100     /* between two progress events */
#define RUNNER_HEARTBEAT_MS 5000 /* between two signs of life to the queue */

struct runner;

MUST_USE enum err runner_create(const struct jobs_options *options, struct runner **out,
                                struct note *note);
/* Waits for the job in hand to stop at its next step. NULL is fine. */
void runner_destroy(struct runner *runner);

/* How long a job that came to this error waits before it is looked at again: 0: never, it fails for good.
 * ERR_CORRUPT is never the job's fault: what contradicts the ledger is ERR_INVALID, and what a disk has damaged was right
 * once and can be put again (blob_mend). deliveries: how often the queue gave it, from 1. */
uint32_t runner_delay_ms(enum err err, uint64_t deliveries);

/* Is this the job in hand? Any thread. */
bool runner_has(struct runner *runner, const struct digest *job);
