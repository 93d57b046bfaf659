/* project.h - from an example to the projected gradient of every adapted module.
 *
 * A module's two gradients are outer products summed over positions t (gradient.h):
 *   A [rank x in]:  sum of db[t] x[t]^T      B [out x rank]:  sum of sdy[t] ax[t]^T
 * The long side is projected to at most ATTRIB_SKETCH_MAX values by a count sketch: value i is
 * added with a fixed sign into a fixed bucket, both from (seed, PHILOX_PROJECT); buckets are equally
 * full. That keeps inner products in expectation and costs one addition per value.
 *
 * The raw vector: modules in the adapter vector's order; in each A's [rank x a_width] then
 * B's [b_width x rank]. Internal to attrib. Pure. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/base/parallel.h"
#include "shared/lm/gradient.h"

#define ATTRIB_SKETCH_MAX 16U /* buckets of one projected side */
#define ATTRIB_DIMENSIONS_MAX 65536U
#define ATTRIB_BATCH 8U /* examples run together; changes no result */

/* One long side's projection. */
struct attrib_sketch {
    uint32_t in;      /* values */
    uint32_t width;   /* buckets: min(in, sketch) */
    uint16_t *bucket; /* of value i; owned */
    float *sign;      /* +1 or -1; owned */
};

struct attrib_module {
    uint32_t layer;
    enum lm_projection projection;
    struct attrib_sketch a; /* over x */
    struct attrib_sketch b; /* over sdy */
    uint32_t a_offset;      /* in the raw vector */
    uint32_t b_offset;
    uint32_t factor_offset; /* in the factors: x, db, sdy, ax second moments, in this order */
};

/* Where everything lies, for one adapter shape and sketch width. */
struct attrib_layout {
    struct attrib_module *modules; /* owned */
    uint32_t module_count;
    uint32_t rank;
    uint32_t sketch;
    uint32_t dimensions;   /* floats in a raw vector */
    uint32_t factor_count; /* doubles of second moments */
};

/* sketch 0: the largest power of two up to ATTRIB_SKETCH_MAX for which row_count rows fit an
 * index; ERR_LIMIT when not even 1 does. */
MUST_USE enum err attrib_layout_init(struct attrib_layout *layout, const struct lm_config *config,
                                     const struct lm_adapter_config *adapter, uint32_t sketch,
                                     uint32_t row_count, struct note *note);
void attrib_layout_deinit(struct attrib_layout *layout);

/* out_raw: count x dimensions floats. out_factors (may be NULL): count x factor_count doubles, each
 * example's sums over its positions. Independent of what is in the same call. count <=
 * ATTRIB_BATCH. */
MUST_USE enum err attrib_project(const struct attrib_layout *layout, const struct lm_model *model,
                                 const struct lm_adapter *adapter,
                                 const struct lm_example *examples, uint32_t count,
                                 const struct parallel *parallel, float *out_raw,
                                 double *out_factors, struct note *note);
