/* api.h - the datanet's RPC methods. */
#pragma once

#include "services/datanet/datanet.h"
#include "services/datanet/store.h"
#include "shared/blob/blob.h"
#include "shared/follow/follow.h"
#include "shared/rpc/rpc.h"

/* The context of rpc_serve. Owned by main. */
struct datanet_api {
    struct follow *follow;
    struct blob_store *blobs;
    struct datanet_store *store;
    struct datanet *datanet;
};

/* Binds the methods of openledger.v1.Datanet. */
extern const struct rpc_service datanet_rpc;
