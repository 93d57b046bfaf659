/* tokenizer_sections.c - the sections of a tokenizer.json besides vocabulary and added tokens: how text
 * is made normal, cut and put together again, and what stands around it; see tokenizer.h. */
#include <string.h>

#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "shared/json/json.h"
#include "shared/text/byte_level.h"
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

/* A section: nothing, one part, or a Sequence of parts under key. */
struct section {
    struct lm_tokenizer *tokenizer;
    struct note *note;
    enum { DECODES_TOKENS, DECODES_BYTES, DECODES_TEXT, DECODES_NO_MORE } stage; /* of a decoder */
    bool text_seen;                                                              /* of a template */
};

static enum err each_part(struct section *section, const struct json *node, const char *key,
                          enum err (*take)(struct section *section, const struct json *part))
{
    if (tokenizer_is_null(node)) {
        return ERR_OK;
    }
    if (strcmp(tokenizer_type_of(node), "Sequence") != 0) {
        return take(section, node);
    }
    const struct json *list = json_member(node, key);
    enum err err = ERR_OK;
    for (size_t i = 0; i < json_count(list) && err == ERR_OK; i++) {
        err = take(section, json_item(list, i));
    }
    return err;
}

/* Copies a short text, of at least one byte, or one character when character says so. */
static enum err take_text(const struct json *node, const char *key, bool character, char *out,
                          size_t out_size, struct note *note)
{
    const char *text = json_as_text(json_member(node, key), "");
    size_t size = strlen(text);
    bool fits = size > 0 && size < out_size;
    if (!fits ||
        (character && utf8_char_size((struct bytes){(const uint8_t *)text, size}) != size)) {
        return tokenizer_unsupported(note, key, text);
    }
    memcpy(out, text, size + 1);
    return ERR_OK;
}

/* {"pattern": {"String": from}, "content": to}, of normalisers and decoders. */
static enum err take_replace(const struct json *node, const char *field,
                             struct tokenizer_normal *steps, uint32_t *count, struct note *note)
{
    const struct json *pattern = json_member(node, "pattern");
    const char *to = json_as_text(json_member(node, "content"), NULL);
    if (json_as_text(json_member(pattern, "String"), NULL) == NULL) {
        return tokenizer_unsupported(note, field, "Regex");
    }
    if (*count == TOKENIZER_STEPS_MAX) {
        return note_set(note, ERR_LIMIT, "tokenizer.json: %s: more than %u steps", field,
                        TOKENIZER_STEPS_MAX);
    }
    struct tokenizer_normal step = {.kind = TOKENIZER_REPLACE};
    enum err err = take_text(pattern, "String", false, step.from, sizeof step.from, note);
    if (err != ERR_OK) {
        return err;
    }
    if (to == NULL || strlen(to) > TOKENIZER_SHORT_MAX) {
        return tokenizer_unsupported(note, "content", to);
    }
    memcpy(step.to, to, strlen(to) + 1);
    steps[(*count)++] = step;
    return ERR_OK;
}

/* --- normaliser --- */

static enum err take_normal(struct section *section, const struct json *node)
{
    struct lm_tokenizer *tokenizer = section->tokenizer;
    const char *type = tokenizer_type_of(node);
    if (strcmp(type, "Replace") == 0) {
        return take_replace(node, "normalizer.pattern", tokenizer->normals,
                            &tokenizer->normal_count, section->note);
    }
    struct tokenizer_normal step = {.kind = TOKENIZER_NFC};
    if (strcmp(type, "Prepend") == 0) {
        step.kind = TOKENIZER_PREPEND;
        enum err err = take_text(node, "prepend", false, step.to, sizeof step.to, section->note);
        if (err != ERR_OK) {
            return err;
        }
    } else if (strcmp(type, "NFC") != 0) {
        return tokenizer_unsupported(section->note, "normalizer", type);
    }
    if (tokenizer->normal_count == TOKENIZER_STEPS_MAX) {
        return note_set(section->note, ERR_LIMIT, "tokenizer.json: normalizer: more than %u steps",
                        TOKENIZER_STEPS_MAX);
    }
    tokenizer->normals[tokenizer->normal_count++] = step;
    return ERR_OK;
}

enum err tokenizer_load_normals(struct lm_tokenizer *tokenizer, const struct json *node,
                                struct note *note)
{
    struct section section = {.tokenizer = tokenizer, .note = note};
    return each_part(&section, node, "normalizers", take_normal);
}

/* --- pre-tokenizer --- */

static enum err take_split(const struct json *node, struct tokenizer_cut *cut, struct note *note)
{
    static const char *const BEHAVIORS[] = {
        [LM_PRESPLIT_ISOLATED] = "Isolated",
        [LM_PRESPLIT_REMOVED] = "Removed",
        [LM_PRESPLIT_CONTIGUOUS] = "Contiguous",
        [LM_PRESPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
        [LM_PRESPLIT_WITH_NEXT] = "MergedWithNext",
    };
    const struct json *pattern = json_member(node, "pattern");
    const char *behavior = json_as_text(json_member(node, "behavior"), "");
    const char *text = json_as_text(json_member(pattern, "String"), NULL);
    struct lm_presplit_options options = {
        .literal = text != NULL, .invert = json_as_bool(json_member(node, "invert"), false)};
    text = text == NULL ? json_as_text(json_member(pattern, "Regex"), NULL) : text;
    if (text == NULL || text[0] == '\0') {
        return tokenizer_unsupported(note, "pre_tokenizer.pattern", text);
    }
    size_t i = 0;
    while (i < sizeof BEHAVIORS / sizeof *BEHAVIORS && strcmp(behavior, BEHAVIORS[i]) != 0) {
        i++;
    }
    if (i == sizeof BEHAVIORS / sizeof *BEHAVIORS) {
        return tokenizer_unsupported(note, "pre_tokenizer.behavior", behavior);
    }
    options.behavior = (enum lm_presplit_behavior)i;
    return lm_presplit_create(text, options, &cut->split, note);
}

static enum err take_metaspace_scheme(const struct json *node, struct tokenizer_cut *cut,
                                      struct note *note)
{
    const char *scheme = json_as_text(json_member(node, "prepend_scheme"), NULL);
    /* Files older than prepend_scheme say only whether. */
    bool prefix = json_as_bool(json_member(node, "add_prefix_space"), true);
    if (scheme == NULL) {
        cut->prefix = prefix ? TOKENIZER_ALWAYS : TOKENIZER_NEVER;
    } else if (strcmp(scheme, "never") == 0) {
        cut->prefix = TOKENIZER_NEVER;
    } else if (strcmp(scheme, "first") == 0 && prefix) {
        cut->prefix = TOKENIZER_FIRST;
    } else if (strcmp(scheme, "always") == 0 && prefix) {
        cut->prefix = TOKENIZER_ALWAYS;
    } else {
        return tokenizer_unsupported(note, "prepend_scheme", scheme);
    }
    return ERR_OK;
}

static enum err take_metaspace(const struct json *node, struct tokenizer_cut *cut,
                               struct note *note)
{
    enum err err = take_text(node, "replacement", true, cut->mark, sizeof cut->mark, note);
    if (err == ERR_OK) {
        err = take_metaspace_scheme(node, cut, note);
    }
    if (err == ERR_OK && json_as_bool(json_member(node, "split"), true)) {
        struct lm_presplit_options options = {.behavior = LM_PRESPLIT_WITH_NEXT, .literal = true};
        err = lm_presplit_create(cut->mark, options, &cut->split, note);
    }
    return err;
}

static enum err take_cut(struct section *section, const struct json *node)
{
    struct lm_tokenizer *tokenizer = section->tokenizer;
    const char *type = tokenizer_type_of(node);
    if (tokenizer->byte_level) {
        return note_set(section->note, ERR_INVALID,
                        "tokenizer.json: pre_tokenizer: ByteLevel must be the last");
    }
    if (tokenizer->cut_count == TOKENIZER_STEPS_MAX) {
        return note_set(section->note, ERR_LIMIT,
                        "tokenizer.json: pre_tokenizer: more than %u steps", TOKENIZER_STEPS_MAX);
    }
    struct tokenizer_cut *cut = &tokenizer->cuts[tokenizer->cut_count++];
    struct lm_presplit_options isolated = {.behavior = LM_PRESPLIT_ISOLATED};
    if (strcmp(type, "ByteLevel") ==
        0) { /* trim_offsets: of places in the text, which we do not give */
        tokenizer->byte_level = true;
        if (json_as_bool(json_member(node, "add_prefix_space"), true)) {
            cut->prefix = TOKENIZER_ALWAYS;
            memcpy(cut->mark, " ", 2);
        }
        return json_as_bool(json_member(node, "use_regex"), true)
                   ? lm_presplit_create(BYTE_LEVEL_PATTERN, isolated, &cut->split, section->note)
                   : ERR_OK;
    }
    if (strcmp(type, "Split") == 0) {
        return take_split(node, cut, section->note);
    }
    if (strcmp(type, "Digits") == 0) { /* SmolLM: numbers apart, digit by digit or as runs */
        bool each = json_as_bool(json_member(node, "individual_digits"), false);
        return lm_presplit_create(each ? "\\p{N}" : "\\p{N}+", isolated, &cut->split,
                                  section->note);
    }
    return strcmp(type, "Metaspace") == 0
               ? take_metaspace(node, cut, section->note)
               : tokenizer_unsupported(section->note, "pre_tokenizer", type);
}

enum err tokenizer_load_cuts(struct lm_tokenizer *tokenizer, const struct json *node,
                             struct note *note)
{
    struct section section = {.tokenizer = tokenizer, .note = note};
    return each_part(&section, node, "pretokenizers", take_cut);
}

/* --- decoder --- */

static enum err take_strip(struct section *section, const struct json *node)
{
    struct tokenizer_decoder *decoder = &section->tokenizer->decoder;
    char content[2] = {0};
    enum err err = take_text(node, "content", false, content, sizeof content, section->note);
    int64_t start = json_as_i64(json_member(node, "start"), -1);
    if (err != ERR_OK) {
        return err;
    }
    if (section->stage != DECODES_TEXT || start < 0 || start > UINT8_MAX ||
        json_as_i64(json_member(node, "stop"), -1) != 0) {
        return tokenizer_unsupported(section->note, "decoder.Strip", content);
    }
    decoder->strip = content[0];
    decoder->strip_count = (uint32_t)start;
    section->stage = DECODES_NO_MORE;
    return ERR_OK;
}

static enum err take_metaspace_decoder(struct section *section, const struct json *node)
{
    struct tokenizer_decoder *decoder = &section->tokenizer->decoder;
    struct tokenizer_cut as_cut = {0};
    enum err err = take_text(node, "replacement", true, decoder->metaspace,
                             sizeof decoder->metaspace, section->note);
    if (err == ERR_OK) {
        err = take_metaspace_scheme(node, &as_cut, section->note);
    }
    decoder->metaspace_first = as_cut.prefix != TOKENIZER_NEVER;
    section->stage = DECODES_NO_MORE;
    return err;
}

/* What each part may come after: replacements work on tokens, then their bytes are read, then all is one
 * text. In another order, and in parts not named here, ids would decode otherwise than we do. */
static enum err take_decoder(struct section *section, const struct json *node)
{
    struct lm_tokenizer *tokenizer = section->tokenizer;
    const char *type = tokenizer_type_of(node);
    bool first = section->stage == DECODES_TOKENS;
    bool only = first && tokenizer->decoder.replace_count == 0;
    if (tokenizer->byte_level || strcmp(type, "ByteLevel") == 0) {
        section->stage = DECODES_NO_MORE;
        return only && tokenizer->byte_level && strcmp(type, "ByteLevel") == 0
                   ? ERR_OK
                   : tokenizer_unsupported(section->note, "decoder", type);
    }
    if (strcmp(type, "Replace") == 0 && first) {
        return take_replace(node, "decoder.pattern", tokenizer->decoder.replace,
                            &tokenizer->decoder.replace_count, section->note);
    }
    if (strcmp(type, "ByteFallback") == 0 && first) {
        tokenizer->decoder.byte_fallback = true;
        section->stage = DECODES_BYTES;
        return ERR_OK;
    }
    if (strcmp(type, "Fuse") == 0 && (first || section->stage == DECODES_BYTES)) {
        section->stage = DECODES_TEXT;
        return ERR_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        return take_strip(section, node);
    }
    return strcmp(type, "Metaspace") == 0 && only
               ? take_metaspace_decoder(section, node)
               : tokenizer_unsupported(section->note, "decoder", type);
}

enum err tokenizer_load_decoder(struct lm_tokenizer *tokenizer, const struct json *node,
                                struct note *note)
{
    struct section section = {.tokenizer = tokenizer, .note = note};
    if (tokenizer_is_null(node)) { /* tokens with blanks between them: no text of a model */
        return tokenizer_unsupported(note, "decoder", "null");
    }
    return each_part(&section, node, "decoders", take_decoder);
}

/* --- what stands around a text --- */

static enum err take_template_token(struct section *section, const struct json *name,
                                    const struct json *tokens)
{
    struct lm_tokenizer *tokenizer = section->tokenizer;
    const char *key = json_as_text(json_member(name, "id"), "");
    const struct json *ids = json_member(json_member(tokens, key), "ids");
    int64_t id = json_as_i64(json_item(ids, 0), -1);
    uint32_t *place = section->text_seen ? &tokenizer->end : &tokenizer->begin;
    if (json_count(ids) != 1 || id < 0 || id >= tokenizer->vocab || !tokenizer->pieces[id].used) {
        return note_set(section->note, ERR_INVALID,
                        "tokenizer.json: post_processor: \"%.60s\" is not one token", key);
    }
    if (*place != LM_TOKENIZER_NONE) {
        return tokenizer_unsupported(section->note, "post_processor", "two tokens on one side");
    }
    *place = (uint32_t)id;
    return ERR_OK;
}

static enum err take_template(struct section *section, const struct json *node)
{
    const char *type = tokenizer_type_of(node);
    if (strcmp(type, "ByteLevel") == 0) {
        return ERR_OK; /* only for places in the text, which we do not give */
    }
    if (strcmp(type, "TemplateProcessing") != 0 || section->text_seen) {
        return tokenizer_unsupported(section->note, "post_processor", type);
    }
    const struct json *single = json_member(node, "single");
    enum err err = ERR_OK;
    for (size_t i = 0; i < json_count(single) && err == ERR_OK; i++) {
        const struct json *text = json_member(json_item(single, i), "Sequence");
        const struct json *token = json_member(json_item(single, i), "SpecialToken");
        if (token != NULL) {
            err = take_template_token(section, token, json_member(node, "special_tokens"));
        } else if (!section->text_seen &&
                   strcmp(json_as_text(json_member(text, "id"), ""), "A") == 0) {
            section->text_seen = true;
        } else {
            err = tokenizer_unsupported(section->note, "post_processor", "Sequence");
        }
    }
    return err == ERR_OK && !section->text_seen
               ? tokenizer_unsupported(section->note, "post_processor", "no Sequence")
               : err;
}

enum err tokenizer_load_template(struct lm_tokenizer *tokenizer, const struct json *node,
                                 struct note *note)
{
    struct section section = {.tokenizer = tokenizer, .note = note};
    tokenizer->templated = !tokenizer_is_null(node);
    return each_part(&section, node, "processors", take_template);
}
