/* corpus_internal.h - what the readers of corpus_sources.c and corpus_words.c share. */
#pragma once

#include "services/openledger/corpus.h"

/* ERR_LIMIT also when a string is NULL: the arena is full. */
MUST_USE enum err corpus_add(struct corpus *corpus, struct corpus_doc doc);
const char *corpus_slug(struct corpus *corpus, const char *prefix, const char *text);
bool corpus_jargon_is_demo(const char *headword);

/* path: without ".index" and ".dict.dz". */
MUST_USE enum err corpus_load_jargon(struct corpus *corpus, const char *path, struct note *note);
MUST_USE enum err corpus_load_wordnet(struct corpus *corpus, const char *folder, struct note *note);
