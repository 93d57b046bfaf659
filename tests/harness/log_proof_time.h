/* log_proof_time.h - how long a proof in a large log takes: for benchmarks. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/note.h"

struct log_proof_time {
    double make_us, check_us; /* medians over `rounds` random leaves */
    double worst_us;          /* of make and check together */
    double build_s;           /* of the synthetic log */
};

/* Builds a log of size leaves (8 bytes each) in a private folder below `below` ("/dev/shm" keeps fsync out),
 * then makes and checks inclusion proofs of random leaves out of its tile files. Removes the folder. */
MUST_USE enum err log_proof_time(const char *below, uint64_t size, uint32_t rounds,
                                 struct log_proof_time *out, struct note *note);
