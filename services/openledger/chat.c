/* chat.c - see chat.h: one POST, answered by server-sent events (WHATWG HTML, section 9.2). */
#include "services/openledger/chat.h"

#include <stdio.h>
#include <string.h>

#include "shared/base/hex.h"
#include "shared/http/fetch.h"
#include "shared/json/json.h"

enum {
    ANSWER_MAX = 1 << 20, /* bytes of text */
    EVENT_MAX = 1 << 20,  /* bytes of one event, or of an error */
    TIMEOUT_MS = 120000
};

/* What has come so far. */
struct reading {
    const struct chat_request *request;
    struct chat_answer *answer;
    struct buf pending; /* bytes after the last whole line */
    struct note *note;
    enum err err;
    bool done; /* [DONE] came */
};

static void take_extension(struct reading *reading, const struct json *extension)
{
    const char *receipt = json_as_text(json_member(extension, "receipt"), "");
    const char *fee = json_as_text(json_member(extension, "fee"), "");
    if (hex_decode(receipt, strlen(receipt), reading->answer->receipt.bytes, DIGEST_SIZE) !=
        ERR_OK) {
        reading->err = note_set(reading->note, ERR_INVALID, "the answer's receipt is malformed");
    }
    (void)snprintf(reading->answer->fee, sizeof reading->answer->fee, "%s", fee);
}

static void take_event(struct reading *reading, const struct json *event)
{
    const struct json *error = json_member(event, "error");
    const struct json *choice = json_item(json_member(event, "choices"), 0);
    const struct json *usage = json_member(event, "usage");
    const struct json *extension = json_member(event, "openledger");
    if (error != NULL) {
        reading->err = note_set(reading->note, ERR_UNAVAILABLE, "%s",
                                json_as_text(json_member(error, "message"), "error"));
        return;
    }
    if (choice != NULL) {
        const char *piece = json_as_text(json_member(json_member(choice, "delta"), "content"), "");
        const char *reason = json_as_text(json_member(choice, "finish_reason"), "");
        enum err err = buf_append_text(&reading->answer->text, piece);
        reading->err = err != ERR_OK ? err : reading->err;
        if (piece[0] != '\0' && reading->request->on_text != NULL) {
            reading->request->on_text(reading->request->context, piece);
        }
        if (reason[0] != '\0') {
            (void)snprintf(reading->answer->finish_reason, sizeof reading->answer->finish_reason,
                           "%s", reason);
        }
    }
    if (usage != NULL && json_kind(usage) == JSON_KIND_OBJECT) {
        reading->answer->prompt_tokens =
            (uint32_t)json_as_i64(json_member(usage, "prompt_tokens"), 0);
        reading->answer->completion_tokens =
            (uint32_t)json_as_i64(json_member(usage, "completion_tokens"), 0);
    }
    if (extension != NULL) {
        take_extension(reading, extension);
    }
}

static void take_line(struct reading *reading, struct bytes line)
{
    static const char PREFIX[] = "data: ";
    enum { PREFIX_SIZE = sizeof PREFIX - 1 };
    if (line.size < PREFIX_SIZE || memcmp(line.data, PREFIX, PREFIX_SIZE) != 0) {
        return;
    }
    struct bytes data = {line.data + PREFIX_SIZE, line.size - PREFIX_SIZE};
    if (data.size == 6 && memcmp(data.data, "[DONE]", 6) == 0) {
        reading->done = true;
        return;
    }
    struct json *event = NULL;
    reading->err = json_parse(data, EVENT_MAX, &event, reading->note);
    if (reading->err == ERR_OK) {
        take_event(reading, event);
    }
    json_destroy(event);
}

static bool on_data(void *context, struct bytes data)
{
    struct reading *reading = context;
    if (buf_append_bytes(&reading->pending, data) != ERR_OK) {
        reading->err = ERR_LIMIT;
        return false;
    }
    size_t start = 0;
    const uint8_t *newline;
    while (reading->err == ERR_OK && (newline = memchr(reading->pending.data + start, '\n',
                                                       reading->pending.size - start)) != NULL) {
        size_t end = (size_t)(newline - reading->pending.data);
        take_line(reading, (struct bytes){reading->pending.data + start, end - start});
        start = end + 1;
    }
    size_t left = reading->pending.size - start;
    if (left > 0) {
        (void)memmove(reading->pending.data, reading->pending.data + start, left);
    }
    buf_truncate(&reading->pending, left);
    return reading->err == ERR_OK;
}

static enum err write_body(const struct chat_request *request, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, false);
    json_begin_object(&writer);
    json_put_text(&writer, "model", request->adapter);
    json_write_key(&writer, "messages");
    json_begin_array(&writer);
    json_begin_object(&writer);
    json_put_text(&writer, "role", "user");
    json_put_text(&writer, "content", request->prompt);
    json_end_object(&writer);
    json_end_array(&writer);
    json_put_u64(&writer, "max_tokens", request->max_tokens);
    json_put_double(&writer, "temperature", request->temperature);
    json_put_u64(&writer, "seed", request->seed);
    json_put_bool(&writer, "stream", true);
    json_write_key(&writer, "stream_options");
    json_begin_object(&writer);
    json_put_bool(&writer, "include_usage", true);
    json_end_object(&writer);
    json_end_object(&writer);
    return buf_err(out);
}

/* An answer that is no stream is an error object. */
static enum err api_error(struct reading *reading, int status)
{
    struct json *root = NULL;
    const char *message = "no reason given";
    if (json_parse(buf_bytes(&reading->pending), EVENT_MAX, &root, NULL) == ERR_OK) {
        message = json_as_text(json_member(json_member(root, "error"), "message"), message);
    }
    enum err err = note_set(reading->note,
                            status == 401   ? ERR_UNAUTHENTICATED
                            : status == 404 ? ERR_NOT_FOUND
                            : status == 429 ? ERR_LIMIT
                            : status >= 500 ? ERR_UNAVAILABLE
                                            : ERR_INVALID,
                            "HTTP %d: %s", status, message);
    json_destroy(root);
    return err;
}

enum err chat_ask(const struct chat_request *request, struct chat_answer *out_answer,
                  struct note *note)
{
    struct chat_answer answer = {.prompt_tokens = 0};
    struct reading reading = {.request = request, .answer = &answer, .note = note};
    struct buf body;
    char url[512];
    char authorization[512];
    int status = 0;
    struct fetch *fetch = fetch_create();
    buf_init(&answer.text, ANSWER_MAX);
    buf_init(&reading.pending, EVENT_MAX);
    buf_init(&body, EVENT_MAX);
    (void)snprintf(url, sizeof url, "%s/v1/chat/completions", request->url);
    (void)snprintf(authorization, sizeof authorization, "Authorization: Bearer %s",
                   request->api_key);
    const char *const headers[] = {"Content-Type: application/json", authorization, NULL};
    enum err err = fetch == NULL ? ERR_NO_MEMORY : write_body(request, &body);
    if (err == ERR_OK) {
        struct fetch_request post = {.url = url,
                                     .headers = headers,
                                     .body = buf_bytes(&body),
                                     .timeout_ms = TIMEOUT_MS,
                                     .on_data = on_data,
                                     .context = &reading};
        err = fetch_run(fetch, &post, &status, NULL, note);
        err = reading.err != ERR_OK ? reading.err : err;
    }
    if (err == ERR_OK && status != 200) {
        err = api_error(&reading, status);
    } else if (err == ERR_OK && !reading.done) {
        err = note_set(note, ERR_UNAVAILABLE, "the answer broke off");
    }
    fetch_destroy(fetch);
    buf_deinit(&body);
    buf_deinit(&reading.pending);
    if (err != ERR_OK) {
        chat_answer_deinit(&answer);
        return err;
    }
    *out_answer = answer;
    return ERR_OK;
}

void chat_answer_deinit(struct chat_answer *answer)
{
    buf_deinit(&answer->text);
}
