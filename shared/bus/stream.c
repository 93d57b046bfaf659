/* stream.c - JetStream: publishing, durable consumers, ordered replay; see bus.h.
 *
 * Consumers and replays pull. What they hold on the server is made again after every reconnect, so a
 * server that restarted, or lost its disk, needs no special case. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/bus/internal.h"
#include "shared/platform/clock.h"

#define BUS_NAME_MAX 64
#define BUS_REPLAY_BATCH 256
#define BUS_IDLE_S 300 /* the server forgets a replay's position that nobody asks for */

enum err bus_stream_publish(struct bus *bus, const char *subject, struct bytes data,
                            const struct bus_publish_options *options,
                            struct bus_receipt *out_receipt, struct note *note)
{
    static const struct bus_publish_options none = {0};
    options = options == NULL ? &none : options;
    natsMsg *msg = NULL;
    enum err err = bus_build(subject, NULL, options->headers, data, &msg);
    if (err != ERR_OK) {
        return note_set(note, err, "message of %zu bytes for %s: the limit is %u", data.size,
                        subject, BUS_MESSAGE_MAX);
    }
    natsStatus status = NATS_OK;
    char number[24];
    if (options->id != NULL) {
        status = natsMsgHeader_Set(msg, "Nats-Msg-Id", options->id);
    }
    if (status == NATS_OK && options->expect_last && options->expect_sequence != BUS_ANY) {
        (void)snprintf(number, sizeof number, "%" PRIu64, options->expect_sequence);
        status = natsMsgHeader_Set(msg, "Nats-Expected-Last-Sequence", number);
    }
    if (status == NATS_OK && options->expect_last && options->expect_subject_sequence != BUS_ANY) {
        (void)snprintf(number, sizeof number, "%" PRIu64, options->expect_subject_sequence);
        status = natsMsgHeader_Set(msg, "Nats-Expected-Last-Subject-Sequence", number);
    }
    jsPubOptions publish;
    jsPubOptions_Init(&publish);
    publish.MaxWait = options->timeout_ms == 0 ? BUS_CALL_MS : options->timeout_ms;
    jsErrCode code = 0;
    jsPubAck *ack = NULL;
    if (status == NATS_OK) {
        status = bus_connected(bus) ? js_PublishMsg(&ack, bus->stream_context, msg, &publish, &code)
                                    : NATS_CONNECTION_DISCONNECTED;
    }
    natsMsg_Destroy(msg);
    if (status != NATS_OK) {
        err = code == JSStreamWrongLastSequenceErr ? ERR_CONFLICT : bus_err(status);
        return note_set(note, err, "publish to %s: %s (%d)", subject, natsStatus_GetText(status),
                        (int)code);
    }
    if (out_receipt != NULL) {
        *out_receipt = (struct bus_receipt){.sequence = ack->Sequence, .duplicate = ack->Duplicate};
    }
    jsPubAck_Destroy(ack);
    return ERR_OK;
}

enum err bus_stream_last(struct bus *bus, const char *stream, uint64_t *out_sequence)
{
    if (!bus_connected(bus)) {
        return ERR_UNAVAILABLE;
    }
    jsStreamInfo *info = NULL;
    natsStatus status = js_GetStreamInfo(&info, bus->stream_context, stream, NULL, NULL);
    if (status == NATS_OK) {
        *out_sequence = info->State.LastSeq;
        jsStreamInfo_Destroy(info);
    }
    return bus_err(status);
}

/* ---- pulling, shared by consumers and replays ---- */

struct bus_consumer {
    struct bus *bus;
    char stream[BUS_NAME_MAX];
    char durable[BUS_NAME_MAX]; /* "": ephemeral, a replay */
    char filter[BUS_SUBJECT_MAX + 1];
    char name[BUS_NAME_MAX]; /* what the server calls it */
    uint32_t ack_wait_ms;
    uint32_t ack_pending_max;
    uint64_t first; /* replay: start here */
    natsSubscription *subscription;
    uint64_t generation; /* of the connection that subscription was made on */
};

static MUST_USE bool copy_text(char *out, size_t out_size, const char *text)
{
    size_t size = text == NULL ? 0 : strlen(text);
    if (size >= out_size) {
        return false;
    }
    memcpy(out, text == NULL ? "" : text, size + 1);
    return true;
}

enum err bus_consumer_open(struct bus *bus, const struct bus_consumer_config *config,
                           struct bus_consumer **out_consumer)
{
    struct bus_consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL) {
        return ERR_NO_MEMORY;
    }
    if (!copy_text(consumer->stream, sizeof consumer->stream, config->stream) ||
        !copy_text(consumer->durable, sizeof consumer->durable, config->durable) ||
        !copy_text(consumer->filter, sizeof consumer->filter, config->filter)) {
        free(consumer);
        return ERR_LIMIT;
    }
    consumer->bus = bus;
    consumer->ack_wait_ms = config->ack_wait_ms == 0 ? 30000 : config->ack_wait_ms;
    consumer->ack_pending_max = config->ack_pending_max == 0 ? 1000 : config->ack_pending_max;
    *out_consumer = consumer;
    return ERR_OK;
}

static void drop_subscription(struct bus_consumer *consumer)
{
    if (consumer->subscription != NULL) {
        (void)natsSubscription_Unsubscribe(consumer->subscription);
        natsSubscription_Destroy(consumer->subscription);
        consumer->subscription = NULL;
    }
    if (consumer->durable[0] == '\0' && consumer->name[0] != '\0' && bus_connected(consumer->bus)) {
        (void)js_DeleteConsumer(consumer->bus->stream_context, consumer->stream, consumer->name,
                                NULL, NULL);
    }
    consumer->name[0] = '\0';
}

void bus_consumer_close(struct bus_consumer *consumer)
{
    if (consumer != NULL) {
        drop_subscription(consumer);
        free(consumer);
    }
}

/* A stream that lost its end with its disk leaves a durable position behind that is past it: the server
 * would pass over everything new until the stream is as long again. Such a position is forgotten, so that
 * the consumer begins at the first message that is left. */
static natsStatus forget_position_past_end(struct bus_consumer *consumer,
                                           const jsConsumerInfo *info, bool *out_forgotten)
{
    jsStreamInfo *stream = NULL;
    jsCtx *context = consumer->bus->stream_context;
    natsStatus status = js_GetStreamInfo(&stream, context, consumer->stream, NULL, NULL);
    if (status != NATS_OK) {
        return status;
    }
    *out_forgotten = info->Delivered.Stream > stream->State.LastSeq;
    jsStreamInfo_Destroy(stream);
    return *out_forgotten
               ? js_DeleteConsumer(context, consumer->stream, consumer->durable, NULL, NULL)
               : NATS_OK;
}

/* Makes the server's consumer (or finds it) and binds to it. */
static natsStatus attach(struct bus_consumer *consumer)
{
    struct bus *bus = consumer->bus;
    uint64_t generation = bus_generation(bus);
    if (consumer->subscription != NULL && consumer->generation == generation) {
        return NATS_OK;
    }
    drop_subscription(consumer);
    bool replay = consumer->durable[0] == '\0';
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = replay ? NULL : consumer->durable;
    config.FilterSubject = consumer->filter[0] == '\0' ? NULL : consumer->filter;
    config.ReplayPolicy = js_ReplayInstant;
    if (replay) {
        config.AckPolicy = js_AckNone;
        config.DeliverPolicy = js_DeliverByStartSequence;
        config.OptStartSeq = consumer->first;
        config.InactiveThreshold = (int64_t)BUS_IDLE_S * 1000000000;
    } else {
        config.AckPolicy = js_AckExplicit;
        config.DeliverPolicy = js_DeliverAll;
        config.AckWait = (int64_t)consumer->ack_wait_ms * 1000000;
        config.MaxAckPending = consumer->ack_pending_max;
        config.MaxDeliver = -1;
    }
    jsConsumerInfo *info = NULL;
    natsStatus status =
        js_AddConsumer(&info, bus->stream_context, consumer->stream, &config, NULL, NULL);
    bool forgotten = false;
    if (status == NATS_OK && !replay) {
        status = forget_position_past_end(consumer, info, &forgotten);
    }
    if (status == NATS_OK && forgotten) {
        jsConsumerInfo_Destroy(info);
        info = NULL;
        status = js_AddConsumer(&info, bus->stream_context, consumer->stream, &config, NULL, NULL);
    }
    if (status != NATS_OK) {
        jsConsumerInfo_Destroy(info);
        return status;
    }
    CHECK(copy_text(consumer->name, sizeof consumer->name, info->Name));
    jsConsumerInfo_Destroy(info);
    jsSubOptions bind;
    jsSubOptions_Init(&bind);
    bind.Stream = consumer->stream;
    bind.Consumer = consumer->name;
    bind.ManualAck = true;
    status = js_PullSubscribe(&consumer->subscription, bus->stream_context,
                              config.FilterSubject == NULL ? "" : config.FilterSubject,
                              replay ? NULL : consumer->durable, NULL, &bind, NULL);
    if (status == NATS_OK) {
        consumer->generation = generation;
    }
    return status;
}

enum err bus_fetch(struct bus_consumer *consumer, size_t max, uint32_t timeout_ms,
                   struct bus_message **out_messages, size_t *out_count)
{
    CHECK(max >= 1 && max <= BUS_FETCH_MAX);
    *out_count = 0;
    if (!bus_connected(consumer->bus)) {
        return ERR_UNAVAILABLE;
    }
    if (attach(consumer) != NATS_OK) {
        return ERR_UNAVAILABLE;
    }
    natsMsgList list = {0};
    natsStatus status = natsSubscription_Fetch(&list, consumer->subscription, (int)max,
                                               timeout_ms == 0 ? 1 : timeout_ms, NULL);
    if (status == NATS_TIMEOUT || (status == NATS_OK && list.Count == 0)) {
        return ERR_TIMEOUT;
    }
    if (status != NATS_OK) {
        drop_subscription(consumer);
        return ERR_UNAVAILABLE;
    }
    enum err err = ERR_OK;
    size_t count = 0;
    for (int i = 0; i < list.Count; i++) {
        struct bus_message *message = bus_message_wrap(list.Msgs[i], true);
        list.Msgs[i] = NULL;
        if (message == NULL) {
            err = ERR_NO_MEMORY; /* not acknowledged: it comes again */
        } else {
            out_messages[count++] = message;
        }
    }
    natsMsgList_Destroy(&list);
    *out_count = count;
    return count > 0 ? ERR_OK : err;
}

/* ---- replay ---- */

struct bus_replay {
    struct bus_consumer consumer; /* first: the sequence wanted next */
    struct bus_message *messages[BUS_REPLAY_BATCH];
    size_t next, count;
    uint64_t consumer_sequence; /* of the last message handed out on this position */
};

enum err bus_replay_open(struct bus *bus, const char *stream, const char *filter, uint64_t first,
                         struct bus_replay **out_replay)
{
    struct bus_replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL) {
        return ERR_NO_MEMORY;
    }
    replay->consumer.bus = bus;
    replay->consumer.first = first == 0 ? 1 : first;
    if (!copy_text(replay->consumer.stream, sizeof replay->consumer.stream, stream) ||
        !copy_text(replay->consumer.filter, sizeof replay->consumer.filter, filter)) {
        free(replay);
        return ERR_LIMIT;
    }
    *out_replay = replay;
    return ERR_OK;
}

static void forget_fetched(struct bus_replay *replay)
{
    while (replay->next < replay->count) {
        bus_message_destroy(replay->messages[replay->next++]);
    }
}

void bus_replay_close(struct bus_replay *replay)
{
    if (replay != NULL) {
        forget_fetched(replay);
        drop_subscription(&replay->consumer);
        free(replay);
    }
}

enum err bus_replay_next(struct bus_replay *replay, uint32_t timeout_ms,
                         struct bus_message **out_message)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    for (;;) {
        if (replay->next == replay->count) {
            uint64_t now_ms = clock_mono_ms();
            const natsSubscription *before = replay->consumer.subscription;
            uint64_t generation = replay->consumer.generation;
            replay->next = replay->count = 0;
            enum err err = bus_fetch(&replay->consumer, BUS_REPLAY_BATCH,
                                     now_ms < end_ms ? (uint32_t)(end_ms - now_ms) : 1,
                                     replay->messages, &replay->count);
            if (replay->consumer.subscription != before ||
                replay->consumer.generation != generation) {
                replay->consumer_sequence = 0; /* a new position numbers from 1 */
            }
            if (err != ERR_OK) {
                return err;
            }
        }
        struct bus_message *message = replay->messages[replay->next++];
        if (message->consumer_sequence == replay->consumer_sequence + 1 &&
            message->sequence >= replay->consumer.first) {
            replay->consumer_sequence++;
            replay->consumer.first = message->sequence + 1;
            *out_message = message;
            return ERR_OK;
        }
        /* A message was lost on the way: begin again behind the last one handed out. */
        bus_message_destroy(message);
        forget_fetched(replay);
        drop_subscription(&replay->consumer);
        replay->consumer_sequence = 0;
        if (clock_mono_ms() >= end_ms) {
            return ERR_TIMEOUT;
        }
    }
}
