/* api.c - the gateway's own RPC methods, the models list, the page; the keys behind them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/services.pb-c.h"
#include "services/lora-gateway/desk.h"
#include "services/lora-gateway/openai.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/random.h"

#define KEY_PREFIX "ol-"
#define KEY_SECRET_SIZE 26                /* random bytes, 52 hex digits in the key */
#define KEY_TIME_SKEW_MS UINT64_C(300000) /* a request for a key is this fresh */
#define MODELS_PATH "/v1/models/"

/* ---- API keys ------------------------------------------------------------------------------------ */

enum err desk_key_grant(struct desk *desk, const char *key, struct digest *out_grant,
                        struct note *note)
{
    struct digest hash;
    if (strncmp(key, KEY_PREFIX, strlen(KEY_PREFIX)) != 0 || strlen(key) != DESK_KEY_SIZE - 1) {
        return note_set(note, ERR_UNAUTHENTICATED, "the API key is malformed");
    }
    sha256(bytes_of_text(key), &hash);
    enum err err = gateway_store_key(desk->store, &hash, out_grant, note);
    return err == ERR_NOT_FOUND
               ? note_set(note, ERR_UNAUTHENTICATED, "the API key is unknown or was revoked")
               : err;
}

enum err desk_authenticate(struct desk *desk, const char *authorization, struct digest *out_grant,
                           struct note *note)
{
    static const char SCHEME[] = "Bearer ";
    if (authorization == NULL || strncasecmp(authorization, SCHEME, sizeof SCHEME - 1) != 0) {
        return note_set(note, ERR_UNAUTHENTICATED,
                        "no API key: send the header 'Authorization: Bearer ol-...'");
    }
    return desk_key_grant(desk, authorization + sizeof SCHEME - 1, out_grant, note);
}

/* A key's record on its way to disk. */
struct key_call {
    struct desk_waiter waiter; /* first */
    struct rpc_call *call;
    char key[DESK_KEY_SIZE]; /* of a new one */
    bool revoked;
};

static void key_durable(struct desk_waiter *waiter)
{
    struct key_call *key = (struct key_call *)waiter;
    Openledger__V1__CreateApiKeyReply created = OPENLEDGER__V1__CREATE_API_KEY_REPLY__INIT;
    Openledger__V1__Empty empty = OPENLEDGER__V1__EMPTY__INIT;
    created.api_key = key->key;
    enum err err = rpc_reply(key->call, key->revoked ? (void *)&empty : (void *)&created);
    rpc_finish(key->call, err);
    secret_wipe(key, sizeof *key);
    free(key);
}

/* Records a key (its hash) and answers the call when that is on disk. */
static enum err record_key(struct desk *desk, struct key_call *key, const struct digest *grant,
                           struct note *note)
{
    struct digest hash;
    sha256(bytes_of_text(key->key), &hash);
    Openledger__V1__GatewayKey content = OPENLEDGER__V1__GATEWAY_KEY__INIT;
    content.hash = ledger_binary(hash.bytes, DIGEST_SIZE);
    content.grant = ledger_binary(grant->bytes, DIGEST_SIZE);
    content.revoked = key->revoked;
    content.time_ms = clock_real_ms();
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_KEY;
    record.key = &content;
    key->waiter.durable = key_durable;
    rpc_defer(key->call);
    struct rpc_call *call = key->call;
    enum err err = desk_record(desk, &record, &key->waiter, note);
    if (err != ERR_OK) {
        free(key);
        rpc_finish(call, err);
    }
    return ERR_OK;
}

/* The payer's signature over "openledger/apikey/v1" 0x00 chain_id grant time_ms(u64 BE). */
static bool key_request_signed(const struct ledger *ledger,
                               const Openledger__V1__CreateApiKeyRequest *request,
                               const struct ledger_grant *grant)
{
    static const char DOMAIN[] = "openledger/apikey/v1"; /* its NUL is part of it */
    struct ledger_head head;
    struct public_key key;
    struct signature signature;
    const struct ledger_account *payer = ledger_account(ledger, &grant->payer);
    if (request->key.len != PUBLIC_KEY_SIZE || request->signature.len != SIGNATURE_SIZE ||
        payer == NULL || !payer->has_key) {
        return false;
    }
    memcpy(key.bytes, request->key.data, PUBLIC_KEY_SIZE);
    memcpy(signature.bytes, request->signature.data, SIGNATURE_SIZE);
    ledger_head(ledger, &head);
    struct buf message;
    buf_init(&message, 256);
    buf_append(&message, DOMAIN, sizeof DOMAIN);
    buf_append(&message, head.chain_id.bytes, DIGEST_SIZE);
    buf_append(&message, grant->id.bytes, DIGEST_SIZE);
    buf_append_u64be(&message, request->time_ms);
    bool good = buf_err(&message) == ERR_OK && public_key_equal(&key, &payer->key) &&
                signature_verify(&key, buf_bytes(&message), &signature);
    buf_deinit(&message);
    return good;
}

static enum err create_api_key(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__CreateApiKeyRequest *request = message;
    const struct ledger *ledger = desk_ledger(desk);
    struct note *note = rpc_note(call);
    struct digest id;
    if (ledger == NULL) {
        return note_set(note, ERR_UNAVAILABLE, "the ledger is not known yet");
    }
    if (digest_from_bytes(ledger_bytes(request->grant), &id) != ERR_OK) {
        return note_set(note, ERR_INVALID, "grant must be 32 bytes");
    }
    (void)follow_pump(desk->follow); /* the grant may be a moment old */
    const struct ledger_grant *grant = ledger_grant(ledger, &id);
    if (grant == NULL) {
        return note_set(note, ERR_NOT_FOUND, "the grant is not on the ledger");
    }
    if (!account_id_equal(&grant->gateway, &desk->account)) {
        return note_set(note, ERR_DENIED, "the grant is for another gateway");
    }
    uint64_t now_ms = clock_real_ms();
    uint64_t distance =
        now_ms > request->time_ms ? now_ms - request->time_ms : request->time_ms - now_ms;
    if (distance > KEY_TIME_SKEW_MS) {
        return note_set(note, ERR_DENIED, "the request's time is more than five minutes off");
    }
    if (!key_request_signed(ledger, request, grant)) {
        return note_set(note, ERR_DENIED, "the signature is not the payer's");
    }
    struct key_call *key = calloc(1, sizeof *key);
    if (key == NULL) {
        return ERR_NO_MEMORY;
    }
    uint8_t secret[KEY_SECRET_SIZE];
    random_bytes(secret, sizeof secret);
    (void)snprintf(key->key, sizeof key->key, "%s", KEY_PREFIX);
    hex_encode(secret, sizeof secret, key->key + strlen(KEY_PREFIX));
    secret_wipe(secret, sizeof secret);
    key->call = call;
    return record_key(desk, key, &id, note);
}

static enum err revoke_api_key(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__RevokeApiKeyRequest *request = message;
    struct digest grant;
    enum err err = desk_key_grant(desk, request->api_key, &grant, rpc_note(call));
    if (err != ERR_OK) {
        return err;
    }
    struct key_call *key = calloc(1, sizeof *key);
    if (key == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(key->key, request->api_key, DESK_KEY_SIZE); /* its length was checked */
    key->revoked = true;
    key->call = call;
    return record_key(desk, key, &grant, rpc_note(call));
}

/* ---- receipts ------------------------------------------------------------------------------------ */

static enum err find_finished(struct desk *desk, ProtobufCBinaryData id,
                              Openledger__V1__GatewayRecord **out, struct note *note)
{
    struct digest receipt;
    uint64_t index = 0;
    if (digest_from_bytes(ledger_bytes(id), &receipt) != ERR_OK) {
        return note_set(note, ERR_INVALID, "receipt must be 32 bytes");
    }
    enum err err = gateway_store_receipt(desk->store, &receipt, &index, note);
    if (err == ERR_NOT_FOUND) {
        return note_set(note, err, "no such receipt here");
    }
    if (err == ERR_OK) {
        err = gateway_record_read(desk->journal, index, out, note);
    }
    return err;
}

static enum err get_receipt(void *context, struct rpc_call *call, const void *message)
{
    const Openledger__V1__GetReceiptRequest *request = message;
    Openledger__V1__GatewayRecord *record = NULL;
    ProtobufCMessage *receipt = NULL;
    enum err err = find_finished(context, request->receipt, &record, rpc_note(call));
    if (err == ERR_OK) {
        err = rpc_decode(&openledger__v1__receipt__descriptor,
                         ledger_bytes(record->finished->receipt), rpc_arena(call), &receipt,
                         rpc_note(call));
    }
    if (err == ERR_OK) {
        err = rpc_reply(call, receipt);
    }
    openledger__v1__gateway_record__free_unpacked(record, NULL);
    return err;
}

/* Prompts and answers are the payer's: only a key of the grant that paid opens them. */
static enum err get_opening(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetOpeningRequest *request = message;
    struct note *note = rpc_note(call);
    struct digest grant;
    Openledger__V1__GatewayRecord *record = NULL;
    ProtobufCMessage *receipt = NULL;
    ProtobufCMessage *opening = NULL;
    const char *key = request->api_key[0] != '\0' ? request->api_key : rpc_token(call);
    enum err err = desk_key_grant(desk, key, &grant, note);
    if (err == ERR_OK) {
        err = find_finished(desk, request->receipt, &record, note);
    }
    if (err == ERR_OK) {
        err = rpc_decode(&openledger__v1__receipt__descriptor,
                         ledger_bytes(record->finished->receipt), rpc_arena(call), &receipt, note);
    }
    if (err == ERR_OK) {
        const Openledger__V1__Receipt *about = (const void *)receipt;
        if (!bytes_equal(ledger_bytes(about->grant), digest_bytes(&grant))) {
            err = note_set(note, ERR_DENIED, "the API key is not of the grant that paid");
        } else if (record->finished->opening.len == 0) {
            err = note_set(note, ERR_NOT_FOUND, "the receipt is a void: there is nothing to open");
        }
    }
    if (err == ERR_OK) {
        err = rpc_decode(&openledger__v1__opening__descriptor,
                         ledger_bytes(record->finished->opening), rpc_arena(call), &opening, note);
    }
    if (err == ERR_OK) {
        err = rpc_reply(call, opening);
    }
    openledger__v1__gateway_record__free_unpacked(record, NULL);
    return err;
}

static enum err get_info(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    (void)message;
    struct engine_status status;
    engine_status(desk->engine, &status);
    Openledger__V1__GatewayInfo info = OPENLEDGER__V1__GATEWAY_INFO__INIT;
    info.account = ledger_binary(desk->account.bytes, ACCOUNT_ID_SIZE);
    info.model = desk->base_name;
    if (desk->base != NULL) {
        info.profile = ledger_binary(desk->base->profile.bytes, DIGEST_SIZE);
    }
    info.receipts = gateway_receipt_count(desk->gateway);
    info.resident_adapters = status.adapters;
    return rpc_reply(call, &info);
}

static const struct rpc_binding BINDINGS[] = {
    {"GetInfo", get_info},       {"CreateApiKey", create_api_key}, {"RevokeApiKey", revoke_api_key},
    {"GetReceipt", get_receipt}, {"GetOpening", get_opening},
};

static const struct rpc_service SERVICE = {
    .descriptor = &openledger__v1__gateway__descriptor,
    .bindings = BINDINGS,
    .count = sizeof BINDINGS / sizeof *BINDINGS,
};

/* ---- models and the page -------------------------------------------------------------------------- */

static void write_adapter(const struct desk *desk, struct json_writer *writer,
                          const struct ledger_adapter *adapter)
{
    char owner[ACCOUNT_ID_TEXT_SIZE];
    char content[DIGEST_TEXT_SIZE];
    char job[2 * DIGEST_SIZE + 1];
    char price_prompt[AMOUNT_TEXT_SIZE];
    char price_completion[AMOUNT_TEXT_SIZE];
    struct openai_model model = {
        .id = adapter->name,
        .created_s = desk_time_of(desk, adapter->index) / 1000,
        .owned_by = account_id_format(&adapter->developer, owner),
        .base = adapter->model,
        .datanet = adapter->datanet,
        .version = adapter->version,
        .adapter = digest_format(&adapter->content, content),
        .job = hex_encode(adapter->job.bytes, DIGEST_SIZE, job),
        .price_prompt = amount_format(adapter->price_prompt, price_prompt),
        .price_completion = amount_format(adapter->price_completion, price_completion),
        .attributed = adapter->has_index,
    };
    openai_write_model(writer, &model);
}

static bool servable(const struct desk *desk, const struct ledger_adapter *adapter)
{
    return strcmp(adapter->model, desk->base_name) == 0 &&
           !ledger_adapter_revoked(adapter, clock_real_ms());
}

static void reply_json(struct http_request *http, int status, struct buf *body)
{
    if (buf_err(body) != ERR_OK) {
        http_reply_error(http, 503, "server_error", "the answer is too large");
    } else {
        http_reply(http, status, "application/json", buf_bytes(body));
    }
}

static void list_models(void *context, struct http_request *http)
{
    struct desk *desk = context;
    const struct ledger *ledger = desk_ledger(desk);
    struct json_writer writer;
    struct buf body;
    buf_init(&body, OPENAI_RESPONSE_MAX);
    json_writer_init(&writer, &body, false);
    json_begin_object(&writer);
    json_put_text(&writer, "object", "list");
    json_write_key(&writer, "data");
    json_begin_array(&writer);
    const struct ledger_adapter *adapter =
        ledger == NULL ? NULL : ledger_next_adapter(ledger, NULL);
    for (; adapter != NULL; adapter = ledger_next_adapter(ledger, adapter)) {
        if (servable(desk, adapter)) {
            write_adapter(desk, &writer, adapter);
        }
    }
    json_end_array(&writer);
    json_end_object(&writer);
    reply_json(http, 200, &body);
    buf_deinit(&body);
}

static void get_model(void *context, struct http_request *http)
{
    struct desk *desk = context;
    const struct ledger *ledger = desk_ledger(desk);
    const char *name = http_path(http) + strlen(MODELS_PATH);
    const struct ledger_adapter *adapter =
        ledger != NULL && ledger_name_valid(name) ? ledger_adapter(ledger, name) : NULL;
    struct buf body;
    buf_init(&body, OPENAI_RESPONSE_MAX);
    if (adapter == NULL || !servable(desk, adapter)) {
        struct openai_error error;
        (void)openai_fail(&error, ERR_NOT_FOUND, 404, "model", "model_not_found",
                          "the model '%.64s' does not exist", name);
        openai_write_error(&body, &error);
        reply_json(http, 404, &body);
    } else {
        struct json_writer writer;
        json_writer_init(&writer, &body, false);
        write_adapter(desk, &writer, adapter);
        reply_json(http, 200, &body);
    }
    buf_deinit(&body);
}

static void get_page(void *context, struct http_request *http)
{
    (void)context;
    struct http_field fields[] = {{"content-type", "text/html; charset=utf-8"},
                                  {"content-security-policy",
                                   "default-src 'none'; style-src 'unsafe-inline'; "
                                   "script-src 'unsafe-inline'; connect-src 'self'"},
                                  {"x-content-type-options", "nosniff"}};
    http_reply_fields(http, 200, (struct http_fields){.items = fields, .count = 3}, page_html());
}

void api_serve(struct desk *desk)
{
    struct service *service = desk->service;
    service_rpc(service, &SERVICE, desk);
    service_route(service, "GET", "/v1/models", list_models, desk);
    service_route(service, "GET", MODELS_PATH "*", get_model, desk);
    service_route(service, "POST", "/v1/chat/completions", answer_accept_chat, desk);
    service_route(service, "POST", "/v1/completions", answer_accept_text, desk);
    service_route(service, "GET", "/", get_page, desk);
    log_files_serve(service);
}
