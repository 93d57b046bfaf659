/* desk.h - the service's one owner of state: everything that is decided is decided at the desk.
 *
 * The desk runs on the service's worker. It holds the live copy of the ledger, the journal, what
 * follows from it (gateway.h), the index (store.h), the engine and the outbox.
 *
 *     HTTP request -> answer_accept: key, model, prompt, price
 *                  -> record Opened -> [journal on disk] -> engine
 *     engine       -> text to the client, token by token
 *     engine done  -> record Finished (receipt, opening) -> [journal on disk] -> last chunk
 *     tick         -> record Batch -> [journal on disk] -> outbox -> settlement, attribution
 *                  -> what the ledger does not show after a while -> outbox again
 *
 * Group commit: a record is applied when appended; what must wait for the disk waits in a list, and
 * one sync, posted behind the jobs that are already queued, releases the whole list. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/lora-gateway/engine.h"
#include "services/lora-gateway/gateway.h"
#include "services/lora-gateway/publish.h"
#include "services/lora-gateway/store.h"
#include "services/lora-gateway/unsettled.h"
#include "shared/crypto/keys.h"
#include "shared/follow/follow.h"
#include "shared/journal/journal.h"
#include "shared/service/service.h"

#define DESK_TICK_MS 50
#define DESK_BATCH_MS 300 /* a receipt waits at most this long for its batch */
#define DESK_LEASE_WAIT_MS                                                                         \
    3000 /* for the ledger to take a lease, before the client is told to retry */
#define DESK_CONTEXT_MAX                                                                           \
    32768                  /* tokens of prompt and answer: its records and messages stay small */
#define DESK_WATCH_MAX 256 /* published records taken into view per tick */
#define DESK_RETRY_MS 2000 /* between attempts to load the model or open our account */
#define DESK_KEY_SIZE 56   /* an API key with its NUL: "ol-" and 52 characters */
#define DESK_ADAPTER_TIMES_MAX 65536

/* Something that waits until the journal is on disk. Embed it first in what waits. */
struct desk_waiter {
    void (*durable)(struct desk_waiter *waiter); /* on the worker, once */
    struct desk_waiter *next;
};

struct answer;

struct desk_settings {
    const char *model;             /* base model's name on the ledger; "": the first one there */
    const char *lease_amount;      /* OPEN per lease; "": all that is left of the grant */
    const struct kernels *kernels; /* NULL: the best of this machine */
    uint32_t workers;
    uint32_t sequences_max;
    uint32_t adapters_max;
    uint32_t queue_max;          /* answers in the making; <= GATEWAY_OPENINGS_MAX */
    uint32_t max_tokens_default; /* when a request names none */
    uint32_t rate_max;           /* requests per API key and minute; 0: no limit */
    uint32_t republish_s;        /* until what the ledger does not show is published again; > 0 */
};

/* When an adapter was published: the ledger's record has only the entry's index. */
struct desk_time {
    uint64_t index;
    uint64_t time_ms;
};

struct desk {
    struct service *service;
    struct desk_settings settings;
    struct key_pair *keys;
    struct account_id account;
    struct follow *follow;
    struct journal *journal;
    struct gateway *gateway;
    struct gateway_store *store;
    struct engine *engine;
    struct publisher *publisher;

    const struct lineage_base *base; /* NULL until loaded and checked */
    char base_name[LEDGER_NAME_MAX + 1];
    bool base_wanted;     /* the engine was asked */
    uint64_t retry_at_ms; /* next attempt at the model or the account */
    bool account_open;

    struct desk_waiter *waiting; /* oldest first */
    struct desk_waiter **waiting_end;
    bool sync_posted;
    _Atomic bool pump_posted;
    uint64_t unbatched_since_ms; /* 0: no receipt waits for a batch */
    uint64_t outbox_next;        /* journal index to hand to the publisher next */
    struct unsettled *unsettled; /* what is published and not on the ledger */

    bool stopping;       /* what ends as cancelled now was broken off by us */
    struct answer *late; /* ended while stopping: the engine's thread fills it, then is joined */
    struct answer *draining; /* finished, but the client reads slowly */
    struct desk_time *times;
    size_t time_count;
    size_t time_capacity;

    struct metric *answers_total;
    struct metric *voids_total;
    struct metric *tokens_total;
    struct metric *refused_total;
    struct metric *answer_seconds;
    struct metric *open_gauge;
    struct metric *republished_total;
    struct metric *unsettled_gauge;
};

/* Opens everything and takes up where the journal ends: openings without a receipt become voids. */
MUST_USE enum err desk_create(struct service *service, const struct desk_settings *settings,
                              struct desk **out, struct note *note);
/* After service_run(): settles what the engine still had and closes. NULL is fine. */
void desk_destroy(struct desk *desk);

/* Appends a record and applies it. With a waiter, its durable() is called once the record is on disk.
 * An error of the journal stops the service: nothing that follows could be kept. */
MUST_USE enum err desk_record(struct desk *desk, Openledger__V1__GatewayRecord *record,
                              struct desk_waiter *waiter, struct note *note);

/* Finds a lease of the grant with room for price, opening one on the ledger if need be (which blocks
 * up to DESK_LEASE_WAIT_MS). ERR_FUNDS: the grant is used up; ERR_DENIED: it is not for us, closed or
 * expired; ERR_NOT_FOUND: no such grant; ERR_TIMEOUT, ERR_UNAVAILABLE: the ledger is away. */
MUST_USE enum err desk_lease(struct desk *desk, const struct digest *grant, struct amount price,
                             uint32_t *out_lease, struct note *note);

/* Follow's on_entry; context is the desk. */
void desk_on_entry(void *context, const struct ledger *ledger, const struct ledger_effects *effects,
                   struct bytes entry);
/* The journal failed: says so and stops the service. */
void desk_fail(struct desk *desk, enum err err, const struct note *note);

/* NULL until the ledger is known. */
const struct ledger *desk_ledger(const struct desk *desk);
uint64_t desk_time_of(const struct desk *desk, uint64_t entry_index); /* ms; 0: unknown */

/* ---- answers.c ---- */

/* HTTP handlers; context is the desk. */
void answer_accept_chat(void *context, struct http_request *http);
void answer_accept_text(void *context, struct http_request *http);
/* The engine's calls; context is the desk. */
struct engine_calls answer_engine_calls(struct desk *desk);
/* Settles what the engine gave back while stopping. */
void answer_settle_late(struct desk *desk);
/* Writes on to clients that read slowly. */
void answer_drain(struct desk *desk, uint64_t now_ms);
/* Settles an opening that no answer stands behind: a void, "restart". */
MUST_USE enum err answer_void(struct desk *desk, const struct gateway_opening *opening,
                              struct note *note);
/* Finds the grant behind a request's API key. ERR_UNAUTHENTICATED; the note says why. */
MUST_USE enum err desk_authenticate(struct desk *desk, const char *authorization,
                                    struct digest *out_grant, struct note *note);
MUST_USE enum err desk_key_grant(struct desk *desk, const char *key, struct digest *out_grant,
                                 struct note *note);

/* ---- api.c ---- */

/* Adds the RPC methods and the HTTP routes. */
void api_serve(struct desk *desk);
/* The ledger's public log through the front door: log_files.c. */
void log_files_serve(struct service *service);

/* ---- page.c ---- */

struct bytes page_html(void); /* deploy/web/index.html, built in */
