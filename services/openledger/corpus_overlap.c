/* corpus_overlap.c - see corpus_overlap.h. */
#include "services/openledger/corpus_overlap.h"

#include <stdlib.h>
#include <string.h>

#include "services/openledger/corpus.h"

#define RUN CORPUS_OVERLAP_WORDS
#define WORD_MAX 64U /* bytes of a word that count */

/* A spelling of a word; its index is the word's id. */
struct spelling {
    uint32_t at, size;
};

struct overlap {
    uint8_t *pool;
    size_t pool_size, pool_capacity;
    struct spelling *spellings;
    size_t spelling_count, spelling_capacity;
    uint32_t *spelling_slots; /* id + 1 */
    size_t spelling_slot_count;
    uint32_t *words; /* ids of all texts' words, one after the other */
    size_t word_count, word_capacity;
    uint32_t *run_slots; /* index of a run's first word + 1 */
    size_t run_slot_count, run_count;
};

struct overlap *overlap_create(void)
{
    return calloc(1, sizeof(struct overlap));
}

void overlap_destroy(struct overlap *overlap)
{
    if (overlap != NULL) {
        free(overlap->pool);
        free(overlap->spellings);
        free(overlap->spelling_slots);
        free(overlap->words);
        free(overlap->run_slots);
        free(overlap);
    }
}

static enum err grow(void **items, size_t *capacity, size_t needed, size_t item_size)
{
    if (needed <= *capacity) {
        return ERR_OK;
    }
    size_t wanted = *capacity * 2 > needed ? *capacity * 2 : needed + 1024;
    void *grown = realloc(*items, wanted * item_size);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    *items = grown;
    *capacity = wanted;
    return ERR_OK;
}

static size_t hash_word(const uint8_t *word, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ word[i]) * 0x100000001b3U;
    }
    return (size_t)(hash ^ (hash >> 32));
}

static size_t hash_run(const uint32_t *run)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < RUN; i++) {
        hash = (hash ^ run[i]) * 0x9E3779B97F4A7C15U;
        hash ^= hash >> 29;
    }
    return (size_t)hash;
}

/* A table at most half full: makes it larger and puts everything in again. */
static enum err rehash_spellings(struct overlap *overlap)
{
    size_t count = overlap->spelling_slot_count == 0 ? 1U << 16 : overlap->spelling_slot_count * 2;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < overlap->spelling_count; i++) {
        const struct spelling *spelling = &overlap->spellings[i];
        size_t slot = hash_word(overlap->pool + spelling->at, spelling->size) & (count - 1);
        while (slots[slot] != 0) {
            slot = (slot + 1) & (count - 1);
        }
        slots[slot] = (uint32_t)i + 1;
    }
    free(overlap->spelling_slots);
    overlap->spelling_slots = slots;
    overlap->spelling_slot_count = count;
    return ERR_OK;
}

static enum err intern(struct overlap *overlap, const uint8_t *word, size_t size, uint32_t *out_id)
{
    if (overlap->spelling_count * 2 >= overlap->spelling_slot_count) {
        enum err err = rehash_spellings(overlap);
        if (err != ERR_OK) {
            return err;
        }
    }
    size_t mask = overlap->spelling_slot_count - 1;
    size_t slot = hash_word(word, size) & mask;
    for (; overlap->spelling_slots[slot] != 0; slot = (slot + 1) & mask) {
        const struct spelling *spelling = &overlap->spellings[overlap->spelling_slots[slot] - 1];
        if (spelling->size == size && memcmp(overlap->pool + spelling->at, word, size) == 0) {
            *out_id = overlap->spelling_slots[slot] - 1;
            return ERR_OK;
        }
    }
    enum err err = grow((void **)&overlap->spellings, &overlap->spelling_capacity,
                        overlap->spelling_count + 1, sizeof *overlap->spellings);
    if (err == ERR_OK) {
        err = grow((void **)&overlap->pool, &overlap->pool_capacity, overlap->pool_size + size, 1);
    }
    if (err != ERR_OK) {
        return err;
    }
    memcpy(overlap->pool + overlap->pool_size, word, size);
    overlap->spellings[overlap->spelling_count] =
        (struct spelling){(uint32_t)overlap->pool_size, (uint32_t)size};
    overlap->pool_size += size;
    *out_id = (uint32_t)overlap->spelling_count++;
    overlap->spelling_slots[slot] = *out_id + 1;
    return ERR_OK;
}

/* Appends the ids of text's words to overlap->words. */
static enum err read_words(struct overlap *overlap, struct bytes text)
{
    uint8_t word[WORD_MAX];
    size_t size = 0;
    for (size_t i = 0; i <= text.size; i++) {
        uint8_t c = i < text.size ? text.data[i] : ' ';
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c > 127) {
            if (size < WORD_MAX) {
                word[size++] = c;
            }
            continue;
        }
        if (size == 0) {
            continue;
        }
        if (overlap->word_count >= OVERLAP_WORDS_MAX) {
            return ERR_LIMIT;
        }
        uint32_t id = 0;
        enum err err = intern(overlap, word, size, &id);
        if (err == ERR_OK) {
            err = grow((void **)&overlap->words, &overlap->word_capacity, overlap->word_count + 1,
                       sizeof *overlap->words);
        }
        if (err != ERR_OK) {
            return err;
        }
        overlap->words[overlap->word_count++] = id;
        size = 0;
    }
    return ERR_OK;
}

/* The slot where the run at words[at] is, or would be. */
static size_t run_slot(const struct overlap *overlap, const uint32_t *run)
{
    size_t mask = overlap->run_slot_count - 1;
    size_t slot = hash_run(run) & mask;
    for (; overlap->run_slots[slot] != 0; slot = (slot + 1) & mask) {
        if (memcmp(overlap->words + overlap->run_slots[slot] - 1, run, RUN * sizeof *run) == 0) {
            break;
        }
    }
    return slot;
}

static enum err rehash_runs(struct overlap *overlap)
{
    uint32_t *old = overlap->run_slots;
    size_t old_count = overlap->run_slot_count;
    size_t count = old_count == 0 ? 1U << 16 : old_count * 2;
    uint32_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return ERR_NO_MEMORY;
    }
    overlap->run_slots = slots;
    overlap->run_slot_count = count;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i] != 0) {
            slots[run_slot(overlap, overlap->words + old[i] - 1)] = old[i];
        }
    }
    free(old);
    return ERR_OK;
}

enum err overlap_add(struct overlap *overlap, struct bytes text)
{
    size_t first = overlap->word_count;
    enum err err = read_words(overlap, text);
    for (size_t at = first; err == ERR_OK && at + RUN <= overlap->word_count; at++) {
        if (overlap->run_count * 2 >= overlap->run_slot_count) {
            err = rehash_runs(overlap);
            if (err != ERR_OK) {
                break;
            }
        }
        size_t slot = run_slot(overlap, overlap->words + at);
        if (overlap->run_slots[slot] == 0) {
            overlap->run_slots[slot] = (uint32_t)at + 1;
            overlap->run_count++;
        }
    }
    return err;
}

enum err overlap_find(struct overlap *overlap, struct bytes text, bool *out_shares)
{
    size_t first = overlap->word_count;
    bool shares = false;
    enum err err = read_words(overlap, text);
    for (size_t at = first;
         err == ERR_OK && overlap->run_slot_count > 0 && !shares && at + RUN <= overlap->word_count;
         at++) {
        shares = overlap->run_slots[run_slot(overlap, overlap->words + at)] != 0;
    }
    overlap->word_count = first; /* the words were only borrowed */
    if (err == ERR_OK) {
        *out_shares = shares;
    }
    return err;
}
