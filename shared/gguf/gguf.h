/* gguf.h - the container of GGUF files: metadata and tensors, hostile until proven.
 *
 * Versions 2 and 3, little-endian. Everything is checked before anything is allocated from it or shown:
 * counts, string and array lengths, types, alignment, offsets (each tensor lies right behind the one
 * before it, padded to the alignment, as ggml itself demands), names (printable, no two the same).
 * Tensors are F32, F16, BF16 or Q8_0; other types are refused by name.
 *
 * Source: ggml's docs/gguf.md. Pure. Immutable once opened; any thread may read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct note;

#define GGUF_ENTRIES_MAX 4096U /* metadata members */
#define GGUF_TENSORS_MAX 65536U
#define GGUF_NAME_MAX 255U         /* bytes of a key or tensor name */
#define GGUF_TEXT_MAX (1U << 20)   /* bytes of one text */
#define GGUF_ITEMS_MAX (1U << 21)  /* items of one array */
#define GGUF_ALIGNMENT_MAX 65536U  /* bytes */
#define GGUF_ALIGNMENT_DEFAULT 32U /* bytes, without general.alignment */

/* As the file says them. */
enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_KIND_COUNT
};

enum gguf_type { GGUF_TENSOR_F32, GGUF_TENSOR_F16, GGUF_TENSOR_BF16, GGUF_TENSOR_Q8_0 };

/* One member of the metadata; all bytes borrow the file's. */
struct gguf_entry {
    struct bytes key;
    enum gguf_kind kind;
    struct bytes data;    /* a number's bytes, a text without its length, an array's items */
    enum gguf_kind items; /* of an array; never GGUF_ARRAY */
    uint64_t count;       /* of an array */
};

/* columns run fastest. A vector has rows 1. */
struct gguf_tensor {
    struct bytes name;
    enum gguf_type type;
    bool vector;
    uint32_t rows, columns;
    struct bytes data;
};

struct gguf {
    struct gguf_entry *entries; /* ascending by key, owned */
    uint32_t entry_count;
    struct gguf_tensor *tensors; /* in the file's order, owned */
    uint32_t tensor_count;
};

/* Parses a whole file; its bytes must outlive out. ERR_INVALID: a breach of the format, or what is
 * not supported; ERR_RANGE: past a limit above. The note names member or tensor. Free with
 * gguf_deinit (a zeroed one is fine). */
MUST_USE enum err gguf_init(struct gguf *out, struct bytes file, struct note *note);
void gguf_deinit(struct gguf *gguf);

/* The member of that key, or NULL. */
const struct gguf_entry *gguf_find(const struct gguf *gguf, const char *key);

/* The member's value: ERR_NOT_FOUND when there is none, ERR_INVALID when it is of another kind (any
 * kind of integer will do) or does not fit; the note names the key. */
MUST_USE enum err gguf_get_u32(const struct gguf *gguf, const char *key, uint32_t *out,
                               struct note *note);
MUST_USE enum err gguf_get_f32(const struct gguf *gguf, const char *key, float *out,
                               struct note *note);
MUST_USE enum err gguf_get_bool(const struct gguf *gguf, const char *key, bool *out,
                                struct note *note);
MUST_USE enum err gguf_get_text(const struct gguf *gguf, const char *key, struct bytes *out,
                                struct note *note);
MUST_USE enum err gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_kind items,
                                 const struct gguf_entry **out, struct note *note);

/* Takes the next text of an array of texts; items starts as the entry's data. */
struct bytes gguf_text_take(struct bytes *items);

/* Is this text spelled so? */
bool gguf_text_is(struct bytes text, const char *spelling);
