/* tokenizer_encode.c - text to ids; see tokenizer.h.
 *
 * Text is cut at added tokens, then by the patterns one after the other, then each word is merged:
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
    uint32_t depth; /* which pattern cuts next */
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

static enum err reserve(struct encoder *encoder, size_t count)
{
    if (count <= encoder->capacity) {
        return ERR_OK;
    }
    size_t wanted = count < 256 ? 256 : count + count / 2;
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

/* The word as first symbols. A character without a token becomes its bytes' tokens, or unknown. */
static enum err first_symbols(struct encoder *encoder, struct bytes word, uint32_t *out_count)
{
    const struct lm_tokenizer *tokenizer = encoder->tokenizer;
    uint32_t count = 0;
    for (size_t i = 0; i < word.size;) {
        size_t size = 1;
        uint32_t id = tokenizer->byte_ids[word.data[i]];
        if (!tokenizer->byte_level) {
            size = utf8_char_size((struct bytes){word.data + i, word.size - i});
            CHECK(size > 0); /* the text was checked */
            id = tokenizer_lookup(tokenizer, (struct bytes){word.data + i, size});
        }
        bool bytes_known = true;
        for (size_t k = 0; k < size; k++) {
            bytes_known = bytes_known && tokenizer->byte_ids[word.data[i + k]] != LM_TOKENIZER_NONE;
        }
        if (id != LM_TOKENIZER_NONE) {
            encoder->symbols[count++].id = id;
        } else if (bytes_known) {
            for (size_t k = 0; k < size; k++) {
                encoder->symbols[count++].id = tokenizer->byte_ids[word.data[i + k]];
            }
        } else if (tokenizer->unknown == LM_TOKENIZER_NONE) {
            return note_set(encoder->note, ERR_INVALID,
                            "text has bytes the tokenizer has no token for");
        } else if (!tokenizer->fuse_unknown || count == 0 ||
                   encoder->symbols[count - 1].id != tokenizer->unknown) {
            encoder->symbols[count++].id = tokenizer->unknown;
        }
        i += size;
    }
    for (uint32_t i = 0; i < count; i++) {
        encoder->symbols[i].previous = i == 0 ? NO_SYMBOL : i - 1;
        encoder->symbols[i].next = i + 1 == count ? NO_SYMBOL : i + 1;
    }
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

/* Cuts by pattern number encoder->depth, and what it gives by the next. */
static enum err split_word(void *argument, struct bytes word)
{
    struct encoder *encoder = argument;
    if (encoder->depth == encoder->tokenizer->split_count) {
        return encode_word(encoder, word);
    }
    const struct lm_presplit *split = encoder->tokenizer->splits[encoder->depth++];
    enum err err = lm_presplit_each(split, word, split_word, encoder, encoder->note);
    encoder->depth--;
    return err;
}

/* Text between added tokens. */
static enum err encode_plain(struct encoder *encoder, struct bytes text)
{
    const struct lm_tokenizer *tokenizer = encoder->tokenizer;
    if (text.size == 0) {
        return ERR_OK;
    }
    bool prefix = tokenizer->byte_level && tokenizer->prefix_space && text.data[0] != ' ';
    if (!prefix && tokenizer->prepend == NULL && tokenizer->space == NULL) {
        return split_word(encoder, text);
    }
    struct buf normal;
    buf_init(&normal, (size_t)LM_TOKENIZER_TEXT_MAX * 16 + 64);
    if (prefix) {
        (void)buf_append_byte(&normal, ' ');
    }
    if (tokenizer->prepend != NULL) {
        (void)buf_append_text(&normal, tokenizer->prepend);
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == ' ' && tokenizer->space != NULL) {
            (void)buf_append_text(&normal, tokenizer->space);
        } else {
            (void)buf_append_byte(&normal, text.data[i]);
        }
    }
    enum err err = buf_err(&normal);
    if (err == ERR_OK) {
        err = split_word(encoder, buf_bytes(&normal));
    }
    buf_deinit(&normal);
    return err;
}

/* The longest added token that text begins with, or LM_TOKENIZER_NONE. */
static uint32_t added_at(const struct lm_tokenizer *tokenizer, struct bytes text, bool special)
{
    for (uint32_t i = 0; i < tokenizer->added_count; i++) {
        uint32_t id = tokenizer->added[i];
        struct bytes piece = lm_tokenizer_piece(tokenizer, id);
        if ((special || !tokenizer->pieces[id].special) && piece.size <= text.size &&
            memcmp(piece.data, text.data, piece.size) == 0) {
            return id;
        }
    }
    return LM_TOKENIZER_NONE;
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
    size_t count_before = out->count;
    size_t begin = 0;
    enum err err = ERR_OK;
    for (size_t i = 0; i < text.size && err == ERR_OK;) {
        uint32_t id = LM_TOKENIZER_NONE;
        if (tokenizer->added_first[text.data[i]] != 0) {
            id = added_at(tokenizer, (struct bytes){text.data + i, text.size - i}, special);
        }
        if (id == LM_TOKENIZER_NONE) {
            i++;
            continue;
        }
        err = encode_plain(&encoder, (struct bytes){text.data + begin, i - begin});
        if (err == ERR_OK) {
            err = append(&encoder, id);
        }
        i += tokenizer->pieces[id].size;
        begin = i;
    }
    if (err == ERR_OK && begin < text.size) {
        err = encode_plain(&encoder, (struct bytes){text.data + begin, text.size - begin});
    }
    free(encoder.symbols);
    free(encoder.heap);
    if (err != ERR_OK) {
        out->count = count_before;
    }
    return err;
}
