/* backend.h - the table that a backend fills in. For kernels/ only; users include kernels.h.
 *
 * Every function computes a part of the outputs on the caller's thread; kernels.c splits the work.
 * The meaning of each is the one of its namesake in kernels.h. Ranges are [begin, end). */
#pragma once

#include "kernels/kernels.h"

struct kernels_range {
    size_t begin, end;
};

/* What AdamW derives from its settings and the step, rounded once each. */
struct kernels_adamw_factors {
    float decay;        /* 1 - rate * weight_decay */
    float rate;         /* -(rate / c1) */
    float root;         /* sqrt(c2) */
    float gain1, gain2; /* 1 - beta1, 1 - beta2 */
};

struct kernels {
    const char *name;
    bool (*supported)(void);            /* by this machine */
    void (*explain)(struct note *note); /* why it is not; NULL: the CPU lacks instructions */
    enum err (*keep)(const void *data, size_t size, struct note *note); /* NULL: nothing to do */
    void (*forget)(const void *data);                                   /* NULL as keep is */

    /* columns.begin is a multiple of KERNELS_PANEL. */
    void (*gemm)(const struct kernels_gemm *gemm, struct kernels_range rows,
                 struct kernels_range columns);
    void (*pack)(size_t k, size_t n, struct kernels_matrix b, struct kernels_range panels,
                 float *packed);

    void (*pack16)(size_t k, size_t n, struct kernels_matrix16 b, struct kernels_range panels,
                   uint16_t *packed);
    void (*quantize)(size_t k, const float *x, int8_t *codes, float *scales); /* one row */
    /* columns.begin is a multiple of KERNELS_PANEL. */
    void (*gemm_int8)(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                      struct kernels_range columns);

    /* Rows whose position / KERNELS_BLOCK is block, for the query heads of one key-value head. */
    void (*attention)(const struct kernels_attention *attention,
                      const struct kernels_sequence *sequence, uint32_t kv_head, size_t block);
    void (*attention_backward)(const struct kernels_attention *attention,
                               const struct kernels_sequence *sequence, uint32_t kv_head);

    void (*rmsnorm)(struct kernels_range rows, size_t width, float eps, const float *x,
                    const float *weight, float *y, float *inv);
    void (*rmsnorm_dx)(const struct kernels_rmsnorm_backward *args, struct kernels_range rows);
    void (*rmsnorm_dweight)(const struct kernels_rmsnorm_backward *args,
                            struct kernels_range columns);
    void (*rope)(const struct kernels_rope *args, struct kernels_range rows);
    void (*cross_entropy)(const struct kernels_cross_entropy *args, struct kernels_range rows);
    void (*swiglu)(size_t count, const float *gate, const float *up, float *out);
    void (*swiglu_backward)(size_t count, const float *gate, const float *up, const float *dy,
                            float *dgate, float *dup);
    void (*add)(size_t count, const float *a, const float *b, float *out);
    void (*scale)(size_t count, float scale, const float *x, float *out);
    void (*axpy)(size_t count, float scale, const float *x, float *y);
    void (*exp)(size_t count, const float *x, float *out);
    void (*adamw)(const struct kernels_adamw *args, const struct kernels_adamw_factors *factors,
                  struct kernels_range range);
    float (*sum)(size_t count, const float *x);
    float (*sum_squares)(size_t count, const float *x); /* one lane sum */
    float (*max)(size_t count, const float *x);
    bool (*all_finite)(size_t count, const float *x);
};

extern const struct kernels kernels_scalar;
extern const struct kernels
    kernels_cuda; /* built where CUDA is found: OPENLEDGER_CUDA is defined */
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512, kernels_avx512_vnni, kernels_avx512_amx;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon, kernels_neon_dotprod;
#endif
