/* amx.c - int8 products with AMX tiles: 16 rows x 16 columns x 32 codes in one instruction.
 *
 * A packed block of weights, [k / 4][16 columns][4], is a tile as it lies; so are 16 rows of
 * activation codes. The integer sums go through memory to be scaled, block by block, into fp32 sums
 * that stay in registers. Fewer rows than 16 take a tile of that many; few rows are vpdpbusd's work.
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. */
#include "kernels/cpu/avx512.h"

#if defined(__AMX_INT8__) || defined(__AMXINT8__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/cpuid.h"
#include "kernels/cpu/vector.h"

#define ARCH_REQ_XCOMP_PERM 0x1023 /* linux: ask for a state component */
#define XFEATURE_XTILEDATA 18

#define AMX_ROWS 16
#define AMX_LEAST 4     /* rows: below it the sums' way through memory takes longer than vpdpbusd */
#define AMX_BLOCKS 128  /* blocks whose scales lie beside each other: 8 KiB */
#define AMX_COLUMNS 512 /* read again for each strip of rows: stays in the L2 cache */
#define AMX_AHEAD 4096  /* bytes of weights on their way while others are used */

struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

bool amx_supported(void)
{
    return cpuid_amx() && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Integer sums of the strip's rows x 16 columns for one block, out[row][column]. */
#define AMX_DOT(sums, x, w, out)                                                                   \
    do {                                                                                           \
        for (int line = 0; line < KERNELS_QUANT * 16; line += 64) {                                \
            __builtin_prefetch(w_codes + AMX_AHEAD + line);                                        \
        }                                                                                          \
        _tile_zero(sums);                                                                          \
        _tile_loadd(x, x_codes, blocks *KERNELS_QUANT);                                            \
        _tile_loadd(w, w_codes, 64);                                                               \
        _tile_dpbssd(sums, x, w);                                                                  \
        _tile_stored(sums, out, 64);                                                               \
        x_codes += KERNELS_QUANT;                                                                  \
        w_codes += KERNELS_QUANT * 16;                                                             \
    } while (0)

/* Up to 16 rows, blocks [first, last). */
struct amx_strip {
    const struct kernels_gemm_int8 *gemm;
    size_t row, count, first, last;
    bool accumulate;
    float scales[AMX_BLOCKS][AMX_ROWS]; /* of the rows, block by block */
};

/* sum += dots, scaled: one block, 16 rows; of those that are missing nothing is stored. */
V_INLINE void amx_scale(const float (*x_scales)[AMX_ROWS], const uint16_t *w_scales,
                        int32_t (*dots)[16], vf sum[AMX_ROWS])
{
    const vf scale = v_load_f16(w_scales);
    TILE_UNROLL
    for (size_t i = 0; i < AMX_ROWS; i++) {
        const vf both = v_mul(scale, v_set1((*x_scales)[i]));
        sum[i] = v_fma(v_from_int(_mm512_load_si512(dots[i])), both, sum[i]);
    }
}

static inline void amx_tile(const struct amx_strip *strip, size_t column)
{
    _Alignas(64) int32_t dots[2][AMX_ROWS][16];
    const struct kernels_gemm_int8 *gemm = strip->gemm;
    const size_t blocks = kernels_quant_blocks(gemm->k);
    const size_t width = gemm->n - column < 16 ? gemm->n - column : 16;
    const int8_t *x_codes = gemm->x_codes + (strip->row * blocks + strip->first) * KERNELS_QUANT;
    const int8_t *w_codes = gemm->w_codes + (column * blocks + strip->first * 16) * KERNELS_QUANT;
    const uint16_t *w_scales = gemm->w_scales + column * blocks + strip->first * 16;
    const size_t count = strip->last - strip->first;
    float *c = gemm->c + strip->row * gemm->c_stride + column;
    if (strip->count < AMX_ROWS) {
        memset(dots, 0, sizeof dots);
    }
    vf sum[AMX_ROWS];
    TILE_UNROLL
    for (size_t i = 0; i < AMX_ROWS; i++) {
        sum[i] = v_set1(0.0F);
        if (strip->accumulate && i < strip->count) {
            sum[i] = v_load_row(c + i * gemm->c_stride, width, 0.0F);
        }
    }
    /* The tile unit works on the next block while this one is scaled. */
    AMX_DOT(0, 4, 5, dots[0]);
    size_t b = 0;
    for (; b + 2 < count; b += 2) {
        AMX_DOT(1, 6, 7, dots[1]);
        amx_scale(&strip->scales[b], w_scales + b * 16, dots[0], sum);
        AMX_DOT(0, 4, 5, dots[0]);
        amx_scale(&strip->scales[b + 1], w_scales + (b + 1) * 16, dots[1], sum);
    }
    amx_scale(&strip->scales[b], w_scales + b * 16, dots[0], sum);
    if (b + 1 < count) {
        AMX_DOT(1, 6, 7, dots[1]);
        amx_scale(&strip->scales[b + 1], w_scales + (b + 1) * 16, dots[1], sum);
    }
    TILE_UNROLL
    for (size_t i = 0; i < AMX_ROWS; i++) {
        if (i < strip->count) {
            v_store_row(c + i * gemm->c_stride, width, sum[i]);
        }
    }
}

static inline void amx_rows(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                            struct kernels_range columns)
{
    const size_t blocks = kernels_quant_blocks(gemm->k);
    struct amx_strip strip; /* not cleared: 8 KiB */
    strip.gemm = gemm;
    strip.row = rows.begin;
    strip.count = rows.end - rows.begin;
    strip.first = 0;
    strip.accumulate = gemm->accumulate;
    for (; strip.first < blocks; strip.first = strip.last) {
        const size_t left = blocks - strip.first;
        strip.last = strip.first + (left < AMX_BLOCKS ? left : AMX_BLOCKS);
        for (size_t b = strip.first; b < strip.last; b++) {
            for (size_t i = 0; i < AMX_ROWS; i++) {
                strip.scales[b - strip.first][i] =
                    i < strip.count ? gemm->x_scales[(strip.row + i) * blocks + b] : 0.0F;
            }
        }
        for (size_t j = columns.begin; j < columns.end; j += 16) {
            amx_tile(&strip, j);
        }
        strip.accumulate = true;
    }
}

/* Tiles 4 and 6 are of X, 5 and 7 of W, the others sums. */
static void amx_configure(size_t rows)
{
    struct amx_config config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        const bool weights = tile == 5 || tile == 7;
        config.row_bytes[tile] = tile == 4 || tile == 6 ? KERNELS_QUANT : 64;
        config.rows[tile] = weights ? KERNELS_QUANT / 4 : (uint8_t)rows;
    }
    _tile_loadconfig(&config);
}

void amx_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                   struct kernels_range columns)
{
    if (rows.end - rows.begin < AMX_LEAST) {
        vnni_gemm_int8(gemm, rows, columns);
        return;
    }
    for (size_t j = columns.begin; j < columns.end; j += AMX_COLUMNS) {
        const size_t width = columns.end - j < AMX_COLUMNS ? columns.end - j : AMX_COLUMNS;
        size_t configured = 0;
        for (size_t i = rows.begin; i < rows.end; i += AMX_ROWS) {
            const size_t count = rows.end - i < AMX_ROWS ? rows.end - i : AMX_ROWS;
            if (count != configured) {
                amx_configure(count);
                configured = count;
            }
            amx_rows(gemm, (struct kernels_range){i, i + count},
                     (struct kernels_range){j, j + width});
        }
    }
    _tile_release();
}
#endif
