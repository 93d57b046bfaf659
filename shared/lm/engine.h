/* engine.h - inside lm: the network itself, forward and backward, over a batch of rows.
 *
 * Serving, training, evaluation and attribution all run these two functions, which is why their
 * numbers agree to the bit. Every sum in here is a kernel's; this file only says what is multiplied
 * with what, in which order.
 *
 * Not for other rooms: they include model.h, session.h, train.h, gradient.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "shared/base/err.h"
#include "shared/base/parallel.h"
#include "shared/lm/adapter.h"
#include "shared/lm/config.h"
#include "shared/lm/model.h"

#define LM_HEAD_ROWS 256U /* rows of logits held at once when the loss is computed */
#define LM_LORA_ROWS                                                                               \
    64U /* rows that go through a whole adapter at once: they stay in the L2 cache */
#define LM_PART_ROWS                                                                               \
    128U /* rows that go from attention to attention at once: the widest activations stay in the L2 cache */

/* Tensors of one layer: the seven projections, the two norms, then what only some architectures
 * have: biases of q, k, v (lm_has_bias), norms of query and key heads (lm_has_head_norms). */
enum {
    LM_NORM_ATTENTION = LM_PROJECTION_COUNT,
    LM_NORM_FFN,
    LM_BIAS_Q,
    LM_BIAS_K,
    LM_BIAS_V,
    LM_NORM_Q,
    LM_NORM_K,
    LM_LAYER_TENSORS
};

/* One tensor's place in the weight vector. Norms and biases are 1 x columns; what the architecture
 * does not have is 0 x 0. */
struct lm_tensor {
    size_t offset;        /* floats into the weight vector */
    size_t vector_offset; /* floats into vectors; not for matrices */
    uint32_t rows, columns;
    bool matrix; /* packed for products; decays in training */
};

/* One matrix W as products read it. */
struct lm_matrix {
    enum kernels_type type; /* of forward and back */
    const void *forward;    /* panels of W^T: y = x W^T; NULL under int8 */
    const void *back;       /* panels of W: dx = dy W; NULL: no gradients */
    const int8_t *codes;    /* int8 only */
    const uint16_t *scales;
};

/* Weights and tables. The weight vector holds: embedding; per layer q, k, v, o, gate, up, down,
 * attention norm, ffn norm, the biases and head norms there are; final norm; head unless tied.
 * A net whose weights are trained has the vector itself (values); a model's net has matrices and
 * vectors, packed once and never changed. */
struct lm_net {
    struct lm_config config;
    const struct kernels *kernels;
    struct lm_tensor *tensors;
    uint32_t tensor_count;
    size_t value_count, vector_count;
    enum lm_precision precision; /* LM_FP32 unless packed otherwise */
    float *values;               /* owned; NULL in a model */
    float *vectors;              /* norms and biases, owned */
    struct lm_matrix *matrices;  /* [tensor_count], owned; they point into memory */
    uint8_t *memory;             /* owned */
    size_t memory_size;
    float *cos, *sin; /* [context][head_dim / 2], owned */
};

/* Places tensors and computes rotary tables; no weights yet. kernels NULL: the best of this
 * machine. */
MUST_USE enum err lm_net_init(struct lm_net *net, const struct lm_config *config,
                              const struct kernels *kernels, struct note *note);
void lm_net_deinit(struct lm_net *net); /* a zeroed net is fine */

/* Packs views[tensor_count] (those of tensors that are 0 x 0 are not looked at) as how says and adds
 * every weight's fp32 bits, as stored, to sha. ERR_INVALID: a weight is not finite. */
struct lm_view;
struct sha256;
MUST_USE enum err lm_net_pack(struct lm_net *net, const struct lm_view *views,
                              const struct lm_load *how, struct sha256 *sha, struct note *note);

/* One row of a matrix in fp32, as products see it. */
void lm_net_row(const struct lm_net *net, uint32_t tensor, size_t row, float *out);

/* A norm's or bias's numbers. */
const float *lm_net_vector(const struct lm_net *net, uint32_t tensor);

static inline uint32_t lm_tensor_embed(void)
{
    return 0;
}
static inline uint32_t lm_tensor_layer(uint32_t layer, uint32_t which)
{
    return 1 + layer * (uint32_t)LM_LAYER_TENSORS + which;
}
static inline uint32_t lm_tensor_norm(const struct lm_config *config)
{
    return 1 + config->layer_count * (uint32_t)LM_LAYER_TENSORS;
}
static inline uint32_t lm_tensor_head(const struct lm_config *config)
{
    return config->tied ? lm_tensor_embed() : lm_tensor_norm(config) + 1;
}
/* The Hugging Face name, e.g. "model.layers.3.mlp.up_proj.weight". */
#define LM_TENSOR_NAME_SIZE 96
void lm_tensor_name(const struct lm_config *config, uint32_t tensor, char out[LM_TENSOR_NAME_SIZE]);

/* ---- adapters ---- */

struct lm_lora_module {
    const float *a, *b;              /* NULL: not adapted */
    enum kernels_type type;          /* of packed_a and packed_b */
    const void *packed_a, *packed_b; /* panels of A^T, B^T; NULL: pack on the fly */
    const float *back_a, *back_b;    /* panels of A, B, for gradients; NULL: pack on the fly */
    uint32_t in, out;
};

/* A view of an adapter vector. modules: [layer][projection], owned. */
struct lm_lora {
    uint32_t rank;
    float scale;
    struct lm_lora_module *modules;
};
MUST_USE enum err lm_lora_init(struct lm_lora *lora, const struct lm_config *config,
                               const struct lm_adapter_config *adapter, const float *vector);
void lm_lora_deinit(struct lm_lora *lora);

struct lm_adapter {
    struct lm_config base;
    struct lm_adapter_config config;
    struct digest digest;
    uint64_t size;
    float *vector;
    uint8_t *packed; /* all modules' panels, in the narrowest exact type */
    size_t packed_size;
    struct lm_lora lora;
};

struct lm_model {
    struct lm_net net;
    struct digest digest;
};
/* Makes a model of views, one per tensor of a net with this config. */
MUST_USE enum err lm_model_make(const struct lm_config *config, const struct lm_view *views,
                                const struct lm_load *how, struct lm_model **out,
                                struct note *note);

/* ---- memory ---- */

/* count floats for a training's large vectors, 64-byte aligned, not initialised; the caller frees them with
 * free(). From one huge page on they lie on huge pages, where the system has some to give: products walk
 * across rows, and would look up a page for every few lines. NULL: no memory. */
MUST_USE float *lm_floats_alloc(size_t count);

/* ---- activations ---- */

/* What one layer computes, row-major, one row per token. */
struct lm_layer_acts {
    float *x;                       /* residual stream before the layer */
    float *norm1, *inv1;            /* normalised input of attention */
    float *q, *k, *v;               /* after rotation */
    float *q_raw, *k_raw;           /* before the head norms; q and k when nothing is kept */
    float *q_inv, *k_inv;           /* of the head norms; kept only */
    float *attention, *stats;       /* mixed values; softmax statistics */
    float *mid;                     /* residual stream between attention and feed-forward */
    float *norm2, *inv2;            /* normalised input of the feed-forward block */
    float *gate, *up, *act;         /* act = silu(gate) * up */
    float *ax[LM_PROJECTION_COUNT]; /* adapter: A x */
};

/* What a forward pass leaves for a backward pass. */
enum lm_keep {
    LM_KEEP_NOTHING, /* all layers share one set of activations: no backward pass */
    LM_KEEP_LAYERS,  /* every layer keeps its own */
    LM_KEEP_INPUTS,  /* every layer keeps its input; the backward pass runs the layer again to fill
                        the one set they share: a third more products, the same bits */
};

/* Memory for `rows` rows: one allocation whose size follows from the config. */
struct lm_acts {
    size_t rows;
    enum lm_keep keep;
    uint32_t rank; /* widest A x that fits */
    float *memory; /* owned: everything below */
    struct lm_layer_acts *layers;
    float *x_out; /* residual stream after the last layer */
    float *final, *final_inv;
    uint32_t wide; /* room in a row of lora_u and codes: parts at different products do not meet */
    float *lora_u; /* B (A x), before scaling */
    float *head;   /* gathered rows for the head [LM_HEAD_ROWS x hidden] */
    float *logits; /* [LM_HEAD_ROWS x vocab] */
    int8_t *codes; /* int8: the input of the products at hand, quantised; else NULL */
    float *scales;
    /* backward only */
    float *dx, *dnorm, *dwide, *dq, *dk, *dv, *sdy, *db;
};
MUST_USE enum err lm_acts_init(struct lm_acts *acts, const struct lm_net *net, size_t rows,
                               uint32_t rank, enum lm_keep keep);
/* Bytes that lm_acts_init takes. */
uint64_t lm_acts_memory(const struct lm_net *net, size_t rows, uint32_t rank, enum lm_keep keep);
void lm_acts_deinit(struct lm_acts *acts); /* a zeroed one is fine */

/* ---- passes ---- */

/* Rows under one adapter (NULL: none), one after the other. Segments cover all rows in order. */
struct lm_segment {
    const struct lm_lora *lora;
    size_t row, count;
};

/* One sequence in the batch. With a cache its keys and values are appended there. */
struct lm_span {
    size_t row, count;
    size_t start; /* position of the first row */
    float *cache_k,
        *cache_v; /* [layer][capacity][kv width], or NULL: keys live in the activations */
    size_t capacity;
};

struct lm_pass {
    const struct lm_net *net;
    const struct parallel *parallel;
    struct lm_acts *acts;
    size_t rows;
    const uint32_t *tokens;    /* [rows] */
    const uint32_t *positions; /* [rows] */
    const struct lm_segment *segments;
    size_t segment_count;
    const struct lm_span *spans;
    size_t span_count;
    struct kernels_sequence *sequences; /* scratch, [span_count] */
};

/* Runs all layers and the final norm: acts->final has the rows for the head. */
void lm_forward(const struct lm_pass *pass);

/* Fills layer's activations from its input once more: the same bits as lm_forward's. The output of the
 * feed-forward block, which no gradient asks for, is not made again. */
void lm_layer_again(const struct lm_pass *pass, uint32_t layer);

/* acts->logits = acts->head W_head^T for its first `count` rows. */
void lm_head(const struct lm_net *net, const struct parallel *parallel, struct lm_acts *acts,
             size_t count);

/* What the backward pass fills. */
struct lm_gradient {
    float *weights; /* whole weight vector's gradient, continued; NULL: the base is frozen */
    float *head;    /* the head's gradient, continued; apart from the embedding's also when tied, so
                       that each stays one chain */
    /* Called for each adapted module, layers descending, with the whole batch's matrices. */
    void (*module)(void *context, uint32_t layer, enum lm_projection projection,
                   const struct lm_lora_module *module, const float *x, const float *ax,
                   const float *sdy, const float *db);
    void *context;
};

/* Which rows are judged, and how. */
struct lm_targets {
    const uint32_t *rows; /* [count], ascending */
    const int32_t *ids;   /* [count], the token to predict */
    size_t count;
    float weight; /* factor of every loss in the gradient */
};

/* After lm_forward: losses of the judged rows (out_loss[count]); with gradient, the gradient at
 * acts->final goes to acts->dnorm (zero for other rows). */
void lm_loss(const struct lm_pass *pass, const struct lm_targets *targets,
             const struct lm_gradient *gradient, float *out_loss);

/* dx[rows x in] (+)= dy[rows x out] W for one of the net's matrices. */
void lm_base_back(const struct lm_pass *pass, uint32_t tensor, const float *dy, size_t rows,
                  float *dx, bool accumulate);

/* After lm_loss with a gradient: back through everything. One segment only. Destroys activations. */
void lm_backward(const struct lm_pass *pass, const struct lm_gradient *gradient);
