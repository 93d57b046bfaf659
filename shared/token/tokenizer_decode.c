/* tokenizer_decode.c - ids to text, all at once or token by token; see tokenizer.h. */
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/utf8.h"
#include "shared/token/tokenizer_internal.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

void lm_token_stream_init(struct lm_token_stream *stream, const struct lm_tokenizer *tokenizer,
                          bool special)
{
    *stream = (struct lm_token_stream){.tokenizer = tokenizer, .special = special};
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

/* Writes the whole characters of held + more; keeps the rest. */
static void write_characters(struct lm_token_stream *stream, struct bytes more, struct buf *out)
{
    uint8_t window[8];
    size_t used = 0;
    while (used < more.size || stream->held_size > 0) {
        /* The held bytes and as many new ones as a character can need. */
        size_t size = stream->held_size;
        memcpy(window, stream->held, size);
        size_t taken = 0;
        while (size < 4 && used + taken < more.size) {
            window[size++] = more.data[used + taken++];
        }
        size_t character = utf8_char_size((struct bytes){window, size});
        if (character == 0 && begins_character((struct bytes){window, size})) {
            memcpy(stream->held, window, size);
            stream->held_size = (uint8_t)size;
            return;
        }
        size_t drop = character;
        if (character > 0) {
            (void)buf_append(out, window, character);
        } else {
            (void)buf_append_text(out, REPLACEMENT);
            drop = 1;
        }
        /* What the character did not use goes back: first into held, the rest stays in more. */
        if (drop >= stream->held_size) {
            used += drop - stream->held_size;
            stream->held_size = 0;
        } else {
            stream->held_size = (uint8_t)(stream->held_size - drop);
            memmove(stream->held, stream->held + drop, stream->held_size);
        }
    }
}

enum err lm_token_stream_push(struct lm_token_stream *stream, uint32_t id, struct buf *out)
{
    const struct lm_tokenizer *tokenizer = stream->tokenizer;
    if (id >= tokenizer->vocab) {
        return ERR_RANGE;
    }
    const struct tokenizer_piece *piece = &tokenizer->pieces[id];
    if (piece->special && !stream->special) {
        return ERR_OK;
    }
    struct bytes bytes = lm_tokenizer_piece(tokenizer, id);
    if (!stream->started && bytes.size > 0) {
        stream->started = true;
        if (tokenizer->strip_first_space && !piece->added && bytes.data[0] == ' ') {
            bytes = (struct bytes){bytes.data + 1, bytes.size - 1};
        }
    }
    write_characters(stream, bytes, out);
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
