/* tokenizer_encode.c - text to ids; see tokenizer.h.
 *
 * Text is cut at added tokens, what lies between is made normal and cut at those that are normal too,
 * the rest goes through the steps of the pre-tokenizer one after the other, then each word is merged:
 * symbols form a doubly linked list in an array, candidate merges a heap ordered by (rank, position),
 * and an entry whose symbols have changed since is dropped when it comes up. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "shared/token/tokenizer_internal.h"

#define NO_SYMBOL UINT32_MAX

void lm_ids_init(struct lm_ids *ids, size_t limit)
{
    *ids = (struct lm_ids){.limit = limit};
}

void lm_ids_deinit(struct lm_ids *ids)
{
    free(ids->items);
    *ids = (struct lm_ids){0};
}

enum err lm_ids_append(struct lm_ids *ids, uint32_t id)
{
    if (ids->count >= ids->limit) {
        return ERR_LIMIT;
    }
    if (ids->count == ids->capacity) {
        size_t wanted = ids->capacity < 64 ? 64 : ids->capacity * 2;
        uint32_t *grown = realloc(ids->items, wanted * sizeof *grown);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        ids->items = grown;
        ids->capacity = wanted;
    }
    ids->items[ids->count++] = id;
    return ERR_OK;
}

struct symbol {
    uint32_t id;
    uint32_t previous, next; /* NO_SYMBOL at the ends */
};

struct candidate {
    uint32_t rank, at; /* at: the left symbol */
    uint32_t left, right, id;
};

struct encoder {
    const struct lm_tokenizer *tokenizer;
    struct lm_ids *out;
    struct note *note;
    struct symbol *symbols;
    struct candidate *heap;
    size_t capacity; /* of symbols; the heap holds three times as many */
    size_t heap_count;
    struct buf normal[2];
    /* Of each step that is cutting: the text it cuts, and whether that begins where all text does. */
    struct level {
        struct buf marked;
        const uint8_t *begin;
        bool first;
    } levels[TOKENIZER_STEPS_MAX];
    uint32_t depth; /* which step cuts next */
};

static bool comes_before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push_candidate(struct encoder *encoder, uint32_t at)
{
    if (at == NO_SYMBOL || encoder->symbols[at].next == NO_SYMBOL) {
        return;
    }
    uint32_t left = encoder->symbols[at].id;
    uint32_t right = encoder->symbols[encoder->symbols[at].next].id;
    const struct tokenizer_merge *merge = tokenizer_merge_of(encoder->tokenizer, left, right);
    if (merge == NULL) {
        return;
    }
    struct candidate entry = {merge->rank, at, left, right, merge->id};
    /* Each merge adds at most two to the first n - 1, and there are at most n - 1 merges. */
    CHECK(encoder->heap_count < encoder->capacity * 3);
    size_t slot = encoder->heap_count++;
    while (slot > 0 && comes_before(&entry, &encoder->heap[(slot - 1) / 2])) {
        encoder->heap[slot] = encoder->heap[(slot - 1) / 2];
        slot = (slot - 1) / 2;
    }
    encoder->heap[slot] = entry;
}

static struct candidate pop_candidate(struct encoder *encoder)
{
    struct candidate top = encoder->heap[0];
    struct candidate last = encoder->heap[--encoder->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= encoder->heap_count) {
            break;
        }
        if (child + 1 < encoder->heap_count &&
            comes_before(&encoder->heap[child + 1], &encoder->heap[child])) {
            child++;
        }
        if (!comes_before(&encoder->heap[child], &last)) {
            break;
        }
        encoder->heap[at] = encoder->heap[child];
        at = child;
    }
    encoder->heap[at] = last;
    return top;
}

/* Room for a word of count bytes; all memory that merging takes. */
static enum err reserve(struct encoder *encoder, size_t count)
{
    if (count <= encoder->capacity) {
        return ERR_OK;
    }
    if (count > LM_TOKENIZER_WORD_MAX) {
        return note_set(encoder->note, ERR_LIMIT,
                        "a piece of text that nothing cuts has %zu bytes, the limit is %u", count,
                        LM_TOKENIZER_WORD_MAX);
    }
    size_t wanted = count < 256 ? 256 : count + count / 2;
    wanted = wanted < LM_TOKENIZER_WORD_MAX ? wanted : LM_TOKENIZER_WORD_MAX;
    struct symbol *symbols = realloc(encoder->symbols, wanted * sizeof *symbols);
    if (symbols == NULL) {
        return ERR_NO_MEMORY;
    }
    encoder->symbols = symbols;
    struct candidate *heap = realloc(encoder->heap, wanted * 3 * sizeof *heap);
    if (heap == NULL) {
        return ERR_NO_MEMORY;
    }
    encoder->heap = heap;
    encoder->capacity = wanted;
    return ERR_OK;
}

static void link_symbols(struct symbol *symbols, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        symbols[i].previous = i == 0 ? NO_SYMBOL : i - 1;
        symbols[i].next = i + 1 == count ? NO_SYMBOL : i + 1;
    }
}

/* Have all bytes of a character tokens? Byte level, the one has none. */
static bool falls_back(const struct lm_tokenizer *tokenizer, const uint8_t *bytes, size_t size)
{
    bool known = true;
    for (size_t i = 0; i < size; i++) {
        known = known && tokenizer->byte_ids[bytes[i]] != LM_TOKENIZER_NONE;
    }
    return known;
}

/* The word as first symbols. A character without a token becomes its bytes' tokens, or unknown; one that
 * is unknown is written when the next known character comes, so that it can be one with its likes. */
static enum err first_symbols(struct encoder *encoder, struct bytes word, uint32_t *out_count)
{
    const struct lm_tokenizer *tokenizer = encoder->tokenizer;
    struct symbol *symbols = encoder->symbols;
    bool pending = false;
    uint32_t count = 0;
    for (size_t i = 0; i < word.size;) {
        size_t size = 1;
        uint32_t id = tokenizer->byte_ids[word.data[i]];
        if (!tokenizer->byte_level) {
            size = utf8_char_size((struct bytes){word.data + i, word.size - i});
            CHECK(size > 0); /* the text was checked */
            id = tokenizer_lookup(tokenizer, (struct bytes){word.data + i, size});
        }
        if (id == LM_TOKENIZER_NONE && falls_back(tokenizer, word.data + i, size)) {
            for (size_t k = 0; k < size; k++) {
                symbols[count++].id = tokenizer->byte_ids[word.data[i + k]];
            }
        } else if (id == LM_TOKENIZER_NONE && tokenizer->unknown == LM_TOKENIZER_NONE) {
            return note_set(encoder->note, ERR_INVALID,
                            "text has bytes the tokenizer has no token for");
        } else {
            bool known = id != LM_TOKENIZER_NONE;
            if (pending && (known || !tokenizer->fuse_unknown)) {
                symbols[count++].id = tokenizer->unknown;
            }
            pending = !known;
            if (known) {
                symbols[count++].id = id;
            }
        }
        i += size;
    }
    if (pending) {
        symbols[count++].id = tokenizer->unknown;
    }
    link_symbols(symbols, count);
    *out_count = count;
    return ERR_OK;
}

static enum err append(struct encoder *encoder, uint32_t id)
{
    enum err err = lm_ids_append(encoder->out, id);
    return err != ERR_LIMIT
               ? err
               : note_set(encoder->note, err, "text has more than %zu tokens", encoder->out->limit);
}

static enum err encode_word(void *argument, struct bytes word)
{
    struct encoder *encoder = argument;
    if (encoder->tokenizer->ignore_merges) {
        uint32_t id = tokenizer_lookup(encoder->tokenizer, word);
        if (id != LM_TOKENIZER_NONE) {
            return append(encoder, id);
        }
    }
    enum err err = reserve(encoder, word.size);
    uint32_t count = 0;
    if (err == ERR_OK) {
        err = first_symbols(encoder, word, &count);
    }
    if (err != ERR_OK || count == 0) {
        return err;
    }
    encoder->heap_count = 0;
    for (uint32_t i = 0; i + 1 < count; i++) {
        push_candidate(encoder, i);
    }
    struct symbol *symbols = encoder->symbols;
    while (encoder->heap_count > 0) {
        struct candidate best = pop_candidate(encoder);
        struct symbol *left = &symbols[best.at];
        if (left->id != best.left || left->next == NO_SYMBOL ||
            symbols[left->next].id != best.right) {
            continue; /* one of the two has been merged since */
        }
        struct symbol *right = &symbols[left->next];
        left->id = best.id;
        right->id = LM_TOKENIZER_NONE;
        left->next = right->next;
        if (right->next != NO_SYMBOL) {
            symbols[right->next].previous = best.at;
        }
        push_candidate(encoder, left->previous);
        push_candidate(encoder, best.at);
    }
    for (uint32_t i = 0; i != NO_SYMBOL && err == ERR_OK; i = symbols[i].next) {
        err = append(encoder, symbols[i].id);
    }
    return err;
}

/* The piece with its blanks marked and one put before it, as the step says; itself, or in marked. */
static enum err mark_blanks(const struct tokenizer_cut *cut, bool first, struct buf *marked,
                            struct bytes *piece)
{
    size_t size = strlen(cut->mark);
    bool blanks =
        size > 0 && strcmp(cut->mark, " ") != 0 && memchr(piece->data, ' ', piece->size) != NULL;
    bool begins =
        piece->data[0] == ' ' || (piece->size >= size && memcmp(piece->data, cut->mark, size) == 0);
    bool prefix =
        !begins && (cut->prefix == TOKENIZER_ALWAYS || (cut->prefix == TOKENIZER_FIRST && first));
    if (!blanks && !prefix) {
        return ERR_OK;
    }
    buf_clear(marked);
    if (prefix) {
        (void)buf_append(marked, cut->mark, size);
    }
    if (blanks) {
        tokenizer_replace(*piece, " ", cut->mark, marked);
    } else {
        (void)buf_append_bytes(marked, *piece);
    }
    *piece = buf_bytes(marked);
    return buf_err(marked);
}

static enum err cut_word(void *argument, struct bytes word);

/* Takes a piece, not empty, through the steps from encoder->depth on. first: it begins the text. */
static enum err cut_piece(struct encoder *encoder, struct bytes piece, bool first)
{
    const struct lm_tokenizer *tokenizer = encoder->tokenizer;
    uint32_t depth = encoder->depth;
    enum err err = ERR_OK;
    for (uint32_t i = depth; i < tokenizer->cut_count && err == ERR_OK; i++) {
        const struct tokenizer_cut *cut = &tokenizer->cuts[i];
        struct level *level = &encoder->levels[i];
        err = mark_blanks(cut, first, &level->marked, &piece);
        if (err == ERR_OK && cut->split != NULL) {
            level->begin = piece.data;
            level->first = first;
            encoder->depth = i + 1;
            err = lm_presplit_each(cut->split, piece, cut_word, encoder, encoder->note);
            encoder->depth = depth;
            return err;
        }
    }
    return err == ERR_OK ? encode_word(encoder, piece) : err;
}

static enum err cut_word(void *argument, struct bytes word)
{
    struct encoder *encoder = argument;
    const struct level *level = &encoder->levels[encoder->depth - 1];
    if (encoder->depth == encoder->tokenizer->cut_count) {
        return encode_word(encoder, word);
    }
    return cut_piece(encoder, word, level->first && word.data == level->begin);
}

/* Text between added tokens that are looked for as they are. first: it begins the text. */
static enum err encode_plain(struct encoder *encoder, struct bytes text, bool first, bool special)
{
    struct bytes normal = {0};
    enum err err = tokenizer_normalize(encoder->tokenizer, text, encoder->normal, &normal);
    if (err == ERR_LIMIT) {
        err = note_set(encoder->note, err, "text made normal has more than %u bytes",
                       LM_TOKENIZER_NORMAL_MAX);
    }
    struct tokenizer_scan scan = {
        .set = &encoder->tokenizer->normalized, .text = normal, .special = special};
    for (bool more = true; more && err == ERR_OK;) {
        struct bytes before;
        const struct tokenizer_added *token = tokenizer_scan_next(&scan, &before);
        if (before.size > 0) {
            err = cut_piece(encoder, before, first && before.data == normal.data);
        }
        if (err == ERR_OK && token != NULL) {
            err = append(encoder, token->id);
        }
        more = token != NULL;
    }
    return err;
}

static void encoder_deinit(struct encoder *encoder)
{
    for (uint32_t i = 0; i < TOKENIZER_STEPS_MAX; i++) {
        buf_deinit(&encoder->levels[i].marked);
    }
    buf_deinit(&encoder->normal[0]);
    buf_deinit(&encoder->normal[1]);
    free(encoder->symbols);
    free(encoder->heap);
}

enum err lm_tokenizer_encode(const struct lm_tokenizer *tokenizer, struct bytes text, bool special,
                             struct lm_ids *out, struct note *note)
{
    if (text.size > LM_TOKENIZER_TEXT_MAX) {
        return note_set(note, ERR_LIMIT, "text has %zu bytes, the limit is %u", text.size,
                        LM_TOKENIZER_TEXT_MAX);
    }
    if (!utf8_valid(text)) {
        return note_set(note, ERR_INVALID, "text is not utf-8");
    }
    struct encoder encoder = {.tokenizer = tokenizer, .out = out, .note = note};
    for (uint32_t i = 0; i < TOKENIZER_STEPS_MAX; i++) {
        buf_init(&encoder.levels[i].marked, LM_TOKENIZER_NORMAL_MAX);
    }
    buf_init(&encoder.normal[0], LM_TOKENIZER_NORMAL_MAX);
    buf_init(&encoder.normal[1], LM_TOKENIZER_NORMAL_MAX);
    size_t count_before = out->count;
    struct tokenizer_scan scan = {.set = &tokenizer->raw, .text = text, .special = special};
    enum err err = ERR_OK;
    for (bool more = true; more && err == ERR_OK;) {
        struct bytes before;
        const struct tokenizer_added *token = tokenizer_scan_next(&scan, &before);
        if (before.size > 0) {
            err = encode_plain(&encoder, before, before.data == text.data, special);
        }
        if (err == ERR_OK && token != NULL) {
            err = append(&encoder, token->id);
        }
        more = token != NULL;
    }
    encoder_deinit(&encoder);
    if (err != ERR_OK) {
        out->count = count_before;
    }
    return err;
}
