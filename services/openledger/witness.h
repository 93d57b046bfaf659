/* witness.h - `openledger witness`: replays a ledger's log from the network and cosigns its checkpoints.
 *
 * It keeps what it needs in its folder and trusts nobody: entries come from the log's RPC, batches from its
 * /batch/, every rule is applied again with shared/ledger, and only a checkpoint whose root is the root of the
 * headers computed here is cosigned.
 *
 *     folder/checkpoint      the last note cosigned: on disk before its cosignature is given away
 *     folder/fork-<size>     a checkpoint of the log's own key that contradicts ours: proof of a fork
 *     folder/tiles/          the headers computed here
 *     folder/snapshot        of the state, at a full tile; without it the log is replayed from the start
 *
 * One thread. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"
#include "shared/tlog/witness.h"

struct witness;

struct witness_options {
    const char *folder;    /* made when missing */
    const char *log_url;   /* front door or settlement; also the place of batches */
    struct bytes genesis;  /* the file's bytes: chain, the log's key, our name */
    const char *name;      /* ours in notes; "": the one that genesis has for our key */
    struct key_pair *keys; /* borrowed */
};

/* ERR_CONFLICT: the folder is another witness process's. ERR_NOT_FOUND: genesis does not name our key, and no
 * name is given. ERR_CORRUPT: the kept checkpoint is not one. */
MUST_USE enum err witness_open(const struct witness_options *options, struct witness **out_witness,
                               struct note *note);
void witness_close(struct witness *witness); /* NULL is fine */

#define WITNESS_BEHIND 503 /* the log is being replayed: ask again */

/* Answers an add-checkpoint request: an HTTP status, and the body: our signature line for 200, the size
 * for 409, else why. May replay for some seconds; time_s is written into the cosignature. */
int witness_answer(struct witness *witness, struct bytes request, uint64_t time_s,
                   struct buf *out_body);

/* Appends our verifier key (C2SP vkey). */
enum err witness_key(const struct witness *witness, struct buf *out);
