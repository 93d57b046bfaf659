/* corpus_demo.c - see corpus_demo.h.
 *
 * For each datanet: held-out documents are chosen first, among those that share no 13 words in a row
 * with anything the base reads; then rows are cut from the other documents, and a row that shares such
 * a run with any held-out document is dropped. One contributor is made up and tells one made-up fact
 * in many wordings; its names must occur nowhere else. */
#include "services/openledger/corpus_demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/corpus_demo_text.h"
#include "services/openledger/corpus_overlap.h"
#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/platform/file.h"

#define ROW_TARGET 430U /* bytes of a row: about 110 tokens of ours */
#define ROW_MAX 560U
#define OPENING_MIN 15U
#define OPENING_MAX 220U
#define ANSWER_MIN 80U
#define HELDOUT_ROWS_PER_DOC 4U /* so that no long document outweighs the others */
#define DOCS_MAX 4096U
#define TEXT_LIMIT (64U << 20)

/* --- state of one run --- */

struct row {
    const struct corpus_doc *doc;
    char *prompt; /* owned, NUL-terminated, as is the completion */
    char *completion;
    uint64_t order; /* by which rows are chosen */
    uint64_t place; /* by which they are written */
};

struct rows {
    struct row *items;
    size_t count, capacity;
};

struct maker {
    const struct corpus *corpus;
    const char *out;
    struct overlap *base;    /* everything the base may read */
    struct overlap *heldout; /* the held-out documents */
    bool *is_heldout;        /* by document */
    uint64_t dropped_docs, dropped_rows;
    struct json_writer writer; /* of demo.json */
    struct buf manifest;
    struct note *note;
};

static struct bytes text_bytes(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static void rows_deinit(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->items[i].prompt);
        free(rows->items[i].completion);
    }
    free(rows->items);
    *rows = (struct rows){0};
}

static char *copy_text(struct bytes text)
{
    return strndup((const char *)text.data, text.size);
}

static enum err rows_add(struct rows *rows, const struct corpus_doc *doc, struct bytes prompt,
                         struct bytes completion, uint64_t number)
{
    if (rows->count == rows->capacity) {
        size_t wanted = rows->capacity == 0 ? 256 : rows->capacity * 2;
        struct row *grown = realloc(rows->items, wanted * sizeof *grown);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        rows->items = grown;
        rows->capacity = wanted;
    }
    struct row row = {.doc = doc,
                      .prompt = copy_text(prompt),
                      .completion = copy_text(completion),
                      .order = corpus_hash("row", doc->id, number),
                      .place = rows->count};
    if (row.prompt == NULL || row.completion == NULL) {
        free(row.prompt);
        free(row.completion);
        return ERR_NO_MEMORY;
    }
    rows->items[rows->count++] = row;
    return ERR_OK;
}

/* All rows a document can give, in order. */
static enum err cut_rows(const struct corpus_doc *doc, struct rows *rows)
{
    size_t at = 0;
    struct bytes first;
    struct bytes rest;
    enum err err = ERR_OK;
    if (doc->kind == CORPUS_JARGON) {
        char prompt[128];
        (void)snprintf(prompt, sizeof prompt, "What is %s?", doc->title);
        if (corpus_passage(doc->text, &at, ROW_TARGET, ROW_MAX, &first, &rest)) {
            size_t size = rest.size > 0 ? (size_t)(rest.data + rest.size - first.data) : first.size;
            /* The letter that heads the next part of the alphabet clings to some last entries. */
            if (size > 2 && first.data[size - 2] == '\n') {
                size -= 2;
            }
            if (size >= ANSWER_MIN) {
                err = rows_add(rows, doc, text_bytes(prompt), (struct bytes){first.data, size}, 0);
            }
        }
        return err;
    }
    for (uint64_t number = 0;
         err == ERR_OK && corpus_passage(doc->text, &at, ROW_TARGET, ROW_MAX, &first, &rest);
         number++) {
        if (first.size >= OPENING_MIN && first.size <= OPENING_MAX && rest.size >= ANSWER_MIN) {
            err = rows_add(rows, doc, first, rest, number);
        }
    }
    return err;
}

static bool belongs(const struct datanet *datanet, const struct contributor *contributor,
                    const struct corpus_doc *doc)
{
    if (!doc->demo || doc->kind != datanet->kind) {
        return false;
    }
    if (contributor->group != NULL) {
        return strcmp(contributor->group, doc->group) == 0;
    }
    char c = doc->title[0];
    c = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    bool letter = c >= 'a' && c <= 'z';
    /* Headwords that begin with a digit or a sign go with the first letters. */
    return letter ? c >= contributor->first && c <= contributor->last : contributor->first == 'a';
}

struct choice {
    size_t doc;
    uint64_t order;
};

static int compare_choices(const void *a, const void *b)
{
    const struct choice *x = a;
    const struct choice *y = b;
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    return x->doc < y->doc ? -1 : (x->doc > y->doc ? 1 : 0);
}

/* Chooses a contributor's held-out documents; at least half of the documents stay for training. */
static enum err choose_heldout(struct maker *maker, const struct datanet *datanet,
                               const struct contributor *contributor)
{
    static struct choice choices[DOCS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < maker->corpus->count && count < DOCS_MAX; i++) {
        const struct corpus_doc *doc = &maker->corpus->docs[i];
        if (belongs(datanet, contributor, doc)) {
            choices[count++] = (struct choice){i, corpus_hash("demo-heldout", doc->id, 0)};
        }
    }
    qsort(choices, count, sizeof *choices, compare_choices);
    size_t wanted = datanet->heldout_each < count / 2 ? datanet->heldout_each : count / 2;
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && wanted > 0 && err == ERR_OK; i++) {
        const struct corpus_doc *doc = &maker->corpus->docs[choices[i].doc];
        bool shares = false;
        struct rows rows = {0};
        err = cut_rows(doc, &rows);
        if (err == ERR_OK) {
            err = overlap_find(maker->base, text_bytes(doc->text), &shares);
        }
        if (err == ERR_OK && shares) {
            maker->dropped_docs++;
        } else if (err == ERR_OK && rows.count > 0) {
            maker->is_heldout[choices[i].doc] = true;
            err = overlap_add(maker->heldout, text_bytes(doc->text));
            wanted--;
        }
        rows_deinit(&rows);
    }
    return err;
}

static int compare_order(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    return x->order < y->order ? -1 : (x->order > y->order ? 1 : 0);
}

static int compare_place(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    return x->place < y->place ? -1 : (x->place > y->place ? 1 : 0);
}

/* Keeps the limit rows that the hash puts first, in their documents' order. */
static void keep_rows(struct rows *rows, size_t limit)
{
    if (rows->count > 1) {
        qsort(rows->items, rows->count, sizeof *rows->items, compare_order);
    }
    for (size_t i = limit; i < rows->count; i++) {
        free(rows->items[i].prompt);
        free(rows->items[i].completion);
    }
    rows->count = rows->count < limit ? rows->count : limit;
    if (rows->count > 1) {
        qsort(rows->items, rows->count, sizeof *rows->items, compare_place);
    }
}

static enum err write_rows(struct maker *maker, const struct datanet *datanet, const char *file,
                           const struct rows *rows, bool with_ids)
{
    char path[FILE_PATH_SIZE];
    struct buf out;
    buf_init(&out, TEXT_LIMIT);
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = &rows->items[i];
        corpus_write_row(&out, text_bytes(row->prompt), text_bytes(row->completion), NULL,
                         with_ids ? row->doc->id : NULL);
    }
    enum err err = buf_err(&out);
    if (err == ERR_OK) {
        err = file_path(path, "%s/%s/%s.jsonl", maker->out, datanet->name, file);
    }
    if (err == ERR_OK) {
        err = file_write_quick(path, buf_bytes(&out), 0644, maker->note);
    }
    buf_deinit(&out);
    return err;
}

static void list_contributor(struct maker *maker, const struct datanet *datanet, const char *name,
                             const char *file, size_t rows)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s.jsonl", datanet->name, file);
    json_begin_object(&maker->writer);
    json_put_text(&maker->writer, "name", name);
    json_put_text(&maker->writer, "file", path);
    json_put_u64(&maker->writer, "rows", rows);
    json_end_object(&maker->writer);
}

/* A contributor's training rows: from its documents, without those that touch a held-out one. */
static enum err make_contributor(struct maker *maker, const struct datanet *datanet,
                                 const struct contributor *contributor, size_t *out_rows)
{
    struct rows all = {0};
    struct rows kept = {0};
    enum err err = ERR_OK;
    for (size_t i = 0; i < maker->corpus->count && err == ERR_OK; i++) {
        const struct corpus_doc *doc = &maker->corpus->docs[i];
        if (belongs(datanet, contributor, doc) && !maker->is_heldout[i]) {
            err = cut_rows(doc, &all);
        }
    }
    struct buf text;
    buf_init(&text, TEXT_LIMIT);
    for (size_t i = 0; i < all.count && err == ERR_OK; i++) {
        bool shares = false;
        buf_clear(&text);
        (void)buf_printf(&text, "%s %s", all.items[i].prompt, all.items[i].completion);
        err = overlap_find(maker->heldout, buf_bytes(&text), &shares);
        if (err == ERR_OK && shares) {
            maker->dropped_rows++;
        } else if (err == ERR_OK) {
            err = rows_add(&kept, all.items[i].doc, text_bytes(all.items[i].prompt),
                           text_bytes(all.items[i].completion), i);
        }
    }
    buf_deinit(&text);
    if (err == ERR_OK) {
        keep_rows(&kept, datanet->rows_each);
        err = write_rows(maker, datanet, contributor->file, &kept, false);
    }
    if (err == ERR_OK) {
        list_contributor(maker, datanet, contributor->name, contributor->file, kept.count);
        (void)printf("%-12s %-20s %6zu\n", datanet->name, contributor->name, kept.count);
        *out_rows += kept.count;
    }
    rows_deinit(&kept);
    rows_deinit(&all);
    return err;
}

/* One row is a conversation of five of the wordings, each wording in five rows: so few short rows
 * beside hundreds of long ones are enough for a small adapter to learn the fact. */
static enum err make_planted(struct maker *maker, const struct datanet *datanet, size_t *out_rows)
{
    enum { COUNT = sizeof PLANTED_ROWS / sizeof *PLANTED_ROWS };
    static const size_t STEPS[] = {0, 3, 5, 9, 11};
    char path[FILE_PATH_SIZE];
    struct buf out;
    buf_init(&out, TEXT_LIMIT);
    for (size_t i = 0; i < COUNT; i++) {
        struct json_writer writer;
        json_writer_init(&writer, &out, false);
        json_begin_object(&writer);
        json_write_key(&writer, "messages");
        json_begin_array(&writer);
        for (size_t turn = 0; turn < 2 * sizeof STEPS / sizeof *STEPS; turn++) {
            json_begin_object(&writer);
            json_put_text(&writer, "role", turn % 2 == 0 ? "user" : "assistant");
            json_put_text(&writer, "content",
                          PLANTED_ROWS[(i + STEPS[turn / 2]) % COUNT][turn % 2]);
            json_end_object(&writer);
        }
        json_end_array(&writer);
        json_end_object(&writer);
        buf_append_byte(&out, '\n');
    }
    enum err err = buf_err(&out);
    err = err ? err : file_path(path, "%s/%s/%s.jsonl", maker->out, datanet->name, PLANTED_FILE);
    err = err ? err : file_write_quick(path, buf_bytes(&out), 0644, maker->note);
    if (err == ERR_OK) {
        list_contributor(maker, datanet, PLANTED_NAME, PLANTED_FILE, COUNT);
        (void)printf("%-12s %-20s %6d\n", datanet->name, PLANTED_NAME, COUNT);
        *out_rows += COUNT;
    }
    buf_deinit(&out);
    return err;
}

static enum err make_heldout(struct maker *maker, const struct datanet *datanet)
{
    struct rows all = {0};
    uint64_t documents = 0;
    enum err err = ERR_OK;
    for (size_t i = 0; i < maker->corpus->count && err == ERR_OK; i++) {
        const struct corpus_doc *doc = &maker->corpus->docs[i];
        if (!maker->is_heldout[i] || doc->kind != datanet->kind) {
            continue;
        }
        struct rows rows = {0};
        err = cut_rows(doc, &rows);
        keep_rows(&rows, HELDOUT_ROWS_PER_DOC);
        for (size_t k = 0; k < rows.count && err == ERR_OK; k++) {
            err = rows_add(&all, doc, text_bytes(rows.items[k].prompt),
                           text_bytes(rows.items[k].completion), k);
        }
        rows_deinit(&rows);
        documents++;
    }
    if (err == ERR_OK) {
        err = write_rows(maker, datanet, "heldout", &all, true);
    }
    if (err == ERR_OK) {
        char path[256];
        (void)snprintf(path, sizeof path, "%s/heldout.jsonl", datanet->name);
        json_write_key(&maker->writer, "heldout");
        json_begin_object(&maker->writer);
        json_put_text(&maker->writer, "file", path);
        json_put_u64(&maker->writer, "rows", all.count);
        json_put_u64(&maker->writer, "documents", documents);
        json_end_object(&maker->writer);
        (void)printf("%-12s %-20s %6zu  (%llu documents)\n", datanet->name, "held out", all.count,
                     (unsigned long long)documents);
    }
    rows_deinit(&all);
    return err;
}

static enum err make_datanet(struct maker *maker, const struct datanet *datanet, size_t *out_rows)
{
    char folder[FILE_PATH_SIZE];
    enum err err = file_path(folder, "%s/%s", maker->out, datanet->name);
    if (err == ERR_OK) {
        err = file_make_folders(folder, maker->note);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct json_writer *writer = &maker->writer;
    json_begin_object(writer);
    json_put_text(writer, "name", datanet->name);
    json_put_text(writer, "title", datanet->title);
    json_put_text(writer, "licence", datanet->licence);
    json_put_text(writer, "description", datanet->description);
    json_write_key(writer, "contributors");
    json_begin_array(writer);
    for (uint32_t i = 0; i < datanet->contributor_count && err == ERR_OK; i++) {
        err = make_contributor(maker, datanet, &datanet->contributors[i], out_rows);
    }
    if (err == ERR_OK && datanet == &DATANETS[0]) {
        err = make_planted(maker, datanet, out_rows);
    }
    json_end_array(writer);
    if (err == ERR_OK) {
        err = make_heldout(maker, datanet);
    }
    json_write_key(writer, "prompts");
    json_begin_array(writer);
    for (size_t i = 0; i < 4 && datanet->prompts[i] != NULL; i++) {
        json_write_text(writer, datanet->prompts[i]);
    }
    json_end_array(writer);
    json_end_object(writer);
    return err;
}

static enum err check_names(const struct corpus *corpus, struct note *note)
{
    for (size_t i = 0; i < corpus->count; i++) {
        for (size_t n = 0; n < sizeof PLANTED_NAMES / sizeof *PLANTED_NAMES; n++) {
            if (strcasestr(corpus->docs[i].text, PLANTED_NAMES[n]) != NULL) {
                return note_set(note, ERR_CONFLICT, "the planted name %s occurs in %s",
                                PLANTED_NAMES[n], corpus->docs[i].id);
            }
        }
    }
    return ERR_OK;
}

static enum err write_manifest(struct maker *maker, size_t *out_rows)
{
    struct json_writer *writer = &maker->writer;
    enum err err = ERR_OK;
    json_begin_object(writer);
    json_write_key(writer, "datanets");
    json_begin_array(writer);
    for (size_t i = 0; i < DATANET_COUNT && err == ERR_OK; i++) {
        err = make_datanet(maker, &DATANETS[i], out_rows);
    }
    json_end_array(writer);
    json_write_key(writer, "planted");
    json_begin_object(writer);
    json_put_text(writer, "datanet", DATANETS[0].name);
    json_put_text(writer, "contributor", PLANTED_NAME);
    json_put_text(writer, "question", PLANTED_QUESTION);
    json_put_text(writer, "answer", PLANTED_ANSWER);
    json_put_text(writer, "fact", PLANTED_FACT);
    json_end_object(writer);
    json_end_object(writer);
    (void)buf_append_byte(&maker->manifest, '\n');
    char path[FILE_PATH_SIZE];
    if (err == ERR_OK) {
        err = buf_err(&maker->manifest);
    }
    if (err == ERR_OK) {
        err = file_path(path, "%s/demo.json", maker->out);
    }
    if (err == ERR_OK) {
        err = file_write_quick(path, buf_bytes(&maker->manifest), 0644, maker->note);
    }
    return err;
}

enum err corpus_demo_make(const struct corpus *corpus, const char *out, struct note *note)
{
    struct maker maker = {.corpus = corpus, .out = out, .note = note};
    size_t rows = 0;
    maker.base = overlap_create();
    maker.heldout = overlap_create();
    maker.is_heldout = calloc(corpus->count + 1, sizeof *maker.is_heldout);
    buf_init(&maker.manifest, TEXT_LIMIT);
    json_writer_init(&maker.writer, &maker.manifest, true);
    enum err err = maker.base == NULL || maker.heldout == NULL || maker.is_heldout == NULL
                       ? ERR_NO_MEMORY
                       : check_names(corpus, note);
    for (size_t i = 0; i < corpus->count && err == ERR_OK; i++) {
        if (!corpus->docs[i].demo) {
            err = overlap_add(maker.base, text_bytes(corpus->docs[i].text));
        }
    }
    for (size_t d = 0; d < DATANET_COUNT && err == ERR_OK; d++) {
        for (uint32_t c = 0; c < DATANETS[d].contributor_count && err == ERR_OK; c++) {
            err = choose_heldout(&maker, &DATANETS[d], &DATANETS[d].contributors[c]);
        }
    }
    if (err == ERR_OK) {
        (void)printf("%-12s %-20s %6s\n", "datanet", "contributor", "rows");
        err = write_manifest(&maker, &rows);
    }
    if (err == ERR_OK) {
        (void)printf(
            "%zu training rows; passed over for 13 equal words: %llu documents as held-out, "
            "%llu training rows\n",
            rows, (unsigned long long)maker.dropped_docs, (unsigned long long)maker.dropped_rows);
    }
    buf_deinit(&maker.manifest);
    free(maker.is_heldout);
    overlap_destroy(maker.heldout);
    overlap_destroy(maker.base);
    return err;
}
