/* ledger.h - the deterministic state machine: entries in, state, postings and headers out.
 *
 * Why: whoever replays the same log must come to the same balances, bit for bit. So this room does no
 * I/O, reads no clock and draws no random number; settlement, every service and `openledger verify`
 * run this very code. README.md lists each transaction with its checks and effects.
 *
 * State is a map of small typed records (the structs below). Each is a leaf of a Merkle trie keyed by
 * the SHA-256 of its typed key, so the state root costs only what an entry touched.
 *
 * Pointers that getters return are borrowed: valid, and unchanged, until the next ledger_apply().
 * One thread at a time per struct ledger; different ledgers are independent. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/account_id.h"
#include "shared/base/amount.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"

#define LEDGER_ENTRY_MAX 524288u         /* bytes of one log entry: 512 KiB */
#define LEDGER_BATCH_BLOB_MAX (8u << 20) /* bytes of a receipt or share batch */
#define LEDGER_BATCH_ITEMS_MAX 1024      /* receipts or share sets in a batch */
#define LEDGER_TRANSFERS_MAX 8190        /* transfers of one TransferBatch */
#define LEDGER_TRANSFER_SIZE 48          /* bytes of one: receiver and amount */
#define LEDGER_LEGS_MAX 65536            /* legs of one entry */
#define LEDGER_GENESIS_MAX (4u << 20)    /* bytes of a genesis file */
#define LEDGER_ALLOCATIONS_MAX 10000     /* in a genesis file */
#define LEDGER_NAME_MAX 64               /* [a-z0-9][a-z0-9._-]{1,63} */
#define LEDGER_TITLE_MAX 128             /* bytes of UTF-8 */
#define LEDGER_DESCRIPTION_MAX 1024      /* bytes of UTF-8 */
#define LEDGER_LICENCE_MAX 128           /* bytes of an SPDX expression */
#define LEDGER_REASON_MAX 256            /* bytes of a reason or memo */
#define LEDGER_VALIDATORS_MAX 16         /* of a datanet */
#define LEDGER_ROWS_MAX 100000           /* rows of one contribution */
#define LEDGER_CONTRIBUTORS_MAX 8192     /* of one dataset version */
#define LEDGER_SIGNATURES_MAX 4          /* of one transaction */
#define LEDGER_TOKENS_MAX 1000000        /* prompt or completion tokens of one receipt */
/* The last millisecond of the year 9999. Times and durations in force are far from wrapping, whatever a
 * sequencer writes. */
#define LEDGER_TIME_MS_MAX UINT64_C(253402300799999)
#define LEDGER_GRANT_MS_MAX UINT64_C(31622400000) /* 366 days: the furthest expiry of a grant */
#define LEDGER_CLAIM_MS UINT64_C(86400000)        /* a claim this old no longer binds a job */
#define LEDGER_EXPIRE_MAX 131072                  /* receipts a single seal sends to treasuries */
#define LEDGER_WITNESSES_MAX 16                   /* in a genesis file */
#define LEDGER_WITNESS_NAME_MAX 128               /* bytes of a witness's key name */
#define LEDGER_SHARE_TOTAL UINT32_C(1000000000)

struct ledger;

/* ---- records: what the state consists of ------------------------------------------------------ */

/* Values are those of the enums in ledger.proto. */
enum ledger_role {
    LEDGER_ROLE_VALIDATOR = 1,
    LEDGER_ROLE_GATEWAY = 2,
    LEDGER_ROLE_ATTRIBUTION = 3,
    LEDGER_ROLE_TRAINER = 4,
    LEDGER_ROLE_END,
};

/* params.h has a table of them: unit, default, bounds, meaning. */
struct ledger_parameters {
    uint32_t platform_bp, model_bp, stakers_bp, contributors_bp; /* sum to 10,000 */
    uint32_t share_deadline_blocks;
    uint64_t settlement_window_ms;
    uint64_t validity_max_ms;
    struct amount minimum_bond;
    struct amount gas_per_byte, gas_per_leg, free_gas_per_block;
    uint64_t unbonding_ms;
    uint32_t commission_bp;
    struct amount proposal_threshold;
    uint32_t voting_delay_blocks, voting_period_blocks, quorum_bp;
    uint64_t timelock_ms, proposal_grace_ms;
    uint64_t price_notice_ms;
    uint64_t treasury_period_ms;
    uint32_t treasury_payout_bp;
    uint32_t slash_conflict_bp, slash_invalid_bp, slash_job_bp, slash_reporter_bp;
    uint64_t challenge_window_ms;
    uint32_t challenge_blocks, challenge_quorum_bp;
    struct amount challenge_deposit;
    struct account_id platform;
    struct public_key sequencer;
};

struct ledger_account {
    struct account_id id;
    struct amount balance;
    bool has_key; /* false: escrow, treasury, or not opened yet */
    struct public_key key;
    char name[LEDGER_NAME_MAX + 1];
    uint64_t first_index; /* of the entry that first touched it; 0: genesis */
    uint64_t last_index;  /* of the last entry that moved its money or that it sent; 0: none */
};

struct ledger_bond {
    struct account_id account;
    uint32_t role; /* enum ledger_role */
    struct amount amount;
    struct amount rewarded_to; /* stake.h: the pool's index up to which it was paid */
    uint32_t delegations;      /* to it, that hold something */
};

struct ledger_datanet {
    char name[LEDGER_NAME_MAX + 1];
    struct account_id owner;
    struct account_id treasury;
    char title[LEDGER_TITLE_MAX + 1];
    char description[LEDGER_DESCRIPTION_MAX + 1];
    char licence[LEDGER_LICENCE_MAX + 1];
    uint32_t permission; /* Permission */
    uint32_t validator_count;
    struct account_id validators[LEDGER_VALIDATORS_MAX];
    struct account_id offered_to; /* may become the owner; zero: nobody */
    uint32_t contributions;
    uint32_t versions;
    uint64_t index;
};

enum ledger_contribution_state {
    LEDGER_CONTRIBUTION_COMMITTED = 1,
    LEDGER_CONTRIBUTION_ACCEPTED = 2,
    LEDGER_CONTRIBUTION_REJECTED = 3,
    LEDGER_CONTRIBUTION_WITHDRAWN = 4, /* review_index says whether it was reviewed before */
};

struct ledger_contribution {
    struct digest id; /* of its CommitRows transaction */
    char datanet[LEDGER_NAME_MAX + 1];
    struct account_id contributor;
    struct digest root;
    uint32_t row_count;
    uint64_t byte_count;
    uint32_t state; /* enum ledger_contribution_state */
    struct digest content;
    uint32_t accepted_rows;
    uint32_t withdrawn_rows; /* single ones: changes.h */
    char reason[LEDGER_REASON_MAX + 1];
    uint64_t index;        /* priority */
    uint64_t review_index; /* 0: not reviewed */
};

struct ledger_version {
    char datanet[LEDGER_NAME_MAX + 1];
    uint32_t version;
    struct digest root;
    uint32_t row_count;
    struct digest manifest;
    uint32_t contributor_count;
    uint64_t index;
};

struct ledger_model {
    char name[LEDGER_NAME_MAX + 1];
    struct digest content;
    struct digest profile;
    char licence[LEDGER_LICENCE_MAX + 1];
    struct account_id developer;
    bool revoked; /* no new jobs and adapters */
    uint64_t index;
};

struct ledger_train_settings {
    uint32_t rank, alpha, steps, batch_rows, learning_rate_ppm, warmup_steps, context;
    uint64_t seed;
    uint32_t digest_every, weight_decay_ppm;
};

enum ledger_job_state {
    LEDGER_JOB_QUEUED = 1,
    LEDGER_JOB_CLAIMED = 2,
    LEDGER_JOB_COMPLETED = 3,
    LEDGER_JOB_FAILED = 4,
    LEDGER_JOB_REFUTED = 5, /* completed, but a quorum of validators trained it to something else */
};

struct ledger_job {
    struct digest id; /* of its SubmitJob transaction */
    struct account_id developer;
    char datanet[LEDGER_NAME_MAX + 1];
    uint32_t version;
    char model[LEDGER_NAME_MAX + 1];
    struct ledger_train_settings settings;
    struct amount fee;
    uint32_t state; /* enum ledger_job_state */
    struct account_id trainer;
    uint64_t claimed_ms;
    uint64_t completed_ms;
    struct digest transcript_root;
    struct digest transcript;
    struct digest adapter; /* content */
    char reason[LEDGER_REASON_MAX + 1];
    bool published;
    uint64_t index;
};

struct ledger_adapter {
    char name[LEDGER_NAME_MAX + 1];
    struct account_id developer;
    struct digest job;
    char datanet[LEDGER_NAME_MAX + 1];
    uint32_t version;
    char model[LEDGER_NAME_MAX + 1];
    struct digest content;
    struct amount
        price_prompt; /* for receipts opened from price_from_ms on; changes.h has the others */
    struct amount price_completion;
    uint64_t price_from_ms; /* 0: since it was published */
    uint32_t price_changes;
    uint64_t revoked_ms; /* no receipt is opened from then on; 0: not revoked */
    bool has_index;
    struct digest attribution_index; /* blob; valid when has_index */
    uint64_t index;
};

struct ledger_grant {
    struct digest id; /* of its OpenGrant transaction */
    struct account_id payer;
    struct account_id gateway;
    struct amount limit;
    struct amount leased;
    struct amount drawn;
    uint64_t expires_ms;
    bool closed;
    uint32_t lease_count;
    uint64_t index;
};

struct ledger_lease {
    struct digest grant;
    uint32_t lease; /* from 1 */
    struct amount amount;
    struct amount drawn;
    uint64_t next_number; /* of the next receipt to settle; starts at 1 */
};

struct ledger_receipt {
    struct digest id;
    struct digest batch;
    struct digest grant;
    uint32_t lease;
    uint64_t number;
    char adapter[LEDGER_NAME_MAX + 1];
    struct amount fee;
    uint64_t split;           /* of 10,000 parts, 16 bits each: the split in force when charged */
    struct amount pending;    /* the contributors' part, while it waits for shares; then 0 */
    bool waiting;             /* for its share set */
    uint64_t charged_index;   /* entry */
    uint64_t shared_index;    /* entry (or seal) that paid the contributors' part; 0: waiting */
    uint64_t deadline_height; /* the seal of this height sends an unshared part to the treasury */
};

/* ---- life -------------------------------------------------------------------------------------- */

/* Parses and checks a genesis file (proto3 JSON of Genesis) and makes the state before entry 1.
 * ERR_INVALID / ERR_RANGE: the note names the field; ERR_LIMIT: larger than LEDGER_GENESIS_MAX. */
MUST_USE enum err ledger_create(struct bytes genesis, struct ledger **out_ledger,
                                struct note *note);
void ledger_destroy(struct ledger *ledger); /* NULL is fine */

/* ---- applying entries -------------------------------------------------------------------------- */

/* How a settlement batch finds its bytes. Appends the blob to out (limit LEDGER_BATCH_BLOB_MAX); the
 * ledger checks the digest itself. ERR_NOT_FOUND: not at hand (yet): nothing is wrong with the entry,
 * try again later. */
struct ledger_blobs {
    enum err (*get)(void *context, const struct digest *digest, struct buf *out);
    void *context;
};

enum ledger_kind { /* what an entry is */
                   LEDGER_KIND_SEAL = 1,
                   /* else the field number of its action in TxBody: 16.. */
};

/* One leg. reason is a constant string of the ledger ("transfer", "fee.platform", ...). */
struct ledger_leg {
    struct account_id account;
    bool credit; /* else debit */
    struct amount amount;
    const char *reason;
    bool has_reference;
    struct digest reference;
    uint64_t previous; /* the account's last_index before: so all of its history can be followed
                        * backwards. This entry's own index: an earlier leg of it says */
};

/* What an entry did. Filled by ledger_apply(); memory is reused from call to call. */
struct ledger_effects {
    uint32_t kind; /* enum ledger_kind or the action's field number */
    uint64_t index;
    uint64_t time_ms;
    struct digest entry_hash;
    struct digest tx;         /* transactions only */
    struct account_id sender; /* transactions only */
    uint64_t
        sender_previous; /* as a leg's; this entry's own index: it has a leg, or there is no sender */
    struct ledger_leg *legs; /* sum to zero */
    size_t leg_count;
    struct buf postings;     /* of each leg: u16 (little endian) size, serialised Posting */
    struct digest *receipts; /* receipts charged, shared or sent to a treasury by this entry */
    size_t receipt_count;
    uint32_t signatures; /* that were checked: the transaction's, and the batch's that it names */
    struct buf header;   /* seals only: serialised BlockHeader */
    size_t leg_capacity, receipt_capacity; /* the ledger's own */
};
void ledger_effects_init(struct ledger_effects *effects);
void ledger_effects_deinit(struct ledger_effects *effects);

/* Applies one entry; on any error the ledger is exactly as before and the note says why.
 *   ERR_INVALID, ERR_RANGE   malformed, wrong index, previous hash, time, validity, rule broken
 *   ERR_DENIED               signature or permission
 *   ERR_FUNDS                the account, grant or lease cannot pay
 *   ERR_NOT_FOUND            an object that the action names (note), or a batch's blob
 *   ERR_CONFLICT             repeated transaction, taken name, wrong state or number (not its turn)
 *   ERR_LIMIT, ERR_NO_MEMORY, ERR_CORRUPT (blob bytes do not match their name)
 * effects may be reused; its contents are valid only after ERR_OK. */
MUST_USE enum err ledger_apply(struct ledger *ledger, struct bytes entry,
                               const struct ledger_blobs *blobs, struct ledger_effects *effects,
                               struct note *note);

/* The same in two parts. The first needs no state: it decodes, hashes and checks signatures, the batch's
 * bytes included, so many entries can be prepared at once on many threads (blobs->get must allow it).
 * What is wrong with the bytes is kept and said when they are applied. blobs, bytes: for the call. Signatures of
 * transactions in entries up to index signed_until are taken to fit (0: of none): only for who has another
 * proof that those very entries were checked before. */
struct ledger_prepared;
struct ledger_prepared *ledger_prepare_entry(const struct digest *chain_id, struct bytes entry,
                                             const struct ledger_blobs *blobs,
                                             uint64_t signed_until);
MUST_USE enum err ledger_apply_prepared(struct ledger *ledger,
                                        const struct ledger_prepared *prepared,
                                        struct ledger_effects *effects, struct note *note);
/* Prepares a transaction that is no entry yet, for ledger_sequence. */
struct ledger_prepared *ledger_prepare_tx(const struct digest *chain_id, struct bytes signed_tx,
                                          const struct ledger_blobs *blobs);
/* The sequencer's whole work: appends to out_entry the next entry around a prepared transaction, as
 * ledger_make_entry does, and applies it. On an error out_entry may hold what is of no use. */
MUST_USE enum err ledger_sequence(struct ledger *ledger, const struct ledger_prepared *prepared,
                                  uint64_t time_ms, struct buf *out_entry,
                                  struct ledger_effects *effects, struct note *note);
/* The id of the transaction; NULL: the bytes are no transaction (or a seal). */
const struct digest *ledger_prepared_tx(const struct ledger_prepared *prepared);
void ledger_prepared_destroy(struct ledger_prepared *prepared); /* NULL is fine */

/* Whose cores compute a block's roots; borrowed. At first: the caller's thread alone. Returns who did before. */
struct parallel;
const struct parallel *ledger_parallel(struct ledger *ledger, const struct parallel *parallel);

/* Postings are hashed at a block's end, or earlier beside the work of this thread: take says in how many tasks
 * those so far can be; then ledger_hashing_task(i) runs once for each i below that, on any thread, while this
 * one may apply transactions; all have returned before it applies a seal or takes again. */
uint32_t ledger_hashing_take(struct ledger *ledger);
void ledger_hashing_task(struct ledger *ledger, uint32_t i);

/* Would this transaction, as the next entry at time_ms (raised to the last entry's), be applied? The
 * ledger stays as it is. Errors as ledger_apply. */
MUST_USE enum err ledger_check(struct ledger *ledger, struct bytes signed_tx, uint64_t time_ms,
                               const struct ledger_blobs *blobs, struct note *note);

/* The sequencer's part: appends to out the next Entry around a SignedTx (or the next Seal), at
 * time_ms raised to the last entry's time. */
MUST_USE enum err ledger_make_entry(const struct ledger *ledger, struct bytes signed_tx,
                                    uint64_t time_ms, struct buf *out);
MUST_USE enum err ledger_make_seal(const struct ledger *ledger, uint64_t time_ms, struct buf *out);
/* The epoch of the entries made from now on (the last entry's, when that is higher). No part of the
 * state: only who sequences has one. */
void ledger_set_epoch(struct ledger *ledger, uint64_t epoch);

/* SHA-256("openledger/entry/v1" 0x00 entry): also the message id on the stream. */
void ledger_entry_hash(struct bytes entry, struct digest *out_hash);

/* The name of an action by its field number ("transfer"), or "seal"; "unknown" otherwise. */
const char *ledger_kind_name(uint32_t kind);

/* ---- the ledger as a whole --------------------------------------------------------------------- */

struct ledger_head {
    struct digest chain_id;
    uint64_t index;           /* of the last entry; 0: none */
    struct digest entry_hash; /* of it; chain_id when none */
    uint64_t epoch;
    uint64_t time_ms;
    uint64_t height;            /* of the last sealed block */
    uint64_t sealed_index;      /* of the last seal: entries beyond it are not in a block yet */
    struct digest header_hash;  /* of the last header; chain_id when none */
    struct digest headers_root; /* RFC 6962 over the headers so far (height leaves) */
    uint64_t transactions;
};
void ledger_head(const struct ledger *ledger, struct ledger_head *out_head);

const struct ledger_parameters *ledger_parameters(const struct ledger *ledger);
const char *ledger_chain_name(const struct ledger *ledger);

/* Who cosigns checkpoints, as genesis says; for the ledger's life. quorum cosignatures make one final;
 * 0: the sequencer's signature alone does. */
struct ledger_witness {
    char name[LEDGER_WITNESS_NAME_MAX + 1]; /* of its key in signed notes */
    struct public_key key;
};
struct ledger_witnesses {
    struct ledger_witness items[LEDGER_WITNESSES_MAX];
    uint32_t count, quorum;
};
const struct ledger_witnesses *ledger_witnesses(const struct ledger *ledger);
/* The genesis file's bytes, borrowed for the ledger's life. */
struct bytes ledger_genesis(const struct ledger *ledger);
/* Root over all records now; costs what changed since it was last asked. */
void ledger_state_root(struct ledger *ledger, struct digest *out_root);
/* The same from every record, without any cache: what tests and verifiers compare with. */
void ledger_state_root_slow(const struct ledger *ledger, struct digest *out_root);
/* Sum of all balances. CHECKed to be the whole supply after each entry's legs; always 10^9 OPEN. */
struct amount ledger_supply(const struct ledger *ledger);

/* ---- reading records: NULL when there is none -------------------------------------------------- */

const struct ledger_account *ledger_account(const struct ledger *ledger,
                                            const struct account_id *id);
/* Is a transaction of this id on the ledger whose interval of validity has not ended? */
bool ledger_remembers(const struct ledger *ledger, const struct digest *tx);
/* Zero when there is no such bond. */
struct amount ledger_bond(const struct ledger *ledger, const struct account_id *account,
                          enum ledger_role role);
bool ledger_is_bonded(const struct ledger *ledger, const struct account_id *account,
                      enum ledger_role role);
const struct ledger_datanet *ledger_datanet(const struct ledger *ledger, const char *name);
bool ledger_may_review(const struct ledger_datanet *datanet, const struct account_id *account);
const struct ledger_contribution *ledger_contribution(const struct ledger *ledger,
                                                      const struct digest *id);
const struct ledger_version *ledger_version(const struct ledger *ledger, const char *datanet,
                                            uint32_t version);
/* Rows of account in that version; 0: not a contributor. */
uint32_t ledger_version_rows(const struct ledger *ledger, const char *datanet, uint32_t version,
                             const struct account_id *account);
const struct ledger_model *ledger_model(const struct ledger *ledger, const char *name);
const struct ledger_job *ledger_job(const struct ledger *ledger, const struct digest *id);
const struct ledger_adapter *ledger_adapter(const struct ledger *ledger, const char *name);
const struct ledger_grant *ledger_grant(const struct ledger *ledger, const struct digest *id);
const struct ledger_lease *ledger_lease(const struct ledger *ledger, const struct digest *grant,
                                        uint32_t lease);
const struct ledger_receipt *ledger_receipt(const struct ledger *ledger, const struct digest *id);
/* The earliest height whose seal would send some waiting part to a treasury or end a vote; 0: none.
 * While it is not 0, blocks should be sealed even when nothing happens. */
uint64_t ledger_next_deadline(const struct ledger *ledger);

/* Walks: start with previous = NULL; NULL at the end. Order: as first recorded (log order). */
const struct ledger_account *ledger_next_account(const struct ledger *ledger,
                                                 const struct ledger_account *previous);
const struct ledger_bond *ledger_next_bond(const struct ledger *ledger,
                                           const struct ledger_bond *previous);
const struct ledger_datanet *ledger_next_datanet(const struct ledger *ledger,
                                                 const struct ledger_datanet *previous);
const struct ledger_contribution *
ledger_next_contribution(const struct ledger *ledger, const struct ledger_contribution *previous);
const struct ledger_model *ledger_next_model(const struct ledger *ledger,
                                             const struct ledger_model *previous);
const struct ledger_job *ledger_next_job(const struct ledger *ledger,
                                         const struct ledger_job *previous);
const struct ledger_adapter *ledger_next_adapter(const struct ledger *ledger,
                                                 const struct ledger_adapter *previous);
const struct ledger_grant *ledger_next_grant(const struct ledger *ledger,
                                             const struct ledger_grant *previous);
const struct ledger_receipt *ledger_next_receipt(const struct ledger *ledger,
                                                 const struct ledger_receipt *previous);

/* The contributors of a version, ascending by account, into out[0..capacity); returns how many there
 * are (may exceed capacity). */
struct ledger_version_contributor {
    char datanet[LEDGER_NAME_MAX + 1];
    uint32_t version;
    struct account_id account;
    uint32_t row_count;
};
size_t ledger_version_contributors(const struct ledger *ledger, const char *datanet,
                                   uint32_t version, struct ledger_version_contributor *out,
                                   size_t capacity);

/* ---- derived account ids ------------------------------------------------------------------------ */

/* SHA-256(domain 0x00 key): nobody holds a key to these accounts. */
void ledger_treasury_id(const char *datanet, struct account_id *out_id);
void ledger_grant_escrow_id(const struct digest *grant, struct account_id *out_id);
void ledger_job_escrow_id(const struct digest *job, struct account_id *out_id);
void ledger_bond_escrow_id(const struct account_id *account, enum ledger_role role,
                           struct account_id *out_id);
/* Where contributors' parts wait for their shares, per datanet. */
void ledger_pending_escrow_id(const char *datanet, struct account_id *out_id);
/* Where the stakers' parts of a batch are collected before they are paid out. */
void ledger_stakers_pool_id(struct account_id *out_id);

/* [a-z0-9][a-z0-9._-]{1,63} */
bool ledger_name_valid(const char *name);

/* ---- snapshots ---------------------------------------------------------------------------------- */

/* Serialises the whole state. Only right after a seal (or at genesis): else ERR_CONFLICT. */
MUST_USE enum err ledger_snapshot(struct ledger *ledger, struct buf *out);
/* Restores it over the same genesis. ERR_CORRUPT: malformed, of another chain, or its records do not
 * give the state root it states. */
MUST_USE enum err ledger_restore(struct bytes genesis, struct bytes snapshot,
                                 struct ledger **out_ledger, struct note *note);
