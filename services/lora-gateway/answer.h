/* answer.h - one answer in the making: what answers.c (its life) and admit.c (its beginning) share.
 *
 * One owner at a time: the desk, from engine_submit() to done() the engine, then the desk again. */
#pragma once

#include "services/lora-gateway/desk.h"
#include "services/lora-gateway/openai.h"

struct answer {
    struct desk_waiter waiter; /* first: a waiter is its answer */
    struct engine_job job;
    struct answer *next; /* in desk->late or desk->draining */
    struct desk *desk;
    struct http_request *http;
    struct openai_request request;
    uint8_t request_id[GATEWAY_REQUEST_ID_SIZE];
    char id[2 * GATEWAY_REQUEST_ID_SIZE + 1];
    char key_hash[17]; /* start of the API key's hash, for the rate limit */
    struct digest grant;
    uint32_t lease;
    char model[GATEWAY_NAME_SIZE];
    struct lm_ids prompt;
    struct amount price_prompt, price_completion, price_max;
    struct salt prompt_salt, answer_salt;
    bool idempotent;
    struct digest idempotency, body;
    uint64_t opened_ms;      /* date */
    uint64_t opened_mono_ms; /* for durations */
    struct openai_answer about;
    struct buf out; /* events that the client did not take yet */
    bool gone;
    uint64_t drain_until_ms;
    struct buf receipt; /* serialised, once settled */
};

/* The texts that `about` points to, made from a receipt. */
struct answer_texts {
    char receipt[2 * DIGEST_SIZE + 1];
    char adapter[DIGEST_TEXT_SIZE];
    char grant[2 * DIGEST_SIZE + 1];
};

void answer_free(struct answer *answer);

/* Answers with an error object; the answer itself stays. */
void answer_refuse(struct answer *answer, const struct openai_error *error);
/* Begins the stream of events; ends it and frees the answer, at once or when the client has read. */
void answer_begin(struct answer *answer);
void answer_end(struct answer *answer);
/* Answers as a whole and frees. */
void answer_reply(struct answer *answer, struct bytes text);
/* Fills in what only a receipt tells. receipt and texts must live as long as about is used. */
void answer_tell(struct answer *answer, const Openledger__V1__Receipt *receipt, struct bytes data,
                 struct bytes adapter, struct answer_texts *texts);
/* The opening is on disk: compute. */
void answer_start(struct desk_waiter *waiter);
