/* specs.c - the one table of methods: what the generated descriptors say, and what they lack. */
#include <pthread.h>
#include <string.h>

#include "openledger/v1/health.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/rpc/rpc.h"

#define SPECS_MAX 128

static const ProtobufCServiceDescriptor *const services[] = {
    &openledger__v1__settlement__descriptor, &openledger__v1__registry__descriptor,
    &openledger__v1__datanet__descriptor,    &openledger__v1__trainer__descriptor,
    &openledger__v1__gateway__descriptor,    &openledger__v1__attribution__descriptor,
    &openledger__v1__health__descriptor,
};

/* Every other method is unary, callable by anyone, with RPC_DEADLINE_MS. */
static const struct {
    const char *service, *method;
    enum rpc_kind kind;
    enum rpc_who who;
    uint32_t deadline_ms;
} exceptions[] = {
    {"Trainer", "WatchJob", RPC_SERVER_STREAM, RPC_ANYONE, RPC_DEADLINE_MAX_MS},
    {"Datanet", "FinishUpload", RPC_UNARY, RPC_ANYONE, 60000},
    {"Datanet", "PrepareVersion", RPC_UNARY, RPC_ANYONE, 60000},
};

static struct rpc_spec specs[SPECS_MAX];
static size_t spec_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void except(struct rpc_spec *spec)
{
    for (size_t e = 0; e < sizeof exceptions / sizeof exceptions[0]; e++) {
        if (strcmp(exceptions[e].service, spec->service) == 0 &&
            strcmp(exceptions[e].method, spec->method) == 0) {
            spec->kind = exceptions[e].kind;
            spec->who = exceptions[e].who;
            spec->deadline_ms = exceptions[e].deadline_ms;
        }
    }
}

static void build(void)
{
    for (size_t s = 0; s < sizeof services / sizeof services[0]; s++) {
        for (unsigned m = 0; m < services[s]->n_methods; m++) {
            const ProtobufCMethodDescriptor *method = &services[s]->methods[m];
            CHECK(spec_count < SPECS_MAX);
            struct rpc_spec *spec = &specs[spec_count++];
            *spec = (struct rpc_spec){.service = services[s]->short_name,
                                      .method = method->name,
                                      .input = method->input,
                                      .output = method->output,
                                      .deadline_ms = RPC_DEADLINE_MS};
            except(spec);
        }
    }
}

const struct rpc_spec *rpc_find(const char *service_method)
{
    CHECK(pthread_once(&once, build) == 0);
    const char *dot = strchr(service_method, '.');
    if (dot == NULL) {
        return NULL;
    }
    size_t size = (size_t)(dot - service_method);
    for (size_t i = 0; i < spec_count; i++) {
        if (strncmp(specs[i].service, service_method, size) == 0 &&
            specs[i].service[size] == '\0' && strcmp(specs[i].method, dot + 1) == 0) {
            return &specs[i];
        }
    }
    return NULL;
}
