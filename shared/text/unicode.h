/* unicode.h - the Unicode character data that tokenizer files count on.
 *
 * The one place in the suite that includes utf8proc. Source: Unicode 14 (UAX #15 for NFC, UTS #18 for
 * word characters); characters assigned later have no properties here and stay as they are. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct buf;

/* Appends text (valid UTF-8) in normalisation form C. Time is linear also for long runs of combining
 * marks; memory besides out at most 22 bytes for each of text. ERR_NO_MEMORY; buf's errors. */
MUST_USE enum err unicode_nfc(struct bytes text, struct buf *out);

/* \w and \s of the regular expressions that Hugging Face's library matches with. */
bool unicode_is_word(uint32_t code);
bool unicode_is_space(uint32_t code);

/* The first and the last character of text (valid UTF-8, not empty) and its bytes. */
uint32_t unicode_first(struct bytes text, size_t *out_size);
uint32_t unicode_last(struct bytes text, size_t *out_size);
