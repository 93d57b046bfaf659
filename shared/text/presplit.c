/* presplit.c - see presplit.h. */
#include "shared/text/presplit.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "shared/text/pattern.h"

/* A pattern of the kind tokenizers use takes a few steps for each byte; these stop the others. */
#define MATCH_STEPS_MAX 10000000U
#define MATCH_DEPTH_MAX 10000U
#define MATCH_HEAP_MAX_KIB 65536U
#define NEST_MAX 32U
#define TRANSLATED_MAX 128U /* bytes that pattern.c makes of one, at most */

struct lm_presplit {
    pcre2_code *code;
    pcre2_match_context *limits;
    struct lm_presplit_options options;
};

static enum err compile(struct lm_presplit *split, struct bytes pattern, struct note *note)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    split->limits = pcre2_match_context_create(NULL);
    if (context == NULL || split->limits == NULL) {
        pcre2_compile_context_free(context);
        return ERR_NO_MEMORY;
    }
    (void)pcre2_set_match_limit(split->limits, MATCH_STEPS_MAX);
    (void)pcre2_set_depth_limit(split->limits, MATCH_DEPTH_MAX);
    (void)pcre2_set_heap_limit(split->limits, MATCH_HEAP_MAX_KIB);
    (void)pcre2_set_parens_nest_limit(context, NEST_MAX);
    (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_UTF | (split->options.literal
                                        ? PCRE2_LITERAL
                                        : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    int code = 0;
    PCRE2_SIZE where = 0;
    split->code = pcre2_compile(pattern.data, pattern.size, options, &code, &where, context);
    pcre2_compile_context_free(context);
    if (split->code == NULL) {
        PCRE2_UCHAR text[128] = {0};
        (void)pcre2_get_error_message(code, text, sizeof text);
        return note_set(note, ERR_INVALID, "pattern: %s at byte %zu", (const char *)text,
                        (size_t)where);
    }
    /* Without JIT (not every machine has it) matching is slower, nothing else. */
    (void)pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE);
    return ERR_OK;
}

enum err lm_presplit_create(const char *pattern, struct lm_presplit_options options,
                            struct lm_presplit **out, struct note *note)
{
    size_t size = strlen(pattern);
    if (size > LM_PRESPLIT_PATTERN_MAX) {
        return note_set(note, ERR_INVALID, "pattern has %zu bytes, the limit is %u", size,
                        LM_PRESPLIT_PATTERN_MAX);
    }
    struct lm_presplit *split = calloc(1, sizeof *split);
    if (split == NULL) {
        return ERR_NO_MEMORY;
    }
    split->options = options;
    struct buf text;
    buf_init(&text, (size_t)LM_PRESPLIT_PATTERN_MAX * TRANSLATED_MAX);
    enum err err = options.literal ? buf_append(&text, pattern, size)
                                   : pattern_translate(pattern, &text, note);
    if (err == ERR_OK) {
        err = compile(split, buf_bytes(&text), note);
    }
    buf_deinit(&text);
    if (err != ERR_OK) {
        lm_presplit_destroy(split);
        return err;
    }
    *out = split;
    return ERR_OK;
}

void lm_presplit_destroy(struct lm_presplit *split)
{
    if (split != NULL) {
        pcre2_code_free(split->code);
        pcre2_match_context_free(split->limits);
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

/* Matches and the stretches between them, on their way to becoming words. */
struct cutter {
    struct lm_presplit_options options;
    enum err (*word)(void *argument, struct bytes word);
    void *argument;
    struct bytes pending; /* may still grow by what follows */
    bool has_pending, after_match;
};

static enum err give(const struct cutter *cutter, struct bytes word)
{
    return word.size > 0 ? cutter->word(cutter->argument, word) : ERR_OK;
}

static enum err take_span(struct cutter *cutter, struct bytes span, bool match)
{
    bool joins = false;
    match = match != cutter->options.invert;
    switch (cutter->options.behavior) {
    case LM_PRESPLIT_ISOLATED:
        return give(cutter, span);
    case LM_PRESPLIT_REMOVED:
        return match ? ERR_OK : give(cutter, span);
    case LM_PRESPLIT_CONTIGUOUS:
        joins = match == cutter->after_match;
        break;
    case LM_PRESPLIT_WITH_PREVIOUS:
        joins = match && !cutter->after_match;
        break;
    case LM_PRESPLIT_WITH_NEXT:
        joins = !match && cutter->after_match;
        break;
    }
    cutter->after_match = match;
    if (joins && cutter->has_pending) {
        cutter->pending.size += span.size; /* they lie side by side */
        return ERR_OK;
    }
    enum err err = cutter->has_pending ? give(cutter, cutter->pending) : ERR_OK;
    cutter->pending = span;
    cutter->has_pending = true;
    return err;
}

static enum err match_at(const struct lm_presplit *split, struct bytes text, size_t from,
                         pcre2_match_data *data, size_t out_span[2], struct note *note)
{
    int rc = pcre2_match(split->code, text.data, text.size, from, PCRE2_NO_UTF_CHECK, data,
                         split->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(split->code, text.data, text.size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         data, split->limits);
    }
    if (rc < 0) {
        return rc == PCRE2_ERROR_NOMATCH ? ERR_NOT_FOUND : match_error(rc, note);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
    CHECK(span[0] >= from && span[0] <= span[1] && span[1] <= text.size);
    out_span[0] = span[0];
    out_span[1] = span[1];
    return ERR_OK;
}

enum err lm_presplit_each(const struct lm_presplit *split, struct bytes text,
                          enum err (*word)(void *argument, struct bytes word), void *argument,
                          struct note *note)
{
    CHECK(split != NULL);
    if (text.size == 0) {
        return ERR_OK;
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    struct cutter cutter = {.options = split->options, .word = word, .argument = argument};
    enum err err = ERR_OK;
    size_t done = 0;    /* everything before was handed on */
    size_t from = 0;    /* where the next search starts */
    bool found = false; /* a match ends at done */
    while (err == ERR_OK && from <= text.size) {
        size_t span[2] = {0};
        err = match_at(split, text, from, data, span, note);
        if (err != ERR_OK) {
            break;
        }
        size_t begin = span[0];
        size_t end = span[1];
        if (begin == end && found && end == done) { /* no empty match right behind another */
            size_t step = utf8_char_size((struct bytes){text.data + from, text.size - from});
            from += step > 0 ? step : 1;
            continue;
        }
        if (begin > done) {
            err = take_span(&cutter, (struct bytes){text.data + done, begin - done}, false);
        }
        if (err == ERR_OK) {
            err = take_span(&cutter, (struct bytes){text.data + begin, end - begin}, true);
        }
        done = end;
        from = end;
        found = true;
    }
    pcre2_match_data_free(data);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    err = ERR_OK;
    if (done < text.size) {
        err = take_span(&cutter, (struct bytes){text.data + done, text.size - done}, false);
    }
    return err == ERR_OK && cutter.has_pending ? give(&cutter, cutter.pending) : err;
}
