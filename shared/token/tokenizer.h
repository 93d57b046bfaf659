/* tokenizer.h - text to token ids and back, as a Hugging Face tokenizer.json says.
 *
 * Two families: byte-level BPE (GPT-2, Llama 3, Qwen, our own base model: text is split by a regular
 * expression, then bytes are merged) and SentencePiece-style BPE with byte fallback (Llama 2, Mistral).
 * Both merge by rank, lowest first, leftmost first, in O(n log n) for a run of n bytes.
 *
 * Read are: the normalisers NFC, Prepend and Replace; the pre-tokenizers Split, Digits, Metaspace and
 * ByteLevel; the decoders ByteLevel, Metaspace, Replace, ByteFallback, Fuse and Strip; ByteLevel and
 * TemplateProcessing of post_processor; Sequences of these; all flags of added tokens. truncation and
 * padding are the caller's business.
 *
 * Why strict: a feature we do not implement would change ids silently, so it is an error that names
 * the field. Source: huggingface/tokenizers, its serialised form; tests/e2e compares with that library.
 * Where we differ, on purpose: text that is not UTF-8 is an error, as is text without tokens in a file
 * that has no unknown token (the library leaves it out); no text ever becomes a special token unless
 * asked for; of bytes that are no UTF-8 each maximal subpart decodes to one U+FFFD, also in a run of
 * byte-fallback tokens (the library would take the good bytes of such a run back).
 *
 * A tokenizer is immutable: any number of threads may use one. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct buf;
struct note;

#define LM_TOKENIZER_FILE_MAX (48U << 20)   /* bytes of a tokenizer.json */
#define LM_TOKENIZER_VOCAB_MAX 262144U      /* ids are smaller than this */
#define LM_TOKENIZER_PIECE_MAX 1024U        /* bytes of one token */
#define LM_TOKENIZER_ADDED_MAX 4096U        /* added tokens */
#define LM_TOKENIZER_TEXT_MAX (8U << 20)    /* bytes in one call of lm_tokenizer_encode */
#define LM_TOKENIZER_NORMAL_MAX (32U << 20) /* bytes of text made normal */
/* Bytes of a piece that no pre-tokenizer cuts further and that is merged as one: all the text between two
 * added tokens where a file has no pre-tokenizer. Merging takes 72 bytes of memory for each. */
#define LM_TOKENIZER_WORD_MAX (2U << 20)
#define LM_TOKENIZER_NONE UINT32_MAX /* no such token */

/* A growing list of token ids with a ceiling: past it, ERR_LIMIT. */
struct lm_ids {
    uint32_t *items; /* owned */
    size_t count;
    size_t capacity;
    size_t limit; /* count never exceeds this */
};

void lm_ids_init(struct lm_ids *ids, size_t limit); /* allocates nothing */
void lm_ids_deinit(struct lm_ids *ids);             /* a zeroed list is fine */
MUST_USE enum err lm_ids_append(struct lm_ids *ids, uint32_t id);

struct lm_tokenizer;

/* Reads a tokenizer.json. ERR_INVALID: not JSON, inconsistent, or a feature we lack (the note names
 * the field). ERR_LIMIT: a bound above. Free with lm_tokenizer_destroy (NULL is fine). */
MUST_USE enum err lm_tokenizer_load(struct bytes json, struct lm_tokenizer **out,
                                    struct note *note);
void lm_tokenizer_destroy(struct lm_tokenizer *tokenizer);

/* One more than the largest id. */
uint32_t lm_tokenizer_vocab(const struct lm_tokenizer *tokenizer);

/* Id of the added token or piece spelled exactly so in tokenizer.json (e.g. "<|endoftext|>"), or
 * LM_TOKENIZER_NONE. */
uint32_t lm_tokenizer_find(const struct lm_tokenizer *tokenizer, const char *content);

/* Is id an added token marked special? An id without a token is not. */
bool lm_tokenizer_is_special(const struct lm_tokenizer *tokenizer, uint32_t id);

/* What the file's post_processor puts before and behind a text: tokens, or LM_TOKENIZER_NONE. False, and
 * nothing is set: the file has none, so that it does not say. Encoding adds neither: a text may be part
 * of a longer one. */
bool lm_tokenizer_template(const struct lm_tokenizer *tokenizer, uint32_t *out_begin,
                           uint32_t *out_end);

/* What a token decodes to in the middle of text: raw bytes, perhaps part of a character, borrowed
 * from the tokenizer. Unknown ids give nothing. */
struct bytes lm_tokenizer_piece(const struct lm_tokenizer *tokenizer, uint32_t id);

/* Appends the ids of text (UTF-8) to out. special: spellings of special tokens in the text become
 * those tokens; false for anything a user wrote. ERR_INVALID: not UTF-8, or a character without tokens.
 * ERR_LIMIT: text, a piece of it or ids over their bounds, or the pattern needs too many steps. On error
 * out is as before. */
MUST_USE enum err lm_tokenizer_encode(const struct lm_tokenizer *tokenizer, struct bytes text,
                                      bool special, struct lm_ids *out, struct note *note);

/* Appends the text of ids to out, always valid UTF-8 (bad bytes become U+FFFD). special: also write
 * special tokens' spellings; else they are left out. ERR_RANGE: an id outside the vocabulary;
 * buf's errors. On error out is as before. */
MUST_USE enum err lm_tokenizer_decode(const struct lm_tokenizer *tokenizer, const uint32_t *ids,
                                      size_t count, bool special, struct buf *out);

/* Decoding token by token: what comes out is always whole characters; bytes of an incomplete one are
 * held back until the next token. The pieces joined equal lm_tokenizer_decode of all ids. */
struct lm_token_stream {
    const struct lm_tokenizer *tokenizer; /* must outlive the stream */
    bool special;                         /* write special tokens' spellings */
    bool started;                         /* a token was pushed that counts */
    uint32_t strip;                       /* characters that the decoder may still leave out */
    uint8_t held[4];                      /* the beginning of a character */
    uint8_t held_size;
};

void lm_token_stream_init(struct lm_token_stream *stream, const struct lm_tokenizer *tokenizer,
                          bool special);
/* ERR_RANGE: unknown id (nothing changes); buf's errors. */
MUST_USE enum err lm_token_stream_push(struct lm_token_stream *stream, uint32_t id,
                                       struct buf *out);
/* Writes U+FFFD for what is still held back. */
MUST_USE enum err lm_token_stream_finish(struct lm_token_stream *stream, struct buf *out);
