/* engine_report.c - samples, turns and rows of bench_engine. See engine_bench.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* A peer's helpers, or OpenBLAS's, spin for a while after their work, on the cores that the next turn needs. */
static void rest(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = BENCH_REST_NS}, NULL);
}

bool bench_turns(const struct bench_side *ours, const struct bench_side *theirs,
                 struct bench_row *row)
{
    struct bench_samples samples[2] = {0};
    struct bench_samples ratios = {0};
    (void)ours->rate(ours->argument);
    for (uint32_t i = 0; i < BENCH_REPEATS; i++) {
        rest();
        const double mine = ours->rate(ours->argument);
        rest();
        const double other = theirs->rate(theirs->argument);
        if (other <= 0.0) {
            return false;
        }
        bench_add(&samples[0], mine);
        bench_add(&samples[1], other);
        bench_add(&ratios, mine / other);
    }
    row->ours = bench_median(&samples[0]);
    row->theirs = bench_median(&samples[1]);
    row->ratio = bench_median(&ratios);
    return true;
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
