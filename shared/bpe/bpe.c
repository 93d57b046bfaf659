/* bpe.c - see bpe.h.
 *
 * Words live in one byte pool; a hash table finds a word's index, and each word has a run of symbols
 * in one array, shortened in place as pairs merge. A pair has a record with its count and the words
 * it was ever seen in (never removed: a stale entry finds nothing and costs little). The next merge
 * comes from a heap whose entries are checked against the record when they come up.
 *
 * Memory: about 20 bytes for each byte of distinct words. Single-threaded. */
#include "shared/bpe/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "shared/bpe/bpe_internal.h"
#include "shared/text/byte_level.h"
#include "shared/text/presplit.h"

#define NO_WORD UINT32_MAX

/* --- growing arrays --- */

/* Makes room for one more item; doubling keeps appends linear. */
static enum err grow(void **items, size_t *capacity, size_t needed, size_t item_size)
{
    if (needed <= *capacity) {
        return ERR_OK;
    }
    size_t wanted = *capacity < 64 ? 64 : *capacity * 2;
    wanted = wanted < needed ? needed : wanted;
    if (wanted > SIZE_MAX / item_size) {
        return ERR_NO_MEMORY;
    }
    void *grown = realloc(*items, wanted * item_size);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    *items = grown;
    *capacity = wanted;
    return ERR_OK;
}

static uint64_t hash_bytes(struct bytes bytes)
{
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */
    for (size_t i = 0; i < bytes.size; i++) {
        hash = (hash ^ bytes.data[i]) * 0x100000001b3U;
    }
    return hash ^ (hash >> 29);
}

static int compare_bytes(struct bytes a, struct bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size > 0 ? memcmp(a.data, b.data, size) : 0;
    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : (a.size > b.size ? 1 : 0);
}

/* --- words --- */

struct lm_bpe *lm_bpe_create(void)
{
    struct lm_bpe *bpe = calloc(1, sizeof *bpe);
    if (bpe == NULL || lm_presplit_create(BYTE_LEVEL_PATTERN, (struct lm_presplit_options){0},
                                          &bpe->split, NULL) != ERR_OK) {
        free(bpe);
        return NULL;
    }
    return bpe;
}

void lm_bpe_destroy(struct lm_bpe *bpe)
{
    if (bpe == NULL) {
        return;
    }
    for (size_t i = 0; i < bpe->pair_count; i++) {
        free(bpe->pairs[i].words);
    }
    lm_presplit_destroy(bpe->split);
    free(bpe->pool);
    free(bpe->words);
    free(bpe->word_slots);
    free(bpe->symbols);
    free(bpe->pairs);
    free(bpe->pair_slots);
    free(bpe->heap);
    free(bpe->tokens);
    free(bpe->token_pool);
    free(bpe->merges);
    free(bpe);
}

static struct bytes word_bytes(const struct lm_bpe *bpe, const struct bpe_word *word)
{
    return (struct bytes){bpe->pool + word->at, word->size};
}

static enum err rehash_words(struct lm_bpe *bpe)
{
    size_t count = bpe->word_slot_count == 0 ? 1U << 16 : bpe->word_slot_count * 2;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < bpe->word_count; i++) {
        size_t slot = hash_bytes(word_bytes(bpe, &bpe->words[i])) & (count - 1);
        while (slots[slot] != 0) {
            slot = (slot + 1) & (count - 1);
        }
        slots[slot] = (uint32_t)i + 1;
    }
    free(bpe->word_slots);
    bpe->word_slots = slots;
    bpe->word_slot_count = count;
    return ERR_OK;
}

static enum err count_piece(struct lm_bpe *bpe, struct bytes text)
{
    if (bpe->word_count * 2 >= bpe->word_slot_count) {
        enum err err = rehash_words(bpe);
        if (err != ERR_OK) {
            return err;
        }
    }
    size_t mask = bpe->word_slot_count - 1;
    size_t slot = hash_bytes(text) & mask;
    for (; bpe->word_slots[slot] != 0; slot = (slot + 1) & mask) {
        struct bpe_word *word = &bpe->words[bpe->word_slots[slot] - 1];
        if (word->size == text.size && memcmp(bpe->pool + word->at, text.data, text.size) == 0) {
            word->count++;
            return ERR_OK;
        }
    }
    if (bpe->word_count >= LM_BPE_WORDS_MAX || bpe->pool_size + text.size > LM_BPE_TEXT_MAX) {
        return ERR_LIMIT;
    }
    enum err err =
        grow((void **)&bpe->words, &bpe->word_capacity, bpe->word_count + 1, sizeof *bpe->words);
    if (err == ERR_OK) {
        err = grow((void **)&bpe->pool, &bpe->pool_capacity, bpe->pool_size + text.size, 1);
    }
    if (err != ERR_OK) {
        return err;
    }
    memcpy(bpe->pool + bpe->pool_size, text.data, text.size);
    bpe->words[bpe->word_count] =
        (struct bpe_word){.at = (uint32_t)bpe->pool_size, .size = (uint32_t)text.size, .count = 1};
    bpe->pool_size += text.size;
    bpe->word_slots[slot] = (uint32_t)++bpe->word_count;
    return ERR_OK;
}

static enum err count_word(void *argument, struct bytes text)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && text.size > LM_BPE_WORD_MAX) {
        err = count_piece(argument, bytes_of(text.data, LM_BPE_WORD_MAX));
        text = bytes_of(text.data + LM_BPE_WORD_MAX, text.size - LM_BPE_WORD_MAX);
    }
    return err != ERR_OK ? err : count_piece(argument, text);
}

enum err lm_bpe_add(struct lm_bpe *bpe, struct bytes text, struct note *note)
{
    CHECK(bpe->vocab == 0); /* not after training */
    if (!utf8_valid(text)) {
        return note_set(note, ERR_INVALID, "text is not utf-8");
    }
    enum err err = lm_presplit_each(bpe->split, text, count_word, bpe, note);
    if (err == ERR_LIMIT) {
        return note_set(note, err, "more than %u different words", LM_BPE_WORDS_MAX);
    }
    return err;
}

/* --- pairs --- */

static struct bytes token_bytes(const struct lm_bpe *bpe, uint32_t id)
{
    return (struct bytes){bpe->token_pool + bpe->tokens[id].at, bpe->tokens[id].size};
}

/* Is pair a to be merged before pair b? */
static int heap_before(const struct lm_bpe *bpe, const struct bpe_heap_entry *a,
                       const struct bpe_heap_entry *b)
{
    if (a->count != b->count) {
        return a->count > b->count;
    }
    const struct bpe_pair *x = &bpe->pairs[a->pair];
    const struct bpe_pair *y = &bpe->pairs[b->pair];
    int order = compare_bytes(token_bytes(bpe, x->left), token_bytes(bpe, y->left));
    if (order == 0) {
        order = compare_bytes(token_bytes(bpe, x->right), token_bytes(bpe, y->right));
    }
    return order > 0;
}

static enum err heap_push(struct lm_bpe *bpe, uint32_t pair)
{
    enum err err =
        grow((void **)&bpe->heap, &bpe->heap_capacity, bpe->heap_count + 1, sizeof *bpe->heap);
    if (err != ERR_OK) {
        return err;
    }
    struct bpe_heap_entry entry = {bpe->pairs[pair].count, pair};
    size_t at = bpe->heap_count++;
    while (at > 0 && heap_before(bpe, &entry, &bpe->heap[(at - 1) / 2])) {
        bpe->heap[at] = bpe->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    bpe->heap[at] = entry;
    return ERR_OK;
}

static struct bpe_heap_entry heap_pop(struct lm_bpe *bpe)
{
    struct bpe_heap_entry top = bpe->heap[0];
    struct bpe_heap_entry last = bpe->heap[--bpe->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= bpe->heap_count) {
            break;
        }
        if (child + 1 < bpe->heap_count &&
            heap_before(bpe, &bpe->heap[child + 1], &bpe->heap[child])) {
            child++;
        }
        if (!heap_before(bpe, &bpe->heap[child], &last)) {
            break;
        }
        bpe->heap[at] = bpe->heap[child];
        at = child;
    }
    if (bpe->heap_count > 0) {
        bpe->heap[at] = last;
    }
    return top;
}

static size_t pair_hash(uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15U;
    return (size_t)(key ^ (key >> 31));
}

static enum err rehash_pairs(struct lm_bpe *bpe)
{
    size_t count = bpe->pair_slot_count == 0 ? 1U << 14 : bpe->pair_slot_count * 2;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < bpe->pair_count; i++) {
        size_t slot = pair_hash(bpe->pairs[i].left, bpe->pairs[i].right) & (count - 1);
        while (slots[slot] != 0) {
            slot = (slot + 1) & (count - 1);
        }
        slots[slot] = (uint32_t)i + 1;
    }
    free(bpe->pair_slots);
    bpe->pair_slots = slots;
    bpe->pair_slot_count = count;
    return ERR_OK;
}

/* Adds delta to the pair's count and remembers the word, unless it is NO_WORD. */
static enum err count_pair(struct lm_bpe *bpe, uint32_t left, uint32_t right, int64_t delta,
                           uint32_t word)
{
    if (bpe->pair_count * 2 >= bpe->pair_slot_count) {
        enum err err = rehash_pairs(bpe);
        if (err != ERR_OK) {
            return err;
        }
    }
    size_t mask = bpe->pair_slot_count - 1;
    size_t slot = pair_hash(left, right) & mask;
    struct bpe_pair *pair = NULL;
    for (; bpe->pair_slots[slot] != 0; slot = (slot + 1) & mask) {
        struct bpe_pair *candidate = &bpe->pairs[bpe->pair_slots[slot] - 1];
        if (candidate->left == left && candidate->right == right) {
            pair = candidate;
            break;
        }
    }
    if (pair == NULL) {
        CHECK(delta > 0);
        enum err err = grow((void **)&bpe->pairs, &bpe->pair_capacity, bpe->pair_count + 1,
                            sizeof *bpe->pairs);
        if (err != ERR_OK) {
            return err;
        }
        pair = &bpe->pairs[bpe->pair_count];
        *pair = (struct bpe_pair){.left = left, .right = right};
        bpe->pair_slots[slot] = (uint32_t)++bpe->pair_count;
    }
    CHECK(delta > 0 || pair->count >= (uint64_t)-delta);
    pair->count += (uint64_t)delta;
    if (word != NO_WORD && (pair->word_count == 0 || pair->words[pair->word_count - 1] != word)) {
        enum err err = grow((void **)&pair->words, &pair->word_capacity, pair->word_count + 1,
                            sizeof *pair->words);
        if (err != ERR_OK) {
            return err;
        }
        pair->words[pair->word_count++] = word;
    }
    return ERR_OK;
}

/* --- training --- */

static enum err add_token(struct lm_bpe *bpe, struct bytes left, struct bytes right)
{
    enum err err = grow((void **)&bpe->token_pool, &bpe->token_pool_capacity,
                        bpe->token_pool_size + left.size + right.size, 1);
    if (err != ERR_OK) {
        return err;
    }
    bpe->tokens[bpe->vocab++] = (struct bpe_word){.at = (uint32_t)bpe->token_pool_size,
                                                  .size = (uint32_t)(left.size + right.size)};
    memcpy(bpe->token_pool + bpe->token_pool_size, left.data, left.size);
    bpe->token_pool_size += left.size;
    if (right.size > 0) {
        memcpy(bpe->token_pool + bpe->token_pool_size, right.data, right.size);
        bpe->token_pool_size += right.size;
    }
    return ERR_OK;
}

/* Every byte is a token, in the order GPT-2 lists them: printable ones first. */
static enum err add_first_tokens(struct lm_bpe *bpe, const char *const *special, uint32_t count)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < count && err == ERR_OK; i++) {
        err = add_token(bpe, (struct bytes){(const uint8_t *)special[i], strlen(special[i])},
                        (struct bytes){NULL, 0});
    }
    bpe->special_count = count;
    for (uint32_t code = 0; code < 512 && err == ERR_OK; code++) {
        int value = byte_level_byte(code);
        if (value >= 0) {
            uint8_t byte = (uint8_t)value;
            bpe->byte_token[byte] = bpe->vocab;
            err = add_token(bpe, (struct bytes){&byte, 1}, (struct bytes){NULL, 0});
        }
    }
    return err;
}

static enum err count_all_pairs(struct lm_bpe *bpe)
{
    bpe->symbols = malloc((bpe->pool_size + 1) * sizeof *bpe->symbols);
    if (bpe->symbols == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = ERR_OK;
    for (size_t w = 0; w < bpe->word_count && err == ERR_OK; w++) {
        struct bpe_word *word = &bpe->words[w];
        uint32_t *symbols = bpe->symbols + word->at;
        for (uint32_t i = 0; i < word->size; i++) {
            symbols[i] = bpe->byte_token[bpe->pool[word->at + i]];
        }
        for (uint32_t i = 0; i + 1 < word->size && err == ERR_OK; i++) {
            err = count_pair(bpe, symbols[i], symbols[i + 1], (int64_t)word->count, (uint32_t)w);
        }
    }
    for (size_t i = 0; i < bpe->pair_count && err == ERR_OK; i++) {
        err = heap_push(bpe, (uint32_t)i);
    }
    return err;
}

/* Replaces left right by id in one word and moves the counts of the pairs around it. */
static enum err merge_word(struct lm_bpe *bpe, uint32_t index, uint32_t left, uint32_t right,
                           uint32_t id)
{
    struct bpe_word *word = &bpe->words[index];
    uint32_t *symbols = bpe->symbols + word->at;
    int64_t count = (int64_t)word->count;
    uint32_t i = 0;
    while (i + 1 < word->size && !(symbols[i] == left && symbols[i + 1] == right)) {
        i++;
    }
    if (i + 1 >= word->size) {
        return ERR_OK; /* a stale entry: the pair is gone from here */
    }
    enum err err = ERR_OK;
    for (uint32_t k = 0; k + 1 < word->size && err == ERR_OK; k++) {
        err = count_pair(bpe, symbols[k], symbols[k + 1], -count, NO_WORD);
    }
    uint32_t to = i;
    for (; i < word->size; to++) {
        if (i + 1 < word->size && symbols[i] == left && symbols[i + 1] == right) {
            symbols[to] = id;
            i += 2;
        } else {
            symbols[to] = symbols[i++];
        }
    }
    word->size = to;
    for (uint32_t k = 0; k + 1 < word->size && err == ERR_OK; k++) {
        /* Pairs without the new token already know this word. */
        bool fresh = symbols[k] == id || symbols[k + 1] == id;
        err = count_pair(bpe, symbols[k], symbols[k + 1], count, fresh ? index : NO_WORD);
    }
    return err;
}

/* A merge can spell a token that exists already, by another way; then that token is used. */
static uint32_t find_token(const struct lm_bpe *bpe, struct bytes left, struct bytes right)
{
    for (uint32_t id = bpe->special_count; id < bpe->vocab; id++) {
        struct bytes token = token_bytes(bpe, id);
        if (token.size == left.size + right.size && memcmp(token.data, left.data, left.size) == 0 &&
            memcmp(token.data + left.size, right.data, right.size) == 0) {
            return id;
        }
    }
    return UINT32_MAX;
}

static enum err merge_pair(struct lm_bpe *bpe, uint32_t index)
{
    uint32_t left = bpe->pairs[index].left;
    uint32_t right = bpe->pairs[index].right;
    enum err err = grow((void **)&bpe->merges, &bpe->merge_capacity, bpe->merge_count + 1,
                        sizeof *bpe->merges);
    uint32_t id = find_token(bpe, token_bytes(bpe, left), token_bytes(bpe, right));
    bool known = id != UINT32_MAX;
    if (err == ERR_OK && !known) {
        id = bpe->vocab;
        /* Room first: the two sides point into the pool that add_token grows. */
        err = grow((void **)&bpe->token_pool, &bpe->token_pool_capacity,
                   bpe->token_pool_size + bpe->tokens[left].size + bpe->tokens[right].size, 1);
        if (err == ERR_OK) {
            err = add_token(bpe, token_bytes(bpe, left), token_bytes(bpe, right));
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    bpe->merges[bpe->merge_count++] = (struct bpe_merge){left, right};
    size_t first_new = bpe->pair_count;
    uint32_t *words = bpe->pairs[index].words;
    size_t word_count = bpe->pairs[index].word_count;
    bpe->pairs[index].words = NULL;
    bpe->pairs[index].word_count = 0;
    bpe->pairs[index].word_capacity = 0;
    for (size_t i = 0; i < word_count && err == ERR_OK; i++) {
        err = merge_word(bpe, words[i], left, right, id);
    }
    free(words);
    /* Old pairs lose, and their heap entries are corrected when they come up. New ones enter; so do
     * old ones of a token that was known before, which may have gained. */
    for (size_t i = known ? 0 : first_new; i < bpe->pair_count && err == ERR_OK; i++) {
        const struct bpe_pair *pair = &bpe->pairs[i];
        if (i >= first_new || ((pair->left == id || pair->right == id) && pair->count > 0)) {
            err = heap_push(bpe, (uint32_t)i);
        }
    }
    return err;
}

enum err lm_bpe_train(struct lm_bpe *bpe, uint32_t vocab, const char *const *special,
                      uint32_t special_count,
                      void (*progress)(void *context, uint32_t done, uint32_t total), void *context,
                      struct note *note)
{
    CHECK(bpe->vocab == 0);
    if (special_count > LM_BPE_SPECIAL_MAX || vocab < 256 + special_count ||
        vocab > LM_BPE_VOCAB_MAX) {
        return note_set(note, ERR_RANGE, "vocabulary of %u with %u special tokens, needs %u..%u",
                        vocab, special_count, 256 + special_count, LM_BPE_VOCAB_MAX);
    }
    bpe->tokens = calloc(vocab, sizeof *bpe->tokens);
    if (bpe->tokens == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = add_first_tokens(bpe, special, special_count);
    if (err == ERR_OK) {
        err = count_all_pairs(bpe);
    }
    while (err == ERR_OK && bpe->vocab < vocab && bpe->heap_count > 0) {
        struct bpe_heap_entry top = heap_pop(bpe);
        uint64_t count = bpe->pairs[top.pair].count;
        if (count == 0) {
            continue;
        }
        if (count != top.count) {
            err = heap_push(bpe, top.pair);
            continue;
        }
        err = merge_pair(bpe, top.pair);
        if (progress != NULL && bpe->vocab % 512 == 0) {
            progress(context, bpe->vocab, vocab);
        }
    }
    return err;
}

uint32_t lm_bpe_vocab(const struct lm_bpe *bpe)
{
    return bpe->vocab;
}

uint32_t lm_bpe_merge_count(const struct lm_bpe *bpe)
{
    return (uint32_t)bpe->merge_count;
}

struct bytes lm_bpe_token(const struct lm_bpe *bpe, uint32_t id)
{
    CHECK(id < bpe->vocab);
    return token_bytes(bpe, id);
}

void lm_bpe_merge(const struct lm_bpe *bpe, uint32_t index, struct bytes *out_left,
                  struct bytes *out_right)
{
    CHECK(index < bpe->merge_count);
    *out_left = token_bytes(bpe, bpe->merges[index].left);
    *out_right = token_bytes(bpe, bpe->merges[index].right);
}
