/* resident.h - the adapters in memory: those used last.
 *
 * An adapter comes from its AdapterFiles blob when first asked for and stays until others push it
 * out, the one used longest ago first. Bytes are checked against their digest by the blob store. The
 * engine's thread owns it. */
#pragma once

#include <stdint.h>

#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/adapter.h"

struct resident_adapters;

/* max: adapters kept; more than can be in use at once. NULL: out of memory. */
MUST_USE struct resident_adapters *resident_adapters_create(uint32_t max);
void resident_adapters_destroy(struct resident_adapters *adapters);

/* Gives the adapter, loading it if need be, and counts one use; give it back with release. ERR_LIMIT:
 * all places are in use. Others: as lineage_adapter_load. */
MUST_USE enum err resident_adapters_acquire(struct resident_adapters *adapters,
                                            const struct lineage_base *base,
                                            struct blob_store *blobs, const struct digest *content,
                                            const struct lm_adapter **out, struct note *note);
void resident_adapters_release(struct resident_adapters *adapters,
                               const struct lm_adapter *adapter);
uint32_t resident_adapters_count(const struct resident_adapters *adapters);
