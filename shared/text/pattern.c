/* pattern.c - see pattern.h. */
#include "shared/text/pattern.h"

#include <stdbool.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/note.h"

/* White_Space, and everything else: PCRE2's own \s takes U+180E for a blank. */
#define SPACES                                                                                     \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"   \
    "\\x{3000}"
#define OTHERS                                                                                     \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x84\\x86-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-"     \
    "\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

struct translation {
    const char *at; /* not yet read */
    struct buf *out;
    struct note *note;
};

static enum err refuse(struct translation *translation, const char *what, size_t size)
{
    return note_set(translation->note, ERR_INVALID, "pattern: %.*s is not supported", (int)size,
                    what);
}

static void copy(struct translation *translation, size_t size)
{
    (void)buf_append(translation->out, translation->at, size);
    translation->at += size;
}

static void replace(struct translation *translation, size_t size, const char *by)
{
    (void)buf_append_text(translation->out, by);
    translation->at += size;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \p{Lu}, \p{^L}; longer names are scripts, which PCRE2 would extend by what other scripts share. */
static enum err property(struct translation *translation)
{
    const char *name = translation->at + 2;
    const char *end = strchr(name, '}');
    if (*name != '{' || end == NULL) {
        return refuse(translation, translation->at, 2);
    }
    name++;
    bool negated = *name == '^';
    const char *word = name + (negated ? 1 : 0);
    copy(translation, (size_t)(word - translation->at));
    if (end - word > 2) {
        (void)buf_append_text(translation->out, "sc:");
    }
    copy(translation, (size_t)(end + 1 - word));
    return ERR_OK;
}

static enum err escape(struct translation *translation, bool in_class)
{
    char next = translation->at[1];
    switch (next) {
    case 's':
        replace(translation, 2, in_class ? SPACES : "[" SPACES "]");
        return ERR_OK;
    case 'S':
        replace(translation, 2, in_class ? OTHERS : "[^" SPACES "]");
        return ERR_OK;
    case 'v':
        replace(translation, 2, "\\x0b");
        return ERR_OK;
    case 'p':
    case 'P':
        return property(translation);
    case 'u':
        for (size_t i = 2; i < 6; i++) {
            if (!is_hex(translation->at[i])) {
                return refuse(translation, translation->at, 2);
            }
        }
        replace(translation, 2, "\\x{");
        copy(translation, 4);
        (void)buf_append_byte(translation->out, '}');
        return ERR_OK;
    default:
        break;
    }
    bool letter = (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') ||
                  (next >= '0' && next <= '9');
    if (letter && strchr("dDrntfaex", next) == NULL) {
        return refuse(translation, translation->at, 2);
    }
    copy(translation, next == '\0' ? 1 : 2);
    return ERR_OK;
}

/* From the opening bracket to behind the closing one. */
static enum err class_of_characters(struct translation *translation)
{
    copy(translation, translation->at[1] == '^' ? 2 : 1);
    if (*translation->at == ']') {
        copy(translation, 1); /* first, it stands for itself */
    }
    enum err err = ERR_OK;
    while (err == ERR_OK && *translation->at != '\0' && *translation->at != ']') {
        if (*translation->at == '\\') {
            err = escape(translation, true);
        } else if (*translation->at == '[') {
            err = refuse(translation, "a class within a class", 22);
        } else if (strncmp(translation->at, "&&", 2) == 0) {
            err = refuse(translation, "&& in a class", 13);
        } else {
            copy(translation, 1);
        }
    }
    if (err == ERR_OK && *translation->at == ']') {
        copy(translation, 1);
    }
    return err;
}

static enum err group(struct translation *translation)
{
    static const char *const KNOWN[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (translation->at[1] != '?' && translation->at[1] != '*') {
        copy(translation, 1);
        return ERR_OK;
    }
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        if (strncmp(translation->at, KNOWN[i], strlen(KNOWN[i])) == 0) {
            copy(translation, strlen(KNOWN[i]));
            return ERR_OK;
        }
    }
    return refuse(translation, translation->at, strnlen(translation->at, 3));
}

/* {n}, {n,}, {n,m}; what follows them means something else in each dialect. */
static enum err interval(struct translation *translation)
{
    size_t size = strspn(translation->at + 1, "0123456789,") + 1;
    bool repeats = translation->at[size] == '}';
    if (!repeats) {
        copy(translation, 1);
        return ERR_OK;
    }
    char next = translation->at[++size];
    if (translation->at[1] == ',' || (next != '\0' && strchr("+?*{", next) != NULL)) {
        return refuse(translation, translation->at, size + (next == '\0' ? 0 : 1));
    }
    copy(translation, size);
    return ERR_OK;
}

enum err pattern_translate(const char *pattern, struct buf *out, struct note *note)
{
    struct translation translation = {pattern, out, note};
    enum err err = ERR_OK;
    while (err == ERR_OK && *translation.at != '\0') {
        switch (*translation.at) {
        case '\\':
            err = escape(&translation, false);
            break;
        case '[':
            err = class_of_characters(&translation);
            break;
        case '(':
            err = group(&translation);
            break;
        case '{':
            err = interval(&translation);
            break;
        default:
            copy(&translation, 1);
            break;
        }
    }
    return err == ERR_OK ? buf_err(out) : err;
}
