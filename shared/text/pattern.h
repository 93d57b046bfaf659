/* pattern.h - the regular expressions of tokenizer files, in the dialect that PCRE2 reads.
 *
 * Hugging Face's library matches with Oniguruma. Most of what tokenizers write means the same in both;
 * what is spelled otherwise (\s, \v, \u, scripts) is rewritten here, and what would match other text
 * without a word (classes in classes, \w, \h, {n}+, options) is refused. Source: Oniguruma's
 * doc/RE, pcre2pattern(3). Pure. */
#pragma once

#include "shared/base/err.h"

struct buf;
struct note;

/* Appends the pattern for PCRE2 with UTF, UCP and MULTILINE. ERR_INVALID: the note names what is not
 * supported; what is wrong in both dialects is left for PCRE2 to find. buf's errors. */
MUST_USE enum err pattern_translate(const char *pattern, struct buf *out, struct note *note);
