/* unicode.c - see unicode.h.
 *
 * utf8proc puts combining marks in order by exchanging neighbours, which takes quadratic time on a
 * hostile run; here they are counted by class instead, and utf8proc decomposes and composes. */
#include "shared/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"

/* Characters below U+0300 are in form C and never join the one before them; they are those whose first
 * byte is smaller than this. */
#define FIRST_BYTE_JOINS 0xCCU
#define DECOMPOSED_MAX 4U /* characters that one decomposes into; UAX #15 guarantees it */
#define CLASSES 256U

static bool continues(uint8_t byte)
{
    return (byte & 0xC0U) == 0x80;
}

static uint32_t take(struct bytes text, size_t *at)
{
    utf8proc_int32_t code = 0;
    utf8proc_ssize_t size =
        utf8proc_iterate(text.data + *at, (utf8proc_ssize_t)(text.size - *at), &code);
    CHECK(size > 0); /* the text was checked */
    *at += (size_t)size;
    return (uint32_t)code;
}

static uint32_t class_of(utf8proc_int32_t code)
{
    return (uint32_t)utf8proc_get_property(code)->combining_class;
}

/* Stable order by class of a run of characters that all have one. */
static void order_run(utf8proc_int32_t *codes, size_t count, utf8proc_int32_t *scratch)
{
    size_t begin[CLASSES + 1] = {0};
    for (size_t i = 0; i < count; i++) {
        begin[class_of(codes[i]) + 1]++;
    }
    for (uint32_t class = 0; class < CLASSES; class ++) {
        begin[class + 1] += begin[class];
    }
    for (size_t i = 0; i < count; i++) {
        scratch[begin[class_of(codes[i])]++] = codes[i];
    }
    memcpy(codes, scratch, count * sizeof *codes);
}

static void order(utf8proc_int32_t *codes, size_t count, utf8proc_int32_t *scratch)
{
    for (size_t i = 0; i < count;) {
        size_t begin = i;
        while (i < count && class_of(codes[i]) != 0) {
            i++;
        }
        if (i - begin > 1) {
            order_run(codes + begin, i - begin, scratch);
        }
        i += i == begin ? 1 : 0;
    }
}

/* A stretch that holds characters from U+0300 on. */
static enum err nfc_stretch(struct bytes text, struct buf *out)
{
    size_t characters = 0;
    for (size_t i = 0; i < text.size; i++) {
        characters += continues(text.data[i]) ? 0 : 1;
    }
    size_t room = characters * DECOMPOSED_MAX;
    CHECK(room > 0);
    utf8proc_int32_t *codes = malloc(2 * room * sizeof *codes);
    if (codes == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t count = 0;
    for (size_t at = 0; at < text.size;) {
        int boundary = 0;
        utf8proc_ssize_t made = utf8proc_decompose_char(
            (utf8proc_int32_t)take(text, &at), codes + count, (utf8proc_ssize_t)(room - count),
            UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
        CHECK(made > 0 && (size_t)made <= room - count);
        count += (size_t)made;
    }
    order(codes, count, codes + room);
    utf8proc_ssize_t left = utf8proc_normalize_utf32(codes, (utf8proc_ssize_t)count,
                                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    CHECK(left >= 0 && (size_t)left <= count);
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        uint8_t bytes[4];
        (void)buf_append(out, bytes, (size_t)utf8proc_encode_char(codes[i], bytes));
    }
    free(codes);
    return buf_err(out);
}

enum err unicode_nfc(struct bytes text, struct buf *out)
{
    enum err err = ERR_OK;
    size_t done = 0;
    for (size_t i = 0; i < text.size && err == ERR_OK;) {
        if (text.data[i] < FIRST_BYTE_JOINS) {
            i++;
            continue;
        }
        /* The character before it may join. */
        size_t begin = i;
        while (begin > done && continues(text.data[--begin])) {
        }
        while (i < text.size && (text.data[i] >= FIRST_BYTE_JOINS || continues(text.data[i]))) {
            i++;
        }
        (void)buf_append(out, text.data + done, begin - done);
        err = nfc_stretch((struct bytes){text.data + begin, i - begin}, out);
        done = i;
    }
    if (done < text.size) {
        (void)buf_append(out, text.data + done, text.size - done);
    }
    return err == ERR_OK ? buf_err(out) : err;
}

bool unicode_is_word(uint32_t code)
{
    /* Letters, marks, digits, numerals that are letters, and what connects. */
    static const uint32_t WORD =
        1U << UTF8PROC_CATEGORY_LU | 1U << UTF8PROC_CATEGORY_LL | 1U << UTF8PROC_CATEGORY_LT |
        1U << UTF8PROC_CATEGORY_LM | 1U << UTF8PROC_CATEGORY_LO | 1U << UTF8PROC_CATEGORY_MN |
        1U << UTF8PROC_CATEGORY_MC | 1U << UTF8PROC_CATEGORY_ME | 1U << UTF8PROC_CATEGORY_ND |
        1U << UTF8PROC_CATEGORY_NL | 1U << UTF8PROC_CATEGORY_PC;
    if ((WORD >> (uint32_t)utf8proc_category((utf8proc_int32_t)code) & 1U) != 0) {
        return true;
    }
    /* Letters in circles and squares; the two joiners. */
    return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
           (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189) ||
           code == 0x200C || code == 0x200D;
}

bool unicode_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

uint32_t unicode_first(struct bytes text, size_t *out_size)
{
    *out_size = 0;
    return take(text, out_size);
}

uint32_t unicode_last(struct bytes text, size_t *out_size)
{
    size_t at = text.size;
    while (at > 0 && continues(text.data[--at])) {
    }
    *out_size = text.size - at;
    return take(text, &at);
}
