/* tokenizer.c - loading a tokenizer.json: vocabulary and merges; see tokenizer.h. */
#include "shared/token/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/token/bpe.h"
#include "shared/token/tokenizer_internal.h"

/* --- lookups --- */

static uint32_t hash_key(struct bytes key)
{
    uint32_t hash = 0x811c9dc5U; /* FNV-1a */
    for (size_t i = 0; i < key.size; i++) {
        hash = (hash ^ key.data[i]) * 0x01000193U;
    }
    return hash ^ (hash >> 15);
}

static struct bytes key_bytes(const struct lm_tokenizer *tokenizer, uint32_t id)
{
    return (struct bytes){tokenizer->pool + tokenizer->keys[id].at, tokenizer->keys[id].size};
}

uint32_t tokenizer_lookup(const struct lm_tokenizer *tokenizer, struct bytes key)
{
    uint32_t slot = hash_key(key) & tokenizer->slot_mask;
    for (; tokenizer->slots[slot] != LM_TOKENIZER_NONE; slot = (slot + 1) & tokenizer->slot_mask) {
        struct bytes other = key_bytes(tokenizer, tokenizer->slots[slot]);
        if (other.size == key.size && memcmp(other.data, key.data, key.size) == 0) {
            return tokenizer->slots[slot];
        }
    }
    return LM_TOKENIZER_NONE;
}

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

uint32_t lm_tokenizer_vocab(const struct lm_tokenizer *tokenizer)
{
    return tokenizer->vocab;
}

bool lm_tokenizer_is_special(const struct lm_tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->vocab && tokenizer->pieces[id].special;
}

struct bytes lm_tokenizer_piece(const struct lm_tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->vocab || !tokenizer->pieces[id].used) {
        return (struct bytes){NULL, 0};
    }
    return (struct bytes){tokenizer->pool + tokenizer->pieces[id].at, tokenizer->pieces[id].size};
}

/* --- spellings --- */

static enum err pool_add(struct lm_tokenizer *tokenizer, const void *data, size_t size,
                         struct tokenizer_piece *piece)
{
    if (tokenizer->pool_capacity - tokenizer->pool_size < size + 1) {
        size_t wanted = tokenizer->pool_capacity * 2 + size + 4096;
        uint8_t *grown = realloc(tokenizer->pool, wanted);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        tokenizer->pool = grown;
        tokenizer->pool_capacity = wanted;
    }
    memcpy(tokenizer->pool + tokenizer->pool_size, data, size);
    piece->at = (uint32_t)tokenizer->pool_size;
    piece->size = (uint32_t)size;
    piece->used = true;
    tokenizer->pool_size += size;
    return ERR_OK;
}

/* A byte-level spelling as the bytes it stands for. ERR_INVALID: a character that stands for none. */
static enum err unmap(struct bytes text, uint8_t *out, size_t *out_size)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t code = text.data[i];
        size_t step = 1;
        if (code >= 0xC2 && code <= 0xC5 && i + 1 < text.size) {
            code = (code & 0x1F) << 6 | (text.data[i + 1] & 0x3F);
            step = 2;
        }
        int byte = lm_bpe_code_to_byte(code);
        if (byte < 0) {
            return ERR_INVALID;
        }
        out[size++] = (uint8_t)byte;
        i += step;
    }
    *out_size = size;
    return ERR_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" -> 10; anything else -> -1. */
static int fallback_byte(const char *key)
{
    if (strlen(key) != 6 || strncmp(key, "<0x", 3) != 0 || key[5] != '>') {
        return -1;
    }
    int high = hex_digit(key[3]);
    int low = hex_digit(key[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* What a sentencepiece spelling decodes to: its blanks back. Appends in place (out >= input). */
static size_t unspace(const struct lm_tokenizer *tokenizer, const char *key, uint8_t *out)
{
    size_t mark = tokenizer->space == NULL ? 0 : strlen(tokenizer->space);
    size_t size = 0;
    while (*key != '\0') {
        if (mark > 0 && strncmp(key, tokenizer->space, mark) == 0) {
            out[size++] = ' ';
            key += mark;
        } else {
            out[size++] = (uint8_t)*key++;
        }
    }
    return size;
}

struct loader {
    struct lm_tokenizer *tokenizer;
    bool byte_fallback;
    struct note *note;
};

static enum err bad_id(struct note *note, const char *key, int64_t id)
{
    return note_set(note, ERR_INVALID, "token \"%.40s\" has id %lld, the limit is %u", key,
                    (long long)id, LM_TOKENIZER_VOCAB_MAX - 1);
}

static enum err measure_vocab(void *argument, const char *key, const struct json *value)
{
    struct loader *loader = argument;
    int64_t id = json_as_i64(value, -1);
    if (id < 0 || id >= (int64_t)LM_TOKENIZER_VOCAB_MAX) {
        return bad_id(loader->note, key, id);
    }
    if (strlen(key) > LM_TOKENIZER_PIECE_MAX) {
        return note_set(loader->note, ERR_LIMIT, "token %lld has %zu bytes, the limit is %u",
                        (long long)id, strlen(key), LM_TOKENIZER_PIECE_MAX);
    }
    struct lm_tokenizer *tokenizer = loader->tokenizer;
    tokenizer->vocab = tokenizer->vocab > (uint32_t)id ? tokenizer->vocab : (uint32_t)id + 1;
    return ERR_OK;
}

static enum err take_token(void *argument, const char *key, const struct json *value)
{
    struct loader *loader = argument;
    struct lm_tokenizer *tokenizer = loader->tokenizer;
    uint32_t id = (uint32_t)json_as_i64(value, 0);
    if (tokenizer->keys[id].used) {
        return note_set(loader->note, ERR_INVALID, "two tokens have id %u", id);
    }
    enum err err = pool_add(tokenizer, key, strlen(key), &tokenizer->keys[id]);
    if (err != ERR_OK || tokenizer->pieces[id].used) {
        return err; /* an added token decodes as itself */
    }
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    size_t size = 0;
    if (tokenizer->byte_level) {
        if (unmap((struct bytes){(const uint8_t *)key, strlen(key)}, raw, &size) != ERR_OK) {
            return note_set(loader->note, ERR_INVALID, "token \"%.40s\" is not byte-level text",
                            key);
        }
        if (size == 1) {
            tokenizer->byte_ids[raw[0]] = id;
        }
        /* Encoding works on raw bytes: look up by them. */
        err = pool_add(tokenizer, raw, size, &tokenizer->pieces[id]);
        tokenizer->keys[id] = tokenizer->pieces[id];
        return err;
    }
    int byte = loader->byte_fallback ? fallback_byte(key) : -1;
    if (byte >= 0) {
        tokenizer->byte_ids[byte] = id;
        raw[0] = (uint8_t)byte;
        size = 1;
    } else {
        size = unspace(tokenizer, key, raw);
    }
    return pool_add(tokenizer, raw, size, &tokenizer->pieces[id]);
}

static enum err build_slots(struct lm_tokenizer *tokenizer, struct note *note)
{
    uint32_t count = 16;
    while (count < tokenizer->vocab * 2) {
        count *= 2;
    }
    tokenizer->slots = malloc(count * sizeof *tokenizer->slots);
    if (tokenizer->slots == NULL) {
        return ERR_NO_MEMORY;
    }
    memset(tokenizer->slots, 0xFF, count * sizeof *tokenizer->slots);
    tokenizer->slot_mask = count - 1;
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        /* Spellings of special tokens are never made from text. */
        if (!tokenizer->keys[id].used || tokenizer->keys[id].special) {
            continue;
        }
        struct bytes key = key_bytes(tokenizer, id);
        if (tokenizer_lookup(tokenizer, key) != LM_TOKENIZER_NONE) {
            return note_set(note, ERR_INVALID, "token %u is spelled as another", id);
        }
        uint32_t slot = hash_key(key) & tokenizer->slot_mask;
        while (tokenizer->slots[slot] != LM_TOKENIZER_NONE) {
            slot = (slot + 1) & tokenizer->slot_mask;
        }
        tokenizer->slots[slot] = id;
    }
    return ERR_OK;
}

/* --- merges --- */

/* Finds a side of a merge; both families spell merges as they spell tokens. */
static uint32_t merge_side(const struct lm_tokenizer *tokenizer, struct bytes text)
{
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    if (text.size == 0 || text.size > sizeof raw) {
        return LM_TOKENIZER_NONE;
    }
    if (tokenizer->byte_level) {
        size_t size = 0;
        if (unmap(text, raw, &size) != ERR_OK) {
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
    if (json_kind(node) == JSON_KIND_ARRAY && json_count(node) == 2) {
        left = json_as_text(json_item(node, 0), NULL);
        right = json_as_text(json_item(node, 1), NULL);
        left_size = left == NULL ? 0 : strlen(left);
    } else {
        left = json_as_text(node, NULL);
        const char *blank = left == NULL ? NULL : strchr(left, ' ');
        right = blank == NULL ? NULL : blank + 1;
        left_size = blank == NULL ? 0 : (size_t)(blank - left);
    }
    if (left == NULL || right == NULL) {
        return note_set(note, ERR_INVALID, "merge %u is not a pair", rank);
    }
    uint32_t a = merge_side(tokenizer, (struct bytes){(const uint8_t *)left, left_size});
    uint32_t b = merge_side(tokenizer, (struct bytes){(const uint8_t *)right, strlen(right)});
    uint32_t id = LM_TOKENIZER_NONE;
    if (a != LM_TOKENIZER_NONE && b != LM_TOKENIZER_NONE) {
        struct bytes x = key_bytes(tokenizer, a);
        struct bytes y = key_bytes(tokenizer, b);
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
            return ERR_OK; /* said twice: the first rank counts */
        }
    }
    tokenizer->merges[slot] = (struct tokenizer_merge){a, b, rank, id};
    return ERR_OK;
}

static enum err load_merges(struct lm_tokenizer *tokenizer, const struct json *model,
                            struct note *note)
{
    const struct json *merges = NULL;
    enum err err = json_get_array(model, "merges", &merges, note);
    if (err != ERR_OK) {
        return err;
    }
    size_t count = json_count(merges);
    if (count > 4U * LM_TOKENIZER_VOCAB_MAX) {
        return note_set(note, ERR_LIMIT, "model.merges has %zu items, the limit is %u", count,
                        4U * LM_TOKENIZER_VOCAB_MAX);
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

/* --- the vocabulary --- */

static enum err measure_added(struct lm_tokenizer *tokenizer, const struct json *added,
                              struct note *note)
{
    if (json_count(added) > LM_TOKENIZER_ADDED_MAX) {
        return note_set(note, ERR_LIMIT, "%zu added tokens, the limit is %u", json_count(added),
                        LM_TOKENIZER_ADDED_MAX);
    }
    for (size_t i = 0; i < json_count(added); i++) {
        const struct json *node = json_item(added, i);
        const char *content = json_as_text(json_member(node, "content"), "");
        int64_t id = json_as_i64(json_member(node, "id"), -1);
        if (content[0] == '\0' || strlen(content) > LM_TOKENIZER_PIECE_MAX) {
            return note_set(note, ERR_INVALID, "added token %zu has no content", i);
        }
        if (id < 0 || id >= (int64_t)LM_TOKENIZER_VOCAB_MAX) {
            return bad_id(note, content, id);
        }
        static const char *const FLAGS[] = {"single_word", "lstrip", "rstrip"};
        for (size_t f = 0; f < sizeof FLAGS / sizeof *FLAGS; f++) {
            if (json_as_bool(json_member(node, FLAGS[f]), false)) {
                return tokenizer_unsupported(note, FLAGS[f], content);
            }
        }
        tokenizer->vocab = tokenizer->vocab > (uint32_t)id ? tokenizer->vocab : (uint32_t)id + 1;
    }
    return ERR_OK;
}

static enum err check_empty(const struct json *object, const char *key, const char *name,
                            struct note *note)
{
    const char *text = json_as_text(json_member(object, key), "");
    bool number = json_as_double(json_member(object, key), 0.0) != 0.0;
    return text[0] == '\0' && !number ? ERR_OK : tokenizer_unsupported(note, name, text);
}

static enum err load_added(struct lm_tokenizer *tokenizer, const struct json *added,
                           struct note *note)
{
    size_t count = json_count(added);
    tokenizer->added = calloc(count + 1, sizeof *tokenizer->added);
    if (tokenizer->added == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *node = json_item(added, i);
        const char *content = json_as_text(json_member(node, "content"), "");
        uint32_t id = (uint32_t)json_as_i64(json_member(node, "id"), 0);
        struct tokenizer_piece *piece = &tokenizer->pieces[id];
        if (piece->used) {
            return note_set(note, ERR_INVALID, "two added tokens have id %u", id);
        }
        enum err err = pool_add(tokenizer, content, strlen(content), piece);
        if (err != ERR_OK) {
            return err;
        }
        piece->added = true;
        piece->special = json_as_bool(json_member(node, "special"), false);
        tokenizer->keys[id].special = piece->special;
        tokenizer->added_first[(uint8_t)content[0]] = 1;
        /* Longest first, so that the first match found is the longest; equal ones by id. */
        uint32_t at = tokenizer->added_count++;
        while (at > 0) {
            const struct tokenizer_piece *before = &tokenizer->pieces[tokenizer->added[at - 1]];
            if (before->size >= piece->size) {
                break;
            }
            tokenizer->added[at] = tokenizer->added[at - 1];
            at--;
        }
        tokenizer->added[at] = id;
    }
    return ERR_OK;
}

static enum err load_model(struct lm_tokenizer *tokenizer, const struct json *root,
                           const struct json *model, struct note *note)
{
    struct loader loader = {.tokenizer = tokenizer, .note = note};
    const struct json *vocab = NULL;
    const struct json *added = json_member(root, "added_tokens");
    loader.byte_fallback = json_as_bool(json_member(model, "byte_fallback"), false);
    tokenizer->ignore_merges = json_as_bool(json_member(model, "ignore_merges"), false);
    tokenizer->fuse_unknown = json_as_bool(json_member(model, "fuse_unk"), false);
    enum err err = json_get_object(model, "vocab", &vocab, note);
    if (err == ERR_OK) {
        err = json_each_member(vocab, measure_vocab, &loader);
    }
    if (err == ERR_OK) {
        err = measure_added(tokenizer, added, note);
    }
    if (err == ERR_OK && tokenizer->vocab == 0) {
        err = note_set(note, ERR_INVALID, "tokenizer.json: the vocabulary is empty");
    }
    if (err != ERR_OK) {
        return err;
    }
    tokenizer->pieces = calloc(tokenizer->vocab, sizeof *tokenizer->pieces);
    tokenizer->keys = calloc(tokenizer->vocab, sizeof *tokenizer->keys);
    if (tokenizer->pieces == NULL || tokenizer->keys == NULL) {
        return ERR_NO_MEMORY;
    }
    err = load_added(tokenizer, added, note);
    if (err == ERR_OK) {
        err = json_each_member(vocab, take_token, &loader);
    }
    if (err == ERR_OK) {
        err = build_slots(tokenizer, note);
    }
    if (err == ERR_OK) {
        err = load_merges(tokenizer, model, note);
    }
    if (err == ERR_OK) {
        const char *unknown = json_as_text(json_member(model, "unk_token"), NULL);
        tokenizer->unknown =
            unknown == NULL ? LM_TOKENIZER_NONE : lm_tokenizer_find(tokenizer, unknown);
    }
    return err;
}

enum err lm_tokenizer_load(struct bytes json, struct lm_tokenizer **out, struct note *note)
{
    struct json *root = NULL;
    struct lm_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        return ERR_NO_MEMORY;
    }
    memset(tokenizer->byte_ids, 0xFF, sizeof tokenizer->byte_ids);
    const struct json *model = NULL;
    enum err err = json_parse(json, LM_TOKENIZER_FILE_MAX, &root, note);
    if (err == ERR_OK) {
        err = json_get_object(root, "model", &model, note);
    }
    if (err == ERR_OK && strcmp(tokenizer_type_of(model), "BPE") != 0 &&
        json_member(model, "type") != NULL) {
        err = tokenizer_unsupported(note, "model.type", tokenizer_type_of(model));
    }
    static const char *const EMPTY[][2] = {
        {"dropout", "model.dropout"},
        {"continuing_subword_prefix", "model.continuing_subword_prefix"},
        {"end_of_word_suffix", "model.end_of_word_suffix"}};
    for (size_t i = 0; i < sizeof EMPTY / sizeof *EMPTY && err == ERR_OK; i++) {
        err = check_empty(model, EMPTY[i][0], EMPTY[i][1], note);
    }
    if (err == ERR_OK) {
        err = tokenizer_load_presplit(tokenizer, json_member(root, "pre_tokenizer"), 0, note);
    }
    if (err == ERR_OK) {
        err = tokenizer_load_normalizer(tokenizer, json_member(root, "normalizer"), 0, note);
    }
    if (err == ERR_OK && tokenizer->byte_level &&
        !tokenizer_is_null(json_member(root, "normalizer"))) {
        err = tokenizer_unsupported(note, "normalizer", "with ByteLevel");
    }
    if (err == ERR_OK) {
        err = tokenizer_load_decoder(tokenizer, json_member(root, "decoder"), 0, note);
    }
    if (err == ERR_OK) {
        err = load_model(tokenizer, root, model, note);
    }
    json_destroy(root);
    if (err != ERR_OK) {
        lm_tokenizer_destroy(tokenizer);
        return err;
    }
    *out = tokenizer;
    return ERR_OK;
}

void lm_tokenizer_destroy(struct lm_tokenizer *tokenizer)
{
    if (tokenizer == NULL) {
        return;
    }
    for (uint32_t i = 0; i < tokenizer->split_count; i++) {
        lm_presplit_destroy(tokenizer->splits[i]);
    }
    free(tokenizer->prepend);
    free(tokenizer->space);
    free(tokenizer->pieces);
    free(tokenizer->pool);
    free(tokenizer->keys);
    free(tokenizer->slots);
    free(tokenizer->merges);
    free(tokenizer->added);
    free(tokenizer);
}

uint32_t lm_tokenizer_find(const struct lm_tokenizer *tokenizer, const char *content)
{
    struct bytes key = {(const uint8_t *)content, strlen(content)};
    for (uint32_t i = 0; i < tokenizer->added_count; i++) {
        struct bytes added = lm_tokenizer_piece(tokenizer, tokenizer->added[i]);
        if (added.size == key.size && memcmp(added.data, key.data, key.size) == 0) {
            return tokenizer->added[i];
        }
    }
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    if (tokenizer->byte_level && key.size <= sizeof raw) {
        size_t size = 0;
        if (unmap(key, raw, &size) != ERR_OK) {
            return LM_TOKENIZER_NONE;
        }
        key = (struct bytes){raw, size};
    }
    return tokenizer_lookup(tokenizer, key);
}
