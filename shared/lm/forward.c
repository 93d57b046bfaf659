/* forward.c - the forward pass and the head. See engine.h.
 *
 * Attention and every adapter see only their own rows; the base's matrices take all rows at once.
 * A row's numbers are chains of its own, so who shares the batch cannot matter. */
#include <math.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/lm/engine.h"

/* Outputs travel inside the kernels' argument structs, and a product has many parts: NOLINTBEGIN(readability-non-const-parameter,readability-function-size) */

/* Rows [row, row + count) of a pass, taken through products and norms together. What is asked for neither by
 * another layer nor by a backward pass lies at rows from `at` on of its activations. */
struct part {
    const struct lm_pass *pass;
    const struct parallel *parallel; /* serial where several parts run at once */
    size_t row, count;
    size_t at; /* row, unless nothing is kept: then parts that follow each other share memory */
};

static const float *weight_of(const struct lm_net *net, uint32_t layer, uint32_t which)
{
    return lm_net_vector(net, lm_tensor_layer(layer, which));
}

/* What products multiply a matrix with. */
struct input {
    const float *x;      /* rows x width */
    const int8_t *codes; /* int8: the same, quantised once for all products that follow */
    const float *scales;
    size_t rows;
};

/* Codes of the rows go to row `at` of the activations' codes. */
static struct input input_make(const struct lm_net *net, const struct parallel *parallel,
                               const struct lm_acts *acts, size_t at, const float *x, size_t rows,
                               size_t width)
{
    struct input input = {.x = x, .rows = rows};
    if (net->precision == LM_INT8) {
        const size_t blocks = kernels_quant_blocks(acts->wide);
        int8_t *codes = acts->codes + at * blocks * KERNELS_QUANT;
        float *scales = acts->scales + at * blocks;
        kernels_quantize(net->kernels, parallel, rows, width, x, width, codes, scales);
        input.codes = codes;
        input.scales = scales;
    }
    return input;
}

static struct input part_input(const struct part *part, const float *x, size_t width)
{
    return input_make(part->pass->net, part->parallel, part->pass->acts, part->at, x, part->count,
                      width);
}

/* y[rows x out] = x W^T. */
static void base_product(const struct lm_net *net, const struct parallel *parallel, uint32_t tensor,
                         const struct input *input, float *y)
{
    const struct lm_tensor *w = &net->tensors[tensor];
    const struct lm_matrix *matrix = net->values == NULL ? &net->matrices[tensor] : NULL;
    if (net->precision == LM_INT8) {
        CHECK(matrix != NULL); /* weights that are trained are fp32 */
        struct kernels_gemm_int8 gemm = {
            .m = input->rows,
            .n = w->rows,
            .k = w->columns,
            .x_codes = input->codes,
            .x_scales = input->scales,
            .w_codes = matrix->codes,
            .w_scales = matrix->scales,
            .c = y,
            .c_stride = w->rows,
        };
        kernels_gemm_int8(net->kernels, parallel, &gemm);
        return;
    }
    struct kernels_gemm gemm = {
        .m = input->rows,
        .n = w->rows,
        .k = w->columns,
        .a = {input->x, w->columns, 1},
        .b = {net->values == NULL ? NULL : net->values + w->offset, 1, w->columns},
        .packed = matrix == NULL ? NULL : matrix->forward,
        .type = matrix == NULL ? KERNELS_F32 : matrix->type,
        .c = y,
        .c_stride = w->rows,
    };
    kernels_gemm(net->kernels, parallel, &gemm);
}

/* ax[count x rank] = A x. */
static void lora_down(const struct lm_net *net, const struct parallel *parallel,
                      const struct lm_lora *lora, const struct lm_lora_module *module, size_t count,
                      const float *x, float *ax)
{
    struct kernels_gemm down = {
        .m = count,
        .n = lora->rank,
        .k = module->in,
        .a = {x, module->in, 1},
        .b = {module->a, 1, module->in},
        .packed = module->packed_a,
        .type = module->type,
        .c = ax,
        .c_stride = lora->rank,
    };
    kernels_gemm(net->kernels, parallel, &down);
}

/* One product of a part with its adapters. */
struct lora_work {
    const struct part *part;
    uint32_t module; /* index into lora->modules */
    const float *x;  /* these two from the part's first row on */
    float *y;
    float *ax; /* of the whole pass */
};

static const struct lm_lora_module *segment_module(const struct lm_segment *segment,
                                                   uint32_t module)
{
    if (segment->lora == NULL || segment->lora->modules[module].a == NULL) {
        return NULL;
    }
    return &segment->lora->modules[module];
}

/* y += scale * (B (A x)) for `count` rows of the part from its row `first` on: at most LM_LORA_ROWS. */
static void lora_rows(const struct lora_work *work, const struct lm_lora *lora, size_t first,
                      size_t count)
{
    const struct lm_net *net = work->part->pass->net;
    const struct lm_acts *acts = work->part->pass->acts;
    const struct lm_lora_module *module = &lora->modules[work->module];
    const size_t at = work->part->at + first;
    /* Segments may differ in rank, so each row has room for the widest; a backward pass knows one rank. */
    float *ax = work->ax + at * (acts->keep == LM_KEEP_NOTHING ? acts->rank : lora->rank);
    float *u = acts->lora_u + at * acts->wide;
    lora_down(net, &parallel_serial, lora, module, count, work->x + first * module->in, ax);
    struct kernels_gemm up = {
        .m = count,
        .n = module->out,
        .k = lora->rank,
        .a = {ax, lora->rank, 1},
        .b = {module->b, 1, lora->rank},
        .packed = module->packed_b,
        .type = module->type,
        .c = u,
        .c_stride = module->out,
    };
    kernels_gemm(net->kernels, &parallel_serial, &up);
    kernels_axpy(net->kernels, &parallel_serial, count * module->out, lora->scale, u,
                 work->y + first * module->out);
}

/* Piece `index` of the part, all of it under one adapter. */
static void lora_piece_task(void *argument, uint32_t index)
{
    const struct lora_work *work = argument;
    const size_t first = (size_t)index * LM_LORA_ROWS;
    const size_t left = work->part->count - first;
    lora_rows(work, work->part->pass->segments[0].lora, first,
              left < LM_LORA_ROWS ? left : LM_LORA_ROWS);
}

/* The rows of segment `index` that are in the part. */
static void lora_segment_task(void *argument, uint32_t index)
{
    const struct lora_work *work = argument;
    const struct part *part = work->part;
    const struct lm_segment *segment = &part->pass->segments[index];
    const size_t part_end = part->row + part->count;
    const size_t segment_end = segment->row + segment->count;
    const size_t end = part_end < segment_end ? part_end : segment_end;
    size_t row = part->row > segment->row ? part->row : segment->row;
    if (segment_module(segment, work->module) == NULL) {
        return;
    }
    for (; row < end; row += LM_LORA_ROWS) {
        lora_rows(work, segment->lora, row - part->row,
                  end - row < LM_LORA_ROWS ? end - row : LM_LORA_ROWS);
    }
}

/* y += bias, row by row. */
static void bias_add(const struct part *part, uint32_t layer, uint32_t which, float *y)
{
    const struct lm_net *net = part->pass->net;
    const struct lm_tensor *bias = &net->tensors[lm_tensor_layer(layer, which)];
    const float *values = weight_of(net, layer, which);
    for (size_t row = 0; row < part->count; row++) {
        float *to = y + row * bias->columns;
        kernels_add(net->kernels, &parallel_serial, bias->columns, to, values, to);
    }
}

/* y = (W x + bias) + scale * (B (A x)), the one order of rounding everywhere. */
static void project(const struct part *part, uint32_t layer, enum lm_projection projection,
                    const struct input *input, float *y)
{
    const struct lm_pass *pass = part->pass;
    const struct parallel *parallel = part->parallel;
    base_product(pass->net, parallel, lm_tensor_layer(layer, projection), input, y);
    if (projection <= LM_V && lm_has_bias(&pass->net->config)) {
        bias_add(part, layer, LM_BIAS_Q + (uint32_t)projection, y);
    }
    struct lora_work work = {.part = part,
                             .module = layer * LM_PROJECTION_COUNT + projection,
                             .x = input->x,
                             .y = y,
                             .ax = pass->acts->layers[layer].ax[projection]};
    const size_t pieces = (part->count + LM_LORA_ROWS - 1) / LM_LORA_ROWS;
    if (pass->segment_count > 1) {
        parallel->run(parallel->context, (uint32_t)pass->segment_count, lora_segment_task, &work);
    } else if (segment_module(&pass->segments[0], work.module) != NULL) {
        parallel->run(parallel->context, (uint32_t)pieces, lora_piece_task, &work);
    }
}

static void rotate(const struct part *part, float *x, uint32_t heads)
{
    const struct lm_net *net = part->pass->net;
    struct kernels_rope rope = {.rows = part->count,
                                .head_count = heads,
                                .head_dim = net->config.head_dim,
                                .x = x,
                                .stride = (size_t)heads * net->config.head_dim,
                                .positions = part->pass->positions + part->row,
                                .cos = net->cos,
                                .sin = net->sin};
    kernels_rope(net->kernels, part->parallel, &rope);
}

/* Every head of x by itself; inv may be NULL. */
static void heads_norm(const struct part *part, const float *weight, uint32_t heads, const float *x,
                       float *y, float *inv)
{
    const struct lm_net *net = part->pass->net;
    kernels_rmsnorm(net->kernels, part->parallel, part->count * heads, net->config.head_dim,
                    net->config.norm_epsilon, x, weight, y,
                    inv == NULL ? NULL : inv + part->row * heads);
}

/* The tokens' rows of the embedding. */
static void embed(const struct part *part)
{
    const struct lm_net *net = part->pass->net;
    const uint32_t *tokens = part->pass->tokens + part->row;
    size_t hidden = net->config.hidden;
    float *x = part->pass->acts->layers[0].x + part->row * hidden;
    if (net->values != NULL) {
        kernels_embed(net->kernels, part->parallel, part->count, hidden,
                      net->values + net->tensors[lm_tensor_embed()].offset, tokens, x);
        return;
    }
    for (size_t row = 0; row < part->count; row++) {
        lm_net_row(net, lm_tensor_embed(), tokens[row], x + row * hidden);
    }
}

/* Appends the part's keys and values of one layer to the sessions' caches. */
static void cache_append(const struct part *part, uint32_t layer)
{
    const struct lm_pass *pass = part->pass;
    const struct lm_layer_acts *acts = &pass->acts->layers[layer];
    const size_t width = lm_kv_width(&pass->net->config);
    const size_t part_end = part->row + part->count;
    for (size_t i = 0; i < pass->span_count; i++) {
        const struct lm_span *span = &pass->spans[i];
        const size_t row = part->row > span->row ? part->row : span->row;
        const size_t span_end = span->row + span->count;
        const size_t end = part_end < span_end ? part_end : span_end;
        if (span->cache_k == NULL || row >= end) {
            continue;
        }
        CHECK(span->start + span->count <= span->capacity);
        const size_t to = (size_t)layer * span->capacity + span->start + row - span->row;
        const size_t size = (end - row) * width * sizeof(float);
        memcpy(span->cache_k + to * width, acts->k + row * width, size);
        memcpy(span->cache_v + to * width, acts->v + row * width, size);
    }
}

/* A layer from its input x to queries, keys and values. */
static void layer_enter(const struct part *part, uint32_t i)
{
    const struct lm_net *net = part->pass->net;
    const struct lm_config *config = &net->config;
    const struct lm_layer_acts *layer = &part->pass->acts->layers[i];
    const size_t query = part->row * lm_query_width(config);
    const size_t key = part->row * lm_kv_width(config);
    float *norm1 = layer->norm1 + part->at * config->hidden;
    kernels_rmsnorm(net->kernels, part->parallel, part->count, config->hidden, config->norm_epsilon,
                    layer->x + part->row * config->hidden, weight_of(net, i, LM_NORM_ATTENTION),
                    norm1, layer->inv1 + part->at);
    const struct input input = part_input(part, norm1, config->hidden);
    project(part, i, LM_Q, &input, layer->q_raw + query);
    project(part, i, LM_K, &input, layer->k_raw + key);
    project(part, i, LM_V, &input, layer->v + key);
    if (lm_has_head_norms(config)) {
        heads_norm(part, weight_of(net, i, LM_NORM_Q), config->head_count, layer->q_raw + query,
                   layer->q + query, layer->q_inv);
        heads_norm(part, weight_of(net, i, LM_NORM_K), config->kv_head_count, layer->k_raw + key,
                   layer->k + key, layer->k_inv);
    }
    rotate(part, layer->q + query, config->head_count);
    rotate(part, layer->k + key, config->kv_head_count);
    cache_append(part, i);
}

/* Attention of all rows, each over its own sequence. */
static void attend(const struct lm_pass *pass, uint32_t layer)
{
    const struct lm_config *config = &pass->net->config;
    const struct lm_layer_acts *acts = &pass->acts->layers[layer];
    const size_t query = lm_query_width(config);
    const size_t width = lm_kv_width(config);
    for (size_t i = 0; i < pass->span_count; i++) {
        const struct lm_span *span = &pass->spans[i];
        const size_t cached = (size_t)layer * span->capacity * width;
        const bool cache = span->cache_k != NULL;
        pass->sequences[i] = (struct kernels_sequence){
            .row_count = span->count,
            .start = span->start,
            .q = acts->q + span->row * query,
            .k = cache ? span->cache_k + cached : acts->k + span->row * width,
            .v = cache ? span->cache_v + cached : acts->v + span->row * width,
            .out = acts->attention + span->row * query,
            .stats = acts->stats == NULL ? NULL : acts->stats + span->row * config->head_count * 2,
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
    kernels_attention(pass->net->kernels, pass->parallel, &attention);
}

/* A layer from the mixed values to the input of its last product, act. */
static void layer_mix(const struct part *part, uint32_t i)
{
    const struct lm_net *net = part->pass->net;
    const struct lm_config *config = &net->config;
    const struct lm_layer_acts *layer = &part->pass->acts->layers[i];
    const size_t query = lm_query_width(config);
    const size_t hidden = config->hidden;
    const size_t wide = part->at * config->ffn;
    float *mid = layer->mid + part->row * hidden;
    float *norm2 = layer->norm2 + part->at * hidden;
    /* norm2 is free at this moment: it holds the block's output. */
    struct input input = part_input(part, layer->attention + part->row * query, query);
    project(part, i, LM_O, &input, norm2);
    kernels_add(net->kernels, part->parallel, part->count * hidden, layer->x + part->row * hidden,
                norm2, mid);
    kernels_rmsnorm(net->kernels, part->parallel, part->count, hidden, config->norm_epsilon, mid,
                    weight_of(net, i, LM_NORM_FFN), norm2, layer->inv2 + part->at);
    input = part_input(part, norm2, hidden);
    project(part, i, LM_GATE, &input, layer->gate + wide);
    project(part, i, LM_UP, &input, layer->up + wide);
    kernels_swiglu(net->kernels, part->parallel, part->count * config->ffn, layer->gate + wide,
                   layer->up + wide, layer->act + wide);
}

/* From the mixed values of one layer to queries, keys and values of the next one. */
static void layer_leave(const struct part *part, uint32_t i)
{
    const struct lm_net *net = part->pass->net;
    const struct lm_acts *acts = part->pass->acts;
    const struct lm_layer_acts *layer = &acts->layers[i];
    const size_t hidden = net->config.hidden;
    const bool last = i + 1 == net->config.layer_count;
    float *next = last ? acts->x_out : acts->layers[i + 1].x;
    /* final is free until the last layer is done: it holds the block's output. */
    float *out = acts->final + part->at * hidden;
    layer_mix(part, i);
    const struct input input =
        part_input(part, layer->act + part->at * net->config.ffn, net->config.ffn);
    project(part, i, LM_DOWN, &input, out);
    kernels_add(net->kernels, part->parallel, part->count * hidden, layer->mid + part->row * hidden,
                out, next + part->row * hidden);
    if (!last) {
        layer_enter(part, i + 1);
    }
}

static void first_enter(const struct part *part, uint32_t layer)
{
    embed(part);
    layer_enter(part, layer);
}

/* Rows in shares, each on one worker, which takes them through `work` a part at a time. */
struct shares {
    const struct lm_pass *pass;
    void (*work)(const struct part *part, uint32_t layer);
    uint32_t layer;
    size_t share, part; /* rows */
};

static void share_task(void *argument, uint32_t index)
{
    const struct shares *shares = argument;
    const struct lm_pass *pass = shares->pass;
    const size_t begin = index * shares->share;
    const size_t end = pass->rows - begin < shares->share ? pass->rows : begin + shares->share;
    for (size_t row = begin; row < end; row += shares->part) {
        const struct part part = {
            .pass = pass,
            .parallel = &parallel_serial,
            .row = row,
            .count = end - row < shares->part ? end - row : shares->part,
            .at = pass->acts->keep == LM_KEEP_NOTHING ? begin : row,
        };
        shares->work(&part, shares->layer);
    }
}

static size_t divide_up(size_t count, size_t by)
{
    return (count + by - 1) / by;
}

/* Does `work` for all rows. Many rows go part by part, so that what one step leaves the next one finds in
 * the cache, and so that workers meet only where attention mixes rows. Few rows are one part, whose
 * products all workers share by columns; so are all rows under weights that are not packed, which each
 * product would pack again. */
static void rows_run(const struct lm_pass *pass,
                     void (*work)(const struct part *part, uint32_t layer), uint32_t layer)
{
    const size_t workers = pass->parallel->worker_count;
    if (pass->net->values != NULL || pass->rows < workers * LM_PART_ROWS) {
        const struct part all = {.pass = pass, .parallel = pass->parallel, .count = pass->rows};
        work(&all, layer);
        return;
    }
    const size_t pieces = divide_up(pass->rows, 16);
    struct shares shares = {.pass = pass, .work = work, .layer = layer};
    shares.share = divide_up(pieces, workers == 1 ? 1 : 2 * workers) * 16; /* one may be slowed */
    shares.part = divide_up(shares.share / 16, divide_up(shares.share, LM_PART_ROWS)) * 16;
    pass->parallel->run(pass->parallel->context, (uint32_t)divide_up(pass->rows, shares.share),
                        share_task, &shares);
}

void lm_layer_again(const struct lm_pass *pass, uint32_t layer)
{
    CHECK(pass->segment_count == 1);
    const struct lm_layer_acts *acts = &pass->acts->layers[layer];
    const struct lm_segment *segment = &pass->segments[0];
    rows_run(pass, layer_enter, layer);
    attend(pass, layer);
    rows_run(pass, layer_mix, layer);
    const struct lm_lora_module *down =
        segment_module(segment, layer * LM_PROJECTION_COUNT + LM_DOWN);
    if (down != NULL) {
        lora_down(pass->net, pass->parallel, segment->lora, down, segment->count, acts->act,
                  acts->ax[LM_DOWN]);
    }
}

void lm_forward(const struct lm_pass *pass)
{
    const struct lm_net *net = pass->net;
    const struct lm_config *config = &net->config;
    struct lm_acts *acts = pass->acts;
    CHECK(pass->rows >= 1 && pass->rows <= acts->rows);
    CHECK(pass->segment_count >= 1);
    rows_run(pass, first_enter, 0);
    for (uint32_t i = 0; i < config->layer_count; i++) {
        attend(pass, i);
        rows_run(pass, layer_leave, i);
    }
    kernels_rmsnorm(net->kernels, pass->parallel, pass->rows, config->hidden, config->norm_epsilon,
                    acts->x_out, lm_net_vector(net, lm_tensor_norm(config)), acts->final,
                    acts->final_inv);
}

void lm_head(const struct lm_net *net, const struct parallel *parallel, struct lm_acts *acts,
             size_t count)
{
    const struct input input =
        input_make(net, parallel, acts, 0, acts->head, count, net->config.hidden);
    base_product(net, parallel, lm_tensor_head(&net->config), &input, acts->logits);
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
