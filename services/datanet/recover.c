/* recover.c - see recover.h. */
#include "services/datanet/recover.h"

#include <string.h>

#include "services/datanet/datanet.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/platform/random.h"

struct search {
    struct datanet_store *store;
    struct blob_store *blobs;
    const struct ledger *ledger;
    struct buf content; /* of the blob in hand */
    uint64_t count;
    struct note *note;
};

/* May this be a contribution's content? Cheap, and true of few: the rest is datanet_content_check(). */
static bool resembles(const struct ledger_contribution *contribution,
                      const Openledger__V1__Contribution *content)
{
    return contribution->accepted_rows == 0 &&
           contribution->state != LEDGER_CONTRIBUTION_WITHDRAWN &&
           strcmp(content->datanet, contribution->datanet) == 0 &&
           content->n_rows == contribution->row_count;
}

static enum err note_upload(struct search *search, const struct digest *contribution,
                            const struct digest *blob)
{
    struct upload upload = {.contribution = *contribution,
                            .size = search->content.size,
                            .digest = *blob,
                            .finished = true};
    random_bytes(upload.token, sizeof upload.token);
    enum err err = datanet_store_put(search->store, &upload, search->note);
    err = err ? err : datanet_store_discard(search->store, contribution, search->note);
    search->count += err == ERR_OK;
    return err;
}

static enum err match(struct search *search, const struct digest *blob,
                      const Openledger__V1__Contribution *content)
{
    enum err err = ERR_OK;
    const struct ledger_contribution *contribution = NULL;
    while (err == ERR_OK &&
           (contribution = ledger_next_contribution(search->ledger, contribution)) != NULL) {
        if (resembles(contribution, content) &&
            datanet_content_check(search->ledger, contribution, buf_bytes(&search->content),
                                  NULL) == ERR_OK) {
            err = note_upload(search, &contribution->id, blob);
        }
    }
    return err;
}

static enum err on_blob(void *context, const struct digest *blob)
{
    struct search *search = context;
    ProtobufCMessage *message = NULL;
    buf_clear(&search->content);
    enum err err = blob_get(search->blobs, blob, &search->content, search->note);
    if (err == ERR_LIMIT || err == ERR_CORRUPT || err == ERR_NOT_FOUND) {
        return ERR_OK; /* too large for one, damaged, removed just now */
    }
    err = err ? err
              : ledger_unpack(&openledger__v1__contribution__descriptor, "contribution",
                              buf_bytes(&search->content), &message, search->note);
    if (err != ERR_OK) {
        return err == ERR_INVALID ? ERR_OK : err; /* something else */
    }
    err = match(search, blob, (const Openledger__V1__Contribution *)message);
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

enum err datanet_recover(struct datanet_store *store, struct blob_store *blobs,
                         const struct ledger *ledger, uint64_t *out_count, struct note *note)
{
    struct search search = {.store = store, .blobs = blobs, .ledger = ledger, .note = note};
    buf_init(&search.content, LEDGER_CONTRIBUTION_SIZE_MAX);
    enum err err = blob_each(blobs, on_blob, &search, note);
    buf_deinit(&search.content);
    if (err == ERR_OK) {
        *out_count = search.count;
    }
    return err;
}
