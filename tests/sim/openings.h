/* openings.h - what a simulated answer said, derived from its request id: so its commitments, its opening and
 * what goes to attribution fit together however often they are made. */
#pragma once

#include <stdint.h>

#include "openledger/v1/gateway.pb-c.h"
#include "services/lora-gateway/gateway.h"
#include "shared/base/buf.h"

#define OPENING_PROMPT_TOKENS 10
#define OPENING_ANSWER_TOKENS_MAX 20
#define OPENING_SIZE_MAX 1024 /* bytes, also as an AnswerFinished with its receipt */

/* What a receipt commits to: the prompt, and an answer of `count` tokens (at most the maximum). */
void openings_prompt(const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE], struct digest *out);
void openings_answer(const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE], uint32_t count,
                     struct digest *out);
/* Appends the Opening of a receipt of that answer. */
void openings_pack(const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE], uint32_t count,
                   struct bytes receipt, struct buf *out);
/* Appends what the gateway publishes for a finished answer: AnswerFinished. */
void openings_message(const Openledger__V1__GatewayFinished *finished, struct buf *out);
