/* actors.h - a gateway in the simulation; for gateways.c and what is checked of it at the end (actors.c). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "services/lora-gateway/gateway.h"
#include "services/lora-gateway/unsettled.h"
#include "shared/journal/journal.h"

enum {
    ACTORS = 2,
    OPENINGS_MAX = 24 /* that one gateway begins in a history */
};

/* An answer whose beginning somebody saw. */
struct seen {
    uint8_t request_id[GATEWAY_REQUEST_ID_SIZE];
    uint32_t receipts;
};

struct actor {
    uint32_t disk;
    uint64_t restart_ms;     /* while it is down */
    struct journal *journal; /* NULL: down */
    struct gateway *gateway;
    struct unsettled *unsettled;
    uint64_t outbox;   /* records before it are published */
    uint64_t settled;  /* and before this one seen on the ledger */
    uint64_t lease_ms; /* not to ask again before */
    uint32_t begun;
    struct seen seen[OPENINGS_MAX];
    size_t seen_count;
};
extern struct actor actors[ACTORS];

void actor_wrong(const struct actor *actor, const char *what, const struct note *note);
const struct ledger_grant *actor_grant(const struct digest *id); /* as is final; NULL: not there */
