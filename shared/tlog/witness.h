/* witness.h - the C2SP witness protocol without its HTTP: requests, and when a witness may sign.
 *
 *     old 20852014                <- size of the tree that the witness cosigned last
 *     <base64 hash>               <- consistency proof, at most 63 lines
 *
 *     <checkpoint: signed note>
 *
 * Source: https://c2sp.org/tlog-witness (add-checkpoint). Strict, takes hostile bytes; pure. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/note.h"
#include "shared/crypto/signed_note.h"
#include "shared/merkle/merkle.h"

#define TLOG_REQUEST_MAX (SIGNED_NOTE_MAX + 8192u) /* bytes of an add-checkpoint body */
#define TLOG_SIZE_CONTENT_TYPE "text/x.tlog.size"

struct tlog_request {
    uint64_t old_size;
    bool too_long; /* more hashes than any consistency proof has; proof is not filled */
    struct merkle_consistency proof;
    struct bytes checkpoint; /* a signed note; borrowed */
};

MUST_USE enum err tlog_request_format(const struct tlog_request *request, struct buf *out);
/* *out_request borrows from body. ERR_INVALID. */
MUST_USE enum err tlog_request_parse(struct bytes body, struct tlog_request *out_request,
                                     struct note *note);

/* The tree that a witness cosigned last; zeroed: none. Must be on disk before its cosignature is given
 * away. */
struct tlog_seen {
    uint64_t size;
    struct digest root;
};

enum tlog_verdict { /* HTTP statuses of the specification */
                    TLOG_SIGN = 200,
                    TLOG_MALFORMED = 400,   /* or the old size is above the new one */
                    TLOG_UNSIGNED = 403,    /* not signed by the log's key */
                    TLOG_UNKNOWN_LOG = 404, /* another origin */
                    TLOG_CONFLICT =
                        409, /* the old size is not what was cosigned, or a fork of it */
                    TLOG_INCONSISTENT = 422 /* the proof does not lead from one to the other */
};

/* May the checkpoint be cosigned, by what it says alone? log: name (which is the origin) and key. After
 * TLOG_SIGN *out_checkpoint is what was asked for; else note says why not. */
MUST_USE enum tlog_verdict tlog_judge(const struct tlog_seen *seen,
                                      const struct tlog_request *request,
                                      const struct signed_note_key *log,
                                      struct checkpoint *out_checkpoint, struct note *note);
