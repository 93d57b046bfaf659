/* publish.c - see publish.h. */
#include "services/lora-gateway/publish.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "openledger/v1/events.pb-c.h"
#include "shared/base/hex.h"
#include "shared/base/log.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/thread.h"

#define SUBJECT_RECEIPTS "ol.receipts.batch"
#define SUBJECT_OPENINGS "ol.openings.answer"
#define TAKE_MS 200 /* how often an idle thread looks whether it is to stop */

struct item {
    uint64_t index;
    bool again; /* published before */
    Openledger__V1__GatewayRecord *record;
};

struct publisher {
    struct bus *bus;
    struct blob_store *blobs;
    struct mailbox *mailbox; /* of items */
    struct thread *thread;
    _Atomic uint64_t done;
    _Atomic bool stopping;
};

static void item_destroy(void *message)
{
    struct item *item = message;
    openledger__v1__gateway_record__free_unpacked(item->record, NULL);
    free(item);
}

/* again: without an id, for the stream may remember it and its readers have lost the message. */
static enum err send(struct publisher *publisher, const char *subject, const struct digest *id,
                     bool again, const ProtobufCMessage *message, struct note *note)
{
    char text[2 * DIGEST_SIZE + 1];
    struct bus_publish_options options = {
        .id = again ? NULL : hex_encode(id->bytes, DIGEST_SIZE, text),
        .expect_sequence = BUS_ANY,
        .expect_subject_sequence = BUS_ANY,
    };
    struct buf data;
    buf_init(&data, BUS_MESSAGE_MAX);
    enum err err = ledger_pack(message, &data);
    if (err == ERR_OK) {
        err = bus_stream_publish(publisher->bus, subject, buf_bytes(&data), &options, NULL, note);
    }
    buf_deinit(&data);
    return err;
}

static enum err send_batch(struct publisher *publisher, struct bytes data, bool again,
                           struct note *note)
{
    struct digest digest;
    enum err err = blob_put(publisher->blobs, data, &digest, note);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, data.size, data.data);
    if (batch == NULL) {
        return note_set(note, ERR_CORRUPT, "batch cannot be decoded");
    }
    Openledger__V1__ReceiptBatchPublished event = OPENLEDGER__V1__RECEIPT_BATCH_PUBLISHED__INIT;
    struct digest *ids = calloc(batch->n_receipts, sizeof *ids);
    ProtobufCBinaryData *fields = calloc(batch->n_receipts, sizeof *fields);
    err = ids == NULL || fields == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; i < batch->n_receipts && err == ERR_OK; i++) {
        ledger_receipt_id(ledger_bytes(batch->receipts[i]), &ids[i]);
        fields[i] = ledger_binary(ids[i].bytes, DIGEST_SIZE);
    }
    if (err == ERR_OK) {
        event.batch = ledger_binary(digest.bytes, DIGEST_SIZE);
        event.n_receipts = batch->n_receipts;
        event.receipts = fields;
        err = send(publisher, SUBJECT_RECEIPTS, &digest, again, &event.base, note);
    }
    free(fields);
    free(ids);
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return err;
}

static enum err send_answer(struct publisher *publisher,
                            const Openledger__V1__GatewayFinished *finished, bool again,
                            struct note *note)
{
    struct digest id;
    ledger_receipt_id(ledger_bytes(finished->receipt), &id);
    Openledger__V1__Opening *opening =
        openledger__v1__opening__unpack(NULL, finished->opening.len, finished->opening.data);
    if (opening == NULL) {
        return note_set(note, ERR_CORRUPT, "opening cannot be decoded");
    }
    Openledger__V1__AnswerFinished event = OPENLEDGER__V1__ANSWER_FINISHED__INIT;
    event.receipt = ledger_binary(id.bytes, DIGEST_SIZE);
    event.receipt_bytes = finished->receipt;
    event.opening = opening;
    enum err err = send(publisher, SUBJECT_OPENINGS, &id, again, &event.base, note);
    openledger__v1__opening__free_unpacked(opening, NULL);
    return err;
}

static enum err send_item(struct publisher *publisher, const struct item *item, struct note *note)
{
    const Openledger__V1__GatewayRecord *record = item->record;
    if (record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH) {
        return send_batch(publisher, ledger_bytes(record->batch->batch), item->again, note);
    }
    if (record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED &&
        record->finished->opening.len > 0) {
        return send_answer(publisher, record->finished, item->again, note);
    }
    return ERR_OK;
}

static void publish_thread(void *argument)
{
    struct publisher *publisher = argument;
    void *message = NULL;
    while (!atomic_load(&publisher->stopping)) {
        enum err err = mailbox_take(publisher->mailbox, TAKE_MS, &message);
        if (err == ERR_TIMEOUT) {
            continue;
        }
        if (err != ERR_OK) {
            return;
        }
        struct item *item = message;
        struct note note = {.text = ""};
        uint32_t tries = 0;
        while ((err = send_item(publisher, item, &note)) != ERR_OK &&
               !atomic_load(&publisher->stopping)) {
            if (tries++ % 20 == 0) { /* a line every ten seconds */
                log_warn("publish_failed index=%llu tries=%u err=%s note=\"%s\"",
                         (unsigned long long)item->index, tries, err_name(err), note.text);
            }
            clock_sleep_ms(PUBLISH_RETRY_MS);
        }
        if (err == ERR_OK && !item->again) {
            atomic_store(&publisher->done, item->index + 1);
        }
        item_destroy(item);
    }
}

static enum err declare_streams(struct bus *bus, uint32_t replicas)
{
    static const char *const RECEIPTS[] = {"ol.receipts.>"};
    static const char *const OPENINGS[] = {"ol.openings.>"};
    struct bus_stream receipts = {.name = "OL_RECEIPTS",
                                  .subjects = RECEIPTS,
                                  .subject_count = 1,
                                  .retention = BUS_KEEP,
                                  .replicas = replicas};
    struct bus_stream openings = {.name = "OL_OPENINGS",
                                  .subjects = OPENINGS,
                                  .subject_count = 1,
                                  .retention = BUS_KEEP,
                                  .replicas = replicas};
    enum err err = bus_stream_declare(bus, &receipts);
    return err != ERR_OK ? err : bus_stream_declare(bus, &openings);
}

enum err publisher_create(struct bus *bus, struct blob_store *blobs, uint32_t replicas,
                          uint64_t first, struct publisher **out, struct note *note)
{
    enum err err = declare_streams(bus, replicas);
    if (err != ERR_OK) {
        return err;
    }
    struct publisher *publisher = calloc(1, sizeof *publisher);
    if (publisher == NULL) {
        return ERR_NO_MEMORY;
    }
    publisher->bus = bus;
    publisher->blobs = blobs;
    atomic_store(&publisher->done, first);
    publisher->mailbox = mailbox_create(PUBLISH_QUEUE_MAX);
    err = publisher->mailbox == NULL
              ? ERR_NO_MEMORY
              : thread_start("publish", publish_thread, publisher, &publisher->thread, note);
    if (err != ERR_OK) {
        publisher_destroy(publisher);
        return err;
    }
    *out = publisher;
    return ERR_OK;
}

void publisher_destroy(struct publisher *publisher)
{
    if (publisher == NULL) {
        return;
    }
    atomic_store(&publisher->stopping, true);
    if (publisher->mailbox != NULL) {
        mailbox_close(publisher->mailbox);
        thread_join(publisher->thread);
        mailbox_destroy(publisher->mailbox, item_destroy);
    }
    free(publisher);
}

static enum err post(struct publisher *publisher, const struct item *wanted)
{
    struct item *item = calloc(1, sizeof *item);
    if (item == NULL) {
        return ERR_NO_MEMORY;
    }
    *item = *wanted;
    enum err err = mailbox_post(publisher->mailbox, item);
    if (err != ERR_OK) {
        free(item);
    }
    return err;
}

enum err publisher_post(struct publisher *publisher, uint64_t index,
                        Openledger__V1__GatewayRecord *record)
{
    return post(publisher, &(struct item){.index = index, .record = record});
}

enum err publisher_post_again(struct publisher *publisher, uint64_t index,
                              Openledger__V1__GatewayRecord *record)
{
    return post(publisher, &(struct item){.index = index, .again = true, .record = record});
}

uint64_t publisher_done(struct publisher *publisher)
{
    return atomic_load(&publisher->done);
}
