/* proof.h - the text file "c2sp.org/tlog-proof@v1": a leaf's place in a signed log, checked offline.
 *
 *     c2sp.org/tlog-proof@v1
 *     extra <base64>              <- optional, what the application needs beside it; not authenticated
 *     index 73894
 *     <base64 hash>               <- the inclusion proof, leaf level first
 *
 *     <checkpoint: signed note>
 *
 * Source: https://c2sp.org/tlog-proof. Strict, takes hostile bytes; pure, any thread. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/note.h"
#include "shared/merkle/merkle.h"

#define TLOG_PROOF_MAX (4u << 20) /* bytes of a proof file */

struct tlog_proof {
    struct merkle_proof path;
    struct bytes checkpoint; /* a signed note; borrowed */
};

/* Appends the file. extra: none when its size is 0. */
MUST_USE enum err tlog_proof_format(const struct tlog_proof *proof, struct bytes extra,
                                    struct buf *out);
/* *out_proof borrows from text; the decoded extra data is appended to extra (may be NULL). ERR_INVALID:
 * not such a file. Proves nothing before the checkpoint is verified and merkle_verify() accepts. */
MUST_USE enum err tlog_proof_parse(struct bytes text, struct tlog_proof *out_proof,
                                   struct buf *extra, struct note *note);
