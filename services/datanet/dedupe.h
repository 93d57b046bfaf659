/* dedupe.h - finds rows that say what an earlier row said: word for word, or nearly.
 *
 * Why: whoever contributed a text first keeps the credit for it. Two rows are an exact duplicate when
 * their words are equal (case, white space and punctuation aside), a near duplicate when the Jaccard
 * similarity of their 5-word shingles is at least DEDUPE_NEAR_BP. Candidates come from MinHash
 * signatures cut into bands (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets",
 * chapter 3); the similarity itself is then computed exactly on the shingle sets.
 *
 * Priority, not arrival, decides: a row is a duplicate only of rows with a smaller priority (the log
 * index of the commitment), so the order of uploads does not matter.
 *
 * Pure: memory only. Not thread-safe: one owner. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

#define DEDUPE_NEAR_BP 8000        /* near duplicate from this similarity, in 1/10,000 */
#define DEDUPE_ROWS_MAX 4000000U   /* rows in one index */
#define DEDUPE_SHINGLES_MAX 16384U /* shingles of one row; a 64 KiB row has fewer words */

/* Which row: contribution is the caller's own number for it. */
struct dedupe_row {
    uint64_t priority;
    uint32_t contribution;
    uint32_t row;
};

enum dedupe_verdict { DEDUPE_UNIQUE, DEDUPE_EXACT, DEDUPE_NEAR };

struct dedupe_result {
    enum dedupe_verdict verdict;
    struct dedupe_row of;   /* the row that came first; zero when unique */
    uint32_t similarity_bp; /* 10,000 for an exact duplicate */
};

/* Says which rows count as earlier ones, so that one index serves "uploaded" and "accepted". */
struct dedupe_filter {
    bool (*counts)(void *context, uint32_t contribution);
    void *context;
};

struct dedupe;

/* Returns NULL when memory is short. */
struct dedupe *dedupe_create(void);
void dedupe_destroy(struct dedupe *dedupe);

/* Adds a row's text (UTF-8; ASCII letters are folded, other bytes count as they are).
 * Errors: ERR_LIMIT (DEDUPE_ROWS_MAX), ERR_NO_MEMORY; then nothing was added. */
MUST_USE enum err dedupe_add(struct dedupe *dedupe, struct dedupe_row row, struct bytes text);

/* Compares text with the rows that the filter counts and that come before row: smaller priority, or
 * equal priority and smaller row. Among several the earliest is named; exact goes before near. */
MUST_USE enum err dedupe_find(const struct dedupe *dedupe, struct dedupe_row row, struct bytes text,
                              struct dedupe_filter filter, struct dedupe_result *out_result);
