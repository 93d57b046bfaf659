/* philox.h - Philox4x32-10: random numbers as a pure function of (seed, purpose, index).
 *
 * Why: a stream would make a result depend on how many numbers were drawn before it; a counter does
 * not, so a run can be resumed, split and checked anywhere.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Pure. */
#pragma once

#include <stdint.h>

/* What the numbers are for: part of the key, so that two uses never share numbers. Values are part
 * of published results: never renumber. */
enum philox_purpose {
    PHILOX_WEIGHTS = 1, /* initial weights of a base model */
    PHILOX_ADAPTER = 2, /* initial A of an adapter */
    PHILOX_SHUFFLE = 3, /* order of training windows */
    PHILOX_SAMPLE = 4,  /* sampling a token */
    PHILOX_PROJECT = 5, /* random projections of gradients */
    PHILOX_PERMUTE = 6, /* shuffled controls */
    PHILOX_BATCH = 7,   /* order of training examples */
    PHILOX_DEMO = 100   /* anything a demo or a test draws */
};

struct philox_block {
    uint32_t word[4];
};

/* The raw generator: ten rounds on a 128-bit counter under a 64-bit key. */
struct philox_block philox_rounds(struct philox_block counter, uint32_t key0, uint32_t key1);

/* Block `index` of the numbers that belong to (seed, purpose): key = seed, counter = (index low,
 * index high, purpose, 0). */
struct philox_block philox_at(uint64_t seed, enum philox_purpose purpose, uint64_t index);

/* 64 random bits: words 0 (low) and 1 (high) of the block. */
uint64_t philox_u64(uint64_t seed, enum philox_purpose purpose, uint64_t index);

/* Uniform in [-1, 1), a multiple of 2^-23: number `index`, four to a block. */
float philox_signed(uint64_t seed, enum philox_purpose purpose, uint64_t index);

/* Uniform in [0, bound), bound >= 1: the high word of a 64 x 64 bit product. */
uint64_t philox_below(uint64_t seed, enum philox_purpose purpose, uint64_t index, uint64_t bound);

/* out[0..count) becomes a permutation of 0..count-1 (Fisher-Yates, number i of the key). */
void philox_permutation(uint64_t seed, enum philox_purpose purpose, uint32_t count, uint32_t *out);
