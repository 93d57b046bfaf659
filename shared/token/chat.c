/* chat.c - see chat.h. */
#include "shared/token/chat.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"

const char LM_CHAT_TEMPLATE[] =
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + "
    "'<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

static const char *const ROLE_NAMES[] = {"system", "user", "assistant"};

enum err lm_role_parse(const char *text, enum lm_role *out)
{
    for (size_t i = 0; i < sizeof ROLE_NAMES / sizeof *ROLE_NAMES; i++) {
        if (strcmp(text, ROLE_NAMES[i]) == 0) {
            *out = (enum lm_role)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

const char *lm_role_name(enum lm_role role)
{
    return ROLE_NAMES[role];
}

void lm_chat_init(struct lm_chat *chat, const struct lm_tokenizer *tokenizer, uint32_t bos,
                  uint32_t eos)
{
    *chat = (struct lm_chat){.tokenizer = tokenizer, .bos = bos, .eos = eos};
    uint32_t end = LM_TOKENIZER_NONE;
    (void)lm_tokenizer_template(tokenizer, &chat->bos, &end);
    chat->user = lm_tokenizer_find(tokenizer, LM_CHAT_USER);
    chat->assistant = lm_tokenizer_find(tokenizer, LM_CHAT_ASSISTANT);
    chat->end = lm_tokenizer_find(tokenizer, LM_CHAT_END);
    chat->system = lm_tokenizer_find(tokenizer, LM_CHAT_SYSTEM);
    const uint32_t four[] = {chat->user, chat->assistant, chat->end, chat->system};
    chat->turns = true;
    for (size_t i = 0; i < sizeof four / sizeof *four; i++) {
        chat->turns = chat->turns && four[i] != LM_TOKENIZER_NONE &&
                      lm_tokenizer_is_special(tokenizer, four[i]);
    }
    if (chat->turns) {
        chat->stop[chat->stop_count++] = chat->end;
    }
    if (eos != LM_TOKENIZER_NONE) {
        chat->stop[chat->stop_count++] = eos;
    }
}

void lm_chat_row_init(struct lm_chat_row *row, size_t limit)
{
    *row = (struct lm_chat_row){0};
    lm_ids_init(&row->ids, limit);
}

void lm_chat_row_deinit(struct lm_chat_row *row)
{
    lm_ids_deinit(&row->ids);
    free(row->mask);
    *row = (struct lm_chat_row){0};
}

void lm_chat_row_clear(struct lm_chat_row *row)
{
    row->ids.count = 0;
}

static enum err check_messages(const struct lm_message *messages, size_t count,
                               enum lm_role last_role, struct note *note)
{
    if (count == 0 || count > LM_CHAT_MESSAGES_MAX) {
        return note_set(note, count == 0 ? ERR_INVALID : ERR_LIMIT, "%zu messages, needs 1 to %u",
                        count, LM_CHAT_MESSAGES_MAX);
    }
    enum lm_role expected = LM_ROLE_USER;
    for (size_t i = 0; i < count; i++) {
        const struct lm_message *message = &messages[i];
        if (message->role == LM_ROLE_SYSTEM && i == 0) {
            expected = LM_ROLE_USER;
        } else if (message->role != expected) {
            return note_set(note, ERR_INVALID, "message %zu is from %s, expected %s", i,
                            lm_role_name(message->role), lm_role_name(expected));
        } else {
            expected = expected == LM_ROLE_USER ? LM_ROLE_ASSISTANT : LM_ROLE_USER;
        }
        if (message->content.size == 0) {
            return note_set(note, ERR_INVALID, "message %zu is empty", i);
        }
        if (message->content.size > LM_CHAT_CONTENT_MAX) {
            return note_set(note, ERR_LIMIT, "message %zu has %zu bytes, the limit is %u", i,
                            message->content.size, LM_CHAT_CONTENT_MAX);
        }
    }
    if (messages[count - 1].role != last_role) {
        return note_set(note, ERR_INVALID, "the last message must be from %s",
                        lm_role_name(last_role));
    }
    return ERR_OK;
}

static uint32_t role_token(const struct lm_chat *chat, enum lm_role role)
{
    switch (role) {
    case LM_ROLE_SYSTEM:
        return chat->system;
    case LM_ROLE_USER:
        return chat->user;
    case LM_ROLE_ASSISTANT:
        return chat->assistant;
    }
    return LM_TOKENIZER_NONE;
}

static enum err append_id(struct lm_ids *out, uint32_t id, struct note *note)
{
    enum err err = lm_ids_append(out, id);
    return err == ERR_LIMIT ? note_set(note, err, "more than %zu tokens", out->limit) : err;
}

/* One turn with its tokens. Content is encoded as plain text, whatever it spells. *out_content: where
 * the content begins in out. */
static enum err append_message(const struct lm_chat *chat, const struct lm_message *message,
                               struct lm_ids *out, size_t *out_content, struct note *note)
{
    enum err err = ERR_OK;
    if (chat->turns) {
        err = append_id(out, role_token(chat, message->role), note);
    }
    *out_content = out->count;
    if (err == ERR_OK) {
        err = lm_tokenizer_encode(chat->tokenizer, message->content, false, out, note);
    }
    if (err == ERR_OK && chat->turns) {
        err = append_id(out, chat->end, note);
    }
    return err;
}

enum err lm_chat_prompt(const struct lm_chat *chat, const struct lm_message *messages, size_t count,
                        struct lm_ids *out, struct note *note)
{
    size_t before = out->count;
    enum err err = check_messages(messages, count, LM_ROLE_USER, note);
    if (err == ERR_OK && !chat->turns && chat->bos != LM_TOKENIZER_NONE) {
        err = append_id(out, chat->bos, note);
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        size_t content = 0;
        err = append_message(chat, &messages[i], out, &content, note);
        if (err != ERR_OK) {
            err = note_wrap(note, err, "message %zu", i);
        }
    }
    if (err == ERR_OK && chat->turns) {
        err = append_id(out, chat->assistant, note);
    }
    if (err != ERR_OK) {
        out->count = before;
    }
    return err;
}

enum err lm_chat_text_prompt(const struct lm_chat *chat, struct bytes text, struct lm_ids *out,
                             struct note *note)
{
    size_t before = out->count;
    enum err err = chat->bos != LM_TOKENIZER_NONE ? append_id(out, chat->bos, note) : ERR_OK;
    if (err == ERR_OK) {
        err = lm_tokenizer_encode(chat->tokenizer, text, false, out, note);
    }
    if (err != ERR_OK) {
        out->count = before;
    }
    return err;
}

/* Makes the mask as long as the ids, the new part set to value. */
static enum err extend_mask(struct lm_chat_row *row, size_t from, uint8_t value)
{
    if (row->ids.count > row->mask_capacity) {
        uint8_t *grown = realloc(row->mask, row->ids.capacity);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        row->mask = grown;
        row->mask_capacity = row->ids.capacity;
    }
    if (row->ids.count > from) {
        memset(row->mask + from, value, row->ids.count - from);
    }
    return ERR_OK;
}

enum err lm_chat_row_messages(const struct lm_chat *chat, const struct lm_message *messages,
                              size_t count, struct lm_chat_row *row, struct note *note)
{
    size_t before = row->ids.count;
    enum err err = check_messages(messages, count, LM_ROLE_ASSISTANT, note);
    if (err == ERR_OK && !chat->turns && chat->bos != LM_TOKENIZER_NONE) {
        err = append_id(&row->ids, chat->bos, note);
    }
    if (err == ERR_OK) {
        err = extend_mask(row, before, 0);
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        size_t from = row->ids.count;
        size_t content = 0;
        err = append_message(chat, &messages[i], &row->ids, &content, note);
        if (err == ERR_OK) {
            err = extend_mask(row, from, 0);
        }
        if (err == ERR_OK && messages[i].role == LM_ROLE_ASSISTANT) {
            err = extend_mask(row, content, 1);
        }
    }
    if (err == ERR_OK && !chat->turns && chat->eos != LM_TOKENIZER_NONE) {
        size_t from = row->ids.count;
        err = append_id(&row->ids, chat->eos, note);
        if (err == ERR_OK) {
            err = extend_mask(row, from, 1);
        }
    }
    if (err != ERR_OK) {
        row->ids.count = before;
    }
    return err;
}

enum err lm_chat_row_text(const struct lm_chat *chat, struct bytes text, struct lm_chat_row *row,
                          struct note *note)
{
    size_t before = row->ids.count;
    if (text.size == 0) {
        return note_set(note, ERR_INVALID, "text is empty");
    }
    enum err err = lm_tokenizer_encode(chat->tokenizer, text, false, &row->ids, note);
    if (err == ERR_OK && chat->eos != LM_TOKENIZER_NONE) {
        err = append_id(&row->ids, chat->eos, note);
    }
    if (err == ERR_OK) {
        err = extend_mask(row, before, 1);
    }
    if (err != ERR_OK) {
        row->ids.count = before;
    }
    return err;
}

static struct bytes text_bytes(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static enum err parse_messages(const struct json *list, struct lm_message *messages,
                               size_t *out_count, struct note *note)
{
    size_t count = json_count(list);
    if (count > LM_CHAT_MESSAGES_MAX) {
        return note_set(note, ERR_LIMIT, "%zu messages, the limit is %u", count,
                        LM_CHAT_MESSAGES_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        const char *role = NULL;
        const char *content = NULL;
        enum err err = json_get_text(json_item(list, i), "role", &role, note);
        if (err == ERR_OK) {
            err = json_get_text(json_item(list, i), "content", &content, note);
        }
        if (err == ERR_OK && lm_role_parse(role, &messages[i].role) != ERR_OK) {
            err = note_set(note, ERR_INVALID, "unknown role \"%.40s\"", role);
        }
        if (err != ERR_OK) {
            return note_wrap(note, err, "message %zu", i);
        }
        messages[i].content = text_bytes(content);
    }
    *out_count = count;
    return ERR_OK;
}

enum err lm_chat_row_json(const struct lm_chat *chat, struct bytes json, struct lm_chat_row *row,
                          struct note *note)
{
    struct json *root = NULL;
    enum err err = json_parse(json, LM_CHAT_ROW_MAX, &root, note);
    if (err != ERR_OK) {
        return err;
    }
    const struct json *text = json_member(root, "text");
    const struct json *prompt = json_member(root, "prompt");
    const struct json *list = json_member(root, "messages");
    struct lm_message messages[LM_CHAT_MESSAGES_MAX];
    size_t count = 0;
    if ((text != NULL) + (prompt != NULL) + (list != NULL) != 1) {
        err = note_set(note, ERR_INVALID, "a row needs one of text, prompt, messages");
    } else if (text != NULL) {
        const char *value = NULL;
        err = json_get_text(root, "text", &value, note);
        if (err == ERR_OK) {
            err = lm_chat_row_text(chat, text_bytes(value), row, note);
        }
    } else if (prompt != NULL) {
        const char *value = NULL;
        const char *completion = NULL;
        err = json_get_text(root, "prompt", &value, note);
        if (err == ERR_OK) {
            err = json_get_text(root, "completion", &completion, note);
        }
        if (err == ERR_OK) {
            messages[0] = (struct lm_message){LM_ROLE_USER, text_bytes(value)};
            messages[1] = (struct lm_message){LM_ROLE_ASSISTANT, text_bytes(completion)};
            count = 2;
        }
    } else {
        err = parse_messages(list, messages, &count, note);
    }
    if (err == ERR_OK && text == NULL) {
        err = lm_chat_row_messages(chat, messages, count, row, note);
    }
    json_destroy(root);
    return err;
}

enum err lm_chat_document_json(const struct lm_chat *chat, struct bytes json, struct lm_ids *out,
                               struct note *note)
{
    struct lm_chat_row row;
    lm_chat_row_init(&row, out->limit);
    size_t before = out->count;
    enum err err = lm_chat_row_json(chat, json, &row, note);
    for (size_t i = 0; i < row.ids.count && err == ERR_OK; i++) {
        err = append_id(out, row.ids.items[i], note);
    }
    bool closed = row.ids.count > 0 && row.ids.items[row.ids.count - 1] == chat->eos;
    if (err == ERR_OK && !closed && chat->eos != LM_TOKENIZER_NONE) {
        err = append_id(out, chat->eos, note);
    }
    if (err != ERR_OK) {
        out->count = before;
    }
    lm_chat_row_deinit(&row);
    return err;
}
