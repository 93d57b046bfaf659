/* main.c - the simulator's command: sim [--from N] [--seeds N] [--first] | --seed N [--trace]. --first ends at the
 * first history that fails. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/log.h"
#include "shared/crypto/keys.h"
#include "shared/platform/file.h"
#include "tests/sim/sim.h"

static uint64_t running;

/* A CHECK that fails says where; which seed it was is said here. */
static void on_abort(int number)
{
    static const char BEFORE[] = "seed ";
    static const char AFTER[] = ": aborted\n";
    char digits[20];
    size_t first = sizeof digits;
    uint64_t left = running;
    do {
        digits[--first] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    (void)!write(STDERR_FILENO, BEFORE, sizeof BEFORE - 1);
    (void)!write(STDERR_FILENO, digits + first, sizeof digits - first);
    (void)!write(STDERR_FILENO, AFTER, sizeof AFTER - 1);
    (void)signal(number, SIG_DFL);
}

int main(int argc, char **argv)
{
    uint64_t from = 1;
    uint64_t count = 200;
    bool trace = false;
    bool first = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--first") == 0) {
            first = true;
        } else if (strcmp(argv[i], "--seed") == 0) {
            from = strtoull(value, NULL, 10);
            count = 1;
            i++;
        } else if (strcmp(argv[i], "--from") == 0) {
            from = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            count = strtoull(value, NULL, 10);
            i++;
        } else {
            (void)fprintf(stderr,
                          "usage: sim [--from N] [--seeds N] [--first] | --seed N [--trace]\n");
            return 2;
        }
    }
    struct sim_report report = {.seeds = 0};
    static struct work work;
    char folder[FILE_PATH_SIZE];
    char blobs[FILE_PATH_SIZE];
    uint64_t failed = 0;
    struct note note = {""};
    crypto_start();
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGABRT, on_abort);
    if (trace) {
        log_start("sim", LOG_LEVEL_INFO, NULL);
    } else {
        log_start("sim", (enum log_level)(LOG_LEVEL_ERROR + 1), NULL); /* faults are what we want */
    }
    bool memory = file_exists("/dev/shm");
    if (file_make_private_folder(memory ? "/dev/shm/openledger-sim-" : "/tmp/openledger-sim-",
                                 folder, &note) != ERR_OK ||
        file_path(blobs, "%s/blobs", folder) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", note.text);
        return 1;
    }
    work_create(&work, blobs);
    for (uint64_t seed = from; seed < from + count && (!first || failed == 0); seed++) {
        running = seed;
        if (!sim_run(&work, folder, seed, trace, &report)) {
            failed++;
            printf("seed %" PRIu64 ": %s; again: %s --seed %" PRIu64 " --trace\n", seed,
                   report.failure, argv[0], seed);
            (void)fflush(stdout);
        }
    }
    work_destroy(&work);
    (void)!file_remove_tree(folder, NULL);
    printf("%" PRIu64 " seeds, %" PRIu64 " failed: %" PRIu64 " events, %" PRIu64
           " final entries, %" PRIu64 " epochs, %" PRIu64 " kills, %" PRIu64 " power cuts, %" PRIu64
           " disks lost, %" PRIu64 " bits flipped, %" PRIu64 " messages lost\n",
           report.seeds, failed, report.events, report.entries, report.epochs, report.kills,
           report.power_cuts, report.wipes, report.flips, report.lost_messages);
    printf("gateways: %" PRIu64 " receipts, %" PRIu64 " after their grant was closed, %" PRIu64
           " parts overdue, %" PRIu64 " openings, %" PRIu64 " lost, %" PRIu64
           " deaths; witnesses: %" PRIu64 " checkpoints final, %" PRIu64 " forks shown, %" PRIu64
           " refusals, %" PRIu64 " deaths\n",
           report.receipts, report.late_receipts, report.overdue, report.openings,
           report.lost_openings, report.gateway_deaths, report.finals, report.forks,
           report.witness_refusals, report.witness_deaths);
    return failed == 0 ? 0 : 1;
}
