/* replica_wire.h - the bytes of what replicas say and keep: signing, checking, packing. Pure. */
#pragma once

#include "openledger/v1/replica.pb-c.h"
#include "services/settlement/epoch.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/crypto/keys.h"

#define REPLICA_MESSAGE_MAX 573440u /* bytes of a signed message: an entry and what wraps it */
#define REPLICA_CARRY_MAX 262144u   /* bytes of entries in one, unless a single one is larger */

struct replica_seal {
    const struct key_pair *keys; /* borrowed; the sequencer's: all replicas have it */
    struct digest chain_id;
    uint32_t self, replicas;
};

/* Appends message, signed. */
void replica_wire_close(const struct replica_seal *seal,
                        const Openledger__V1__ReplicaMessage *message, struct buf *out);
/* NULL unless it is a well-formed message for seal->self by another replica, rightly signed: entries are
 * entries, follow each other from index + 1 on and are of no later epoch than the message. Free it with
 * openledger__v1__replica_message__free_unpacked(). */
Openledger__V1__ReplicaMessage *replica_wire_open(const struct replica_seal *seal,
                                                  struct bytes bytes);

/* The file `promise`. ERR_CORRUPT: any byte is not as written. */
void replica_wire_promise(const struct epoch_promise *promise, struct buf *out);
MUST_USE enum err replica_wire_promised(struct bytes file, struct epoch_promise *out);
