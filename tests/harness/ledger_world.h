/* ledger_world.h - a ledger with a cast of accounts, for tests: fixed keys, fixed time, blobs in memory.
 *
 * Every helper builds, signs and applies one real transaction; world_try() gives the error instead of
 * insisting on success. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/ledger/batch.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/tx.h"

enum world_who {
    WORLD_PLATFORM,    /* holds 300 million: community */
    WORLD_PAYER,       /* 301 million: ecosystem */
    WORLD_DEV,         /* 100 million, adapter developer */
    WORLD_BASE,        /* 99 million, base model developer */
    WORLD_TEAM,        /* 100 million: cliff of 1,000 s, then linear over 1,000 s */
    WORLD_GATEWAY,     /* 10 million */
    WORLD_TRAINER,     /* 10 million */
    WORLD_ATTRIBUTION, /* 10 million */
    WORLD_OWNER,       /* 10 million, datanet owner */
    WORLD_SERVICE,     /* 60 million, settlement's operator */
    WORLD_ALICE,       /* contributors: nothing at genesis, opened by world_open */
    WORLD_BOB,
    WORLD_COUNT
};

#define WORLD_TIME_MS UINT64_C(1800000000000)
#define WORLD_BLOBS_MAX 256
#define WORLD_ENTRIES_MAX 4096
#define WORLD_ROWS_MAX 70
#define WORLD_SNAPSHOT_MAX ((size_t)1 << 24) /* bytes */

struct world {
    struct ledger *ledger;
    struct buf genesis;
    struct key_pair *sequencer;
    struct key_pair *keys[WORLD_COUNT];
    struct account_id ids[WORLD_COUNT];
    uint64_t time_ms; /* genesis */
    uint32_t deadline_blocks;
    bool gas; /* else transactions cost none, so that tests can count in whole OPEN */
    uint64_t now_ms;
    uint64_t nonce;
    struct buf blobs[WORLD_BLOBS_MAX];
    struct digest blob_names[WORLD_BLOBS_MAX];
    size_t blob_count;
    struct ledger_effects effects;         /* of the last entry applied */
    struct digest tx;                      /* id of the last transaction built */
    struct note note;                      /* of the last refusal */
    struct buf entries[WORLD_ENTRIES_MAX]; /* the log */
    size_t entry_count;
    struct digest grant;
    struct digest job;
    const char *adapter;     /* that receipts are of; "adapter" */
    struct world_tape *tape; /* NULL: this history is not written down */
    struct digest files;     /* one blob that stands for adapter and index */
};

struct world *world_create(void); /* at WORLD_TIME_MS */
struct world *world_create_at(uint64_t time_ms,
                              uint32_t deadline_blocks); /* for tests with a real clock */
struct world *world_create_with(uint64_t time_ms, uint32_t deadline_blocks, bool gas);
void world_destroy(struct world *world);
/* A place in the world's history to come back to, as often as one likes: state, log, blobs, clock. */
struct world_mark {
    struct buf snapshot;
    size_t entry_count, blob_count;
    uint64_t now_ms, nonce;
};
void world_mark(const struct world *world, struct world_mark *out); /* buf_deinit the snapshot */
void world_return(struct world *world, const struct world_mark *mark);
struct ledger_blobs world_blobs(struct world *world);
/* The genesis file's text for a sequencer key. */
void world_genesis(struct world *world);
struct digest world_blob(struct world *world, struct bytes bytes);

/* A signed transaction by who. */
void world_build(struct world *world, enum world_who who, Openledger__V1__TxBody *action,
                 struct buf *out);
/* Builds, makes the entry, applies; on success the entry is kept in the log. */
enum err world_try(struct world *world, enum world_who who, Openledger__V1__TxBody *action);
enum err world_apply_signed(struct world *world, struct bytes signed_tx);
enum err world_seal(struct world *world);

/* Shorthands, each one transaction. */
enum err world_open(struct world *world, enum world_who who);
enum err world_transfer(struct world *world, enum world_who from, enum world_who to,
                        const char *amount);
enum err world_bond(struct world *world, enum world_who who, enum ledger_role role,
                    const char *amount);
/* Alice and Bob, datanet "net", a contribution each (30 and 70 rows), version 1, model "base", a
 * completed job, adapter "adapter" (0.001 and 0.002 OPEN per token), index, bonds. */
void world_setup(struct world *world);
/* A grant of limit for payer and gateway, with lease 1 over all of it. */
enum err world_grant(struct world *world, const char *limit);

/* A signed batch of count receipts from number first on, each of prompt and completion tokens; its
 * blob is stored. Returns its digest; ids of the receipts into out_ids. fee NULL: the right one. */
struct digest world_receipts(struct world *world, uint64_t first, size_t count, uint32_t prompt,
                             uint32_t completion, const char *fee, struct digest *out_ids);
enum err world_settle_receipts(struct world *world, const struct digest *batch);
/* Alice alice_ppb, Bob bob_ppb, the rest unearned, for each receipt. */
struct digest world_shares(struct world *world, const struct digest *receipts, size_t count,
                           uint32_t alice_ppb, uint32_t bob_ppb);
enum err world_settle_shares(struct world *world, const struct digest *batch);

/* "12.5" of an account. */
const char *world_balance(struct world *world, const struct account_id *id,
                          char out[AMOUNT_TEXT_SIZE]);

/* The SignedTx inside an entry of the log, {0} for a seal; borrowed from *out_decoded, which the caller
 * frees with openledger__v1__entry__free_unpacked. */
struct bytes world_signed_tx(const struct buf *entry, Openledger__V1__Entry **out_decoded);

/* For building actions: fields that borrow, and a TxBody named body with one member set. */
ProtobufCBinaryData world_id_field(const struct world *world, enum world_who who);
char *world_text(const char *constant);
#define WORLD_ACTION(body, UPPER, member, value)                                                   \
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;                                   \
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_##UPPER;                                    \
    body.member = value
