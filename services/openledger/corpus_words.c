/* corpus_words.c - reading the two dictionaries, the Jargon File and WordNet; see corpus.h. */
#include <stdlib.h>
#include <string.h>

#include "services/openledger/corpus_internal.h"
#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/platform/file.h"
#include "shared/platform/process.h"

#define COMMAND_TIMEOUT_MS 60000U
#define ENTRY_MIN 60U        /* bytes of a definition worth a row */
#define GLOSS_ONE_IN 3U      /* WordNet has more than a small model should read */
#define GLOSS_SYNONYMS_MAX 4 /* named in an answer */

/* --- the Jargon File: dictd's index (word, offset, size in base 64) over a gzip file --- */

static int digit64(char c)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(DIGITS, c);
    return at == NULL ? -1 : (int)(at - DIGITS);
}

static size_t number64(const char *text, size_t size)
{
    size_t value = 0;
    for (size_t i = 0; i < size && value < CORPUS_FILE_MAX; i++) {
        int digit = digit64(text[i]);
        value = digit < 0 ? value : value * 64 + (size_t)digit;
    }
    return value;
}

struct span {
    size_t at, size;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    return x->size < y->size ? -1 : (x->size > y->size ? 1 : 0);
}

/* The body without the braces that mark references; blanks before a closing and after an opening one
 * go too. False: it has tables drawn with U+2500.., which cannot be read as sentences. */
static bool plain_body(struct bytes body, struct buf *out)
{
    bool drawing = false;
    for (size_t i = 0; i < body.size; i++) {
        uint8_t c = body.data[i];
        drawing = drawing || (c == 0xE2 && i + 1 < body.size && body.data[i + 1] >= 0x94 &&
                              body.data[i + 1] <= 0x96);
        if (c == '}') {
            while (out->size > 0 && strchr(" \n", out->data[out->size - 1]) != NULL) {
                buf_truncate(out, out->size - 1);
            }
        } else if (c == '{') {
            while (i + 1 < body.size && strchr(" \n", body.data[i + 1]) != NULL) {
                i++;
            }
        } else {
            (void)buf_append_byte(out, c);
        }
    }
    return !drawing;
}

/* An entry: the headword's line, perhaps a line of pronunciation and part of speech (one blank
 * before it), then the body. Braces mark references and go. */
static enum err take_entry(struct corpus *corpus, struct bytes entry)
{
    const char *text = (const char *)entry.data;
    const char *line_end = memchr(text, '\n', entry.size);
    if (line_end == NULL || line_end == text || (size_t)(line_end - text) > 80) {
        return ERR_OK;
    }
    struct bytes head = {entry.data, (size_t)(line_end - text)};
    struct bytes body = {(const uint8_t *)line_end + 1, entry.size - head.size - 1};
    if (body.size > 1 && body.data[0] == ' ' && body.data[1] != ' ') {
        const uint8_t *next = memchr(body.data, '\n', body.size);
        size_t skip = next == NULL ? body.size : (size_t)(next - body.data);
        body = (struct bytes){body.data + skip, body.size - skip};
    }
    struct buf plain;
    struct buf title;
    struct buf out;
    buf_init(&plain, CORPUS_FILE_MAX);
    buf_init(&title, CORPUS_FILE_MAX);
    buf_init(&out, CORPUS_FILE_MAX);
    bool readable = plain_body(body, &plain);
    corpus_normalise(buf_bytes(&plain), false, &out);
    corpus_normalise(head, false, &title);
    enum err err = ERR_OK;
    if (readable && out.size >= ENTRY_MIN && title.size > 0) {
        const char *headword = arena_strdup(corpus->arena, buf_text(&title));
        if (headword == NULL) {
            err = ERR_LIMIT;
        } else {
            err = corpus_add(
                corpus, (struct corpus_doc){.kind = CORPUS_JARGON,
                                            .id = corpus_slug(corpus, "jargon", headword),
                                            .group = "",
                                            .title = headword,
                                            .text = arena_strdup(corpus->arena, buf_text(&out)),
                                            .demo = corpus_jargon_is_demo(headword)});
        }
    }
    buf_deinit(&out);
    buf_deinit(&title);
    buf_deinit(&plain);
    return err;
}

/* The spans of the index's lines "name TAB offset TAB size", in out, which has room for one a line. */
static size_t read_spans(const char *line, struct span *out)
{
    size_t count = 0;
    while (*line != '\0') {
        size_t size = strcspn(line, "\n");
        const char *one = memchr(line, '\t', size);
        const char *two =
            one == NULL ? NULL : memchr(one + 1, '\t', size - (size_t)(one + 1 - line));
        if (two != NULL && strncmp(line, "00-", 3) != 0 && strncmp(line, "00database", 10) != 0) {
            out[count].at = number64(one + 1, (size_t)(two - one - 1));
            out[count].size = number64(two + 1, size - (size_t)(two + 1 - line));
            count++;
        }
        line += size;
        line += *line == '\n' ? 1 : 0;
    }
    return count;
}

enum err corpus_load_jargon(struct corpus *corpus, const char *path, struct note *note)
{
    char index_path[FILE_PATH_SIZE];
    char dict_path[FILE_PATH_SIZE];
    enum err err = file_path(index_path, "%s.index", path);
    if (err == ERR_OK) {
        err = file_path(dict_path, "%s.dict.dz", path);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct buf index;
    struct buf dict;
    struct span *spans = NULL;
    buf_init(&index, CORPUS_FILE_MAX);
    buf_init(&dict, CORPUS_FILE_MAX);
    const char *const argv[] = {"gzip", "-cd", dict_path, NULL}; /* dictzip is gzip with an index */
    int code = 0;
    err = file_read(index_path, &index, note);
    if (err == ERR_OK) {
        err = process_output(argv, COMMAND_TIMEOUT_MS, &dict, &code, note);
    }
    if (err == ERR_OK && code != 0) {
        err = note_set(note, ERR_INVALID, "gzip exited with %d", code);
    }
    size_t count = 0;
    if (err == ERR_OK) {
        spans = calloc(index.size + 1, sizeof *spans);
        err = spans == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        count = read_spans(buf_text(&index), spans);
    }
    if (count > 0) {
        qsort(spans, count, sizeof *spans, compare_spans);
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        if (i > 0 && spans[i].at == spans[i - 1].at) {
            continue; /* a second name of the same entry */
        }
        if (spans[i].at > dict.size || spans[i].size > dict.size - spans[i].at) {
            err = note_set(note, ERR_INVALID, "an entry lies outside the dictionary");
        } else {
            err = take_entry(corpus, (struct bytes){dict.data + spans[i].at, spans[i].size});
        }
    }
    free(spans);
    buf_deinit(&dict);
    buf_deinit(&index);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "jargon file (package dict-jargon)");
}

/* --- WordNet: "offset file type count word id word id ... | gloss" (wndb(5)) --- */

/* Splits a gloss into its definition and its examples, which begin with a quote. */
static void write_gloss(struct buf *out, struct bytes gloss)
{
    const char *text = (const char *)gloss.data;
    size_t size = gloss.size;
    size_t end = size;
    for (size_t i = 0; i + 2 < size; i++) {
        if (text[i] == ';' && text[i + 1] == ' ' && text[i + 2] == '"') {
            end = i;
            break;
        }
    }
    char first = text[0];
    first = first >= 'a' && first <= 'z' ? (char)(first - 'a' + 'A') : first;
    (void)buf_append_byte(out, (uint8_t)first);
    (void)buf_append(out, text + 1, end - 1);
    (void)buf_append_byte(out, '.');
    if (end < size) {
        (void)buf_append_text(out, " For example: ");
        (void)buf_append(out, text + end + 2, size - end - 2);
        (void)buf_append_byte(out, '.');
    }
}

static void append_word(struct buf *out, const char *word, size_t size)
{
    for (size_t i = 0; i < size && word[i] != '('; i++) {
        (void)buf_append_byte(out, word[i] == '_' ? ' ' : (uint8_t)word[i]);
    }
}

/* The question a gloss answers; title is the first word. */
static void write_question(struct buf *out, char type, const char *word, uint64_t choice)
{
    char c = word[0];
    bool proper = c >= 'A' && c <= 'Z';
    switch (choice % 4) {
    case 0:
        (void)buf_printf(out, "What does \"%s\" mean?", word);
        return;
    case 1:
        (void)buf_printf(out, "Define %s.", word);
        return;
    default:
        break;
    }
    if (type == 'n' && proper) {
        (void)buf_printf(out, "What is %s?", word);
    } else if (type == 'n') {
        (void)buf_printf(out, "What is %s %s?", strchr("aeiou", c) != NULL ? "an" : "a", word);
    } else if (type == 'v') {
        (void)buf_printf(out, "What does it mean to %s?", word);
    } else {
        (void)buf_printf(out, "What does %s mean?", word);
    }
}

static enum err take_synset(struct corpus *corpus, char type, const char *line, size_t size)
{
    const char *bar = memchr(line, '|', size);
    if (size < 20 || line[0] == ' ' || bar == NULL) {
        return ERR_OK; /* the licence at the top of the file */
    }
    const char *end = line + size;
    char *rest = NULL;
    unsigned long word_count = strtoul(line + 14, &rest, 16); /* offset 8, file 2, type 1 */
    char offset[16];
    memcpy(offset, line, 8);
    offset[8] = '\0';
    const char *id = arena_printf(corpus->arena, "wordnet/%c%s", type, offset);
    if (id == NULL) {
        return ERR_LIMIT;
    }
    if (corpus_hash("gloss", id, 0) % GLOSS_ONE_IN != 0) {
        return ERR_OK;
    }
    struct buf title;
    struct buf also;
    struct buf text;
    struct buf gloss;
    buf_init(&title, CORPUS_FILE_MAX);
    buf_init(&also, CORPUS_FILE_MAX);
    buf_init(&text, CORPUS_FILE_MAX);
    buf_init(&gloss, CORPUS_FILE_MAX);
    const char *at = rest;
    for (unsigned long i = 0; i < word_count && at < bar; i++) {
        at += *at == ' ' ? 1 : 0;
        size_t word_size = strcspn(at, " ");
        if (i == 0) {
            append_word(&title, at, word_size);
        } else if (i <= GLOSS_SYNONYMS_MAX) {
            (void)buf_append_text(&also, i == 1 ? "" : ", ");
            append_word(&also, at, word_size);
        }
        at += word_size;
        at += strcspn(at + 1, " ") + 1; /* the word's lexical id */
    }
    corpus_normalise((struct bytes){(const uint8_t *)bar + 1, (size_t)(end - bar - 1)}, false,
                     &gloss);
    enum err err = ERR_OK;
    if (gloss.size > 0 && title.size > 0) {
        write_gloss(&text, buf_bytes(&gloss));
        if (also.size > 0) {
            (void)buf_printf(&text, " Also called %s.", buf_text(&also));
        }
        struct buf question;
        buf_init(&question, CORPUS_FILE_MAX);
        write_question(&question, type, buf_text(&title), corpus_hash("question", id, 0));
        err = corpus_add(
            corpus, (struct corpus_doc){.kind = CORPUS_GLOSS,
                                        .id = id,
                                        .group = arena_strdup(corpus->arena, buf_text(&title)),
                                        .title = arena_strdup(corpus->arena, buf_text(&question)),
                                        .text = arena_strdup(corpus->arena, buf_text(&text))});
        buf_deinit(&question);
    }
    buf_deinit(&gloss);
    buf_deinit(&text);
    buf_deinit(&also);
    buf_deinit(&title);
    return err;
}

enum err corpus_load_wordnet(struct corpus *corpus, const char *folder, struct note *note)
{
    static const struct {
        const char *name;
        char type;
    } FILES[] = {{"data.noun", 'n'}, {"data.verb", 'v'}, {"data.adj", 'a'}, {"data.adv", 'r'}};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES && err == ERR_OK; i++) {
        char path[FILE_PATH_SIZE];
        struct buf text;
        buf_init(&text, CORPUS_FILE_MAX);
        err = file_path(path, "%s/%s", folder, FILES[i].name);
        if (err == ERR_OK) {
            err = file_read(path, &text, note);
        }
        const char *line = buf_text(&text);
        while (err == ERR_OK && *line != '\0') {
            size_t size = strcspn(line, "\n");
            err = take_synset(corpus, FILES[i].type, line, size);
            line += size;
            line += *line == '\n' ? 1 : 0;
        }
        buf_deinit(&text);
    }
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "wordnet (package wordnet-base)");
}
