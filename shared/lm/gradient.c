/* gradient.c - losses and per-example gradients of an adapter. See gradient.h. */
#include "shared/lm/gradient.h"

#include <math.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/trainer.h"

/* A text, a model and their outputs are many parameters: NOLINTBEGIN(readability-function-size) */

#define ROWS_AT_ONCE 2048U /* rows in one pass: memory, not meaning */

/* Spreads the pass's losses, which are in order of examples and positions, back over examples
 * first .. first + count - 1. */
static enum err losses_spread(const struct lm_rows *rows, const struct lm_example *examples,
                              uint32_t first, uint32_t count, struct lm_loss *out,
                              float *const *token_nll, struct note *note)
{
    size_t next = 0;
    for (uint32_t i = first; i < first + count; i++) {
        const struct lm_example *example = &examples[i];
        float *nll = token_nll == NULL ? NULL : token_nll[i];
        struct lm_loss loss = {0};
        for (uint32_t t = 0; t < example->count; t++) {
            bool counts = t > 0 && (example->mask == NULL || example->mask[t] != 0);
            float value = counts ? rows->losses[next++] : 0.0F;
            loss.sum_nll += (double)value;
            loss.count += counts;
            if (nll != NULL) {
                nll[t] = value;
            }
        }
        if (!isfinite(loss.sum_nll)) {
            return note_set(note, ERR_INVALID, "the loss of example %u is not finite", i);
        }
        if (out != NULL) {
            out[i] = loss;
        }
    }
    CHECK(next == rows->targets.count);
    return ERR_OK;
}

enum err lm_losses(const struct lm_model *model, const struct lm_adapter *adapter,
                   const struct lm_example *examples, uint32_t count,
                   const struct parallel *parallel, struct lm_loss *out, float *const *token_nll,
                   struct note *note)
{
    enum err err = lm_examples_check(&model->net.config, examples, count, note);
    struct lm_rows rows = {0};
    for (uint32_t first = 0; first < count && err == ERR_OK;) {
        uint32_t taken = lm_rows_fit(examples + first, count - first, ROWS_AT_ONCE);
        err = lm_rows_load(&rows, &model->net, adapter == NULL ? NULL : &adapter->lora,
                           LM_KEEP_NOTHING, examples + first, taken);
        if (err == ERR_OK) {
            rows.pass.parallel = parallel;
            lm_forward(&rows.pass);
            lm_loss(&rows.pass, &rows.targets, NULL, rows.losses);
            err = losses_spread(&rows, examples, first, taken, out, token_nll, note);
        }
        first += taken;
    }
    lm_rows_deinit(&rows);
    return err;
}

/* Cuts the batch's matrices into one trace per example. */
struct tracing {
    const struct lm_rows *rows;
    uint32_t first; /* example of the batch's first span */
    lm_trace_fn *trace;
    void *context;
};

static void trace_module(void *context, uint32_t layer, enum lm_projection projection,
                         const struct lm_lora_module *module, const float *x, const float *ax,
                         const float *sdy, const float *db)
{
    const struct tracing *tracing = context;
    uint32_t rank = tracing->rows->segment.lora->rank;
    for (size_t i = 0; i < tracing->rows->pass.span_count; i++) {
        const struct lm_span *span = &tracing->rows->spans[i];
        struct lm_module_trace trace = {.example = tracing->first + (uint32_t)i,
                                        .layer = layer,
                                        .projection = projection,
                                        .rows = (uint32_t)span->count,
                                        .in = module->in,
                                        .out = module->out,
                                        .rank = rank,
                                        .x = x + span->row * module->in,
                                        .ax = ax + span->row * rank,
                                        .sdy = sdy + span->row * module->out,
                                        .db = db + span->row * rank};
        tracing->trace(tracing->context, &trace);
    }
}

enum err lm_adapter_traces(const struct lm_model *model, const struct lm_adapter *adapter,
                           const struct lm_example *examples, uint32_t count,
                           const struct parallel *parallel, lm_trace_fn *trace, void *context,
                           struct lm_loss *out_losses, struct note *note)
{
    CHECK(adapter != NULL);
    enum err err = lm_model_gradients_check(model, note);
    if (err == ERR_OK) {
        err = lm_examples_check(&model->net.config, examples, count, note);
    }
    struct lm_rows rows = {0};
    for (uint32_t first = 0; first < count && err == ERR_OK;) {
        uint32_t taken = lm_rows_fit(examples + first, count - first, ROWS_AT_ONCE);
        err = lm_rows_load(&rows, &model->net, &adapter->lora, LM_KEEP_LAYERS, examples + first,
                           taken);
        if (err == ERR_OK) {
            struct tracing tracing = {
                .rows = &rows, .first = first, .trace = trace, .context = context};
            struct lm_gradient gradient = {.module = trace_module, .context = &tracing};
            rows.pass.parallel = parallel;
            lm_forward(&rows.pass);
            lm_loss(&rows.pass, &rows.targets, &gradient, rows.losses);
            err = losses_spread(&rows, examples, first, taken, out_losses, NULL, note);
            if (err == ERR_OK) {
                lm_backward(&rows.pass, &gradient);
            }
        }
        first += taken;
    }
    lm_rows_deinit(&rows);
    return err;
}

struct materialising {
    const struct lm_model *model;
    const struct lm_adapter *adapter;
    const struct parallel *parallel;
    float *out;
};

static void materialise(void *context, const struct lm_module_trace *trace)
{
    const struct materialising *work = context;
    struct lm_adapter_place place;
    bool adapted = lm_adapter_offset(&work->model->net.config, &work->adapter->config, trace->layer,
                                     trace->projection, &place);
    CHECK(adapted);
    float *row = work->out + trace->example * work->adapter->size;
    struct kernels_gemm a = {.m = trace->rank,
                             .n = trace->in,
                             .k = trace->rows,
                             .a = {trace->db, 1, trace->rank},
                             .b = {trace->x, trace->in, 1},
                             .c = row + place.a_offset,
                             .c_stride = trace->in};
    kernels_gemm(work->model->net.kernels, work->parallel, &a);
    struct kernels_gemm b = {.m = trace->out,
                             .n = trace->rank,
                             .k = trace->rows,
                             .a = {trace->sdy, 1, trace->out},
                             .b = {trace->ax, trace->rank, 1},
                             .c = row + place.b_offset,
                             .c_stride = trace->rank};
    kernels_gemm(work->model->net.kernels, work->parallel, &b);
}

enum err lm_adapter_gradients(const struct lm_model *model, const struct lm_adapter *adapter,
                              const struct lm_example *examples, uint32_t count,
                              const struct parallel *parallel, float *out,
                              struct lm_loss *out_losses, struct note *note)
{
    struct materialising work = {
        .model = model, .adapter = adapter, .parallel = parallel, .out = out};
    enum err err = lm_adapter_traces(model, adapter, examples, count, parallel, materialise, &work,
                                     out_losses, note);
    if (err != ERR_OK) {
        return err;
    }
    bool finite = kernels_all_finite(model->net.kernels, count * adapter->size, out);
    return finite ? ERR_OK : note_set(note, ERR_INVALID, "a gradient is not finite");
}
/* NOLINTEND(readability-function-size) */
