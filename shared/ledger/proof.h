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
#include "shared/merkle/merkle.h"

#define LEDGER_ORIGIN_SIZE 80 /* "openledger/" and 64 digits */

/* The checkpoint's origin and key name: "openledger/<chain id in hex>". Returns out. */
const char *ledger_origin(const struct digest *chain_id, char out[LEDGER_ORIGIN_SIZE]);

/* Appends the signed C2SP checkpoint over the first height headers, whose RFC 6962 root is root. */
MUST_USE enum err ledger_checkpoint_sign(const struct digest *chain_id, uint64_t height,
                                         const struct digest *root, const struct key_pair *keys,
                                         struct buf *out);
/* What a checker must know beforehand, all of it from the genesis file. */
struct ledger_trust {
    struct digest chain_id;
    struct public_key sequencer;
    struct ledger_witnesses witnesses;
};
void ledger_trust(const struct ledger *ledger, struct ledger_trust *out_trust);

/* What a checkpoint says and who stands for it. */
struct ledger_checkpoint {
    uint64_t height; /* headers under it */
    struct digest root;
    uint32_t cosignatures; /* of different witnesses of genesis */
    bool final;            /* as many as genesis asks for */
};
/* Checks a signed note: the sequencer's signature must be there, cosignatures are counted. ERR_DENIED: a
 * signature of one of them is missing (the sequencer's) or wrong; ERR_INVALID: malformed, or of another
 * chain. */
MUST_USE enum err ledger_checkpoint_verify(struct bytes checkpoint,
                                           const struct ledger_trust *trust,
                                           struct ledger_checkpoint *out_checkpoint,
                                           struct note *note);

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
    const struct merkle_proof *header_path; /* in the log that the checkpoint signs */
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
    struct ledger_checkpoint checkpoint;
    uint64_t index;            /* of the entry */
    struct digest tx;          /* entries that carry a transaction; else zero */
    uint32_t leg;              /* postings: */
    struct account_id account; /* postings */
    bool credit;
    struct amount amount;
    char reason[32];
    struct digest reference; /* zero: none */
};
/* Checks hostile proof bytes with nothing but what genesis says.
 * ERR_INVALID: malformed, or a path does not lead where it must (the note says which); ERR_DENIED:
 * the checkpoint's signature. */
MUST_USE enum err ledger_proof_verify(struct bytes proof, const struct ledger_trust *trust,
                                      struct ledger_proof_claim *out_claim, struct note *note);

/* The header's place in the signed log, as a file of c2sp.org/tlog-proof@v1 whose extra data is the
 * InclusionProof itself: other programs check header and witnesses, this one the way to the leaf.
 * proof: a serialised InclusionProof. ERR_INVALID: it is none. */
MUST_USE enum err ledger_proof_export(struct bytes proof, struct buf *out, struct note *note);
/* Reads either form into a serialised InclusionProof. ERR_INVALID. */
MUST_USE enum err ledger_proof_import(struct bytes file, struct buf *out_proof, struct note *note);
