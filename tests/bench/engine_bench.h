/* engine_bench.h - what the parts of bench_engine share: samples, rows of the report, peers.
 *
 * Every comparison is made in one run on one machine, for one thread and for two: our sample and the other's take
 * turns, and the figure is the median of the turns' ratios, as what the machine is worth changes over seconds. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "shared/base/parallel.h"
#include "shared/lm/config.h"

struct buf;
struct lm_model;

#define BENCH_SAMPLES_MAX 32
#define BENCH_REPEATS 5 /* medians of this many; cheap measurements take more */
#define BENCH_ROWS_MAX 128
#define BENCH_THREADS_MAX 2U
#define BENCH_WORD_SIZE 32

struct bench_samples {
    double values[BENCH_SAMPLES_MAX];
    uint32_t count;
};
void bench_add(struct bench_samples *samples, double value); /* past the maximum: CHECK */
double bench_median(const struct bench_samples *samples);    /* 0 when empty */
double bench_now_s(void);

/* Median seconds of one call, after one that only warms up. */
double bench_time_s(uint32_t repeats, void (*call)(void *argument), void *argument);

/* One line of the report. ratio is the figure that the bar judges. */
struct bench_row {
    const char *key;  /* a name of the table of bars, or NULL: for orientation only */
    const char *name; /* what was measured */
    const char *peer; /* whom against */
    const char *unit; /* of ours and theirs */
    uint32_t threads;
    double ours, theirs, ratio;
    char kernel[BENCH_WORD_SIZE]; /* the peer's BLAS kernel; empty: it has none */
};

struct bench {
    const char *openblas; /* the kernels it chose, as it names them */
    const struct kernels *kernels;
    const struct parallel *parallel[BENCH_THREADS_MAX + 1]; /* [threads] */
    const char *folder;                                     /* scratch files, "build/bench" */
    struct bench_row rows[BENCH_ROWS_MAX];
    uint32_t row_count;
    float *read; /* what read ceilings are measured on, by engine_limits.c; NULL: they are not */
    uint32_t missing; /* peers that could not run */
};
void bench_report(struct bench *bench, const struct bench_row *row);

/* GB/s at which so many threads read memory, now; a side's rate. Only where bench->read is there. */
struct bench_reader {
    const struct bench *bench;
    uint32_t threads;
};
double bench_read_gb_s(void *argument); /* a struct bench_reader */

/* Takes BENCH_REPEATS turns, each side's rate after the other's, ours once more before to warm up; fills ours, theirs
 * and ratio. False: they could not. */
struct bench_side {
    double (*rate)(void *argument); /* 0: it could not */
    void *argument;
};
#define BENCH_REST_NS 200000000L /* before each */
bool bench_turns(const struct bench_side *ours, const struct bench_side *theirs,
                 struct bench_row *row);

/* A peer runs without our environment's settings for OpenBLAS, measures once for each line that it is sent, and answers
 * with a line "NAME RATE" that begins with the same word; it warms up by itself. "kernel NAME" may come at any time,
 * "void WHY" when it cannot. argv ends with NULL. */
struct bench_peer;
struct bench_peer *bench_peer_start(char *const argv[], uint32_t threads);
struct bench_question {
    struct bench_peer *peer;
    const char *name;
};
double bench_peer_rate(void *argument); /* a side's rate, of a struct bench_question */
const char *bench_peer_kernel(const struct bench_peer *peer); /* empty: it said none */
bool bench_peer_stop(
    struct bench_peer *peer); /* false, with a message on stderr: something failed */

/* Runs a program that is asked nothing, and takes the last "NAME NUMBER" of each. False: as above, or one is missing. */
struct bench_number {
    const char *name;
    double value;
    bool found;
};
bool bench_peer_numbers(char *const argv[], struct bench_number *numbers, uint32_t count);

/* The shapes compared everywhere: "3m", "12m", "135m". */
struct lm_config bench_shape(const char *name);

/* Random weights, exact in bf16 and f16, so that every precision and peer computes with the same
 * numbers: safetensors bytes (bf16), and GGUF files as llama.cpp reads them. */
enum bench_gguf { BENCH_GGUF_F16 = 1, BENCH_GGUF_Q8_0 = 8 };
struct lm_load;
struct lm_model *bench_model(const struct lm_config *config, const struct lm_load *how);
float *bench_weights(const struct lm_config *config); /* [lm_config_weights], freed by the caller */
bool bench_safetensors(const struct lm_config *config, const float *weights, struct buf *out);
bool bench_gguf_write(const struct lm_config *config, const float *weights, enum bench_gguf type,
                      const char *path);

/* The parts. */
void bench_limits(struct bench *bench);
void bench_products(struct bench *bench);
void bench_serving(struct bench *bench);
void bench_adapters(struct bench *bench);
void bench_training(struct bench *bench);
void bench_memory(struct bench *bench);
void bench_tokenize(struct bench *bench);
/* One case of bench_memory, in a process of its own: its exit code. */
int bench_memory_child(const char *path, const char *name);
