/* bech32m.h - BIP-350 text for identifiers that people copy: any 4 wrong letters are noticed.
 *
 * Source: BIP-173 (alphabet, checksum polynomial), BIP-350 (the constant of bech32m). Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

#define BECH32M_TEXT_MAX 90 /* characters, by BIP-173 */
#define BECH32M_TEXT_SIZE (BECH32M_TEXT_MAX + 1)
#define BECH32M_DATA_MAX 51 /* bytes: 82 characters of 5 bits after the shortest prefix */

/* Writes prefix + "1" + data + checksum in lower case. ERR_RANGE: longer than BECH32M_TEXT_MAX.
 * prefix is ours: 1..83 lower-case ASCII (CHECKed). */
MUST_USE enum err bech32m_encode(const char *prefix, struct bytes data,
                                 char out_text[BECH32M_TEXT_SIZE]);

/* Decodes text with exactly this prefix (either case, not mixed) into out_data; *out_size is its
 * size. ERR_INVALID: wrong prefix, letter, checksum, padding or length (also more than capacity). */
MUST_USE enum err bech32m_decode(const char *prefix, const char *text, uint8_t *out_data,
                                 size_t capacity, size_t *out_size);
