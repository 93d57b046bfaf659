/* tokenizer_decode.c - ids to text, all at once or token by token; see tokenizer.h. */
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/utf8.h"
#include "shared/token/tokenizer_internal.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

void lm_token_stream_init(struct lm_token_stream *stream, const struct lm_tokenizer *tokenizer,
                          bool special)
{
    *stream = (struct lm_token_stream){
        .tokenizer = tokenizer, .special = special, .strip = tokenizer->decoder.strip_count};
}

/* Are these bytes the beginning of a character? Tries its ends: what may follow depends only on the
 * first byte's range, and each range holds one of three second bytes (RFC 3629). */
static bool begins_character(struct bytes text)
{
    static const uint8_t SECOND[] = {0x80, 0x90, 0xA0};
    for (size_t i = 0; i < sizeof SECOND && text.size < 4; i++) {
        uint8_t whole[4] = {0, SECOND[i], 0x80, 0x80};
        memcpy(whole, text.data, text.size);
        for (size_t size = text.size + 1; size <= sizeof whole; size++) {
            if (utf8_char_size((struct bytes){whole, size}) == size) {
                return true;
            }
        }
    }
    return false;
}

/* Writes what is complete of held + byte: a character, or U+FFFD for one that was begun and is not
 * gone on with (Unicode 3.9: one for each maximal subpart). */
static void write_byte(struct lm_token_stream *stream, uint8_t byte, struct buf *out)
{
    for (bool again = true; again;) {
        stream->held[stream->held_size++] = byte;
        struct bytes held = {stream->held, stream->held_size};
        again = false;
        if (utf8_char_size(held) == held.size) {
            (void)buf_append_bytes(out, held);
            stream->held_size = 0;
        } else if (!begins_character(held)) {
            (void)buf_append_text(out, REPLACEMENT);
            again = held.size > 1; /* what ended a character may begin the next */
            stream->held_size = 0;
        }
    }
}

static void write_bytes(struct lm_token_stream *stream, struct bytes bytes, struct buf *out)
{
    size_t begin = 0; /* whole characters from here up to i are not yet written */
    for (size_t i = 0; i < bytes.size;) {
        size_t size = stream->held_size > 0
                          ? 0
                          : utf8_char_size((struct bytes){bytes.data + i, bytes.size - i});
        if (size > 0) {
            i += size;
            continue;
        }
        (void)buf_append(out, bytes.data + begin, i - begin);
        write_byte(stream, bytes.data[i++], out);
        begin = i;
    }
    (void)buf_append(out, bytes.data + begin, bytes.size - begin);
}

enum err lm_token_stream_push(struct lm_token_stream *stream, uint32_t id, struct buf *out)
{
    const struct lm_tokenizer *tokenizer = stream->tokenizer;
    if (id >= tokenizer->vocab) {
        return ERR_RANGE;
    }
    const struct tokenizer_piece *piece = &tokenizer->pieces[id];
    if (!piece->used || (piece->special && !stream->special)) {
        return ERR_OK;
    }
    struct bytes bytes = lm_tokenizer_piece(tokenizer, id);
    bool first = !stream->started;
    stream->started = true;
    if (first && tokenizer->decoder.metaspace_first && piece->marked) {
        for (size_t i = 0; i < bytes.size; i++) { /* all its blanks were marks */
            if (bytes.data[i] != ' ') {
                write_bytes(stream, (struct bytes){bytes.data + i, 1}, out);
            }
        }
        return buf_err(out);
    }
    while (stream->strip > 0 && bytes.size > 0) {
        bool drops = bytes.data[0] == (uint8_t)tokenizer->decoder.strip;
        bytes = drops ? (struct bytes){bytes.data + 1, bytes.size - 1} : bytes;
        stream->strip = drops ? stream->strip - 1 : 0;
    }
    write_bytes(stream, bytes, out);
    return buf_err(out);
}

enum err lm_token_stream_finish(struct lm_token_stream *stream, struct buf *out)
{
    if (stream->held_size > 0) {
        stream->held_size = 0;
        (void)buf_append_text(out, REPLACEMENT);
    }
    return buf_err(out);
}

enum err lm_tokenizer_decode(const struct lm_tokenizer *tokenizer, const uint32_t *ids,
                             size_t count, bool special, struct buf *out)
{
    struct lm_token_stream stream;
    lm_token_stream_init(&stream, tokenizer, special);
    size_t size_before = out->size;
    enum err err = buf_err(out);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = lm_token_stream_push(&stream, ids[i], out);
    }
    if (err == ERR_OK) {
        err = lm_token_stream_finish(&stream, out);
    }
    if (err != ERR_OK) {
        buf_truncate(out, size_before);
    }
    return err;
}
