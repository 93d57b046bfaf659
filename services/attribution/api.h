/* api.h - attribution's RPC methods. */
#pragma once

#include "services/attribution/engine.h"
#include "shared/rpc/rpc.h"

/* The context of service_rpc. Owned by main. */
struct attribution_api {
    struct follow *follow;
    struct operator_account *account;
    struct attribution_store *store;
    struct engine *engine;
};

/* Binds the methods of openledger.v1.Attribution. */
extern const struct rpc_service attribution_rpc;
