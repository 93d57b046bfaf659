/* rows.c - examples laid out as the rows of one pass. See trainer.h. */
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/trainer.h"

enum err lm_examples_check(const struct lm_config *config, const struct lm_example *examples,
                           uint32_t count, struct note *note)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct lm_example *example = &examples[i];
        if (example->count < 2 || example->count > config->context + 1) {
            return note_set(note, ERR_RANGE, "example %u has %u tokens, allowed are 2 to %u", i,
                            example->count, config->context + 1);
        }
        for (uint32_t t = 0; t < example->count; t++) {
            if (example->tokens[t] >= config->vocab) {
                return note_set(note, ERR_RANGE, "example %u: token %u is not below %u", i,
                                example->tokens[t], config->vocab);
            }
        }
    }
    return ERR_OK;
}

uint32_t lm_rows_fit(const struct lm_example *examples, uint32_t count, uint32_t row_max)
{
    uint64_t rows = 0;
    uint32_t taken = 0;
    while (taken < count && (taken == 0 || rows + examples[taken].count - 1 <= row_max)) {
        rows += examples[taken].count - 1;
        taken++;
    }
    return taken;
}

void lm_rows_deinit(struct lm_rows *rows)
{
    lm_acts_deinit(&rows->acts);
    free(rows->losses);
    free(rows->tokens);
    free(rows->positions);
    free(rows->target_rows);
    free(rows->target_ids);
    free(rows->spans);
    free(rows->sequences);
    *rows = (struct lm_rows){0};
}

/* Makes room for count rows in examples sequences; what was there is lost. */
static enum err rows_reserve(struct lm_rows *rows, const struct lm_net *net, uint32_t rank,
                             enum lm_keep keep, size_t count, size_t examples)
{
    if (count <= rows->capacity && examples <= rows->span_capacity && rank <= rows->acts.rank &&
        rows->acts.keep == keep) {
        return ERR_OK;
    }
    CHECK(count > 0);
    CHECK(examples > 0);
    lm_rows_deinit(rows);
    enum err err = lm_acts_init(&rows->acts, net, count, rank, keep);
    if (err != ERR_OK) {
        return err;
    }
    rows->losses = malloc(count * sizeof *rows->losses);
    rows->tokens = malloc(count * sizeof *rows->tokens);
    rows->positions = malloc(count * sizeof *rows->positions);
    rows->target_rows = malloc(count * sizeof *rows->target_rows);
    rows->target_ids = malloc(count * sizeof *rows->target_ids);
    rows->spans = malloc(examples * sizeof *rows->spans);
    rows->sequences = malloc(examples * sizeof *rows->sequences);
    if (rows->losses == NULL || rows->tokens == NULL || rows->positions == NULL ||
        rows->target_rows == NULL || rows->target_ids == NULL || rows->spans == NULL ||
        rows->sequences == NULL) {
        lm_rows_deinit(rows);
        return ERR_NO_MEMORY;
    }
    rows->capacity = count;
    rows->span_capacity = examples;
    return ERR_OK;
}

enum err lm_rows_load(struct lm_rows *rows, const struct lm_net *net, const struct lm_lora *lora,
                      enum lm_keep keep, const struct lm_example *examples, uint32_t count)
{
    size_t row_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        row_count += examples[i].count - 1;
    }
    enum err err = rows_reserve(rows, net, lora == NULL ? 0 : lora->rank, keep, row_count, count);
    if (err != ERR_OK) {
        return err;
    }
    size_t row = 0;
    size_t targets = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct lm_example *example = &examples[i];
        rows->spans[i] = (struct lm_span){.row = row, .count = example->count - 1};
        for (uint32_t t = 0; t + 1 < example->count; t++, row++) {
            rows->tokens[row] = example->tokens[t];
            rows->positions[row] = t;
            if (example->mask == NULL || example->mask[t + 1] != 0) {
                rows->target_rows[targets] = (uint32_t)row;
                rows->target_ids[targets++] = (int32_t)example->tokens[t + 1];
            }
        }
    }
    CHECK(row == row_count);
    rows->segment = (struct lm_segment){.lora = lora, .row = 0, .count = row_count};
    rows->targets = (struct lm_targets){
        .rows = rows->target_rows, .ids = rows->target_ids, .count = targets, .weight = 1.0F};
    rows->pass = (struct lm_pass){.net = net,
                                  .parallel = &parallel_serial,
                                  .acts = &rows->acts,
                                  .rows = row_count,
                                  .tokens = rows->tokens,
                                  .positions = rows->positions,
                                  .segments = &rows->segment,
                                  .segment_count = 1,
                                  .spans = rows->spans,
                                  .span_count = count,
                                  .sequences = rows->sequences};
    return ERR_OK;
}
