/* events.h - what is going to happen, in the order of simulated time; equal times in the order they were made. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

enum event_kind {
    MESSAGE,
    TICK,
    WAKE,
    SUBMIT,
    REPLY,
    CLIENTS,
    FAULT,
    START,
    BLOBS,
    BLOB,
    GATEWAYS,
    OPENING,
    ASK,
    ANSWER,
    WITNESSES
};

struct event {
    uint64_t at_ms, number;
    enum event_kind kind;
    uint32_t node;
    uint64_t life; /* of the node, or its wait; of a stream */
    size_t task;
    enum err err;
    struct bytes data; /* whoever pops it owns it */
};

struct events {
    struct event *heap;
    size_t count;
    uint64_t made;
};

void events_init(struct events *events);
void events_deinit(struct events *events);
void events_push(struct events *events, const struct event *event); /* at_ms is set, number given */
struct event events_pop(struct events *events);                     /* count > 0 */
