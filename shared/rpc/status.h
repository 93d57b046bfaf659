/* status.h - enum err to gRPC status, HTTP status and Connect code, and back, in one table. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"

/* gRPC's numbers (grpc/status.proto): 0 OK ... 16 UNAUTHENTICATED. */
int status_of_err(enum err err);
/* A peer's status, any number: unknown ones are ERR_IO. */
enum err status_to_err(int64_t grpc_status);

int status_http(int grpc_status);            /* Connect's mapping to HTTP */
const char *status_connect(int grpc_status); /* "not_found", never NULL */
const char *status_name(int grpc_status);    /* "NOT_FOUND", never NULL */
