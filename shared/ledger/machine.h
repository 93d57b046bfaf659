/* machine.h - what the files of this room share while an entry is applied. Internal to this room. */
#pragma once

#include "openledger/v1/ledger.pb-c.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/claims.h"
#include "shared/ledger/custody.h"
#include "shared/ledger/evidence.h"
#include "shared/ledger/governance.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/postings.h"
#include "shared/ledger/stake.h"
#include "shared/ledger/state.h"
#include "shared/merkle/merkle.h"

/* Transaction ids by the end of their validity: a min-heap, derived from the state. */
struct expiry {
    uint64_t valid_until_ms;
    struct digest id;
};

struct ledger {
    struct state *state;
    struct buf genesis;
    char chain_name[LEDGER_NAME_MAX + 1];
    struct ledger_witnesses witnesses;
    struct ledger_head head;
    const struct parallel *parallel;
    struct merkle_tree entries; /* of the block being built */
    struct postings postings;   /* likewise */
    struct merkle_tree headers;
    struct expiry *expiries;
    size_t expiry_count, expiry_capacity;
    const struct ledger_receipt *waiting; /* no receipt before it (in log order) is waiting */
    uint64_t epoch;                       /* of entries we make; no part of the state */
};

/* remember.c: adds an id that the state has got; forgets those whose interval has ended: they cannot be
 * repeated any more. */
void remember_tx(struct ledger *ledger, const struct state_tx *tx);
void remember_forget(struct ledger *ledger, uint64_t time_ms);

/* What an entry or transaction is, apart from any state: prepare.c. */
struct ledger_prepared {
    enum err err; /* the bytes can never be applied (or a batch is not at hand): why */
    struct note note;
    bool is_entry; /* the next three hold */
    Openledger__V1__Entry *entry;
    struct digest entry_hash;
    struct digest entry_leaf;
    struct buf signed_bytes;             /* a transaction's own, when it is no entry yet */
    Openledger__V1__SignedTx *signed_tx; /* NULL: a seal, or err */
    Openledger__V1__TxBody *body;
    size_t signed_size; /* bytes of the serialised SignedTx */
    struct digest tx;
    bool signature_fits[LEDGER_SIGNATURES_MAX];
    struct settle_batch *batch; /* settlement transactions: settle.h */
};
/* Fetches and checks the batch of a settlement transaction; what is wrong with it is kept. */
void settle_prepare(struct ledger_prepared *prepared, const struct digest *chain_id,
                    const struct ledger_blobs *blobs);
void settle_prepared_free(struct ledger_prepared *prepared);

/* One entry while it is being applied. */
struct step {
    struct ledger *ledger;
    struct state *state;
    const struct ledger_prepared *prepared;
    struct ledger_effects *effects;
    struct note *note;
    uint64_t index;
    uint64_t time_ms;
    struct digest tx;
    struct account_id sender;
    const Openledger__V1__SignedTx *signed_tx; /* for rules that want a further signer */
};

/* Moves money: a debit and a credit leg; nothing when amount is zero. ERR_FUNDS: from cannot pay.
 * reference may be NULL. reason: a constant. */
MUST_USE enum err step_pay(struct step *step, const struct account_id *from,
                           const struct account_id *to, struct amount amount, const char *reason,
                           const struct digest *reference);
/* One leg alone, for splits whose legs sum to zero together. */
MUST_USE enum err step_leg(struct step *step, const struct account_id *account, bool credit,
                           struct amount amount, const char *reason,
                           const struct digest *reference);
/* A credit leg where the caller has looked up the account already (NULL: it is new); amount > 0. */
MUST_USE enum err step_credit(struct step *step, const struct ledger_account *found,
                              const struct account_id *id, struct amount amount,
                              const char *reason);
/* Notes that this receipt was touched, for indexes. */
void step_receipt(struct step *step, const struct digest *receipt);

/* Field checks; errors are ERR_INVALID and name the field. */
MUST_USE enum err step_digest(struct step *step, ProtobufCBinaryData field, const char *name,
                              struct digest *out);
MUST_USE enum err step_account(struct step *step, ProtobufCBinaryData field, const char *name,
                               struct account_id *out);
/* text: at most max bytes of UTF-8 without control characters (newline and tab are allowed). */
MUST_USE enum err step_text(struct step *step, const char *text, size_t max, const char *name,
                            char *out);
MUST_USE enum err step_name(struct step *step, const char *text, const char *what, char *out);
/* amount: canonical and not zero. */
MUST_USE enum err step_amount(struct step *step, const char *text, const char *name,
                              struct amount *out);

/* "%.8s.." of a digest or account for notes. */
struct short_hex {
    char text[20];
};
struct short_hex short_hex(const uint8_t bytes[DIGEST_SIZE]);

bool text_valid(const char *text, size_t max);

MUST_USE enum err step_key(struct step *step, ProtobufCBinaryData field, struct public_key *out);

/* Did account sign this transaction with key? (The signature itself was checked.) */
bool step_signed_by(const struct step *step, const struct account_id *account,
                    const struct public_key *key);

/* One rule per action; each checks everything, then changes. rules_data.c, rules_money.c, settle.c. */
#define LEDGER_RULES(X)                                                                            \
    X(OPEN_ACCOUNT, open_account, OpenAccount)                                                     \
    X(TRANSFER, transfer, Transfer)                                                                \
    X(CREATE_DATANET, create_datanet, CreateDatanet)                                               \
    X(COMMIT_ROWS, commit_rows, CommitRows)                                                        \
    X(REVIEW_CONTRIBUTION, review_contribution, ReviewContribution)                                \
    X(PUBLISH_VERSION, publish_version, PublishVersion)                                            \
    X(REGISTER_MODEL, register_model, RegisterModel)                                               \
    X(SUBMIT_JOB, submit_job, SubmitJob)                                                           \
    X(CLAIM_JOB, claim_job, ClaimJob)                                                              \
    X(COMPLETE_JOB, complete_job, CompleteJob)                                                     \
    X(FAIL_JOB, fail_job, FailJob)                                                                 \
    X(PUBLISH_ADAPTER, publish_adapter, PublishAdapter)                                            \
    X(PUBLISH_INDEX, publish_index, PublishIndex)                                                  \
    X(OPEN_GRANT, open_grant, OpenGrant)                                                           \
    X(OPEN_LEASE, open_lease, OpenLease)                                                           \
    X(CLOSE_GRANT, close_grant, CloseGrant)                                                        \
    X(SETTLE_RECEIPTS, settle_receipts, SettleReceipts)                                            \
    X(SETTLE_SHARES, settle_shares, SettleShares)                                                  \
    X(BOND, bond, Bond)                                                                            \
    X(UNBOND, unbond, Unbond)                                                                      \
    X(ROTATE_KEY, rotate_key, RotateKey)                                                           \
    X(RELEASE, release, Release)                                                                   \
    X(DELEGATE, delegate, Delegate)                                                                \
    X(UNDELEGATE, undelegate, Undelegate)                                                          \
    X(CLAIM_REWARDS, claim_rewards, ClaimRewards)                                                  \
    X(PROPOSE, propose, Propose)                                                                   \
    X(VOTE, vote, Vote)                                                                            \
    X(DELEGATE_VOTES, delegate_votes, DelegateVotes)                                               \
    X(QUEUE_PROPOSAL, queue_proposal, QueueProposal)                                               \
    X(EXECUTE_PROPOSAL, execute_proposal, ExecuteProposal)                                         \
    X(CANCEL_PROPOSAL, cancel_proposal, CancelProposal)                                            \
    X(LINKED_TRANSFERS, linked_transfers, LinkedTransfers)                                         \
    X(HOLD_TRANSFER, hold_transfer, HoldTransfer)                                                  \
    X(POST_TRANSFER, post_transfer, PostTransfer)                                                  \
    X(VOID_TRANSFER, void_transfer, VoidTransfer)                                                  \
    X(SET_GUARDIANS, set_guardians, SetGuardians)                                                  \
    X(APPROVE_RECOVERY, approve_recovery, ApproveRecovery)                                         \
    X(COMPLETE_RECOVERY, complete_recovery, CompleteRecovery)                                      \
    X(CANCEL_RECOVERY, cancel_recovery, CancelRecovery)                                            \
    X(CLAIM_VESTED, claim_vested, ClaimVested)                                                     \
    X(PUBLISH_CLAIMS, publish_claims, PublishClaims)                                               \
    X(CLAIM, claim, Claim)                                                                         \
    X(CLOSE_CLAIMS, close_claims, CloseClaims)                                                     \
    X(OFFER_DATANET, offer_datanet, OfferDatanet)                                                  \
    X(ACCEPT_DATANET, accept_datanet, AcceptDatanet)                                               \
    X(SET_VALIDATORS, set_validators, SetValidators)                                               \
    X(WITHDRAW_CONTRIBUTION, withdraw_contribution, WithdrawContribution)                          \
    X(WITHDRAW_ROWS, withdraw_rows, WithdrawRows)                                                  \
    X(PAY_FROM_TREASURY, pay_from_treasury, PayFromTreasury)                                       \
    X(SET_PRICE, set_price, SetPrice)                                                              \
    X(REVOKE_ADAPTER, revoke_adapter, RevokeAdapter)                                               \
    X(REVOKE_MODEL, revoke_model, RevokeModel)                                                     \
    X(REPORT_CONFLICT, report_conflict, ReportConflict)                                            \
    X(REPORT_INVALID, report_invalid, ReportInvalid)                                               \
    X(REPORT_CHECKPOINTS, report_checkpoints, ReportCheckpoints)                                   \
    X(CHALLENGE_JOB, challenge_job, ChallengeJob)                                                  \
    X(ATTEST_JOB, attest_job, AttestJob)                                                           \
    X(CLOSE_CHALLENGE, close_challenge, CloseChallenge)                                            \
    X(TRANSFER_BATCH, transfer_batch, TransferBatch)

#define LEDGER_RULE_DECLARE(upper, lower, Message)                                                 \
    enum err rule_##lower(struct step *step, const Openledger__V1__##Message *action);
LEDGER_RULES(LEDGER_RULE_DECLARE)
#undef LEDGER_RULE_DECLARE

/* ---- rules_data.c, for the rules about what was published before ---- */

MUST_USE enum err datanet_take(struct step *step, const char *name,
                               const struct ledger_datanet **out);
/* Rows of a contribution that count for its contributor. */
uint64_t contribution_counts(const struct ledger_contribution *contribution);
/* Changes how many rows of the contribution's account versions may use: from less to more. */
void standing_move(struct step *step, const struct ledger_contribution *contribution, uint64_t less,
                   uint64_t more);
/* ERR_RANGE: an answer could cost more than all there is. */
MUST_USE enum err prices_take(struct step *step, const char *prompt, const char *completion,
                              struct amount *out_prompt, struct amount *out_completion);

/* ---- stake.c: positions and power ---- */

/* Pays what the position has earned, then makes it this large. Moves no principal. */
MUST_USE enum err stake_set_bond(struct step *step, const struct account_id *account,
                                 enum ledger_role role, struct amount amount);
MUST_USE enum err stake_set_delegation(struct step *step, const struct account_id *delegator,
                                       const struct account_id *validator, struct amount amount);
/* Pays the sender what its bonds, or its delegation, have earned. *out_any: it has a bond at all. */
MUST_USE enum err stake_claim_bonds(struct step *step, bool *out_any);
MUST_USE enum err stake_claim_delegation(struct step *step, const struct account_id *validator);
void stake_delegate_votes(struct step *step, const struct account_id *to);
/* Takes a slot for a snapshot (wanted->slot is ignored). ERR_CONFLICT: the opener has one open of this
 * sort; ERR_LIMIT: none is free. */
MUST_USE enum err stake_snapshot(struct step *step, bool proposal,
                                 const struct ledger_snapshot_slot *wanted);
void stake_snapshot_close(struct step *step, const struct digest *subject);

/* ---- slash.c ---- */

/* Who loses which part of what is at stake in a role, and who gets it. */
struct slash {
    struct account_id account;
    enum ledger_role role;
    uint32_t bp;
    struct account_id reporter;
    const struct account_id *harmed; /* gets up to harmed_max before the stakers do; NULL: nobody */
    struct amount harmed_max;
    struct digest reference;
};
/* Takes it from the bond, from what is on its way out of it and, of a validator, from delegations.
 * ERR_CONFLICT: nothing is at stake. */
MUST_USE enum err slash_apply(struct step *step, const struct slash *slash,
                              struct amount *out_amount);
/* Gives the account another key; for the unbonding time it answers for what the old one signed. */
void key_replace(struct step *step, const struct ledger_account *account,
                 const struct public_key *key);
/* Is the key the account's, or was it until less than the unbonding time ago? */
bool key_answers(const struct step *step, const struct account_id *account,
                 const struct public_key *key);
MUST_USE enum err job_take(struct step *step, ProtobufCBinaryData field,
                           const struct ledger_job **out);

/* What every transaction that was applied costs its sender: ledger.c, README.md "Gas". */
MUST_USE enum err gas_charge(struct step *step, size_t tx_size);

/* At a seal of this height: parts that waited too long go to their treasuries. */
MUST_USE enum err settle_overdue(struct step *step, uint64_t height);

/* Fills the state from a genesis file: genesis.c. */
MUST_USE enum err genesis_load(struct ledger *ledger, struct bytes genesis, struct note *note);

/* Rebuilds what is derived from the state (heap of expiries, first waiting receipt). */
void ledger_derive(struct ledger *ledger);
