/* openai.c - see openai.h. Parsing; openai_write.c writes. */
#include "services/lora-gateway/openai.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

enum err openai_fail(struct openai_error *error, enum err err, int status, const char *param,
                     const char *code, const char *format, ...)
{
    *error = (struct openai_error){.status = status, .param = param, .code = code};
    error->type = status == 401   ? "authentication_error"
                  : status == 403 ? "permission_error"
                  : status == 429 ? (code != NULL && strcmp(code, "insufficient_quota") == 0
                                         ? "insufficient_quota"
                                         : "rate_limit_error")
                  : status >= 500 ? "server_error"
                                  : "invalid_request_error";
    va_list list;
    va_start(list, format);
    char message[NOTE_SIZE];
    (void)vsnprintf(message, sizeof message, format, list);
    va_end(list);
    return note_set(&error->note, err, "%s", message);
}

/* ---- parameters: one row each -------------------------------------------------------------------- */

struct reader {
    struct openai_request *request;
    struct openai_error *error;
    const char *key; /* from the table below, so it may stay in the error */
};

static enum err bad(struct reader *reader, const char *what)
{
    return openai_fail(reader->error, ERR_INVALID, 400, reader->key, "invalid_value",
                       "'%s' must be %s", reader->key, what);
}

static enum err lacking(struct reader *reader)
{
    return openai_fail(reader->error, ERR_INVALID, 400, reader->key, "unsupported_parameter",
                       "'%s' is not supported", reader->key);
}

static enum err read_model(struct reader *reader, const struct json *value)
{
    const char *model = json_as_text(value, NULL);
    if (model == NULL || model[0] == '\0' || strlen(model) > OPENAI_MODEL_MAX) {
        return bad(reader, "the name of a model, at most 64 bytes");
    }
    reader->request->model = model;
    return ERR_OK;
}

/* A string, or an array of {"type":"text","text":...} parts laid end to end. */
static enum err read_content(struct reader *reader, const struct json *value, struct bytes *out)
{
    if (json_kind(value) == JSON_KIND_TEXT) {
        *out = bytes_of_text(json_as_text(value, ""));
        return ERR_OK;
    }
    if (json_kind(value) != JSON_KIND_ARRAY) {
        return bad(reader, "messages whose content is text");
    }
    struct buf *joined = &reader->request->joined;
    size_t start = joined->size;
    for (size_t i = 0; i < json_count(value); i++) {
        const struct json *part = json_item(value, i);
        const char *type = json_as_text(json_member(part, "type"), "");
        const char *text = json_as_text(json_member(part, "text"), NULL);
        if (strcmp(type, "text") != 0 || text == NULL) {
            return openai_fail(reader->error, ERR_INVALID, 400, reader->key,
                               "unsupported_parameter",
                               "only content parts of type 'text' are supported");
        }
        buf_append_text(joined, text);
    }
    if (buf_err(joined) != ERR_OK) {
        return openai_fail(reader->error, ERR_NO_MEMORY, 503, NULL, NULL, "out of memory");
    }
    *out = bytes_of(joined->data == NULL ? NULL : joined->data + start, joined->size - start);
    return ERR_OK;
}

static enum err read_messages(struct reader *reader, const struct json *value)
{
    struct openai_request *request = reader->request;
    size_t count = json_count(value);
    if (!request->chat || json_kind(value) != JSON_KIND_ARRAY || count == 0 ||
        count > LM_CHAT_MESSAGES_MAX) {
        return bad(reader, "an array of 1 to 256 messages (of a chat completion)");
    }
    request->messages = calloc(count, sizeof *request->messages);
    /* All joined text is part of the body, so this reservation never moves: parts may be borrowed. */
    if (request->messages == NULL || buf_reserve(&request->joined, OPENAI_BODY_MAX) == NULL) {
        return openai_fail(reader->error, ERR_NO_MEMORY, 503, NULL, NULL, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        const struct json *message = json_item(value, i);
        const char *role = json_as_text(json_member(message, "role"), "");
        const struct json *content = json_member(message, "content");
        struct lm_message *out = &request->messages[i];
        if (strcmp(role, "developer") == 0) {
            role = "system"; /* its newer name */
        }
        if (lm_role_parse(role, &out->role) != ERR_OK) {
            return bad(reader, "messages of role system, user or assistant");
        }
        if (content == NULL) {
            return bad(reader, "messages with a content");
        }
        enum err err = read_content(reader, content, &out->content);
        if (err != ERR_OK) {
            return err;
        }
    }
    request->message_count = count;
    return ERR_OK;
}

static enum err read_prompt(struct reader *reader, const struct json *value)
{
    const struct json *text = value;
    if (json_kind(value) == JSON_KIND_ARRAY && json_count(value) == 1) {
        text = json_item(value, 0);
    }
    if (reader->request->chat || json_kind(text) != JSON_KIND_TEXT) {
        return bad(reader, "one string (of a completion)");
    }
    reader->request->text = bytes_of_text(json_as_text(text, ""));
    return ERR_OK;
}

static bool whole_number(const struct json *value, int64_t min, int64_t max, int64_t *out)
{
    if (json_kind(value) != JSON_KIND_INTEGER) {
        return false;
    }
    int64_t number = json_as_i64(value, min);
    *out = number;
    return number >= min && number <= max;
}

static enum err read_max_tokens(struct reader *reader, const struct json *value)
{
    int64_t number;
    if (!whole_number(value, 1, OPENAI_TOKENS_MAX, &number)) {
        return bad(reader, "a whole number from 1 to 1000000");
    }
    reader->request->max_tokens = (uint32_t)number;
    return ERR_OK;
}

static enum err read_real(struct reader *reader, const struct json *value, double max, double *out)
{
    bool number = json_kind(value) == JSON_KIND_INTEGER || json_kind(value) == JSON_KIND_REAL;
    double real = json_as_double(value, -1.0);
    if (!number || !(real >= 0.0 && real <= max)) {
        return bad(reader, max > 1.0 ? "a number from 0 to 2" : "a number from 0 to 1");
    }
    *out = real;
    return ERR_OK;
}

static enum err read_temperature(struct reader *reader, const struct json *value)
{
    return read_real(reader, value, OPENAI_TEMPERATURE_MAX, &reader->request->temperature);
}

static enum err read_top_p(struct reader *reader, const struct json *value)
{
    enum err err = read_real(reader, value, 1.0, &reader->request->top_p);
    if (reader->request->top_p < (double)FLT_MIN) {
        reader->request->top_p = (double)FLT_MIN; /* 0 means: the best token only */
    }
    return err;
}

static enum err read_top_k(struct reader *reader, const struct json *value)
{
    int64_t number;
    if (!whole_number(value, 0, INT32_MAX, &number)) {
        return bad(reader, "a whole number, 0 for all");
    }
    reader->request->top_k = (uint32_t)number;
    return ERR_OK;
}

static enum err read_seed(struct reader *reader, const struct json *value)
{
    int64_t number;
    if (!whole_number(value, INT64_MIN, INT64_MAX, &number)) {
        return bad(reader, "a whole number");
    }
    reader->request->has_seed = true;
    reader->request->seed = (uint64_t)number;
    return ERR_OK;
}

static enum err read_stop(struct reader *reader, const struct json *value)
{
    bool list = json_kind(value) == JSON_KIND_ARRAY;
    size_t count = list ? json_count(value) : 1;
    if (count > OPENAI_STOP_COUNT_MAX) {
        return bad(reader, "a string or up to 4 strings");
    }
    for (size_t i = 0; i < count; i++) {
        const char *text = json_as_text(list ? json_item(value, i) : value, NULL);
        if (text == NULL || text[0] == '\0' || strlen(text) > OPENAI_STOP_SIZE_MAX) {
            return bad(reader, "strings of 1 to 256 bytes");
        }
        reader->request->stop[i] = text;
    }
    reader->request->stop_count = count;
    return ERR_OK;
}

static enum err read_stream(struct reader *reader, const struct json *value)
{
    if (json_kind(value) != JSON_KIND_BOOL) {
        return bad(reader, "true or false");
    }
    reader->request->stream = json_as_bool(value, false);
    return ERR_OK;
}

static enum err read_stream_options(struct reader *reader, const struct json *value)
{
    const struct json *usage = json_member(value, "include_usage");
    if (json_kind(value) != JSON_KIND_OBJECT ||
        (usage != NULL && json_kind(usage) != JSON_KIND_BOOL)) {
        return bad(reader, "an object with a true or false include_usage");
    }
    reader->request->include_usage = json_as_bool(usage, false);
    return ERR_OK;
}

static enum err read_user(struct reader *reader, const struct json *value)
{
    return json_kind(value) == JSON_KIND_TEXT ? ERR_OK : bad(reader, "a string");
}

static enum err read_one(struct reader *reader, const struct json *value)
{
    int64_t number;
    return whole_number(value, 1, 1, &number) ? ERR_OK : lacking(reader);
}

/* Only the value that means "off": false, 0, an empty list or object; null never comes here. */
static enum err read_off(struct reader *reader, const struct json *value)
{
    switch (json_kind(value)) {
    case JSON_KIND_BOOL:
        return json_as_bool(value, true) ? lacking(reader) : ERR_OK;
    case JSON_KIND_INTEGER:
    case JSON_KIND_REAL:
        return json_as_double(value, 1.0) != 0.0 ? lacking(reader) : ERR_OK;
    case JSON_KIND_ARRAY:
    case JSON_KIND_OBJECT:
        return json_count(value) != 0 ? lacking(reader) : ERR_OK;
    case JSON_KIND_TEXT:
        return strcmp(json_as_text(value, "x"), "") == 0 ? ERR_OK : lacking(reader);
    case JSON_KIND_NULL:
        break;
    }
    return ERR_OK;
}

static enum err read_format(struct reader *reader, const struct json *value)
{
    const char *type = json_as_text(json_member(value, "type"), "");
    return strcmp(type, "text") == 0 ? ERR_OK : lacking(reader);
}

/* Says something about bookkeeping only: any value will do. */
static enum err read_any(struct reader *reader, const struct json *value)
{
    (void)reader;
    (void)value;
    return ERR_OK;
}

static const struct parameter {
    const char *name;
    enum err (*read)(struct reader *reader, const struct json *value);
} PARAMETERS[] = {
    {"model", read_model},
    {"messages", read_messages},
    {"prompt", read_prompt},
    {"max_tokens", read_max_tokens},
    {"max_completion_tokens", read_max_tokens},
    {"temperature", read_temperature},
    {"top_p", read_top_p},
    {"top_k", read_top_k},
    {"seed", read_seed},
    {"stop", read_stop},
    {"stream", read_stream},
    {"stream_options", read_stream_options},
    {"user", read_user},
    {"safety_identifier", read_user},
    {"metadata", read_any},
    {"n", read_one},
    {"best_of", read_one},
    {"store", read_off},
    {"echo", read_off},
    {"suffix", read_off},
    {"logprobs", read_off},
    {"top_logprobs", read_off},
    {"logit_bias", read_off},
    {"presence_penalty", read_off},
    {"frequency_penalty", read_off},
    {"tools", read_off},
    {"functions", read_off},
    {"response_format", read_format},
};

static enum err visit_member(void *argument, const char *key, const struct json *value)
{
    struct reader *reader = argument;
    for (size_t i = 0; i < sizeof PARAMETERS / sizeof *PARAMETERS; i++) {
        if (strcmp(PARAMETERS[i].name, key) == 0) {
            reader->key = PARAMETERS[i].name;
            return json_kind(value) == JSON_KIND_NULL ? ERR_OK : PARAMETERS[i].read(reader, value);
        }
    }
    return openai_fail(reader->error, ERR_INVALID, 400, NULL, "unknown_parameter",
                       "unknown parameter '%.64s'", key);
}

static enum err read_root(struct reader *reader)
{
    struct openai_request *request = reader->request;
    if (json_kind(request->root) != JSON_KIND_OBJECT) {
        return openai_fail(reader->error, ERR_INVALID, 400, NULL, "invalid_json",
                           "the body must be a JSON object");
    }
    enum err err = json_each_member(request->root, visit_member, reader);
    if (err != ERR_OK) {
        return err;
    }
    const char *content = request->chat ? "messages" : "prompt";
    if (request->model == NULL || json_member(request->root, content) == NULL ||
        (request->chat && request->message_count == 0)) {
        const char *missing = request->model == NULL ? "model" : content;
        return openai_fail(reader->error, ERR_INVALID, 400, missing, "missing_required_parameter",
                           "'%s' is missing", missing);
    }
    if (request->include_usage && !request->stream) {
        return openai_fail(reader->error, ERR_INVALID, 400, "stream_options", "invalid_value",
                           "'stream_options' needs 'stream'");
    }
    return ERR_OK;
}

enum err openai_request_parse(struct bytes body, bool chat, struct openai_request *out,
                              struct openai_error *error)
{
    struct openai_request request = {.chat = chat, .temperature = 1.0, .top_p = 1.0};
    struct reader reader = {.request = &request, .error = error, .key = ""};
    struct note note = {.text = ""};
    buf_init(&request.joined, OPENAI_BODY_MAX);
    enum err err = json_parse(body, OPENAI_BODY_MAX, &request.root, &note);
    if (err != ERR_OK) {
        request.root = NULL;
        err = openai_fail(error, err, body.size > OPENAI_BODY_MAX ? 413 : 400, NULL, "invalid_json",
                          "could not parse the body as JSON: %.200s", note.text);
    } else {
        err = read_root(&reader);
    }
    if (err != ERR_OK) {
        openai_request_deinit(&request);
        return err;
    }
    *out = request;
    return ERR_OK;
}

void openai_request_deinit(struct openai_request *request)
{
    json_destroy(request->root);
    free(request->messages);
    buf_deinit(&request->joined);
    *request = (struct openai_request){0};
}
