/* governance.h - proposals and votes: records and getters. The rules are in rules_governance.c.
 *
 * Modelled on OpenZeppelin's Governor with timelock: a proposal waits for a delay, votes are those of a
 * snapshot, for and abstain count to the quorum, more for than against wins, a queued proposal waits for
 * the timelock and is executed by anyone. It can change only parameters of params.h, within their bounds.
 * Pure; as ledger.h. */
#pragma once

#include "shared/ledger/ledger.h"

#define LEDGER_CHANGES_MAX 16        /* parameters that one proposal changes */
#define LEDGER_CHANGES_TEXT_MAX 1536 /* bytes of them as text */

enum ledger_outcome { /* what was done to a proposal so far */
                      LEDGER_OUTCOME_NONE = 0,
                      LEDGER_OUTCOME_QUEUED = 1,
                      LEDGER_OUTCOME_EXECUTED = 2,
                      LEDGER_OUTCOME_CANCELLED = 3,
};

struct ledger_proposal {
    struct digest id; /* of its Propose transaction */
    struct account_id proposer;
    char title[LEDGER_TITLE_MAX + 1];
    char changes[LEDGER_CHANGES_TEXT_MAX + 1]; /* a line "name value" for each, newlines between */
    uint64_t snapshot_height;                  /* power at the end of this block counts */
    uint64_t end_height;                       /* the last block in which votes are taken */
    uint32_t quorum_bp;                        /* as it was when proposed */
    uint64_t staked_grains;                    /* at the snapshot; 0 before the first vote */
    uint64_t for_grains, against_grains, abstain_grains;
    uint64_t eta_ms;     /* queued: executable from then */
    uint64_t expires_ms; /* queued: executable until then */
    uint32_t outcome;    /* enum ledger_outcome */
    uint64_t index;
};

enum ledger_choice { LEDGER_CHOICE_AGAINST = 1, LEDGER_CHOICE_FOR = 2, LEDGER_CHOICE_ABSTAIN = 3 };

struct ledger_vote {
    struct digest proposal;
    struct account_id account;
    uint32_t choice; /* enum ledger_choice */
    uint64_t grains;
};

enum ledger_proposal_state {
    LEDGER_PROPOSAL_PENDING,   /* its snapshot is not sealed yet */
    LEDGER_PROPOSAL_ACTIVE,    /* votes are taken */
    LEDGER_PROPOSAL_DEFEATED,  /* no quorum, or not more for than against */
    LEDGER_PROPOSAL_SUCCEEDED, /* may be queued */
    LEDGER_PROPOSAL_QUEUED,    /* waits for the timelock, or for someone to execute it */
    LEDGER_PROPOSAL_EXPIRED,   /* nobody did in time */
    LEDGER_PROPOSAL_EXECUTED,
    LEDGER_PROPOSAL_CANCELLED,
};

const struct ledger_proposal *ledger_proposal(const struct ledger *ledger, const struct digest *id);
const struct ledger_proposal *ledger_next_proposal(const struct ledger *ledger,
                                                   const struct ledger_proposal *previous);
const struct ledger_vote *ledger_vote(const struct ledger *ledger, const struct digest *proposal,
                                      const struct account_id *account);
/* For a transaction that would be the next entry, at the ledger's time. */
enum ledger_proposal_state ledger_proposal_state(const struct ledger *ledger,
                                                 const struct ledger_proposal *proposal);
/* Grains that for and abstain must reach; 0 before the first vote. */
uint64_t ledger_proposal_quorum(const struct ledger_proposal *proposal);
const char *ledger_proposal_state_name(enum ledger_proposal_state state); /* "pending", ... */
