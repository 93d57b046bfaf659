/* publish.h - carries the journal's entries to the stream OL_LEDGER, from a thread of its own.
 *
 * Message number n of the stream is entry n: each publication expects exactly n - 1 before it. So
 * nothing is there twice or out of order, and what a lost NATS disk forgot is seen and filled again.
 * The thread reads the journal's files itself, and only what is on disk. */
#pragma once

#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/bus/bus.h"

#define PUBLISH_STREAM "OL_LEDGER"
#define PUBLISH_SUBJECT "ol.ledger.entry"

struct publisher;

MUST_USE enum err publisher_start(struct bus *bus, const char *log_folder, uint32_t replicas,
                                  struct publisher **out_publisher, struct note *note);
void publisher_stop(struct publisher *publisher); /* NULL is fine */

/* Entries 1..durable are on disk and may be published. */
void publisher_wake(struct publisher *publisher, uint64_t durable);
/* Entries known to be in the stream. Any thread. */
uint64_t publisher_published(struct publisher *publisher);
