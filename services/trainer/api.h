/* api.h - the trainer's RPC methods. */
#pragma once

#include "services/trainer/jobs.h"
#include "shared/rpc/rpc.h"

/* The context of service_rpc. Owned by main. */
struct trainer_api {
    struct follow *follow;
    struct jobs *jobs;
};

/* Binds the methods of openledger.v1.Trainer. */
extern const struct rpc_service trainer_rpc;
