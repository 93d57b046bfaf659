/* replica_log.h - what replication does with a journal: learn its end, take entries, carry entries. */
#pragma once

#include "openledger/v1/replica.pb-c.h"
#include "services/settlement/epoch.h"
#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/journal/journal.h"

#define REPLICA_CARRY_COUNT 128 /* entries in one message */

/* Count and last epoch of a journal whose records are all on disk. ERR_CORRUPT: its last is no entry. */
MUST_USE enum err replica_log_learn(struct journal *journal, struct epoch_log *out,
                                    struct note *note);
/* Puts the message's entries (index + 1 on) into the journal, durably. Where they differ from what is
 * there, that is cut first: CHECKed to lie beyond `keep`, the entries that must never change. */
MUST_USE enum err replica_log_take(struct journal *journal,
                                   const Openledger__V1__ReplicaMessage *message, uint64_t keep,
                                   bool *out_changed, struct note *note);
/* Reads entries after index, at most REPLICA_CARRY_COUNT and about REPLICA_CARRY_MAX bytes, into data;
 * items borrow from it. */
MUST_USE enum err replica_log_carry(struct journal *journal, uint64_t index, struct buf *data,
                                    ProtobufCBinaryData items[REPLICA_CARRY_COUNT],
                                    size_t *out_count);
