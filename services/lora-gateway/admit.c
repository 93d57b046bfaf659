/* admit.c - the beginning of an answer: key, model, prompt, price; refused with reason, or held. */
#include <stdlib.h>
#include <string.h>

#include "services/lora-gateway/answer.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/random.h"

#define IDEMPOTENCY_KEY_MAX 255 /* bytes */
#define RATE_WINDOW_MS UINT64_C(60000)

static enum err admit_key(struct answer *answer, struct openai_error *error)
{
    struct desk *desk = answer->desk;
    const char *authorization = http_header(answer->http, "authorization");
    struct note note = {.text = ""};
    enum err err = desk_authenticate(desk, authorization, &answer->grant, &note);
    if (err != ERR_OK) {
        return openai_fail(error, err, err == ERR_UNAUTHENTICATED ? 401 : 500, NULL,
                           "invalid_api_key", "%.250s", note.text);
    }
    if (desk->settings.rate_max > 0) {
        struct digest hash;
        char key[96];
        int64_t used = 0;
        struct buf text;
        sha256(bytes_of_text(authorization), &hash);
        hex_encode(hash.bytes, 8, answer->key_hash);
        buf_init(&text, sizeof key);
        buf_printf(&text, "gateway:rate:%s:%llu", answer->key_hash,
                   (unsigned long long)(clock_real_ms() / RATE_WINDOW_MS));
        /* Without Redis there is no limit by rate: the grant still bounds what can be spent. */
        err =
            cache_incr(service_cache(desk->service), buf_text(&text), 1, 2 * RATE_WINDOW_MS, &used);
        buf_deinit(&text);
        if (err == ERR_OK && used > desk->settings.rate_max) {
            return openai_fail(error, ERR_LIMIT, 429, NULL, "rate_limit_exceeded",
                               "more than %u requests in a minute", desk->settings.rate_max);
        }
    }
    return ERR_OK;
}

static enum err admit_model(struct answer *answer, struct openai_error *error)
{
    struct desk *desk = answer->desk;
    const struct ledger *ledger = desk_ledger(desk);
    if (desk->base == NULL || ledger == NULL) {
        return openai_fail(error, ERR_UNAVAILABLE, 503, NULL, NULL,
                           "no base model is ready yet, try again shortly");
    }
    const struct ledger_adapter *adapter = ledger_adapter(ledger, answer->request.model);
    answer->opened_ms = clock_real_ms();
    if (adapter == NULL || strcmp(adapter->model, desk->base_name) != 0 ||
        ledger_adapter_revoked(adapter, answer->opened_ms)) {
        return openai_fail(error, ERR_NOT_FOUND, 404, "model", "model_not_found",
                           "the model '%.64s' does not exist", answer->request.model);
    }
    memcpy(answer->model, adapter->name, sizeof answer->model);
    answer->job.adapter = adapter->content;
    struct ledger_price price;
    ledger_price_at(ledger, adapter, answer->opened_ms, &price);
    answer->price_prompt = price.prompt;
    answer->price_completion = price.completion;
    return ERR_OK;
}

static enum err admit_prompt(struct answer *answer, struct openai_error *error)
{
    const struct openai_request *request = &answer->request;
    const struct lm_chat *chat = &answer->desk->base->chat;
    uint32_t context = lm_model_config(answer->desk->base->model)->context;
    context = context < DESK_CONTEXT_MAX ? context : DESK_CONTEXT_MAX;
    struct note note = {.text = ""};
    lm_ids_init(&answer->prompt, context);
    enum err err = request->chat ? lm_chat_prompt(chat, request->messages, request->message_count,
                                                  &answer->prompt, &note)
                                 : lm_chat_text_prompt(chat, request->text, &answer->prompt, &note);
    const char *param = request->chat ? "messages" : "prompt";
    if (err == ERR_LIMIT || (err == ERR_OK && answer->prompt.count >= context)) {
        return openai_fail(error, ERR_RANGE, 400, param, "context_length_exceeded",
                           "the prompt is longer than the model's context of %u tokens", context);
    }
    if (err != ERR_OK || answer->prompt.count == 0) {
        return openai_fail(error, ERR_INVALID, 400, param, "invalid_value", "'%s': %.200s", param,
                           err == ERR_OK ? "the prompt is empty" : note.text);
    }
    uint32_t room = context - (uint32_t)answer->prompt.count;
    uint32_t tokens =
        request->max_tokens != 0 ? request->max_tokens : answer->desk->settings.max_tokens_default;
    struct engine_job *job = &answer->job;
    job->prompt = answer->prompt.items;
    job->prompt_count = (uint32_t)answer->prompt.count;
    job->max_tokens = tokens < room ? tokens : room;
    job->stops = request->stop;
    job->stop_count = request->stop_count;
    job->sampling = (struct lm_sampling){.temperature = (float)request->temperature,
                                         .top_k = request->top_k,
                                         .top_p = (float)request->top_p,
                                         .seed = request->seed};
    if (!request->has_seed) {
        memcpy(&job->sampling.seed, answer->request_id, sizeof job->sampling.seed);
    }
    if (lm_sampling_check(&job->sampling) != ERR_OK) {
        return openai_fail(error, ERR_INVALID, 400, "temperature", "invalid_value",
                           "the sampling parameters are out of bounds");
    }
    if (ledger_fee(answer->price_prompt, answer->price_completion, job->prompt_count,
                   job->max_tokens, &answer->price_max) != ERR_OK) {
        return openai_fail(error, ERR_RANGE, 400, "max_tokens", "invalid_value",
                           "the highest possible fee is out of bounds");
    }
    return ERR_OK;
}

/* The same key and body as a charge that we have: the same receipt, the same answer. */
static enum err repeat(struct answer *answer, uint64_t index, struct openai_error *error)
{
    Openledger__V1__GatewayRecord *record = NULL;
    struct note note = {.text = ""};
    enum err err = gateway_record_read(answer->desk->journal, index, &record, &note);
    const Openledger__V1__GatewayFinished *finished = err == ERR_OK ? record->finished : NULL;
    Openledger__V1__Receipt *receipt = NULL;
    Openledger__V1__Opening *opening = NULL;
    if (finished != NULL) {
        receipt =
            openledger__v1__receipt__unpack(NULL, finished->receipt.len, finished->receipt.data);
        opening =
            openledger__v1__opening__unpack(NULL, finished->opening.len, finished->opening.data);
    }
    if (receipt == NULL || opening == NULL) {
        err = openai_fail(error, ERR_CORRUPT, 500, NULL, NULL, "the answer could not be read");
    } else {
        struct answer_texts texts;
        hex_encode(receipt->request_id.data, GATEWAY_REQUEST_ID_SIZE, answer->id);
        answer->about.created_s = receipt->opened_ms / 1000;
        answer_tell(answer, receipt, ledger_bytes(finished->receipt),
                    ledger_bytes(finished->adapter_content), &texts);
        struct bytes text = bytes_of_text(opening->answer_text);
        if (answer->request.stream) {
            answer_begin(answer);
            openai_write_text(&answer->out, &answer->about, text);
            openai_write_finish(&answer->out, &answer->about, answer->request.include_usage);
            answer_end(answer);
        } else {
            answer_reply(answer, text);
        }
    }
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    openledger__v1__opening__free_unpacked(opening, NULL);
    openledger__v1__gateway_record__free_unpacked(record, NULL);
    return err;
}

/* ERR_OK with *out_index != UINT64_MAX: repeat that one. */
static enum err admit_idempotency(struct answer *answer, uint64_t *out_index,
                                  struct openai_error *error)
{
    static const char DOMAIN[] = "openledger/idempotency/v1"; /* its NUL is part of it */
    const char *key = http_header(answer->http, "idempotency-key");
    struct note note = {.text = ""};
    struct digest body;
    *out_index = UINT64_MAX;
    if (key == NULL) {
        return ERR_OK;
    }
    if (key[0] == '\0' || strlen(key) > IDEMPOTENCY_KEY_MAX) {
        return openai_fail(error, ERR_INVALID, 400, NULL, "invalid_idempotency_key",
                           "the Idempotency-Key must have 1 to %d bytes", IDEMPOTENCY_KEY_MAX);
    }
    struct bytes parts[] = {bytes_of(DOMAIN, sizeof DOMAIN), digest_bytes(&answer->grant),
                            bytes_of_text(key)};
    sha256_parts(parts, 3, &answer->idempotency);
    sha256(http_body(answer->http), &answer->body);
    answer->idempotent = true;
    if (gateway_opening_find_idempotent(answer->desk->gateway, &answer->idempotency) != NULL) {
        return openai_fail(error, ERR_CONFLICT, 409, NULL, "idempotency_conflict",
                           "a request with this Idempotency-Key is still being answered");
    }
    enum err err = gateway_store_idempotent(answer->desk->store, &answer->idempotency, &body,
                                            out_index, &note);
    if (err == ERR_NOT_FOUND) {
        *out_index = UINT64_MAX;
        return ERR_OK;
    }
    if (err != ERR_OK) {
        return openai_fail(error, err, 500, NULL, NULL, "the index could not be read");
    }
    if (!digest_equal(&body, &answer->body)) {
        return openai_fail(error, ERR_CONFLICT, 409, NULL, "idempotency_conflict",
                           "this Idempotency-Key was used with another request");
    }
    return ERR_OK;
}

/* Holds the highest price. On ERR_OK the answer belongs to the journal's waiters. */
static enum err admit_price(struct answer *answer, struct openai_error *error)
{
    struct desk *desk = answer->desk;
    struct note note = {.text = ""};
    if (gateway_opening_count(desk->gateway) >= desk->settings.queue_max) {
        return openai_fail(error, ERR_LIMIT, 429, NULL, "rate_limit_exceeded",
                           "%u answers are in the making, try again shortly",
                           desk->settings.queue_max);
    }
    enum err err = desk_lease(desk, &answer->grant, answer->price_max, &answer->lease, &note);
    if (err == ERR_FUNDS || err == ERR_DENIED || err == ERR_NOT_FOUND) {
        return openai_fail(error, err, 429, NULL, "insufficient_quota", "%.250s", note.text);
    }
    if (err != ERR_OK) {
        return openai_fail(error, err, 503, NULL, NULL, "could not open a lease: %.200s",
                           note.text);
    }
    char price[AMOUNT_TEXT_SIZE];
    struct digest prompt;
    struct digest empty;
    random_bytes(answer->prompt_salt.bytes, SALT_SIZE);
    random_bytes(answer->answer_salt.bytes, SALT_SIZE);
    ledger_prompt_commitment(&answer->prompt_salt, answer->prompt.items, answer->prompt.count,
                             &prompt);
    ledger_answer_commitment(&answer->answer_salt, NULL, 0, &empty);
    answer->opened_mono_ms = clock_mono_ms();
    Openledger__V1__GatewayOpened opened = OPENLEDGER__V1__GATEWAY_OPENED__INIT;
    opened.request_id = ledger_binary(answer->request_id, sizeof answer->request_id);
    opened.grant = ledger_binary(answer->grant.bytes, DIGEST_SIZE);
    opened.lease = answer->lease;
    opened.price_max = (char *)(uintptr_t)amount_format(answer->price_max, price);
    opened.adapter = answer->model;
    opened.opened_ms = answer->opened_ms;
    opened.prompt_commitment = ledger_binary(prompt.bytes, DIGEST_SIZE);
    opened.empty_commitment = ledger_binary(empty.bytes, DIGEST_SIZE);
    opened.profile = ledger_binary(desk->base->profile.bytes, DIGEST_SIZE);
    if (answer->idempotent) {
        opened.idempotency = ledger_binary(answer->idempotency.bytes, DIGEST_SIZE);
        opened.body = ledger_binary(answer->body.bytes, DIGEST_SIZE);
    }
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_OPENED;
    record.opened = &opened;
    answer->about.created_s = answer->opened_ms / 1000;
    answer->waiter.durable = answer_start;
    err = desk_record(desk, &record, &answer->waiter, &note);
    return err == ERR_OK ? ERR_OK
                         : openai_fail(error, err, err == ERR_FULL ? 507 : 500, NULL, NULL,
                                       "the opening could not be recorded");
}

static enum err admit(struct answer *answer, bool chat, struct openai_error *error)
{
    uint64_t index = UINT64_MAX;
    enum err err = admit_key(answer, error);
    if (err == ERR_OK) {
        err = openai_request_parse(http_body(answer->http), chat, &answer->request, error);
    }
    if (err == ERR_OK) {
        err = admit_model(answer, error);
    }
    if (err == ERR_OK) {
        err = admit_prompt(answer, error);
    }
    if (err == ERR_OK) {
        err = admit_idempotency(answer, &index, error);
    }
    if (err != ERR_OK) {
        return err;
    }
    answer->about.model = answer->model;
    return index != UINT64_MAX ? repeat(answer, index, error) : admit_price(answer, error);
}

static void accept_request(struct desk *desk, struct http_request *http, bool chat)
{
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL) {
        http_reply_error(http, 503, "server_error", "out of memory");
        return;
    }
    struct openai_error error = {.status = 500, .type = "server_error"};
    answer->desk = desk;
    answer->http = http;
    random_bytes(answer->request_id, sizeof answer->request_id);
    hex_encode(answer->request_id, sizeof answer->request_id, answer->id);
    answer->about = (struct openai_answer){.chat = chat, .id = answer->id};
    buf_init(&answer->out, OPENAI_RESPONSE_MAX);
    buf_init(&answer->receipt, GATEWAY_RECEIPT_MAX);
    if (admit(answer, chat, &error) != ERR_OK) {
        metric_add(desk->refused_total, 1);
        answer_refuse(answer, &error);
        answer_free(answer);
    }
}

void answer_accept_chat(void *context, struct http_request *http)
{
    accept_request(context, http, true);
}

void answer_accept_text(void *context, struct http_request *http)
{
    accept_request(context, http, false);
}
