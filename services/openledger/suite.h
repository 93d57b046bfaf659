/* suite.h - the whole suite on one machine: nats-server, redis-server and the six services, supervised.
 *
 * A suite lives in one folder: keys, genesis, journal, blobs, logs, the servers' data. `openledger up`
 * runs it in the foreground; a program that ends is started again after a short pause. */
#pragma once

#include <stdint.h>

#include "services/openledger/cli.h"

#define SUITE_WITNESSES_MAX 3
#define SUITE_PROGRAMS 17 /* servers, six services, further settlement replicas, witnesses */
#define SUITE_REPLICAS_MAX 7

/* A key that a genesis file made here gives money to; the key is made when missing. */
struct suite_allocation {
    const char *name, *category, *amount;
    uint64_t cliff_ms, vest_ms;
};
#define SUITE_YEAR_MS (UINT64_C(365) * 86400000)
/* What every genesis made here has in common, as the paper says: investors 18.29 %, team 15 %, both after
 * 12 months linearly over 36; liquidity 5 %; community over 48 months. With the ecosystem's 10 %, which
 * follows, community and ecosystem are 61.71 %. */
#define SUITE_ALLOCATIONS_COMMON                                                                   \
    {"community", "community", "517100000", 0, 4 * SUITE_YEAR_MS},                                 \
        {"investors", "investors", "182900000", SUITE_YEAR_MS, 3 * SUITE_YEAR_MS},                 \
        {"team", "team", "150000000", SUITE_YEAR_MS, 3 * SUITE_YEAR_MS},                           \
    {                                                                                              \
        "platform", "liquidity", "50000000", 0, 0                                                  \
    }

/* A value of the parameter table (shared/ledger/params.h). */
struct suite_parameter {
    const char *name, *value;
};

struct suite_options {
    const char *folder;  /* made when missing */
    const char *http;    /* front door, "127.0.0.1:8080" */
    const char *genesis; /* file; NULL: <folder>/genesis.json, made when missing */
    const struct suite_allocation *allocations; /* of a genesis made here; sum 1000000000 */
    size_t allocation_count;
    const struct suite_parameter *parameters; /* of a genesis made here, instead of the defaults */
    size_t parameter_count;
    uint32_t settlement_replicas; /* 0: one */
    uint32_t
        witnesses; /* cosign checkpoints; more than half of them make one final, when genesis is made here */
};

/* What a running suite says of itself, in <folder>/suite.json. */
struct suite_info {
    char url[64];
    char nats[64];
    char redis[64];
    char folder[FILE_PATH_SIZE];
    int pid; /* of `openledger up` */
    struct {
        char name[32];
        int pid;
        uint32_t starts;
    } programs[SUITE_PROGRAMS];
    size_t program_count;
};

/* Makes folders, keys and, unless one is given or there, the genesis file. */
MUST_USE enum err suite_prepare(const struct suite_options *options, struct note *note);

/* Runs until SIGTERM or SIGINT; returns the exit code. Says "up: URL" on standard output when ready. */
int suite_run(const struct suite_options *options);

/* ERR_NOT_FOUND: nothing runs there. */
MUST_USE enum err suite_read(const char *folder, struct suite_info *out_info, struct note *note);

/* What a development suite gives its operators; "treasury" has the rest of the ecosystem's part. */
extern const struct suite_allocation SUITE_ALLOCATIONS[];
extern const size_t SUITE_ALLOCATION_COUNT;
