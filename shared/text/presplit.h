/* presplit.h - cutting text into words with PCRE2.
 *
 * The one place in the suite that includes PCRE2. Patterns come from model files, so compiling and
 * matching are bounded: length, nesting, steps. Immutable after compiling: any thread may match. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct note;

#define LM_PRESPLIT_PATTERN_MAX 4096U /* bytes */

struct lm_presplit;

/* What becomes of a match; "next" and "previous" are the stretches between matches. */
enum lm_presplit_behavior {
    LM_PRESPLIT_ISOLATED,      /* a word of its own */
    LM_PRESPLIT_REMOVED,       /* left out */
    LM_PRESPLIT_CONTIGUOUS,    /* one word with matches right beside it */
    LM_PRESPLIT_WITH_PREVIOUS, /* the end of the stretch before it */
    LM_PRESPLIT_WITH_NEXT,     /* the beginning of the stretch behind it */
};

struct lm_presplit_options {
    enum lm_presplit_behavior behavior;
    bool literal; /* the pattern is the text to find, no regular expression */
    bool invert;  /* stretches count as matches, and matches as stretches */
};

/* pattern: as in a tokenizer.json (pattern.h). ERR_INVALID: not a pattern, or not supported; the note
 * says what or where. */
MUST_USE enum err lm_presplit_create(const char *pattern, struct lm_presplit_options options,
                                     struct lm_presplit **out, struct note *note);
void lm_presplit_destroy(struct lm_presplit *split); /* NULL is fine */

/* Calls word for every word of text, in order, none empty; isolated, they are the whole text. text
 * must be valid UTF-8 (utf8_valid). Stops at and returns the first error of word. ERR_LIMIT: matching
 * needs too many steps. */
MUST_USE enum err lm_presplit_each(const struct lm_presplit *split, struct bytes text,
                                   enum err (*word)(void *argument, struct bytes word),
                                   void *argument, struct note *note);
