/* api.c - RPC handlers of attribution: decode, check, call, encode. */
#include "services/attribution/api.h"

#include <string.h>

#include "services/attribution/attribution.h"
#include "shared/ledger/tx.h"

static enum err get_info(void *context, struct rpc_call *call, const void *request)
{
    struct attribution_api *api = context;
    struct attribution_counts counts;
    (void)request;
    enum err err = attribution_store_counts(api->store, &counts, rpc_note(call));
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__AttributionInfo reply = OPENLEDGER__V1__ATTRIBUTION_INFO__INIT;
    reply.account = ledger_binary(api->account->id.bytes, ACCOUNT_ID_SIZE);
    reply.answers = counts.answers;
    reply.waiting = counts.pending;
    reply.parked = counts.parked;
    return rpc_reply(call, &reply);
}

static enum err get_attribution(void *context, struct rpc_call *call, const void *request)
{
    struct attribution_api *api = context;
    const Openledger__V1__GetAttributionRequest *wanted = request;
    struct digest receipt;
    struct buf evidence;
    if (digest_from_bytes(ledger_bytes(wanted->receipt), &receipt) != ERR_OK) {
        return note_set(rpc_note(call), ERR_INVALID, "receipt has %zu bytes, an id has %d",
                        wanted->receipt.len, DIGEST_SIZE);
    }
    buf_init(&evidence, ATTRIBUTION_EVIDENCE_MAX);
    enum err err = attribution_store_evidence(api->store, &receipt, &evidence, rpc_note(call));
    if (err == ERR_NOT_FOUND) {
        err = note_set(rpc_note(call), err, "no attribution of that receipt (yet)");
    }
    ProtobufCMessage *message = NULL;
    if (err == ERR_OK) {
        err = rpc_decode(&openledger__v1__answer_attribution__descriptor, buf_bytes(&evidence),
                         rpc_arena(call), &message, rpc_note(call));
    }
    if (err == ERR_OK) {
        err = rpc_reply(call, message);
    }
    buf_deinit(&evidence);
    return err;
}

static enum err get_index(void *context, struct rpc_call *call, const void *request)
{
    struct attribution_api *api = context;
    const Openledger__V1__NameRequest *wanted = request;
    const struct ledger *ledger = follow_ledger(api->follow);
    if (ledger == NULL) {
        return note_set(rpc_note(call), ERR_UNAVAILABLE, "the ledger has not been read yet");
    }
    const struct ledger_adapter *adapter = ledger_adapter(ledger, wanted->name);
    if (adapter == NULL) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no adapter %.64s", wanted->name);
    }
    const struct ledger_version *version =
        ledger_version(ledger, adapter->datanet, adapter->version);
    struct engine_status status;
    char ready[] = "ready";
    char state[sizeof "building"];
    engine_index_status(api->engine, adapter->name, &status);
    memcpy(state, status.state, strlen(status.state) + 1);
    Openledger__V1__IndexRecord reply = OPENLEDGER__V1__INDEX_RECORD__INIT;
    struct digest index = adapter->attribution_index;
    reply.adapter = wanted->name;
    reply.rows = version == NULL ? 0 : version->row_count;
    reply.state = adapter->has_index ? ready : state;
    if (adapter->has_index) {
        reply.index = ledger_binary(index.bytes, DIGEST_SIZE);
    } else {
        reply.detail = status.detail;
    }
    return rpc_reply(call, &reply);
}

static const struct rpc_binding BINDINGS[] = {
    {"GetInfo", get_info},
    {"GetAttribution", get_attribution},
    {"GetIndex", get_index},
};

const struct rpc_service attribution_rpc = {
    .descriptor = &openledger__v1__attribution__descriptor,
    .bindings = BINDINGS,
    .count = sizeof BINDINGS / sizeof BINDINGS[0],
};
