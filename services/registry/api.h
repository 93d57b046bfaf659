/* api.h - the registry's RPC methods. */
#pragma once

#include "shared/rpc/rpc.h"

/* Binds the methods of openledger.v1.Registry; the context of rpc_serve is a struct follow *. */
extern const struct rpc_service registry_rpc;
