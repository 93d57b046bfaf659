/* bench_tlog.c - inclusion proofs in a log of 10 million leaves: build/bench/tlog.json. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/harness/log_proof_time.h"

int main(int argc, char **argv)
{
    enum { ROUNDS = 2000 };
    struct log_proof_time time;
    struct note note = {""};
    uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    if (log_proof_time("/dev/shm", size, ROUNDS, &time, &note) != ERR_OK) {
        (void)fprintf(stderr, "bench_tlog: %s\n", note.text);
        return EXIT_FAILURE;
    }
    char text[256];
    (void)snprintf(text, sizeof text,
                   "{\"leaves\": %llu, \"proof_us\": %.0f, \"make_us\": %.0f, \"check_us\": %.0f, "
                   "\"worst_us\": %.0f, \"build_s\": %.1f}\n",
                   (unsigned long long)size, time.make_us + time.check_us, time.make_us,
                   time.check_us, time.worst_us, time.build_s);
    (void)fputs(text, stdout);
    FILE *file = fopen("build/bench/tlog.json", "w");
    if (file != NULL) {
        (void)fputs(text, file);
        (void)fclose(file);
    }
    return EXIT_SUCCESS;
}
