/* bench_ledger.c - the settlement on disk against PostgreSQL on the same disk: build/bench/ledger.json.
 *
 * What is timed, and what is not, is in ledger_bench.h. Options: `--quick` for a tenth of the load. Data goes below
 * TMPDIR (default /tmp). Needs `make bench-deps`; figures of a peer that is not there are left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"
#include "tests/bench/ledger_bench.h"

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

static void latency(struct rig *rig, double batches_a_second)
{
    struct signed_txs txs = {.count = 0};
    size_t count = (size_t)(batches_a_second / 2 * 5) + 10; /* five seconds */
    load_batches(rig, ACCOUNTS, count, &txs);
    double *ms = calloc(count, sizeof *ms);
    CHECK(ms != NULL);
    rig_pace(rig, &txs, batches_a_second / 2, ms);
    put("p50_commit_ms", ms[count / 2]);
    put("p99_commit_ms", ms[count * 99 / 100]);
    free(ms);
    signed_txs_free(&txs);
}

int main(int argc, char **argv)
{
    static struct rig rig;
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    size_t scale = quick ? 1 : 10;
    struct receipts_result receipts;
    buf_init(&report, 65536);
    struct peer peer = peer_run(quick);
    rig_open(&rig);
    (void)batches_per_s(&rig, ACCOUNTS, 20); /* the accounts exist, memory is warm */
    double batches = batches_per_s(&rig, ACCOUNTS, 100 * scale);
    put("transfers_per_s", batches * BENCH_BATCH);
    double singles = singles_per_s(&rig, 10000 * scale);
    put("single_tx_per_s", singles);
    if (peer.batched > 0) {
        put("postgres_batched_per_s", peer.batched);
        put("postgres_single_8_per_s", peer.single_8);
        put("postgres_single_64_per_s", peer.single_64);
        put("transfers_vs_postgres_batched", batches * BENCH_BATCH / peer.batched);
        put("single_tx_vs_postgres", singles / peer.single_64);
    }
    latency(&rig, batches);
    struct ledger_head head;
    ledger_head(settlement_ledger(rig.settlement), &head);
    uint64_t begin_us = clock_mono_us();
    rig_restart(&rig);
    put("restart_s", (double)(clock_mono_us() - begin_us) / 1e6);
    put("restart_entries", (double)head.index);
    bench_receipts(&rig, quick ? 10 : 100, &receipts);
    put("receipts_per_s", receipts.per_s);
    put("bytes_per_receipt_log", receipts.bytes_log);
    put("bytes_per_receipt_blobs", receipts.bytes_blobs);
    put("bytes_per_receipt_state", sizeof(struct ledger_receipt));
    rig_close(&rig);
    (void)buf_append_text(&report, "}\n");
    FILE *file = fopen("build/bench/ledger.json", "w");
    if (file != NULL) {
        (void)fputs(buf_text(&report), file);
        (void)fclose(file);
    }
    buf_deinit(&report);
    return EXIT_SUCCESS;
}
