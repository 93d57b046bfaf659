/* tokenizer.c - loading a tokenizer.json: vocabulary and merges; see tokenizer.h. */
#include "shared/token/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/text/byte_level.h"
#include "shared/token/tokenizer_internal.h"

#define PIECE_DECODED_MAX ((size_t)4 * LM_TOKENIZER_PIECE_MAX) /* bytes that a token decodes to */

/* --- lookups --- */

static uint32_t hash_key(struct bytes key)
{
    uint32_t hash = 0x811c9dc5U; /* FNV-1a */
    for (size_t i = 0; i < key.size; i++) {
        hash = (hash ^ key.data[i]) * 0x01000193U;
    }
    return hash ^ (hash >> 15);
}

struct bytes tokenizer_key(const struct lm_tokenizer *tokenizer, uint32_t id)
{
    return (struct bytes){tokenizer->pool + tokenizer->keys[id].at, tokenizer->keys[id].size};
}

uint32_t tokenizer_lookup(const struct lm_tokenizer *tokenizer, struct bytes key)
{
    uint32_t slot = hash_key(key) & tokenizer->slot_mask;
    for (; tokenizer->slots[slot] != LM_TOKENIZER_NONE; slot = (slot + 1) & tokenizer->slot_mask) {
        struct bytes other = tokenizer_key(tokenizer, tokenizer->slots[slot]);
        if (other.size == key.size && memcmp(other.data, key.data, key.size) == 0) {
            return tokenizer->slots[slot];
        }
    }
    return LM_TOKENIZER_NONE;
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

bool lm_tokenizer_template(const struct lm_tokenizer *tokenizer, uint32_t *out_begin,
                           uint32_t *out_end)
{
    if (tokenizer->templated) {
        *out_begin = tokenizer->begin;
        *out_end = tokenizer->end;
    }
    return tokenizer->templated;
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

enum err tokenizer_unmap(struct bytes text, uint8_t *out, size_t *out_size)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t code = text.data[i];
        size_t step = 1;
        if (code >= 0xC2 && code <= 0xC5 && i + 1 < text.size) {
            code = (code & 0x1F) << 6 | (text.data[i + 1] & 0x3F);
            step = 2;
        }
        int byte = byte_level_byte(code);
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
    static const char DIGITS[] = "0123456789ABCDEFabcdef";
    const char *found = c == '\0' ? NULL : strchr(DIGITS, c);
    int value = found == NULL ? -1 : (int)(found - DIGITS);
    return value < 16 ? value : value - 6;
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

struct loader {
    struct lm_tokenizer *tokenizer;
    bool byte_fallback;
    struct buf scratch[2];
    struct note *note;
};

/* What a spelling decodes to, byte level apart: its byte, or its text after the decoder's replacements. */
static enum err decode_spelling(struct loader *loader, const char *key,
                                struct tokenizer_piece *piece)
{
    struct lm_tokenizer *tokenizer = loader->tokenizer;
    const struct tokenizer_decoder *decoder = &tokenizer->decoder;
    struct bytes text = {(const uint8_t *)key, strlen(key)};
    for (uint32_t i = 0; i < decoder->replace_count; i++) {
        struct buf *made = &loader->scratch[i % 2];
        buf_clear(made);
        tokenizer_replace(text, decoder->replace[i].from, decoder->replace[i].to, made);
        if (buf_err(made) != ERR_OK) {
            return note_set(loader->note, buf_err(made), "token \"%.40s\" decodes to too much",
                            key);
        }
        text = buf_bytes(made);
    }
    if (decoder->metaspace[0] != '\0' && strstr(key, decoder->metaspace) != NULL) {
        if (strchr(key, ' ') != NULL) {
            return note_set(loader->note, ERR_INVALID,
                            "token \"%.40s\" has a blank and a mark for one", key);
        }
        buf_clear(&loader->scratch[0]);
        tokenizer_replace(text, decoder->metaspace, " ", &loader->scratch[0]);
        text = buf_bytes(&loader->scratch[0]);
        piece->marked = true;
    }
    /* NUL ends a spelling, and buf_text ends with one. */
    char spelled[8] = {0};
    memcpy(spelled, text.data, text.size < sizeof spelled ? text.size : 0);
    int byte = decoder->byte_fallback ? fallback_byte(spelled) : -1;
    if (byte >= 0) {
        uint8_t raw = (uint8_t)byte;
        return pool_add(tokenizer, &raw, 1, piece);
    }
    return pool_add(tokenizer, text.data, text.size, piece);
}

/* What token id decodes to. The library's byte-level decoder leaves a spelling as it is when a character
 * of it stands for no byte, as those of many added tokens. */
static enum err make_piece(struct loader *loader, const char *key, struct tokenizer_piece *piece)
{
    struct bytes text = {(const uint8_t *)key, strlen(key)};
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    if (!loader->tokenizer->byte_level) {
        return decode_spelling(loader, key, piece);
    }
    size_t size = 0;
    return tokenizer_unmap(text, raw, &size) == ERR_OK
               ? pool_add(loader->tokenizer, raw, size, piece)
               : pool_add(loader->tokenizer, text.data, text.size, piece);
}

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
    if (tokenizer->pieces[id].used) {
        return note_set(loader->note, ERR_INVALID, "two tokens have id %u", id);
    }
    enum err err = make_piece(loader, key, &tokenizer->pieces[id]);
    if (err != ERR_OK) {
        return err;
    }
    if (!tokenizer->byte_level) {
        int byte = loader->byte_fallback ? fallback_byte(key) : -1;
        if (byte >= 0 && strpbrk(key, "abcdef") == NULL) { /* as the model spells them */
            tokenizer->byte_ids[byte] = id;
        }
        return pool_add(tokenizer, key, strlen(key), &tokenizer->keys[id]);
    }
    /* Encoding works on raw bytes: look up by them. What stands for none cannot come from text. */
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    size_t size = 0;
    if (tokenizer_unmap((struct bytes){(const uint8_t *)key, strlen(key)}, raw, &size) == ERR_OK) {
        tokenizer->keys[id] = tokenizer->pieces[id];
        if (size == 1) {
            tokenizer->byte_ids[raw[0]] = id;
        }
    }
    return ERR_OK;
}

/* An added token may stand in the vocabulary too, under the same id. It decodes to what it is looked for
 * as: the library gives back the blank, say, that the normaliser puts before it. */
static enum err take_added(struct loader *loader, const struct json *vocab,
                           const struct tokenizer_added *added)
{
    struct lm_tokenizer *tokenizer = loader->tokenizer;
    struct tokenizer_piece *piece = &tokenizer->pieces[added->id];
    int64_t listed = json_as_i64(json_member(vocab, added->content), -1);
    if (listed >= 0 && listed != (int64_t)added->id) {
        return note_set(loader->note, ERR_INVALID,
                        "added token \"%.60s\" has id %u, in the vocabulary it has %lld",
                        added->content, added->id, (long long)listed);
    }
    if (piece->used && listed < 0) {
        return note_set(loader->note, ERR_INVALID, "two tokens have id %u", added->id);
    }
    *piece = (struct tokenizer_piece){0};
    enum err err = make_piece(loader, added->pattern, piece);
    piece->special = added->special;
    tokenizer->keys[added->id].special = added->special;
    return err;
}

static enum err take_all_added(struct loader *loader, const struct json *vocab,
                               const struct tokenizer_added_set *set)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < set->count && err == ERR_OK; i++) {
        err = take_added(loader, vocab, &set->items[i]);
    }
    return err;
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
        struct bytes key = tokenizer_key(tokenizer, id);
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

/* Byte-level text falls back to the tokens of its spelling's bytes: never, when all bytes have tokens. */
static enum err check_fallback(const struct loader *loader)
{
    const struct lm_tokenizer *tokenizer = loader->tokenizer;
    for (int byte = 0; byte < 256 && tokenizer->byte_level && loader->byte_fallback; byte++) {
        if (tokenizer->byte_ids[byte] == LM_TOKENIZER_NONE) {
            return tokenizer_unsupported(loader->note, "model.byte_fallback", "with ByteLevel");
        }
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
    CHECK(tokenizer->vocab > 0);
    tokenizer->pieces = calloc(tokenizer->vocab, sizeof *tokenizer->pieces);
    tokenizer->keys = calloc(tokenizer->vocab, sizeof *tokenizer->keys);
    if (tokenizer->pieces == NULL || tokenizer->keys == NULL) {
        return ERR_NO_MEMORY;
    }
    buf_init(&loader.scratch[0], PIECE_DECODED_MAX);
    buf_init(&loader.scratch[1], PIECE_DECODED_MAX);
    err = tokenizer_load_added(tokenizer, added, note);
    if (err == ERR_OK) {
        err = json_each_member(vocab, take_token, &loader);
    }
    if (err == ERR_OK) {
        err = take_all_added(&loader, vocab, &tokenizer->raw);
    }
    if (err == ERR_OK) {
        err = take_all_added(&loader, vocab, &tokenizer->normalized);
    }
    buf_deinit(&loader.scratch[0]);
    buf_deinit(&loader.scratch[1]);
    if (err == ERR_OK) {
        err = check_fallback(&loader);
    }
    if (err == ERR_OK) {
        err = build_slots(tokenizer, note);
    }
    if (err == ERR_OK) {
        err = tokenizer_load_merges(tokenizer, model, note);
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
    tokenizer->begin = LM_TOKENIZER_NONE;
    tokenizer->end = LM_TOKENIZER_NONE;
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
        err = tokenizer_load_cuts(tokenizer, json_member(root, "pre_tokenizer"), note);
    }
    if (err == ERR_OK) {
        err = tokenizer_load_normals(tokenizer, json_member(root, "normalizer"), note);
    }
    if (err == ERR_OK) {
        err = tokenizer_load_decoder(tokenizer, json_member(root, "decoder"), note);
    }
    if (err == ERR_OK) {
        err = load_model(tokenizer, root, model, note);
    }
    if (err == ERR_OK) {
        err = tokenizer_load_template(tokenizer, json_member(root, "post_processor"), note);
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
    for (uint32_t i = 0; i < tokenizer->cut_count; i++) {
        lm_presplit_destroy(tokenizer->cuts[i].split);
    }
    tokenizer_added_deinit(&tokenizer->raw);
    tokenizer_added_deinit(&tokenizer->normalized);
    free(tokenizer->pieces);
    free(tokenizer->pool);
    free(tokenizer->keys);
    free(tokenizer->slots);
    free(tokenizer->merges);
    free(tokenizer);
}

static uint32_t find_added(const struct tokenizer_added_set *set, const char *content)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i].content, content) == 0) {
            return set->items[i].id;
        }
    }
    return LM_TOKENIZER_NONE;
}

uint32_t lm_tokenizer_find(const struct lm_tokenizer *tokenizer, const char *content)
{
    uint32_t id = find_added(&tokenizer->raw, content);
    id = id == LM_TOKENIZER_NONE ? find_added(&tokenizer->normalized, content) : id;
    if (id != LM_TOKENIZER_NONE) {
        return id;
    }
    struct bytes key = {(const uint8_t *)content, strlen(content)};
    uint8_t raw[LM_TOKENIZER_PIECE_MAX];
    if (tokenizer->byte_level) {
        size_t size = 0;
        if (key.size > sizeof raw || tokenizer_unmap(key, raw, &size) != ERR_OK) {
            return LM_TOKENIZER_NONE;
        }
        key = (struct bytes){raw, size};
    }
    return tokenizer_lookup(tokenizer, key);
}
