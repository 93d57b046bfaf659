/* main.c - the elementary functions and the 16-bit formats over all 2^32 float32 numbers, on as many
 * processes as are asked for. Some CPU minutes; `make exhaustive` runs it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/float_sweep.h"

#define BLOCK_BITS 24 /* numbers in a block; process i of n takes blocks i, i + n, ... */
#define BLOCKS (1U << (32 - BLOCK_BITS))
#define PROCESSES_MAX 64

static int run_part(uint32_t part, uint32_t parts)
{
    struct float_sweep sweep = {.failure = ""};
    float_sweep_widening(&sweep);
    for (uint32_t block = part; block < BLOCKS && sweep.failure[0] == '\0'; block += parts) {
        const uint64_t first = (uint64_t)block << BLOCK_BITS;
        float_sweep_run(first, first + (UINT64_C(1) << BLOCK_BITS), 1, &sweep);
        (void)fprintf(stderr, "process %" PRIu32 ": block %" PRIu32 " of %u\n", part, block,
                      BLOCKS);
    }
    (void)printf("process %" PRIu32 " of %" PRIu32 ": %s\n", part, parts,
                 sweep.failure[0] == '\0' ? "all within bounds" : sweep.failure);
    float_sweep_print(&sweep);
    return sweep.failure[0] == '\0' ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    const unsigned long parts = argc > 1 ? strtoul(argv[1], NULL, 10) : 2;
    int result = EXIT_SUCCESS;
    if (argc > 2 || parts < 1 || parts > PROCESSES_MAX) {
        (void)fprintf(stderr, "usage: %s [processes, 1 to %d]\n", argv[0], PROCESSES_MAX);
        return EXIT_FAILURE;
    }
    for (uint32_t part = 0; part < parts; part++) {
        const pid_t child = fork();
        if (child == 0) {
            exit(run_part(part, (uint32_t)parts));
        }
        if (child < 0) {
            perror("fork");
            result = EXIT_FAILURE;
        }
    }
    for (int status; wait(&status) > 0;) {
        if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS) {
            result = EXIT_FAILURE;
        }
    }
    return result;
}
