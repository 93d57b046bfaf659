/* tokenizer_normal.c - text before it is cut: the steps of a normaliser in order; see tokenizer.h. */
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/text/unicode.h"
#include "shared/token/tokenizer_internal.h"

void tokenizer_replace(struct bytes text, const char *from, const char *to, struct buf *out)
{
    size_t size = strlen(from);
    CHECK(size > 0);
    size_t done = 0;
    while (done < text.size) {
        const uint8_t *found = memmem(text.data + done, text.size - done, from, size);
        size_t end = found == NULL ? text.size : (size_t)(found - text.data);
        (void)buf_append(out, text.data + done, end - done);
        if (found != NULL) {
            (void)buf_append_text(out, to);
            end += size;
        }
        done = end;
    }
}

enum err tokenizer_normalize(const struct lm_tokenizer *tokenizer, struct bytes text,
                             struct buf buffers[2], struct bytes *out)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < tokenizer->normal_count && err == ERR_OK && text.size > 0; i++) {
        const struct tokenizer_normal *step = &tokenizer->normals[i];
        struct buf *made = &buffers[i % 2];
        buf_clear(made);
        switch (step->kind) {
        case TOKENIZER_NFC:
            err = unicode_nfc(text, made);
            break;
        case TOKENIZER_PREPEND:
            (void)buf_append_text(made, step->to);
            (void)buf_append_bytes(made, text);
            break;
        case TOKENIZER_REPLACE:
            tokenizer_replace(text, step->from, step->to, made);
            break;
        }
        err = err == ERR_OK ? buf_err(made) : err;
        text = buf_bytes(made);
    }
    if (err == ERR_OK) {
        *out = text;
    }
    return err;
}
