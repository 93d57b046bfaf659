/* publish.h - the outbox: journal records become blobs and messages, in order, until they are taken.
 *
 * A Batch record is put in the blob store and announced on ol.receipts.batch; a charge's Finished
 * record goes to attribution on ol.openings.answer. Message ids are the batch's digest and the
 * receipt's id, so publishing again after a crash or a lost acknowledgement is harmless. An item that
 * cannot be published is tried again for ever: it is durable, and those behind it wait. That something is
 * published does not end it (unsettled.h); its repetitions have no id, only readers know them again.
 *
 * Threads: one of its own, because blobs and acknowledgements block. */
#pragma once

#include <stdint.h>

#include "openledger/v1/gateway.pb-c.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/bus/bus.h"

#define PUBLISH_QUEUE_MAX 256 /* records handed over and not yet published */
#define PUBLISH_RETRY_MS 500  /* wait after a failure */

struct publisher;

/* Declares the two streams and starts the thread. first: journal index of the first record. */
MUST_USE enum err publisher_create(struct bus *bus, struct blob_store *blobs, uint32_t replicas,
                                   uint64_t first, struct publisher **out, struct note *note);
/* Stops at once; what is not published is published after the next start. NULL is fine. */
void publisher_destroy(struct publisher *publisher);

/* Hands over the record at index (ascending, without gaps; records that are not published count
 * too). On ERR_OK record is owned; ERR_LIMIT: the queue is full, try later. Any thread. */
MUST_USE enum err publisher_post(struct publisher *publisher, uint64_t index,
                                 Openledger__V1__GatewayRecord *record);

/* Hands over a record that was published before, to be published again; as publisher_post otherwise. */
MUST_USE enum err publisher_post_again(struct publisher *publisher, uint64_t index,
                                       Openledger__V1__GatewayRecord *record);

/* Every record before this index is published. Any thread. */
uint64_t publisher_done(struct publisher *publisher);
