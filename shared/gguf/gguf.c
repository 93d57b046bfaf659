/* gguf.c - see gguf.h. */
#include "shared/gguf/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"

#define VERSION_OLDEST 2U
#define VERSION_NEWEST 3U
#define DIMS_MAX 4U
#define ENTRY_SIZE_MIN 13U  /* bytes: a key's length, kind, a number of one byte */
#define TENSOR_SIZE_MIN 32U /* bytes: a name's length, dims, one dim, type, offset */
#define Q8_ITEMS 32U
#define Q8_SIZE 34U

static const uint8_t KIND_SIZES[GGUF_KIND_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};

/* ggml's numbers of tensor types. */
static const char *const TYPE_NAMES[] = {
    "F32",     "F16",    "Q4_0",    "Q4_1",  "type 4", "type 5", "Q5_0",  "Q5_1",
    "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",   "Q6_K",  "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",  "IQ2_S", "IQ4_XS",
    "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M",  "BF16"};

/* One walk over the file. */
struct reader {
    struct bytes file, rest;
    struct note *note;
};

static enum err cut_off(const struct reader *reader)
{
    return note_set(reader->note, ERR_INVALID, "the file is cut off at byte %zu",
                    reader->file.size - reader->rest.size);
}

bool gguf_text_is(struct bytes text, const char *spelling)
{
    return bytes_equal(text, bytes_of_text(spelling));
}

/* A key or a name: short and printable, so that it may be shown. */
static enum err name_take(struct reader *reader, struct bytes *out)
{
    uint64_t size = 0;
    if (bytes_take_u64le(&reader->rest, &size) != ERR_OK || size > reader->rest.size) {
        return cut_off(reader);
    }
    if (size < 1 || size > GGUF_NAME_MAX) {
        return note_set(reader->note, ERR_RANGE, "a name of %llu bytes, allowed are 1 to %u",
                        (unsigned long long)size, GGUF_NAME_MAX);
    }
    enum err err = bytes_take(&reader->rest, (size_t)size, out);
    for (size_t i = 0; i < out->size && err == ERR_OK; i++) {
        if (out->data[i] <= ' ' || out->data[i] > '~') {
            err = note_set(reader->note, ERR_INVALID, "a name holds byte 0x%02x", out->data[i]);
        }
    }
    return err;
}

/* ---- metadata ---- */

static enum err text_take(struct reader *reader, struct bytes *out)
{
    uint64_t size = 0;
    if (bytes_take_u64le(&reader->rest, &size) != ERR_OK || size > reader->rest.size) {
        return cut_off(reader);
    }
    if (size > GGUF_TEXT_MAX) {
        return note_set(reader->note, ERR_RANGE, "a text of %llu bytes, at most %u",
                        (unsigned long long)size, GGUF_TEXT_MAX);
    }
    return bytes_take(&reader->rest, (size_t)size, out);
}

static enum err array_take(struct reader *reader, struct gguf_entry *entry)
{
    uint32_t items = 0;
    if (bytes_take_u32le(&reader->rest, &items) != ERR_OK ||
        bytes_take_u64le(&reader->rest, &entry->count) != ERR_OK) {
        return cut_off(reader);
    }
    if (items >= GGUF_KIND_COUNT || items == GGUF_ARRAY) {
        return note_set(reader->note, ERR_INVALID, "an array of kind %u", items);
    }
    if (entry->count > GGUF_ITEMS_MAX) {
        return note_set(reader->note, ERR_RANGE, "an array of %llu items, at most %u",
                        (unsigned long long)entry->count, GGUF_ITEMS_MAX);
    }
    entry->items = (enum gguf_kind)items;
    const uint8_t *begin = reader->rest.data;
    enum err err = ERR_OK;
    if (items == GGUF_TEXT) {
        struct bytes text;
        for (uint64_t i = 0; i < entry->count && err == ERR_OK; i++) {
            err = text_take(reader, &text);
        }
        entry->data = bytes_of(begin, (size_t)(reader->rest.data - begin));
        return err;
    }
    err = bytes_take(&reader->rest, (size_t)entry->count * KIND_SIZES[items], &entry->data);
    return err == ERR_OK ? ERR_OK : cut_off(reader);
}

static enum err value_take(struct reader *reader, struct gguf_entry *entry)
{
    uint32_t kind = 0;
    if (bytes_take_u32le(&reader->rest, &kind) != ERR_OK) {
        return cut_off(reader);
    }
    if (kind >= GGUF_KIND_COUNT) {
        return note_set(reader->note, ERR_INVALID, "a value of kind %u", kind);
    }
    entry->kind = (enum gguf_kind)kind;
    if (kind == GGUF_TEXT) {
        return text_take(reader, &entry->data);
    }
    if (kind == GGUF_ARRAY) {
        return array_take(reader, entry);
    }
    if (bytes_take(&reader->rest, KIND_SIZES[kind], &entry->data) != ERR_OK) {
        return cut_off(reader);
    }
    return kind != GGUF_BOOL || entry->data.data[0] <= 1
               ? ERR_OK
               : note_set(reader->note, ERR_INVALID, "a bool of %u", entry->data.data[0]);
}

static int names_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_key(const void *left, const void *right)
{
    return names_compare(((const struct gguf_entry *)left)->key,
                         ((const struct gguf_entry *)right)->key);
}

static int by_name(const void *left, const void *right)
{
    return names_compare(*(const struct bytes *)left, *(const struct bytes *)right);
}

static enum err entries_take(struct reader *reader, uint64_t count, struct gguf *gguf)
{
    enum err err = ERR_OK;
    for (uint64_t i = 0; i < count && err == ERR_OK; i++) {
        struct gguf_entry *entry = &gguf->entries[i];
        err = name_take(reader, &entry->key);
        if (err == ERR_OK) {
            gguf->entry_count++;
            err = value_take(reader, entry);
            err = err == ERR_OK ? ERR_OK
                                : note_wrap(reader->note, err, "metadata '%.*s'",
                                            (int)entry->key.size, (const char *)entry->key.data);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    qsort(gguf->entries, gguf->entry_count, sizeof *gguf->entries, by_key);
    for (uint32_t i = 1; i < gguf->entry_count; i++) {
        struct bytes key = gguf->entries[i].key;
        if (bytes_equal(key, gguf->entries[i - 1].key)) {
            return note_set(reader->note, ERR_INVALID, "metadata '%.*s' is there twice",
                            (int)key.size, (const char *)key.data);
        }
    }
    return ERR_OK;
}

/* ---- tensors ---- */

static enum err type_find(uint32_t number, enum gguf_type *out, struct note *note)
{
    switch (number) {
    case 0:
        *out = GGUF_TENSOR_F32;
        return ERR_OK;
    case 1:
        *out = GGUF_TENSOR_F16;
        return ERR_OK;
    case 8:
        *out = GGUF_TENSOR_Q8_0;
        return ERR_OK;
    case 30:
        *out = GGUF_TENSOR_BF16;
        return ERR_OK;
    default:
        break;
    }
    if (number < sizeof TYPE_NAMES / sizeof TYPE_NAMES[0]) {
        return note_set(note, ERR_INVALID, "is %s, supported are F32, F16, BF16, Q8_0",
                        TYPE_NAMES[number]);
    }
    return note_set(note, ERR_INVALID, "is of type %u, supported are F32, F16, BF16, Q8_0", number);
}

static enum err shape_take(struct reader *reader, struct gguf_tensor *tensor)
{
    uint32_t dims = 0;
    uint64_t sizes[DIMS_MAX] = {1, 1, 1, 1};
    if (bytes_take_u32le(&reader->rest, &dims) != ERR_OK) {
        return cut_off(reader);
    }
    if (dims < 1 || dims > DIMS_MAX) {
        return note_set(reader->note, ERR_INVALID, "has %u dimensions", dims);
    }
    for (uint32_t d = 0; d < dims; d++) {
        if (bytes_take_u64le(&reader->rest, &sizes[d]) != ERR_OK) {
            return cut_off(reader);
        }
    }
    if (sizes[0] < 1 || sizes[0] > UINT32_MAX || sizes[1] < 1 || sizes[1] > UINT32_MAX ||
        sizes[2] != 1 || sizes[3] != 1) {
        return note_set(reader->note, ERR_INVALID, "is no matrix and no vector");
    }
    tensor->vector = dims == 1;
    tensor->columns = (uint32_t)sizes[0];
    tensor->rows = (uint32_t)sizes[1];
    return ERR_OK;
}

/* Bytes; fits, as rows and columns are below 2^32 and an item takes at most 4. */
static enum err size_find(const struct gguf_tensor *tensor, uint64_t *out, struct note *note)
{
    uint64_t row = (uint64_t)tensor->columns * (tensor->type == GGUF_TENSOR_F32 ? 4 : 2);
    if (tensor->type == GGUF_TENSOR_Q8_0) {
        if (tensor->columns % Q8_ITEMS != 0) {
            return note_set(note, ERR_INVALID, "is Q8_0 with %u columns, no multiple of %u",
                            tensor->columns, Q8_ITEMS);
        }
        row = (uint64_t)tensor->columns / Q8_ITEMS * Q8_SIZE;
    }
    return __builtin_mul_overflow(row, (uint64_t)tensor->rows, out)
               ? note_set(note, ERR_INVALID, "has an impossible shape")
               : ERR_OK;
}

/* Shape, type, size and offset; where it lies in the file is known when all tensors are read. */
static enum err tensor_take(struct reader *reader, struct gguf_tensor *tensor, uint64_t expected,
                            uint64_t *out_size)
{
    uint32_t type = 0;
    uint64_t offset = 0;
    enum err err = shape_take(reader, tensor);
    if (err != ERR_OK) {
        return err;
    }
    if (bytes_take_u32le(&reader->rest, &type) != ERR_OK ||
        bytes_take_u64le(&reader->rest, &offset) != ERR_OK) {
        return cut_off(reader);
    }
    err = type_find(type, &tensor->type, reader->note);
    err = err == ERR_OK ? size_find(tensor, out_size, reader->note) : err;
    if (err == ERR_OK && *out_size > reader->file.size) {
        err = note_set(reader->note, ERR_INVALID, "has %llu bytes, more than the file",
                       (unsigned long long)*out_size);
    }
    if (err == ERR_OK && offset != expected) {
        err = note_set(reader->note, ERR_INVALID,
                       "lies at %llu, not right behind the tensor before it at %llu",
                       (unsigned long long)offset, (unsigned long long)expected);
    }
    return err;
}

static enum err names_check(const struct gguf *gguf, struct note *note)
{
    struct bytes *names = calloc((size_t)gguf->tensor_count + 1, sizeof *names);
    if (names == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        names[i] = gguf->tensors[i].name;
    }
    qsort(names, gguf->tensor_count, sizeof *names, by_name);
    enum err err = ERR_OK;
    for (uint32_t i = 1; i < gguf->tensor_count && err == ERR_OK; i++) {
        if (bytes_equal(names[i], names[i - 1])) {
            err = note_set(note, ERR_INVALID, "tensor '%.*s' is there twice", (int)names[i].size,
                           (const char *)names[i].data);
        }
    }
    free(names);
    return err;
}

static enum err tensors_place(const struct reader *reader, uint64_t alignment, struct gguf *gguf)
{
    uint64_t at = reader->file.size - reader->rest.size;
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        at = (at + alignment - 1) / alignment * alignment;
        if (at > reader->file.size || tensor->data.size > reader->file.size - at) {
            return note_set(reader->note, ERR_INVALID, "tensor '%.*s' ends behind the file",
                            (int)tensor->name.size, (const char *)tensor->name.data);
        }
        tensor->data.data = reader->file.data + at;
        at += tensor->data.size;
    }
    if (gguf->tensor_count > 0 && reader->file.size - at >= alignment) {
        return note_set(reader->note, ERR_INVALID, "bytes behind the last tensor belong to none");
    }
    return names_check(gguf, reader->note);
}

static enum err tensors_take(struct reader *reader, uint64_t count, struct gguf *gguf)
{
    uint32_t alignment = GGUF_ALIGNMENT_DEFAULT;
    enum err err = gguf_get_u32(gguf, "general.alignment", &alignment, reader->note);
    err = err == ERR_NOT_FOUND ? ERR_OK : err;
    if (err == ERR_OK &&
        (alignment < 8 || alignment > GGUF_ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)) {
        err = note_set(reader->note, ERR_RANGE,
                       "general.alignment is %u, allowed are powers of two from 8 to %u", alignment,
                       GGUF_ALIGNMENT_MAX);
    }
    uint64_t expected = 0; /* sums of sizes that fit the file, at most 2^16 of them: no overflow */
    for (uint64_t i = 0; i < count && err == ERR_OK; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t size = 0;
        err = name_take(reader, &tensor->name);
        if (err != ERR_OK) {
            break;
        }
        err = tensor_take(reader, tensor, expected, &size);
        if (err != ERR_OK) {
            err = note_wrap(reader->note, err, "tensor '%.*s'", (int)tensor->name.size,
                            (const char *)tensor->name.data);
        }
        tensor->data.size = (size_t)size;
        expected += (size + alignment - 1) / alignment * alignment;
        gguf->tensor_count++;
    }
    return err == ERR_OK ? tensors_place(reader, alignment, gguf) : err;
}

static enum err counts_take(struct reader *reader, uint64_t *out_tensors, uint64_t *out_entries)
{
    static const uint8_t MAGIC[4] = {'G', 'G', 'U', 'F'};
    struct bytes magic;
    uint32_t version = 0;
    if (bytes_take(&reader->rest, sizeof MAGIC, &magic) != ERR_OK ||
        memcmp(magic.data, MAGIC, sizeof MAGIC) != 0) {
        return note_set(reader->note, ERR_INVALID, "the file does not begin with GGUF");
    }
    if (bytes_take_u32le(&reader->rest, &version) != ERR_OK ||
        (version >= VERSION_OLDEST && version <= VERSION_NEWEST &&
         (bytes_take_u64le(&reader->rest, out_tensors) != ERR_OK ||
          bytes_take_u64le(&reader->rest, out_entries) != ERR_OK))) {
        return cut_off(reader);
    }
    if (version < VERSION_OLDEST || version > VERSION_NEWEST) {
        bool swapped = (version & 0xffffU) == 0;
        return note_set(reader->note, ERR_INVALID, "version %u%s is not supported, only 2 and 3",
                        swapped ? version >> 24 : version, swapped ? " (big-endian)" : "");
    }
    if (*out_tensors > GGUF_TENSORS_MAX || *out_entries > GGUF_ENTRIES_MAX) {
        return note_set(reader->note, ERR_RANGE,
                        "%llu tensors and %llu members of metadata, at most %u and %u",
                        (unsigned long long)*out_tensors, (unsigned long long)*out_entries,
                        GGUF_TENSORS_MAX, GGUF_ENTRIES_MAX);
    }
    return *out_entries * ENTRY_SIZE_MIN + *out_tensors * TENSOR_SIZE_MIN <= reader->rest.size
               ? ERR_OK
               : cut_off(reader);
}

enum err gguf_init(struct gguf *out, struct bytes file, struct note *note)
{
    struct reader reader = {.file = file, .rest = file, .note = note};
    struct gguf made = {0};
    uint64_t tensors = 0;
    uint64_t entries = 0;
    enum err err = counts_take(&reader, &tensors, &entries);
    if (err == ERR_OK) {
        made.entries = calloc((size_t)entries + 1, sizeof *made.entries);
        made.tensors = calloc((size_t)tensors + 1, sizeof *made.tensors);
        err = made.entries == NULL || made.tensors == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    err = err == ERR_OK ? entries_take(&reader, entries, &made) : err;
    err = err == ERR_OK ? tensors_take(&reader, tensors, &made) : err;
    if (err != ERR_OK) {
        gguf_deinit(&made);
        return note_wrap(note, err, "gguf");
    }
    *out = made;
    return ERR_OK;
}

void gguf_deinit(struct gguf *gguf)
{
    free(gguf->entries);
    free(gguf->tensors);
    *gguf = (struct gguf){0};
}

/* ---- values ---- */

const struct gguf_entry *gguf_find(const struct gguf *gguf, const char *key)
{
    struct gguf_entry wanted = {.key = bytes_of_text(key)};
    return gguf->entry_count == 0
               ? NULL
               : bsearch(&wanted, gguf->entries, gguf->entry_count, sizeof wanted, by_key);
}

static enum err find(const struct gguf *gguf, const char *key, const struct gguf_entry **out,
                     struct note *note)
{
    *out = gguf_find(gguf, key);
    return *out != NULL ? ERR_OK : note_set(note, ERR_NOT_FOUND, "metadata '%s' is missing", key);
}

static enum err wrong(const char *key, const char *wanted, struct note *note)
{
    return note_set(note, ERR_INVALID, "metadata '%s' is not %s", key, wanted);
}

enum err gguf_get_u32(const struct gguf *gguf, const char *key, uint32_t *out, struct note *note)
{
    const struct gguf_entry *entry = NULL;
    enum err err = find(gguf, key, &entry, note);
    if (err != ERR_OK) {
        return err;
    }
    bool is_signed = entry->kind == GGUF_I8 || entry->kind == GGUF_I16 || entry->kind == GGUF_I32 ||
                     entry->kind == GGUF_I64;
    bool is_number = is_signed || entry->kind == GGUF_U8 || entry->kind == GGUF_U16 ||
                     entry->kind == GGUF_U32 || entry->kind == GGUF_U64;
    uint64_t value = 0;
    if (is_number) {
        memcpy(&value, entry->data.data, entry->data.size); /* little-endian, as the file */
    }
    bool negative = is_signed && entry->data.data[entry->data.size - 1] >> 7 != 0;
    if (!is_number || negative || value > UINT32_MAX) {
        return wrong(key, "a number below 2^32", note);
    }
    *out = (uint32_t)value;
    return ERR_OK;
}

enum err gguf_get_f32(const struct gguf *gguf, const char *key, float *out, struct note *note)
{
    const struct gguf_entry *entry = NULL;
    enum err err = find(gguf, key, &entry, note);
    if (err != ERR_OK) {
        return err;
    }
    if (entry->kind == GGUF_F32) {
        memcpy(out, entry->data.data, sizeof *out);
        return ERR_OK;
    }
    if (entry->kind == GGUF_F64) {
        double wide;
        memcpy(&wide, entry->data.data, sizeof wide);
        *out = (float)wide;
        return ERR_OK;
    }
    return wrong(key, "a float", note);
}

enum err gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct note *note)
{
    const struct gguf_entry *entry = NULL;
    enum err err = find(gguf, key, &entry, note);
    if (err != ERR_OK) {
        return err;
    }
    if (entry->kind != GGUF_BOOL) {
        return wrong(key, "a bool", note);
    }
    *out = entry->data.data[0] != 0;
    return ERR_OK;
}

enum err gguf_get_text(const struct gguf *gguf, const char *key, struct bytes *out,
                       struct note *note)
{
    const struct gguf_entry *entry = NULL;
    enum err err = find(gguf, key, &entry, note);
    if (err != ERR_OK) {
        return err;
    }
    if (entry->kind != GGUF_TEXT) {
        return wrong(key, "a text", note);
    }
    *out = entry->data;
    return ERR_OK;
}

enum err gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_kind items,
                        const struct gguf_entry **out, struct note *note)
{
    const struct gguf_entry *entry = NULL;
    enum err err = find(gguf, key, &entry, note);
    if (err != ERR_OK) {
        return err;
    }
    if (entry->kind != GGUF_ARRAY || entry->items != items) {
        return wrong(key, "an array of the right kind", note);
    }
    *out = entry;
    return ERR_OK;
}

struct bytes gguf_text_take(struct bytes *items)
{
    uint64_t size = 0;
    struct bytes text = {0};
    enum err err = bytes_take_u64le(items, &size);
    CHECK(err == ERR_OK); /* gguf_init walked over them */
    err = bytes_take(items, (size_t)size, &text);
    CHECK(err == ERR_OK);
    return text;
}
