/* openai.h - the OpenAI HTTP API as bytes: requests in, responses, chunks and errors out.
 *
 * Source: the OpenAI API reference (chat completions, completions, models). Why strict: a parameter
 * that we do not implement must not be ignored silently, since the caller pays for what it asked. So
 * an unknown parameter is refused by name, and one that we know but lack is accepted only with the
 * value that means "off".
 *
 * Pure: bytes to structs and back. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/token/chat.h"

#define OPENAI_BODY_MAX (1U << 20) /* bytes of a request */
#define OPENAI_STOP_COUNT_MAX 4
#define OPENAI_STOP_SIZE_MAX 256       /* bytes of one stop sequence */
#define OPENAI_MODEL_MAX 64            /* bytes of a model's name */
#define OPENAI_TOKENS_MAX 1000000      /* max_tokens; the model's context is the real bound */
#define OPENAI_TEMPERATURE_MAX 2.0     /* OpenAI's own bound */
#define OPENAI_RESPONSE_MAX (8U << 20) /* bytes of anything we write */

/* The members of an error object and its HTTP status. type, param and code are constant strings;
 * param and code may be NULL. */
struct openai_error {
    int status;
    const char *type;
    const char *param;
    const char *code;
    struct note note;
};

/* Fills an error and returns err. */
enum err openai_fail(struct openai_error *error, enum err err, int status, const char *param,
                     const char *code, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* {"error":{...}} */
void openai_write_error(struct buf *out, const struct openai_error *error);

struct openai_request {
    bool chat; /* messages; else text */
    const char *model;
    struct lm_message *messages; /* owned */
    size_t message_count;
    struct bytes text;   /* the prompt of a completion */
    uint32_t max_tokens; /* 0: not given */
    double temperature;  /* 0..OPENAI_TEMPERATURE_MAX; 1 when not given */
    double top_p;        /* (0, 1] */
    uint32_t top_k;      /* 0: all */
    bool has_seed;
    uint64_t seed;
    const char *stop[OPENAI_STOP_COUNT_MAX];
    size_t stop_count;
    bool stream;
    bool include_usage; /* a last chunk with the usage */
    struct json *root;  /* owned: what the strings above borrow from */
    struct buf joined;  /* owned: contents that came in parts */
};

/* Parses a body. On an error (ERR_INVALID, ERR_LIMIT, ERR_NO_MEMORY) *error says what to answer. */
MUST_USE enum err openai_request_parse(struct bytes body, bool chat, struct openai_request *out,
                                       struct openai_error *error);
void openai_request_deinit(struct openai_request *request); /* a zeroed request is fine */

/* What we say about an answer besides OpenAI's own members; digests in lower-case hex. */
struct openai_answer {
    bool chat;
    const char *id; /* request id, hex: "chatcmpl-<id>" or "cmpl-<id>" */
    uint64_t created_s;
    const char *model;
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    const char *finish_reason; /* "stop" or "length"; NULL while streaming */
    const char *receipt;       /* id */
    const char *adapter;       /* content digest */
    const char *grant;
    uint32_t lease;
    uint64_t number;
    const char *fee;
};

/* The whole response of a request that does not stream. */
void openai_write_response(struct buf *out, const struct openai_answer *answer, struct bytes text);

/* Server-sent events of one that does, each "data: ...\n\n": the first (chat: the role), text, the
 * finish with our extension, the usage, the end; or an error instead of the last three. */
void openai_write_first(struct buf *out, const struct openai_answer *answer);
void openai_write_text(struct buf *out, const struct openai_answer *answer, struct bytes text);
void openai_write_finish(struct buf *out, const struct openai_answer *answer, bool usage);
void openai_write_error_event(struct buf *out, const struct openai_error *error);

/* One model of a list. */
struct openai_model {
    const char *id;
    uint64_t created_s;
    const char *owned_by;
    const char *base;
    const char *datanet;
    uint32_t version;
    const char *adapter; /* content digest */
    const char *job;
    const char *price_prompt;
    const char *price_completion;
    bool attributed; /* its attribution index is published */
};
void openai_write_model(struct json_writer *writer, const struct openai_model *model);
