/* presplit.h - cutting text into words with PCRE2, for tokenizer.c and bpe.c.
 *
 * The one place in shared/lm that includes PCRE2. Patterns come from model files, so compiling and
 * matching are bounded: length, nesting, steps. Immutable after compiling: any thread may match. */
#pragma once

#include <stddef.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct note;

#define LM_PRESPLIT_PATTERN_MAX 4096U /* bytes */

struct lm_presplit;

/* ERR_INVALID: not a pattern; the note says where. */
MUST_USE enum err lm_presplit_create(const char *pattern, struct lm_presplit **out,
                                     struct note *note);
void lm_presplit_destroy(struct lm_presplit *split); /* NULL is fine */

/* Calls word for every match and every stretch between matches, in order; together they are the
 * text. text must be valid UTF-8 (utf8_valid). Stops at and returns the first error of word.
 * ERR_LIMIT: matching needs too many steps. */
MUST_USE enum err lm_presplit_each(const struct lm_presplit *split, struct bytes text,
                                   enum err (*word)(void *argument, struct bytes word),
                                   void *argument, struct note *note);
