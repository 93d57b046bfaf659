/* file.c - an index as bytes: one fixed little-endian form, read back from strangers.
 *
 *   "OLATTR01"  rule version u32  sketch u32
 *   dataset root, profile, model, adapter           32 bytes each
 *   the model's shape and the adapter's             u32 each, floats as their bits
 *   rows u32  accounts u32  tokens u64
 *   accounts                                        32 bytes each, ascending
 *   rows                                            contributor u32, tokens u32
 *   tokens u32 each, masks u8 each
 *   bases, scales                                   fp32 bits
 *   vectors                                         bf16 bits
 *
 * What can be derived (layout, sketches, suffix array) is not stored. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared/attrib/index.h"

#define MAGIC "OLATTR01"
#define MAGIC_SIZE 8U
#define CONFIG_WORDS 13U
#define ROW_SIZE_MIN 8U /* bytes a row takes at least */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void append_config(struct buf *out, const struct lm_config *config,
                          const struct lm_adapter_config *shape)
{
    uint32_t words[CONFIG_WORDS + 3] = {config->hidden,
                                        config->ffn,
                                        config->layer_count,
                                        config->head_count,
                                        config->kv_head_count,
                                        config->head_dim,
                                        config->vocab,
                                        config->context,
                                        bits_of(config->norm_epsilon),
                                        bits_of(config->rope_theta),
                                        config->tied ? 1U : 0U,
                                        config->bos,
                                        config->eos,
                                        shape->rank,
                                        bits_of(shape->alpha),
                                        shape->targets};
    for (uint32_t i = 0; i < CONFIG_WORDS + 3; i++) {
        (void)buf_append_u32le(out, words[i]);
    }
}

static void append_floats(struct buf *out, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)buf_append_u32le(out, bits_of(values[i]));
    }
}

enum err attrib_index_save(const struct attrib_index *index, struct buf *out)
{
    (void)buf_append(out, MAGIC, MAGIC_SIZE);
    (void)buf_append_u32le(out, ATTRIB_RULE_VERSION);
    (void)buf_append_u32le(out, index->layout.sketch);
    (void)buf_append(out, index->source.dataset_root.bytes, DIGEST_SIZE);
    (void)buf_append(out, index->source.profile.bytes, DIGEST_SIZE);
    (void)buf_append(out, index->model.bytes, DIGEST_SIZE);
    (void)buf_append(out, index->adapter.bytes, DIGEST_SIZE);
    append_config(out, &index->config, &index->shape);
    (void)buf_append_u32le(out, index->row_count);
    (void)buf_append_u32le(out, index->account_count);
    (void)buf_append_u64le(out, index->token_count);
    for (uint32_t i = 0; i < index->account_count; i++) {
        (void)buf_append(out, index->accounts[i].bytes, ACCOUNT_ID_SIZE);
    }
    for (uint32_t i = 0; i < index->row_count; i++) {
        (void)buf_append_u32le(out, index->rows[i].contributor);
        (void)buf_append_u32le(out, index->rows[i].token_count);
    }
    for (uint64_t i = 0; i < index->token_count; i++) {
        (void)buf_append_u32le(out, index->tokens[i]);
    }
    (void)buf_append(out, index->mask, index->token_count);
    append_floats(out, index->bases, index->layout.factor_count);
    append_floats(out, index->scales, index->layout.dimensions);
    size_t values = (size_t)index->row_count * index->layout.dimensions;
    uint8_t *room = buf_reserve(out, 2 * values);
    if (room != NULL) {
        for (size_t i = 0; i < values; i++) {
            room[2 * i] = (uint8_t)index->vectors[i];
            room[2 * i + 1] = (uint8_t)(index->vectors[i] >> 8);
        }
        buf_commit(out, 2 * values);
    }
    return buf_err(out);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static enum err take_header(struct bytes *in, struct attrib_index *index, uint32_t *out_sketch,
                            struct note *note)
{
    uint8_t magic[MAGIC_SIZE];
    uint32_t version = 0;
    if (bytes_take_copy(in, magic, sizeof magic) != ERR_OK ||
        memcmp(magic, MAGIC, MAGIC_SIZE) != 0) {
        return note_set(note, ERR_INVALID, "not an attribution index");
    }
    if (bytes_take_u32le(in, &version) != ERR_OK || version != ATTRIB_RULE_VERSION) {
        return note_set(note, ERR_INVALID, "index follows rule %u, this program rule %u", version,
                        ATTRIB_RULE_VERSION);
    }
    uint32_t words[CONFIG_WORDS + 3];
    bool ok = bytes_take_u32le(in, out_sketch) == ERR_OK &&
              bytes_take_copy(in, index->source.dataset_root.bytes, DIGEST_SIZE) == ERR_OK &&
              bytes_take_copy(in, index->source.profile.bytes, DIGEST_SIZE) == ERR_OK &&
              bytes_take_copy(in, index->model.bytes, DIGEST_SIZE) == ERR_OK &&
              bytes_take_copy(in, index->adapter.bytes, DIGEST_SIZE) == ERR_OK;
    for (uint32_t i = 0; ok && i < CONFIG_WORDS + 3; i++) {
        ok = bytes_take_u32le(in, &words[i]) == ERR_OK;
    }
    ok = ok && bytes_take_u32le(in, &index->row_count) == ERR_OK &&
         bytes_take_u32le(in, &index->account_count) == ERR_OK &&
         bytes_take_u64le(in, &index->token_count) == ERR_OK;
    if (!ok) {
        return note_set(note, ERR_INVALID, "index ends inside its header");
    }
    index->config = (struct lm_config){.hidden = words[0],
                                       .ffn = words[1],
                                       .layer_count = words[2],
                                       .head_count = words[3],
                                       .kv_head_count = words[4],
                                       .head_dim = words[5],
                                       .vocab = words[6],
                                       .context = words[7],
                                       .norm_epsilon = float_of(words[8]),
                                       .rope_theta = float_of(words[9]),
                                       .tied = words[10] == 1,
                                       .bos = words[11],
                                       .eos = words[12]};
    index->shape = (struct lm_adapter_config){
        .rank = words[13], .alpha = float_of(words[14]), .targets = words[15]};
    if (words[10] > 1 || lm_config_check(&index->config, note) != ERR_OK ||
        lm_adapter_config_check(&index->shape, note) != ERR_OK) {
        return note_wrap(note, ERR_INVALID, "index names an impossible model or adapter");
    }
    if (*out_sketch == 0 || *out_sketch > ATTRIB_SKETCH_MAX) {
        return note_set(note, ERR_INVALID, "index has sketch width %u, the bounds are 1 and %u",
                        *out_sketch, ATTRIB_SKETCH_MAX);
    }
    if (index->row_count == 0 || index->row_count > ATTRIB_ROWS_MAX || index->account_count == 0 ||
        index->account_count > index->row_count || index->token_count > SPANS_TOKENS_MAX / 2 ||
        (uint64_t)index->row_count * ROW_SIZE_MIN > in->size || index->token_count > in->size) {
        return note_set(note, ERR_INVALID, "index states impossible counts");
    }
    return ERR_OK;
}

/* What must follow the header, to the byte. */
static uint64_t body_size(const struct attrib_index *index)
{
    return (uint64_t)index->account_count * ACCOUNT_ID_SIZE + (uint64_t)index->row_count * 8 +
           index->token_count * 5 + (uint64_t)index->layout.factor_count * 4 +
           (uint64_t)index->layout.dimensions * 4 +
           (uint64_t)index->row_count * index->layout.dimensions * 2;
}

static bool take_accounts(struct bytes *in, struct attrib_index *index)
{
    bool ok = true;
    for (uint32_t i = 0; ok && i < index->account_count; i++) {
        ok = bytes_take_copy(in, index->accounts[i].bytes, ACCOUNT_ID_SIZE) == ERR_OK &&
             (i == 0 || account_id_compare(&index->accounts[i - 1], &index->accounts[i]) < 0);
    }
    return ok;
}

static bool take_rows(struct bytes *in, struct attrib_index *index)
{
    uint64_t offset = 0;
    bool ok = true;
    for (uint32_t i = 0; ok && i < index->row_count; i++) {
        struct index_row *row = &index->rows[i];
        row->token_offset = offset;
        ok = bytes_take_u32le(in, &row->contributor) == ERR_OK &&
             bytes_take_u32le(in, &row->token_count) == ERR_OK &&
             row->contributor < index->account_count && row->token_count >= 1 &&
             row->token_count <= ATTRIB_ROW_TOKENS_MAX;
        offset += row->token_count;
        ok = ok && offset <= index->token_count;
    }
    ok = ok && offset == index->token_count;
    for (uint64_t i = 0; ok && i < index->token_count; i++) {
        ok = bytes_take_u32le(in, &index->tokens[i]) == ERR_OK &&
             index->tokens[i] < index->config.vocab;
    }
    for (uint64_t i = 0; ok && i < index->token_count; i++) {
        ok = bytes_take_u8(in, &index->mask[i]) == ERR_OK && index->mask[i] <= 1;
    }
    return ok;
}

static bool take_floats(struct bytes *in, float *out, size_t count)
{
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        uint32_t bits = 0;
        ok = bytes_take_u32le(in, &bits) == ERR_OK;
        out[i] = float_of(bits);
        ok = ok && isfinite(out[i]);
    }
    return ok;
}

static bool take_vectors(struct bytes *in, struct attrib_index *index)
{
    bool ok = true;
    size_t values = (size_t)index->row_count * index->layout.dimensions;
    for (size_t i = 0; ok && i < values; i++) {
        ok = bytes_take_u16le(in, &index->vectors[i]) == ERR_OK &&
             isfinite(attrib_from_bf16(index->vectors[i]));
    }
    return ok;
}

enum err attrib_index_load(struct bytes bytes, struct attrib_index **out, struct note *note)
{
    if (bytes.size > ATTRIB_INDEX_MAX) {
        return note_set(note, ERR_INVALID, "index has %zu bytes, the limit is %u", bytes.size,
                        ATTRIB_INDEX_MAX);
    }
    struct attrib_index *index = calloc(1, sizeof *index);
    if (index == NULL) {
        return ERR_NO_MEMORY;
    }
    uint32_t sketch = 0;
    enum err err = take_header(&bytes, index, &sketch, note);
    if (err == ERR_OK) {
        err = attrib_layout_init(&index->layout, &index->config, &index->shape, sketch,
                                 index->row_count, note);
        err = err == ERR_LIMIT ? ERR_INVALID : err;
    }
    if (err == ERR_OK && bytes.size != body_size(index)) {
        err = note_set(note, ERR_INVALID, "index has %zu bytes after its header, it needs %llu",
                       bytes.size, (unsigned long long)body_size(index));
    }
    if (err == ERR_OK) {
        err = attrib_index_allocate(index);
    }
    if (err == ERR_OK && !(take_accounts(&bytes, index) && take_rows(&bytes, index) &&
                           take_floats(&bytes, index->bases, index->layout.factor_count) &&
                           take_floats(&bytes, index->scales, index->layout.dimensions) &&
                           take_vectors(&bytes, index))) {
        err = note_set(note, ERR_INVALID, "index has a bad account, row, token or number");
    }
    if (err == ERR_OK) {
        err = attrib_index_finish(index);
    }
    if (err != ERR_OK) {
        attrib_index_destroy(index);
        return err;
    }
    *out = index;
    return ERR_OK;
}
