/* evidence.h - what signers can be held to: records, and building evidence from published batches. The
 * rules are in rules_evidence.c and rules_challenge.c, what is taken in slash.c. Pure; as ledger.h. */
#pragma once

#include "openledger/v1/ledger.pb-c.h"
#include "shared/ledger/ledger.h"
#include "shared/merkle/merkle.h"

/* A key that an account had until then. */
struct ledger_former_key {
    struct account_id account;
    struct public_key key;
    uint64_t until_ms;
};

enum ledger_offence_kind {
    LEDGER_OFFENCE_CONFLICT = 1,
    LEDGER_OFFENCE_INVALID = 2,
    LEDGER_OFFENCE_CHECKPOINTS = 3,
};

/* What somebody was slashed for: once for each slot. */
struct ledger_offence {
    struct digest id; /* SHA-256("openledger/offence/v1" 0x00 kind role account slot) */
    struct account_id account;
    uint32_t role;
    uint32_t kind; /* enum ledger_offence_kind */
    struct account_id reporter;
    struct amount slashed;
    uint64_t index;
};
const struct ledger_offence *ledger_next_offence(const struct ledger *ledger,
                                                 const struct ledger_offence *previous);

enum ledger_challenge_outcome {
    LEDGER_CHALLENGE_OPEN = 1,
    LEDGER_CHALLENGE_REFUTED = 2,   /* the job was; its trainer is slashed */
    LEDGER_CHALLENGE_SOUND = 3,     /* a quorum for its failure is impossible; for good */
    LEDGER_CHALLENGE_UNDECIDED = 4, /* can be challenged again */
};

struct ledger_challenge {
    struct digest job;
    struct digest id; /* of its ChallengeJob transaction */
    struct account_id challenger;
    struct amount deposit;
    uint64_t snapshot_height, end_height; /* attestations: after the one, up to the other */
    uint32_t quorum_bp;
    uint64_t failed_grains, sound_grains;
    uint32_t outcome; /* enum ledger_challenge_outcome */
    char reason[LEDGER_REASON_MAX + 1];
};

struct ledger_attestation {
    struct digest challenge;
    struct account_id account;
    bool failed;
};

/* The newest challenge of a job; NULL: none. */
const struct ledger_challenge *ledger_challenge(const struct ledger *ledger,
                                                const struct digest *job);
void ledger_challenge_escrow_id(const struct digest *challenge, struct account_id *out_id);

/* One item of a serialised batch, with its proof. message borrows batch and this struct. ERR_INVALID: no
 * batch; ERR_RANGE: it has no such place. */
struct ledger_signed_item {
    Openledger__V1__SignedItem message;
    struct digest root;
    struct merkle_proof proof;
};
MUST_USE enum err ledger_signed_item(struct bytes batch, bool shares, uint32_t place,
                                     struct ledger_signed_item *out, struct note *note);
