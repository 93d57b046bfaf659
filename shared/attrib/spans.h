/* spans.h - the longest runs of an answer's tokens that stand word for word in training rows.
 *
 * A suffix array (libdivsufsort; this is its only door) over the counted tokens of all rows, three
 * big-endian bytes a token with a separator between runs, so that no match crosses one. Pure and
 * exact: integers only. An array is immutable once made. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/lm/train.h"

#define SPANS_TOKENS_MAX (64U << 20) /* tokens and separators in one array */
#define SPANS_LENGTH_MIN 6U          /* tokens; shorter runs are anybody's language */

struct spans;

/* One occurrence of a span in a row. */
struct spans_place {
    uint32_t row;
    uint32_t at; /* token of the row where it starts */
};

/* A credited run of the answer: answer[start .. start + length). */
struct spans_match {
    uint32_t start;
    uint32_t length;
    struct spans_place
        *places; /* distinct rows, ascending; the first place in each; owned by list */
    uint32_t place_count;
};

struct spans_list {
    struct spans_match *items; /* ascending by start, not overlapping; owned */
    uint32_t count;
};

/* examples[0..count): the rows. ERR_LIMIT: more than SPANS_TOKENS_MAX tokens. ERR_NO_MEMORY. */
MUST_USE enum err spans_create(const struct lm_example *examples, uint32_t count,
                               struct spans **out);
void spans_destroy(struct spans *spans); /* accepts NULL */

/* The cover: of all runs of the answer that occur in a row and are at least SPANS_LENGTH_MIN tokens,
 * the longest is taken first (ties: leftmost), then the longest of what is left beside it, and so
 * on. A run that the prompt contains too, starting at the same answer token and at least as long,
 * does not count: the answer may have copied it from there. */
MUST_USE enum err spans_find(const struct spans *spans, const uint32_t *prompt,
                             uint32_t prompt_count, const uint32_t *answer, uint32_t answer_count,
                             struct spans_list *out);
void spans_list_deinit(struct spans_list *list); /* a zeroed one is fine */
