/* test_tokenizer_sections.c - what each section of a tokenizer.json does, and what is refused by name;
 * tests/e2e/test_tokenizers.mjs compares the same with Hugging Face's library on much text. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "shared/text/unicode.h"
#include "shared/token/chat.h"
#include "shared/token/tokenizer.h"
#include "tests/harness/seed.h"

#define JSON_MAX 4096U
#define MARK "\xE2\x96\x81" /* U+2581 */

static struct note note;

static struct bytes text_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

/* Sections in single quotes before a small model: letters, the mark, a few words, all bytes of one
 * character; <s> is special, <m> takes the blanks beside it, word stands alone. */
static enum err load(const char *sections, struct lm_tokenizer **out)
{
    static const char MODEL[] =
        ",'added_tokens':[{'id':1,'content':'<s>','special':true,'normalized':false},"
        "{'id':20,'content':'<m>','lstrip':true,'rstrip':true,'normalized':false},"
        "{'id':21,'content':'word','single_word':true,'normalized':false},"
        "{'id':22,'content':'\xC3\xA9!','normalized':true}],"
        "'model':{'type':'BPE','unk_token':'<unk>','fuse_unk':true,'byte_fallback':true,'vocab':{"
        "'<unk>':0,'<s>':1,'a':2,'b':3,'" MARK "':4,'" MARK "a':5,'ab':6,'e':7,'\xC3\xA9':8,"
        "'<0xF0>':9,'<0x9F>':10,'<0xA6>':11,'<0x99>':12,'w':13,'o':14,'r':15,'d':16,' ':17,"
        "'!':18,'x':19},'merges':[['" MARK "','a'],'a b']}}";
    char json[JSON_MAX];
    int size = snprintf(json, sizeof json, "{%s%s", sections, MODEL);
    ck_assert(size > 0 && (size_t)size < sizeof json);
    for (int i = 0; i < size; i++) {
        json[i] = json[i] == '\'' ? '"' : json[i];
    }
    note.text[0] = '\0';
    return lm_tokenizer_load(text_of(json), out, &note);
}

#define DECODER                                                                                    \
    "'decoder':{'type':'Sequence','decoders':[{'type':'Replace','pattern':{'String':'" MARK        \
    "'},'content':' '},{'type':'ByteFallback'},{'type':'Fuse'},{'type':'Strip','content':' "       \
    "','start':1,'stop':0}]}"
#define METASPACE(MORE) "'pre_tokenizer':{'type':'Metaspace','replacement':'" MARK "'" MORE "}"
#define SPLIT(PATTERN, BEHAVIOR)                                                                   \
    "'pre_tokenizer':{'type':'Split','pattern':" PATTERN ",'behavior':'" BEHAVIOR "'}," DECODER

/* Ids as text: "5 6". */
static void expect(const char *sections, const char *text, const char *want)
{
    struct lm_tokenizer *tokenizer = NULL;
    enum err err = load(sections, &tokenizer);
    ck_assert_msg(err == ERR_OK, "%s: %s", sections, note.text);
    struct lm_ids ids;
    struct buf got;
    lm_ids_init(&ids, 1000);
    buf_init(&got, 10000);
    err = lm_tokenizer_encode(tokenizer, text_of(text), true, &ids, &note);
    ck_assert_msg(err == ERR_OK, "%s: %s", text, note.text);
    for (size_t i = 0; i < ids.count; i++) {
        (void)buf_printf(&got, "%s%u", i == 0 ? "" : " ", ids.items[i]);
    }
    ck_assert_msg(strcmp(buf_text(&got), want) == 0, "%s: \"%s\" gives %s, not %s", sections, text,
                  buf_text(&got), want);
    buf_deinit(&got);
    lm_ids_deinit(&ids);
    lm_tokenizer_destroy(tokenizer);
}

START_TEST(test_normalizers)
{
    static const char NFC[] = "'normalizer':{'type':'NFC'}," DECODER;
    expect(NFC, "ae\xCC\x81", "2 8"); /* e and an accent become one letter */
    expect(DECODER, "e\xC3\xA9", "7 8");
    /* In order: the mark that is put before is not replaced, blanks are; nothing before nothing. */
    static const char BOTH[] =
        "'normalizer':{'type':'Sequence','normalizers':[{'type':'Replace','pattern':{'String':'x'},"
        "'content':' '},{'type':'Prepend','prepend':'x'},{'type':'Replace','pattern':{'String':' "
        "'},"
        "'content':'" MARK "'}]}," DECODER;
    expect(BOTH, "bx a", "19 3 4 5");
    expect(BOTH, "", "");
}
END_TEST

START_TEST(test_metaspace)
{
    expect(METASPACE(",'prepend_scheme':'always'") "," DECODER, "a a<s>a", "5 5 1 5");
    expect(METASPACE(",'prepend_scheme':'first'") "," DECODER, "a a<s>a", "5 5 1 2");
    expect(METASPACE(",'prepend_scheme':'first'") "," DECODER, "<s>a", "1 2");
    expect(METASPACE(",'prepend_scheme':'never'") "," DECODER, "a a<s>a", "2 5 1 2");
    expect(METASPACE(",'add_prefix_space':false") "," DECODER, "a a", "2 5");
    expect(METASPACE("") "," DECODER, " a", "5"); /* one mark is enough */
    expect(METASPACE(",'split':false") "," DECODER, "ab  a", "5 3 4 5");
}
END_TEST

START_TEST(test_splits)
{
    expect(SPLIT("{'Regex':'a'}", "Isolated"), "xab", "19 2 3");
    expect(SPLIT("{'Regex':'a'}", "Removed"), "xabab", "19 3 3");
    expect(SPLIT("{'Regex':'x'}", "MergedWithNext"), "abxabb", "6 19 6 3");
    expect(SPLIT("{'String':'a'}", "MergedWithPrevious"), "xab", "19 2 3");
    expect(SPLIT("{'Regex':'[ax]'}", "Contiguous"), "axab", "2 19 2 3");
    expect(SPLIT("{'String':'.'}", "Removed"), "ab", "6"); /* a text, no pattern */
    expect(SPLIT("{'Regex':'x*'}", "Isolated"), "abxx",
           "2 3 19 19"); /* cuts where nothing matches */
    expect(SPLIT("{'Regex':'\\\\S+'},'invert':true", "Removed"), "ab ab", "6 6");
    expect(SPLIT("{'Regex':'\\\\u0061'}", "Isolated"), "ab", "2 3");
}
END_TEST

START_TEST(test_added_tokens)
{
    expect(DECODER, "a <m> b<m>  b", "2 20 3 20 3");
    expect(DECODER, "<m>  <m>", "20 20");
    expect(DECODER, "word wordx aword word!", "21 17 13 14 15 16 19 17 2 13 14 15 16 17 21 18");
    expect(DECODER, "word\xC3\xA9", "13 14 15 16 8"); /* a letter behind it */
    expect("'normalizer':{'type':'NFC'}," DECODER, "e\xCC\x81!", "22");
    expect(DECODER, "e\xCC\x81!", "7 0 18");
}
END_TEST

START_TEST(test_fallback_and_unknown)
{
    expect(DECODER,
           "a\xF0\x9F\xA6\x99"
           "b",
           "2 9 10 11 12 3");
    expect(DECODER,
           "a\xC3\xBC\xC3\xB6"
           "b\xC3\xBC",
           "2 0 3 0"); /* unknown ones in a row are one */
}
END_TEST

START_TEST(test_template)
{
    struct lm_tokenizer *tokenizer = NULL;
    uint32_t begin = 77;
    uint32_t end = 77;
    ck_assert_uint_eq(load(DECODER, &tokenizer), ERR_OK);
    ck_assert(!lm_tokenizer_template(tokenizer, &begin, &end));
    struct lm_chat chat;
    lm_chat_init(&chat, tokenizer, 1, 1);
    ck_assert_uint_eq(chat.bos, 1);
    lm_tokenizer_destroy(tokenizer);
    /* A file that puts nothing before a text counts more than the model's bos. */
    ck_assert_uint_eq(load("'post_processor':{'type':'ByteLevel'}," DECODER, &tokenizer), ERR_OK);
    ck_assert(lm_tokenizer_template(tokenizer, &begin, &end));
    ck_assert_uint_eq(begin, LM_TOKENIZER_NONE);
    ck_assert_uint_eq(end, LM_TOKENIZER_NONE);
    lm_chat_init(&chat, tokenizer, 1, 1);
    ck_assert_uint_eq(chat.bos, LM_TOKENIZER_NONE);
    lm_tokenizer_destroy(tokenizer);
    static const char BOS[] =
        "'post_processor':{'type':'Sequence','processors':[{'type':'ByteLevel'},"
        "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>'}},{'Sequence':{'id':'A'"
        "}},"
        "{'SpecialToken':{'id':'x'}}],'special_tokens':{'<s>':{'ids':[1]},'x':{'ids':[19]}}}]}"
        "," DECODER;
    ck_assert_uint_eq(load(BOS, &tokenizer), ERR_OK);
    ck_assert(lm_tokenizer_template(tokenizer, &begin, &end));
    ck_assert_uint_eq(begin, 1);
    ck_assert_uint_eq(end, 19);
    lm_tokenizer_destroy(tokenizer);
}
END_TEST

START_TEST(test_refuses_by_name)
{
    static const struct {
        const char *sections, *says;
    } BAD[] = {
        {"'normalizer':{'type':'Replace','pattern':{'Regex':'a'},'content':''}," DECODER, "Regex"},
        {"'normalizer':{'type':'Sequence','normalizers':[{'type':'Lowercase'}]}," DECODER,
         "Lowercase"},
        {"'normalizer':{'type':'Prepend','prepend':'12345678901234567'}," DECODER, "prepend"},
        {SPLIT("{'Regex':'[a[bc]]'}", "Isolated"), "class within a class"},
        {SPLIT("{'Regex':'[a&&b]'}", "Isolated"), "&&"},
        {SPLIT("{'Regex':'\\\\w+'}", "Isolated"), "\\w"},
        {SPLIT("{'Regex':'a{2}+'}", "Isolated"), "{2}+"},
        {SPLIT("{'Regex':'(?s:.)'}", "Isolated"), "(?s"},
        {SPLIT("{'Regex':'(*FAIL)'}", "Isolated"), "(*"},
        {SPLIT("{'Regex':'\\\\pL'}", "Isolated"), "\\p"},
        {SPLIT("{'Regex':'\\\\p{Nonsense}'}", "Isolated"), "pattern"},
        {SPLIT("{'Regex':'a'}", "Apart"), "Apart"},
        {METASPACE(",'prepend_scheme':'last'") "," DECODER, "last"},
        {METASPACE(",'prepend_scheme':'first','add_prefix_space':false") "," DECODER, "first"},
        {"'pre_tokenizer':{'type':'Metaspace','replacement':'ab'}," DECODER, "replacement"},
        {"'pre_tokenizer':{'type':'Sequence','pretokenizers':[{'type':'ByteLevel'},"
         "{'type':'Digits'}]}," DECODER,
         "must be the last"},
        {"'decoder':{'type':'Strip','content':' ','start':1,'stop':0}", "Strip"},
        {"'decoder':{'type':'Sequence','decoders':[{'type':'Fuse'},{'type':'ByteFallback'}]}",
         "ByteFallback"},
        {"'decoder':{'type':'ByteLevel'}", "ByteLevel"},
        {"'decoder':null", "decoder"},
        {"'post_processor':{'type':'BertProcessing'}," DECODER, "BertProcessing"},
        {"'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>'}},"
         "{'Sequence':{'id':'A'}}],'special_tokens':{'<s>':{'ids':[99]}}}," DECODER,
         "<s>"},
        {"'post_processor':{'type':'TemplateProcessing','single':[{'Sequence':{'id':'B'}}]}"
         "," DECODER,
         "Sequence"},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct lm_tokenizer *tokenizer = NULL;
        ck_assert_msg(load(BAD[i].sections, &tokenizer) == ERR_INVALID, "%s", BAD[i].sections);
        ck_assert_msg(strstr(note.text, BAD[i].says) != NULL, "%s: %s", BAD[i].sections, note.text);
        ck_assert_ptr_null(tokenizer);
    }
}
END_TEST

/* Without a pre-tokenizer the text between two added tokens is one piece, and a piece has a limit. */
START_TEST(test_piece_limit)
{
    struct lm_tokenizer *tokenizer = NULL;
    struct lm_ids ids;
    size_t size = (size_t)LM_TOKENIZER_WORD_MAX + 4;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', size);
    lm_ids_init(&ids, size);
    ck_assert_uint_eq(load(DECODER, &tokenizer), ERR_OK);
    struct bytes most = {(const uint8_t *)text, LM_TOKENIZER_WORD_MAX};
    struct bytes more = {(const uint8_t *)text, size};
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, most, true, &ids, &note), ERR_OK);
    ck_assert_uint_eq(ids.count, most.size);
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, more, true, &ids, &note), ERR_LIMIT);
    ck_assert_str_eq(note.text, "a piece of text that nothing cuts has 2097156 bytes, "
                                "the limit is 2097152");
    ck_assert_uint_eq(ids.count, most.size);
    lm_ids_deinit(&ids);
    lm_ids_init(&ids, size);
    static const char TOKEN[] = {'<', 's', '>'};
    memcpy(text + size / 2, TOKEN, sizeof TOKEN); /* two pieces and a token */
    ck_assert_uint_eq(lm_tokenizer_encode(tokenizer, more, true, &ids, &note), ERR_OK);
    ck_assert_uint_eq(ids.count, size - 2);
    lm_ids_deinit(&ids);
    lm_tokenizer_destroy(tokenizer);
    free(text);
}
END_TEST

/* Token by token, at every prefix, is all at once; always whole characters. */
START_TEST(test_streams)
{
    static const char *const DECODERS[] = {
        DECODER, "'decoder':{'type':'Metaspace','replacement':'" MARK "'}",
        "'decoder':{'type':'Sequence','decoders':[{'type':'ByteFallback'},{'type':'Fuse'}]}"};
    for (size_t d = 0; d < sizeof DECODERS / sizeof *DECODERS; d++) {
        struct lm_tokenizer *tokenizer = NULL;
        ck_assert_uint_eq(load(DECODERS[d], &tokenizer), ERR_OK);
        for (int round = 0; round < 300; round++) {
            struct lm_token_stream stream;
            struct buf parts;
            struct buf whole;
            uint32_t ids[24];
            buf_init(&parts, 1000);
            buf_init(&whole, 1000);
            bool special = test_rand() % 2 == 0;
            lm_token_stream_init(&stream, tokenizer, special);
            for (size_t i = 0; i < 24; i++) {
                ids[i] = (uint32_t)(test_rand() % 3 == 0 ? test_rand() % 23 : 9 + test_rand() % 4);
                ck_assert_uint_eq(lm_token_stream_push(&stream, ids[i], &parts), ERR_OK);
                ck_assert(utf8_valid(buf_bytes(&parts)));
                struct lm_token_stream ended = stream;
                size_t size = parts.size;
                ck_assert_uint_eq(lm_token_stream_finish(&ended, &parts), ERR_OK);
                buf_clear(&whole);
                ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, ids, i + 1, special, &whole),
                                  ERR_OK);
                ck_assert_str_eq(buf_text(&parts), buf_text(&whole));
                buf_truncate(&parts, size);
            }
            buf_deinit(&whole);
            buf_deinit(&parts);
        }
        lm_tokenizer_destroy(tokenizer);
    }
}
END_TEST

START_TEST(test_first_blank)
{
    struct lm_tokenizer *tokenizer = NULL;
    struct buf out;
    buf_init(&out, 1000);
    ck_assert_uint_eq(load(DECODER, &tokenizer), ERR_OK);
    ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, (uint32_t[]){1, 5, 5}, 3, false, &out),
                      ERR_OK);
    ck_assert_str_eq(buf_text(&out), "a a");
    buf_clear(&out);
    ck_assert_uint_eq(lm_tokenizer_decode(tokenizer, (uint32_t[]){1, 5, 5}, 3, true, &out), ERR_OK);
    ck_assert_str_eq(buf_text(&out), "<s> a a");
    lm_tokenizer_destroy(tokenizer);
    buf_deinit(&out);
}
END_TEST

/* Two million marks in the worst order take no time. */
START_TEST(test_nfc)
{
    static const char *const FORMS[][2] = {
        {"", ""},
        {"e\xCC\x81", "\xC3\xA9"},
        {"q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"},
        {"\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"},
        {"\xE2\x84\xAB", "\xC3\x85"},
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"}, /* excluded from composition */
        {"abc\xC3\xA9", "abc\xC3\xA9"},
    };
    struct buf out;
    buf_init(&out, 16U << 20);
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        buf_clear(&out);
        ck_assert_uint_eq(unicode_nfc(text_of(FORMS[i][0]), &out), ERR_OK);
        ck_assert_str_eq(buf_text(&out), FORMS[i][1]);
    }
    size_t size = 4U << 20;
    uint8_t *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    static const uint8_t MARKS[4] = {0xCC, 0x81, 0xCC, 0x96};
    for (size_t i = 0; i < size; i += 4) {
        memcpy(text + i, MARKS, sizeof MARKS);
    }
    buf_clear(&out);
    ck_assert_uint_eq(unicode_nfc((struct bytes){text, size}, &out), ERR_OK);
    ck_assert_uint_eq(out.size, size);
    ck_assert_int_eq(memcmp(out.data, "\xCC\x96\xCC\x96", 4), 0);
    free(text);
    buf_deinit(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer sections");
    TCase *tests = tcase_create("tokenizer sections");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_normalizers);
    tcase_add_test(tests, test_metaspace);
    tcase_add_test(tests, test_splits);
    tcase_add_test(tests, test_added_tokens);
    tcase_add_test(tests, test_fallback_and_unknown);
    tcase_add_test(tests, test_template);
    tcase_add_test(tests, test_refuses_by_name);
    tcase_add_test(tests, test_piece_limit);
    tcase_add_test(tests, test_streams);
    tcase_add_test(tests, test_first_blank);
    tcase_add_test(tests, test_nfc);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
