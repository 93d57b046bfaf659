/* index.c - building an index: projected gradients of all rows, and their curvature; see attrib.h.
 *
 * EK-FAC per module and matrix: second moments of the (projected) input side and output side give
 * eigenbases; in their coordinates the mean square of the rows' gradients is the curvature, damped by
 * a tenth of its mean. Rows are whitened by it and normalised, so that a score is a cosine. */
#include "shared/attrib/index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/attrib/jacobi.h"
#include "shared/base/check.h"

#define DAMPING 0.1 /* of the mean curvature in a matrix */

_Static_assert(ATTRIB_RANK_MAX <= JACOBI_SIZE_MAX, "a rank must fit the eigensolver");
_Static_assert(ATTRIB_SKETCH_MAX <= JACOBI_SIZE_MAX, "a sketch must fit the eigensolver");

enum err attrib_index_allocate(struct attrib_index *index)
{
    size_t values = (size_t)index->row_count * index->layout.dimensions;
    index->rows = calloc(index->row_count, sizeof *index->rows);
    index->examples = calloc(index->row_count, sizeof *index->examples);
    index->tokens = calloc(index->token_count + 1, sizeof *index->tokens);
    index->mask = calloc(index->token_count + 1, sizeof *index->mask);
    index->accounts = calloc(index->row_count, sizeof *index->accounts);
    index->bases = calloc(index->layout.factor_count, sizeof *index->bases);
    index->scales = calloc(index->layout.dimensions, sizeof *index->scales);
    index->vectors = calloc(values, sizeof *index->vectors);
    bool ok = index->rows != NULL && index->examples != NULL && index->tokens != NULL &&
              index->mask != NULL && index->accounts != NULL && index->bases != NULL &&
              index->scales != NULL && index->vectors != NULL;
    return ok ? ERR_OK : ERR_NO_MEMORY;
}

enum err attrib_index_finish(struct attrib_index *index)
{
    for (uint32_t i = 0; i < index->row_count; i++) {
        const struct index_row *row = &index->rows[i];
        index->examples[i] = (struct lm_example){.tokens = index->tokens + row->token_offset,
                                                 .mask = index->mask + row->token_offset,
                                                 .count = row->token_count};
    }
    return spans_create(index->examples, index->row_count, &index->spans);
}

void attrib_index_destroy(struct attrib_index *index)
{
    if (index == NULL) {
        return;
    }
    attrib_layout_deinit(&index->layout);
    spans_destroy(index->spans);
    free(index->rows);
    free(index->examples);
    free(index->tokens);
    free(index->mask);
    free(index->accounts);
    free(index->bases);
    free(index->scales);
    free(index->vectors);
    free(index);
}

/* ---- curvature -------------------------------------------------------------------------------- */

/* matrix [m x n] becomes left^T matrix right; columns of left and right are eigenvectors. */
static void rotate(uint32_t m, const float *left, uint32_t n, const float *right, float *matrix,
                   double *scratch)
{
    for (uint32_t i = 0; i < m; i++) { /* scratch = matrix right */
        for (uint32_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (uint32_t k = 0; k < n; k++) {
                sum += (double)matrix[i * n + k] * (double)right[k * n + j];
            }
            scratch[i * n + j] = sum;
        }
    }
    for (uint32_t i = 0; i < m; i++) {
        for (uint32_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (uint32_t k = 0; k < m; k++) {
                sum += (double)left[k * m + i] * scratch[k * n + j];
            }
            matrix[i * n + j] = (float)sum;
        }
    }
}

void attrib_rotate(const struct attrib_index *index, float *raw, double *scratch)
{
    uint32_t rank = index->layout.rank;
    for (uint32_t m = 0; m < index->layout.module_count; m++) {
        const struct attrib_module *module = &index->layout.modules[m];
        uint32_t a = module->a.width;
        uint32_t b = module->b.width;
        const float *x = index->bases + module->factor_offset;
        const float *db = x + (size_t)a * a;
        const float *sdy = db + (size_t)rank * rank;
        const float *ax = sdy + (size_t)b * b;
        rotate(rank, db, a, x, raw + module->a_offset, scratch);
        rotate(b, sdy, rank, ax, raw + module->b_offset, scratch);
    }
}

enum err attrib_whiten(const struct attrib_index *index, float *raw)
{
    double squares = 0.0;
    for (uint32_t d = 0; d < index->layout.dimensions; d++) {
        raw[d] *= index->scales[d];
        squares += (double)raw[d] * (double)raw[d];
    }
    if (!isfinite(squares)) {
        return ERR_INVALID;
    }
    if (squares > 0.0) {
        double length = sqrt(squares);
        for (uint32_t d = 0; d < index->layout.dimensions; d++) {
            raw[d] = (float)((double)raw[d] / length);
        }
    }
    return ERR_OK;
}

/* Eigenvectors of the summed second moments, module by module. */
static enum err find_bases(struct attrib_index *index, double *factors)
{
    double *vectors = calloc((size_t)JACOBI_SIZE_MAX * JACOBI_SIZE_MAX, sizeof *vectors);
    if (vectors == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    for (uint32_t m = 0; err == ERR_OK && m < index->layout.module_count; m++) {
        const struct attrib_module *module = &index->layout.modules[m];
        uint32_t rank = index->layout.rank;
        uint32_t sizes[4] = {module->a.width, rank, module->b.width, rank};
        uint32_t offset = module->factor_offset;
        for (uint32_t f = 0; err == ERR_OK && f < 4; f++) {
            double values[JACOBI_SIZE_MAX];
            err = jacobi_eigen(sizes[f], factors + offset, values, vectors);
            for (uint32_t i = 0; err == ERR_OK && i < sizes[f] * sizes[f]; i++) {
                index->bases[offset + i] = (float)vectors[i];
            }
            offset += sizes[f] * sizes[f];
        }
    }
    free(vectors);
    return err;
}

/* Scales of one matrix of `size` dimensions at `offset`, from the rows' mean squares. */
static void find_scales(struct attrib_index *index, const double *squares, uint32_t offset,
                        uint32_t size)
{
    double mean = 0.0;
    for (uint32_t d = offset; d < offset + size; d++) {
        mean += squares[d];
    }
    mean /= (double)size;
    for (uint32_t d = offset; d < offset + size; d++) {
        double curvature = squares[d] + DAMPING * mean;
        index->scales[d] = mean > 0.0 ? (float)(1.0 / sqrt(curvature)) : 0.0F;
    }
}

struct rotate_work {
    const struct attrib_index *index;
    float *raw;
};

static void rotate_row(void *argument, uint32_t row)
{
    const struct rotate_work *work = argument;
    double scratch[ATTRIB_RANK_MAX * ATTRIB_SKETCH_MAX];
    attrib_rotate(work->index, work->raw + (size_t)row * work->index->layout.dimensions, scratch);
}

/* From raw vectors and second moments to bases, scales and stored vectors. */
static enum err condition(struct attrib_index *index, float *raw, double *factors,
                          const struct parallel *parallel)
{
    uint32_t dimensions = index->layout.dimensions;
    enum err err = find_bases(index, factors);
    double *squares = calloc(dimensions, sizeof *squares);
    if (err == ERR_OK && squares == NULL) {
        err = ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        struct rotate_work work = {.index = index, .raw = raw};
        parallel->run(parallel->context, index->row_count, rotate_row, &work);
        for (uint32_t row = 0; row < index->row_count; row++) {
            const float *vector = raw + (size_t)row * dimensions;
            for (uint32_t d = 0; d < dimensions; d++) {
                squares[d] += (double)vector[d] * (double)vector[d];
            }
        }
        for (uint32_t d = 0; d < dimensions; d++) {
            squares[d] /= (double)index->row_count;
        }
        for (uint32_t m = 0; m < index->layout.module_count; m++) {
            const struct attrib_module *module = &index->layout.modules[m];
            uint32_t rank = index->layout.rank;
            find_scales(index, squares, module->a_offset, rank * module->a.width);
            find_scales(index, squares, module->b_offset, rank * module->b.width);
        }
    }
    for (uint32_t row = 0; err == ERR_OK && row < index->row_count; row++) {
        float *vector = raw + (size_t)row * dimensions;
        err = attrib_whiten(index, vector);
        if (err == ERR_OK) {
            kernels_to_bf16(dimensions, vector, index->vectors + (size_t)row * dimensions);
        }
    }
    free(squares);
    return err;
}

/* ---- building --------------------------------------------------------------------------------- */

static int account_order(const void *a, const void *b)
{
    return account_id_compare(a, b);
}

/* Copies rows and names: tokens, masks, and contributors as places in a sorted list. */
static void copy_rows(struct attrib_index *index, const struct attrib_row *rows)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < index->row_count; i++) {
        const struct lm_example *example = &rows[i].example;
        index->accounts[i] = rows[i].contributor;
        index->rows[i].token_count = example->count;
        index->rows[i].token_offset = offset;
        memcpy(index->tokens + offset, example->tokens, example->count * sizeof *example->tokens);
        for (uint32_t t = 0; t < example->count; t++) {
            index->mask[offset + t] = example->mask == NULL || example->mask[t] != 0;
        }
        offset += example->count;
    }
    qsort(index->accounts, index->row_count, sizeof *index->accounts, account_order);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < index->row_count; i++) {
        if (kept == 0 || !account_id_equal(&index->accounts[kept - 1], &index->accounts[i])) {
            index->accounts[kept++] = index->accounts[i];
        }
    }
    index->account_count = kept;
    for (uint32_t i = 0; i < index->row_count; i++) {
        const struct account_id *found = bsearch(&rows[i].contributor, index->accounts, kept,
                                                 sizeof *index->accounts, account_order);
        CHECK(found != NULL);
        index->rows[i].contributor = (uint32_t)(found - index->accounts);
    }
}

static bool trains(const struct lm_example *example)
{
    bool any = false;
    for (uint32_t t = 1; t < example->count; t++) {
        any = any || example->mask == NULL || example->mask[t] != 0;
    }
    return any;
}

/* Raw vectors of all rows, and the second moments summed in row order. */
static enum err project_rows(struct attrib_index *index, const struct attrib_build *build,
                             float *raw, double *factors, struct note *note)
{
    const struct attrib_layout *layout = &index->layout;
    double *parts = calloc((size_t)ATTRIB_BATCH * layout->factor_count, sizeof *parts);
    float *vectors = calloc((size_t)ATTRIB_BATCH * layout->dimensions, sizeof *vectors);
    enum err err = parts != NULL && vectors != NULL ? ERR_OK : ERR_NO_MEMORY;
    for (uint32_t row = 0; err == ERR_OK && row < index->row_count;) {
        struct lm_example batch[ATTRIB_BATCH];
        uint32_t where[ATTRIB_BATCH];
        uint32_t count = 0;
        for (; row < index->row_count && count < ATTRIB_BATCH; row++) {
            if (trains(&index->examples[row])) {
                where[count] = row;
                batch[count++] = index->examples[row];
            }
        }
        if (count == 0) {
            break;
        }
        err = attrib_project(layout, build->model, build->adapter, batch, count, build->parallel,
                             vectors, parts, note);
        for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
            memcpy(raw + (size_t)where[i] * layout->dimensions,
                   vectors + (size_t)i * layout->dimensions, layout->dimensions * sizeof *raw);
            for (uint32_t f = 0; f < layout->factor_count; f++) {
                factors[f] += parts[(size_t)i * layout->factor_count + f];
            }
        }
        if (err == ERR_OK && build->progress != NULL &&
            !build->progress(build->context, row, index->row_count)) {
            err =
                note_set(note, ERR_CANCELLED, "stopped after %u of %u rows", row, index->row_count);
        }
    }
    free(parts);
    free(vectors);
    return err;
}

static enum err check_rows(const struct attrib_row *rows, uint32_t row_count, uint32_t vocab,
                           uint64_t *out_tokens, struct note *note)
{
    if (row_count == 0 || row_count > ATTRIB_ROWS_MAX) {
        return note_set(note, ERR_LIMIT, "an index takes 1 to %u rows, not %u", ATTRIB_ROWS_MAX,
                        row_count);
    }
    *out_tokens = 0;
    for (uint32_t i = 0; i < row_count; i++) {
        const struct lm_example *example = &rows[i].example;
        if (example->count < 1 || example->count > ATTRIB_ROW_TOKENS_MAX) {
            return note_set(note, ERR_RANGE, "row %u has %u tokens, the bounds are 1 and %u", i,
                            example->count, ATTRIB_ROW_TOKENS_MAX);
        }
        for (uint32_t t = 0; t < example->count; t++) {
            if (example->tokens[t] >= vocab) {
                return note_set(note, ERR_RANGE, "row %u has token %u, the vocabulary %u", i,
                                example->tokens[t], vocab);
            }
        }
        *out_tokens += example->count;
    }
    if (*out_tokens > SPANS_TOKENS_MAX / 2) {
        return note_set(note, ERR_LIMIT, "rows have %llu tokens, an index takes %u",
                        (unsigned long long)*out_tokens, SPANS_TOKENS_MAX / 2);
    }
    return ERR_OK;
}

enum err attrib_index_build(const struct attrib_build *build, struct attrib_index **out,
                            struct note *note)
{
    struct attrib_index *index = calloc(1, sizeof *index);
    if (index == NULL) {
        return ERR_NO_MEMORY;
    }
    float *raw = NULL;
    double *factors = NULL;
    index->source = *build->source;
    index->config = *lm_model_config(build->model);
    index->shape = *lm_adapter_get_config(build->adapter);
    lm_model_digest(build->model, &index->model);
    lm_adapter_digest(build->adapter, &index->adapter);
    index->row_count = build->row_count;
    enum err err =
        check_rows(build->rows, build->row_count, index->config.vocab, &index->token_count, note);
    if (err == ERR_OK) {
        err = attrib_layout_init(&index->layout, &index->config, &index->shape, 0, build->row_count,
                                 note);
    }
    if (err == ERR_OK) {
        err = attrib_index_allocate(index);
    }
    if (err == ERR_OK) {
        copy_rows(index, build->rows);
        err = attrib_index_finish(index);
    }
    if (err == ERR_OK) {
        raw = calloc((size_t)build->row_count * index->layout.dimensions, sizeof *raw);
        factors = calloc(index->layout.factor_count, sizeof *factors);
        err = raw != NULL && factors != NULL ? ERR_OK : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        err = project_rows(index, build, raw, factors, note);
    }
    if (err == ERR_OK) {
        err = condition(index, raw, factors, build->parallel);
        if (err == ERR_INVALID) {
            (void)note_set(note, err, "gradients of the rows are not finite");
        }
    }
    free(raw);
    free(factors);
    if (err != ERR_OK) {
        attrib_index_destroy(index);
        return err;
    }
    *out = index;
    return ERR_OK;
}

/* ---- looking ---------------------------------------------------------------------------------- */

void attrib_index_info(const struct attrib_index *index, struct attrib_info *out)
{
    *out = (struct attrib_info){
        .source = index->source,
        .model = index->model,
        .adapter = index->adapter,
        .row_count = index->row_count,
        .contributor_count = index->account_count,
        .dimensions = index->layout.dimensions,
        .sketch = index->layout.sketch,
    };
}

const struct account_id *attrib_index_contributor(const struct attrib_index *index, uint32_t row)
{
    CHECK(row < index->row_count);
    return &index->accounts[index->rows[row].contributor];
}

struct lm_example attrib_index_example(const struct attrib_index *index, uint32_t row)
{
    CHECK(row < index->row_count);
    return index->examples[row];
}
