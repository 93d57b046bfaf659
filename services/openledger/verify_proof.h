/* verify_proof.h - checks one proof file offline and says in steps what it shows.
 *
 * Kinds, told apart by their bytes: a file of c2sp.org/tlog-proof@v1 around an InclusionProof, a bare
 * InclusionProof, a StateProof of an account. */
#pragma once

#include <stdbool.h>

#include "shared/base/err.h"
#include "shared/base/note.h"

struct verify_proof_options {
    const char *genesis_file;
    const char *proof_file;
    const char *batch_file; /* "": none; else the proof's transaction must settle this batch */
    const char *receipt;    /* "": none; else it must be in the batch; 64 hex digits */
    bool json;
};

/* Prints to standard output. ERR_OK: everything holds. Errors as ledger_proof_verify(). */
MUST_USE enum err verify_proof(const struct verify_proof_options *options, struct note *note);
