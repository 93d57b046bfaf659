/* corpus_overlap.h - do two texts share CORPUS_OVERLAP_WORDS words in a row? Exactly.
 *
 * Words are runs of ASCII letters and digits (and bytes above 127), case folded; the rest parts them.
 * Every run of so many words of the texts added is found by hash and then compared word by word, so
 * there are neither false alarms nor misses. Single-threaded. */
#pragma once

#include <stdbool.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

#define OVERLAP_WORDS_MAX (64U << 20) /* words in all texts added */

struct overlap;

struct overlap *overlap_create(void); /* NULL: no memory */
void overlap_destroy(struct overlap *overlap);

/* Adds a text. ERR_LIMIT, ERR_NO_MEMORY. */
MUST_USE enum err overlap_add(struct overlap *overlap, struct bytes text);

/* Does text share a run with any text added? */
MUST_USE enum err overlap_find(struct overlap *overlap, struct bytes text, bool *out_shares);
