/* account_proof.h - what one account had right after a block, or that it was not there: made online,
 * checked offline by a client that holds nothing but the genesis file.
 *
 * account -> way through the state trie -> the header's state_root -> header log -> checkpoint. That the
 * account is not there follows from the same way: a search for its key ends at another leaf, and where
 * the trie branches on the way is part of the hashes. */
#pragma once

#include "shared/ledger/proof.h"

/* Appends a StateProof without its header and checkpoint: state must be that of a block, with no
 * entry after the seal (ERR_UNAVAILABLE). */
MUST_USE enum err ledger_account_path(struct ledger *ledger, const struct account_id *account,
                                      struct buf *out, struct note *note);
/* Completes such a path. header: of the block whose state it is. */
MUST_USE enum err ledger_account_proof_make(struct bytes path, struct bytes header,
                                            const struct merkle_proof *header_path,
                                            struct bytes checkpoint, struct buf *out,
                                            struct note *note);

/* What a valid proof shows. */
struct ledger_account_claim {
    struct account_id id;
    bool exists;
    struct ledger_account account; /* when it exists: as it was after the block */
    uint64_t height;
    uint64_t block_time_ms;
    struct ledger_checkpoint checkpoint;
};
/* Errors as ledger_proof_verify(). */
MUST_USE enum err ledger_account_proof_verify(struct bytes proof, const struct ledger_trust *trust,
                                              struct ledger_account_claim *out_claim,
                                              struct note *note);
