/* proof.h - inclusion proofs of entries and postings, and checkpoints: made online, checked offline.
 *
 * leaf (entry or posting bytes) -> its block's entries_root or postings_root -> header -> header log
 * -> checkpoint note signed by the sequencer's key. Pure. */
#pragma once

#include "openledger/v1/services.pb-c.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"
#include "shared/ledger/ledger.h"

#define LEDGER_ORIGIN_SIZE 80 /* "openledger/" and 64 digits */

/* The checkpoint's origin and key name: "openledger/<chain id in hex>". Returns out. */
const char *ledger_origin(const struct digest *chain_id, char out[LEDGER_ORIGIN_SIZE]);

/* Appends the signed C2SP checkpoint over the first height headers, whose RFC 6962 root is root. */
MUST_USE enum err ledger_checkpoint_sign(const struct digest *chain_id, uint64_t height,
                                         const struct digest *root, const struct key_pair *keys,
                                         struct buf *out);
/* ERR_DENIED: not signed by key; ERR_INVALID: malformed, or of another chain. */
MUST_USE enum err ledger_checkpoint_verify(struct bytes checkpoint, const struct digest *chain_id,
                                           const struct public_key *key, uint64_t *out_height,
                                           struct digest *out_root, struct note *note);

/* Appends leg number leg of an entry as a serialised Posting: the leaf of postings_root. */
MUST_USE enum err ledger_posting_encode(uint64_t index, uint32_t leg_number,
                                        const struct ledger_leg *leg, struct buf *out);

/* What a proof is made of. Hashes are leaf hashes (merkle_leaf). */
struct ledger_proof_parts {
    struct bytes leaf;
    bool posting;
    const struct digest *leaves; /* all entries, or all postings, of the block */
    uint64_t leaf_count;
    uint64_t leaf_index;
    struct bytes header;
    const struct digest *headers; /* the first header_count headers: what the checkpoint signs */
    uint64_t header_count;
    struct bytes checkpoint;
};
/* Appends a serialised InclusionProof. ERR_RANGE: an index is outside. */
MUST_USE enum err ledger_proof_make(const struct ledger_proof_parts *parts, struct buf *out,
                                    struct note *note);

/* What a valid proof shows. Texts and bytes are copies. */
struct ledger_proof_claim {
    bool posting;
    uint64_t height; /* of the block */
    uint64_t block_time_ms;
    uint64_t checkpoint_height;
    uint64_t index;            /* of the entry */
    struct digest tx;          /* entries that carry a transaction; else zero */
    uint32_t leg;              /* postings: */
    struct account_id account; /* postings */
    bool credit;
    struct amount amount;
    char reason[32];
    struct digest reference; /* zero: none */
};
/* Checks hostile proof bytes with nothing but the chain's id and the sequencer's public key.
 * ERR_INVALID: malformed, or a path does not lead where it must (the note says which); ERR_DENIED:
 * the checkpoint's signature. */
MUST_USE enum err ledger_proof_verify(struct bytes proof, const struct digest *chain_id,
                                      const struct public_key *sequencer,
                                      struct ledger_proof_claim *out_claim, struct note *note);
