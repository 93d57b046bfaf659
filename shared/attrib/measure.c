/* measure.c - one answer against an index: influence z-scores and spans; see attrib.h. */
#include "shared/attrib/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MIN 8U         /* fewer scores have no meaningful spread */
#define MAD_TO_SIGMA 1.4826 /* of a normal distribution */
#define LANES 4U

/* Prompt and answer as one example whose answer counts. */
struct joined {
    uint32_t *tokens;
    uint8_t *mask;
    struct lm_example example;
};

static void joined_deinit(struct joined *joined)
{
    free(joined->tokens);
    free(joined->mask);
}

static enum err join(const struct attrib_question *question, const struct lm_config *config,
                     struct joined *out, struct note *note)
{
    uint64_t count = (uint64_t)question->prompt_count + question->answer_count;
    if (question->prompt_count == 0 || question->answer_count == 0) {
        return note_set(note, ERR_RANGE, "prompt has %u tokens and answer %u, both need one",
                        question->prompt_count, question->answer_count);
    }
    if (count > ATTRIB_QUESTION_TOKENS_MAX || count > (uint64_t)config->context + 1) {
        return note_set(note, ERR_RANGE, "prompt and answer have %llu tokens, the limit is %u",
                        (unsigned long long)count, config->context + 1);
    }
    struct joined joined = {
        .tokens = calloc(count, sizeof *joined.tokens),
        .mask = calloc(count, sizeof *joined.mask),
    };
    if (joined.tokens == NULL || joined.mask == NULL) {
        joined_deinit(&joined);
        return ERR_NO_MEMORY;
    }
    memcpy(joined.tokens, question->prompt, question->prompt_count * sizeof *joined.tokens);
    memcpy(joined.tokens + question->prompt_count, question->answer,
           question->answer_count * sizeof *joined.tokens);
    memset(joined.mask + question->prompt_count, 1, question->answer_count);
    for (uint64_t i = 0; i < count; i++) {
        if (joined.tokens[i] >= config->vocab) {
            uint32_t token = joined.tokens[i];
            joined_deinit(&joined);
            return note_set(note, ERR_RANGE, "token %u is outside the vocabulary of %u", token,
                            config->vocab);
        }
    }
    joined.example =
        (struct lm_example){.tokens = joined.tokens, .mask = joined.mask, .count = (uint32_t)count};
    *out = joined;
    return ERR_OK;
}

/* ---- scores ----------------------------------------------------------------------------------- */

struct score_work {
    const struct attrib_index *index;
    const float *query;
    double *scores;
};

/* Cosine of a row with the query: four strided lanes of exact products, then pairwise. */
static void score_row(void *argument, uint32_t row)
{
    const struct score_work *work = argument;
    uint32_t dimensions = work->index->layout.dimensions;
    const uint16_t *vector = work->index->vectors + (size_t)row * dimensions;
    double lanes[LANES] = {0};
    for (uint32_t d = 0; d < dimensions; d++) {
        lanes[d % LANES] += (double)attrib_from_bf16(vector[d]) * (double)work->query[d];
    }
    work->scores[row] = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Middle of sorted values; the mean of the two middles when count is even. */
static double median(const double *sorted, uint32_t count)
{
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0;
}

static bool has_evidence(const struct attrib_index *index, uint32_t row)
{
    bool any = false;
    const uint16_t *vector = index->vectors + (size_t)row * index->layout.dimensions;
    for (uint32_t d = 0; d < index->layout.dimensions && !any; d++) {
        any = (vector[d] & 0x7fffU) != 0;
    }
    return any;
}

/* z = (score - median) / (1.4826 MAD) over the rows that have a gradient. */
static enum err standardise(const struct attrib_index *index, const double *scores, float *out_z)
{
    double *sorted = calloc(index->row_count, sizeof *sorted);
    bool *use = calloc(index->row_count, sizeof *use);
    enum err err = sorted != NULL && use != NULL ? ERR_OK : ERR_NO_MEMORY;
    uint32_t count = 0;
    for (uint32_t row = 0; err == ERR_OK && row < index->row_count; row++) {
        use[row] = has_evidence(index, row);
        if (use[row]) {
            sorted[count++] = scores[row];
        }
    }
    if (err == ERR_OK && count >= ROWS_MIN) {
        qsort(sorted, count, sizeof *sorted, double_compare);
        double centre = median(sorted, count);
        for (uint32_t i = 0; i < count; i++) {
            sorted[i] = fabs(sorted[i] - centre);
        }
        qsort(sorted, count, sizeof *sorted, double_compare);
        double sigma = MAD_TO_SIGMA * median(sorted, count);
        for (uint32_t row = 0; row < index->row_count; row++) {
            bool meaningful = use[row] && sigma > 0.0;
            out_z[row] = meaningful ? (float)((scores[row] - centre) / sigma) : 0.0F;
            if (!isfinite(out_z[row])) {
                err = ERR_INVALID;
            }
        }
    }
    free(sorted);
    free(use);
    return err;
}

static enum err influence(const struct attrib_index *index, const struct lm_model *model,
                          const struct lm_adapter *adapter, const struct lm_example *example,
                          const struct parallel *parallel, float *out_z, struct note *note)
{
    float *query = calloc(index->layout.dimensions, sizeof *query);
    double *scores = calloc(index->row_count, sizeof *scores);
    enum err err = query != NULL && scores != NULL ? ERR_OK : ERR_NO_MEMORY;
    if (err == ERR_OK) {
        err =
            attrib_project(&index->layout, model, adapter, example, 1, parallel, query, NULL, note);
    }
    if (err == ERR_OK) {
        double scratch[ATTRIB_RANK_MAX * ATTRIB_SKETCH_MAX];
        attrib_rotate(index, query, scratch);
        err = attrib_whiten(index, query);
    }
    if (err == ERR_OK) {
        struct score_work work = {.index = index, .query = query, .scores = scores};
        parallel->run(parallel->context, index->row_count, score_row, &work);
        err = standardise(index, scores, out_z);
    }
    free(query);
    free(scores);
    return err;
}

enum err attrib_measure_create(const struct attrib_index *index, const struct lm_model *model,
                               const struct lm_adapter *adapter,
                               const struct attrib_question *question,
                               const struct parallel *parallel, struct attrib_measure **out,
                               struct note *note)
{
    struct digest digest;
    lm_model_digest(model, &digest);
    if (!digest_equal(&digest, &index->model)) {
        return note_set(note, ERR_INVALID, "index was built for another base model");
    }
    lm_adapter_digest(adapter, &digest);
    if (!digest_equal(&digest, &index->adapter)) {
        return note_set(note, ERR_INVALID, "index was built for another adapter");
    }
    struct joined joined = {0};
    enum err err = join(question, lm_model_config(model), &joined, note);
    if (err != ERR_OK) {
        return err;
    }
    struct attrib_measure *measure = calloc(1, sizeof *measure);
    err = measure != NULL ? ERR_OK : ERR_NO_MEMORY;
    if (err == ERR_OK) {
        measure->answer_count = question->answer_count;
        measure->influence = calloc(index->row_count, sizeof *measure->influence);
        err = measure->influence != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        err = influence(index, model, adapter, &joined.example, parallel, measure->influence, note);
    }
    if (err == ERR_OK) {
        err = spans_find(index->spans, question->prompt, question->prompt_count, question->answer,
                         question->answer_count, &measure->spans);
    }
    joined_deinit(&joined);
    if (err != ERR_OK) {
        attrib_measure_destroy(measure);
        return err;
    }
    *out = measure;
    return ERR_OK;
}

void attrib_measure_destroy(struct attrib_measure *measure)
{
    if (measure != NULL) {
        free(measure->influence);
        spans_list_deinit(&measure->spans);
        free(measure);
    }
}

const float *attrib_measure_influence(const struct attrib_measure *measure)
{
    return measure->influence;
}
