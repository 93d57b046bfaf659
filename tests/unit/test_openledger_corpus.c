/* test_openledger_corpus.c - cutting texts: normalising, sentences, passages, exact overlaps. */
#include <check.h>
#include <string.h>

#include "services/openledger/corpus.h"
#include "services/openledger/corpus_overlap.h"
#include "shared/base/buf.h"
#include "tests/harness/seed.h"

static struct bytes text_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static void expect_normal(const char *text, bool keep_lines, const char *want)
{
    struct buf out;
    buf_init(&out, 10000);
    corpus_normalise(text_of(text), keep_lines, &out);
    ck_assert_str_eq(buf_text(&out), want);
    buf_deinit(&out);
}

START_TEST(test_normalise)
{
    expect_normal("  a \t b\nc\n\n\nd\r\n", false, "a b c\nd");
    expect_normal("a\nb\n\nc", true, "a\nb\nc");
    expect_normal("\xE2\x80\x9Cit\xE2\x80\x99s\xE2\x80\x9D\x02 na\xC3\xAFve", false,
                  "\"it's\" na\xC3\xAFve");
    expect_normal(" \n ", false, "");
}
END_TEST

START_TEST(test_sentences)
{
    static const char TEXT[] =
        "Mr. Speaker, the U.S. grows. \"Well!\" he said. 3 of J. Smith's men\nA "
        "verse;\nlast";
    static const char *const WANT[] = {"Mr. Speaker, the U.S. grows.", "\"Well!\" he said.",
                                       "3 of J. Smith's men", "A verse;", "last"};
    size_t at = 0;
    struct bytes got;
    for (size_t i = 0; i < sizeof WANT / sizeof *WANT; i++) {
        ck_assert(corpus_sentence(TEXT, &at, &got));
        ck_assert_msg(got.size == strlen(WANT[i]) && memcmp(got.data, WANT[i], got.size) == 0,
                      "%.*s", (int)got.size, (const char *)got.data);
    }
    ck_assert(!corpus_sentence(TEXT, &at, &got));
}
END_TEST

START_TEST(test_passages)
{
    static const char TEXT[] =
        "One is here. Two is here. Three is here. This one is far too long to be "
        "taken by anybody at all. Four.";
    size_t at = 0;
    struct bytes first;
    struct bytes rest;
    ck_assert(corpus_passage(TEXT, &at, 20, 30, &first, &rest));
    ck_assert_mem_eq(first.data, "One is here.", first.size);
    ck_assert_uint_eq(rest.size, strlen("Two is here."));
    ck_assert(corpus_passage(TEXT, &at, 20, 30, &first, &rest));
    ck_assert_mem_eq(first.data, "Three is here.", first.size);
    ck_assert_uint_eq(rest.size, 0);
    ck_assert(corpus_passage(TEXT, &at, 20, 30, &first, &rest));
    ck_assert_mem_eq(first.data, "Four.", first.size);
    ck_assert(!corpus_passage(TEXT, &at, 20, 30, &first, &rest));
}
END_TEST

START_TEST(test_overlap_is_exact)
{
    struct overlap *overlap = overlap_create();
    bool shares = true;
    ck_assert_ptr_nonnull(overlap);
    ck_assert_uint_eq(overlap_find(overlap, text_of("a b c d e f g h i j k l m"), &shares), ERR_OK);
    ck_assert(!shares);
    ck_assert_uint_eq(overlap_add(overlap, text_of("zero A b, c d e f. g h i j k l m; n")), ERR_OK);
    ck_assert_uint_eq(overlap_add(overlap, text_of("o p q")), ERR_OK);
    ck_assert_uint_eq(overlap_find(overlap, text_of("x a b c d e f g h i j k l m y"), &shares),
                      ERR_OK);
    ck_assert(shares);
    ck_assert_uint_eq(overlap_find(overlap, text_of("a b c d e f g h i j k l x m"), &shares),
                      ERR_OK);
    ck_assert(!shares);
    /* Twelve words are not enough, and texts do not run into each other. */
    ck_assert_uint_eq(overlap_find(overlap, text_of("b c d e f g h i j k l m"), &shares), ERR_OK);
    ck_assert(!shares);
    ck_assert_uint_eq(overlap_find(overlap, text_of("d e f g h i j k l m n o p q"), &shares),
                      ERR_OK);
    ck_assert(!shares);
    overlap_destroy(overlap);
}
END_TEST

/* Against the slow obvious answer: compare every run with every run. */
START_TEST(test_overlap_equals_plain_search)
{
    enum { WORDS = 400, TRIES = 300 };
    char text[WORDS * 2 + 1];
    struct overlap *overlap = overlap_create();
    ck_assert_ptr_nonnull(overlap);
    for (size_t i = 0; i < WORDS; i++) {
        text[2 * i] = (char)('a' + test_rand() % 2);
        text[2 * i + 1] = ' ';
    }
    text[2 * (size_t)WORDS] = '\0';
    ck_assert_uint_eq(overlap_add(overlap, text_of(text)), ERR_OK);
    int found = 0;
    for (int i = 0; i < TRIES; i++) {
        char other[2 * CORPUS_OVERLAP_WORDS + 1];
        for (size_t k = 0; k < CORPUS_OVERLAP_WORDS; k++) {
            other[2 * k] = (char)('a' + test_rand() % 2);
            other[2 * k + 1] = ' ';
        }
        other[2 * (size_t)CORPUS_OVERLAP_WORDS] = '\0';
        bool shares = false;
        ck_assert_uint_eq(overlap_find(overlap, text_of(other), &shares), ERR_OK);
        ck_assert_int_eq(shares, strstr(text, other) != NULL);
        found += shares ? 1 : 0;
    }
    ck_assert_int_gt(found, 0);
    overlap_destroy(overlap);
}
END_TEST

START_TEST(test_rows_and_choices)
{
    struct buf out;
    buf_init(&out, 1000);
    corpus_write_row(&out, text_of("a\"b"), text_of("c\n"), "kjv", "kjv/1");
    corpus_write_row(&out, text_of("t"), (struct bytes){NULL, 0}, NULL, NULL);
    ck_assert_str_eq(buf_text(&out), "{\"prompt\":\"a\\\"b\",\"completion\":\"c\\n\","
                                     "\"source\":\"kjv\",\"id\":\"kjv/1\"}\n{\"text\":\"t\"}\n");
    buf_deinit(&out);
    /* Published splits rest on this hash: it must never change. */
    ck_assert_uint_eq(corpus_hash("jargon", "foo", 0), UINT64_C(0x7ef11dd9cce36ddd));
    ck_assert(corpus_hash("jargon", "foo", 0) != corpus_hash("jargo", "nfoo", 0));
    ck_assert(corpus_hash("jargon", "foo", 0) != corpus_hash("jargon", "foo", 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("openledger");
    TCase *tests = tcase_create("corpus");
    tcase_add_test(tests, test_normalise);
    tcase_add_test(tests, test_sentences);
    tcase_add_test(tests, test_passages);
    tcase_add_test(tests, test_overlap_is_exact);
    tcase_add_test(tests, test_overlap_equals_plain_search);
    tcase_add_test(tests, test_rows_and_choices);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
