/* corpus_base.c - the base model's training text; see corpus.h.
 *
 * About a third of the passages, three quarters of the glosses and half the jargon are questions and
 * answers in the chat format, so that the base knows it before any adapter does; the rest is plain.
 * One document in 25 (of the many short glosses, in 100) is held out. */
#include <string.h>

#include "services/openledger/corpus.h"
#include "shared/base/buf.h"
#include "shared/base/check.h"

#define HELDOUT_ONE_IN 25U
#define GLOSS_HELDOUT_ONE_IN 100U
#define CHAT_PERCENT 33U       /* of passages */
#define GLOSS_CHAT_PERCENT 75U /* of glosses */
#define JARGON_CHAT_PERCENT 50U
#define PASSAGE_MIN 500U /* bytes a passage aims at: this and up to SPREAD more */
#define PASSAGE_SPREAD 1000U
#define PASSAGE_MAX 2000U
#define CHAT_TARGET 600U /* bytes of opening and answer */
#define CHAT_MAX 900U
#define OPENING_MIN 15U /* bytes of a first sentence that serves as a prompt */
#define OPENING_MAX 260U
#define ANSWER_MIN 60U

static struct bytes text_bytes(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static void count_row(struct corpus_counts *counts, enum corpus_kind kind, struct bytes prompt,
                      struct bytes completion)
{
    counts->rows[kind]++;
    counts->chats[kind] += completion.size > 0 ? 1 : 0;
    counts->bytes[kind] += prompt.size + completion.size;
}

static void write_passages(const struct corpus_doc *doc, struct buf *out,
                           struct corpus_counts *counts)
{
    const char *source = corpus_kind_name(doc->kind);
    size_t at = 0;
    for (uint64_t number = 0;; number++) {
        uint64_t choice = corpus_hash("passage", doc->id, number);
        bool chat = choice % 100 < CHAT_PERCENT;
        size_t target =
            chat ? CHAT_TARGET : PASSAGE_MIN + (size_t)((choice >> 32) % PASSAGE_SPREAD);
        struct bytes first;
        struct bytes rest;
        if (!corpus_passage(doc->text, &at, target, chat ? CHAT_MAX : PASSAGE_MAX, &first, &rest)) {
            return;
        }
        chat = chat && first.size >= OPENING_MIN && first.size <= OPENING_MAX &&
               rest.size >= ANSWER_MIN;
        if (!chat && rest.size > 0) {
            first.size = (size_t)(rest.data + rest.size - first.data);
            rest = (struct bytes){NULL, 0};
        }
        corpus_write_row(out, first, rest, source, doc->id);
        count_row(counts, doc->kind, first, rest);
    }
}

static void write_gloss(const struct corpus_doc *doc, struct buf *out, struct corpus_counts *counts)
{
    struct bytes prompt = text_bytes(doc->title);
    struct bytes answer = text_bytes(doc->text);
    struct buf line;
    buf_init(&line, CORPUS_FILE_MAX);
    if (corpus_hash("form", doc->id, 0) % 100 >= GLOSS_CHAT_PERCENT) {
        (void)buf_printf(&line, "%s: %s", doc->group, doc->text);
        prompt = buf_bytes(&line);
        answer = (struct bytes){NULL, 0};
    }
    corpus_write_row(out, prompt, answer, corpus_kind_name(doc->kind), doc->id);
    count_row(counts, doc->kind, prompt, answer);
    buf_deinit(&line);
}

static void write_jargon(const struct corpus_doc *doc, struct buf *out,
                         struct corpus_counts *counts)
{
    struct buf line;
    buf_init(&line, CORPUS_FILE_MAX);
    struct bytes first;
    struct bytes rest;
    size_t at = 0;
    if (corpus_hash("form", doc->id, 0) % 100 < JARGON_CHAT_PERCENT &&
        corpus_passage(doc->text, &at, CHAT_TARGET, CHAT_MAX, &first, &rest)) {
        size_t end = rest.size > 0 ? (size_t)(rest.data + rest.size - first.data) : first.size;
        (void)buf_printf(&line, "What is %s?", doc->title);
        struct bytes answer = {first.data, end};
        corpus_write_row(out, buf_bytes(&line), answer, corpus_kind_name(doc->kind), doc->id);
        count_row(counts, doc->kind, buf_bytes(&line), answer);
    } else {
        (void)buf_printf(&line, "%s: %s", doc->title, doc->text);
        corpus_write_row(out, buf_bytes(&line), (struct bytes){NULL, 0},
                         corpus_kind_name(doc->kind), doc->id);
        count_row(counts, doc->kind, buf_bytes(&line), (struct bytes){NULL, 0});
    }
    buf_deinit(&line);
}

enum err corpus_base_rows(const struct corpus *corpus, struct buf *train, struct buf *heldout,
                          struct corpus_counts *counts)
{
    *counts = (struct corpus_counts){0};
    struct corpus_counts unused = {0};
    for (size_t i = 0; i < corpus->count; i++) {
        const struct corpus_doc *doc = &corpus->docs[i];
        if (doc->demo) {
            continue;
        }
        uint32_t one_in = doc->kind == CORPUS_GLOSS ? GLOSS_HELDOUT_ONE_IN : HELDOUT_ONE_IN;
        bool held = corpus_hash("heldout", doc->id, 0) % one_in == 0;
        struct buf *out = held ? heldout : train;
        struct corpus_counts *to = held ? &unused : counts;
        switch (doc->kind) {
        case CORPUS_ADDRESS:
        case CORPUS_SCRIPTURE:
        case CORPUS_NOVEL:
        case CORPUS_LICENCE:
            write_passages(doc, out, to);
            break;
        case CORPUS_GLOSS:
            write_gloss(doc, out, to);
            break;
        case CORPUS_JARGON:
            write_jargon(doc, out, to);
            break;
        case CORPUS_KINDS:
            CHECK(doc->kind != CORPUS_KINDS);
            break;
        }
    }
    enum err err = buf_err(train);
    return err != ERR_OK ? err : buf_err(heldout);
}
