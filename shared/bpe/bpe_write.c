/* bpe_write.c - writing a trained vocabulary as Hugging Face files; see bpe.h. */
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/bpe/bpe.h"
#include "shared/bpe/bpe_internal.h"
#include "shared/json/json.h"
#include "shared/text/byte_level.h"
#include "shared/token/chat.h"

static void append_code(struct buf *out, uint32_t code)
{
    if (code < 0x80) {
        (void)buf_append_byte(out, (uint8_t)code);
    } else {
        (void)buf_append_byte(out, (uint8_t)(0xC0 | code >> 6));
        (void)buf_append_byte(out, (uint8_t)(0x80 | (code & 0x3F)));
    }
}

static void append_mapped(struct buf *out, struct bytes token)
{
    for (size_t i = 0; i < token.size; i++) {
        append_code(out, byte_level_code(token.data[i]));
    }
}

static void write_byte_level(struct json_writer *writer, const char *key)
{
    json_write_key(writer, key);
    json_begin_object(writer);
    json_put_text(writer, "type", "ByteLevel");
    json_put_bool(writer, "add_prefix_space", false);
    json_put_bool(writer, "trim_offsets", true);
    json_put_bool(writer, "use_regex", true);
    json_end_object(writer);
}

static void write_added(struct json_writer *writer, const struct lm_bpe *bpe)
{
    json_write_key(writer, "added_tokens");
    json_begin_array(writer);
    for (uint32_t id = 0; id < bpe->special_count; id++) {
        json_begin_object(writer);
        json_put_u64(writer, "id", id);
        json_write_key(writer, "content");
        json_write_text_bytes(writer, lm_bpe_token(bpe, id));
        json_put_bool(writer, "single_word", false);
        json_put_bool(writer, "lstrip", false);
        json_put_bool(writer, "rstrip", false);
        json_put_bool(writer, "normalized", false);
        json_put_bool(writer, "special", true);
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void write_model(struct json_writer *writer, const struct lm_bpe *bpe, struct buf *piece)
{
    json_write_key(writer, "model");
    json_begin_object(writer);
    json_put_text(writer, "type", "BPE");
    static const char *const NULLS[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                        "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof NULLS / sizeof *NULLS; i++) {
        json_put_text(writer, NULLS[i], NULL);
    }
    json_put_bool(writer, "fuse_unk", false);
    json_put_bool(writer, "byte_fallback", false);
    json_put_bool(writer, "ignore_merges", false);
    json_write_key(writer, "vocab");
    json_begin_object(writer);
    for (uint32_t id = 0; id < bpe->vocab; id++) {
        buf_clear(piece);
        if (id < bpe->special_count) {
            (void)buf_append_bytes(piece, lm_bpe_token(bpe, id));
        } else {
            append_mapped(piece, lm_bpe_token(bpe, id));
        }
        json_put_u64(writer, buf_text(piece), id);
    }
    json_end_object(writer);
    json_write_key(writer, "merges");
    json_begin_array(writer);
    for (uint32_t i = 0; i < lm_bpe_merge_count(bpe); i++) {
        struct bytes left;
        struct bytes right;
        lm_bpe_merge(bpe, i, &left, &right);
        buf_clear(piece);
        append_mapped(piece, left);
        (void)buf_append_byte(piece, ' ');
        append_mapped(piece, right);
        json_write_text(writer, buf_text(piece));
    }
    json_end_array(writer);
    json_end_object(writer);
}

enum err lm_bpe_write(const struct lm_bpe *bpe, struct buf *out)
{
    CHECK(bpe->vocab > 0);
    struct buf piece;
    buf_init(&piece, 2 * (size_t)LM_BPE_WORD_MAX * 2 + 2);
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_put_text(&writer, "version", "1.0");
    json_put_text(&writer, "truncation", NULL);
    json_put_text(&writer, "padding", NULL);
    write_added(&writer, bpe);
    json_put_text(&writer, "normalizer", NULL);
    write_byte_level(&writer, "pre_tokenizer");
    json_put_text(&writer, "post_processor", NULL);
    write_byte_level(&writer, "decoder");
    write_model(&writer, bpe, &piece);
    json_end_object(&writer);
    (void)buf_append_byte(out, '\n');
    enum err err = buf_err(&piece);
    buf_deinit(&piece);
    return err != ERR_OK ? err : buf_err(out);
}

enum err lm_bpe_write_config(uint32_t context, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_put_text(&writer, "tokenizer_class", "PreTrainedTokenizerFast");
    json_put_text(&writer, "bos_token", LM_CHAT_END_OF_TEXT);
    json_put_text(&writer, "eos_token", LM_CHAT_END_OF_TEXT);
    json_put_text(&writer, "pad_token", LM_CHAT_END_OF_TEXT);
    json_put_bool(&writer, "add_bos_token", false);
    json_put_bool(&writer, "clean_up_tokenization_spaces", false);
    json_put_u64(&writer, "model_max_length", context);
    json_put_text(&writer, "chat_template", LM_CHAT_TEMPLATE);
    json_end_object(&writer);
    (void)buf_append_byte(out, '\n');
    return buf_err(out);
}
