/* safetensors.c - see safetensors.h. */
#include "shared/lm/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"

static const struct {
    const char *name;
    uint32_t size; /* bytes of one element */
} TYPES[] = {[SAFETENSORS_F32] = {"F32", 4},
             [SAFETENSORS_F16] = {"F16", 2},
             [SAFETENSORS_BF16] = {"BF16", 2}};

/* State of one walk over the header's members. */
struct reader {
    struct safetensors *set;
    struct bytes data; /* behind the header */
    size_t names_used, names_size;
    struct note *note;
};

static enum err type_read(const struct json *entry, const char *name,
                          struct safetensors_tensor *tensor, struct note *note)
{
    const char *type = NULL;
    enum err err = json_get_text(entry, "dtype", &type, note);
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
        if (strcmp(type, TYPES[i].name) == 0) {
            tensor->type = (enum safetensors_type)i;
            return ERR_OK;
        }
    }
    return note_set(note, ERR_INVALID, "tensor '%.80s' has dtype '%.20s', known are F32, F16, BF16",
                    name, type);
}

/* Non-negative integer of an array. */
static enum err item_u64(const struct json *array, size_t index, uint64_t *out)
{
    int64_t value = json_as_i64(json_item(array, index), -1);
    if (value < 0) {
        return ERR_INVALID;
    }
    *out = (uint64_t)value;
    return ERR_OK;
}

static enum err shape_read(const struct json *entry, const char *name,
                           struct safetensors_tensor *tensor, struct note *note)
{
    const struct json *shape = NULL;
    enum err err = json_get_array(entry, "shape", &shape, note);
    if (err != ERR_OK) {
        return err;
    }
    if (json_count(shape) > SAFETENSORS_DIMS_MAX) {
        return note_set(note, ERR_RANGE, "tensor '%.80s' has %zu dimensions, at most %u are known",
                        name, json_count(shape), SAFETENSORS_DIMS_MAX);
    }
    tensor->dim_count = (uint32_t)json_count(shape);
    tensor->count = 1;
    for (uint32_t i = 0; i < tensor->dim_count; i++) {
        if (item_u64(shape, i, &tensor->dims[i]) != ERR_OK ||
            __builtin_mul_overflow(tensor->count, tensor->dims[i], &tensor->count)) {
            return note_set(note, ERR_INVALID, "tensor '%.80s' has an impossible shape", name);
        }
    }
    return ERR_OK;
}

static enum err offsets_read(const struct json *entry, const char *name,
                             struct safetensors_tensor *tensor, struct bytes data,
                             struct note *note)
{
    const struct json *offsets = NULL;
    enum err err = json_get_array(entry, "data_offsets", &offsets, note);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t size = 0;
    if (json_count(offsets) != 2 || item_u64(offsets, 0, &begin) != ERR_OK ||
        item_u64(offsets, 1, &end) != ERR_OK || begin > end || end > data.size) {
        return note_set(note, ERR_INVALID,
                        "tensor '%.80s' lies outside the file's %zu bytes of data", name,
                        data.size);
    }
    if (__builtin_mul_overflow(tensor->count, TYPES[tensor->type].size, &size) ||
        size != end - begin) {
        return note_set(note, ERR_INVALID, "tensor '%.80s': shape and %llu bytes do not agree",
                        name, (unsigned long long)(end - begin));
    }
    tensor->data = (struct bytes){data.data + begin, (size_t)size};
    return ERR_OK;
}

static enum err member_read(void *argument, const char *key, const struct json *entry)
{
    struct reader *reader = argument;
    struct safetensors *set = reader->set;
    if (strcmp(key, "__metadata__") == 0) {
        return ERR_OK;
    }
    size_t size = strlen(key) + 1;
    if (size > SAFETENSORS_NAME_MAX + 1) {
        return note_set(reader->note, ERR_RANGE, "a tensor's name has %zu bytes, at most %u", size,
                        SAFETENSORS_NAME_MAX);
    }
    if (json_kind(entry) != JSON_KIND_OBJECT) {
        return note_set(reader->note, ERR_INVALID, "tensor '%.80s' is not an object", key);
    }
    struct safetensors_tensor tensor = {0};
    enum err err = type_read(entry, key, &tensor, reader->note);
    if (err == ERR_OK) {
        err = shape_read(entry, key, &tensor, reader->note);
    }
    if (err == ERR_OK) {
        err = offsets_read(entry, key, &tensor, reader->data, reader->note);
    }
    if (err != ERR_OK) {
        return err;
    }
    CHECK(size <= reader->names_size - reader->names_used);
    tensor.name = memcpy(set->names + reader->names_used, key, size);
    reader->names_used += size;
    set->tensors[set->count++] = tensor;
    return ERR_OK;
}

static int by_name(const void *left, const void *right)
{
    const struct safetensors_tensor *a = left;
    const struct safetensors_tensor *b = right;
    return strcmp(a->name, b->name);
}

static int by_place(const void *left, const void *right)
{
    const struct safetensors_tensor *a = left;
    const struct safetensors_tensor *b = right;
    if (a->data.data != b->data.data) {
        return a->data.data < b->data.data ? -1 : 1;
    }
    return (a->data.size > b->data.size) - (a->data.size < b->data.size);
}

/* The format wants the data covered exactly: no hole, no overlap, no tail. */
static enum err coverage_check(struct safetensors *set, struct bytes data, struct note *note)
{
    qsort(set->tensors, set->count, sizeof *set->tensors, by_place);
    const uint8_t *next = data.data;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct safetensors_tensor *tensor = &set->tensors[i];
        if (tensor->data.data != next) {
            return note_set(note, ERR_INVALID, "tensor '%.80s' overlaps another or leaves a hole",
                            tensor->name);
        }
        next += tensor->data.size;
    }
    if (next != data.data + data.size) {
        return note_set(note, ERR_INVALID, "bytes behind the last tensor belong to none");
    }
    qsort(set->tensors, set->count, sizeof *set->tensors, by_name);
    return ERR_OK;
}

static enum err members_read(const struct json *root, struct bytes header, struct bytes data,
                             struct safetensors *set, struct note *note)
{
    if (json_kind(root) != JSON_KIND_OBJECT) {
        return note_set(note, ERR_INVALID, "the header is not an object");
    }
    size_t count = json_count(root);
    if (count > SAFETENSORS_TENSORS_MAX) {
        return note_set(note, ERR_RANGE, "%zu tensors, at most %u are allowed", count,
                        SAFETENSORS_TENSORS_MAX);
    }
    /* Decoded names take no more than their JSON text, NULs included (quotes are two bytes). */
    struct reader reader = {.set = set, .data = data, .names_size = header.size, .note = note};
    set->tensors = calloc(count + 1, sizeof *set->tensors);
    set->names = malloc(header.size + 1);
    if (set->tensors == NULL || set->names == NULL) {
        return note_set(note, ERR_NO_MEMORY, "no memory for %zu tensors", count);
    }
    enum err err = json_each_member(root, member_read, &reader);
    return err == ERR_OK ? coverage_check(set, data, note) : err;
}

enum err safetensors_init(struct safetensors *set, struct bytes file, struct note *note)
{
    uint64_t header_size = 0;
    struct bytes rest = file;
    struct bytes header;
    if (bytes_take_u64le(&rest, &header_size) != ERR_OK || header_size > rest.size) {
        return note_set(note, ERR_INVALID, "safetensors: the file is cut off in its header");
    }
    if (header_size > SAFETENSORS_HEADER_MAX) {
        return note_set(note, ERR_RANGE, "safetensors: header of %llu bytes, at most %u",
                        (unsigned long long)header_size, SAFETENSORS_HEADER_MAX);
    }
    enum err err = bytes_take(&rest, (size_t)header_size, &header);
    struct json *root = NULL;
    struct safetensors made = {0};
    if (err == ERR_OK) {
        err = json_parse(header, SAFETENSORS_HEADER_MAX, &root, note);
    }
    if (err == ERR_OK) {
        err = members_read(root, header, rest, &made, note);
        json_destroy(root);
    }
    if (err != ERR_OK) {
        safetensors_deinit(&made);
        return note_wrap(note, err, "safetensors");
    }
    *set = made;
    return ERR_OK;
}

void safetensors_deinit(struct safetensors *set)
{
    free(set->tensors);
    free(set->names);
    *set = (struct safetensors){0};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *set, const char *name)
{
    struct safetensors_tensor key = {.name = name};
    return set->count == 0 ? NULL : bsearch(&key, set->tensors, set->count, sizeof key, by_name);
}

/* IEEE 754 half to single, exactly. */
static float half_widen(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000U) << 16;
    uint32_t exponent = half >> 10 & 31U;
    uint32_t fraction = half & 1023U;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000U | fraction << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        float small = (float)fraction * 0x1p-24F;
        memcpy(&bits, &small, sizeof bits);
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void safetensors_read(const struct safetensors_tensor *tensor, float *out)
{
    const uint8_t *data = tensor->data.data;
    for (uint64_t i = 0; i < tensor->count; i++) {
        if (tensor->type == SAFETENSORS_F32) {
            memcpy(&out[i], data + 4 * i, 4); /* little-endian machines only, as all of ours */
        } else {
            uint16_t half;
            memcpy(&half, data + 2 * i, 2);
            if (tensor->type == SAFETENSORS_F16) {
                out[i] = half_widen(half);
            } else {
                kernels_from_bf16(1, &half, &out[i]);
            }
        }
    }
}

static uint64_t source_count(const struct safetensors_source *source)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < source->dim_count; i++) {
        count *= source->dims[i];
    }
    return count;
}

static void header_write(const struct safetensors_source *sources, uint32_t count,
                         struct buf *header)
{
    struct json_writer writer;
    json_writer_init(&writer, header, false);
    json_begin_object(&writer);
    json_write_key(&writer, "__metadata__");
    json_begin_object(&writer);
    json_put_text(&writer, "format", "pt");
    json_end_object(&writer);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct safetensors_source *source = &sources[i];
        CHECK(source->type != SAFETENSORS_F16);
        json_write_key(&writer, source->name);
        json_begin_object(&writer);
        json_put_text(&writer, "dtype", TYPES[source->type].name);
        json_write_key(&writer, "shape");
        json_begin_array(&writer);
        for (uint32_t d = 0; d < source->dim_count; d++) {
            json_write_u64(&writer, source->dims[d]);
        }
        json_end_array(&writer);
        json_write_key(&writer, "data_offsets");
        json_begin_array(&writer);
        json_write_u64(&writer, offset);
        offset += source_count(source) * TYPES[source->type].size;
        json_write_u64(&writer, offset);
        json_end_array(&writer);
        json_end_object(&writer);
    }
    json_end_object(&writer);
    while (header->size % 8 != 0) {
        (void)buf_append_byte(header, ' ');
        if (buf_err(header) != ERR_OK) {
            return;
        }
    }
}

enum err safetensors_write(const struct safetensors_source *sources, uint32_t count,
                           struct buf *out)
{
    struct buf header;
    buf_init(&header, SAFETENSORS_HEADER_MAX);
    header_write(sources, count, &header);
    enum err err = buf_err(&header);
    if (err == ERR_OK) {
        (void)buf_append_u64le(out, header.size);
        (void)buf_append_bytes(out, buf_bytes(&header));
        for (uint32_t i = 0; i < count; i++) {
            uint64_t values = source_count(&sources[i]);
            if (sources[i].type == SAFETENSORS_F32) {
                (void)buf_append(out, sources[i].values, values * 4);
                continue;
            }
            uint8_t *place = buf_reserve(out, values * 2);
            if (place == NULL) {
                break;
            }
            for (uint64_t v = 0; v < values; v++) {
                uint16_t half;
                kernels_to_bf16(1, &sources[i].values[v], &half);
                memcpy(place + 2 * v, &half, 2);
            }
            buf_commit(out, values * 2);
        }
        err = buf_err(out);
    }
    buf_deinit(&header);
    return err;
}
