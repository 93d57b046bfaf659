/* project.c - sketches, projected gradients and second moments; see project.h. */
#include "shared/attrib/project.h"

#include <stdlib.h>
#include <string.h>

#include "shared/attrib/attrib.h"
#include "shared/base/check.h"
#include "shared/lm/philox.h"

/* Seeds of the projections: part of the published rule. Side s of module m uses PROJECT_SEED +
 * 2 m + s; permutation numbers start at 0, signs at SIGN_BASE. */
#define PROJECT_SEED UINT64_C(0x4f4c415454524942) /* "OLATTRIB" */
#define SIGN_BASE (UINT64_C(1) << 32)

static enum err sketch_init(struct attrib_sketch *sketch, uint32_t in, uint32_t width,
                            uint64_t seed)
{
    sketch->in = in;
    sketch->width = width < in ? width : in;
    sketch->bucket = calloc(in, sizeof *sketch->bucket);
    sketch->sign = calloc(in, sizeof *sketch->sign);
    uint32_t *order = calloc(in, sizeof *order);
    if (sketch->bucket == NULL || sketch->sign == NULL || order == NULL) {
        free(order);
        return ERR_NO_MEMORY;
    }
    philox_permutation(seed, PHILOX_PROJECT, in, order);
    for (uint32_t i = 0; i < in; i++) {
        sketch->bucket[i] = (uint16_t)(order[i] % sketch->width);
        bool minus = (philox_u64(seed, PHILOX_PROJECT, SIGN_BASE + i) & 1) != 0;
        sketch->sign[i] = minus ? -1.0F : 1.0F;
    }
    free(order);
    return ERR_OK;
}

/* out [rows x width]; one chain per bucket, values ascending. */
static void sketch_apply(const struct attrib_sketch *sketch, uint32_t rows, const float *values,
                         float *out)
{
    memset(out, 0, (size_t)rows * sketch->width * sizeof *out);
    for (uint32_t t = 0; t < rows; t++) {
        const float *row = values + (size_t)t * sketch->in;
        float *sums = out + (size_t)t * sketch->width;
        for (uint32_t i = 0; i < sketch->in; i++) {
            sums[sketch->bucket[i]] += sketch->sign[i] * row[i];
        }
    }
}

static uint64_t dimensions_of(const struct lm_config *config,
                              const struct lm_adapter_config *adapter, uint32_t sketch,
                              uint32_t *out_modules)
{
    uint64_t dimensions = 0;
    *out_modules = 0;
    for (uint32_t layer = 0; layer < config->layer_count; layer++) {
        for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
            struct lm_adapter_place place;
            if (lm_adapter_offset(config, adapter, layer, (enum lm_projection)p, &place)) {
                uint32_t a = place.in < sketch ? place.in : sketch;
                uint32_t b = place.out < sketch ? place.out : sketch;
                dimensions += (uint64_t)adapter->rank * ((uint64_t)a + b);
                ++*out_modules;
            }
        }
    }
    return dimensions;
}

static bool fits(uint64_t dimensions, uint32_t row_count)
{
    uint64_t room = (uint64_t)ATTRIB_INDEX_MAX / 4 * 3; /* the rest: tokens, bases, names */
    return dimensions <= ATTRIB_DIMENSIONS_MAX && dimensions * row_count * 2 <= room;
}

enum err attrib_layout_init(struct attrib_layout *layout, const struct lm_config *config,
                            const struct lm_adapter_config *adapter, uint32_t sketch,
                            uint32_t row_count, struct note *note)
{
    struct attrib_layout made = {.rank = adapter->rank};
    if (adapter->rank > ATTRIB_RANK_MAX) {
        return note_set(note, ERR_LIMIT, "adapter has rank %u, an index takes at most %u",
                        adapter->rank, ATTRIB_RANK_MAX);
    }
    made.sketch = sketch == 0 ? ATTRIB_SKETCH_MAX : sketch;
    uint64_t dimensions = dimensions_of(config, adapter, made.sketch, &made.module_count);
    while (sketch == 0 && made.sketch > 1 && !fits(dimensions, row_count)) {
        made.sketch /= 2;
        dimensions = dimensions_of(config, adapter, made.sketch, &made.module_count);
    }
    if (!fits(dimensions, row_count)) {
        return note_set(note, ERR_LIMIT, "index of %u rows with %llu values each is too large",
                        row_count, (unsigned long long)dimensions);
    }
    made.modules = calloc((size_t)made.module_count + 1, sizeof *made.modules);
    enum err err = made.modules != NULL ? ERR_OK : ERR_NO_MEMORY;
    uint32_t m = 0;
    for (uint32_t layer = 0; err == ERR_OK && layer < config->layer_count; layer++) {
        for (uint32_t p = 0; err == ERR_OK && p < LM_PROJECTION_COUNT; p++) {
            struct lm_adapter_place place;
            if (!lm_adapter_offset(config, adapter, layer, (enum lm_projection)p, &place)) {
                continue;
            }
            struct attrib_module *module = &made.modules[m];
            module->layer = layer;
            module->projection = (enum lm_projection)p;
            err = sketch_init(&module->a, place.in, made.sketch, PROJECT_SEED + 2ULL * m);
            if (err == ERR_OK) {
                err = sketch_init(&module->b, place.out, made.sketch, PROJECT_SEED + 2ULL * m + 1);
            }
            module->a_offset = made.dimensions;
            module->b_offset = module->a_offset + made.rank * module->a.width;
            made.dimensions = module->b_offset + made.rank * module->b.width;
            module->factor_offset = made.factor_count;
            made.factor_count += module->a.width * module->a.width +
                                 module->b.width * module->b.width + 2 * made.rank * made.rank;
            m++;
        }
    }
    if (err != ERR_OK) {
        attrib_layout_deinit(&made);
        return err;
    }
    CHECK(made.dimensions == dimensions);
    *layout = made;
    return ERR_OK;
}

void attrib_layout_deinit(struct attrib_layout *layout)
{
    for (uint32_t m = 0; layout->modules != NULL && m < layout->module_count; m++) {
        free(layout->modules[m].a.bucket);
        free(layout->modules[m].a.sign);
        free(layout->modules[m].b.bucket);
        free(layout->modules[m].b.sign);
    }
    free(layout->modules);
    *layout = (struct attrib_layout){0};
}

/* out [m x n] = sum over t of left[t][m] right[t][n]. Products of two fp32 are exact in double, so
 * fused or not makes no difference; one chain per element, t ascending. */
static void outer(uint32_t rows, uint32_t m, const float *left, uint32_t n, const float *right,
                  double *sums)
{
    memset(sums, 0, (size_t)m * n * sizeof *sums);
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t i = 0; i < m; i++) {
            double value = (double)left[(size_t)t * m + i];
            for (uint32_t j = 0; j < n; j++) {
                sums[i * n + j] += value * (double)right[(size_t)t * n + j];
            }
        }
    }
}

/* One module of one example: task 0 does A's side, task 1 B's. */
struct module_work {
    const struct attrib_module *module;
    const struct lm_module_trace *trace;
    float *sketched[2]; /* [rows x width] scratch */
    double *sums[2];    /* [rank x width] scratch */
    float *raw;         /* the example's vector */
    double *factors;    /* the example's second moments, or NULL */
};

static void project_side(void *argument, uint32_t side)
{
    const struct module_work *work = argument;
    const struct attrib_module *module = work->module;
    const struct lm_module_trace *trace = work->trace;
    const struct attrib_sketch *sketch = side == 0 ? &module->a : &module->b;
    const float *narrow = side == 0 ? trace->db : trace->ax;
    uint32_t width = sketch->width;
    uint32_t rank = trace->rank;
    float *wide = work->sketched[side];
    double *sums = work->sums[side];
    sketch_apply(sketch, trace->rows, side == 0 ? trace->x : trace->sdy, wide);
    if (side == 0) {
        outer(trace->rows, rank, narrow, width, wide, sums);
    } else {
        outer(trace->rows, width, wide, rank, narrow, sums);
    }
    float *raw = work->raw + (side == 0 ? module->a_offset : module->b_offset);
    for (uint32_t i = 0; i < rank * width; i++) {
        raw[i] = (float)sums[i];
    }
    if (work->factors != NULL) {
        double *factor = work->factors + module->factor_offset;
        if (side == 1) {
            factor += (size_t)module->a.width * module->a.width + (size_t)rank * rank;
        }
        outer(trace->rows, width, wide, width, wide, factor);
        outer(trace->rows, rank, narrow, rank, narrow, factor + (size_t)width * width);
    }
}

struct project_context {
    const struct attrib_layout *layout;
    const struct parallel *parallel;
    float *scratch; /* 2 x rows_max x sketch */
    double *sums;   /* 2 x rank x sketch */
    uint32_t rows_max;
    float *raw;
    double *factors;
};

static void project_trace(void *opaque, const struct lm_module_trace *trace)
{
    const struct project_context *context = opaque;
    const struct attrib_layout *layout = context->layout;
    const struct attrib_module *module = layout->modules;
    const struct attrib_module *end = module + layout->module_count;
    while (module < end &&
           (module->layer != trace->layer || module->projection != trace->projection)) {
        module++;
    }
    CHECK(module < end);
    CHECK(trace->rows <= context->rows_max);
    CHECK(trace->in == module->a.in);
    CHECK(trace->out == module->b.in);
    CHECK(trace->rank == layout->rank);
    size_t half = (size_t)context->rows_max * layout->sketch;
    size_t half_sums = (size_t)layout->rank * layout->sketch;
    struct module_work work = {
        .module = module,
        .trace = trace,
        .sketched = {context->scratch, context->scratch + half},
        .sums = {context->sums, context->sums + half_sums},
        .raw = context->raw + (size_t)trace->example * layout->dimensions,
        .factors = context->factors == NULL
                       ? NULL
                       : context->factors + (size_t)trace->example * layout->factor_count,
    };
    context->parallel->run(context->parallel->context, 2, project_side, &work);
}

/* NOLINTNEXTLINE(readability-function-size): the parameters of lm_adapter_traces, and where to */
enum err attrib_project(const struct attrib_layout *layout, const struct lm_model *model,
                        const struct lm_adapter *adapter, const struct lm_example *examples,
                        uint32_t count, const struct parallel *parallel, float *out_raw,
                        double *out_factors, struct note *note)
{
    CHECK(count >= 1);
    CHECK(count <= ATTRIB_BATCH);
    uint32_t rows_max = 1;
    for (uint32_t i = 0; i < count; i++) {
        rows_max = examples[i].count > rows_max ? examples[i].count : rows_max;
    }
    struct project_context context = {
        .layout = layout,
        .parallel = parallel,
        .scratch = calloc(2 * (size_t)rows_max * layout->sketch, sizeof *context.scratch),
        .sums = calloc(2 * (size_t)layout->rank * layout->sketch, sizeof *context.sums),
        .rows_max = rows_max,
        .raw = out_raw,
        .factors = out_factors,
    };
    enum err err = ERR_NO_MEMORY;
    if (context.scratch != NULL && context.sums != NULL) {
        memset(out_raw, 0, (size_t)count * layout->dimensions * sizeof *out_raw);
        if (out_factors != NULL) {
            memset(out_factors, 0, (size_t)count * layout->factor_count * sizeof *out_factors);
        }
        err = lm_adapter_traces(model, adapter, examples, count, parallel, project_trace, &context,
                                NULL, note);
    }
    free(context.scratch);
    free(context.sums);
    return err;
}
