/* tree.h - roots and proofs of a log, computed from its tiles.
 *
 * Why: a log of millions of leaves is not read whole for one proof. Each takes about six tiles and at
 * most 1,600 hashes, whether the tiles come from files or over HTTP.
 *
 * Tiles are not trusted here: a proof made from wrong tiles fails when it is checked against a signed
 * root (merkle_verify, merkle_verify_consistency). Pure but for the reader; any thread. */
#pragma once

#include "shared/base/note.h"
#include "shared/tlog/tile.h"

/* Where tiles come from. tile fills out with tile->width hashes; its error ends the proof. */
struct tlog_reader {
    enum err (*tile)(void *context, const struct tlog_tile *tile, struct digest *out,
                     struct note *note);
    void *context;
};

/* The root of the first size leaves; an empty tree has SHA-256(""). Errors: the reader's. */
MUST_USE enum err tlog_root(const struct tlog_reader *reader, uint64_t size,
                            struct digest *out_root, struct note *note);
/* That leaf leaf_index is in the tree of the first size leaves. ERR_RANGE: it is not. */
MUST_USE enum err tlog_prove(const struct tlog_reader *reader, uint64_t size, uint64_t leaf_index,
                             struct merkle_proof *out_proof, struct note *note);
/* That the first old_size leaves begin the tree of the first size. ERR_RANGE: old_size > size. */
MUST_USE enum err tlog_prove_consistency(const struct tlog_reader *reader, uint64_t old_size,
                                         uint64_t size, struct merkle_consistency *out_proof,
                                         struct note *note);
