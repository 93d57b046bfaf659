/* backward.c - the backward pass. See engine.h.
 *
 * Order of every sum that has several sources: a norm's input gradient is q's product continued by
 * k's and v's (gate's by up's); each product is followed by its adapter's. A weight gradient
 * continues the chain of the rows before, so micro-batches cannot show. */
#include <math.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/lm/engine.h"

/* Outputs travel inside the kernels' argument structs, and a product has many parts: NOLINTBEGIN(readability-non-const-parameter,readability-function-size) */

void lm_base_back(const struct lm_pass *pass, uint32_t tensor, const float *dy, size_t rows,
                  float *dx, bool accumulate)
{
    const struct lm_net *net = pass->net;
    const struct lm_tensor *w = &net->tensors[tensor];
    if (net->values != NULL) {
        struct kernels_gemm plain = {.m = rows,
                                     .n = w->columns,
                                     .k = w->rows,
                                     .a = {dy, w->rows, 1},
                                     .b = {net->values + w->offset, w->columns, 1},
                                     .c = dx,
                                     .c_stride = w->columns,
                                     .accumulate = accumulate};
        kernels_gemm(net->kernels, pass->parallel, &plain);
        return;
    }
    CHECK(net->matrices[tensor].back != NULL);
    struct kernels_gemm gemm = {.m = rows,
                                .n = w->columns,
                                .k = w->rows,
                                .a = {dy, w->rows, 1},
                                .packed = net->matrices[tensor].back,
                                .type = net->matrices[tensor].type,
                                .c = dx,
                                .c_stride = w->columns,
                                .accumulate = accumulate};
    kernels_gemm(net->kernels, pass->parallel, &gemm);
}

struct lora_back {
    const struct lm_pass *pass;
    const struct lm_lora_module *module;
    const float *dy;
    float *dx; /* NULL: not wanted */
};

/* sdy = scale dy, db = sdy B, dx += db A for LM_LORA_ROWS rows. */
static void lora_back_task(void *argument, uint32_t index)
{
    const struct lora_back *job = argument;
    const struct lm_lora_module *module = job->module;
    const struct lm_acts *acts = job->pass->acts;
    const struct kernels *kernels = job->pass->net->kernels;
    const struct lm_lora *lora = job->pass->segments[0].lora;
    const size_t first = (size_t)index * LM_LORA_ROWS;
    const size_t left = job->pass->rows - first;
    const size_t rows = left < LM_LORA_ROWS ? left : LM_LORA_ROWS;
    float *sdy = acts->sdy + first * module->out;
    float *db = acts->db + first * lora->rank;
    kernels_scale(kernels, &parallel_serial, rows * module->out, lora->scale,
                  job->dy + first * module->out, sdy);
    struct kernels_gemm through_b = {.m = rows,
                                     .n = lora->rank,
                                     .k = module->out,
                                     .a = {sdy, module->out, 1},
                                     .b = {module->b, lora->rank, 1},
                                     .packed = module->back_b,
                                     .c = db,
                                     .c_stride = lora->rank};
    kernels_gemm(kernels, &parallel_serial, &through_b);
    if (job->dx == NULL) {
        return;
    }
    struct kernels_gemm through_a = {.m = rows,
                                     .n = module->in,
                                     .k = lora->rank,
                                     .a = {db, lora->rank, 1},
                                     .b = {module->a, module->in, 1},
                                     .packed = module->back_a,
                                     .c = job->dx + first * module->in,
                                     .c_stride = module->in,
                                     .accumulate = true};
    kernels_gemm(kernels, &parallel_serial, &through_a);
}

/* From the gradient dy at a projection's output: weight and adapter gradients, and, when dx is not
 * NULL, the gradient at its input (added when accumulate). */
static void project_back(const struct lm_pass *pass, const struct lm_gradient *gradient,
                         uint32_t layer, enum lm_projection projection, const float *x,
                         const float *dy, float *dx, bool accumulate)
{
    const struct lm_net *net = pass->net;
    const struct lm_acts *acts = pass->acts;
    const struct lm_tensor *w = &net->tensors[lm_tensor_layer(layer, projection)];
    size_t rows = pass->rows;
    if (gradient->weights != NULL) {
        struct kernels_gemm gemm = {.m = w->rows,
                                    .n = w->columns,
                                    .k = rows,
                                    .a = {dy, 1, w->rows},
                                    .b = {x, w->columns, 1},
                                    .c = gradient->weights + w->offset,
                                    .c_stride = w->columns,
                                    .accumulate = true};
        kernels_gemm(net->kernels, pass->parallel, &gemm);
    }
    if (dx != NULL) {
        lm_base_back(pass, lm_tensor_layer(layer, projection), dy, rows, dx, accumulate);
    }
    const struct lm_lora *lora = pass->segments[0].lora;
    if (lora == NULL || lora->modules[layer * LM_PROJECTION_COUNT + projection].a == NULL) {
        return;
    }
    const struct lm_lora_module *module = &lora->modules[layer * LM_PROJECTION_COUNT + projection];
    struct lora_back job = {pass, module, dy, dx};
    pass->parallel->run(pass->parallel->context,
                        (uint32_t)((rows + LM_LORA_ROWS - 1) / LM_LORA_ROWS), lora_back_task, &job);
    if (gradient->module != NULL) {
        gradient->module(gradient->context, layer, projection, module, x,
                         acts->layers[layer].ax[projection], acts->sdy, acts->db);
    }
}

/* Through a norm into the residual stream: dx += ... */
static void norm_back(const struct lm_pass *pass, const struct lm_gradient *gradient,
                      uint32_t tensor, const float *x, const float *inv, bool accumulate)
{
    const struct lm_net *net = pass->net;
    size_t offset = net->tensors[tensor].offset;
    struct kernels_rmsnorm_backward args = {
        .rows = pass->rows,
        .width = net->config.hidden,
        .x = x,
        .weight = lm_net_vector(net, tensor),
        .inv = inv,
        .dy = pass->acts->dnorm,
        .dx = pass->acts->dx,
        .accumulate = accumulate,
        .dweight = gradient->weights == NULL ? NULL : gradient->weights + offset,
    };
    kernels_rmsnorm_backward(net->kernels, pass->parallel, &args);
}

static void rotate_back(const struct lm_pass *pass, float *x, uint32_t heads)
{
    const struct lm_net *net = pass->net;
    struct kernels_rope rope = {.rows = pass->rows,
                                .head_count = heads,
                                .head_dim = net->config.head_dim,
                                .x = x,
                                .stride = (size_t)heads * net->config.head_dim,
                                .positions = pass->positions,
                                .cos = net->cos,
                                .sin = net->sin,
                                .inverse = true};
    kernels_rope(net->kernels, pass->parallel, &rope);
}

/* Through the head norms, in place. Their weights are frozen (lm_trainer_create_full). */
static void heads_norm_back(const struct lm_pass *pass, const float *weight, uint32_t heads,
                            const float *raw, const float *inv, float *dx)
{
    struct kernels_rmsnorm_backward args = {.rows = pass->rows * heads,
                                            .width = pass->net->config.head_dim,
                                            .x = raw,
                                            .weight = weight,
                                            .inv = inv,
                                            .dy = dx,
                                            .dx = dx};
    kernels_rmsnorm_backward(pass->net->kernels, pass->parallel, &args);
}

/* From dwide (gradient at the mixed values) to dq, dk, dv of the projections. */
static void attend_back(const struct lm_pass *pass, uint32_t layer)
{
    const struct lm_config *config = &pass->net->config;
    const struct lm_acts *acts = pass->acts;
    const struct lm_layer_acts *saved = &acts->layers[layer];
    size_t query = lm_query_width(config);
    size_t width = lm_kv_width(config);
    for (size_t i = 0; i < pass->span_count; i++) {
        const struct lm_span *span = &pass->spans[i];
        size_t q_row = span->row * query;
        size_t kv_row = span->row * width;
        pass->sequences[i] = (struct kernels_sequence){
            .row_count = span->count,
            .start = 0,
            .q = saved->q + q_row,
            .k = saved->k + kv_row,
            .v = saved->v + kv_row,
            .out = saved->attention + q_row,
            .stats = saved->stats + span->row * config->head_count * 2,
            .dout = acts->dwide + q_row,
            .dq = acts->dq + q_row,
            .dk = acts->dk + kv_row,
            .dv = acts->dv + kv_row,
        };
    }
    struct kernels_attention attention = {
        .head_count = config->head_count,
        .kv_head_count = config->kv_head_count,
        .head_dim = config->head_dim,
        .scale = 1.0F / sqrtf((float)config->head_dim),
        .q_stride = query,
        .kv_stride = width,
        .out_stride = query,
        .sequences = pass->sequences,
        .sequence_count = pass->span_count,
    };
    kernels_attention_backward(pass->net->kernels, pass->parallel, &attention);
    rotate_back(pass, acts->dq, config->head_count);
    rotate_back(pass, acts->dk, config->kv_head_count);
    if (lm_has_head_norms(config)) {
        const struct lm_net *net = pass->net;
        const float *norm_q = lm_net_vector(net, lm_tensor_layer(layer, LM_NORM_Q));
        const float *norm_k = lm_net_vector(net, lm_tensor_layer(layer, LM_NORM_K));
        heads_norm_back(pass, norm_q, config->head_count, saved->q_raw, saved->q_inv, acts->dq);
        heads_norm_back(pass, norm_k, config->kv_head_count, saved->k_raw, saved->k_inv, acts->dk);
    }
}

static void layer_back(const struct lm_pass *pass, const struct lm_gradient *gradient,
                       uint32_t layer)
{
    const struct lm_net *net = pass->net;
    const struct lm_acts *acts = pass->acts;
    const struct lm_layer_acts *saved = &acts->layers[layer];
    project_back(pass, gradient, layer, LM_DOWN, saved->act, acts->dx, acts->dwide, false);
    kernels_swiglu_backward(net->kernels, pass->parallel, pass->rows * net->config.ffn, saved->gate,
                            saved->up, acts->dwide, saved->gate, saved->up);
    project_back(pass, gradient, layer, LM_GATE, saved->norm2, saved->gate, acts->dnorm, false);
    project_back(pass, gradient, layer, LM_UP, saved->norm2, saved->up, acts->dnorm, true);
    norm_back(pass, gradient, lm_tensor_layer(layer, LM_NORM_FFN), saved->mid, saved->inv2, true);
    project_back(pass, gradient, layer, LM_O, saved->attention, acts->dx, acts->dwide, false);
    attend_back(pass, layer);
    /* Under a frozen base nobody asks for the gradient at the embedding. */
    bool wanted = layer > 0 || gradient->weights != NULL;
    float *dnorm = wanted ? acts->dnorm : NULL;
    project_back(pass, gradient, layer, LM_Q, saved->norm1, acts->dq, dnorm, false);
    project_back(pass, gradient, layer, LM_K, saved->norm1, acts->dk, dnorm, true);
    project_back(pass, gradient, layer, LM_V, saved->norm1, acts->dv, dnorm, true);
    if (wanted) {
        norm_back(pass, gradient, lm_tensor_layer(layer, LM_NORM_ATTENTION), saved->x, saved->inv1,
                  true);
    }
}

void lm_backward(const struct lm_pass *pass, const struct lm_gradient *gradient)
{
    const struct lm_net *net = pass->net;
    const struct lm_acts *acts = pass->acts;
    CHECK(acts->keep != LM_KEEP_NOTHING);
    CHECK(pass->segment_count == 1);
    norm_back(pass, gradient, lm_tensor_norm(&net->config), acts->x_out, acts->final_inv, false);
    for (uint32_t layer = net->config.layer_count; layer-- > 0;) {
        /* The last layer's activations are still what the forward pass left. */
        if (acts->keep == LM_KEEP_INPUTS && layer + 1 < net->config.layer_count) {
            lm_layer_again(pass, layer);
        }
        layer_back(pass, gradient, layer);
    }
    if (gradient->weights != NULL) {
        kernels_embed_backward(net->kernels, pass->parallel, pass->rows, net->config.hidden,
                               pass->tokens, acts->dx,
                               gradient->weights + net->tensors[lm_tensor_embed()].offset);
    }
}
/* NOLINTEND(readability-non-const-parameter,readability-function-size) */
