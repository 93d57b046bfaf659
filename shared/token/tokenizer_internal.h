/* tokenizer_internal.h - a loaded tokenizer, shared by tokenizer.c (loading) and tokenizer_*.c only. */
#pragma once

#include "shared/base/buf.h"
#include "shared/text/presplit.h"
#include "shared/token/tokenizer.h"

#define TOKENIZER_STEPS_MAX 8U  /* of a normaliser, or of a pre-tokenizer */
#define TOKENIZER_SHORT_MAX 16U /* bytes that a section puts before or in the place of others */

struct json;

/* A token's bytes in the pool. */
struct tokenizer_piece {
    uint32_t at, size;
    bool used, special;
    bool marked; /* metaspace decoder: its blanks are spelled as marks */
};

/* left right -> id, the lower rank first. Slots are open-addressed; rank UINT32_MAX: free. */
struct tokenizer_merge {
    uint32_t left, right, rank, id;
};

/* A step of the normaliser. */
struct tokenizer_normal {
    enum { TOKENIZER_NFC, TOKENIZER_PREPEND, TOKENIZER_REPLACE } kind;
    char from[TOKENIZER_SHORT_MAX + 1]; /* of replace */
    char to[TOKENIZER_SHORT_MAX + 1];   /* of prepend and replace */
};

/* A step of the pre-tokenizer: every piece of the step before gets its blanks marked, perhaps one put
 * before it, and is then cut. */
struct tokenizer_cut {
    char mark[8];                                                       /* "": blanks stay */
    enum { TOKENIZER_NEVER, TOKENIZER_FIRST, TOKENIZER_ALWAYS } prefix; /* a mark before */
    struct lm_presplit *split;                                          /* owned, or NULL */
};

/* The decoder, for what pieces do not hold already. */
struct tokenizer_decoder {
    bool byte_fallback;
    struct tokenizer_normal replace[TOKENIZER_STEPS_MAX];
    uint32_t replace_count;
    char metaspace[8]; /* not "": left out of the first token, a blank in the others */
    bool metaspace_first;
    char strip;           /* character left out at the beginning ... */
    uint32_t strip_count; /* ... so often at most */
};

/* An added token as it is looked for. */
struct tokenizer_added {
    char *content, *pattern; /* owned; as the file has it; what is looked for */
    uint32_t pattern_size;   /* > 0 */
    uint32_t id, order;      /* order: place in the file */
    bool special, single_word, lstrip, rstrip;
};

struct tokenizer_added_set {
    struct tokenizer_added *items; /* by pattern, bytewise; of equal ones the first counts */
    uint32_t count;
    bool begins[256]; /* does a pattern begin with this byte? */
};

struct lm_tokenizer {
    bool byte_level; /* pieces are raw bytes; else UTF-8 with byte fallback */
    bool ignore_merges;
    bool fuse_unknown;
    uint32_t unknown; /* id or LM_TOKENIZER_NONE */

    struct tokenizer_normal normals[TOKENIZER_STEPS_MAX];
    uint32_t normal_count;
    struct tokenizer_cut cuts[TOKENIZER_STEPS_MAX];
    uint32_t cut_count;
    struct tokenizer_decoder decoder;
    bool templated; /* the file has a post_processor */
    uint32_t begin, end;

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

    struct tokenizer_added_set raw, normalized; /* looked for in the text, in normalised text */
};

/* tokenizer.c: the id of a spelling, and back; a byte-level spelling as the bytes it stands for (at most as
 * many as text has). ERR_INVALID: a character that stands for none. */
uint32_t tokenizer_lookup(const struct lm_tokenizer *tokenizer, struct bytes key);
struct bytes tokenizer_key(const struct lm_tokenizer *tokenizer, uint32_t id);
MUST_USE enum err tokenizer_unmap(struct bytes text, uint8_t *out, size_t *out_size);

/* tokenizer_merges.c; NULL: the two do not join. */
MUST_USE enum err tokenizer_load_merges(struct lm_tokenizer *tokenizer, const struct json *model,
                                        struct note *note);
const struct tokenizer_merge *tokenizer_merge_of(const struct lm_tokenizer *tokenizer,
                                                 uint32_t left, uint32_t right);

/* tokenizer_sections.c; errors name the field. */
enum err tokenizer_unsupported(struct note *note, const char *field, const char *value);
bool tokenizer_is_null(const struct json *node);        /* missing or null */
const char *tokenizer_type_of(const struct json *node); /* its "type", or "" */
MUST_USE enum err tokenizer_load_cuts(struct lm_tokenizer *tokenizer, const struct json *node,
                                      struct note *note);
MUST_USE enum err tokenizer_load_normals(struct lm_tokenizer *tokenizer, const struct json *node,
                                         struct note *note);
MUST_USE enum err tokenizer_load_decoder(struct lm_tokenizer *tokenizer, const struct json *node,
                                         struct note *note);
/* Needs the vocabulary: the ids of a template must be tokens. */
MUST_USE enum err tokenizer_load_template(struct lm_tokenizer *tokenizer, const struct json *node,
                                          struct note *note);

/* tokenizer_normal.c: text as it is encoded: itself, or in one of the two buffers. ERR_LIMIT: more
 * than LM_TOKENIZER_NORMAL_MAX bytes. */
MUST_USE enum err tokenizer_normalize(const struct lm_tokenizer *tokenizer, struct bytes text,
                                      struct buf buffers[2], struct bytes *out);
/* Appends text with every from (not empty) replaced. */
void tokenizer_replace(struct bytes text, const char *from, const char *to, struct buf *out);

/* tokenizer_added.c */
MUST_USE enum err tokenizer_load_added(struct lm_tokenizer *tokenizer, const struct json *added,
                                       struct note *note);
void tokenizer_added_deinit(struct tokenizer_added_set *set);

/* Walks text from token to token. special: also those marked special. */
struct tokenizer_scan {
    const struct tokenizer_added_set *set;
    struct bytes text;
    bool special;
    size_t at, done; /* where to look on; up to where text was handed out */
};
/* The text before the next token, perhaps empty, and the token; NULL: the text is at its end. */
const struct tokenizer_added *tokenizer_scan_next(struct tokenizer_scan *scan,
                                                  struct bytes *out_before);
