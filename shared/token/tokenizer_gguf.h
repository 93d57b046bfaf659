/* tokenizer_gguf.h - the tokenizer inside a GGUF file, as a tokenizer.json.
 *
 * Why by way of tokenizer.json: there is one loader, one set of rules and one digest that a profile
 * binds. Two families: "gpt2" (byte-level BPE; the pre-tokenizers gpt-2, llama-bpe, qwen2, smollm; others
 * are refused by name) and "llama" (SentencePiece BPE with byte fallback; its scores become merges as
 * Hugging Face makes them: every pair that gives a token, by the token's score, longer left sides first).
 *
 * Source: ggml's docs/gguf.md; transformers' convert_slow_tokenizer. Pure. */
#pragma once

#include "shared/base/err.h"

struct buf;
struct gguf;
struct note;

/* Appends the tokenizer.json; the same metadata gives the same bytes. ERR_INVALID names the member
 * that is missing, wrong or not supported; ERR_LIMIT: past a bound of tokenizer.h. */
MUST_USE enum err lm_tokenizer_from_gguf(const struct gguf *gguf, struct buf *out,
                                         struct note *note);
