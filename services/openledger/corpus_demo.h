/* corpus_demo.h - the demo's datanets, cut from documents the base model never sees. */
#pragma once

#include "services/openledger/corpus.h"

/* Writes out/<datanet>/<contributor>.jsonl, out/<datanet>/heldout.jsonl and out/demo.json, and prints
 * the counts. Held-out documents that share CORPUS_OVERLAP_WORDS words in a row with any training row
 * of the demo or with the base's text are dropped and counted. */
MUST_USE enum err corpus_demo_make(const struct corpus *corpus, const char *out, struct note *note);
