/* fuzz_text.c - identifiers and notes: what decodes must encode back to the same text, and no bytes
 * whatsoever are a note signed by a key that signed nothing. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/account_id.h"
#include "shared/base/amount.h"
#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/crypto/signed_note.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct account_id id;
    struct amount amount;
    struct checkpoint checkpoint;
    struct bytes rest;
    struct buf out;
    struct buf back_text;
    char id_text[ACCOUNT_ID_TEXT_SIZE];
    char amount_text[AMOUNT_TEXT_SIZE];
    char *text = malloc(data_size + 1);
    CHECK(text != NULL);
    memcpy(text, data, data_size);
    text[data_size] = '\0';
    if (account_id_parse(text, &id) == ERR_OK) {
        CHECK(strcasecmp(account_id_format(&id, id_text), text) == 0);
    }
    if (amount_parse(text, &amount) == ERR_OK) {
        struct amount back;
        CHECK(amount_parse(amount_format(amount, amount_text), &back) == ERR_OK);
        CHECK(amount_equal(amount, back));
    }
    buf_init(&out, 2 * data_size + 512);
    buf_init(&back_text, data_size);
    if (base64_decode(bytes_of(data, data_size), false, &out) == ERR_OK) {
        CHECK(base64_encode(buf_bytes(&out), &back_text) == ERR_OK);
        CHECK(bytes_equal(buf_bytes(&back_text), bytes_of(data, data_size)));
    }
    buf_clear(&out);
    if (checkpoint_parse(bytes_of(data, data_size), &checkpoint, &rest, NULL) == ERR_OK) {
        CHECK(checkpoint_format(&checkpoint, rest, &out) == ERR_OK);
        CHECK(bytes_equal(buf_bytes(&out), bytes_of(data, data_size)));
    }
    struct signed_note_key key = {.name = "a", .type = SIGNED_NOTE_PLAIN, .key = {.bytes = {9}}};
    CHECK(signed_note_verify(bytes_of(data, data_size), &key, 1, &rest, NULL) != ERR_OK);
    buf_deinit(&back_text);
    buf_deinit(&out);
    free(text);
    return 0;
}
