/* tokenizer_added.c - the added tokens of a tokenizer.json, and finding them in text; see tokenizer.h.
 *
 * As Hugging Face's library does it: the longest token at the leftmost place, the search going on
 * behind it also when it was no match after all (not a word of its own, or special where nothing
 * special is read). Tokens not marked normalized are looked for in the text as it is, the others,
 * normalised themselves, in what the normaliser makes of the text between those. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/text/unicode.h"
#include "shared/token/tokenizer_internal.h"

void tokenizer_added_deinit(struct tokenizer_added_set *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        free(set->items[i].content);
        free(set->items[i].pattern);
    }
    free(set->items);
    *set = (struct tokenizer_added_set){0};
}

static enum err normalized_pattern(const struct lm_tokenizer *tokenizer, const char *content,
                                   char **out, struct note *note)
{
    struct buf buffers[2];
    struct bytes text = {(const uint8_t *)content, strlen(content)};
    buf_init(&buffers[0], LM_TOKENIZER_NORMAL_MAX);
    buf_init(&buffers[1], LM_TOKENIZER_NORMAL_MAX);
    enum err err = tokenizer_normalize(tokenizer, text, buffers, &text);
    if (err == ERR_OK && (text.size == 0 || text.size > LM_TOKENIZER_PIECE_MAX)) {
        err = note_set(note, ERR_INVALID, "added token \"%.60s\" has %zu bytes when normalised",
                       content, text.size);
    }
    if (err == ERR_OK) {
        *out = strndup((const char *)text.data, text.size);
        err = *out == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    buf_deinit(&buffers[0]);
    buf_deinit(&buffers[1]);
    return err;
}

static int compare(const struct tokenizer_added *a, const struct tokenizer_added *b)
{
    uint32_t common = a->pattern_size < b->pattern_size ? a->pattern_size : b->pattern_size;
    int order = memcmp(a->pattern, b->pattern, common);
    return order != 0 ? order
                      : (a->pattern_size > b->pattern_size) - (a->pattern_size < b->pattern_size);
}

/* Of equal patterns special ones come first, as in the library's list. */
static int by_pattern(const void *left, const void *right)
{
    const struct tokenizer_added *a = left;
    const struct tokenizer_added *b = right;
    int order = compare(a, b);
    if (order == 0 && a->special != b->special) {
        return a->special ? -1 : 1;
    }
    return order != 0 ? order : (a->order > b->order) - (a->order < b->order);
}

static void set_finish(struct tokenizer_added_set *set)
{
    if (set->count > 0) {
        qsort(set->items, set->count, sizeof *set->items, by_pattern);
    }
    for (uint32_t i = 0; i < set->count; i++) {
        set->begins[(uint8_t)set->items[i].pattern[0]] = true;
    }
}

static enum err refuse_doubles(const struct tokenizer_added_set *set, struct note *note)
{
    for (uint32_t i = 1; i < set->count; i++) {
        if (strcmp(set->items[i - 1].content, set->items[i].content) == 0) {
            return note_set(note, ERR_INVALID, "added token \"%.60s\" is listed twice",
                            set->items[i].content);
        }
    }
    return ERR_OK;
}

enum err tokenizer_load_added(struct lm_tokenizer *tokenizer, const struct json *added,
                              struct note *note)
{
    size_t count = json_count(added);
    tokenizer->raw.items = calloc(count + 1, sizeof *tokenizer->raw.items);
    tokenizer->normalized.items = calloc(count + 1, sizeof *tokenizer->normalized.items);
    if (tokenizer->raw.items == NULL || tokenizer->normalized.items == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct json *node = json_item(added, i);
        bool special = json_as_bool(json_member(node, "special"), false);
        bool normalized = json_as_bool(json_member(node, "normalized"), !special);
        struct tokenizer_added_set *set = normalized ? &tokenizer->normalized : &tokenizer->raw;
        struct tokenizer_added *item = &set->items[set->count++];
        *item = (struct tokenizer_added){
            .id = (uint32_t)json_as_i64(json_member(node, "id"), 0),
            .order = i,
            .special = special,
            .single_word = json_as_bool(json_member(node, "single_word"), false),
            .lstrip = json_as_bool(json_member(node, "lstrip"), false),
            .rstrip = json_as_bool(json_member(node, "rstrip"), false)};
        const char *content = json_as_text(json_member(node, "content"), "");
        item->content = strdup(content);
        item->pattern = normalized ? NULL : strdup(content);
        if (item->content == NULL || (!normalized && item->pattern == NULL)) {
            return ERR_NO_MEMORY;
        }
        enum err err =
            normalized ? normalized_pattern(tokenizer, content, &item->pattern, note) : ERR_OK;
        if (err != ERR_OK) {
            return err;
        }
        item->pattern_size = (uint32_t)strlen(item->pattern);
    }
    set_finish(&tokenizer->raw);
    set_finish(&tokenizer->normalized);
    enum err err = refuse_doubles(&tokenizer->raw, note);
    return err == ERR_OK ? refuse_doubles(&tokenizer->normalized, note) : err;
}

/* Where in [low, high), whose patterns agree in their first depth bytes, the byte at depth is at least
 * byte. None of them ends before depth. */
static uint32_t lower_bound(const struct tokenizer_added_set *set, uint32_t low, uint32_t high,
                            size_t depth, uint32_t byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint8_t)set->items[middle].pattern[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The longest token that text begins with, or NULL. */
static const struct tokenizer_added *longest(const struct tokenizer_added_set *set,
                                             struct bytes text)
{
    const struct tokenizer_added *best = NULL;
    uint32_t low = 0;
    uint32_t high = set->count;
    for (size_t depth = 0; low < high; depth++) {
        if (set->items[low].pattern_size == depth) {
            best = &set->items[low];
        }
        while (low < high && set->items[low].pattern_size == depth) {
            low++;
        }
        if (depth == text.size) {
            break;
        }
        if (low + 1 == high) { /* one is left: long ones are compared at once */
            const struct tokenizer_added *last = &set->items[low];
            bool found = last->pattern_size <= text.size &&
                         memcmp(last->pattern, text.data, last->pattern_size) == 0;
            return found ? last : best;
        }
        low = lower_bound(set, low, high, depth, text.data[depth]);
        high = lower_bound(set, low, high, depth, text.data[depth] + 1U);
    }
    return best;
}

static bool stands_alone(struct bytes text, size_t begin, size_t end)
{
    size_t size = 0;
    bool before =
        begin > 0 && unicode_is_word(unicode_last((struct bytes){text.data, begin}, &size));
    bool after =
        end < text.size &&
        unicode_is_word(unicode_first((struct bytes){text.data + end, text.size - end}, &size));
    return !before && !after;
}

static size_t blanks_before(struct bytes text, size_t end, size_t floor)
{
    size_t size = 0;
    while (end > floor && unicode_is_space(unicode_last((struct bytes){text.data, end}, &size))) {
        end -= size;
    }
    return end;
}

static size_t blanks_behind(struct bytes text, size_t begin)
{
    size_t size = 0;
    while (begin < text.size && unicode_is_space(unicode_first(
                                    (struct bytes){text.data + begin, text.size - begin}, &size))) {
        begin += size;
    }
    return begin;
}

const struct tokenizer_added *tokenizer_scan_next(struct tokenizer_scan *scan,
                                                  struct bytes *out_before)
{
    struct bytes text = scan->text;
    while (scan->at < text.size) {
        size_t begin = scan->at;
        const struct tokenizer_added *token = NULL;
        if (scan->set->begins[text.data[begin]]) {
            token = longest(scan->set, (struct bytes){text.data + begin, text.size - begin});
        }
        if (token == NULL) {
            scan->at++;
            continue;
        }
        size_t end = begin + token->pattern_size;
        scan->at = end;
        if ((token->special && !scan->special) ||
            (token->single_word && !stands_alone(text, begin, end))) {
            continue;
        }
        /* Blanks that the token before took are not there any more. */
        if (token->lstrip && begin > scan->done) {
            begin = blanks_before(text, begin, scan->done);
        }
        if (token->rstrip) {
            end = blanks_behind(text, end);
        }
        *out_before =
            (struct bytes){text.data + scan->done, begin > scan->done ? begin - scan->done : 0};
        scan->done = end;
        return token;
    }
    *out_before = (struct bytes){text.data + scan->done, text.size - scan->done};
    scan->done = text.size;
    return NULL;
}
