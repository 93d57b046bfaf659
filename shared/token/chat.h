/* chat.h - conversations and training rows as token ids.
 *
 * Our format: <|user|>{content}<|end|><|assistant|>{content}<|end|>, an optional <|system|> turn
 * first, <|endoftext|> between documents. Content is never parsed for special tokens, so nobody can
 * forge a turn by writing one. For a model without these tokens (a plain language model) contents
 * are simply laid one after the other behind its beginning-of-text token.
 *
 * The same code renders training rows and served prompts, so they cannot drift apart. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/token/tokenizer.h"

struct note;

#define LM_CHAT_MESSAGES_MAX 256U        /* messages in one conversation */
#define LM_CHAT_CONTENT_MAX (256U << 10) /* bytes of one content */
#define LM_CHAT_ROW_MAX (1U << 20)       /* bytes of one training row's JSON */

#define LM_CHAT_END_OF_TEXT "<|endoftext|>" /* ids of our own models: 0 */
#define LM_CHAT_USER "<|user|>"             /* 1 */
#define LM_CHAT_ASSISTANT "<|assistant|>"   /* 2 */
#define LM_CHAT_END "<|end|>"               /* 3 */
#define LM_CHAT_SYSTEM "<|system|>"         /* 4 */

/* The same format as a Jinja template, for tokenizer_config.json. */
extern const char LM_CHAT_TEMPLATE[];

enum lm_role { LM_ROLE_SYSTEM, LM_ROLE_USER, LM_ROLE_ASSISTANT };

/* "system", "user", "assistant"; ERR_INVALID: another word. */
MUST_USE enum err lm_role_parse(const char *text, enum lm_role *out);
const char *lm_role_name(enum lm_role role);

struct lm_message {
    enum lm_role role;
    struct bytes content; /* UTF-8, borrowed */
};

/* A tokenizer with its template. Copyable; the tokenizer must outlive it. Fields are read-only. */
struct lm_chat {
    const struct lm_tokenizer *tokenizer;
    bool turns;                            /* has the five tokens above */
    uint32_t bos, eos;                     /* LM_TOKENIZER_NONE when absent */
    uint32_t user, assistant, end, system; /* only when turns */
    uint32_t stop[2];                      /* generation ends at these */
    uint32_t stop_count;
};

/* bos and eos: as in config.json, LM_TOKENIZER_NONE when absent. A tokenizer.json that says what stands
 * before a text counts more: many models name a bos that they never write. */
void lm_chat_init(struct lm_chat *chat, const struct lm_tokenizer *tokenizer, uint32_t bos,
                  uint32_t eos);

/* Appends the prompt to answer: all messages, then the opening of the assistant's turn. Roles: an
 * optional system message first, then user and assistant in turn, ending with user. ERR_INVALID
 * (the note says which message: role out of turn, empty, not UTF-8), ERR_LIMIT. out as before on
 * error. */
MUST_USE enum err lm_chat_prompt(const struct lm_chat *chat, const struct lm_message *messages,
                                 size_t count, struct lm_ids *out, struct note *note);

/* Appends the prompt to continue plain text: bos (when the model has one), then the text, which may
 * be empty. */
MUST_USE enum err lm_chat_text_prompt(const struct lm_chat *chat, struct bytes text,
                                      struct lm_ids *out, struct note *note);

/* A training example: ids and, for each, whether it counts towards the loss. */
struct lm_chat_row {
    struct lm_ids ids;
    uint8_t *mask; /* ids.count bytes, owned */
    size_t mask_capacity;
};

void lm_chat_row_init(struct lm_chat_row *row, size_t limit); /* limit: tokens */
void lm_chat_row_deinit(struct lm_chat_row *row);
void lm_chat_row_clear(struct lm_chat_row *row);

/* Appends a conversation; each assistant content and its <|end|> count, nothing else does. Ends with
 * an assistant message. Errors as lm_chat_prompt. */
MUST_USE enum err lm_chat_row_messages(const struct lm_chat *chat,
                                       const struct lm_message *messages, size_t count,
                                       struct lm_chat_row *row, struct note *note);

/* Appends a plain document: every token counts, also the eos that closes it. */
MUST_USE enum err lm_chat_row_text(const struct lm_chat *chat, struct bytes text,
                                   struct lm_chat_row *row, struct note *note);

/* Appends one row of training data as JSON: {"text"}, {"prompt","completion"} or
 * {"messages":[{"role","content"}]}; other members are ignored. ERR_INVALID names what is wrong. */
MUST_USE enum err lm_chat_row_json(const struct lm_chat *chat, struct bytes json,
                                   struct lm_chat_row *row, struct note *note);

/* Tokens for documents laid end to end (pretraining): as lm_chat_row_json without a mask, every
 * document closed by eos, conversations too. */
MUST_USE enum err lm_chat_document_json(const struct lm_chat *chat, struct bytes json,
                                        struct lm_ids *out, struct note *note);
