/* dedupe.c - see dedupe.h. Rows live in one array; two chained hash tables lead from a whole-text hash
 * and from each MinHash band to the rows that have it. */
#include "services/datanet/dedupe.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

enum { SHINGLE_WORDS = 5, BANDS = 16, BAND_ROWS = 4, HASHES = BANDS * BAND_ROWS };

#define NONE UINT32_MAX

/* What is kept of a row: its place, the hash of its words, its sorted shingle hashes. */
struct entry {
    struct dedupe_row row;
    uint64_t text_hash;
    uint64_t *shingles;
    uint32_t shingle_count;
    uint32_t next_text;        /* chain in text_head */
    uint32_t next_band[BANDS]; /* chains in band_head */
};

struct dedupe {
    struct entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t *text_head; /* capacity buckets */
    uint32_t *band_head; /* BANDS tables of capacity buckets */
};

/* The words of a row as hashes, and what follows from them. */
struct sketch {
    uint64_t text_hash;
    uint64_t *shingles;
    uint32_t shingle_count;
    uint64_t bands[BANDS];
};

/* The finaliser of splitmix64: a bijection that spreads every bit. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool is_word_byte(uint8_t c)
{
    return c >= 0x80 || isalnum(c) != 0;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Reads the next word from *position on; false at the end. FNV-1a over folded bytes. */
static bool next_word(struct bytes text, size_t *position, uint64_t *out_hash)
{
    size_t i = *position;
    while (i < text.size && !is_word_byte(text.data[i])) {
        i++;
    }
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    size_t start = i;
    for (; i < text.size && is_word_byte(text.data[i]); i++) {
        uint8_t c = text.data[i] < 0x80 ? (uint8_t)tolower(text.data[i]) : text.data[i];
        hash = (hash ^ c) * UINT64_C(0x100000001b3);
    }
    *position = i;
    *out_hash = mix(hash);
    return i > start;
}

static void sketch_bands(struct sketch *sketch)
{
    for (uint32_t band = 0; band < BANDS; band++) {
        uint64_t joined = band;
        for (uint32_t i = 0; i < BAND_ROWS; i++) {
            uint64_t seed = mix((uint64_t)band * BAND_ROWS + i + 1);
            uint64_t least = UINT64_MAX;
            for (uint32_t k = 0; k < sketch->shingle_count; k++) {
                uint64_t hash = mix(sketch->shingles[k] ^ seed);
                least = hash < least ? hash : least;
            }
            joined = mix(joined ^ least);
        }
        sketch->bands[band] = joined;
    }
}

/* A text of fewer than SHINGLE_WORDS words is one shingle. */
static enum err sketch_make(struct bytes text, struct sketch *out_sketch)
{
    struct sketch sketch = {.text_hash = 0};
    sketch.shingles = malloc(DEDUPE_SHINGLES_MAX * sizeof *sketch.shingles);
    if (sketch.shingles == NULL) {
        return ERR_NO_MEMORY;
    }
    uint64_t window[SHINGLE_WORDS] = {0};
    uint64_t word = 0;
    size_t position = 0;
    uint64_t words = 0;
    while (next_word(text, &position, &word)) {
        sketch.text_hash = mix(sketch.text_hash * 31 + word);
        memmove(window, window + 1, sizeof window - sizeof window[0]);
        window[SHINGLE_WORDS - 1] = word;
        words++;
        if (words >= SHINGLE_WORDS && sketch.shingle_count < DEDUPE_SHINGLES_MAX) {
            uint64_t hash = 0;
            for (int i = 0; i < SHINGLE_WORDS; i++) {
                hash = mix(hash * 31 + window[i]);
            }
            sketch.shingles[sketch.shingle_count++] = hash;
        }
    }
    if (sketch.shingle_count == 0) {
        sketch.shingles[sketch.shingle_count++] = sketch.text_hash;
    }
    qsort(sketch.shingles, sketch.shingle_count, sizeof *sketch.shingles, compare_u64);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < sketch.shingle_count; i++) {
        if (sketch.shingles[i] != sketch.shingles[kept - 1]) {
            sketch.shingles[kept++] = sketch.shingles[i];
        }
    }
    sketch.shingle_count = kept;
    sketch_bands(&sketch);
    *out_sketch = sketch;
    return ERR_OK;
}

/* |A and B| / |A or B| of two sorted sets, in 1/10,000. */
static uint32_t jaccard_bp(const struct entry *a, const struct sketch *b)
{
    uint32_t i = 0;
    uint32_t k = 0;
    uint32_t both = 0;
    while (i < a->shingle_count && k < b->shingle_count) {
        if (a->shingles[i] == b->shingles[k]) {
            both++;
            i++;
            k++;
        } else if (a->shingles[i] < b->shingles[k]) {
            i++;
        } else {
            k++;
        }
    }
    uint32_t either = a->shingle_count + b->shingle_count - both;
    CHECK(either > 0); /* every row has a shingle */
    return (uint32_t)((uint64_t)both * 10000 / either);
}

struct dedupe *dedupe_create(void)
{
    return calloc(1, sizeof(struct dedupe));
}

void dedupe_destroy(struct dedupe *dedupe)
{
    if (dedupe == NULL) {
        return;
    }
    for (uint32_t i = 0; i < dedupe->count; i++) {
        free(dedupe->entries[i].shingles);
    }
    free(dedupe->entries);
    free(dedupe->text_head);
    free(dedupe->band_head);
    free(dedupe);
}

static uint32_t *band_bucket(const struct dedupe *dedupe, uint32_t band, uint64_t hash)
{
    return &dedupe->band_head[(size_t)band * dedupe->capacity + (hash & (dedupe->capacity - 1))];
}

static void link_entry(struct dedupe *dedupe, uint32_t index, const uint64_t bands[BANDS])
{
    struct entry *entry = &dedupe->entries[index];
    uint32_t *head = &dedupe->text_head[entry->text_hash & (dedupe->capacity - 1)];
    entry->next_text = *head;
    *head = index;
    for (uint32_t band = 0; band < BANDS; band++) {
        head = band_bucket(dedupe, band, bands[band]);
        entry->next_band[band] = *head;
        *head = index;
    }
}

/* Doubles the array and hangs every entry into the larger tables. */
static enum err grow(struct dedupe *dedupe)
{
    uint32_t capacity = dedupe->capacity == 0 ? 1024 : dedupe->capacity * 2;
    struct entry *entries = realloc(dedupe->entries, (size_t)capacity * sizeof *entries);
    if (entries == NULL) {
        return ERR_NO_MEMORY;
    }
    dedupe->entries = entries;
    size_t text_size = (size_t)capacity * sizeof(uint32_t);
    uint32_t *text_head = malloc(text_size);
    uint32_t *band_head = malloc(text_size * BANDS);
    if (text_head == NULL || band_head == NULL) {
        free(text_head);
        free(band_head);
        return ERR_NO_MEMORY;
    }
    memset(text_head, 0xff, text_size);
    memset(band_head, 0xff, text_size * BANDS);
    free(dedupe->text_head);
    free(dedupe->band_head);
    dedupe->text_head = text_head;
    dedupe->band_head = band_head;
    dedupe->capacity = capacity;
    for (uint32_t i = 0; i < dedupe->count; i++) {
        struct sketch sketch = {.shingles = entries[i].shingles,
                                .shingle_count = entries[i].shingle_count};
        sketch_bands(&sketch);
        link_entry(dedupe, i, sketch.bands);
    }
    return ERR_OK;
}

enum err dedupe_add(struct dedupe *dedupe, struct dedupe_row row, struct bytes text)
{
    CHECK(dedupe != NULL);
    if (dedupe->count == DEDUPE_ROWS_MAX) {
        return ERR_LIMIT;
    }
    struct sketch sketch;
    enum err err = dedupe->count == dedupe->capacity ? grow(dedupe) : ERR_OK;
    if (err == ERR_OK) {
        err = sketch_make(text, &sketch);
    }
    if (err != ERR_OK) {
        return err;
    }
    uint64_t *fitted = realloc(sketch.shingles, sketch.shingle_count * sizeof *fitted);
    dedupe->entries[dedupe->count] =
        (struct entry){.row = row,
                       .text_hash = sketch.text_hash,
                       .shingles = fitted != NULL ? fitted : sketch.shingles,
                       .shingle_count = sketch.shingle_count};
    link_entry(dedupe, dedupe->count, sketch.bands);
    dedupe->count++;
    /* cppcheck-suppress memleak ; the entry owns it */
    return ERR_OK;
}

static bool before(struct dedupe_row a, struct dedupe_row b)
{
    return a.priority != b.priority ? a.priority < b.priority : a.row < b.row;
}

/* Offers one candidate; keeps the better: exact before near, then the earlier row. */
static void consider(const struct entry *entry, struct dedupe_row row, struct dedupe_filter filter,
                     uint32_t similarity_bp, struct dedupe_result *best)
{
    if (similarity_bp < DEDUPE_NEAR_BP || !before(entry->row, row) ||
        !filter.counts(filter.context, entry->row.contribution)) {
        return;
    }
    enum dedupe_verdict verdict = similarity_bp == 10000 ? DEDUPE_EXACT : DEDUPE_NEAR;
    bool better =
        best->verdict == DEDUPE_UNIQUE ||
        (verdict == best->verdict ? before(entry->row, best->of) : verdict == DEDUPE_EXACT);
    if (better) {
        *best = (struct dedupe_result){
            .verdict = verdict, .of = entry->row, .similarity_bp = similarity_bp};
    }
}

enum err dedupe_find(const struct dedupe *dedupe, struct dedupe_row row, struct bytes text,
                     struct dedupe_filter filter, struct dedupe_result *out_result)
{
    CHECK(dedupe != NULL);
    CHECK(filter.counts != NULL);
    struct dedupe_result best = {.verdict = DEDUPE_UNIQUE};
    if (dedupe->count == 0) {
        *out_result = best;
        return ERR_OK;
    }
    struct sketch sketch;
    enum err err = sketch_make(text, &sketch);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t i = dedupe->text_head[sketch.text_hash & (dedupe->capacity - 1)];
    for (; i != NONE; i = dedupe->entries[i].next_text) {
        if (dedupe->entries[i].text_hash == sketch.text_hash) {
            consider(&dedupe->entries[i], row, filter, 10000, &best);
        }
    }
    for (uint32_t band = 0; band < BANDS && best.verdict != DEDUPE_EXACT; band++) {
        i = *band_bucket(dedupe, band, sketch.bands[band]);
        for (; i != NONE; i = dedupe->entries[i].next_band[band]) {
            uint32_t similarity_bp = jaccard_bp(&dedupe->entries[i], &sketch);
            /* Equal shingle sets with other words around them are near, not exact. */
            consider(&dedupe->entries[i], row, filter,
                     similarity_bp == 10000 ? 9999 : similarity_bp, &best);
        }
    }
    free(sketch.shingles);
    *out_result = best;
    return ERR_OK;
}
