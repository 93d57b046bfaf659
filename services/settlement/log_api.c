/* log_api.c - the methods on the public log, and proofs of accounts, which wait: see api.h. */
#include <stdlib.h>
#include <string.h>

#include "services/settlement/answer.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/tlog/tile.h"

enum {
    PROOF_PATH_MAX = 65536, /* bytes of a way through the state: 256 steps of 40 and a record */
    PROOF_WAIT_MS = 3000    /* how long a proof waits for cosignatures */
};

enum err log_get_checkpoint(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    struct public_log_state state;
    struct buf note;
    (void)message;
    buf_init(&note, SIGNED_NOTE_MAX);
    public_log_state(desk->public_log, &state, &note);
    Openledger__V1__Checkpoint checkpoint = OPENLEDGER__V1__CHECKPOINT__INIT;
    checkpoint.note = arena_strdup(rpc_arena(call), buf_text(&note));
    checkpoint.height = state.height;
    checkpoint.cosignatures = state.cosignatures;
    checkpoint.quorum = ledger_witnesses(settlement_ledger(desk->settlement))->quorum;
    checkpoint.final = state.final;
    buf_deinit(&note);
    if (state.height == 0) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no checkpoint was published yet");
    }
    return checkpoint.note == NULL ? ERR_LIMIT : rpc_reply(call, &checkpoint);
}

enum err log_get_file(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetLogFileRequest *request = message;
    struct public_log_file file;
    struct buf data;
    buf_init(&data, TLOG_BUNDLE_MAX);
    enum err err = public_log_file(desk->public_log, request->path, &data, &file, rpc_note(call));
    if (err == ERR_OK && request->offset > data.size) {
        err = note_set(rpc_note(call), ERR_RANGE, "offset %llu of a file of %zu bytes",
                       (unsigned long long)request->offset, data.size);
    }
    if (err == ERR_OK) {
        size_t size = data.size - request->offset;
        size = size < ANSWER_BYTES_MAX ? size : ANSWER_BYTES_MAX;
        Openledger__V1__LogFile reply = OPENLEDGER__V1__LOG_FILE__INIT;
        reply.data = ledger_binary(data.data + request->offset, size);
        reply.size = data.size;
        reply.content_type = arena_strdup(rpc_arena(call), file.content_type);
        reply.immutable = file.immutable;
        err = reply.content_type == NULL ? ERR_LIMIT : rpc_reply(call, &reply);
    }
    buf_deinit(&data);
    return err;
}

/* ---- proofs of accounts -------------------------------------------------------------------------- */

/* The way through the state, while it is that of a block; otherwise the next seal is waited for. */
static enum err proof_path(struct desk *desk, struct desk_proof *proof)
{
    buf_clear(&proof->path);
    return settlement_account_path(desk->settlement, &proof->account, &proof->path, &proof->height,
                                   rpc_note(proof->call));
}

static enum err proof_answer(struct desk *desk, struct desk_proof *proof)
{
    ProtobufCMessage *message = NULL;
    struct buf bytes;
    buf_init(&bytes, 2 * PROOF_PATH_MAX + SIGNED_NOTE_MAX);
    enum err err = settlement_account_proof(desk->settlement, buf_bytes(&proof->path),
                                            proof->height, &bytes, rpc_note(proof->call));
    err = err ? err
              : rpc_decode(&openledger__v1__state_proof__descriptor, buf_bytes(&bytes),
                           rpc_arena(proof->call), &message, rpc_note(proof->call));
    err = err ? err : rpc_reply(proof->call, message);
    buf_deinit(&bytes);
    return err;
}

/* True when the proof's call was ended. */
static bool proof_step(struct desk *desk, struct desk_proof *proof, uint64_t final_height)
{
    bool late = clock_mono_ms() - proof->since_ms >= PROOF_WAIT_MS;
    enum err err = ERR_OK;
    if (proof->height == 0) {
        err = proof_path(desk, proof);
        if (err == ERR_UNAVAILABLE && !late) {
            return false;
        }
    }
    if (err == ERR_OK && proof->height > final_height && !late) {
        return false;
    }
    err = err ? err : proof_answer(desk, proof);
    buf_deinit(&proof->path);
    rpc_finish(proof->call, err);
    return true;
}

enum err log_prove_account(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__ProveAccountRequest *request = message;
    struct digest id;
    enum err err = answer_digest_of(call, request->account, "account", &id);
    if (err != ERR_OK) {
        return err;
    }
    if (desk->proof_count == desk->proof_capacity) {
        desk->proof_capacity = desk->proof_capacity == 0 ? 16 : 2 * desk->proof_capacity;
        desk->proofs = realloc(desk->proofs, desk->proof_capacity * sizeof *desk->proofs);
        CHECK(desk->proofs != NULL); /* bounded by RPC_CALLS_MAX */
    }
    struct desk_proof *proof = &desk->proofs[desk->proof_count++];
    *proof = (struct desk_proof){.call = call, .since_ms = clock_mono_ms()};
    memcpy(proof->account.bytes, id.bytes, ACCOUNT_ID_SIZE);
    buf_init(&proof->path, PROOF_PATH_MAX);
    rpc_defer(call);
    desk_publish(desk); /* the state may be that of a block just now */
    return ERR_OK;
}

void desk_publish(struct desk *desk)
{
    struct note note = {""};
    struct public_log_state state;
    struct buf cosigned;
    uint64_t size = 0;
    enum err err = settlement_tiles(desk->settlement, &size, &note);
    if (err != ERR_OK) {
        log_error("tiles_failed err=%s note=\"%s\"", err_name(err), note.text);
    } else if (size > 0) {
        public_log_offer(desk->public_log, size, settlement_checkpoint(desk->settlement));
    }
    buf_init(&cosigned, SIGNED_NOTE_MAX);
    public_log_state(desk->public_log, &state, &cosigned);
    if (state.height > desk->cosigned_height || state.cosignatures > desk->cosignatures) {
        settlement_cosigned(desk->settlement, state.height, buf_bytes(&cosigned));
        desk->cosigned_height = state.height;
        desk->cosignatures = state.cosignatures;
    }
    buf_deinit(&cosigned);
    for (size_t i = desk->proof_count; i > 0; i--) {
        if (proof_step(desk, &desk->proofs[i - 1], state.final_height)) {
            desk->proofs[i - 1] = desk->proofs[--desk->proof_count];
        }
    }
}

void desk_proofs_end(struct desk *desk)
{
    for (; desk->proof_count > 0; desk->proof_count--) {
        struct desk_proof *proof = &desk->proofs[desk->proof_count - 1];
        buf_deinit(&proof->path);
        rpc_finish(proof->call, ERR_UNAVAILABLE);
    }
    free(desk->proofs);
    desk->proofs = NULL;
    desk->proof_capacity = 0;
}
