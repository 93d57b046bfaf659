/* log_proof_time.c - see log_proof_time.h. */
#include "tests/harness/log_proof_time.h"

#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/tlog/store.h"
#include "tests/harness/seed.h"

static int by_value(const void *a, const void *b)
{
    const double *left = a;
    const double *right = b;
    return (*left > *right) - (*left < *right);
}

static enum err build(struct tlog_store *store, uint64_t size, struct note *note)
{
    enum err err = ERR_OK;
    for (uint64_t i = 0; i < size && err == ERR_OK; i++) {
        err = tlog_store_append(store, bytes_of(&i, sizeof i), note);
    }
    return err ? err : tlog_store_publish(store, note);
}

static enum err measure(const struct tlog_store *store, uint32_t rounds, struct log_proof_time *out,
                        struct note *note)
{
    struct merkle_head head = {.leaf_count = tlog_store_size(store)};
    struct tlog_reader files = tlog_files_reader(tlog_store_folder(store));
    double *make = calloc(rounds, sizeof *make);
    double *check = calloc(rounds, sizeof *check);
    CHECK(make != NULL && check != NULL);
    enum err err = tlog_root(&files, head.leaf_count, &head.root, note);
    for (uint32_t i = 0; i < rounds && err == ERR_OK; i++) {
        struct merkle_proof proof;
        uint64_t leaf = test_rand() % head.leaf_count;
        uint64_t begin = clock_mono_us();
        err = tlog_prove(&files, head.leaf_count, leaf, &proof, note);
        uint64_t made = clock_mono_us();
        if (err == ERR_OK && !merkle_verify(&head, &proof, &leaf, sizeof leaf)) {
            err = note_set(note, ERR_CORRUPT, "leaf %llu: the proof does not verify",
                           (unsigned long long)leaf);
        }
        make[i] = (double)(made - begin);
        check[i] = (double)(clock_mono_us() - made);
        double both = make[i] + check[i];
        out->worst_us = both > out->worst_us ? both : out->worst_us;
    }
    qsort(make, rounds, sizeof *make, by_value);
    qsort(check, rounds, sizeof *check, by_value);
    out->make_us = make[rounds / 2];
    out->check_us = check[rounds / 2];
    free(make);
    free(check);
    return err;
}

enum err log_proof_time(const char *below, uint64_t size, uint32_t rounds,
                        struct log_proof_time *out, struct note *note)
{
    char prefix[FILE_PATH_SIZE];
    char folder[FILE_PATH_SIZE];
    struct tlog_store *store = NULL;
    CHECK(size > 0 && rounds > 0);
    *out = (struct log_proof_time){0};
    enum err err = file_path(prefix, "%s/openledger-log-", below);
    err = err ? err : file_make_private_folder(prefix, folder, note);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t begin_ms = clock_mono_ms();
    err = tlog_store_open(folder, &store, note);
    err = err ? err : build(store, size, note);
    out->build_s = (double)(clock_mono_ms() - begin_ms) / 1000;
    err = err ? err : measure(store, rounds, out, note);
    tlog_store_close(store);
    enum err removed = file_remove_tree(folder, note);
    return err ? err : removed;
}
