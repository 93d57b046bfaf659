/* message.c - received messages, publishing, request-reply; see bus.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/bus/internal.h"
#include "shared/platform/clock.h"

struct bus_message *bus_message_wrap(natsMsg *msg, bool meta)
{
    struct bus_message *message = calloc(1, sizeof *message);
    if (message == NULL) {
        natsMsg_Destroy(msg);
        return NULL;
    }
    message->msg = msg;
    jsMsgMetaData *data = NULL;
    if (meta && natsMsg_GetMetaData(&data, msg) == NATS_OK) {
        message->sequence = data->Sequence.Stream;
        message->consumer_sequence = data->Sequence.Consumer;
        message->deliveries = data->NumDelivered;
        message->pending = data->NumPending;
        jsMsgMetaData_Destroy(data);
    }
    return message;
}

const char *bus_message_subject(const struct bus_message *message)
{
    return natsMsg_GetSubject(message->msg);
}

const char *bus_message_reply(const struct bus_message *message)
{
    return natsMsg_GetReply(message->msg);
}

struct bytes bus_message_data(const struct bus_message *message)
{
    return (struct bytes){.data = (const uint8_t *)natsMsg_GetData(message->msg),
                          .size = (size_t)natsMsg_GetDataLength(message->msg)};
}

const char *bus_message_header(const struct bus_message *message, const char *name)
{
    const char *value = NULL;
    return natsMsgHeader_Get(message->msg, name, &value) == NATS_OK ? value : NULL;
}

uint64_t bus_message_sequence(const struct bus_message *message)
{
    return message->sequence;
}

uint64_t bus_message_deliveries(const struct bus_message *message)
{
    return message->deliveries;
}

uint64_t bus_message_pending(const struct bus_message *message)
{
    return message->pending;
}

bool bus_message_unserved(const struct bus_message *message)
{
    return natsMsg_IsNoResponders(message->msg);
}

void bus_message_destroy(struct bus_message *message)
{
    if (message != NULL) {
        natsMsg_Destroy(message->msg);
        free(message);
    }
}

void bus_ack(struct bus_message *message)
{
    (void)natsMsg_Ack(message->msg, NULL);
}

void bus_nak(struct bus_message *message, uint32_t delay_ms)
{
    (void)natsMsg_NakWithDelay(message->msg, delay_ms, NULL);
}

void bus_term(struct bus_message *message)
{
    (void)natsMsg_Term(message->msg, NULL);
}

void bus_progress(struct bus_message *message)
{
    (void)natsMsg_InProgress(message->msg, NULL);
}

enum err bus_build(const char *subject, const char *reply, struct bus_headers headers,
                   struct bytes data, natsMsg **out_msg)
{
    CHECK(headers.count <= BUS_HEADER_MAX);
    if (data.size > BUS_MESSAGE_MAX || strlen(subject) > BUS_SUBJECT_MAX) {
        return ERR_LIMIT;
    }
    natsMsg *msg = NULL;
    natsStatus status =
        natsMsg_Create(&msg, subject, reply, (const char *)data.data, (int)data.size);
    for (size_t i = 0; i < headers.count && status == NATS_OK; i++) {
        status = natsMsgHeader_Set(msg, headers.items[i].name, headers.items[i].value);
    }
    if (status != NATS_OK) {
        natsMsg_Destroy(msg);
        return bus_err(status);
    }
    *out_msg = msg;
    return ERR_OK;
}

enum err bus_publish(struct bus *bus, const char *subject, const char *reply,
                     struct bus_headers headers, struct bytes data)
{
    natsMsg *msg = NULL;
    enum err err = bus_build(subject, reply, headers, data, &msg);
    if (err == ERR_OK) {
        err = bus_connected(bus) ? bus_err(natsConnection_PublishMsg(bus->connection, msg))
                                 : ERR_UNAVAILABLE;
        natsMsg_Destroy(msg);
    }
    return err;
}

enum err bus_request(struct bus *bus, const char *subject, struct bus_headers headers,
                     struct bytes data, uint32_t timeout_ms, struct bus_message **out_reply)
{
    natsMsg *msg = NULL;
    enum err err = bus_build(subject, NULL, headers, data, &msg);
    if (err != ERR_OK) {
        return err;
    }
    natsMsg *answer = NULL;
    err = bus_connected(bus) ? bus_err(natsConnection_RequestMsg(&answer, bus->connection, msg,
                                                                 timeout_ms == 0 ? 1 : timeout_ms))
                             : ERR_UNAVAILABLE;
    natsMsg_Destroy(msg);
    if (err != ERR_OK) {
        return err;
    }
    struct bus_message *reply = bus_message_wrap(answer, false);
    if (reply == NULL) {
        return ERR_NO_MEMORY;
    }
    *out_reply = reply;
    return ERR_OK;
}

/* ---- asynchronous requests: a table of slots; the id ends the inbox subject ---- */

/* Empties the slot of id, if it is still waiting. */
static bool take(struct bus *bus, uint64_t id, struct bus_pending *out_pending)
{
    bool found = false;
    pthread_mutex_lock(&bus->lock);
    struct bus_pending *slot = &bus->pending[id % BUS_REQUEST_MAX];
    if (id != 0 && slot->id == id) {
        *out_pending = *slot;
        slot->id = 0;
        bus->pending_count--;
        found = true;
    }
    pthread_mutex_unlock(&bus->lock);
    return found;
}

void bus_on_answer(natsConnection *connection, natsSubscription *subscription, natsMsg *msg,
                   void *context)
{
    (void)connection;
    (void)subscription;
    struct bus *bus = context;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    struct bus_pending pending;
    if (dot == NULL || !take(bus, strtoull(dot + 1, NULL, 10), &pending)) {
        natsMsg_Destroy(msg); /* too late: it was answered with ERR_TIMEOUT */
        return;
    }
    if (natsMsg_IsNoResponders(msg)) {
        natsMsg_Destroy(msg);
        pending.answer(pending.context, ERR_UNAVAILABLE, NULL);
        return;
    }
    struct bus_message *reply = bus_message_wrap(msg, false);
    pending.answer(pending.context, reply == NULL ? ERR_NO_MEMORY : ERR_OK, reply);
}

void bus_sweep(struct bus *bus)
{
    for (size_t i = 0; i < BUS_REQUEST_MAX; i++) {
        pthread_mutex_lock(&bus->lock);
        if (bus->pending_count == 0) {
            pthread_mutex_unlock(&bus->lock);
            return;
        }
        const struct bus_pending *slot = &bus->pending[i];
        bool late = slot->id != 0 && (bus->stopping || slot->deadline_ms <= clock_mono_ms());
        uint64_t id = slot->id;
        pthread_mutex_unlock(&bus->lock);
        struct bus_pending pending;
        if (late && take(bus, id, &pending)) {
            pending.answer(pending.context, ERR_TIMEOUT, NULL);
        }
    }
}

enum err bus_request_async(struct bus *bus, const char *subject, struct bus_headers headers,
                           struct bytes data, uint32_t timeout_ms, bus_answer *answer,
                           void *context)
{
    if (!bus_connected(bus)) {
        return ERR_UNAVAILABLE;
    }
    uint64_t id = 0;
    pthread_mutex_lock(&bus->lock);
    for (size_t tried = 0; tried < BUS_REQUEST_MAX && bus->pending_count < BUS_REQUEST_MAX;
         tried++) {
        uint64_t candidate = bus->next_id++;
        if (bus->pending[candidate % BUS_REQUEST_MAX].id == 0) {
            id = candidate;
            break;
        }
    }
    if (id != 0) {
        bus->pending[id % BUS_REQUEST_MAX] =
            (struct bus_pending){.id = id,
                                 .deadline_ms = clock_mono_ms() + timeout_ms,
                                 .answer = answer,
                                 .context = context};
        if (bus->pending_count++ == 0) {
            pthread_cond_broadcast(&bus->changed);
        }
    }
    pthread_mutex_unlock(&bus->lock);
    if (id == 0) {
        return ERR_LIMIT;
    }
    char inbox[BUS_INBOX_SIZE];
    (void)snprintf(inbox, sizeof inbox, "%.70s.%llu", bus->inbox, (unsigned long long)id);
    enum err err = bus_publish(bus, subject, inbox, headers, data);
    struct bus_pending pending;
    if (err != ERR_OK && !take(bus, id, &pending)) {
        err = ERR_OK; /* the sweep was faster: answer has been called */
    }
    return err;
}
