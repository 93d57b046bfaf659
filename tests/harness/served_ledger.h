/* served_ledger.h - a world's ledger behind the Settlement methods that a follower asks for, over NATS.
 *
 * For tests of one service against the real state machine without the settlement process: GetInfo,
 * GetEntries and Submit; all others are refused. The world is dated today, since services sign by the
 * real clock. */
#pragma once

#include "shared/blob/blob.h"
#include "shared/bus/bus.h"
#include "tests/harness/ledger_world.h"

struct served_ledger;

/* world_setup(), and on top of it: the model of a Hugging Face folder as "stories", an adapter of it
 * "tale" (B = 0; 0.001 and 0.002 OPEN per token), and a grant of limit for WORLD_GATEWAY, without a
 * lease. Objects go to blobs. */
struct served_ledger *served_ledger_create(struct blob_store *blobs, const char *model_folder,
                                           const char *grant_limit);
void served_ledger_destroy(struct served_ledger *ledger);

/* The world; hold the lock to change it while it is served. */
struct world *served_ledger_world(struct served_ledger *ledger);
void served_ledger_lock(struct served_ledger *ledger);
void served_ledger_unlock(struct served_ledger *ledger);

void served_ledger_start(struct served_ledger *ledger, struct bus *bus);
void served_ledger_stop(struct served_ledger *ledger);
