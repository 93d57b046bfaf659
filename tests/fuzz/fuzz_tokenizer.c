/* fuzz_tokenizer.c - hostile tokenizer.json files, hostile sections before a sound vocabulary, and hostile
 * text, also through a normaliser, metaspace and added tokens of every kind.
 *
 * Oracles: form C of a form C is itself; text encoded by a byte-level tokenizer decodes to itself; whatever ids are decoded at once
 * or one by one give the same valid UTF-8; a file that loads encodes and decodes within its ids. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/utf8.h"
#include "shared/bpe/bpe.h"
#include "shared/text/unicode.h"
#include "shared/token/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

#define IDS_MAX (1U << 16)

static struct lm_tokenizer *ours;

static void make_ours(void)
{
    static const char *const SPECIAL[] = {"<|endoftext|>"};
    static const char TEXT[] = "the cat and the hat, that the then na\xC3\xAFve   \n\n 1234 isn't";
    struct lm_bpe *bpe = lm_bpe_create();
    struct buf json;
    buf_init(&json, 1U << 20);
    CHECK(bpe != NULL);
    enum err err = lm_bpe_add(bpe, (struct bytes){(const uint8_t *)TEXT, sizeof TEXT - 1}, NULL);
    CHECK(err == ERR_OK);
    err = lm_bpe_train(bpe, 290, SPECIAL, 1, NULL, NULL, NULL);
    CHECK(err == ERR_OK);
    err = lm_bpe_write(bpe, &json);
    CHECK(err == ERR_OK);
    err = lm_tokenizer_load(buf_bytes(&json), &ours, NULL);
    CHECK(err == ERR_OK);
    buf_deinit(&json);
    lm_bpe_destroy(bpe);
}

/* Decodes at once and in pieces; both must agree and be UTF-8. Returns the text in out. */
static void check_decode(const struct lm_tokenizer *tokenizer, const struct lm_ids *ids,
                         struct buf *out)
{
    struct lm_token_stream stream;
    struct buf parts;
    buf_init(&parts, 1U << 24);
    lm_token_stream_init(&stream, tokenizer, true);
    for (size_t i = 0; i < ids->count; i++) {
        CHECK(ids->items[i] < lm_tokenizer_vocab(tokenizer));
        enum err err = lm_token_stream_push(&stream, ids->items[i], &parts);
        CHECK(err == ERR_OK);
        CHECK(utf8_valid(buf_bytes(&parts)));
    }
    enum err err = lm_token_stream_finish(&stream, &parts);
    CHECK(err == ERR_OK);
    err = lm_tokenizer_decode(tokenizer, ids->items, ids->count, true, out);
    CHECK(err == ERR_OK);
    CHECK(utf8_valid(buf_bytes(out)));
    CHECK(out->size == parts.size);
    CHECK(out->size == 0 || memcmp(out->data, parts.data, out->size) == 0);
    buf_deinit(&parts);
}

/* A vocabulary with byte fallback and added tokens, behind whatever sections. */
static const char MODEL[] =
    ",\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},"
    "{\"id\":13,\"content\":\"<x>\",\"lstrip\":true,\"rstrip\":true,\"normalized\":false},"
    "{\"id\":14,\"content\":\"ab\",\"single_word\":true,\"normalized\":false},"
    "{\"id\":15,\"content\":\"\xC3\xA9\"}],\"model\":{\"unk_token\":\"<unk>\",\"byte_fallback\":"
    "true,"
    "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"a\":2,\"b\":3,\"\xE2\x96\x81\":4,\"\xE2\x96\x81"
    "a\":5,\"<0xC3>\":6,\"<0xA9>\":7,\"<0xF0>\":8,\"\xC4\xA0\":9,\"1\":10,\" \":11,\"ba\":12},"
    "\"merges\":[[\"\xE2\x96\x81\",\"a\"],\"b a\"]}}";
static const char SECTIONS[] =
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"xx\"},\"content\":\" \"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
    "{\"Regex\":\"\\\\s*\"},\"behavior\":\"MergedWithNext\"},{\"type\":\"Metaspace\","
    "\"replacement\":"
    "\"\xE2\x96\x81\",\"prepend_scheme\":\"first\"}]},\"decoder\":{\"type\":\"Sequence\","
    "\"decoders\":"
    "[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
    "\",\"start\":1,"
    "\"stop\":0}]}";

/* What loads must encode text, or say why not, and decode the ids. */
static void check_file(struct bytes json, struct bytes text, bool special)
{
    struct lm_tokenizer *tokenizer = NULL;
    struct lm_ids ids;
    struct buf out;
    lm_ids_init(&ids, IDS_MAX);
    buf_init(&out, 1U << 24);
    if (lm_tokenizer_load(json, &tokenizer, NULL) == ERR_OK) {
        enum err err = lm_tokenizer_encode(tokenizer, text, special, &ids, NULL);
        CHECK(err != ERR_OK || utf8_valid(text));
        if (err == ERR_OK) {
            check_decode(tokenizer, &ids, &out);
        }
        lm_tokenizer_destroy(tokenizer);
    }
    buf_deinit(&out);
    lm_ids_deinit(&ids);
}

static void check_sections(struct bytes sections, struct bytes text, bool special)
{
    struct buf json;
    buf_init(&json, 1U << 20);
    (void)buf_append_byte(&json, '{');
    (void)buf_append_bytes(&json, sections);
    (void)buf_append_text(&json, MODEL);
    check_file(buf_bytes(&json), text, special);
    buf_deinit(&json);
}

static void check_form(struct bytes text)
{
    struct buf once;
    struct buf twice;
    buf_init(&once, 1U << 22);
    buf_init(&twice, 1U << 22);
    if (utf8_valid(text) && unicode_nfc(text, &once) == ERR_OK) {
        CHECK(utf8_valid(buf_bytes(&once)));
        enum err err = unicode_nfc(buf_bytes(&once), &twice);
        CHECK(err == ERR_OK && once.size == twice.size);
        CHECK(once.size == 0 || memcmp(once.data, twice.data, once.size) == 0);
    }
    buf_deinit(&twice);
    buf_deinit(&once);
}

static void check_text(struct bytes text, bool special)
{
    struct lm_ids ids;
    struct buf out;
    lm_ids_init(&ids, IDS_MAX);
    buf_init(&out, 1U << 24);
    enum err err = lm_tokenizer_encode(ours, text, special, &ids, NULL);
    CHECK((err == ERR_INVALID) == !utf8_valid(text));
    if (err == ERR_OK) {
        check_decode(ours, &ids, &out);
        CHECK(out.size == text.size);
        CHECK(out.size == 0 || memcmp(out.data, text.data, out.size) == 0);
    }
    buf_deinit(&out);
    lm_ids_deinit(&ids);
}

static void check_ids(struct bytes numbers)
{
    struct lm_ids ids;
    struct buf out;
    lm_ids_init(&ids, IDS_MAX);
    buf_init(&out, 1U << 24);
    for (size_t i = 0; i + 1 < numbers.size; i += 2) {
        uint32_t id = (uint32_t)(numbers.data[i] | numbers.data[i + 1] << 8);
        enum err err = lm_ids_append(&ids, id % lm_tokenizer_vocab(ours));
        CHECK(err == ERR_OK || err == ERR_LIMIT);
    }
    check_decode(ours, &ids, &out);
    buf_deinit(&out);
    lm_ids_deinit(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    static const char TEXT[] = " a b\tcab <x> e\xCC\x81 na\xC3\xAFve 12<s>xx";
    static const struct bytes FIXED = {(const uint8_t *)TEXT, sizeof TEXT - 1};
    if (ours == NULL) {
        make_ours();
    }
    if (data_size == 0) {
        return 0;
    }
    struct bytes rest = {data + 1, data_size - 1};
    bool special = (data[0] & 64) != 0;
    switch (data[0] % 5) {
    case 0:
        check_text(rest, special);
        break;
    case 1: /* any sections */
        check_sections(rest, FIXED, true);
        break;
    case 2: /* any text through all of them */
        check_sections((struct bytes){(const uint8_t *)SECTIONS, sizeof SECTIONS - 1}, rest,
                       special);
        check_form(rest);
        break;
    case 3:
        check_ids(rest);
        break;
    default: /* any file */
        check_file(rest, FIXED, true);
        break;
    }
    return 0;
}
