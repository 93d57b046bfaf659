/* forward.c - the forward pass and the head. See engine.h.
 *
 * Attention and every adapter see only their own rows; the base's matrices take all rows at once.
 * A row's numbers are chains of its own, so who shares the batch cannot matter. */
#include <math.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/lm/engine.h"

/* Outputs travel inside the kernels' argument structs, and a product has many parts: NOLINTBEGIN(readability-non-const-parameter,readability-function-size) */

static const float *weight_of(const struct lm_net *net, uint32_t layer, uint32_t which)
{
    return lm_net_vector(net, lm_tensor_layer(layer, which));
}

/* Under int8 the input of the products that follow is quantised once, row by row. */
static void quantise(const struct lm_net *net, const struct parallel *parallel,
                     struct lm_acts *acts, const float *x, size_t rows, size_t width)
{
    if (net->precision == LM_INT8) {
        kernels_quantize(net->kernels, parallel, rows, width, x, width, acts->codes, acts->scales);
    }
}

/* y[rows x out] = x W^T; under int8 of what was quantised last, which must be x. */
static void base_product(const struct lm_net *net, const struct parallel *parallel,
                         const struct lm_acts *acts, uint32_t tensor, const float *x, size_t rows,
                         float *y)
{
    const struct lm_tensor *w = &net->tensors[tensor];
    const struct lm_matrix *matrix = net->values == NULL ? &net->matrices[tensor] : NULL;
    if (net->precision == LM_INT8) {
        CHECK(matrix != NULL); /* weights that are trained are fp32 */
        struct kernels_gemm_int8 gemm = {
            .m = rows,
            .n = w->rows,
            .k = w->columns,
            .x_codes = acts->codes,
            .x_scales = acts->scales,
            .w_codes = matrix->codes,
            .w_scales = matrix->scales,
            .c = y,
            .c_stride = w->rows,
        };
        kernels_gemm_int8(net->kernels, parallel, &gemm);
        return;
    }
    struct kernels_gemm gemm = {
        .m = rows,
        .n = w->rows,
        .k = w->columns,
        .a = {x, w->columns, 1},
        .b = {net->values == NULL ? NULL : net->values + w->offset, 1, w->columns},
        .packed = matrix == NULL ? NULL : matrix->forward,
        .type = matrix == NULL ? KERNELS_F32 : matrix->type,
        .c = y,
        .c_stride = w->rows,
    };
    kernels_gemm(net->kernels, parallel, &gemm);
}

/* ax = A x for the rows of one segment; both begin at its first row. */
static void lora_down(const struct lm_pass *pass, const struct parallel *parallel,
                      const struct lm_segment *segment, const struct lm_lora_module *module,
                      const float *x, float *ax)
{
    struct kernels_gemm down = {
        .m = segment->count,
        .n = segment->lora->rank,
        .k = module->in,
        .a = {x, module->in, 1},
        .b = {module->a, 1, module->in},
        .packed = module->packed_a,
        .c = ax,
        .c_stride = segment->lora->rank,
    };
    kernels_gemm(pass->net->kernels, parallel, &down);
}

struct lora_rows {
    const struct lm_pass *pass;
    const struct lm_segment *segment;
    const struct lm_lora_module *module;
    const float *x; /* these three from the pass's first row on */
    float *y, *ax;
};

/* y += scale * (B (A x)) for LM_LORA_ROWS rows of the segment. */
static void lora_rows_task(void *argument, uint32_t index)
{
    const struct lora_rows *job = argument;
    const struct lm_lora_module *module = job->module;
    const struct kernels *kernels = job->pass->net->kernels;
    const struct lm_lora *lora = job->segment->lora;
    const size_t done = (size_t)index * LM_LORA_ROWS;
    const size_t left = job->segment->count - done;
    const struct lm_segment part = {.lora = lora,
                                    .row = job->segment->row + done,
                                    .count = left < LM_LORA_ROWS ? left : LM_LORA_ROWS};
    float *ax = job->ax + part.row * lora->rank;
    float *u = job->pass->acts->lora_u + part.row * module->out;
    lora_down(job->pass, &parallel_serial, &part, module, job->x + part.row * module->in, ax);
    struct kernels_gemm up = {
        .m = part.count,
        .n = module->out,
        .k = lora->rank,
        .a = {ax, lora->rank, 1},
        .b = {module->b, 1, lora->rank},
        .packed = module->packed_b,
        .c = u,
        .c_stride = module->out,
    };
    kernels_gemm(kernels, &parallel_serial, &up);
    kernels_axpy(kernels, &parallel_serial, part.count * module->out, lora->scale, u,
                 job->y + part.row * module->out);
}

/* y += scale * (B (A x)) for the rows of one segment. */
static void lora_product(const struct lm_pass *pass, const struct parallel *parallel,
                         const struct lm_segment *segment, const struct lm_lora_module *module,
                         const float *x, float *y, float *ax)
{
    struct lora_rows job = {pass, segment, module, x, y, ax};
    const size_t tasks = (segment->count + LM_LORA_ROWS - 1) / LM_LORA_ROWS;
    if (tasks == 1) {
        lora_rows_task(&job, 0);
    } else {
        parallel->run(parallel->context, (uint32_t)tasks, lora_rows_task, &job);
    }
}

/* One product of the layer with its adapters: the unit of work when many adapters are present. */
struct lora_work {
    const struct lm_pass *pass;
    uint32_t module; /* index into lora->modules */
    const float *x;
    float *y, *ax;
};

static const struct lm_lora_module *segment_module(const struct lm_segment *segment,
                                                   uint32_t module)
{
    if (segment->lora == NULL || segment->lora->modules[module].a == NULL) {
        return NULL;
    }
    return &segment->lora->modules[module];
}

/* ax rows of different segments may differ in rank: each takes its own stretch at acts->rank. */
static void lora_task(void *argument, uint32_t index)
{
    const struct lora_work *work = argument;
    const struct lm_segment *segment = &work->pass->segments[index];
    const struct lm_lora_module *module = segment_module(segment, work->module);
    if (module != NULL) {
        float *ax = work->ax + segment->row * (work->pass->acts->rank - segment->lora->rank);
        lora_product(work->pass, &parallel_serial, segment, module, work->x, work->y, ax);
    }
}

/* y += bias, row by row. */
static void bias_add(const struct lm_pass *pass, uint32_t layer, uint32_t which, float *y)
{
    const struct lm_tensor *bias = &pass->net->tensors[lm_tensor_layer(layer, which)];
    const float *values = weight_of(pass->net, layer, which);
    for (size_t row = 0; row < pass->rows; row++) {
        float *to = y + row * bias->columns;
        kernels_add(pass->net->kernels, &parallel_serial, bias->columns, to, values, to);
    }
}

/* y = (W x + bias) + scale * (B (A x)), the one order of rounding everywhere. */
static void project(const struct lm_pass *pass, uint32_t layer, enum lm_projection projection,
                    const float *x, float *y)
{
    base_product(pass->net, pass->parallel, pass->acts, lm_tensor_layer(layer, projection), x,
                 pass->rows, y);
    if (projection <= LM_V && lm_has_bias(&pass->net->config)) {
        bias_add(pass, layer, LM_BIAS_Q + (uint32_t)projection, y);
    }
    struct lora_work work = {.pass = pass,
                             .module = layer * LM_PROJECTION_COUNT + projection,
                             .x = x,
                             .y = y,
                             .ax = pass->acts->layers[layer].ax[projection]};
    if (pass->segment_count > 1) {
        pass->parallel->run(pass->parallel->context, (uint32_t)pass->segment_count, lora_task,
                            &work);
    } else {
        const struct lm_lora_module *module = segment_module(&pass->segments[0], work.module);
        if (module != NULL) {
            lora_product(pass, pass->parallel, &pass->segments[0], module, x, y, work.ax);
        }
    }
}

/* Appends the new keys and values of one layer to the sessions' caches, and says who sees what. */
static void sequences_fill(const struct lm_pass *pass, uint32_t layer)
{
    const struct lm_config *config = &pass->net->config;
    const struct lm_layer_acts *acts = &pass->acts->layers[layer];
    size_t query = lm_query_width(config);
    size_t width = lm_kv_width(config);
    for (size_t i = 0; i < pass->span_count; i++) {
        const struct lm_span *span = &pass->spans[i];
        const float *k = acts->k + span->row * width;
        const float *v = acts->v + span->row * width;
        if (span->cache_k != NULL) {
            CHECK(span->start + span->count <= span->capacity);
            size_t base = (size_t)layer * span->capacity * width;
            size_t size = span->count * width * sizeof(float);
            memcpy(span->cache_k + base + span->start * width, k, size);
            memcpy(span->cache_v + base + span->start * width, v, size);
            k = span->cache_k + base;
            v = span->cache_v + base;
        }
        pass->sequences[i] = (struct kernels_sequence){
            .row_count = span->count,
            .start = span->start,
            .q = acts->q + span->row * query,
            .k = k,
            .v = v,
            .out = acts->attention + span->row * query,
            .stats = acts->stats == NULL ? NULL : acts->stats + span->row * config->head_count * 2,
        };
    }
}

static void rotate(const struct lm_pass *pass, float *x, uint32_t heads)
{
    const struct lm_net *net = pass->net;
    struct kernels_rope rope = {.rows = pass->rows,
                                .head_count = heads,
                                .head_dim = net->config.head_dim,
                                .x = x,
                                .stride = (size_t)heads * net->config.head_dim,
                                .positions = pass->positions,
                                .cos = net->cos,
                                .sin = net->sin};
    kernels_rope(net->kernels, pass->parallel, &rope);
}

/* Every head of x by itself; inv may be NULL. */
static void heads_norm(const struct lm_pass *pass, const float *weight, uint32_t heads,
                       const float *x, float *y, float *inv)
{
    const struct lm_config *config = &pass->net->config;
    kernels_rmsnorm(pass->net->kernels, pass->parallel, pass->rows * heads, config->head_dim,
                    config->norm_epsilon, x, weight, y, inv);
}

static void attend(const struct lm_pass *pass, uint32_t layer)
{
    const struct lm_config *config = &pass->net->config;
    const struct lm_layer_acts *acts = &pass->acts->layers[layer];
    quantise(pass->net, pass->parallel, pass->acts, acts->norm1, pass->rows, config->hidden);
    project(pass, layer, LM_Q, acts->norm1, acts->q_raw);
    project(pass, layer, LM_K, acts->norm1, acts->k_raw);
    project(pass, layer, LM_V, acts->norm1, acts->v);
    if (lm_has_head_norms(config)) {
        heads_norm(pass, weight_of(pass->net, layer, LM_NORM_Q), config->head_count, acts->q_raw,
                   acts->q, acts->q_inv);
        heads_norm(pass, weight_of(pass->net, layer, LM_NORM_K), config->kv_head_count, acts->k_raw,
                   acts->k, acts->k_inv);
    }
    rotate(pass, acts->q, config->head_count);
    rotate(pass, acts->k, config->kv_head_count);
    sequences_fill(pass, layer);
    struct kernels_attention attention = {
        .head_count = config->head_count,
        .kv_head_count = config->kv_head_count,
        .head_dim = config->head_dim,
        .scale = 1.0F / sqrtf((float)config->head_dim),
        .q_stride = lm_query_width(config),
        .kv_stride = lm_kv_width(config),
        .out_stride = lm_query_width(config),
        .sequences = pass->sequences,
        .sequence_count = pass->span_count,
    };
    kernels_attention(pass->net->kernels, pass->parallel, &attention);
}

/* The tokens' rows of the embedding. */
static void embed(const struct lm_pass *pass)
{
    const struct lm_net *net = pass->net;
    size_t hidden = net->config.hidden;
    float *x = pass->acts->layers[0].x;
    if (net->values != NULL) {
        kernels_embed(net->kernels, pass->parallel, pass->rows, hidden,
                      net->values + net->tensors[lm_tensor_embed()].offset, pass->tokens, x);
        return;
    }
    for (size_t row = 0; row < pass->rows; row++) {
        lm_net_row(net, lm_tensor_embed(), pass->tokens[row], x + row * hidden);
    }
}

/* A layer from its input x to the input of its last product, act. */
static void layer_run(const struct lm_pass *pass, uint32_t i)
{
    const struct lm_net *net = pass->net;
    const struct lm_config *config = &net->config;
    const struct lm_layer_acts *layer = &pass->acts->layers[i];
    size_t rows = pass->rows;
    kernels_rmsnorm(net->kernels, pass->parallel, rows, config->hidden, config->norm_epsilon,
                    layer->x, weight_of(net, i, LM_NORM_ATTENTION), layer->norm1, layer->inv1);
    attend(pass, i);
    /* norm2 is free at this moment: it holds the block's output. */
    quantise(net, pass->parallel, pass->acts, layer->attention, rows, lm_query_width(config));
    project(pass, i, LM_O, layer->attention, layer->norm2);
    kernels_add(net->kernels, pass->parallel, rows * config->hidden, layer->x, layer->norm2,
                layer->mid);
    kernels_rmsnorm(net->kernels, pass->parallel, rows, config->hidden, config->norm_epsilon,
                    layer->mid, weight_of(net, i, LM_NORM_FFN), layer->norm2, layer->inv2);
    quantise(net, pass->parallel, pass->acts, layer->norm2, rows, config->hidden);
    project(pass, i, LM_GATE, layer->norm2, layer->gate);
    project(pass, i, LM_UP, layer->norm2, layer->up);
    kernels_swiglu(net->kernels, pass->parallel, rows * config->ffn, layer->gate, layer->up,
                   layer->act);
}

void lm_layer_again(const struct lm_pass *pass, uint32_t layer)
{
    CHECK(pass->segment_count == 1);
    const struct lm_layer_acts *acts = &pass->acts->layers[layer];
    const struct lm_segment *segment = &pass->segments[0];
    layer_run(pass, layer);
    const struct lm_lora_module *down =
        segment_module(segment, layer * LM_PROJECTION_COUNT + LM_DOWN);
    if (down != NULL) {
        lora_down(pass, pass->parallel, segment, down, acts->act, acts->ax[LM_DOWN]);
    }
}

void lm_forward(const struct lm_pass *pass)
{
    const struct lm_net *net = pass->net;
    const struct lm_config *config = &net->config;
    struct lm_acts *acts = pass->acts;
    CHECK(pass->rows >= 1 && pass->rows <= acts->rows);
    CHECK(pass->segment_count >= 1);
    size_t rows = pass->rows;
    embed(pass);
    for (uint32_t i = 0; i < config->layer_count; i++) {
        const struct lm_layer_acts *layer = &acts->layers[i];
        float *next = i + 1 < config->layer_count ? acts->layers[i + 1].x : acts->x_out;
        layer_run(pass, i);
        quantise(net, pass->parallel, acts, layer->act, rows, config->ffn);
        /* final is free until the last layer is done: it holds the block's output. */
        project(pass, i, LM_DOWN, layer->act, acts->final);
        kernels_add(net->kernels, pass->parallel, rows * config->hidden, layer->mid, acts->final,
                    next);
    }
    kernels_rmsnorm(net->kernels, pass->parallel, rows, config->hidden, config->norm_epsilon,
                    acts->x_out, lm_net_vector(net, lm_tensor_norm(config)), acts->final,
                    acts->final_inv);
}

void lm_head(const struct lm_net *net, const struct parallel *parallel, struct lm_acts *acts,
             size_t count)
{
    quantise(net, parallel, acts, acts->head, count, net->config.hidden);
    base_product(net, parallel, acts, lm_tensor_head(&net->config), acts->head, count,
                 acts->logits);
}

/* Gradient at the logits of one block: to the head's weights and to the rows. */
static void head_backward(const struct lm_pass *pass, const struct lm_gradient *gradient,
                          size_t count)
{
    const struct lm_net *net = pass->net;
    const struct lm_acts *acts = pass->acts;
    size_t hidden = net->config.hidden;
    size_t vocab = net->config.vocab;
    if (gradient->head != NULL) {
        struct kernels_gemm weights = {.m = vocab,
                                       .n = hidden,
                                       .k = count,
                                       .a = {acts->logits, 1, vocab},
                                       .b = {acts->head, hidden, 1},
                                       .c = gradient->head,
                                       .c_stride = hidden,
                                       .accumulate = true};
        kernels_gemm(net->kernels, pass->parallel, &weights);
    }
    lm_base_back(pass, lm_tensor_head(&net->config), acts->logits, count, acts->head, false);
}

void lm_loss(const struct lm_pass *pass, const struct lm_targets *targets,
             const struct lm_gradient *gradient, float *out_loss)
{
    const struct lm_net *net = pass->net;
    const struct lm_acts *acts = pass->acts;
    size_t hidden = net->config.hidden;
    float weights[LM_HEAD_ROWS];
    for (size_t i = 0; i < LM_HEAD_ROWS; i++) {
        weights[i] = targets->weight;
    }
    if (gradient != NULL) {
        memset(acts->dnorm, 0, pass->rows * hidden * sizeof(float));
    }
    for (size_t first = 0; first < targets->count; first += LM_HEAD_ROWS) {
        size_t left = targets->count - first;
        size_t count = left < LM_HEAD_ROWS ? left : LM_HEAD_ROWS;
        for (size_t i = 0; i < count; i++) {
            memcpy(acts->head + i * hidden, acts->final + targets->rows[first + i] * hidden,
                   hidden * sizeof(float));
        }
        lm_head(net, pass->parallel, pass->acts, count);
        struct kernels_cross_entropy entropy = {
            .rows = count,
            .vocab = net->config.vocab,
            .logits = acts->logits,
            .stride = net->config.vocab,
            .targets = targets->ids + first,
            .weights = weights,
            .out_loss = out_loss + first,
            .out_dlogits = gradient == NULL ? NULL : acts->logits,
        };
        kernels_cross_entropy(net->kernels, pass->parallel, &entropy);
        if (gradient != NULL) {
            head_backward(pass, gradient, count);
            for (size_t i = 0; i < count; i++) {
                memcpy(acts->dnorm + targets->rows[first + i] * hidden, acts->head + i * hidden,
                       hidden * sizeof(float));
            }
        }
    }
}
/* NOLINTEND(readability-non-const-parameter,readability-function-size) */
