/* tokenizer_internal.h - a loaded tokenizer, shared by tokenizer.c (loading), tokenizer_encode.c and
 * tokenizer_decode.c only. */
#pragma once

#include "shared/token/presplit.h"
#include "shared/token/tokenizer.h"

#define TOKENIZER_SPLITS_MAX 8U

/* A token's bytes in the pool. */
struct tokenizer_piece {
    uint32_t at, size;
    bool used, added, special;
};

/* left right -> id, the lower rank first. Slots are open-addressed; rank UINT32_MAX: free. */
struct tokenizer_merge {
    uint32_t left, right, rank, id;
};

struct lm_tokenizer {
    bool byte_level; /* pieces are raw bytes; else UTF-8 with byte fallback */
    bool ignore_merges;
    bool fuse_unknown;
    bool prefix_space;      /* byte level: a blank before text that has none */
    bool strip_first_space; /* decoder drops one blank at the start */
    char *prepend;          /* sentencepiece normaliser: before the text; owned or NULL */
    char *space;            /* sentencepiece: what ' ' becomes and is decoded from; or NULL */
    uint32_t unknown;       /* id or LM_TOKENIZER_NONE */

    uint32_t vocab;
    struct tokenizer_piece *pieces; /* by id: what a token decodes to */
    uint8_t *pool;
    size_t pool_size, pool_capacity;

    /* Spelling (model vocabulary only) -> id: index into keys, UINT32_MAX free. */
    struct tokenizer_piece *keys; /* by id: the spelling that encoding looks up */
    uint32_t *slots;
    uint32_t slot_mask;
    struct tokenizer_merge *merges;
    uint32_t merge_mask;
    uint32_t byte_ids[256]; /* of each byte, or LM_TOKENIZER_NONE */

    struct lm_presplit *splits[TOKENIZER_SPLITS_MAX];
    uint32_t split_count;

    uint32_t *added; /* ids, longest spelling first */
    uint32_t added_count;
    uint8_t added_first[256]; /* does an added token begin with this byte? */
};

uint32_t tokenizer_lookup(const struct lm_tokenizer *tokenizer, struct bytes key);
const struct tokenizer_merge *tokenizer_merge_of(const struct lm_tokenizer *tokenizer,
                                                 uint32_t left, uint32_t right);

/* tokenizer_sections.c; depth 0: a Sequence may hold others. Errors name the field. */
struct json;
enum err tokenizer_unsupported(struct note *note, const char *field, const char *value);
bool tokenizer_is_null(const struct json *node);        /* missing or null */
const char *tokenizer_type_of(const struct json *node); /* its "type", or "" */
MUST_USE enum err tokenizer_load_presplit(struct lm_tokenizer *tokenizer, const struct json *node,
                                          uint32_t depth, struct note *note);
MUST_USE enum err tokenizer_load_normalizer(struct lm_tokenizer *tokenizer, const struct json *node,
                                            uint32_t depth, struct note *note);
MUST_USE enum err tokenizer_load_decoder(struct lm_tokenizer *tokenizer, const struct json *node,
                                         uint32_t depth, struct note *note);
