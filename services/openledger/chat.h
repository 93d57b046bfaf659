/* chat.h - asking an adapter through the OpenAI API, as any client would: streamed, with what the
 * suite adds (receipt and fee). */
#pragma once

#include "services/openledger/cli.h"
#include "shared/base/amount.h"
#include "shared/base/buf.h"

struct chat_request {
    const char *url; /* of the front door */
    const char *api_key;
    const char *adapter;
    const char *prompt;
    uint32_t max_tokens;
    double temperature;
    uint64_t seed;
    void (*on_text)(void *context, const char *piece); /* as it comes; may be NULL */
    void *context;
};

struct chat_answer {
    struct buf text; /* owned: chat_answer_deinit */
    uint32_t prompt_tokens, completion_tokens;
    struct digest receipt;
    char fee[AMOUNT_TEXT_SIZE];
    char finish_reason[24];
};

/* Blocks until the answer has ended. An answer of the API that is an error comes back as one, with its
 * message in note. */
MUST_USE enum err chat_ask(const struct chat_request *request, struct chat_answer *out_answer,
                           struct note *note);
void chat_answer_deinit(struct chat_answer *answer);
