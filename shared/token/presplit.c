/* presplit.c - see presplit.h. */
#include "shared/token/presplit.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"

/* A pattern of the kind tokenizers use takes a few steps for each byte; these stop the others. */
#define MATCH_STEPS_MAX 10000000U
#define MATCH_DEPTH_MAX 10000U
#define MATCH_HEAP_MAX_KIB 65536U
#define NEST_MAX 32U

struct lm_presplit {
    pcre2_code *code;
};

enum err lm_presplit_create(const char *pattern, struct lm_presplit **out, struct note *note)
{
    size_t size = strlen(pattern);
    if (size > LM_PRESPLIT_PATTERN_MAX) {
        return note_set(note, ERR_INVALID, "pattern has %zu bytes, the limit is %u", size,
                        LM_PRESPLIT_PATTERN_MAX);
    }
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    struct lm_presplit *split = calloc(1, sizeof *split);
    enum err err = ERR_OK;
    if (context == NULL || split == NULL) {
        err = ERR_NO_MEMORY;
        goto done;
    }
    (void)pcre2_set_parens_nest_limit(context, NEST_MAX);
    int code = 0;
    PCRE2_SIZE where = 0;
    split->code =
        pcre2_compile((PCRE2_SPTR)pattern, size, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                      &code, &where, context);
    if (split->code == NULL) {
        PCRE2_UCHAR text[128] = {0};
        (void)pcre2_get_error_message(code, text, sizeof text);
        err = note_set(note, ERR_INVALID, "pattern: %s at byte %zu", (const char *)text,
                       (size_t)where);
        goto done;
    }
    /* Without JIT (not every machine has it) matching is slower, nothing else. */
    (void)pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE);
    *out = split;
    split = NULL;
done:
    lm_presplit_destroy(split);
    pcre2_compile_context_free(context);
    return err;
}

void lm_presplit_destroy(struct lm_presplit *split)
{
    if (split != NULL) {
        pcre2_code_free(split->code);
        free(split);
    }
}

static enum err match_error(int code, struct note *note)
{
    switch (code) {
    case PCRE2_ERROR_NOMEMORY:
        return ERR_NO_MEMORY;
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
    case PCRE2_ERROR_JIT_STACKLIMIT:
        return note_set(note, ERR_LIMIT, "splitting the text needs too many steps");
    default:
        return note_set(note, ERR_INVALID, "the pattern cannot be matched (pcre2 error %d)", code);
    }
}

enum err lm_presplit_each(const struct lm_presplit *split, struct bytes text,
                          enum err (*word)(void *argument, struct bytes word), void *argument,
                          struct note *note)
{
    CHECK(split != NULL);
    if (text.size == 0) {
        return ERR_OK;
    }
    enum err err = ERR_OK;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    if (data == NULL || context == NULL) {
        err = ERR_NO_MEMORY;
        goto done;
    }
    (void)pcre2_set_match_limit(context, MATCH_STEPS_MAX);
    (void)pcre2_set_depth_limit(context, MATCH_DEPTH_MAX);
    (void)pcre2_set_heap_limit(context, MATCH_HEAP_MAX_KIB);
    size_t done = 0; /* everything before was handed out */
    size_t from = 0; /* where the next search starts; > done only after an empty match */
    while (err == ERR_OK && from < text.size) {
        int rc =
            pcre2_match(split->code, text.data, text.size, from, PCRE2_NO_UTF_CHECK, data, context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
            rc = pcre2_match(split->code, text.data, text.size, from,
                             PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context);
        }
        if (rc == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (rc < 0) {
            err = match_error(rc, note);
            break;
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
        size_t begin = span[0];
        size_t end = span[1];
        if (begin > end || end > text.size || begin < done) { /* \K can do this */
            err = note_set(note, ERR_INVALID, "the pattern matches backwards");
        } else if (begin == end) {
            size_t step = utf8_char_size((struct bytes){text.data + begin, text.size - begin});
            from = begin + (step > 0 ? step : 1);
        } else {
            if (begin > done) {
                err = word(argument, (struct bytes){text.data + done, begin - done});
            }
            if (err == ERR_OK) {
                err = word(argument, (struct bytes){text.data + begin, end - begin});
            }
            done = end;
            from = end;
        }
    }
    if (err == ERR_OK && done < text.size) {
        err = word(argument, (struct bytes){text.data + done, text.size - done});
    }
done:
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    return err;
}
