/* safetensors.h - reads and writes the safetensors container.
 *
 * Why: models and adapters come from strangers. Nothing in the header is believed: every offset,
 * length, overlap, shape and name is checked against the bytes at hand before a tensor is shown.
 *
 * Source: the safetensors format (8-byte little-endian header size, JSON header, data).
 * Pure: works on bytes in memory. A parsed set is immutable and usable from any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct buf;
struct note;

#define SAFETENSORS_HEADER_MAX (UINT32_C(16) << 20) /* bytes of JSON */
#define SAFETENSORS_TENSORS_MAX 65536U
#define SAFETENSORS_NAME_MAX 255U /* bytes without the NUL */
#define SAFETENSORS_DIMS_MAX 4U

enum safetensors_type { SAFETENSORS_F32, SAFETENSORS_F16, SAFETENSORS_BF16 };

struct safetensors_tensor {
    const char *name; /* NUL-terminated, owned by the set */
    enum safetensors_type type;
    uint32_t dim_count;
    uint64_t dims[SAFETENSORS_DIMS_MAX];
    uint64_t count; /* product of dims; 1 for a scalar */
    struct bytes data;
};

/* Tensors ascending by name. Data borrows the file's bytes. */
struct safetensors {
    struct safetensors_tensor *tensors;
    uint32_t count;
    char *names; /* owned storage behind every name */
};

/* Parses a whole file; file.data must outlive the set. Returns ERR_INVALID for any breach of the
 * format or an unknown dtype, ERR_RANGE past a limit above. */
MUST_USE enum err safetensors_init(struct safetensors *set, struct bytes file, struct note *note);

/* Frees what init allocated. Accepts a zeroed set. */
void safetensors_deinit(struct safetensors *set);

/* Returns the tensor of that name, or NULL. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *set, const char *name);

/* Widens a tensor to fp32 exactly (F16 and BF16 are subsets of fp32). out has tensor->count floats. */
void safetensors_read(const struct safetensors_tensor *tensor, float *out);

/* One tensor to write: values fp32, stored as type (F32 or BF16, rounded to nearest even). */
struct safetensors_source {
    const char *name;
    enum safetensors_type type;
    uint32_t dim_count;
    uint64_t dims[SAFETENSORS_DIMS_MAX];
    const float *values;
};

/* Appends a whole file, tensors in the given order, data aligned to 8 bytes, metadata
 * {"format":"pt"}. Equal sources give equal bytes. */
MUST_USE enum err safetensors_write(const struct safetensors_source *sources, uint32_t count,
                                    struct buf *out);
