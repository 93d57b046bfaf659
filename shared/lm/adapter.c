/* adapter.c - LoRA adapters in memory. See adapter.h; files are peft.c's. */
#include "shared/lm/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/crypto/sha256.h"
#include "shared/lm/engine.h"
#include "shared/lm/philox.h"

#define PANEL_ALIGN 64U /* bytes: a cache line, which a load then reads whole */

enum err lm_adapter_config_check(const struct lm_adapter_config *config, struct note *note)
{
    if (config->rank < 1 || config->rank > LM_RANK_MAX) {
        return note_set(note, ERR_RANGE, "rank is %u, allowed are 1 to %u", config->rank,
                        LM_RANK_MAX);
    }
    if (!(config->alpha > 0.0F && config->alpha <= 65536.0F)) {
        return note_set(note, ERR_RANGE, "alpha is outside (0, 65536]");
    }
    if (config->targets == 0 || (config->targets & ~LM_TARGETS_ALL) != 0) {
        return note_set(note, ERR_RANGE, "no known target module");
    }
    return ERR_OK;
}

static uint64_t module_size(const struct lm_config *config, const struct lm_adapter_config *adapter,
                            enum lm_projection projection)
{
    if ((adapter->targets >> projection & 1U) == 0) {
        return 0;
    }
    uint64_t widths =
        (uint64_t)lm_projection_in(config, projection) + lm_projection_out(config, projection);
    return widths * adapter->rank;
}

static uint64_t layer_size(const struct lm_config *config, const struct lm_adapter_config *adapter)
{
    uint64_t size = 0;
    for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
        size += module_size(config, adapter, p);
    }
    return size;
}

uint64_t lm_adapter_size(const struct lm_config *config, const struct lm_adapter_config *adapter)
{
    return layer_size(config, adapter) * config->layer_count;
}

bool lm_adapter_offset(const struct lm_config *config, const struct lm_adapter_config *adapter,
                       uint32_t layer, enum lm_projection projection, struct lm_adapter_place *out)
{
    CHECK(layer < config->layer_count);
    CHECK(projection < LM_PROJECTION_COUNT);
    if (module_size(config, adapter, projection) == 0) {
        return false;
    }
    uint64_t offset = layer_size(config, adapter) * layer;
    for (uint32_t p = 0; p < (uint32_t)projection; p++) {
        offset += module_size(config, adapter, p);
    }
    uint32_t in = lm_projection_in(config, projection);
    *out = (struct lm_adapter_place){.a_offset = offset,
                                     .b_offset = offset + (uint64_t)in * adapter->rank,
                                     .in = in,
                                     .out = lm_projection_out(config, projection)};
    return true;
}

void lm_adapter_initialise(const struct lm_config *config, const struct lm_adapter_config *adapter,
                           uint64_t seed, float *vector)
{
    memset(vector, 0, lm_adapter_size(config, adapter) * sizeof(float));
    for (uint32_t layer = 0; layer < config->layer_count; layer++) {
        for (uint32_t p = 0; p < LM_PROJECTION_COUNT; p++) {
            struct lm_adapter_place place;
            if (!lm_adapter_offset(config, adapter, layer, p, &place)) {
                continue;
            }
            float bound = 1.0F / sqrtf((float)place.in);
            for (uint64_t i = place.a_offset; i < place.b_offset; i++) {
                vector[i] = philox_signed(seed, PHILOX_ADAPTER, i) * bound;
            }
        }
    }
}

/* SHA-256 over a header and the bf16 bits, little-endian. */
static enum err digest_make(struct lm_adapter *adapter, const uint16_t *halves)
{
    struct buf buf;
    buf_init(&buf, 64 + adapter->size * 2);
    uint32_t alpha;
    memcpy(&alpha, &adapter->config.alpha, sizeof alpha);
    (void)buf_append_text(&buf, "openledger-adapter-v1");
    (void)buf_append_u32le(&buf, adapter->config.rank);
    (void)buf_append_u32le(&buf, alpha);
    (void)buf_append_u32le(&buf, adapter->config.targets);
    for (uint64_t i = 0; i < adapter->size; i++) {
        (void)buf_append_u16le(&buf, halves[i]);
    }
    enum err err = buf_err(&buf);
    if (err == ERR_OK) {
        sha256(buf_bytes(&buf), &adapter->digest);
    }
    buf_deinit(&buf);
    return err;
}

/* A matrix of n rows and k columns, A or B of a module, into panels of its transpose. */
static void panels_fill(const struct lm_adapter *adapter, const struct kernels *kernels,
                        const uint16_t *halves, size_t k, size_t n, const float *matrix, void *out)
{
    if (halves == NULL) {
        const struct kernels_matrix b = {matrix, 1, k};
        kernels_pack(kernels, &parallel_serial, k, n, b, out);
    } else {
        const struct kernels_matrix16 b = {halves + (matrix - adapter->vector), 1, k};
        kernels_pack16(kernels, &parallel_serial, k, n, b, out);
    }
}

/* Serving multiplies by A and B again and again, each time out of memory: panels are made once, of halves
 * (NULL: the values are not bf16's) where these are exact. */
static enum err adapter_pack(struct lm_adapter *adapter, const struct kernels *kernels,
                             const uint16_t *halves)
{
    const size_t module_count = (size_t)adapter->base.layer_count * LM_PROJECTION_COUNT;
    const size_t rank = adapter->config.rank;
    const size_t number = halves == NULL ? sizeof(float) : sizeof *halves;
    for (int pass = 0; pass < 2; pass++) {
        size_t used = 0;
        for (size_t i = 0; i < module_count; i++) {
            struct lm_lora_module *module = &adapter->lora.modules[i];
            if (module->a == NULL) {
                continue;
            }
            const size_t a_size = kernels_packed_count(module->in, rank) * number;
            const size_t b_size = kernels_packed_count(rank, module->out) * number;
            if (pass == 1) {
                uint8_t *a = adapter->packed + used;
                uint8_t *b = a + a_size;
                panels_fill(adapter, kernels, halves, module->in, rank, module->a, a);
                panels_fill(adapter, kernels, halves, rank, module->out, module->b, b);
                module->type = halves == NULL ? KERNELS_F32 : KERNELS_BF16;
                module->packed_a = a;
                module->packed_b = b;
            }
            used += a_size + b_size;
        }
        if (pass == 0) {
            CHECK(used > 0);
            adapter->packed_size = (used + PANEL_ALIGN - 1) / PANEL_ALIGN * PANEL_ALIGN;
            adapter->packed = aligned_alloc(PANEL_ALIGN, adapter->packed_size);
            if (adapter->packed == NULL) {
                return ERR_NO_MEMORY;
            }
        }
    }
    return ERR_OK;
}

/* Everything of an adapter but its config. */
static enum err adapter_fill(struct lm_adapter *adapter, const struct lm_net *net,
                             const float *vector, bool rounded)
{
    const size_t size = adapter->size;
    uint16_t *halves = malloc(size * sizeof *halves);
    adapter->vector = malloc(size * sizeof *vector);
    if (halves == NULL || adapter->vector == NULL) {
        free(halves);
        return ERR_NO_MEMORY;
    }
    kernels_to_bf16(size, vector, halves);
    kernels_from_bf16(size, halves, adapter->vector);
    const bool exact = rounded || memcmp(adapter->vector, vector, size * sizeof *vector) == 0;
    if (!exact) {
        memcpy(adapter->vector, vector, size * sizeof *vector);
    }
    enum err err = lm_lora_init(&adapter->lora, &net->config, &adapter->config, adapter->vector);
    if (err == ERR_OK) {
        err = adapter_pack(adapter, net->kernels, exact ? halves : NULL);
    }
    if (err == ERR_OK) {
        err = digest_make(adapter, halves);
    }
    free(halves);
    return err;
}

static enum err adapter_make(const struct lm_model *model, const struct lm_adapter_config *config,
                             const float *vector, bool rounded, struct lm_adapter **out,
                             struct note *note)
{
    const struct lm_net *net = &model->net;
    enum err err = lm_adapter_config_check(config, note);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t size = lm_adapter_size(&net->config, config);
    CHECK(size > 0);
    if (!kernels_all_finite(net->kernels, size, vector)) {
        return note_set(note, ERR_INVALID, "the adapter holds a number that is not finite");
    }
    struct lm_adapter *adapter = calloc(1, sizeof *adapter);
    if (adapter == NULL) {
        return ERR_NO_MEMORY;
    }
    *adapter = (struct lm_adapter){.base = net->config, .config = *config, .size = size};
    err = adapter_fill(adapter, net, vector, rounded);
    if (err != ERR_OK) {
        lm_adapter_destroy(adapter);
        return note_set(note, err, "no memory for an adapter of %llu parameters",
                        (unsigned long long)size);
    }
    *out = adapter;
    return ERR_OK;
}

enum err lm_adapter_create(const struct lm_model *model, const struct lm_adapter_config *config,
                           const float *vector, struct lm_adapter **out, struct note *note)
{
    return adapter_make(model, config, vector, false, out, note);
}

enum err lm_adapter_create_rounded(const struct lm_model *model,
                                   const struct lm_adapter_config *config, const float *vector,
                                   struct lm_adapter **out, struct note *note)
{
    return adapter_make(model, config, vector, true, out, note);
}

void lm_adapter_destroy(struct lm_adapter *adapter)
{
    if (adapter == NULL) {
        return;
    }
    lm_lora_deinit(&adapter->lora);
    free(adapter->vector);
    free(adapter->packed);
    free(adapter);
}

const struct lm_adapter_config *lm_adapter_get_config(const struct lm_adapter *adapter)
{
    return &adapter->config;
}

const float *lm_adapter_vector(const struct lm_adapter *adapter)
{
    return adapter->vector;
}

void lm_adapter_digest(const struct lm_adapter *adapter, struct digest *out)
{
    *out = adapter->digest;
}

uint64_t lm_adapter_memory(const struct lm_adapter *adapter)
{
    uint64_t modules = (uint64_t)adapter->base.layer_count * LM_PROJECTION_COUNT;
    return sizeof *adapter + adapter->size * sizeof(float) + adapter->packed_size +
           modules * sizeof(struct lm_lora_module);
}
