/* bench_ledger.c - the settlement on disk against PostgreSQL on the same disk: build/bench/ledger.json.
 *
 * What is timed, and what is not, is in ledger_bench.h. Options: `--quick` for a tenth of the load; `--only PART,..`, which
 * writes no file, with parts as in PARTS. Data goes below
 * TMPDIR (default /tmp), 4 GB of it; memory up to 8 GB. Needs `make bench-deps`; figures of a peer that is not
 * there are left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"
#include "tests/bench/ledger_bench.h"
#include "tests/harness/log_proof_time.h"

#define ACCOUNTS 10000
#define GROUP 8 /* signed batches that share a sync */

static struct buf report;

static void put(const char *key, double value)
{
    (void)buf_printf(&report, "%s\"%s\": %.6g", report.size == 0 ? "{" : ", ", key, value);
    (void)printf("%-32s %.6g\n", key, value);
    (void)fflush(stdout);
}

struct peer {
    double single_8, single_64, batched; /* transfers/s; 0: not measured */
};

static struct peer peer_run(bool quick)
{
    struct peer peer = {0};
    struct buf out;
    struct note note = {""};
    int exit_code = 0;
    buf_init(&out, 4096);
    const char *const argv[] = {"sh", "tests/bench/peer_postgres.sh", quick ? "2" : "10", NULL};
    enum err err = process_output(argv, 300000, &out, &exit_code, &note);
    if (err != ERR_OK || exit_code != 0) {
        (void)fprintf(stderr, "bench_ledger: no peer: %s\n", note.text);
    }
    const char *at = buf_text(&out);
    while (err == ERR_OK && exit_code == 0 && *at != '\0') {
        double value = strtod(at + strcspn(at, " "), NULL);
        if (strncmp(at, "single_8 ", 9) == 0) {
            peer.single_8 = value;
        } else if (strncmp(at, "single_64 ", 10) == 0) {
            peer.single_64 = value;
        } else if (value > peer.batched) { /* its best number of clients */
            peer.batched = value;
        }
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    buf_deinit(&out);
    return peer;
}

static double batches_per_s(struct rig *rig, uint64_t accounts, size_t count)
{
    struct signed_txs txs = {.count = 0};
    load_batches(rig, accounts, count, &txs);
    double seconds = rig_run(rig, &txs, GROUP);
    signed_txs_free(&txs);
    return (double)count / seconds;
}

static double singles_per_s(struct rig *rig, size_t count)
{
    struct signed_txs txs = {.count = 0};
    load_singles(rig, ACCOUNTS, count, &txs);
    double seconds = rig_run(rig, &txs, BENCH_CLIENTS);
    signed_txs_free(&txs);
    return (double)count / seconds;
}

struct bench {
    struct rig rig;
    size_t scale;            /* of the load: 10, or 1 */
    double batches, singles; /* per second */
};

static void part_latency(struct bench *bench)
{
    struct rig *rig = &bench->rig;
    double batches_a_second = bench->batches;
    struct signed_txs txs = {.count = 0};
    size_t count = (size_t)(batches_a_second / 2 * 5) + 10; /* five seconds */
    load_batches(rig, ACCOUNTS, count, &txs);
    double *ms = calloc(count, sizeof *ms);
    CHECK(ms != NULL);
    rig_pace(rig, &txs, batches_a_second / 2, ms);
    put("p50_commit_ms", ms[count / 2]);
    put("p99_commit_ms", ms[count * 99 / 100]);
    rig_pace_machine(count, batches_a_second / 2, 0.5, ms);
    put("p99_machine_ms", ms[count * 99 / 100]);
    free(ms);
    signed_txs_free(&txs);
}

static void part_postgres(struct bench *bench)
{
    struct peer peer = peer_run(bench->scale == 1);
    if (peer.batched > 0) {
        put("postgres_batched_per_s", peer.batched);
        put("postgres_single_8_per_s", peer.single_8);
        put("postgres_single_64_per_s", peer.single_64);
        put("transfers_vs_postgres_batched", bench->batches * BENCH_BATCH / peer.batched);
        put("single_tx_vs_postgres", bench->singles / peer.single_64);
    }
}

static void part_transfers(struct bench *bench)
{
    (void)batches_per_s(&bench->rig, ACCOUNTS, 20); /* the accounts exist, memory is warm */
    bench->batches = batches_per_s(&bench->rig, ACCOUNTS, 100 * bench->scale);
    put("transfers_per_s", bench->batches * BENCH_BATCH);
    bench->singles = singles_per_s(&bench->rig, 10000 * bench->scale);
    put("single_tx_per_s", bench->singles);
}

static void part_replay(struct bench *bench)
{
    struct replay_result replay;
    bench_replay(&bench->rig, &replay);
    put("replay_tx_per_s", replay.transactions_per_s);
    put("replay_share", replay.share);
}

static void part_receipts(struct bench *bench)
{
    struct receipts_result receipts;
    bench_receipts(&bench->rig, 10 * bench->scale, &receipts);
    put("receipts_per_s", receipts.per_s);
    put("bytes_per_receipt_log", receipts.bytes_log);
    put("bytes_per_receipt_blobs", receipts.bytes_blobs);
    put("bytes_per_receipt_state", sizeof(struct ledger_receipt));
}

/* Accounts first..first + count - 1 come to be. */
static void open_accounts(struct rig *rig, uint64_t count)
{
    enum { STEP = 250 };
    for (uint64_t first = 0; first < count; first += (uint64_t)STEP * BENCH_BATCH) {
        struct signed_txs txs = {.count = 0};
        load_openings(rig, first, STEP, &txs);
        (void)rig_run(rig, &txs, GROUP);
        signed_txs_free(&txs);
    }
}

static void part_restart(struct bench *bench)
{
    enum { STEP = 50000 };
    struct rig *rig = &bench->rig;
    struct ledger_head head;
    size_t million = 100000 * bench->scale;
    open_accounts(rig, million);
    for (size_t done = 0; done < million; done += STEP) {
        struct signed_txs txs = {.count = 0};
        load_singles(rig, million, STEP, &txs);
        (void)rig_run(rig, &txs, SETTLEMENT_GROUP_MAX);
        signed_txs_free(&txs);
    }
    ledger_head(settlement_ledger(rig->settlement), &head);
    uint64_t begin_us = clock_mono_us();
    rig_restart(rig);
    put("restart_s", (double)(clock_mono_us() - begin_us) / 1e6);
    put("restart_accounts", (double)million);
    put("restart_entries", (double)head.index);
}

static void part_scaling(struct bench *bench)
{
    uint64_t accounts = 1000000 * bench->scale;
    open_accounts(&bench->rig, accounts);
    double many = batches_per_s(&bench->rig, accounts, 100 * bench->scale);
    put("scaling_accounts", (double)accounts);
    put("accounts_scaling", many / bench->batches);
}

static void part_proof(struct bench *bench)
{
    (void)bench;
    struct log_proof_time time;
    struct note note = {""};
    if (log_proof_time("/dev/shm", 10000000, 2000, &time, &note) == ERR_OK) {
        put("proof_us", time.make_us + time.check_us);
    } else {
        (void)fprintf(stderr, "bench_ledger: no proof_us: %s\n", note.text);
    }
}

struct part {
    const char *name;
    void (*run)(struct bench *bench);
    bool fresh; /* wants a settlement of its own */
};
static const struct part PARTS[] = {
    {"transfers", part_transfers, false}, {"postgres", part_postgres, false},
    {"latency", part_latency, false},     {"replay", part_replay, false},
    {"receipts", part_receipts, false},   {"restart", part_restart, true},
    {"scaling", part_scaling, true},      {"proof", part_proof, false},
};

/* transfers come first in any case: the others are measured against them. */
static bool wanted(const char *only, size_t part)
{
    return only == NULL || part == 0 || strstr(only, PARTS[part].name) != NULL;
}

static void report_write(void)
{
    (void)buf_append_text(&report, "}\n");
    FILE *file = fopen("build/bench/ledger.json", "w");
    if (file == NULL || fputs(buf_text(&report), file) < 0 || fclose(file) != 0) {
        (void)fprintf(stderr, "bench_ledger: could not write build/bench/ledger.json\n");
    }
}

int main(int argc, char **argv)
{
    static struct bench bench = {.scale = 10};
    const char *only = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            bench.scale = 1;
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else {
            (void)fprintf(stderr, "usage: bench_ledger [--quick] [--only PART[,PART...]]\n");
            return EXIT_FAILURE;
        }
    }
    buf_init(&report, 65536);
    rig_open(&bench.rig);
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        if (!wanted(only, i)) {
            continue;
        }
        if (PARTS[i].fresh) {
            rig_close(&bench.rig);
            rig_open(&bench.rig);
        }
        PARTS[i].run(&bench);
    }
    rig_close(&bench.rig);
    if (only == NULL) {
        report_write();
    }
    buf_deinit(&report);
    return EXIT_SUCCESS;
}
