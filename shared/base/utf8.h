/* utf8.h - is this text? RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/bytes.h"

/* Bytes of the valid character that text begins with (1..4), or 0 when it begins with none. */
size_t utf8_char_size(struct bytes text);

/* True when all of it is valid characters. NULs and control characters are valid UTF-8. */
bool utf8_valid(struct bytes text);
