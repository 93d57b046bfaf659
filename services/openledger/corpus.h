/* corpus.h - the public texts that the base model and the demo are made from.
 *
 * Nothing is copied into the repository: texts come from installed npm and Debian packages and are
 * cut here, by document, into what the base model may read and what the demo's datanets hold, so
 * that attribution is not confounded. Every choice is a hash of names, so equal packages give equal
 * bytes. Single-threaded. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct arena;
struct buf;
struct note;

#define CORPUS_MEMORY_MAX (768U << 20)  /* bytes for all texts together */
#define CORPUS_FILE_MAX (64U << 20)     /* bytes of one source file */
#define CORPUS_OUTPUT_MAX (256U << 20)  /* bytes of one output file */
#define CORPUS_DOCUMENTS_MAX (1U << 18) /* documents */
#define CORPUS_OVERLAP_WORDS 13         /* so many equal words in a row are an overlap */

enum corpus_kind {
    CORPUS_ADDRESS,   /* State of the Union addresses: one document each */
    CORPUS_SCRIPTURE, /* King James Bible: a chapter */
    CORPUS_JARGON,    /* Jargon File: an entry */
    CORPUS_NOVEL,     /* Moby Dick: a chapter */
    CORPUS_GLOSS,     /* WordNet: a meaning */
    CORPUS_LICENCE,   /* a licence text */
    CORPUS_KINDS
};

/* Strings live in the corpus's arena. */
struct corpus_doc {
    enum corpus_kind kind;
    const char *id;    /* "sotu/1861-abraham-lincoln", unique */
    const char *group; /* president, book; "" elsewhere */
    const char *title; /* headword, chapter */
    const char *text;  /* normalised: one blank between words, '\n' between paragraphs or verses */
    bool demo;         /* belongs to a demo datanet, so never to the base */
};

struct corpus {
    struct arena *arena;
    struct corpus_doc *docs; /* sorted by kind, then in their source's order */
    size_t count, capacity;
};

/* Where the packages are. */
struct corpus_paths {
    const char *node_modules, *wordnet, *jargon;
};

/* Reads all sources. ERR_NOT_FOUND and others: the note names what is missing. */
MUST_USE enum err corpus_load(const struct corpus_paths *paths, struct corpus *out,
                              struct note *note);
void corpus_deinit(struct corpus *corpus); /* a zeroed one is fine */
const char *corpus_kind_name(enum corpus_kind kind);

/* --- text --- */

/* Appends text as documents hold it: typographic quotes and blanks made plain, runs of blanks made
 * one, control characters dropped. Lines are joined unless a blank line (or keep_lines) parts them. */
void corpus_normalise(struct bytes text, bool keep_lines, struct buf *out);

/* The next sentence (or verse) of text from *at, without the blanks around it; false at the end. */
bool corpus_sentence(const char *text, size_t *at, struct bytes *out);

/* The next run of sentences of about target bytes (never above max; a longer sentence is skipped):
 * *first gets its first sentence, *rest what follows (size 0: nothing). false at the end. */
bool corpus_passage(const char *text, size_t *at, size_t target, size_t max, struct bytes *first,
                    struct bytes *rest);

/* A hash of words of text for choices: the same on every machine. */
uint64_t corpus_hash(const char *purpose, const char *id, uint64_t number);

/* --- rows --- */

/* Appends one JSON line; completion.size 0 makes it {"text": prompt}. source and id may be NULL. */
void corpus_write_row(struct buf *out, struct bytes prompt, struct bytes completion,
                      const char *source, const char *id);

struct corpus_counts {
    uint64_t rows[CORPUS_KINDS], chats[CORPUS_KINDS], bytes[CORPUS_KINDS];
};

/* Appends the base model's rows, training and held-out apart. */
MUST_USE enum err corpus_base_rows(const struct corpus *corpus, struct buf *train,
                                   struct buf *heldout, struct corpus_counts *counts);
