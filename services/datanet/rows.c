/* rows.c - checks of rows and of whole contributions; see datanet.h. */
#include <string.h>

#include "services/datanet/datanet.h"
#include "shared/json/json.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"

enum { MESSAGES_MAX = 256 };

static enum err text_member(const struct json *object, const char *key, struct buf *out_text,
                            struct note *note)
{
    const char *value;
    enum err err = json_get_text(object, key, &value, note);
    if (err == ERR_OK && value[0] == '\0') {
        err = note_set(note, ERR_INVALID, "\"%s\" is empty", key);
    }
    if (err == ERR_OK && out_text != NULL) {
        buf_append_text(out_text, value);
        err = buf_append_byte(out_text, ' ');
    }
    return err;
}

static enum err messages_check(const struct json *row, struct buf *out_text, struct note *note)
{
    const struct json *messages;
    enum err err = json_get_array(row, "messages", &messages, note);
    if (err != ERR_OK) {
        return err;
    }
    size_t count = json_count(messages);
    if (count == 0 || count > MESSAGES_MAX) {
        return note_set(note, ERR_INVALID, "\"messages\" has %zu items, 1 to %d are allowed", count,
                        MESSAGES_MAX);
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        const struct json *message = json_item(messages, i);
        const char *role = json_as_text(json_member(message, "role"), "");
        if (json_kind(message) != JSON_KIND_OBJECT || json_count(message) != 2 ||
            (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
             strcmp(role, "assistant") != 0)) {
            return note_set(note, ERR_INVALID,
                            "message %zu is not {\"role\": system, user or assistant, "
                            "\"content\": text}",
                            i);
        }
        err = text_member(message, "content", out_text, note);
    }
    return err;
}

enum err datanet_row_check(struct bytes row, struct buf *out_text, struct note *note)
{
    if (row.size > LEDGER_ROW_SIZE_MAX) {
        return note_set(note, ERR_LIMIT, "row has %zu bytes, the limit is %u", row.size,
                        LEDGER_ROW_SIZE_MAX);
    }
    struct json *root;
    enum err err = json_parse(row, LEDGER_ROW_SIZE_MAX, &root, note);
    if (err != ERR_OK) {
        return err;
    }
    if (json_kind(root) == JSON_KIND_OBJECT && json_count(root) == 1 &&
        json_member(root, "text") != NULL) {
        err = text_member(root, "text", out_text, note);
    } else if (json_kind(root) == JSON_KIND_OBJECT && json_count(root) == 1 &&
               json_member(root, "messages") != NULL) {
        err = messages_check(root, out_text, note);
    } else if (json_kind(root) == JSON_KIND_OBJECT && json_count(root) == 2 &&
               json_member(root, "prompt") != NULL && json_member(root, "completion") != NULL) {
        err = text_member(root, "prompt", out_text, note);
        err = err != ERR_OK ? err : text_member(root, "completion", out_text, note);
    } else {
        err = note_set(note, ERR_INVALID,
                       "not {\"text\"}, {\"prompt\",\"completion\"} or {\"messages\"}");
    }
    json_destroy(root);
    return err;
}

/* What the contribution says of itself against what the ledger says of it. */
static enum err frame_check(const struct ledger *ledger,
                            const struct ledger_contribution *contribution,
                            const Openledger__V1__Contribution *content, struct note *note)
{
    const struct ledger_datanet *datanet = ledger_datanet(ledger, contribution->datanet);
    if (datanet == NULL || strcmp(content->datanet, contribution->datanet) != 0) {
        return note_set(note, ERR_INVALID, "it is for datanet '%.64s', committed was '%s'",
                        content->datanet, contribution->datanet);
    }
    if (content->contributor.len != ACCOUNT_ID_SIZE ||
        memcmp(content->contributor.data, contribution->contributor.bytes, ACCOUNT_ID_SIZE) != 0) {
        return note_set(note, ERR_INVALID, "it names another contributor than the commitment");
    }
    if (strcmp(content->licence, datanet->licence) != 0 ||
        (uint32_t)content->permission != datanet->permission) {
        return note_set(note, ERR_INVALID,
                        "its licence '%.64s' or permission is not the datanet's ('%s')",
                        content->licence, datanet->licence);
    }
    if (content->n_rows != contribution->row_count) {
        return note_set(note, ERR_INVALID, "it has %zu rows, committed were %u", content->n_rows,
                        contribution->row_count);
    }
    return ERR_OK;
}

enum err datanet_content_check(const struct ledger *ledger,
                               const struct ledger_contribution *contribution, struct bytes content,
                               struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__contribution__descriptor, "contribution", content,
                                 &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Contribution *decoded = (const Openledger__V1__Contribution *)message;
    err = frame_check(ledger, contribution, decoded, note);
    for (size_t i = 0; i < decoded->n_rows && err == ERR_OK; i++) {
        err = datanet_row_check(ledger_bytes(decoded->rows[i]->data), NULL, note);
        if (err != ERR_OK) {
            err = note_wrap(note, err, "row %zu", i);
        }
    }
    struct digest root;
    uint64_t byte_count = 0;
    err = err != ERR_OK ? err : ledger_contribution_root(decoded, &root, &byte_count, NULL, note);
    if (err == ERR_OK && byte_count != contribution->byte_count) {
        err =
            note_set(note, ERR_INVALID, "its rows have %llu bytes, committed were %llu",
                     (unsigned long long)byte_count, (unsigned long long)contribution->byte_count);
    }
    if (err == ERR_OK && !digest_equal(&root, &contribution->root)) {
        char have[DIGEST_TEXT_SIZE];
        char want[DIGEST_TEXT_SIZE];
        err = note_set(note, ERR_INVALID, "its root is %s, committed was %s",
                       digest_format(&root, have), digest_format(&contribution->root, want));
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}
