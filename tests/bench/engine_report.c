/* engine_report.c - samples, rows and peers of bench_engine. See engine_bench.h. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "tests/bench/engine_bench.h"

void bench_add(struct bench_samples *samples, double value)
{
    CHECK(samples->count < BENCH_SAMPLES_MAX);
    samples->values[samples->count++] = value;
}

static int compare(const void *left, const void *right)
{
    const double x = *(const double *)left;
    const double y = *(const double *)right;
    return (x > y) - (x < y);
}

double bench_median(const struct bench_samples *samples)
{
    struct bench_samples sorted = *samples;
    qsort(sorted.values, sorted.count, sizeof sorted.values[0], compare);
    return sorted.count == 0 ? 0.0 : sorted.values[sorted.count / 2];
}

double bench_now_s(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

double bench_time_s(uint32_t repeats, void (*call)(void *argument), void *argument)
{
    struct bench_samples times = {0};
    call(argument);
    for (uint32_t i = 0; i < repeats; i++) {
        const double start = bench_now_s();
        call(argument);
        bench_add(&times, bench_now_s() - start);
    }
    return bench_median(&times);
}

void bench_report(struct bench *bench, const struct bench_row *row)
{
    CHECK(bench->row_count < BENCH_ROWS_MAX);
    bench->rows[bench->row_count++] = *row;
    (void)printf("  %-24s %-34s %u thread%s %10.2f %-9s", row->key == NULL ? "" : row->key,
                 row->name, row->threads, row->threads == 1 ? " " : "s", row->ours, row->unit);
    if (row->peer != NULL) {
        (void)printf(" %10.2f %-20s x%.3f", row->theirs, row->peer, row->ratio);
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

static void line_take(const char *line, struct bench_series *series, uint32_t count)
{
    const char *space = strchr(line, ' ');
    if (space == NULL) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strlen(series[i].name) == (size_t)(space - line) &&
            strncmp(series[i].name, line, (size_t)(space - line)) == 0) {
            char *end = NULL;
            const double value = strtod(space, &end);
            if (end != space) {
                bench_add(&series[i].samples, value);
            } else {
                const size_t length = strcspn(space + 1, "\n");
                (void)snprintf(series[i].word, sizeof series[i].word, "%.*s", (int)length,
                               space + 1);
            }
        }
    }
}

bool bench_peer(char *const argv[], uint32_t threads, struct bench_series *series, uint32_t count)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%u", threads);
    (void)setenv("OPENBLAS_NUM_THREADS", number, 1);
    (void)setenv("OMP_NUM_THREADS", number, 1);
    /* Whoever set these did not ask for the fastest kernel. */
    (void)unsetenv("OPENBLAS_CORETYPE");
    (void)unsetenv("OPENBLAS_L2_SIZE");
    /* What PyTorch is fastest with: its threads else spin against OpenBLAS's for two cores. */
    (void)setenv("OMP_WAIT_POLICY", "passive", 1);
    (void)setenv("ATEN_CPU_CAPABILITY", "avx512", 1);
    int ends[2];
    if (pipe(ends) != 0) {
        return false;
    }
    posix_spawn_file_actions_t actions;
    pid_t child = 0;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_addclose(&actions, ends[0]);
    bool ok = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ) == 0;
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    FILE *lines = fdopen(ends[0], "r");
    char line[256];
    while (ok && lines != NULL && fgets(line, sizeof line, lines) != NULL) {
        if (strncmp(line, "void ", 5) == 0) {
            (void)fprintf(stderr, "  %s: %s", argv[1], line);
            ok = false;
        } else {
            line_take(line, series, count);
        }
    }
    if (lines != NULL) {
        (void)fclose(lines);
    }
    int status = -1;
    if (child > 0 && (waitpid(child, &status, 0) != child || status != 0)) {
        ok = false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t least = series[i].least > 0 ? series[i].least : BENCH_REPEATS;
        ok = ok && (series[i].samples.count >= least || series[i].word[0] != '\0');
    }
    if (!ok) {
        (void)fprintf(stderr, "  %s could not run: make bench-deps installs the peers\n", argv[1]);
    }
    return ok;
}
