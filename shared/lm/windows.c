/* windows.c - see windows.h. */
#include "shared/lm/windows.h"

#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/lm/philox.h"

enum err lm_windows_init(struct lm_windows *windows, const uint32_t *tokens, uint64_t token_count,
                         uint32_t context, uint64_t seed)
{
    CHECK(context >= 1);
    if (token_count < (uint64_t)context + 1) {
        return ERR_RANGE;
    }
    uint64_t count = (token_count - 1) / context;
    if (count > UINT32_MAX) {
        return ERR_LIMIT;
    }
    uint32_t *order = malloc(count * sizeof *order);
    if (order == NULL) {
        return ERR_NO_MEMORY;
    }
    *windows = (struct lm_windows){.tokens = tokens,
                                   .token_count = token_count,
                                   .context = context,
                                   .seed = seed,
                                   .order = order,
                                   .order_epoch = UINT64_MAX,
                                   .window_count = (uint32_t)count};
    return ERR_OK;
}

void lm_windows_deinit(struct lm_windows *windows)
{
    free(windows->order);
    *windows = (struct lm_windows){0};
}

struct lm_example lm_windows_at(const struct lm_windows *windows, uint32_t index)
{
    CHECK(index < windows->window_count);
    return (struct lm_example){.tokens = windows->tokens + (uint64_t)index * windows->context,
                               .count = windows->context + 1};
}

void lm_windows_step(struct lm_windows *windows, uint64_t step, uint32_t count,
                     struct lm_example *out)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t place = step * count + i;
        uint64_t epoch = place / windows->window_count;
        if (epoch != windows->order_epoch) {
            /* The epoch joins the seed; golden-ratio steps keep neighbouring seeds apart. */
            philox_permutation(windows->seed + epoch * UINT64_C(0x9E3779B97F4A7C15), PHILOX_SHUFFLE,
                               windows->window_count, windows->order);
            windows->order_epoch = epoch;
        }
        out[i] = lm_windows_at(windows, windows->order[place % windows->window_count]);
    }
}
