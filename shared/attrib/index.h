/* index.h - what an index holds. Internal to attrib; see attrib.h for its use.
 *
 * Everything is kept in the precision in which it is stored, so an index that was just built and one
 * that was loaded give the same bits. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "shared/attrib/attrib.h"
#include "shared/attrib/project.h"
#include "shared/attrib/spans.h"

/* A row as the index keeps it. */
struct index_row {
    uint32_t contributor; /* in accounts */
    uint32_t token_count;
    uint64_t token_offset; /* in tokens and mask */
};

struct attrib_index {
    struct attrib_source source;
    struct digest model;
    struct digest adapter;
    struct lm_adapter_config shape;
    struct lm_config config;
    struct attrib_layout layout; /* derived from config, shape and sketch */

    uint32_t row_count;
    struct index_row *rows;
    uint32_t *tokens;
    uint8_t *mask; /* 0 or 1, one per token */
    uint64_t token_count;
    struct lm_example *examples; /* views of the above */

    struct account_id *accounts; /* ascending, distinct */
    uint32_t account_count;

    /* Curvature. bases: per module the eigenvectors of x, db, sdy, ax (layout's factor offsets);
     * scales: 1 / sqrt(eigenvalue + damping) per raw dimension. */
    float *bases;
    float *scales;
    uint16_t *vectors; /* bf16, row_count x dimensions, unit length or all zero */

    struct spans *spans; /* derived from tokens */
};

/* bf16 is the upper half of a float: exact. */
static inline float attrib_from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* Takes memory for counts that are set already and derives what is derived (layout excepted). */
MUST_USE enum err attrib_index_allocate(struct attrib_index *index);
/* Fills examples and builds the suffix array once rows, tokens and mask are there. */
MUST_USE enum err attrib_index_finish(struct attrib_index *index);

/* raw (one example's vector) becomes its coordinates in the eigenbases, in place.
 * scratch: ATTRIB_RANK_MAX * ATTRIB_SKETCH_MAX doubles. */
void attrib_rotate(const struct attrib_index *index, float *raw, double *scratch);
/* Multiplies by the scales and makes the vector a unit vector (or leaves it zero). ERR_INVALID: a
 * non-finite number. */
MUST_USE enum err attrib_whiten(const struct attrib_index *index, float *raw);
