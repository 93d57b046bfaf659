/* api.c - RPC handlers of the datanet: decode, check, call, encode.
 *
 * An upload goes: committed on the ledger -> begun (signed by the contributor, gives a token) ->
 * chunks, each on disk before it is answered -> finished: bytes against the announced digest, content
 * against the commitment, blob stored, and only then the upload is marked whole. A kill between any
 * two of these repeats the last one. */
#include "services/datanet/api.h"

#include <string.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/platform/random.h"

enum { CHUNK_MAX = 256 * 1024 };

static enum err ledger_of(const struct datanet_api *api, struct rpc_call *call,
                          const struct ledger **out_ledger)
{
    *out_ledger = follow_ledger(api->follow);
    if (*out_ledger == NULL) {
        return note_set(rpc_note(call), ERR_UNAVAILABLE, "the ledger has not been read yet");
    }
    return ERR_OK;
}

/* The contribution that a request names. */
static enum err contribution_of(const struct datanet_api *api, struct rpc_call *call,
                                ProtobufCBinaryData id,
                                const struct ledger_contribution **out_contribution)
{
    const struct ledger *ledger;
    struct digest digest;
    enum err err = ledger_of(api, call, &ledger);
    if (err != ERR_OK) {
        return err;
    }
    if (digest_from_bytes(ledger_bytes(id), &digest) != ERR_OK) {
        return note_set(rpc_note(call), ERR_INVALID, "contribution has %zu bytes, not 32", id.len);
    }
    *out_contribution = ledger_contribution(ledger, &digest);
    if (*out_contribution == NULL) {
        char text[DIGEST_TEXT_SIZE];
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no contribution %s on the ledger",
                        digest_format(&digest, text));
    }
    return ERR_OK;
}

static enum err reply_upload(const struct datanet_api *api, struct rpc_call *call,
                             const struct upload *upload, bool with_token)
{
    Openledger__V1__UploadState reply = OPENLEDGER__V1__UPLOAD_STATE__INIT;
    struct upload copy = *upload;
    uint64_t received = upload->size;
    if (!upload->finished) {
        enum err err =
            datanet_store_received(api->store, &copy.contribution, &received, rpc_note(call));
        if (err != ERR_OK) {
            return err;
        }
    }
    reply.contribution = ledger_binary(copy.contribution.bytes, DIGEST_SIZE);
    reply.size = copy.size;
    reply.received = received;
    reply.finished = copy.finished;
    if (with_token) {
        reply.token = ledger_binary(copy.token, UPLOAD_TOKEN_SIZE);
    }
    return rpc_reply(call, &reply);
}

/* Did the contributor's current key sign this announcement? */
static enum err begin_signature(const struct datanet_api *api, struct rpc_call *call,
                                const struct ledger_contribution *contribution,
                                const Openledger__V1__BeginUploadRequest *request)
{
    static const char DOMAIN[] = "openledger/upload/v1";
    const struct ledger *ledger = follow_ledger(api->follow);
    const struct ledger_account *account = ledger_account(ledger, &contribution->contributor);
    struct ledger_head head;
    struct signature signature;
    ledger_head(ledger, &head);
    if (account == NULL || !account->has_key || request->key.len != PUBLIC_KEY_SIZE ||
        memcmp(request->key.data, account->key.bytes, PUBLIC_KEY_SIZE) != 0 ||
        request->signature.len != SIGNATURE_SIZE) {
        return note_set(rpc_note(call), ERR_DENIED,
                        "the key is not the current key of the contributor");
    }
    struct buf message;
    buf_init(&message, 256);
    buf_append(&message, DOMAIN, sizeof DOMAIN); /* with its NUL */
    buf_append(&message, head.chain_id.bytes, DIGEST_SIZE);
    buf_append(&message, contribution->id.bytes, DIGEST_SIZE);
    buf_append_u64be(&message, request->size);
    buf_append_bytes(&message, ledger_bytes(request->digest));
    enum err err = buf_err(&message);
    (void)memcpy(signature.bytes, request->signature.data, SIGNATURE_SIZE);
    if (err == ERR_OK && !signature_verify(&account->key, buf_bytes(&message), &signature)) {
        err = note_set(rpc_note(call), ERR_DENIED, "the upload's signature is not valid");
    }
    buf_deinit(&message);
    return err;
}

static enum err begin_upload(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const Openledger__V1__BeginUploadRequest *request = message;
    const struct ledger_contribution *contribution;
    struct upload wanted = {.size = request->size};
    enum err err = contribution_of(api, call, request->contribution, &contribution);
    if (err != ERR_OK) {
        return err;
    }
    wanted.contribution = contribution->id;
    if (request->size == 0 || request->size > LEDGER_CONTRIBUTION_SIZE_MAX) {
        return note_set(rpc_note(call), ERR_LIMIT,
                        "the contribution has %llu bytes, the limit is %u",
                        (unsigned long long)request->size, LEDGER_CONTRIBUTION_SIZE_MAX);
    }
    if (digest_from_bytes(ledger_bytes(request->digest), &wanted.digest) != ERR_OK) {
        return note_set(rpc_note(call), ERR_INVALID, "digest has %zu bytes, not 32",
                        request->digest.len);
    }
    err = begin_signature(api, call, contribution, request);
    if (err != ERR_OK) {
        return err;
    }
    struct upload known;
    err = datanet_store_get(api->store, &wanted.contribution, &known, rpc_note(call));
    if (err == ERR_OK && (known.finished || (known.size == wanted.size &&
                                             digest_equal(&known.digest, &wanted.digest)))) {
        return reply_upload(api, call, &known, true); /* go on where it stopped */
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    /* New, or announced differently before: what was received then is worth nothing now. */
    random_bytes(wanted.token, sizeof wanted.token);
    err = datanet_store_discard(api->store, &wanted.contribution, rpc_note(call));
    err = err != ERR_OK ? err : datanet_store_put(api->store, &wanted, rpc_note(call));
    return err != ERR_OK ? err : reply_upload(api, call, &wanted, true);
}

/* The upload that a request names and may write to. */
static enum err upload_of(const struct datanet_api *api, struct rpc_call *call,
                          ProtobufCBinaryData id, const ProtobufCBinaryData *token,
                          struct upload *out_upload)
{
    struct digest digest;
    if (digest_from_bytes(ledger_bytes(id), &digest) != ERR_OK) {
        return note_set(rpc_note(call), ERR_INVALID, "contribution has %zu bytes, not 32", id.len);
    }
    enum err err = datanet_store_get(api->store, &digest, out_upload, rpc_note(call));
    if (err == ERR_NOT_FOUND) {
        return note_set(rpc_note(call), err, "no upload was begun for this contribution");
    }
    if (err == ERR_OK && token != NULL &&
        (token->len != UPLOAD_TOKEN_SIZE ||
         !secret_equal(token->data, out_upload->token, UPLOAD_TOKEN_SIZE))) {
        return note_set(rpc_note(call), ERR_DENIED,
                        "the upload token is not the one that was given");
    }
    return err;
}

static enum err put_chunk(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const Openledger__V1__PutChunkRequest *request = message;
    struct upload upload;
    uint64_t received = 0;
    enum err err = upload_of(api, call, request->contribution, &request->token, &upload);
    if (err != ERR_OK || upload.finished) {
        return err != ERR_OK ? err : reply_upload(api, call, &upload, false);
    }
    if (request->data.len > CHUNK_MAX) {
        return note_set(rpc_note(call), ERR_LIMIT, "the chunk has %zu bytes, the limit is %d",
                        request->data.len, CHUNK_MAX);
    }
    err = datanet_store_received(api->store, &upload.contribution, &received, rpc_note(call));
    if (err != ERR_OK) {
        return err;
    }
    if (request->offset > received || request->offset + request->data.len > upload.size) {
        return note_set(rpc_note(call), ERR_RANGE,
                        "chunk at %llu with %zu bytes: %llu of %llu bytes are here",
                        (unsigned long long)request->offset, request->data.len,
                        (unsigned long long)received, (unsigned long long)upload.size);
    }
    if (request->offset == received) {
        err = datanet_store_append(api->store, &upload.contribution, received,
                                   ledger_bytes(request->data), rpc_note(call));
    }
    return err != ERR_OK ? err : reply_upload(api, call, &upload, false);
}

static enum err get_upload(void *context, struct rpc_call *call, const void *message)
{
    const Openledger__V1__GetUploadRequest *request = message;
    struct upload upload;
    enum err err = upload_of(context, call, request->contribution, NULL, &upload);
    return err != ERR_OK ? err : reply_upload(context, call, &upload, false);
}

static enum err reply_contribution(struct datanet_api *api, struct rpc_call *call,
                                   const struct ledger_contribution *contribution)
{
    Openledger__V1__ContributionRecord *record;
    enum err err = datanet_contribution(api->datanet, follow_ledger(api->follow), contribution,
                                        rpc_arena(call), &record, rpc_note(call));
    return err != ERR_OK ? err : rpc_reply(call, record);
}

/* Whole and as committed: then it becomes a blob. What is not as committed starts over; where only the disk did
 * not take it (ERR_FULL), the bytes stay and the caller finishes again. */
static enum err accept_bytes(struct datanet_api *api, struct rpc_call *call,
                             const struct ledger_contribution *contribution, struct upload *upload)
{
    struct buf content;
    struct digest digest;
    buf_init(&content, LEDGER_CONTRIBUTION_SIZE_MAX);
    enum err err = datanet_store_read(api->store, &upload->contribution, &content, rpc_note(call));
    bool read = err == ERR_OK; /* else what follows says nothing about the content */
    if (read && content.size < upload->size) {
        err = note_set(rpc_note(call), ERR_CONFLICT, "%zu of %llu bytes are here: send the rest",
                       content.size, (unsigned long long)upload->size);
        buf_deinit(&content);
        return err;
    }
    if (err == ERR_OK) {
        sha256(buf_bytes(&content), &digest);
        if (!digest_equal(&digest, &upload->digest)) {
            err = note_set(rpc_note(call), ERR_INVALID,
                           "the bytes received do not have the announced digest");
        }
    }
    if (err == ERR_OK) {
        err = datanet_content_check(follow_ledger(api->follow), contribution, buf_bytes(&content),
                                    rpc_note(call));
    }
    if (read && (err == ERR_INVALID || err == ERR_LIMIT)) {
        enum err discarded = datanet_store_discard(api->store, &upload->contribution, NULL);
        err = discarded == ERR_OK ? err : discarded;
    }
    err = err != ERR_OK
              ? err
              : blob_put(api->blobs, buf_bytes(&content), &upload->digest, rpc_note(call));
    buf_deinit(&content);
    if (err == ERR_OK) {
        upload->finished = true;
        err = datanet_store_put(api->store, upload, rpc_note(call));
    }
    return err != ERR_OK ? err
                         : datanet_store_discard(api->store, &upload->contribution, rpc_note(call));
}

static enum err finish_upload(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const Openledger__V1__FinishUploadRequest *request = message;
    const struct ledger_contribution *contribution;
    struct upload upload;
    enum err err = contribution_of(api, call, request->contribution, &contribution);
    err =
        err != ERR_OK ? err : upload_of(api, call, request->contribution, &request->token, &upload);
    if (err == ERR_OK && !upload.finished) {
        err = accept_bytes(api, call, contribution, &upload);
    }
    return err != ERR_OK ? err : reply_contribution(api, call, contribution);
}

static enum err get_contribution(void *context, struct rpc_call *call, const void *message)
{
    const Openledger__V1__GetContributionRequest *request = message;
    const struct ledger_contribution *contribution;
    enum err err = contribution_of(context, call, request->contribution, &contribution);
    return err != ERR_OK ? err : reply_contribution(context, call, contribution);
}

static enum err list_contributions(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const Openledger__V1__ListContributionsRequest *request = message;
    const struct ledger *ledger;
    uint32_t size = request->page_size == 0 ? DATANET_PAGE_DEFAULT : request->page_size;
    if (size > DATANET_PAGE_MAX) {
        return note_set(rpc_note(call), ERR_LIMIT, "page size %u is above the limit of %d", size,
                        DATANET_PAGE_MAX);
    }
    uint64_t after = 0; /* log index of the last one on the page before */
    for (const char *c = request->page_token; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || after > UINT64_MAX / 100) {
            return note_set(rpc_note(call), ERR_INVALID, "the page token is not one of ours");
        }
        after = after * 10 + (uint64_t)(*c - '0');
    }
    Openledger__V1__ListContributionsReply reply = OPENLEDGER__V1__LIST_CONTRIBUTIONS_REPLY__INIT;
    Openledger__V1__ContributionRecord **records =
        arena_alloc_array(rpc_arena(call), size, sizeof(Openledger__V1__ContributionRecord *));
    enum err err = ledger_of(api, call, &ledger);
    err = err == ERR_OK && records == NULL ? ERR_LIMIT : err;
    const struct ledger_contribution *last = NULL;
    for (const struct ledger_contribution *contribution =
             err == ERR_OK ? ledger_next_contribution(ledger, NULL) : NULL;
         contribution != NULL && err == ERR_OK;
         contribution = ledger_next_contribution(ledger, contribution)) {
        if (contribution->index <= after || strcmp(contribution->datanet, request->datanet) != 0) {
            continue;
        }
        if (reply.n_contributions == size) {
            reply.next_page_token =
                arena_printf(rpc_arena(call), "%llu", (unsigned long long)last->index);
            err = reply.next_page_token == NULL ? ERR_LIMIT : ERR_OK;
            break;
        }
        last = contribution;
        err = datanet_contribution(api->datanet, ledger, contribution, rpc_arena(call),
                                   &records[reply.n_contributions], rpc_note(call));
        reply.n_contributions += err == ERR_OK;
    }
    reply.contributions = records;
    return err != ERR_OK ? err : rpc_reply(call, &reply);
}

static enum err prepare_version(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const Openledger__V1__PrepareVersionRequest *request = message;
    const struct ledger *ledger;
    Openledger__V1__PreparedVersion reply = OPENLEDGER__V1__PREPARED_VERSION__INIT;
    enum err err = ledger_of(api, call, &ledger);
    if (err == ERR_OK) {
        struct ledger_head head;
        ledger_head(ledger, &head);
        if (head.index < request->after_index) {
            return note_set(
                rpc_note(call), ERR_UNAVAILABLE, "the ledger is read up to entry %llu, not %llu",
                (unsigned long long)head.index, (unsigned long long)request->after_index);
        }
    }
    err = err != ERR_OK ? err
                        : datanet_prepare_version(api->datanet, ledger, request->datanet,
                                                  rpc_arena(call), &reply.action, rpc_note(call));
    return err != ERR_OK ? err : rpc_reply(call, &reply);
}

static enum err list_rows(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const struct ledger *ledger;
    Openledger__V1__ListRowsReply *reply;
    enum err err = ledger_of(api, call, &ledger);
    err = err != ERR_OK
              ? err
              : datanet_rows(api->blobs, ledger, message, rpc_arena(call), &reply, rpc_note(call));
    return err != ERR_OK ? err : rpc_reply(call, reply);
}

static enum err prove_row(void *context, struct rpc_call *call, const void *message)
{
    struct datanet_api *api = context;
    const struct ledger *ledger;
    Openledger__V1__RowProof *proof;
    enum err err = ledger_of(api, call, &ledger);
    err = err != ERR_OK ? err
                        : datanet_prove_row(api->blobs, ledger, message, rpc_arena(call), &proof,
                                            rpc_note(call));
    return err != ERR_OK ? err : rpc_reply(call, proof);
}

static const struct rpc_binding BINDINGS[] = {
    {"BeginUpload", begin_upload},
    {"PutChunk", put_chunk},
    {"GetUpload", get_upload},
    {"FinishUpload", finish_upload},
    {"GetContribution", get_contribution},
    {"ListContributions", list_contributions},
    {"PrepareVersion", prepare_version},
    {"ListRows", list_rows},
    {"ProveRow", prove_row},
};

const struct rpc_service datanet_rpc = {.descriptor = &openledger__v1__datanet__descriptor,
                                        .bindings = BINDINGS,
                                        .count = sizeof BINDINGS / sizeof BINDINGS[0]};
