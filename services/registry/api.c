/* api.c - RPC handlers of the registry: decode, ask registry.c, encode. */
#include "services/registry/api.h"

#include "openledger/v1/services.pb-c.h"
#include "services/registry/registry.h"
#include "shared/follow/follow.h"

/* The copy of the ledger, once it is there. */
static enum err ledger_of(void *context, struct rpc_call *call, const struct ledger **out_ledger)
{
    *out_ledger = follow_ledger(context);
    if (*out_ledger == NULL) {
        return note_set(rpc_note(call), ERR_UNAVAILABLE, "the ledger has not been read yet");
    }
    return ERR_OK;
}

static enum err list(void *context, struct rpc_call *call, enum registry_kind kind,
                     const void *request, struct registry_page *out_page)
{
    const struct ledger *ledger;
    enum err err = ledger_of(context, call, &ledger);
    return err != ERR_OK
               ? err
               : registry_list(ledger, kind, request, rpc_arena(call), out_page, rpc_note(call));
}

static enum err get(void *context, struct rpc_call *call, enum registry_kind kind,
                    const void *request)
{
    const Openledger__V1__NameRequest *wanted = request;
    const struct ledger *ledger;
    ProtobufCMessage *message;
    enum err err = ledger_of(context, call, &ledger);
    if (err == ERR_OK) {
        err = registry_get(ledger, kind, wanted->name, rpc_arena(call), &message, rpc_note(call));
    }
    return err != ERR_OK ? err : rpc_reply(call, message);
}

static enum err list_accounts(void *context, struct rpc_call *call, const void *request)
{
    struct registry_page page;
    enum err err = list(context, call, REGISTRY_ACCOUNTS, request, &page);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ListAccountsReply reply = OPENLEDGER__V1__LIST_ACCOUNTS_REPLY__INIT;
    reply.accounts = (Openledger__V1__AccountRecord **)page.items;
    reply.n_accounts = page.count;
    reply.next_page_token = page.next_page_token;
    return rpc_reply(call, &reply);
}

static enum err list_datanets(void *context, struct rpc_call *call, const void *request)
{
    struct registry_page page;
    enum err err = list(context, call, REGISTRY_DATANETS, request, &page);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ListDatanetsReply reply = OPENLEDGER__V1__LIST_DATANETS_REPLY__INIT;
    reply.datanets = (Openledger__V1__DatanetRecord **)page.items;
    reply.n_datanets = page.count;
    reply.next_page_token = page.next_page_token;
    return rpc_reply(call, &reply);
}

static enum err list_models(void *context, struct rpc_call *call, const void *request)
{
    struct registry_page page;
    enum err err = list(context, call, REGISTRY_MODELS, request, &page);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ListModelsReply reply = OPENLEDGER__V1__LIST_MODELS_REPLY__INIT;
    reply.models = (Openledger__V1__ModelRecord **)page.items;
    reply.n_models = page.count;
    reply.next_page_token = page.next_page_token;
    return rpc_reply(call, &reply);
}

static enum err list_adapters(void *context, struct rpc_call *call, const void *request)
{
    struct registry_page page;
    enum err err = list(context, call, REGISTRY_ADAPTERS, request, &page);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ListAdaptersReply reply = OPENLEDGER__V1__LIST_ADAPTERS_REPLY__INIT;
    reply.adapters = (Openledger__V1__AdapterRecord **)page.items;
    reply.n_adapters = page.count;
    reply.next_page_token = page.next_page_token;
    return rpc_reply(call, &reply);
}

static enum err get_datanet(void *context, struct rpc_call *call, const void *request)
{
    return get(context, call, REGISTRY_DATANETS, request);
}

static enum err get_adapter(void *context, struct rpc_call *call, const void *request)
{
    return get(context, call, REGISTRY_ADAPTERS, request);
}

static const struct rpc_binding BINDINGS[] = {
    {"ListAccounts", list_accounts}, {"ListDatanets", list_datanets}, {"GetDatanet", get_datanet},
    {"ListModels", list_models},     {"ListAdapters", list_adapters}, {"GetAdapter", get_adapter},
};

const struct rpc_service registry_rpc = {.descriptor = &openledger__v1__registry__descriptor,
                                         .bindings = BINDINGS,
                                         .count = sizeof BINDINGS / sizeof BINDINGS[0]};
