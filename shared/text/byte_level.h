/* byte_level.h - what every byte-level vocabulary of the GPT-2 family has in common: the pattern that
 * cuts words, and the printable characters that files write for bytes.
 *
 * Source: GPT-2's encoder.py; the same pattern stands in huggingface/tokenizers. Pure. */
#pragma once

#include <stdint.h>

/* GPT-2's pattern, as every tokenizer.json of the family spells it. */
#define BYTE_LEVEL_PATTERN                                                                         \
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* The code point that stands for a byte, below 512; and the byte that a code point stands for, -1:
 * none. */
uint32_t byte_level_code(uint8_t byte);
int byte_level_byte(uint32_t code);
