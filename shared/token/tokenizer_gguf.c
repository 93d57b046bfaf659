/* tokenizer_gguf.c - see tokenizer_gguf.h. */
#include "shared/token/tokenizer_gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "shared/gguf/gguf.h"
#include "shared/json/json.h"
#include "shared/token/tokenizer.h"

#define SPACE "\xE2\x96\x81" /* U+2581 */
#define MERGES_MAX ((size_t)4 * LM_TOKENIZER_VOCAB_MAX)

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_BYTE = 6 };

static const struct {
    const char *name, *pattern; /* NULL: only GPT-2's own */
    bool then_gpt2, ignore_merges;
} PRE[] = {
    {"gpt-2", NULL, true, false},
    {"llama-bpe",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     false, true},
    {"qwen2",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     false, false},
    {"smollm", "\\p{N}", true, false},
};

struct token {
    struct bytes text;
    uint32_t id;
    int32_t type;
    float score;
};

struct vocabulary {
    const struct gguf *gguf;
    struct token *tokens;        /* [count], by id */
    const struct token **sorted; /* [count], by text */
    uint32_t count;
    uint32_t unknown;
    bool byte_level;
};

struct merge {
    uint32_t id, left, right;
    uint32_t left_size, right_size; /* characters */
    float score;
};

static uint32_t characters(struct bytes text)
{
    uint32_t count = 0;
    for (size_t i = 0; i < text.size; i++) {
        count += (text.data[i] & 0xC0) != 0x80;
    }
    return count;
}

static int texts_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_text(const void *left, const void *right)
{
    const struct token *const *a = left;
    const struct token *const *b = right;
    return texts_compare((*a)->text, (*b)->text);
}

static enum err types_read(struct vocabulary *vocabulary, struct note *note)
{
    const struct gguf_entry *types = NULL;
    enum err err =
        gguf_get_array(vocabulary->gguf, "tokenizer.ggml.token_type", GGUF_I32, &types, note);
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND && vocabulary->byte_level ? ERR_OK : err; /* all normal */
    }
    if (types->count != vocabulary->count) {
        return note_set(note, ERR_INVALID, "there are %u tokens and %llu types", vocabulary->count,
                        (unsigned long long)types->count);
    }
    for (uint32_t i = 0; i < vocabulary->count; i++) {
        memcpy(&vocabulary->tokens[i].type, types->data.data + 4 * (size_t)i, 4);
    }
    return ERR_OK;
}

static enum err scores_read(struct vocabulary *vocabulary, struct note *note)
{
    const struct gguf_entry *scores = NULL;
    if (vocabulary->byte_level) {
        return ERR_OK;
    }
    enum err err =
        gguf_get_array(vocabulary->gguf, "tokenizer.ggml.scores", GGUF_F32, &scores, note);
    if (err != ERR_OK) {
        return err;
    }
    if (scores->count != vocabulary->count) {
        return note_set(note, ERR_INVALID, "there are %u tokens and %llu scores", vocabulary->count,
                        (unsigned long long)scores->count);
    }
    for (uint32_t i = 0; i < vocabulary->count; i++) {
        struct token *token = &vocabulary->tokens[i];
        memcpy(&token->score, scores->data.data + 4 * (size_t)i, 4);
        if (isnan(token->score)) {
            return note_set(note, ERR_INVALID, "the score of token %u is no number", i);
        }
    }
    return ERR_OK;
}

static enum err tokens_read(struct vocabulary *vocabulary, struct note *note)
{
    const struct gguf_entry *texts = NULL;
    enum err err =
        gguf_get_array(vocabulary->gguf, "tokenizer.ggml.tokens", GGUF_TEXT, &texts, note);
    if (err != ERR_OK) {
        return err;
    }
    if (texts->count < 1 || texts->count > LM_TOKENIZER_VOCAB_MAX) {
        return note_set(note, ERR_LIMIT, "%llu tokens, allowed are 1 to %u",
                        (unsigned long long)texts->count, LM_TOKENIZER_VOCAB_MAX);
    }
    vocabulary->count = (uint32_t)texts->count;
    vocabulary->tokens = calloc(vocabulary->count, sizeof *vocabulary->tokens);
    vocabulary->sorted = calloc(vocabulary->count, sizeof(const struct token *));
    if (vocabulary->tokens == NULL || vocabulary->sorted == NULL) {
        return ERR_NO_MEMORY;
    }
    struct bytes items = texts->data;
    for (uint32_t i = 0; i < vocabulary->count; i++) {
        struct token *token = &vocabulary->tokens[i];
        *token = (struct token){.text = gguf_text_take(&items), .id = i, .type = TYPE_NORMAL};
        if (token->text.size < 1 || token->text.size > LM_TOKENIZER_PIECE_MAX ||
            !utf8_valid(token->text) || memchr(token->text.data, 0, token->text.size) != NULL) {
            return note_set(note, ERR_INVALID, "token %u is empty, too long or not utf-8", i);
        }
        vocabulary->sorted[i] = token;
    }
    err = types_read(vocabulary, note);
    err = err == ERR_OK ? scores_read(vocabulary, note) : err;
    qsort(vocabulary->sorted, vocabulary->count, sizeof(const struct token *), by_text);
    return err;
}

/* ---- merges out of scores ---- */

static const struct token *token_find(const struct vocabulary *vocabulary, const uint8_t *data,
                                      size_t size)
{
    struct token key = {.text = {data, size}};
    const struct token *wanted = &key;
    const struct token *const *found = bsearch(&wanted, vocabulary->sorted, vocabulary->count,
                                               sizeof(const struct token *), by_text);
    return found != NULL && (*found)->type == TYPE_NORMAL ? *found : NULL;
}

static int by_score(const void *left, const void *right)
{
    const struct merge *a = left;
    const struct merge *b = right;
    if (a->score != b->score) {
        return a->score > b->score ? -1 : 1;
    }
    if (a->left_size != b->left_size) {
        return a->left_size > b->left_size ? -1 : 1;
    }
    if (a->right_size != b->right_size) {
        return a->right_size > b->right_size ? -1 : 1;
    }
    return (a->id > b->id) - (a->id < b->id);
}

/* All pairs of tokens that make this one. */
static enum err pairs_add(const struct vocabulary *vocabulary, const struct token *token,
                          struct merge *merges, uint32_t *count, struct note *note)
{
    for (size_t cut = 1; cut < token->text.size; cut++) {
        const uint8_t *data = token->text.data;
        if ((data[cut] & 0xC0) == 0x80) {
            continue; /* inside a character */
        }
        const struct token *left = token_find(vocabulary, data, cut);
        const struct token *right =
            left == NULL ? NULL : token_find(vocabulary, data + cut, token->text.size - cut);
        if (right == NULL) {
            continue;
        }
        if (*count == MERGES_MAX) {
            return note_set(note, ERR_LIMIT, "the tokens give more than %zu merges", MERGES_MAX);
        }
        merges[(*count)++] = (struct merge){.id = token->id,
                                            .left = left->id,
                                            .right = right->id,
                                            .left_size = characters(left->text),
                                            .right_size = characters(right->text),
                                            .score = token->score};
    }
    return ERR_OK;
}

static enum err scored_merges_write(const struct vocabulary *vocabulary, struct json_writer *writer,
                                    struct note *note)
{
    uint32_t count = 0;
    struct merge *merges = calloc(MERGES_MAX, sizeof *merges);
    enum err err = merges == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (uint32_t i = 0; i < vocabulary->count && err == ERR_OK; i++) {
        if (vocabulary->tokens[i].type == TYPE_NORMAL) {
            err = pairs_add(vocabulary, &vocabulary->tokens[i], merges, &count, note);
        }
    }
    if (err == ERR_OK && count > 0) {
        qsort(merges, count, sizeof *merges, by_score);
    }
    for (uint32_t i = 0; i < count && err == ERR_OK; i++) {
        json_begin_array(writer);
        json_write_text_bytes(writer, vocabulary->tokens[merges[i].left].text);
        json_write_text_bytes(writer, vocabulary->tokens[merges[i].right].text);
        json_end_array(writer);
    }
    free(merges);
    return err;
}

static enum err listed_merges_write(const struct vocabulary *vocabulary, struct json_writer *writer,
                                    struct note *note)
{
    const struct gguf_entry *merges = NULL;
    enum err err =
        gguf_get_array(vocabulary->gguf, "tokenizer.ggml.merges", GGUF_TEXT, &merges, note);
    if (err != ERR_OK) {
        return err;
    }
    struct bytes items = merges->data;
    for (uint64_t i = 0; i < merges->count; i++) {
        struct bytes text = gguf_text_take(&items);
        if (!utf8_valid(text)) {
            return note_set(note, ERR_INVALID, "merge %llu is not utf-8", (unsigned long long)i);
        }
        json_write_text_bytes(writer, text);
    }
    return ERR_OK;
}

/* ---- sections ---- */

static bool is_added(const struct vocabulary *vocabulary, const struct token *token)
{
    return token->type == TYPE_CONTROL || token->type == TYPE_USER ||
           (!vocabulary->byte_level && token->type == TYPE_UNKNOWN);
}

static void added_write(const struct vocabulary *vocabulary, struct json_writer *writer)
{
    json_write_key(writer, "added_tokens");
    json_begin_array(writer);
    for (uint32_t i = 0; i < vocabulary->count; i++) {
        const struct token *token = &vocabulary->tokens[i];
        if (is_added(vocabulary, token)) {
            json_begin_object(writer);
            json_put_u64(writer, "id", i);
            json_write_key(writer, "content");
            json_write_text_bytes(writer, token->text);
            json_put_bool(writer, "special", token->type != TYPE_USER);
            json_put_bool(writer, "normalized", false);
            json_end_object(writer);
        }
    }
    json_end_array(writer);
}

static void byte_level_write(struct json_writer *writer, bool use_regex)
{
    json_begin_object(writer);
    json_put_text(writer, "type", "ByteLevel");
    json_put_bool(writer, "add_prefix_space", false);
    json_put_bool(writer, "use_regex", use_regex);
    json_end_object(writer);
}

/* How text is cut; says whether a word that is a token needs no merging. */
static enum err cutting_write(const struct vocabulary *vocabulary, struct json_writer *writer,
                              bool *out_ignore_merges, struct note *note)
{
    struct bytes name;
    enum err err = gguf_get_text(vocabulary->gguf, "tokenizer.ggml.pre", &name, note);
    if (err != ERR_OK) {
        return err;
    }
    size_t found = 0;
    while (found < sizeof PRE / sizeof PRE[0] && !gguf_text_is(name, PRE[found].name)) {
        found++;
    }
    if (found == sizeof PRE / sizeof PRE[0]) {
        int size = name.size < 40 && utf8_valid(name) ? (int)name.size : 0;
        return note_set(note, ERR_INVALID, "tokenizer.ggml.pre '%.*s' is not supported", size,
                        (const char *)name.data);
    }
    *out_ignore_merges = PRE[found].ignore_merges;
    json_write_key(writer, "pre_tokenizer");
    json_begin_object(writer);
    json_put_text(writer, "type", "Sequence");
    json_write_key(writer, "pretokenizers");
    json_begin_array(writer);
    if (PRE[found].pattern != NULL) {
        json_begin_object(writer);
        json_put_text(writer, "type", "Split");
        json_write_key(writer, "pattern");
        json_begin_object(writer);
        json_put_text(writer, "Regex", PRE[found].pattern);
        json_end_object(writer);
        json_put_text(writer, "behavior", "Isolated");
        json_end_object(writer);
    }
    byte_level_write(writer, PRE[found].then_gpt2);
    json_end_array(writer);
    json_end_object(writer);
    json_write_key(writer, "decoder");
    byte_level_write(writer, false);
    return ERR_OK;
}

static void replace_write(struct json_writer *writer, const char *from, const char *to)
{
    json_begin_object(writer);
    json_put_text(writer, "type", "Replace");
    json_write_key(writer, "pattern");
    json_begin_object(writer);
    json_put_text(writer, "String", from);
    json_end_object(writer);
    json_put_text(writer, "content", to);
    json_end_object(writer);
}

static void type_write(struct json_writer *writer, const char *type)
{
    json_begin_object(writer);
    json_put_text(writer, "type", type);
    json_end_object(writer);
}

static enum err spaces_write(const struct vocabulary *vocabulary, struct json_writer *writer,
                             struct note *note)
{
    bool prefix = true;
    enum err err =
        gguf_get_bool(vocabulary->gguf, "tokenizer.ggml.add_space_prefix", &prefix, note);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    json_write_key(writer, "normalizer");
    json_begin_object(writer);
    json_put_text(writer, "type", "Sequence");
    json_write_key(writer, "normalizers");
    json_begin_array(writer);
    if (prefix) {
        json_begin_object(writer);
        json_put_text(writer, "type", "Prepend");
        json_put_text(writer, "prepend", SPACE);
        json_end_object(writer);
    }
    replace_write(writer, " ", SPACE);
    json_end_array(writer);
    json_end_object(writer);
    json_write_key(writer, "decoder");
    json_begin_object(writer);
    json_put_text(writer, "type", "Sequence");
    json_write_key(writer, "decoders");
    json_begin_array(writer);
    replace_write(writer, SPACE, " ");
    type_write(writer, "ByteFallback");
    type_write(writer, "Fuse");
    if (prefix) {
        json_begin_object(writer);
        json_put_text(writer, "type", "Strip");
        json_put_text(writer, "content", " ");
        json_put_u64(writer, "start", 1);
        json_put_u64(writer, "stop", 0);
        json_end_object(writer);
    }
    json_end_array(writer);
    json_end_object(writer);
    return ERR_OK;
}

static enum err model_write(const struct vocabulary *vocabulary, struct json_writer *writer,
                            bool ignore_merges, struct note *note)
{
    CHECK(vocabulary->tokens != NULL);
    json_write_key(writer, "model");
    json_begin_object(writer);
    json_put_text(writer, "type", "BPE");
    json_put_bool(writer, "ignore_merges", ignore_merges);
    if (!vocabulary->byte_level) {
        json_put_bool(writer, "byte_fallback", true);
        json_put_bool(writer, "fuse_unk", true);
        json_write_key(writer, "unk_token");
        json_write_text_bytes(writer, vocabulary->tokens[vocabulary->unknown].text);
    }
    json_write_key(writer, "vocab");
    json_begin_object(writer);
    for (uint32_t i = 0; i < vocabulary->count; i++) {
        const struct token *token = &vocabulary->tokens[i];
        if (token->type == TYPE_NORMAL || (token->type == TYPE_BYTE && !vocabulary->byte_level)) {
            char text[LM_TOKENIZER_PIECE_MAX + 1];
            memcpy(text, token->text.data, token->text.size);
            text[token->text.size] = '\0';
            json_put_u64(writer, text, i);
        }
    }
    json_end_object(writer);
    json_write_key(writer, "merges");
    json_begin_array(writer);
    enum err err = vocabulary->byte_level ? listed_merges_write(vocabulary, writer, note)
                                          : scored_merges_write(vocabulary, writer, note);
    json_end_array(writer);
    json_end_object(writer);
    return err;
}

static enum err family_read(struct vocabulary *vocabulary, struct note *note)
{
    struct bytes family;
    enum err err = gguf_get_text(vocabulary->gguf, "tokenizer.ggml.model", &family, note);
    if (err != ERR_OK) {
        return err;
    }
    vocabulary->byte_level = gguf_text_is(family, "gpt2");
    if (!vocabulary->byte_level && !gguf_text_is(family, "llama")) {
        return note_set(note, ERR_INVALID,
                        "tokenizer.ggml.model is not supported, known are gpt2 and llama");
    }
    err = tokens_read(vocabulary, note);
    if (err == ERR_OK) {
        err = gguf_get_u32(vocabulary->gguf, "tokenizer.ggml.unknown_token_id",
                           &vocabulary->unknown, note);
        err = err == ERR_NOT_FOUND ? ERR_OK : err; /* token 0, as llama.cpp has it */
    }
    return err == ERR_OK && vocabulary->unknown >= vocabulary->count
               ? note_set(note, ERR_RANGE, "tokenizer.ggml.unknown_token_id is no token")
               : err;
}

enum err lm_tokenizer_from_gguf(const struct gguf *gguf, struct buf *out, struct note *note)
{
    struct vocabulary vocabulary = {.gguf = gguf};
    struct json_writer writer;
    bool ignore_merges = false;
    size_t before = out->size;
    enum err err = family_read(&vocabulary, note);
    json_writer_init(&writer, out, false);
    json_begin_object(&writer);
    if (err == ERR_OK) {
        added_write(&vocabulary, &writer);
        err = vocabulary.byte_level ? cutting_write(&vocabulary, &writer, &ignore_merges, note)
                                    : spaces_write(&vocabulary, &writer, note);
    }
    err = err == ERR_OK ? model_write(&vocabulary, &writer, ignore_merges, note) : err;
    json_end_object(&writer);
    err = err == ERR_OK ? buf_err(out) : err;
    if (err != ERR_OK) {
        buf_truncate(out, before);
        err = note_wrap(note, err == ERR_NOT_FOUND ? ERR_INVALID : err, "gguf tokenizer");
    }
    free(vocabulary.tokens);
    free(vocabulary.sorted);
    return err;
}
