/* gateway.h - what the gateway owes and may still take: leases, held prices, receipt numbers.
 *
 * Hold, then settle (DESIGN.md section 5): before the first token an opening holds the highest price
 * the answer can cost; on its end the receipt draws the real fee and gives the rest back. Receipts are
 * numbered from 1 without gaps per (grant, lease).
 *
 * The state is a pure function of the journal: gateway_apply() is called with each record, once, in
 * order, live and at restart alike. So a crash between any two records leaves a state that the rest
 * of the service can continue from. No I/O, no clock, no randomness. One thread (the desk's). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openledger/v1/gateway.pb-c.h"
#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/amount.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define GATEWAY_OPENINGS_MAX 1024  /* answers in the making, waiting ones included */
#define GATEWAY_LEASES_MAX 16384   /* leases that one replica ever opened */
#define GATEWAY_BATCH_MAX 1024     /* receipts in a batch, by the ledger's rule */
#define GATEWAY_LEASE_TXS_MAX 8    /* transactions remembered that may open one lease */
#define GATEWAY_REQUEST_ID_SIZE 16 /* bytes */
#define GATEWAY_NAME_SIZE 65       /* an adapter's name with its NUL */
#define GATEWAY_RECEIPT_MAX 640 /* bytes of a serialised Receipt: a full batch fits in a record */

struct gateway;

struct gateway_lease {
    struct digest grant;
    uint32_t lease;
    struct amount amount; /* what the ledger lets us draw */
    struct amount drawn;  /* fees of receipts */
    struct amount held;   /* highest prices of openings; drawn + held <= amount */
    uint64_t next_number; /* of the next receipt, from 1 */
    uint64_t batched;     /* receipts 1..batched are in batches */
    bool confirmed;       /* seen on the ledger; not part of the journal's state */
    bool lost;            /* the ledger knows receipts that we do not: never draw again */
};

struct gateway_opening {
    uint8_t request_id[GATEWAY_REQUEST_ID_SIZE];
    struct digest grant;
    uint32_t lease;
    struct amount price_max;
    char adapter[GATEWAY_NAME_SIZE];
    uint64_t opened_ms;
    struct digest prompt_commitment;
    struct digest empty_commitment;
    struct digest profile;
    bool idempotent; /* the two below are set */
    struct digest idempotency;
    struct digest body;
};

/* How an answer ended; what a receipt says of it. */
struct gateway_outcome {
    bool served; /* false: a void, whose fee and counts are 0 */
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    struct amount fee;               /* <= the opening's price_max (CHECKed) */
    struct digest answer_commitment; /* of a served answer */
    uint64_t finished_ms;
    const char *finish_reason; /* "stop", "length", "cancelled", "restart" */
};

MUST_USE struct gateway *gateway_create(void); /* NULL: out of memory */
void gateway_destroy(struct gateway *gateway); /* NULL is fine */

/* Applies one record. ERR_CORRUPT: it cannot follow the records before it (the note says why) and
 * nothing has changed; live records are made from the state, so there it is our own mistake.
 * ERR_NO_MEMORY. */
MUST_USE enum err gateway_apply(struct gateway *gateway,
                                const Openledger__V1__GatewayRecord *record, struct note *note);

/* ---- leases ---- */

/* The lease to draw price from: confirmed, not lost, with enough left. NULL: none. Borrowed until the
 * next apply. */
const struct gateway_lease *gateway_lease_for(const struct gateway *gateway,
                                              const struct digest *grant, struct amount price);
/* Our newest lease of a grant, whatever its state; NULL: none. */
const struct gateway_lease *gateway_lease_newest(const struct gateway *gateway,
                                                 const struct digest *grant);
const struct gateway_lease *gateway_lease_at(const struct gateway *gateway, size_t index);
size_t gateway_lease_count(const struct gateway *gateway);
/* What can still be held: amount - drawn - held. */
struct amount gateway_lease_left(const struct gateway_lease *lease);
/* The ledger took an OpenLease: the lease may be used if it is one of ours. Returns whether it is. */
bool gateway_lease_confirm(struct gateway *gateway, const struct digest *grant, uint32_t lease,
                           const struct digest *tx);
/* The ledger holds amount under this lease and expects receipt next_number next. If that cannot follow
 * from our journal, the lease is never drawn from again. Returns whether it can be used. */
bool gateway_lease_check(struct gateway *gateway, const struct digest *grant, uint32_t lease,
                         struct amount amount, uint64_t next_number);

/* ---- openings ---- */

size_t gateway_opening_count(const struct gateway *gateway);
const struct gateway_opening *gateway_opening_at(const struct gateway *gateway, size_t index);
const struct gateway_opening *
gateway_opening_find(const struct gateway *gateway,
                     const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE]);
const struct gateway_opening *gateway_opening_find_idempotent(const struct gateway *gateway,
                                                              const struct digest *idempotency);

/* Appends the serialised Receipt of an opening, with the lease's next number. The number is taken by
 * the Finished record that carries these bytes: apply it before asking for the next receipt. */
MUST_USE enum err gateway_receipt_write(const struct gateway *gateway,
                                        const struct gateway_opening *opening,
                                        const struct gateway_outcome *outcome, struct buf *out);

/* ---- batches ---- */

/* Receipts of one lease that are in no batch yet, oldest first; borrowed until the next apply. */
struct gateway_pending {
    const struct gateway_lease *lease;
    uint64_t first_number;
    const struct bytes *receipts;
    size_t count; /* 1..GATEWAY_BATCH_MAX */
};

/* The first lease at or after *cursor (start with 0) that has at least min receipts waiting; moves
 * the cursor past it. False: none left. */
bool gateway_pending_next(const struct gateway *gateway, size_t min, size_t *cursor,
                          struct gateway_pending *out);

uint64_t gateway_receipt_count(const struct gateway *gateway); /* of all leases */
