/* row_check.c - is this a row that can be trained on? see lineage.h. */
#include <string.h>

#include "shared/json/json.h"
#include "shared/ledger/rows.h"
#include "shared/lineage/lineage.h"

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

enum err lineage_row_check(struct bytes row, struct buf *out_text, struct note *note)
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
