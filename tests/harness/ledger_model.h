/* ledger_model.h - a second ledger, small and obvious: arrays of balances and objects, every rule of
 * shared/ledger/README.md as a few lines over them. It says beforehand whether a transaction will be taken, else
 * with which error it is refused, and what every account has then; test_ledger_model.c compares.
 *
 * No state trie, no undo, no shared code with the rules but amounts, the ids of escrow accounts and the readers
 * of batches. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/ledger_world.h"

enum {
    PEOPLE = WORLD_COUNT + 1, /* the cast, and the sequencer */
    SEQUENCER = WORLD_COUNT,
    NOBODY = -1,
    KEYS = PEOPLE + 12, /* theirs, then spare ones */
    PURSES_MAX = 1024,
    ROLES = 5,
    ITEMS_MAX = 512,
    ROWS = 12,
    BLOCKS_MAX = 4096,
    SIGNERS_MAX = 4
};

struct purse {
    struct account_id id;
    struct amount has;
};

struct model_net {
    char name[16];
    int owner, offered, permission;
    bool validator[PEOPLE];
    uint32_t versions;
    bool paying; /* a payout period has begun */
    uint64_t paid_from_ms;
    struct amount paid, limit;
};

enum part_state { COMMITTED, ACCEPTED, REJECTED, WITHDRAWN };

struct model_part { /* a contribution */
    struct digest id;
    int net, who;
    uint32_t rows, accepted;
    bool gone[ROWS];
    enum part_state state;
};

struct model_version {
    int net;
    uint32_t version, rows[PEOPLE];
};

struct model_base {
    char name[16];
    int developer;
    struct digest profile;
    bool revoked;
};

enum job_state { QUEUED, CLAIMED, DONE, FAILED, REFUTED };
enum challenge_state { NEVER, OPEN, UNDECIDED, SOUND, UPHELD };

struct model_job {
    struct digest id;
    int developer, net, base, trainer;
    uint32_t version;
    struct amount fee;
    enum job_state state;
    uint64_t claimed_ms, done_ms;
    bool published;
    enum challenge_state challenge;
    struct digest challenge_id;
    int challenger;
    uint64_t snapshot, end, failed, sound;
    bool attested[PEOPLE];
};

struct model_adapter {
    char name[16];
    int job, developer;
    struct { /* in force from from_ms on */
        uint64_t from_ms;
        struct amount prompt, completion;
    } prices[32];
    uint32_t price_count;
    uint64_t revoked_ms;
    bool indexed;
    struct digest index;
};

struct model_grant {
    struct digest id;
    int payer, gateway;
    struct amount limit, leased, drawn;
    uint64_t expires_ms;
    bool closed;
    uint32_t leases;
    struct {
        struct amount has, drawn;
        uint64_t next;
    } lease[16];
};

struct model_receipt {
    struct digest id;
    int adapter;
    bool waiting;
    struct amount pending;
    uint64_t deadline;
};

struct model_hold {
    struct digest id;
    int payer, arbiter;
    struct account_id to;
    struct amount amount;
    uint64_t expires_ms;
    bool pending;
};

struct model_claims { /* of one leaf or two */
    struct digest id, root;
    int publisher;
    uint32_t count;
    struct amount total, paid;
    uint64_t expires_ms;
    bool closed, taken[2];
};

struct model_leaving {
    int who, role, validator;
    struct amount amount;
    uint64_t release_ms;
};

enum proposal_end { NONE, WAITING, EXECUTED, CANCELLED };

struct model_proposal {
    struct digest id;
    int proposer;
    uint64_t snapshot, end, eta_ms, expires_ms, sums[4];
    bool voted[PEOPLE];
    enum proposal_end outcome;
    uint32_t value; /* of treasury_payout_bp, the one parameter that is ever proposed */
};

struct model_guards {
    bool guard[PEOPLE];
    uint32_t count, threshold;
    uint64_t delay_ms, approved_ms[PEOPLE];
    int key[PEOPLE];
};

struct model_former {
    int who, key;
    uint64_t until_ms;
};

struct model {
    struct world *world;
    struct account_id ids[PEOPLE];
    struct key_pair *keys[KEYS];
    int key[PEOPLE]; /* whose current one is which; NOBODY: not open */
    uint64_t now_ms, height;
    struct purse purses[PURSES_MAX];
    uint32_t treasury_bp;
    struct digest offences[ITEMS_MAX];
    struct amount bonds[PEOPLE][ROLES], delegations[PEOPLE][PEOPLE]; /* by whom, to whom */
    bool bonded_once[PEOPLE];
    uint32_t delegated[PEOPLE][PEOPLE], delegated_count; /* in which order first; 0: never */
    struct amount reward_index, reward_owed; /* of the stakers' pool, as FORMAT.md has it */
    struct amount bonds_paid_to[PEOPLE][ROLES], delegations_paid_to[PEOPLE][PEOPLE];
    int votes_to[PEOPLE];
    struct model_leaving leaving[ITEMS_MAX];
    uint64_t votes_at[BLOCKS_MAX][PEOPLE], validating_at[BLOCKS_MAX][PEOPLE];
    struct amount vested_taken;
    struct model_guards guards[PEOPLE];
    struct model_former formers[ITEMS_MAX];
    struct model_net nets[ITEMS_MAX];
    struct model_part parts[ITEMS_MAX];
    struct model_version versions[ITEMS_MAX];
    struct model_base bases[ITEMS_MAX];
    struct model_job jobs[ITEMS_MAX];
    struct model_adapter adapters[ITEMS_MAX];
    struct model_grant grants[ITEMS_MAX];
    struct model_receipt receipts[ITEMS_MAX];
    struct model_hold holds[ITEMS_MAX];
    struct model_claims claims[ITEMS_MAX];
    struct model_proposal proposals[ITEMS_MAX];
    int purse_count, offence_count, leaving_count, former_count, net_count, part_count,
        version_count, base_count, job_count, adapter_count, grant_count, receipt_count, hold_count,
        claims_count, proposal_count;
};

/* A transaction as the model sees it. */
struct model_call {
    int sender;
    Openledger__V1__TxBody *body;
    struct {
        int who, key;
    } signers[SIGNERS_MAX];
    int signer_count;
    struct digest tx;
};

struct model *model_create(struct world *world); /* as genesis left it */
void model_destroy(struct model *model);
/* What will become of it? ERR_OK: it is taken, and the model has it now. */
enum err model_take(struct model *model, const struct model_call *call);
void model_seal(struct model *model);

/* ---- for the rules' files, one each in ledger_model_*.c ---- */

#define MODEL_RULE(lower, Message)                                                                 \
    enum err model_##lower(struct model *m, const struct model_call *c,                            \
                           const Openledger__V1__##Message *a)
#include "shared/ledger/machine.h"
#define MODEL_RULE_DECLARE(upper, lower, Message) MODEL_RULE(lower, Message);
LEDGER_RULES(MODEL_RULE_DECLARE)
#undef MODEL_RULE_DECLARE
/* A rule is a list of what it needs, in the order that FORMAT.md and README.md give; the first that it does not
 * have is the answer. */
#define NEED(condition, error)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return (error);                                                                        \
        }                                                                                          \
    } while (false)

struct amount *model_purse(struct model *m, const struct account_id *id);
bool model_pay(struct model *m, const struct account_id *from, const struct account_id *to,
               struct amount amount);
bool model_amount(const char *text, struct amount *out); /* canonical, above 0 */
bool model_id(ProtobufCBinaryData field, struct account_id *out);
bool model_32(ProtobufCBinaryData field); /* has it the size of a digest, an account or a key? */
int model_who(const struct model *m, ProtobufCBinaryData field);
int model_net_find(const struct model *m, const char *name);
int model_job_find(const struct model *m, ProtobufCBinaryData id);
bool model_signed(const struct model_call *c, int who, int key);
int model_key_find(const struct model *m, ProtobufCBinaryData key);
bool model_key_answers(const struct model *m, int who, ProtobufCBinaryData key);
uint32_t model_standing(const struct model *m, int net, int who);
bool model_bonded(const struct model *m, int who, int role);   /* with at least the minimum */
bool model_expiry(const struct model *m, uint64_t expires_ms); /* later than now, within 366 days */
struct amount model_part_of(struct amount amount, uint32_t bp);
/* Takes bp of all that is at stake; false: that is nothing. harmed: gets up to harmed_max; or NOBODY. */
bool model_slash(struct model *m, int who, int role, uint32_t bp, int reporter, int harmed,
                 struct amount harmed_max);
void model_power(struct model *m); /* recomputes the present block's */
/* Does an adapter's receipt fit its prices and revocation? ERR_DENIED: revoked; ERR_INVALID: another fee. */
enum err model_price_fits(const struct model *m, int adapter, uint64_t opened_ms, uint32_t prompt,
                          uint32_t completion, struct amount fee);
#define MODEL_TEXT(text, size) (strlen(text) <= (size))
