/* test_bpe.c - the trainer against a published reference, and its files read back. */
#include "shared/bpe/bpe.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/text/byte_level.h"
#include "shared/token/chat.h"
#include "shared/token/tokenizer.h"
#include "tests/harness/data.h"

static struct note note;

static struct bytes text_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static const char *const SPECIAL[] = {LM_CHAT_END_OF_TEXT};

/* A token as GPT-2 spells it. */
static void spell(struct bytes token, struct buf *out)
{
    for (size_t i = 0; i < token.size; i++) {
        uint32_t code = byte_level_code(token.data[i]);
        if (code < 0x80) {
            (void)buf_append_byte(out, (uint8_t)code);
        } else {
            (void)buf_append_byte(out, (uint8_t)(0xC0 | code >> 6));
            (void)buf_append_byte(out, (uint8_t)(0x80 | (code & 0x3F)));
        }
    }
}

START_TEST(test_byte_map_is_a_bijection)
{
    bool seen[512] = {false};
    for (int byte = 0; byte < 256; byte++) {
        uint32_t code = byte_level_code((uint8_t)byte);
        ck_assert_uint_lt(code, 512);
        ck_assert(!seen[code]);
        seen[code] = true;
        ck_assert_int_eq(byte_level_byte(code), byte);
    }
    ck_assert_uint_eq(byte_level_code(' '), 0x120);
    ck_assert_int_eq(byte_level_byte(' '), -1);
    ck_assert_int_eq(byte_level_byte(100000), -1);
}
END_TEST

/* Stanford CS336: the merges in their order, and the vocabulary, of a 500-token training. */
START_TEST(test_reference)
{
    struct buf corpus;
    struct buf merges;
    struct buf vocab;
    buf_init(&corpus, 1U << 24);
    buf_init(&merges, 1U << 24);
    buf_init(&vocab, 1U << 24);
    if (test_data("bpe-trainer/corpus.en", &corpus) &&
        test_data("bpe-trainer/train-bpe-reference-merges.txt", &merges) &&
        test_data("bpe-trainer/train-bpe-reference-vocab.json", &vocab)) {
        struct lm_bpe *bpe = lm_bpe_create();
        ck_assert_ptr_nonnull(bpe);
        ck_assert_uint_eq(lm_bpe_add(bpe, buf_bytes(&corpus), &note), ERR_OK);
        ck_assert_uint_eq(lm_bpe_train(bpe, 500, SPECIAL, 1, NULL, NULL, &note), ERR_OK);
        const char *line = buf_text(&merges);
        for (uint32_t i = 0; i < lm_bpe_merge_count(bpe); i++) {
            struct bytes left;
            struct bytes right;
            struct buf got;
            buf_init(&got, 1000);
            lm_bpe_merge(bpe, i, &left, &right);
            spell(left, &got);
            (void)buf_append_byte(&got, ' ');
            spell(right, &got);
            size_t size = strcspn(line, "\n");
            ck_assert_msg(got.size == size && memcmp(got.data, line, size) == 0,
                          "merge %u: %s, not %.*s", i, buf_text(&got), (int)size, line);
            line += size;
            line += *line == '\n' ? 1 : 0;
            buf_deinit(&got);
        }
        ck_assert_str_eq(line, "");
        struct json *root = NULL;
        ck_assert_uint_eq(json_parse(buf_bytes(&vocab), 1U << 24, &root, &note), ERR_OK);
        ck_assert_uint_eq(json_count(root), lm_bpe_vocab(bpe));
        for (uint32_t id = 0; id < lm_bpe_vocab(bpe); id++) {
            struct buf got;
            buf_init(&got, 1000);
            if (id == 0) {
                (void)buf_append_bytes(&got, lm_bpe_token(bpe, id));
            } else {
                spell(lm_bpe_token(bpe, id), &got);
            }
            ck_assert_int_eq(json_as_i64(json_member(root, buf_text(&got)), -1), (int64_t)id);
            buf_deinit(&got);
        }
        json_destroy(root);
        lm_bpe_destroy(bpe);
    }
    buf_deinit(&vocab);
    buf_deinit(&merges);
    buf_deinit(&corpus);
}
END_TEST

START_TEST(test_ties_and_limits)
{
    struct lm_bpe *bpe = lm_bpe_create();
    ck_assert_ptr_nonnull(bpe);
    ck_assert_uint_eq(lm_bpe_add(bpe, text_of("\xFF"), &note), ERR_INVALID);
    /* "ab" and "cd" are equally frequent: the greater pair goes first. */
    ck_assert_uint_eq(lm_bpe_add(bpe, text_of("ab cd ab cd"), &note), ERR_OK);
    ck_assert_uint_eq(lm_bpe_train(bpe, 100, SPECIAL, 1, NULL, NULL, &note), ERR_RANGE);
    ck_assert_uint_eq(lm_bpe_train(bpe, 300, SPECIAL, 1, NULL, NULL, &note), ERR_OK);
    struct bytes left;
    struct bytes right;
    lm_bpe_merge(bpe, 0, &left, &right);
    ck_assert_mem_eq(left.data, "c", 1);
    ck_assert_mem_eq(right.data, "d", 1);
    lm_bpe_merge(bpe, 1, &left, &right);
    ck_assert_mem_eq(left.data, "a", 1);
    /* Fewer tokens than asked for: no pair is left. */
    ck_assert_uint_eq(lm_bpe_vocab(bpe), 257 + 4);
    lm_bpe_destroy(bpe);
}
END_TEST

START_TEST(test_files_read_back)
{
    static const char TEXT[] =
        "the cat sat on the mat, the cat that sat; na\xC3\xAFve \xF0\x9F\xA6\x99\n";
    static const char *const FIVE[] = {LM_CHAT_END_OF_TEXT, LM_CHAT_USER, LM_CHAT_ASSISTANT,
                                       LM_CHAT_END, LM_CHAT_SYSTEM};
    struct lm_bpe *bpe = lm_bpe_create();
    struct buf json;
    struct buf again;
    buf_init(&json, 1U << 20);
    buf_init(&again, 1U << 20);
    ck_assert_ptr_nonnull(bpe);
    ck_assert_uint_eq(lm_bpe_add(bpe, text_of(TEXT), &note), ERR_OK);
    ck_assert_uint_eq(lm_bpe_train(bpe, 280, FIVE, 5, NULL, NULL, &note), ERR_OK);
    ck_assert_uint_eq(lm_bpe_write(bpe, &json), ERR_OK);
    ck_assert_uint_eq(lm_bpe_write(bpe, &again), ERR_OK);
    ck_assert_uint_eq(json.size, again.size);
    ck_assert_mem_eq(json.data, again.data, json.size);
    struct lm_tokenizer *tokenizer = NULL;
    enum err err = lm_tokenizer_load(buf_bytes(&json), &tokenizer, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    ck_assert_uint_eq(lm_tokenizer_vocab(tokenizer), lm_bpe_vocab(bpe));
    for (uint32_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(lm_tokenizer_find(tokenizer, FIVE[i]), i);
    }
    struct lm_ids ids;
    lm_ids_init(&ids, 1000);
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, text_of(TEXT), false, &ids, &note), ERR_OK);
    ck_assert_uint_lt(ids.count, strlen(TEXT));
    buf_clear(&again);
    ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, ids.items, ids.count, false, &again), ERR_OK);
    ck_assert_str_eq(buf_text(&again), TEXT);
    buf_clear(&again);
    ck_assert_uint_eq(lm_bpe_write_config(256, &again), ERR_OK);
    ck_assert_ptr_nonnull(strstr(buf_text(&again), "chat_template"));
    lm_ids_deinit(&ids);
    lm_tokenizer_destroy(tokenizer);
    lm_bpe_destroy(bpe);
    buf_deinit(&again);
    buf_deinit(&json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bpe");
    TCase *tests = tcase_create("bpe");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_byte_map_is_a_bijection);
    tcase_add_test(tests, test_reference);
    tcase_add_test(tests, test_ties_and_limits);
    tcase_add_test(tests, test_files_read_back);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
