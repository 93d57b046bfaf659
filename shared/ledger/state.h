/* state.h - the ledger's map of typed records: Merkle-hashed, with undo. Internal to this room.
 *
 * A record is one of the structs of ledger.h. A table of fields per kind says how it is encoded:
 * its first fields are its key. The records are leaves of a crit-bit trie:
 *
 *     key    = SHA-256(kind || encoded key fields)
 *     leaf   = SHA-256(0x00 || key || encoded fields)
 *     branch = SHA-256(0x01 || bit (u16 BE) || left || right)     bit: the first in which they differ
 *     empty  = 32 zero bytes
 *
 * Records are found by key in a hash table (table.h). The trie (trie.h) is brought up to date only
 * when a root is asked for, with all changes since the last one at once.
 *
 * Changes since the last commit can be undone: an entry applies wholly or not at all. Out of memory
 * aborts: half an entry must not be kept, and a crash is repaired by replaying the log. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/parallel.h"
#include "shared/ledger/ledger.h"

enum state_kind { /* part of every key and of snapshots: never renumber */
                  STATE_PARAMETERS = 1,
                  STATE_ACCOUNT = 2,
                  STATE_BOND = 3,
                  STATE_DATANET = 4,
                  STATE_CONTRIBUTION = 5,
                  STATE_VERSION = 6,
                  STATE_VERSION_CONTRIBUTOR = 7,
                  STATE_MODEL = 8,
                  STATE_JOB = 9,
                  STATE_ADAPTER = 10,
                  STATE_GRANT = 11,
                  STATE_LEASE = 12,
                  STATE_RECEIPT = 13,
                  STATE_TX = 14,
                  STATE_STANDING = 15,
                  STATE_STAKING = 16,
                  STATE_DELEGATION = 17,
                  STATE_UNBONDING = 18,
                  STATE_STAKER = 19,
                  STATE_POWER = 20,
                  STATE_SNAPSHOT = 21,
                  STATE_PROPOSAL = 22,
                  STATE_VOTE = 23,
                  STATE_FREE_GAS = 24,
                  STATE_HOLD = 25,
                  STATE_GUARDIANS = 26,
                  STATE_VESTING = 27,
                  STATE_CLAIMS = 28,
                  STATE_CLAIMED = 29,
                  STATE_WITHDRAWN_ROW = 30,
                  STATE_PRICE = 31,
                  STATE_PAYOUTS = 32,
                  STATE_FORMER_KEY = 33,
                  STATE_OFFENCE = 34,
                  STATE_CHALLENGE = 35,
                  STATE_ATTESTATION = 36,
                  STATE_KIND_END,
};

/* A transaction's id, remembered until its validity ends. */
struct state_tx {
    struct digest id;
    uint64_t valid_until_ms;
};

/* Rows of a contributor that were accepted into a datanet and may go into versions. */
struct state_standing {
    char datanet[LEDGER_NAME_MAX + 1];
    struct account_id account;
    uint64_t accepted_rows;
};

/* Gas that the block of this height has forgiven so far; one record. */
struct state_free_gas {
    uint64_t height;
    struct amount used;
};

struct state;

struct state *state_create(void);
void state_destroy(struct state *state);

/* Who computes roots; borrowed. At first: the caller's thread alone. Returns who did before. */
const struct parallel *state_parallel(struct state *state, const struct parallel *parallel);

/* Finds the record with the key fields of *probe (its other fields are ignored), or NULL. */
const void *state_get(const struct state *state, enum state_kind kind, const void *probe);

/* Adds a copy of *record, whose key must not be there yet (CHECKed); returns it for further filling
 * until the next commit. */
void *state_add(struct state *state, enum state_kind kind, const void *record);
/* Makes a record writable until the next commit or rollback. */
void *state_edit(struct state *state, const void *record);
/* The record is gone after the next commit; until then it can still be read. */
void state_remove(struct state *state, const void *record);

void state_commit(struct state *state);
void state_rollback(struct state *state);

/* Walks a kind in the order of adding. previous NULL: the first. */
const void *state_next(const struct state *state, enum state_kind kind, const void *previous);

/* Nothing uncommitted may be pending (CHECKed). */
void state_root(struct state *state, struct digest *out_root);
void state_root_slow(const struct state *state, struct digest *out_root);

/* What a leaf's and a branch's hash begin with, so that neither passes for the other. */
enum { STATE_LEAF_PREFIX = 0x00, STATE_BRANCH_PREFIX = 0x01 };

#define STATE_PATH_MAX (8 * DIGEST_SIZE) /* branches above a leaf: one per key bit */

/* The way from the root to the leaf at which a search for a key ends. steps: root first; going left
 * or right is the key's own bit. */
struct state_step {
    uint16_t bit;
    struct digest sibling; /* the child not taken */
};
struct state_path {
    struct digest leaf_key; /* not the key searched for: there is no such record */
    uint32_t count;
    struct state_step steps[STATE_PATH_MAX];
};

/* The key of the record with the key fields of *probe, in table and trie. */
void state_key(enum state_kind kind, const void *probe, struct digest *out_key);
/* The same for `count` probes, `stride` bytes apart, side by side where the CPU can (sha256_many). Of a probe only its
 * key fields are read: where those come first in the record, it may end behind them, and lie anywhere. */
void state_keys(enum state_kind kind, const void *probes, size_t stride, size_t count,
                struct digest *out_keys);
/* For many records at once: derive the keys, have the table's slots fetched, then the records, then get. */
void state_prefetch(const struct state *state, const struct digest *key);
void state_prefetch_record(const struct state *state, enum state_kind kind,
                           const struct digest *key);
const void *state_get_key(const struct state *state, const struct digest *key);
/* Finds the way to key in the state as state_root() hashes it, and appends the found leaf's encoded
 * fields to out_record. ERR_NOT_FOUND: the state is empty. */
MUST_USE enum err state_path(struct state *state, const struct digest *key,
                             struct state_path *out_path, struct buf *out_record);
/* The two hashes above, from their parts: for whoever checks a path without the state. */
void state_leaf_hash(const struct digest *key, struct bytes fields, struct digest *out_hash);
void state_branch_hash(uint16_t bit, const struct digest *left, const struct digest *right,
                       struct digest *out_hash);

/* Appends every record; and reads them back into an empty state. ERR_CORRUPT. */
enum err state_encode(const struct state *state, struct buf *out);
MUST_USE enum err state_decode(struct state *state, struct bytes data);
