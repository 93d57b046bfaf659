/* tokenizer_merges.c - which neighbours join, and in what order; see tokenizer.h. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/token/tokenizer_internal.h"

#define MERGES_MAX ((size_t)4 * LM_TOKENIZER_VOCAB_MAX)

static uint32_t hash_merge(uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15U;
    return (uint32_t)(key >> 32);
}

const struct tokenizer_merge *tokenizer_merge_of(const struct lm_tokenizer *tokenizer,
                                                 uint32_t left, uint32_t right)
{
    uint32_t slot = hash_merge(left, right) & tokenizer->merge_mask;
    for (; tokenizer->merges[slot].rank != UINT32_MAX; slot = (slot + 1) & tokenizer->merge_mask) {
        const struct tokenizer_merge *merge = &tokenizer->merges[slot];
        if (merge->left == left && merge->right == right) {
            return merge;
        }
    }
    return NULL;
}

/* Finds a side of a merge; both families spell merges as they spell tokens. */
static uint32_t merge_side(const struct lm_tokenizer *tokenizer, struct bytes text)
{
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    if (text.size == 0 || text.size > sizeof raw) {
        return LM_TOKENIZER_NONE;
    }
    if (tokenizer->byte_level) {
        size_t size = 0;
        if (tokenizer_unmap(text, raw, &size) != ERR_OK) {
            return LM_TOKENIZER_NONE;
        }
        return tokenizer_lookup(tokenizer, (struct bytes){raw, size});
    }
    return tokenizer_lookup(tokenizer, text);
}

static enum err take_merge(struct lm_tokenizer *tokenizer, const struct json *node, uint32_t rank,
                           struct note *note)
{
    const char *left = NULL;
    const char *right = NULL;
    size_t left_size = 0;
    bool pair = json_kind(node) == JSON_KIND_ARRAY && json_count(node) == 2;
    if (pair) {
        left = json_as_text(json_item(node, 0), NULL);
        right = json_as_text(json_item(node, 1), NULL);
        left_size = left == NULL ? 0 : strlen(left);
    } else {
        left = json_as_text(node, NULL);
        if (left != NULL && strncmp(left, "#version", 8) == 0) {
            return ERR_OK; /* the head of a merges.txt, in files made from one */
        }
        const char *blank = left == NULL ? NULL : strchr(left, ' ');
        right = blank == NULL ? NULL : blank + 1;
        left_size = blank == NULL ? 0 : (size_t)(blank - left);
    }
    if (left == NULL || right == NULL || (!pair && strchr(right, ' ') != NULL)) {
        return note_set(note, ERR_INVALID, "merge %u is not a pair", rank);
    }
    uint32_t a = merge_side(tokenizer, (struct bytes){(const uint8_t *)left, left_size});
    uint32_t b = merge_side(tokenizer, (struct bytes){(const uint8_t *)right, strlen(right)});
    uint32_t id = LM_TOKENIZER_NONE;
    if (a != LM_TOKENIZER_NONE && b != LM_TOKENIZER_NONE) {
        struct bytes x = tokenizer_key(tokenizer, a);
        struct bytes y = tokenizer_key(tokenizer, b);
        uint8_t joined[2 * LM_TOKENIZER_PIECE_MAX];
        memcpy(joined, x.data, x.size);
        memcpy(joined + x.size, y.data, y.size);
        id = tokenizer_lookup(tokenizer, (struct bytes){joined, x.size + y.size});
    }
    if (id == LM_TOKENIZER_NONE) {
        return note_set(note, ERR_INVALID, "merge %u joins tokens that are not in the vocabulary",
                        rank);
    }
    uint32_t slot = hash_merge(a, b) & tokenizer->merge_mask;
    for (; tokenizer->merges[slot].rank != UINT32_MAX; slot = (slot + 1) & tokenizer->merge_mask) {
        if (tokenizer->merges[slot].left == a && tokenizer->merges[slot].right == b) {
            tokenizer->merges[slot].rank = rank; /* said twice: the last rank counts */
            return ERR_OK;
        }
    }
    tokenizer->merges[slot] = (struct tokenizer_merge){a, b, rank, id};
    return ERR_OK;
}

enum err tokenizer_load_merges(struct lm_tokenizer *tokenizer, const struct json *model,
                               struct note *note)
{
    const struct json *merges = NULL;
    enum err err = json_get_array(model, "merges", &merges, note);
    if (err != ERR_OK) {
        return err;
    }
    size_t count = json_count(merges);
    if (count > MERGES_MAX) {
        return note_set(note, ERR_LIMIT, "model.merges has %zu items, the limit is %zu", count,
                        MERGES_MAX);
    }
    uint32_t slots = 16;
    while (slots < count * 2) {
        slots *= 2;
    }
    tokenizer->merges = malloc(slots * sizeof *tokenizer->merges);
    if (tokenizer->merges == NULL) {
        return ERR_NO_MEMORY;
    }
    memset(tokenizer->merges, 0xFF, slots * sizeof *tokenizer->merges);
    tokenizer->merge_mask = slots - 1;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = take_merge(tokenizer, json_item(merges, i), (uint32_t)i, note);
    }
    return err;
}
