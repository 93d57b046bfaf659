/* sample.c - see sample.h. */
#include "shared/lm/sample.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/base/check.h"
#include "shared/lm/philox.h"

#define UNIT 0x1p40 /* integer probabilities count these */

struct lm_sampler {
    const struct kernels *kernels;
    uint32_t vocab;
    uint32_t *keys, *ids;         /* sorted: best first */
    uint32_t *keys_far, *ids_far; /* the other side of a sorting pass */
    float *weights;
    uint64_t *units;
};

enum err lm_sampler_create(const struct kernels *kernels, uint32_t vocab, struct lm_sampler **out)
{
    CHECK(vocab >= 1);
    if (kernels == NULL) {
        kernels = kernels_get(NULL, NULL);
        if (kernels == NULL) {
            return ERR_UNAVAILABLE;
        }
    }
    struct lm_sampler *sampler = calloc(1, sizeof *sampler);
    if (sampler == NULL) {
        return ERR_NO_MEMORY;
    }
    *sampler = (struct lm_sampler){.kernels = kernels, .vocab = vocab};
    sampler->keys = calloc(vocab, sizeof *sampler->keys);
    sampler->ids = calloc(vocab, sizeof *sampler->ids);
    sampler->keys_far = calloc(vocab, sizeof *sampler->keys_far);
    sampler->ids_far = calloc(vocab, sizeof *sampler->ids_far);
    sampler->weights = calloc(vocab, sizeof *sampler->weights);
    sampler->units = calloc(vocab, sizeof *sampler->units);
    if (sampler->keys == NULL || sampler->ids == NULL || sampler->keys_far == NULL ||
        sampler->ids_far == NULL || sampler->weights == NULL || sampler->units == NULL) {
        lm_sampler_destroy(sampler);
        return ERR_NO_MEMORY;
    }
    *out = sampler;
    return ERR_OK;
}

void lm_sampler_destroy(struct lm_sampler *sampler)
{
    if (sampler != NULL) {
        free(sampler->keys);
        free(sampler->ids);
        free(sampler->keys_far);
        free(sampler->ids_far);
        free(sampler->weights);
        free(sampler->units);
        free(sampler);
    }
}

enum err lm_sampling_check(const struct lm_sampling *sampling)
{
    bool ok = sampling->temperature >= 0.0F && sampling->temperature <= LM_TEMPERATURE_MAX &&
              sampling->top_p > 0.0F && sampling->top_p <= 1.0F;
    return ok ? ERR_OK : ERR_RANGE;
}

/* Ascending keys are descending logits; both zeros are one number. */
static uint32_t key_of(float logit)
{
    float value = logit + 0.0F;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t ascending = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
    return ~ascending;
}

/* Radix sort, a byte at a time: stable, so equal logits stay in order of id. */
static void sort(struct lm_sampler *sampler, const float *logits)
{
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        sampler->keys[i] = key_of(logits[i]);
        sampler->ids[i] = i;
    }
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        uint32_t place[256] = {0};
        for (uint32_t i = 0; i < sampler->vocab; i++) {
            place[sampler->keys[i] >> shift & 255U]++;
        }
        uint32_t next = 0;
        for (uint32_t digit = 0; digit < 256; digit++) {
            uint32_t count = place[digit];
            place[digit] = next;
            next += count;
        }
        for (uint32_t i = 0; i < sampler->vocab; i++) {
            uint32_t to = place[sampler->keys[i] >> shift & 255U]++;
            sampler->keys_far[to] = sampler->keys[i];
            sampler->ids_far[to] = sampler->ids[i];
        }
        uint32_t *keys = sampler->keys;
        uint32_t *ids = sampler->ids;
        sampler->keys = sampler->keys_far;
        sampler->ids = sampler->ids_far;
        sampler->keys_far = keys;
        sampler->ids_far = ids;
    }
}

static uint32_t greedy(const struct lm_sampler *sampler, const float *logits)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < sampler->vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* Integer probabilities of the `count` best; returns how many of them the nucleus keeps and their
 * sum. */
static uint32_t nucleus(struct lm_sampler *sampler, const struct lm_sampling *sampling,
                        const float *logits, uint32_t count, uint64_t *out_sum)
{
    float best = logits[sampler->ids[0]];
    for (uint32_t i = 0; i < count; i++) {
        sampler->weights[i] = (logits[sampler->ids[i]] - best) / sampling->temperature;
    }
    kernels_exp(sampler->kernels, &parallel_serial, count, sampler->weights, sampler->weights);
    float inverse = 1.0F / kernels_sum(sampler->kernels, count, sampler->weights);
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        float probability = sampler->weights[i] * inverse;
        sampler->units[i] = (uint64_t)((double)probability * UNIT);
        total += sampler->units[i];
    }
    uint64_t enough = (uint64_t)((double)sampling->top_p * (double)total);
    uint64_t sum = 0;
    uint32_t kept = 0;
    do {
        sum += sampler->units[kept++];
    } while (kept < count && sum < enough);
    *out_sum = sum;
    return kept;
}

static uint32_t draw(struct lm_sampler *sampler, const struct lm_sampling *sampling,
                     const float *logits, uint64_t index)
{
    sort(sampler, logits);
    uint32_t count =
        sampling->top_k == 0 || sampling->top_k > sampler->vocab ? sampler->vocab : sampling->top_k;
    uint64_t sum = 0;
    uint32_t kept = nucleus(sampler, sampling, logits, count, &sum);
    /* The best token has at least 1 / vocab, so sum is not zero. */
    uint64_t point = philox_below(sampling->seed, PHILOX_SAMPLE, index, sum);
    uint32_t chosen = 0;
    while (chosen + 1 < kept && point >= sampler->units[chosen]) {
        point -= sampler->units[chosen++];
    }
    return sampler->ids[chosen];
}

static float logprob_of(const struct lm_sampler *sampler, const float *logits, uint32_t token)
{
    float loss = 0.0F;
    int32_t target = (int32_t)token;
    struct kernels_cross_entropy entropy = {.rows = 1,
                                            .vocab = sampler->vocab,
                                            .logits = logits,
                                            .stride = sampler->vocab,
                                            .targets = &target,
                                            .out_loss = &loss};
    kernels_cross_entropy(sampler->kernels, &parallel_serial, &entropy);
    return -loss;
}

enum err lm_logprob(struct lm_sampler *sampler, const float *logits, uint32_t token, float *out)
{
    CHECK(token < sampler->vocab);
    if (!kernels_all_finite(sampler->kernels, sampler->vocab, logits)) {
        return ERR_INVALID;
    }
    *out = logprob_of(sampler, logits, token);
    return ERR_OK;
}

enum err lm_sample(struct lm_sampler *sampler, const struct lm_sampling *sampling,
                   const float *logits, uint64_t index, uint32_t *out_token, float *out_logprob)
{
    CHECK(lm_sampling_check(sampling) == ERR_OK);
    if (!kernels_all_finite(sampler->kernels, sampler->vocab, logits)) {
        return ERR_INVALID;
    }
    uint32_t token = sampling->temperature > 0.0F ? draw(sampler, sampling, logits, index)
                                                  : greedy(sampler, logits);
    if (out_logprob != NULL) {
        *out_logprob = logprob_of(sampler, logits, token);
    }
    *out_token = token;
    return ERR_OK;
}

enum err lm_top(struct lm_sampler *sampler, const float *logits, uint32_t count,
                uint32_t *out_tokens, float *out_logprobs)
{
    CHECK(count <= sampler->vocab);
    if (!kernels_all_finite(sampler->kernels, sampler->vocab, logits)) {
        return ERR_INVALID;
    }
    sort(sampler, logits);
    for (uint32_t i = 0; i < count; i++) {
        out_tokens[i] = sampler->ids[i];
        out_logprobs[i] = logprob_of(sampler, logits, sampler->ids[i]);
    }
    return ERR_OK;
}
