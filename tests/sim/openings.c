/* openings.c - see openings.h. */
#include "tests/sim/openings.h"

#include <string.h>

#include "openledger/v1/events.pb-c.h"
#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "tests/harness/ledger_world.h"

static struct salt salt_of(const uint8_t *request_id, uint8_t purpose)
{
    struct salt salt = {{purpose}};
    memcpy(salt.bytes + 1, request_id, GATEWAY_REQUEST_ID_SIZE);
    return salt;
}

static void ids_of(const uint8_t *request_id, uint32_t first, uint32_t *out, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = first + i + request_id[1];
    }
}

void openings_prompt(const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE], struct digest *out)
{
    uint32_t ids[OPENING_PROMPT_TOKENS];
    struct salt salt = salt_of(request_id, 1);
    ids_of(request_id, 0, ids, OPENING_PROMPT_TOKENS);
    ledger_prompt_commitment(&salt, ids, OPENING_PROMPT_TOKENS, out);
}

void openings_answer(const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE], uint32_t count,
                     struct digest *out)
{
    uint32_t ids[OPENING_ANSWER_TOKENS_MAX];
    struct salt salt = salt_of(request_id, 2);
    CHECK(count <= OPENING_ANSWER_TOKENS_MAX);
    ids_of(request_id, 1000, ids, count);
    ledger_answer_commitment(&salt, ids, count, out);
}

void openings_pack(const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE], uint32_t count,
                   struct bytes receipt, struct buf *out)
{
    uint32_t prompt[OPENING_PROMPT_TOKENS];
    uint32_t answer[OPENING_ANSWER_TOKENS_MAX];
    struct salt prompt_salt = salt_of(request_id, 1);
    struct salt answer_salt = salt_of(request_id, 2);
    struct digest id;
    CHECK(count <= OPENING_ANSWER_TOKENS_MAX);
    ids_of(request_id, 0, prompt, OPENING_PROMPT_TOKENS);
    ids_of(request_id, 1000, answer, count);
    ledger_receipt_id(receipt, &id);
    Openledger__V1__Opening opening = OPENLEDGER__V1__OPENING__INIT;
    opening.receipt = ledger_binary(id.bytes, DIGEST_SIZE);
    opening.prompt_salt = ledger_binary(prompt_salt.bytes, SALT_SIZE);
    opening.answer_salt = ledger_binary(answer_salt.bytes, SALT_SIZE);
    opening.prompt_ids = prompt;
    opening.n_prompt_ids = OPENING_PROMPT_TOKENS;
    opening.answer_ids = answer;
    opening.n_answer_ids = count;
    opening.adapter = world_text("adapter");
    CHECK(ledger_pack(&opening.base, out) == ERR_OK);
}

void openings_message(const Openledger__V1__GatewayFinished *finished, struct buf *out)
{
    struct digest id;
    Openledger__V1__Opening *opening =
        openledger__v1__opening__unpack(NULL, finished->opening.len, finished->opening.data);
    CHECK(opening != NULL);
    ledger_receipt_id(ledger_bytes(finished->receipt), &id);
    Openledger__V1__AnswerFinished message = OPENLEDGER__V1__ANSWER_FINISHED__INIT;
    message.receipt = ledger_binary(id.bytes, DIGEST_SIZE);
    message.receipt_bytes = finished->receipt;
    message.opening = opening;
    CHECK(ledger_pack(&message.base, out) == ERR_OK);
    openledger__v1__opening__free_unpacked(opening, NULL);
}
