/* ledger_replay.c - the rate of `openledger verify`, and the limit that no verifier can pass: see ledger_bench.h.
 *
 * The limit counts what has to be computed once: one Ed25519 check for each signature, SHA-256 of each entry, of
 * each posting's leaf and of the nodes above them, on all cores with nothing to wait for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/verify_ledger.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/platform/clock.h"
#include "tests/bench/ledger_bench.h"

enum {
    TASKS = 64,
    CHECKS = 128,
    HASHES = 16384,
    LEAF_SIZE = 110,
    NODE_SIZE = 65,
    CHUNK = 65536,
    SIDE_BY_SIDE = 64
};

struct sample {
    struct public_key key;
    struct signature signature;
    uint8_t message[128];
    uint8_t bytes[CHUNK];
    uint8_t kept[TASKS]; /* of each task's result, so that no work is left out */
};

static void check_some(void *argument, uint32_t task)
{
    struct sample *sample = argument;
    for (int i = 0; i < CHECKS; i++) {
        CHECK(signature_verify(&sample->key, bytes_of(sample->message, sizeof sample->message),
                               &sample->signature));
    }
    sample->kept[task] = 1;
}

static void hash_postings(void *argument, uint32_t task)
{
    struct sample *sample = argument;
    struct bytes messages[SIDE_BY_SIDE];
    struct digest digests[SIDE_BY_SIDE];
    const size_t sizes[2] = {LEAF_SIZE, NODE_SIZE};
    uint8_t kept = 0; /* not in the sample: the cores would take its line from each other */
    for (size_t done = 0; done < HASHES; done += SIDE_BY_SIDE) {
        for (size_t k = 0; k < 2; k++) {
            for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
                messages[i] = bytes_of(sample->bytes + done + i, sizes[k]);
            }
            sha256_many(bytes_of(NULL, 0), messages, SIDE_BY_SIDE, digests);
            kept ^= digests[0].bytes[0];
        }
    }
    sample->kept[task] = kept;
}

static void hash_chunks(void *argument, uint32_t task)
{
    struct sample *sample = argument;
    struct digest digest;
    for (int i = 0; i < CHECKS; i++) {
        sha256(bytes_of(sample->bytes, CHUNK), &digest);
        sample->kept[task] ^= digest.bytes[0];
    }
}

/* Seconds that one of `each` units in each of TASKS tasks takes, all cores at it; over a second, so that what
 * disturbs the replay disturbs this as much. */
static double unit_s(const struct rig *rig, void (*task)(void *, uint32_t), double each,
                     struct sample *sample)
{
    const struct parallel *parallel = pool_parallel(rig->pool);
    parallel->run(parallel->context, TASKS, task, sample); /* warm */
    const uint64_t begin_us = clock_mono_us();
    uint64_t took_us = 0;
    uint32_t runs = 0;
    for (; took_us < 1000000; runs++) {
        parallel->run(parallel->context, TASKS, task, sample);
        took_us = clock_mono_us() - begin_us;
    }
    return (double)took_us / 1e6 / (each * TASKS) / runs;
}

static double limit_s(const struct rig *rig, const struct verify_ledger_report *report)
{
    struct sample *sample = calloc(1, sizeof *sample);
    CHECK(sample != NULL);
    sample->key = *key_pair_public(rig->signers[0]);
    key_pair_sign(rig->signers[0], bytes_of(sample->message, sizeof sample->message),
                  &sample->signature);
    double seconds = (double)report->signatures * unit_s(rig, check_some, CHECKS, sample) +
                     (double)report->postings * unit_s(rig, hash_postings, HASHES, sample) +
                     (double)rig_size(rig, "settlement/log") *
                         unit_s(rig, hash_chunks, (double)CHECKS * CHUNK, sample);
    free(sample);
    return seconds;
}

void bench_replay(struct rig *rig, struct replay_result *out)
{
    char log[FILE_PATH_SIZE];
    char blobs[FILE_PATH_SIZE];
    char genesis[FILE_PATH_SIZE];
    struct note note = {""};
    struct verify_ledger_report report;
    CHECK(file_path(log, "%s/settlement/log", rig->folder) == ERR_OK);
    CHECK(file_path(blobs, "%s/blobs", rig->folder) == ERR_OK);
    CHECK(file_path(genesis, "%s/genesis.json", rig->folder) == ERR_OK);
    const struct verify_ledger_options options = {
        .log_folder = log, .blob_folder = blobs, .genesis_file = genesis};
    uint64_t begin_us = clock_mono_us();
    enum err err = verify_ledger(&options, &report, &note);
    double seconds = (double)(clock_mono_us() - begin_us) / 1e6;
    if (err != ERR_OK) {
        (void)fprintf(stderr, "bench_ledger: verify: %s\n", note.text);
        abort();
    }
    out->transactions_per_s = (double)report.transactions / seconds;
    out->share = limit_s(rig, &report) / seconds;
}
