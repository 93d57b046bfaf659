/* bpe_internal.h - the trainer's state, shared by bpe.c and bpe_write.c only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lm_presplit;

/* A word of the text, or a token: bytes in a pool. */
struct bpe_word {
    uint32_t at;   /* offset in its pool; a word's symbols begin at the same offset in symbols */
    uint32_t size; /* bytes; of a word in training: symbols left */
    uint64_t count;
};

struct bpe_pair {
    uint32_t left, right;
    uint64_t count;
    uint32_t *words; /* owned; words it was seen in, perhaps no more */
    size_t word_count, word_capacity;
};

struct bpe_heap_entry {
    uint64_t count; /* when pushed */
    uint32_t pair;
};

struct bpe_merge {
    uint32_t left, right;
};

struct lm_bpe {
    struct lm_presplit *split;
    uint8_t *pool;
    size_t pool_size, pool_capacity;
    struct bpe_word *words;
    size_t word_count, word_capacity;
    uint32_t *word_slots; /* index + 1, 0: free */
    size_t word_slot_count;
    uint32_t *symbols;
    struct bpe_pair *pairs;
    size_t pair_count, pair_capacity;
    uint32_t *pair_slots;
    size_t pair_slot_count;
    struct bpe_heap_entry *heap;
    size_t heap_count, heap_capacity;
    struct bpe_word *tokens;
    uint8_t *token_pool;
    size_t token_pool_size, token_pool_capacity;
    uint32_t vocab, special_count;
    uint32_t byte_token[256];
    struct bpe_merge *merges;
    size_t merge_count, merge_capacity;
};
