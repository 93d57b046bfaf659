/* ledger_world_batches.h - a world's settlement batches with another first item, signed by who may: so hostile items
 * get past the signature, to the rules. */
#pragma once

#include "tests/harness/ledger_world.h"

/* Appends the first item of a batch. */
void world_batch_item(struct bytes batch, bool of_shares, struct buf *out);

/* The batch with item in the place of its first, signed again; its blob is stored. Returns its digest. */
struct digest world_batch_with(struct world *world, struct bytes batch, bool of_shares,
                               struct bytes item);
