/* bpe.h - trains a byte-level BPE vocabulary from text and writes it as Hugging Face files.
 *
 * Words are cut by GPT-2's pattern (shared/text/byte_level.h) and counted once; then the most frequent
 * pair of neighbours is merged again and again, with pair counts kept up to date word by word. Ties go
 * to the lexicographically greatest pair of byte strings, so the result is a pure function of the text's
 * word counts. Source: Sennrich et al. 2016; tie rule and reference output: Stanford CS336. Pure.
 *
 * Cost: about 3 s for 20 MB and 4,096 tokens on one core. */
#pragma once

#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct buf;
struct note;

#define LM_BPE_VOCAB_MIN 257U       /* 256 bytes and a special token */
#define LM_BPE_VOCAB_MAX 65536U     /* tokens */
#define LM_BPE_SPECIAL_MAX 64U      /* special tokens, ids 0.. in the order given */
#define LM_BPE_WORDS_MAX (8U << 20) /* distinct words */
#define LM_BPE_WORD_MAX 4096U       /* bytes of a word; longer runs are counted in pieces */
#define LM_BPE_TEXT_MAX (1U << 30)  /* bytes of distinct words */

struct lm_bpe;

/* NULL: no memory. */
MUST_USE struct lm_bpe *lm_bpe_create(void);
void lm_bpe_destroy(struct lm_bpe *bpe); /* NULL is fine */

/* Counts the words of one document (valid UTF-8, without special tokens). ERR_INVALID: not UTF-8;
 * ERR_LIMIT: too many distinct words. */
MUST_USE enum err lm_bpe_add(struct lm_bpe *bpe, struct bytes text, struct note *note);

/* Learns merges until there are vocab tokens (special ones included) or no pair is left. Call once,
 * after all text. special: count spellings, distinct, borrowed until destroy. progress may be NULL.
 * ERR_RANGE: vocab or count outside the bounds above. */
MUST_USE enum err lm_bpe_train(struct lm_bpe *bpe, uint32_t vocab, const char *const *special,
                               uint32_t special_count,
                               void (*progress)(void *context, uint32_t done, uint32_t total),
                               void *context, struct note *note);

uint32_t lm_bpe_vocab(const struct lm_bpe *bpe);
uint32_t lm_bpe_merge_count(const struct lm_bpe *bpe);
/* Raw bytes of token id < vocab; of the two sides of merge index < merge_count. Borrowed. */
struct bytes lm_bpe_token(const struct lm_bpe *bpe, uint32_t id);
void lm_bpe_merge(const struct lm_bpe *bpe, uint32_t index, struct bytes *out_left,
                  struct bytes *out_right);

/* Appends tokenizer.json. Equal inputs give equal bytes. */
MUST_USE enum err lm_bpe_write(const struct lm_bpe *bpe, struct buf *out);

/* Appends tokenizer_config.json for our chat format (shared/token/chat.h); context: the model's positions. */
MUST_USE enum err lm_bpe_write_config(uint32_t context, struct buf *out);
