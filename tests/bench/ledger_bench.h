/* ledger_bench.h - what the parts of bench_ledger share: a settlement on disk, and who drives it.
 *
 * What is timed is what the service does between its socket and its answer: settlement_submit_many() on signed
 * bytes (decode, hash, verify, apply, journal, index), settlement_seal() every second (state root, header,
 * checkpoint), settlement_sync() (fdatasync) before anything counts. Making and signing the load is not. */
#pragma once

#include <stdint.h>

#include "services/settlement/settlement.h"
#include "shared/blob/blob.h"
#include "shared/ledger/tx.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"
#include "tests/harness/ledger_world.h"

#define BENCH_SIGNERS 100
#define BENCH_CONTRIBUTORS 8
#define BENCH_BATCH 1000 /* transfers of one signed batch, as the table says */
#define BENCH_CLIENTS 64 /* who send one transfer each and wait for its answer */
#define BENCH_RECEIPTS 1024

struct signed_txs { /* prepared load */
    struct buf *items;
    size_t count;
};

struct rig {
    struct world
        *world; /* keys, genesis, builders of receipts; its own ledger is only for set-up */
    struct settlement *settlement;
    struct blob_store *blobs;
    struct pool *pool;
    struct key_pair *signers[BENCH_SIGNERS];
    struct account_id ids[BENCH_SIGNERS];
    uint64_t nonce, random;
    uint64_t sealed_ms;
    char folder[FILE_PATH_SIZE];
};

/* A new settlement in a private folder, the signers opened and funded. gas as genesis has it. */
void rig_open(struct rig *rig);
void rig_restart(struct rig *rig); /* closes the settlement and opens it again */
void rig_close(struct rig *rig);

/* A transaction by one of the signers, appended to txs. */
void rig_build(struct rig *rig, uint32_t signer, Openledger__V1__TxBody *action,
               struct signed_txs *txs);
void rig_build_world(struct rig *rig, enum world_who who, Openledger__V1__TxBody *action,
                     struct signed_txs *txs);
/* Transfers of 1 unit to uniformly random ones of `accounts` accounts: in batches, or one by one. */
void load_batches(struct rig *rig, uint64_t accounts, size_t count, struct signed_txs *txs);
void load_singles(struct rig *rig, uint64_t accounts, size_t count, struct signed_txs *txs);
/* Transfers that make accounts first.. of those that load_* choose from, BENCH_BATCH to a transaction. */
void load_openings(struct rig *rig, uint64_t first, size_t count, struct signed_txs *txs);
void signed_txs_free(struct signed_txs *txs);

/* Submits all, `group` at a time, each group on disk before the next; seals every second and at the end.
 * Stops the program on a refusal. Returns the seconds. */
double rig_run(struct rig *rig, const struct signed_txs *txs, size_t group);
/* The same at `per_s` transactions a second, whoever is behind: milliseconds from the moment each was due to
 * its durable answer, ascending. */
void rig_pace(struct rig *rig, const struct signed_txs *txs, double per_s, double *out_ms);
/* The same arrivals at a server that only computes, `busy` of the time where nothing disturbs it: what the machine
 * itself adds to latencies (a host that takes its core away, or slows it). */
void rig_pace_machine(size_t count, double per_s, double busy, double *out_ms);
uint64_t rig_size(const struct rig *rig,
                  const char *part); /* bytes of files in a folder of the rig */

/* ledger_replay.c: `openledger verify` over the rig's log, whose blocks are closed. */
struct replay_result {
    double transactions_per_s;
    double
        share; /* of the rate that checking its signatures and hashing its bytes alone would allow */
};
void bench_replay(struct rig *rig, struct replay_result *out);

/* ledger_receipts.c */
struct receipts_result {
    double per_s, bytes_log, bytes_blobs;
};
void bench_receipts(struct rig *rig, size_t batches, struct receipts_result *out);
