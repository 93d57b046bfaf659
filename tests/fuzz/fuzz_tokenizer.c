/* fuzz_tokenizer.c - hostile tokenizer.json files and hostile text.
 *
 * Oracles: text encoded by a byte-level tokenizer decodes to itself; whatever ids are decoded at once
 * or one by one give the same valid UTF-8; a file that loads encodes and decodes within its ids. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/utf8.h"
#include "shared/token/bpe.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    if (ours == NULL) {
        make_ours();
    }
    if (data_size == 0) {
        return 0;
    }
    struct bytes rest = {data + 1, data_size - 1};
    struct lm_ids ids;
    struct buf out;
    lm_ids_init(&ids, IDS_MAX);
    buf_init(&out, 1U << 24);
    switch (data[0] % 3) {
    case 0:
        check_text(rest, (data[0] & 64) != 0);
        break;
    case 1: /* any ids */
        for (size_t i = 0; i + 1 < rest.size; i += 2) {
            uint32_t id = (uint32_t)(rest.data[i] | rest.data[i + 1] << 8);
            enum err err = lm_ids_append(&ids, id % lm_tokenizer_vocab(ours));
            CHECK(err == ERR_OK || err == ERR_LIMIT);
        }
        check_decode(ours, &ids, &out);
        break;
    default: { /* any file */
        struct lm_tokenizer *tokenizer = NULL;
        if (lm_tokenizer_load(rest, &tokenizer, NULL) == ERR_OK) {
            static const char TEXT[] = "a b\tcab <x> na\xC3\xAFve 12";
            struct bytes text = {(const uint8_t *)TEXT, sizeof TEXT - 1};
            if (lm_tokenizer_encode(tokenizer, text, true, &ids, NULL) == ERR_OK) {
                check_decode(tokenizer, &ids, &out);
            }
            lm_tokenizer_destroy(tokenizer);
        }
        break;
    }
    }
    buf_deinit(&out);
    lm_ids_deinit(&ids);
    return 0;
}
