/* health.c - what probes and scrapers ask; answered on the HTTP loop, so also by a busy worker. */

#include <string.h>

#include "openledger/v1/health.pb-c.h"
#include "shared/base/buf.h"
#include "shared/platform/clock.h"
#include "shared/service/internal.h"

static struct bytes text_bytes(const char *text)
{
    return (struct bytes){.data = (const uint8_t *)text, .size = strlen(text)};
}

static void on_healthz(void *context, struct http_request *request)
{
    (void)context;
    http_reply(request, 200, "text/plain", text_bytes("ok\n"));
}

static void on_readyz(void *context, struct http_request *request)
{
    struct note reason = {0};
    bool ready = service_is_ready(context, &reason);
    http_reply(request, ready ? 200 : 503, "text/plain",
               text_bytes(ready ? "ready\n" : reason.text));
}

static void on_metrics(void *context, struct http_request *request)
{
    struct buf text;
    buf_init(&text, METRICS_TEXT_MAX);
    enum err err = metrics_write(service_metrics(context), &text);
    if (err == ERR_OK) {
        http_reply(request, 200, "text/plain; version=0.0.4", buf_bytes(&text));
    } else {
        http_reply_error(request, 500, "server_error", "too many metrics");
    }
    buf_deinit(&text);
}

static enum err on_check(void *context, struct rpc_call *call, const void *request)
{
    (void)request;
    struct service *service = context;
    struct note reason = {0};
    Openledger__V1__HealthReply reply = OPENLEDGER__V1__HEALTH_REPLY__INIT;
    reply.ready = service_is_ready(service, &reason);
    reply.service = arena_strdup(rpc_arena(call), service->config->name);
    reply.reason = reason.text;
    reply.uptime_ms = clock_mono_ms() - service->start_ms;
    return reply.service == NULL ? ERR_NO_MEMORY : rpc_reply(call, &reply);
}

static const struct rpc_binding bindings[] = {{"Check", on_check}};
static const struct rpc_service health = {
    .descriptor = &openledger__v1__health__descriptor, .bindings = bindings, .count = 1};

void service_health_add(struct service *service)
{
    http_route(service_http(service), "GET", "/healthz", on_healthz, service);
    http_route(service_http(service), "GET", "/readyz", on_readyz, service);
    http_route(service_http(service), "GET", "/metrics", on_metrics, service);
    rpc_serve(service->rpc, &health, service);
}
