/* hex.h - bytes as lower-case hexadecimal, one spelling only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/err.h"

/* Writes 2 * size digits and a NUL to out; returns out. */
char *hex_encode(const void *data, size_t size, char *out);

/* Decodes exactly out_size bytes from 2 * out_size lower-case digits. ERR_INVALID otherwise: one
 * value has one spelling, so that text can be compared as text. */
MUST_USE enum err hex_decode(const char *text, size_t text_size, void *out, size_t out_size);
