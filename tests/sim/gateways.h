/* gateways.h - two replicas of a gateway, and attribution: real holds, receipts and batches
 * (services/lora-gateway/gateway.c) on a real journal, between answers that end well, badly or not at all.
 *
 * Their rules: an opening is on disk before the first token, a receipt before the last one; after a restart
 * every opening gets its void; numbers have no gaps; what was published is published again after a crash that
 * lost the index, by further feeders too, and while the ledger does not show it (unsettled.c): the stream of
 * batches loses its disk now and then. Their batches' bytes arrive late; one grant expires while answers are
 * under way. An answer's opening goes to attribution the same way (attributions.h). */
#pragma once

#include <stdbool.h>

#define GATEWAYS_MS 40   /* between two steps */
#define REPUBLISH_MS 250 /* before what the ledger does not show goes out again, at first */

void gateways_start(void);
void gateways_step(void);
/* Nothing is open, batched, published or to be published again any more; what was is charged (or its grant is
 * closed), and the grant that expired is closed. */
bool gateways_done(void);
/* At the end: every answer that somebody saw begin has exactly one receipt, and it is on the ledger; grants have
 * paid exactly their receipts' fees, and hold exactly the rest, or nothing once closed; no lease holds anything
 * back. */
void gateways_conclude(void);
void gateways_end(void);
