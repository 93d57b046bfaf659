/* spans.c - suffix array over tokens, and the greedy cover; see spans.h. */
#include "shared/attrib/spans.h"

#include <divsufsort.h>
#include <stdbool.h>
#include <stdlib.h>

#include "shared/base/check.h"

#define TOKEN_BYTES 3U
#define SEPARATOR UINT32_C(0xFFFFFF) /* above every token: LM_VOCAB_MAX is below 2^24 */

/* A maximal run of counted tokens. */
struct run {
    uint32_t begin; /* in text */
    uint32_t row;
    uint32_t at; /* in the row */
};

struct spans {
    uint32_t *text; /* runs, each followed by a separator */
    uint32_t text_count;
    uint32_t *order; /* positions of text, ascending by the suffix that starts there */
    struct run *runs;
    uint32_t run_count;
};

static bool counted(const struct lm_example *example, uint32_t token)
{
    return example->mask == NULL || example->mask[token] != 0;
}

static void put(struct spans *spans, uint64_t *size, uint32_t token)
{
    if (spans->text != NULL) {
        spans->text[*size] = token;
    }
    ++*size;
}

/* Walks the runs; with spans->text and spans->runs set it also writes them. */
static bool lay_out(struct spans *spans, const struct lm_example *examples, uint32_t count)
{
    uint64_t size = 0;
    uint32_t runs = 0;
    for (uint32_t row = 0; row < count && size <= SPANS_TOKENS_MAX; row++) {
        const struct lm_example *example = &examples[row];
        for (uint32_t i = 0; i < example->count; i++) {
            if (!counted(example, i)) {
                continue;
            }
            if (spans->runs != NULL && (i == 0 || !counted(example, i - 1))) {
                spans->runs[runs] = (struct run){(uint32_t)size, row, i};
            }
            put(spans, &size, example->tokens[i]);
            if (i + 1 == example->count || !counted(example, i + 1)) {
                put(spans, &size, SEPARATOR);
                runs++;
            }
        }
    }
    spans->text_count = (uint32_t)size;
    spans->run_count = runs;
    return size <= SPANS_TOKENS_MAX;
}

/* Sorts suffixes: divsufsort works on bytes, so tokens become big-endian triples, and the suffixes
 * that start at a token's first byte come out in token order. */
static enum err sort_suffixes(struct spans *spans)
{
    size_t bytes = (size_t)spans->text_count * TOKEN_BYTES;
    uint8_t *text = malloc(bytes + 1);
    saidx_t *order = malloc((bytes + 1) * sizeof *order);
    enum err err = text != NULL && order != NULL ? ERR_OK : ERR_NO_MEMORY;
    if (err == ERR_OK) {
        for (uint32_t i = 0; i < spans->text_count; i++) {
            text[(size_t)TOKEN_BYTES * i] = (uint8_t)(spans->text[i] >> 16);
            text[(size_t)TOKEN_BYTES * i + 1] = (uint8_t)(spans->text[i] >> 8);
            text[(size_t)TOKEN_BYTES * i + 2] = (uint8_t)spans->text[i];
        }
        err = divsufsort(text, order, (saidx_t)bytes) == 0 ? ERR_OK : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        uint32_t kept = 0;
        for (size_t i = 0; i < bytes; i++) {
            uint32_t at = (uint32_t)order[i];
            if (at % TOKEN_BYTES == 0) {
                spans->order[kept++] = at / TOKEN_BYTES;
            }
        }
        CHECK(kept == spans->text_count);
    }
    free(text);
    free(order);
    return err;
}

enum err spans_create(const struct lm_example *examples, uint32_t count, struct spans **out)
{
    struct spans *spans = calloc(1, sizeof *spans);
    if (spans == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = lay_out(spans, examples, count) ? ERR_OK : ERR_LIMIT;
    if (err == ERR_OK) {
        spans->text = calloc((size_t)spans->text_count + 1, sizeof *spans->text);
        spans->order = calloc((size_t)spans->text_count + 1, sizeof *spans->order);
        spans->runs = calloc((size_t)spans->run_count + 1, sizeof *spans->runs);
        err = spans->text != NULL && spans->order != NULL && spans->runs != NULL ? ERR_OK
                                                                                 : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        CHECK(lay_out(spans, examples, count));
        err = sort_suffixes(spans);
    }
    if (err != ERR_OK) {
        spans_destroy(spans);
        return err;
    }
    *out = spans;
    return ERR_OK;
}

void spans_destroy(struct spans *spans)
{
    if (spans == NULL) {
        return;
    }
    free(spans->text);
    free(spans->order);
    free(spans->runs);
    free(spans);
}

/* Tokens that the suffix at `at` and the query have in common at their start. */
static uint32_t common(const struct spans *spans, uint32_t at, const uint32_t *query,
                       uint32_t count)
{
    uint32_t n = 0;
    while (n < count && at + n < spans->text_count && spans->text[at + n] == query[n] &&
           query[n] != SEPARATOR) {
        n++;
    }
    return n;
}

/* < 0, 0, > 0: the suffix against the query; 0 when the query is a prefix of the suffix. */
static int compare(const struct spans *spans, uint32_t at, const uint32_t *query, uint32_t count)
{
    uint32_t n = common(spans, at, query, count);
    if (n == count) {
        return 0;
    }
    if (at + n == spans->text_count) {
        return -1;
    }
    return spans->text[at + n] < query[n] ? -1 : 1;
}

/* First place in order whose suffix is >= the query, or (after) > every suffix it begins. */
static uint32_t bound(const struct spans *spans, const uint32_t *query, uint32_t count, bool after)
{
    uint32_t low = 0;
    uint32_t high = spans->text_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare(spans, spans->order[middle], query, count);
        if (order < 0 || (after && order == 0)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Longest prefix of the query that occurs in a row: one of the two neighbours has it. */
static uint32_t longest(const struct spans *spans, const uint32_t *query, uint32_t count)
{
    uint32_t place = bound(spans, query, count, false);
    uint32_t best = 0;
    for (uint32_t side = 0; side < 2; side++) {
        if (place >= side && place - side < spans->text_count) {
            uint32_t n = common(spans, spans->order[place - side], query, count);
            best = n > best ? n : best;
        }
    }
    return best;
}

/* Longest prefix of the query that occurs in the prompt. */
static uint32_t longest_in_prompt(const uint32_t *prompt, uint32_t prompt_count,
                                  const uint32_t *query, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < prompt_count; i++) {
        uint32_t n = 0;
        while (n < count && i + n < prompt_count && prompt[i + n] == query[n]) {
            n++;
        }
        best = n > best ? n : best;
    }
    return best;
}

static int place_compare(const void *a, const void *b)
{
    const struct spans_place *x = a;
    const struct spans_place *y = b;
    if (x->row != y->row) {
        return x->row < y->row ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

static struct spans_place place_of(const struct spans *spans, uint32_t at)
{
    uint32_t low = 0; /* the last run that begins at or before `at` */
    uint32_t high = spans->run_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (spans->runs[middle].begin <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const struct run *run = &spans->runs[low];
    return (struct spans_place){.row = run->row, .at = run->at + (at - run->begin)};
}

static enum err locate(const struct spans *spans, const uint32_t *query, struct spans_match *match)
{
    uint32_t first = bound(spans, query, match->length, false);
    uint32_t end = bound(spans, query, match->length, true);
    CHECK(end > first);
    struct spans_place *places = calloc(end - first, sizeof *places);
    if (places == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = first; i < end; i++) {
        places[i - first] = place_of(spans, spans->order[i]);
    }
    qsort(places, end - first, sizeof *places, place_compare);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < end - first; i++) {
        if (kept == 0 || places[kept - 1].row != places[i].row) {
            places[kept++] = places[i];
        }
    }
    match->places = places;
    match->place_count = kept;
    return ERR_OK;
}

static int match_compare(const void *a, const void *b)
{
    const struct spans_match *x = a;
    const struct spans_match *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

enum err spans_find(const struct spans *spans, const uint32_t *prompt, uint32_t prompt_count,
                    const uint32_t *answer, uint32_t answer_count, struct spans_list *out)
{
    struct spans_list list = {0};
    uint32_t *reach = calloc((size_t)answer_count + 1, sizeof *reach); /* longest run from i */
    uint32_t *prior = calloc((size_t)answer_count + 1, sizeof *prior); /* the prompt's from i */
    list.items = calloc(answer_count / SPANS_LENGTH_MIN + 1, sizeof *list.items);
    enum err err = reach != NULL && prior != NULL && list.items != NULL ? ERR_OK : ERR_NO_MEMORY;
    for (uint32_t i = 0; err == ERR_OK && i < answer_count; i++) {
        reach[i] = longest(spans, answer + i, answer_count - i);
        if (reach[i] >= SPANS_LENGTH_MIN) {
            prior[i] = longest_in_prompt(prompt, prompt_count, answer + i, reach[i]);
        }
    }
    while (err == ERR_OK) { /* reach[i] is 0 inside taken runs and cut where the next one begins */
        struct spans_match best = {0};
        for (uint32_t i = 0; i < answer_count; i++) {
            if (reach[i] > best.length && reach[i] > prior[i]) {
                best = (struct spans_match){.start = i, .length = reach[i]};
            }
        }
        if (best.length < SPANS_LENGTH_MIN) {
            break;
        }
        err = locate(spans, answer + best.start, &best);
        if (err == ERR_OK) {
            list.items[list.count++] = best;
        }
        for (uint32_t i = 0; i < best.start + best.length; i++) {
            if (i >= best.start) {
                reach[i] = 0;
            } else if (reach[i] > best.start - i) {
                reach[i] = best.start - i;
            }
        }
    }
    free(reach);
    free(prior);
    if (err != ERR_OK) {
        spans_list_deinit(&list);
        return err;
    }
    qsort(list.items, list.count, sizeof *list.items, match_compare);
    *out = list;
    return ERR_OK;
}

void spans_list_deinit(struct spans_list *list)
{
    for (uint32_t i = 0; list->items != NULL && i < list->count; i++) {
        free(list->items[i].places);
    }
    free(list->items);
    *list = (struct spans_list){0};
}
