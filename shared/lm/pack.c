/* pack.c - a model's weights as products read them: packed once at load, in the narrowest type that
 * is exact.
 *
 * A matrix lies in memory once for products with rows (forward) and, unless the model only serves,
 * once more turned round for gradients; both in 16 bits where the file has 16 bits, since widening
 * is exact and the bits of every product are those of fp32 weights. One allocation holds all. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/crypto/sha256.h"
#include "shared/lm/engine.h"
#include "shared/lm/weights.h"

#define PANEL KERNELS_PANEL
#define CHUNK_ROWS 256U       /* rows packed at once; a multiple of PANEL */
#define HUGE_PAGE (2UL << 20) /* bytes: weights are read from end to end for every token */
#define PIECE_ALIGN 64U       /* bytes: a cache line */
#define NUMBERS_AT_ONCE 256U  /* gathered from panels before they are widened */

static const char *const PRECISIONS[LM_PRECISION_COUNT] = {"stored", "fp32", "bf16", "f16", "int8"};

const char *lm_precision_name(enum lm_precision precision)
{
    CHECK(precision < LM_PRECISION_COUNT);
    return PRECISIONS[precision];
}

enum err lm_precision_find(const char *name, enum lm_precision *out, struct note *note)
{
    for (uint32_t i = 0; i < LM_PRECISION_COUNT; i++) {
        if (strcmp(name, PRECISIONS[i]) == 0) {
            *out = (enum lm_precision)i;
            return ERR_OK;
        }
    }
    return note_set(note, ERR_INVALID, "precision '%.32s' is none of stored, fp32, bf16, f16, int8",
                    name);
}

static size_t type_size(enum kernels_type type)
{
    return type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
}

static enum lm_precision precision_choose(const struct lm_net *net, const struct lm_view *views,
                                          enum lm_precision wanted)
{
    if (wanted != LM_STORED) {
        return wanted;
    }
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        if (net->tensors[t].matrix && views[t].dtype != LM_DTYPE_Q8_0) {
            return LM_FP32;
        }
    }
    return LM_INT8;
}

/* What a matrix's numbers are in memory: as the precision says, or the narrowest exact type. */
static enum kernels_type type_choose(enum lm_precision precision, const struct lm_view *view)
{
    bool bf16 = precision == LM_BF16 || (precision == LM_FP32 && view->dtype == LM_DTYPE_BF16);
    bool f16 = precision == LM_F16 || (precision == LM_FP32 && view->dtype == LM_DTYPE_F16);
    return bf16 ? KERNELS_BF16 : f16 ? KERNELS_F16 : KERNELS_F32;
}

/* ---- places ---- */

struct cut {
    uint8_t *memory; /* NULL: only counts */
    size_t used;
};

static void *cut_take(struct cut *cut, size_t size)
{
    void *piece = cut->memory == NULL ? NULL : cut->memory + cut->used;
    cut->used += (size + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    return piece;
}

/* What one matrix takes, to be filled; see struct lm_matrix. */
struct places {
    enum kernels_type type;
    uint8_t *forward, *back;
    int8_t *codes;
    uint16_t *scales;
};

static struct places places_take(const struct lm_net *net, const struct lm_tensor *tensor,
                                 const struct lm_view *view, bool serve_only, struct cut *cut)
{
    size_t rows = tensor->rows;
    size_t columns = tensor->columns;
    struct places places = {.type = type_choose(net->precision, view)};
    if (net->precision == LM_INT8) {
        places.codes = cut_take(cut, kernels_int8_code_count(columns, rows));
        places.scales = cut_take(cut, kernels_int8_scale_count(columns, rows) * sizeof(uint16_t));
        return places;
    }
    size_t size = type_size(places.type);
    places.forward = cut_take(cut, kernels_packed_count(columns, rows) * size);
    if (!serve_only) {
        places.back = cut_take(cut, kernels_packed_count(rows, columns) * size);
    }
    return places;
}

/* ---- filling ---- */

/* One chunk of a matrix on its way: as stored, as fp32, as 16 bits or as blocks. */
struct chunk {
    uint8_t *stored;
    float *values;
    uint16_t *halves;
    uint8_t *blocks;
};

static enum err chunk_init(struct chunk *chunk, size_t columns)
{
    CHECK(columns > 0);
    size_t count = CHUNK_ROWS * columns;
    size_t wide = count * sizeof(float);
    size_t blocks = CHUNK_ROWS * kernels_quant_blocks(columns) * KERNELS_Q8_SIZE;
    *chunk = (struct chunk){.stored = malloc(wide),
                            .values = malloc(count * sizeof(float)),
                            .halves = malloc(count * sizeof(uint16_t)),
                            .blocks = malloc(blocks)};
    bool ok = chunk->stored != NULL && chunk->values != NULL && chunk->halves != NULL &&
              chunk->blocks != NULL;
    return ok ? ERR_OK : ERR_NO_MEMORY;
}

static void chunk_deinit(struct chunk *chunk)
{
    free(chunk->stored);
    free(chunk->values);
    free(chunk->halves);
    free(chunk->blocks);
}

/* Rows [first, first + count) as stored and as fp32. The file's bytes may lie at any address. */
static void chunk_read(const struct chunk *chunk, const struct lm_view *view, uint32_t first,
                       size_t count)
{
    size_t size = lm_view_row_size(view);
    size_t columns = view->columns;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(chunk->stored + i * size, lm_view_row(view, first + i), size);
    }
    switch (view->dtype) {
    case LM_DTYPE_F32:
        kernels_widen(KERNELS_F32, count * columns, chunk->stored, chunk->values);
        return;
    case LM_DTYPE_BF16:
        kernels_widen(KERNELS_BF16, count * columns, chunk->stored, chunk->values);
        return;
    case LM_DTYPE_F16:
        kernels_widen(KERNELS_F16, count * columns, chunk->stored, chunk->values);
        return;
    case LM_DTYPE_Q8_0:
        break;
    }
    for (size_t i = 0; i < count; i++) {
        kernels_dequantize_q8(columns, chunk->stored + i * size, chunk->values + i * columns);
    }
}

/* The same numbers in type. */
static const void *chunk_as(const struct chunk *chunk, const struct lm_view *view,
                            enum kernels_type type, size_t count)
{
    if (type == KERNELS_F32) {
        return chunk->values;
    }
    enum lm_dtype same = type == KERNELS_BF16 ? LM_DTYPE_BF16 : LM_DTYPE_F16;
    if (view->dtype == same) {
        return chunk->stored;
    }
    (type == KERNELS_BF16 ? kernels_to_bf16 : kernels_to_f16)(count, chunk->values, chunk->halves);
    return chunk->halves;
}

/* `count` rows of W, W^T's columns, into panels of W^T. */
static void forward_fill(const struct lm_net *net, size_t columns, enum kernels_type type,
                         const void *values, size_t count, void *forward)
{
    if (type == KERNELS_F32) {
        struct kernels_matrix b = {values, 1, columns};
        kernels_pack(net->kernels, &parallel_serial, columns, count, b, forward);
    } else {
        struct kernels_matrix16 b = {values, 1, columns};
        kernels_pack16(net->kernels, &parallel_serial, columns, count, b, forward);
    }
}

/* Rows [first, ...) of W into their places in the panels of W: [panel of 16 columns][row][16]. */
static void back_fill(const struct lm_tensor *tensor, const struct places *places,
                      const uint8_t *values, size_t first, size_t count)
{
    size_t size = type_size(places->type);
    for (size_t column = 0; column < tensor->columns; column += PANEL) {
        size_t left = tensor->columns - column;
        size_t taken = left < PANEL ? left : PANEL;
        uint8_t *panel = places->back + column * tensor->rows * size;
        for (size_t i = 0; i < count; i++) {
            uint8_t *to = panel + (first + i) * PANEL * size;
            memcpy(to, values + (i * tensor->columns + column) * size, taken * size);
            memset(to + taken * size, 0, (PANEL - taken) * size);
        }
    }
}

static void int8_fill(const struct chunk *chunk, const struct lm_view *view,
                      const struct places *places, size_t first, size_t count)
{
    size_t columns = view->columns;
    size_t size = kernels_quant_blocks(columns) * KERNELS_Q8_SIZE;
    const uint8_t *rows = chunk->stored;
    if (view->dtype != LM_DTYPE_Q8_0) {
        for (size_t i = 0; i < count; i++) {
            kernels_quantize_q8(columns, chunk->values + i * columns, chunk->blocks + i * size);
        }
        rows = chunk->blocks;
    }
    kernels_pack_int8(&parallel_serial, columns, count, rows,
                      places->codes + kernels_int8_code_count(columns, first),
                      places->scales + kernels_int8_scale_count(columns, first));
}

/* Reads rows, adds their fp32 bits to sha; false: a number is not finite. */
static bool chunk_take(const struct lm_net *net, const struct chunk *chunk,
                       const struct lm_view *view, uint32_t first, size_t count, struct sha256 *sha)
{
    size_t total = count * view->columns;
    chunk_read(chunk, view, first, count);
    sha256_update(sha, bytes_of(chunk->values, total * sizeof(float)));
    return kernels_all_finite(net->kernels, total, chunk->values);
}

static bool matrix_fill(const struct lm_net *net, const struct lm_tensor *tensor,
                        const struct lm_view *view, const struct places *places,
                        const struct chunk *chunk, struct sha256 *sha)
{
    size_t columns = tensor->columns;
    for (uint32_t first = 0; first < tensor->rows; first += CHUNK_ROWS) {
        size_t left = tensor->rows - first;
        size_t count = left < CHUNK_ROWS ? left : CHUNK_ROWS;
        if (!chunk_take(net, chunk, view, first, count, sha)) {
            return false;
        }
        if (places->codes != NULL) {
            int8_fill(chunk, view, places, first, count);
            continue;
        }
        const void *values = chunk_as(chunk, view, places->type, count * columns);
        forward_fill(net, columns, places->type, values, count,
                     places->forward + first * columns * type_size(places->type));
        if (places->back != NULL) {
            back_fill(tensor, places, values, first, count);
        }
    }
    return true;
}

/* Memory for all matrices, in huge pages where the system has them. */
static enum err memory_take(struct lm_net *net, const struct lm_view *views, bool serve_only)
{
    struct cut cut = {0};
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        if (net->tensors[t].matrix) {
            (void)places_take(net, &net->tensors[t], &views[t], serve_only, &cut);
        }
    }
    net->memory_size = (cut.used + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    net->memory = aligned_alloc(HUGE_PAGE, net->memory_size);
    net->vectors = malloc(net->vector_count * sizeof(float));
    net->matrices = calloc(net->tensor_count, sizeof *net->matrices);
    if (net->memory == NULL || net->vectors == NULL || net->matrices == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)madvise(net->memory, net->memory_size, MADV_HUGEPAGE); /* only a wish */
    return ERR_OK;
}

static enum err tensors_fill(struct lm_net *net, const struct lm_view *views, bool serve_only,
                             const struct chunk *chunk, struct sha256 *sha)
{
    struct cut cut = {.memory = net->memory};
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        const struct lm_tensor *tensor = &net->tensors[t];
        bool finite = true;
        if (tensor->matrix) {
            struct places places = places_take(net, tensor, &views[t], serve_only, &cut);
            net->matrices[t] = (struct lm_matrix){.type = places.type,
                                                  .forward = places.forward,
                                                  .back = places.back,
                                                  .codes = places.codes,
                                                  .scales = places.scales};
            finite = matrix_fill(net, tensor, &views[t], &places, chunk, sha);
        } else if (tensor->rows > 0) {
            finite = chunk_take(net, chunk, &views[t], 0, 1, sha);
            memcpy(net->vectors + tensor->vector_offset, chunk->values,
                   tensor->columns * sizeof(float));
        }
        if (!finite) {
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

enum err lm_net_pack(struct lm_net *net, const struct lm_view *views, const struct lm_load *how,
                     struct sha256 *sha, struct note *note)
{
    CHECK(net->values == NULL);
    CHECK(net->memory == NULL);
    uint32_t widest = 0;
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        widest = net->tensors[t].columns > widest ? net->tensors[t].columns : widest;
    }
    net->precision = precision_choose(net, views, how->precision);
    struct chunk chunk;
    enum err err = chunk_init(&chunk, widest);
    if (err == ERR_OK) {
        err = memory_take(net, views, how->serve_only);
    }
    if (err == ERR_OK) {
        err = tensors_fill(net, views, how->serve_only, &chunk, sha);
    }
    chunk_deinit(&chunk);
    return err == ERR_OK        ? kernels_keep(net->kernels, net->memory, net->memory_size, note)
           : err == ERR_INVALID ? note_set(note, err, "the model holds a weight that is not finite")
                                : note_set(note, err, "no memory for the model");
}

/* ---- reading back ---- */

static void row_of_panels(const struct lm_matrix *matrix, size_t columns, size_t row, float *out)
{
    size_t at = row / PANEL * PANEL * columns + row % PANEL;
    if (matrix->type == KERNELS_F32) {
        const float *panel = (const float *)matrix->forward + at;
        for (size_t p = 0; p < columns; p++) {
            out[p] = panel[p * PANEL];
        }
        return;
    }
    const uint16_t *panel = (const uint16_t *)matrix->forward + at;
    uint16_t halves[NUMBERS_AT_ONCE];
    for (size_t first = 0; first < columns; first += NUMBERS_AT_ONCE) {
        size_t left = columns - first;
        size_t count = left < NUMBERS_AT_ONCE ? left : NUMBERS_AT_ONCE;
        for (size_t p = 0; p < count; p++) {
            halves[p] = panel[(first + p) * PANEL];
        }
        kernels_widen(matrix->type, count, halves, out + first);
    }
}

/* See kernels_pack_int8 for the layout. */
static void row_of_codes(const struct lm_matrix *matrix, size_t columns, size_t row, float *out)
{
    size_t blocks = kernels_quant_blocks(columns);
    size_t panel = row / PANEL * blocks;
    size_t lane = row % PANEL;
    for (size_t b = 0; b < blocks; b++) {
        const int8_t *codes = matrix->codes + (panel + b) * KERNELS_QUANT * PANEL;
        float scale;
        kernels_from_f16(1, &matrix->scales[(panel + b) * PANEL + lane], &scale);
        for (size_t j = 0; j < KERNELS_QUANT && b * KERNELS_QUANT + j < columns; j++) {
            size_t at = (j / 4 * PANEL + lane) * 4 + j % 4;
            out[b * KERNELS_QUANT + j] = scale * (float)codes[at];
        }
    }
}

void lm_net_row(const struct lm_net *net, uint32_t tensor, size_t row, float *out)
{
    const struct lm_tensor *place = &net->tensors[tensor];
    const struct lm_matrix *matrix = &net->matrices[tensor];
    CHECK(place->matrix && row < place->rows);
    if (matrix->codes != NULL) {
        row_of_codes(matrix, place->columns, row, out);
    } else {
        row_of_panels(matrix, place->columns, row, out);
    }
}

const float *lm_net_vector(const struct lm_net *net, uint32_t tensor)
{
    const struct lm_tensor *place = &net->tensors[tensor];
    CHECK(!place->matrix);
    return net->values != NULL ? net->values + place->offset : net->vectors + place->vector_offset;
}
