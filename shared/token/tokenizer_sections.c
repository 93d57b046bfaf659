/* tokenizer_sections.c - the sections of a tokenizer.json besides the model: how text is cut, made
 * normal and put together again; see tokenizer.h. */
#include <string.h>

#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/token/bpe.h"
#include "shared/token/tokenizer_internal.h"

enum err tokenizer_unsupported(struct note *note, const char *field, const char *value)
{
    return note_set(note, ERR_INVALID, "tokenizer.json: %s \"%.60s\" is not supported", field,
                    value == NULL ? "" : value);
}

bool tokenizer_is_null(const struct json *node)
{
    return node == NULL || json_kind(node) == JSON_KIND_NULL;
}

const char *tokenizer_type_of(const struct json *node)
{
    return json_as_text(json_member(node, "type"), "");
}

static enum err add_split(struct lm_tokenizer *tokenizer, const char *pattern, struct note *note)
{
    if (tokenizer->split_count == TOKENIZER_SPLITS_MAX) {
        return note_set(note, ERR_LIMIT, "more than %u patterns", TOKENIZER_SPLITS_MAX);
    }
    enum err err = lm_presplit_create(pattern, &tokenizer->splits[tokenizer->split_count], note);
    tokenizer->split_count += err == ERR_OK ? 1 : 0;
    return err;
}

enum err tokenizer_load_presplit(struct lm_tokenizer *tokenizer, const struct json *node,
                                 uint32_t depth, struct note *note)
{
    const char *type = tokenizer_type_of(node);
    if (tokenizer_is_null(node)) {
        return ERR_OK;
    }
    if (strcmp(type, "Sequence") == 0 && depth == 0) {
        const struct json *list = json_member(node, "pretokenizers");
        enum err err = ERR_OK;
        for (size_t i = 0; i < json_count(list) && err == ERR_OK; i++) {
            err = tokenizer->byte_level
                      ? note_set(note, ERR_INVALID,
                                 "tokenizer.json: pre_tokenizer: ByteLevel must be the last")
                      : tokenizer_load_presplit(tokenizer, json_item(list, i), 1, note);
        }
        return err;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        tokenizer->byte_level = true;
        tokenizer->prefix_space = json_as_bool(json_member(node, "add_prefix_space"), true);
        bool use_regex = json_as_bool(json_member(node, "use_regex"), true);
        return use_regex ? add_split(tokenizer, LM_BPE_PATTERN, note) : ERR_OK;
    }
    if (strcmp(type, "Split") == 0) {
        const char *pattern =
            json_as_text(json_member(json_member(node, "pattern"), "Regex"), NULL);
        const char *behaviour = json_as_text(json_member(node, "behavior"), "");
        if (pattern == NULL) {
            return tokenizer_unsupported(note, "pre_tokenizer.pattern", "String");
        }
        /* "Removed" inverted keeps exactly the matches; our patterns match everything. */
        if (strcmp(behaviour, "Isolated") != 0) {
            return tokenizer_unsupported(note, "pre_tokenizer.behavior", behaviour);
        }
        return add_split(tokenizer, pattern, note);
    }
    if (strcmp(type, "Digits") == 0) { /* SmolLM: numbers apart, digit by digit or as runs */
        bool each = json_as_bool(json_member(node, "individual_digits"), false);
        return add_split(tokenizer, each ? "\\p{N}" : "\\p{N}+", note);
    }
    return tokenizer_unsupported(note, "pre_tokenizer", type);
}

static enum err take_text(const struct json *node, const char *key, char **out, struct note *note)
{
    const char *text = json_as_text(json_member(node, key), NULL);
    if (text == NULL || text[0] == '\0' || strlen(text) > 16 || *out != NULL) {
        return tokenizer_unsupported(note, key, text);
    }
    *out = strdup(text);
    return *out == NULL ? ERR_NO_MEMORY : ERR_OK;
}

enum err tokenizer_load_normalizer(struct lm_tokenizer *tokenizer, const struct json *node,
                                   uint32_t depth, struct note *note)
{
    const char *type = tokenizer_type_of(node);
    if (tokenizer_is_null(node)) {
        return ERR_OK;
    }
    if (strcmp(type, "Sequence") == 0 && depth == 0) {
        const struct json *list = json_member(node, "normalizers");
        enum err err = ERR_OK;
        for (size_t i = 0; i < json_count(list) && err == ERR_OK; i++) {
            err = tokenizer_load_normalizer(tokenizer, json_item(list, i), 1, note);
        }
        return err;
    }
    if (strcmp(type, "Prepend") == 0 && tokenizer->space == NULL) {
        return take_text(node, "prepend", &tokenizer->prepend, note);
    }
    if (strcmp(type, "Replace") == 0) {
        const char *from =
            json_as_text(json_member(json_member(node, "pattern"), "String"), "(not a String)");
        if (strcmp(from, " ") != 0) {
            return tokenizer_unsupported(note, "normalizer.pattern", from);
        }
        return take_text(node, "content", &tokenizer->space, note);
    }
    return tokenizer_unsupported(note, "normalizer", type);
}

/* Accepts what the two families use; anything else would decode otherwise than we do. */
enum err tokenizer_load_decoder(struct lm_tokenizer *tokenizer, const struct json *node,
                                uint32_t depth, struct note *note)
{
    const char *type = tokenizer_type_of(node);
    if (tokenizer_is_null(node) || strcmp(type, "ByteLevel") == 0) {
        return tokenizer->byte_level && !tokenizer_is_null(node)
                   ? ERR_OK
                   : tokenizer_unsupported(note, "decoder", type);
    }
    if (tokenizer->byte_level) {
        return tokenizer_unsupported(note, "decoder", type);
    }
    if (strcmp(type, "Sequence") == 0 && depth == 0) {
        const struct json *list = json_member(node, "decoders");
        enum err err = ERR_OK;
        for (size_t i = 0; i < json_count(list) && err == ERR_OK; i++) {
            err = tokenizer_load_decoder(tokenizer, json_item(list, i), 1, note);
        }
        return err;
    }
    if (strcmp(type, "Replace") == 0) {
        const char *from = json_as_text(json_member(json_member(node, "pattern"), "String"), "");
        const char *to = json_as_text(json_member(node, "content"), "");
        bool mine = tokenizer->space != NULL && strcmp(from, tokenizer->space) == 0;
        return mine && strcmp(to, " ") == 0 ? ERR_OK
                                            : tokenizer_unsupported(note, "decoder.pattern", from);
    }
    if (strcmp(type, "Strip") == 0) {
        const char *content = json_as_text(json_member(node, "content"), "");
        if (strcmp(content, " ") != 0 || json_as_i64(json_member(node, "start"), 0) != 1 ||
            json_as_i64(json_member(node, "stop"), 0) != 0) {
            return tokenizer_unsupported(note, "decoder.Strip", content);
        }
        tokenizer->strip_first_space = true;
        return ERR_OK;
    }
    return strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0
               ? ERR_OK
               : tokenizer_unsupported(note, "decoder", type);
}
