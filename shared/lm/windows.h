/* windows.h - cutting tokenised documents into training windows.
 *
 * Documents are laid end to end, each followed by the end-of-text token, and cut into windows of
 * context + 1 tokens that overlap by one (the last token of a window is the first of the next).
 * Each pass over the data (epoch) visits the windows in a Philox permutation of its own, so the
 * examples of step n are a pure function of (seed, n). Pure. */
#pragma once

#include <stdint.h>

#include "shared/lm/train.h"

/* Borrowed token stream: all documents with their separators. */
struct lm_windows {
    const uint32_t *tokens;
    uint64_t token_count;
    uint32_t context; /* inputs in a window */
    uint64_t seed;
    uint32_t *order;      /* owned: permutation of the current epoch */
    uint64_t order_epoch; /* which epoch `order` holds; UINT64_MAX: none yet */
    uint32_t window_count;
};

/* Needs at least context + 1 tokens: else ERR_RANGE. */
MUST_USE enum err lm_windows_init(struct lm_windows *windows, const uint32_t *tokens,
                                  uint64_t token_count, uint32_t context, uint64_t seed);
void lm_windows_deinit(struct lm_windows *windows);

/* Fills out[0..count) with the examples of step `step` when every step takes `count` windows. */
void lm_windows_step(struct lm_windows *windows, uint64_t step, uint32_t count,
                     struct lm_example *out);

/* Window `index` in the stream's own order (held-out loss). index < window_count. */
struct lm_example lm_windows_at(const struct lm_windows *windows, uint32_t index);
