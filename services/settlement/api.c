/* api.c - see api.h: decode, check, call, encode. */
#include "services/settlement/api.h"

#include <stdlib.h>
#include <string.h>

#include "services/settlement/answer.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/claims.h"
#include "shared/ledger/params.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

enum { ENTRIES_MAX = 1000 };
static const char UNWRITTEN[] = "the ledger cannot be written";

/* ---- the desk ----------------------------------------------------------------------------------- */

static void answer_waiting(struct desk *desk, struct desk_waiting *waiting, enum err err,
                           const struct note *note)
{
    if (waiting->message != NULL) {
        cluster_answer(desk->cluster, waiting->message, err, &waiting->result, note);
        return;
    }
    if (err == ERR_OK) {
        Openledger__V1__SubmitReply reply = OPENLEDGER__V1__SUBMIT_REPLY__INIT;
        reply.tx = ledger_binary(waiting->result.tx.bytes, DIGEST_SIZE);
        reply.index = waiting->result.index;
        reply.repeated_submission = waiting->result.repeated;
        err = rpc_reply(waiting->call, &reply);
    } else {
        *rpc_note(waiting->call) = *note;
    }
    rpc_finish(waiting->call, err);
}

static void answer_all(struct desk *desk, enum err err)
{
    struct note note = {""};
    if (err != ERR_OK) {
        (void)note_set(&note, err, "%s", UNWRITTEN);
    }
    for (size_t i = 0; i < desk->waiting_count; i++) {
        struct desk_waiting *waiting = &desk->waiting[i];
        answer_waiting(desk, waiting, err ? err : waiting->err, err ? &note : &waiting->note);
    }
    desk->waiting_count = 0;
    desk->refused_waiting = 0;
    desk->taken = 0;
}

void desk_forget(struct desk *desk)
{
    answer_all(desk, ERR_UNAVAILABLE);
}

static void count_outcome(struct desk *desk, enum err err, const struct settlement_result *result)
{
    if (err != ERR_OK) {
        metric_add(desk->refused, 1);
    } else if (!result->repeated) {
        metric_add(desk->transactions, 1);
    }
    if (err == ERR_IO) { /* the process starts again: the same bytes may be sent then */
        service_stop(desk->service, 1);
    }
}

/* The next up to SETTLEMENT_GROUP_MAX of what waits get their entries, or are refused. */
static void take_group(struct desk *desk, struct settlement_submission *items)
{
    size_t left = desk->waiting_count - desk->taken;
    size_t count = left < SETTLEMENT_GROUP_MAX ? left : SETTLEMENT_GROUP_MAX;
    struct desk_waiting *group = &desk->waiting[desk->taken];
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct settlement_submission){.signed_tx = group[i].signed_tx};
    }
    settlement_submit_many(desk->settlement, items, count, clock_real_ms());
    for (size_t i = 0; i < count; i++) {
        count_outcome(desk, items[i].err, &items[i].result);
        group[i].err = items[i].err == ERR_IO ? ERR_UNAVAILABLE : items[i].err;
        if (items[i].err == ERR_OK) {
            group[i].result = items[i].result;
        } else {
            group[i].note = items[i].note;
            desk->refused_waiting++;
        }
    }
    desk->taken += count;
}

/* They came when this replica sequenced; another does now. */
static void pass_on(struct desk *desk)
{
    struct note note = {""};
    enum err err = note_set(&note, ERR_UNAVAILABLE, "this replica does not sequence");
    for (size_t i = desk->taken; i < desk->waiting_count; i++) {
        answer_waiting(desk, &desk->waiting[i], err, &note);
    }
    desk->waiting_count = desk->taken;
}

static void take_waiting(struct desk *desk)
{
    size_t left = desk->waiting_count - desk->taken;
    if (left == 0) {
        return;
    }
    if (!cluster_leads(desk->cluster)) {
        pass_on(desk);
        return;
    }
    struct settlement_submission *items =
        calloc(left < SETTLEMENT_GROUP_MAX ? left : SETTLEMENT_GROUP_MAX, sizeof *items);
    CHECK(items != NULL);
    while (desk->taken < desk->waiting_count) {
        take_group(desk, items);
    }
    free(items);
}

/* refused: so was something that does not wait with the others. */
static enum err flush(struct desk *desk, bool refused)
{
    struct note note = {""};
    take_waiting(desk);
    enum err err = refused || desk->refused_waiting > 0
                       ? settlement_confirm(desk->settlement, &note)
                       : settlement_sync(desk->settlement, &note);
    if (err == ERR_UNAVAILABLE) { /* deposed: the next tick opens again from what is final */
        desk_forget(desk);
        return err;
    }
    if (err != ERR_OK) {
        log_error("journal_failed err=%s note=\"%s\"", err_name(err), note.text);
        service_stop(desk->service, 1);
        err = ERR_UNAVAILABLE; /* for who asks: the process starts again, so may they */
    } else if (cluster_leads(desk->cluster)) {
        publisher_wake(desk->publisher, settlement_durable(desk->settlement));
    }
    answer_all(desk, err);
    return err;
}

enum err desk_flush(struct desk *desk)
{
    return flush(desk, false);
}

static void flush_job(void *argument)
{
    struct desk *desk = argument;
    desk->flush_posted = false;
    (void)desk_flush(desk);
}

void desk_tick(struct desk *desk)
{
    uint64_t now_ms = clock_mono_ms();
    struct note note = {""};
    cluster_tick(desk->cluster);
    if (!cluster_leads(desk->cluster)) {
        publisher_wake(desk->publisher, 0);
        /* What a follower has applied is final: it may serve the log as well as the sequencer. */
        if (settlement_sync(desk->settlement, &note) == ERR_OK) {
            desk_publish(desk);
        }
        return;
    }
    if (now_ms - desk->sealed_ms >= desk->seal_ms &&
        (settlement_wants_seal(desk->settlement) ||
         replica_wants_entry(cluster_replica(desk->cluster)))) {
        desk->sealed_ms = now_ms;
        if (settlement_seal(desk->settlement, clock_real_ms(), &note) == ERR_OK) {
            metric_add(desk->blocks, 1);
        } else {
            log_error("seal_failed note=\"%s\"", note.text);
        }
        (void)desk_flush(desk);
    }
    desk_publish(desk);
}

enum err desk_submit(struct desk *desk, struct bytes signed_tx,
                     struct settlement_result *out_result, struct note *note)
{
    enum err err =
        settlement_submit(desk->settlement, signed_tx, clock_real_ms(), out_result, note);
    count_outcome(desk, err, out_result);
    enum err flushed =
        flush(desk, err != ERR_OK); /* also what others wait for: it costs nothing more */
    return flushed ? note_set(note, flushed, "%s", UNWRITTEN) : err;
}

/* The flush comes behind the submissions that wait already: they share cores and one sync. */
static void wait_for_disk(struct desk *desk, const struct desk_waiting *waiting)
{
    if (desk->waiting_count == desk->waiting_capacity) {
        desk->waiting_capacity = desk->waiting_capacity == 0 ? 64 : 2 * desk->waiting_capacity;
        desk->waiting = realloc(desk->waiting, desk->waiting_capacity * sizeof *desk->waiting);
        CHECK(desk->waiting != NULL); /* bounded by RPC_CALLS_MAX and the worker's queue */
    }
    desk->waiting[desk->waiting_count++] = *waiting;
    if (!desk->flush_posted) {
        desk->flush_posted = service_post(desk->service, flush_job, desk) == ERR_OK;
        if (!desk->flush_posted) {
            (void)desk_flush(desk);
        }
    }
}

static enum err submit(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__SubmitRequest *request = message;
    const struct desk_waiting waiting = {.call = call,
                                         .signed_tx = ledger_bytes(request->signed_tx)};
    if (!cluster_leads(desk->cluster)) {
        return cluster_forward(desk->cluster, call, waiting.signed_tx);
    }
    rpc_defer(call);
    wait_for_disk(desk, &waiting);
    return ERR_OK;
}

void desk_take_forwarded(struct desk *desk, struct bus_message *message)
{
    const struct desk_waiting waiting = {.message = message,
                                         .signed_tx = bus_message_data(message)};
    struct note note = {""};
    if (cluster_leads(desk->cluster)) {
        wait_for_disk(desk, &waiting);
    } else {
        cluster_answer(desk->cluster, message,
                       note_set(&note, ERR_UNAVAILABLE, "this replica does not sequence"), NULL,
                       &note);
    }
}

/* ---- reading: only what is on disk is ever shown ------------------------------------------------ */

ProtobufCBinaryData answer_copy(struct arena *arena, const void *data, size_t size)
{
    const void *at = arena_dup(arena, data, size);
    return ledger_binary(at, at == NULL ? 0 : size);
}

char *answer_amount_text(struct arena *arena, struct amount amount)
{
    char text[AMOUNT_TEXT_SIZE];
    return arena_strdup(arena, amount_format(amount, text));
}

static enum err get_info(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    (void)message;
    struct arena *arena = rpc_arena(call);
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    const struct ledger_parameters *from = ledger_parameters(ledger);
    struct ledger_head head;
    enum err err = desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    ledger_head(ledger, &head);
    Openledger__V1__LedgerInfo info = OPENLEDGER__V1__LEDGER_INFO__INIT;
    info.chain_id = ledger_binary(head.chain_id.bytes, DIGEST_SIZE);
    info.chain_name = arena_strdup(arena, ledger_chain_name(ledger));
    info.height = head.height;
    info.last_index = head.index;
    info.epoch = head.epoch;
    info.time_ms = head.time_ms;
    info.supply = answer_amount_text(arena, ledger_supply(ledger));
    info.transactions = head.transactions;
    struct digest root;
    settlement_state_root(desk->settlement, &root);
    info.state_root = ledger_binary(root.bytes, DIGEST_SIZE);
    info.sequencer_key = ledger_binary(from->sequencer.bytes, PUBLIC_KEY_SIZE);
    info.parameters = ledger_parameters_message(from, arena);
    struct bytes genesis = ledger_genesis(ledger);
    info.genesis = ledger_binary(genesis.data, genesis.size);
    info.replica = replica_epoch(cluster_replica(desk->cluster))->config.self;
    info.replicas = replica_epoch(cluster_replica(desk->cluster))->config.replicas;
    info.sequencer_replica = replica_leader(cluster_replica(desk->cluster));
    info.platform_account = ledger_binary(from->platform.bytes, ACCOUNT_ID_SIZE);
    struct public_log_state published;
    public_log_state(desk->public_log, &published, NULL);
    info.final_height = published.final_height;
    info.witness_quorum = ledger_witnesses(ledger)->quorum;
    if (info.chain_name == NULL || info.supply == NULL || info.parameters == NULL) {
        return ERR_LIMIT;
    }
    return rpc_reply(call, &info);
}

enum err answer_digest_of(struct rpc_call *call, ProtobufCBinaryData field, const char *name,
                          struct digest *out)
{
    return digest_from_bytes(ledger_bytes(field), out) == ERR_OK
               ? ERR_OK
               : note_set(rpc_note(call), ERR_INVALID, "%s has %zu bytes, not %d", name, field.len,
                          DIGEST_SIZE);
}

/* ERR_NOT_FOUND: the account has no allocation that vests. */
static enum err vesting_state(const struct ledger *ledger, const struct account_id *id,
                              struct arena *arena, Openledger__V1__VestingState *out)
{
    const struct ledger_vesting *vesting = ledger_vesting(ledger, id);
    struct ledger_head head;
    struct amount claimable;
    if (vesting == NULL) {
        return ERR_NOT_FOUND;
    }
    ledger_head(ledger, &head);
    CHECK(amount_sub(ledger_vested(vesting, head.time_ms), vesting->claimed, &claimable) == ERR_OK);
    out->total = answer_amount_text(arena, vesting->total);
    out->claimed = answer_amount_text(arena, vesting->claimed);
    out->claimable = answer_amount_text(arena, claimable);
    out->cliff_at_ms = vesting->cliff_at_ms;
    out->vest_ms = vesting->vest_ms;
    return out->claimable == NULL ? ERR_LIMIT : ERR_OK;
}

static enum err get_account(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetAccountRequest *request = message;
    struct arena *arena = rpc_arena(call);
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    struct digest digest;
    struct account_id id;
    enum err err = answer_digest_of(call, request->account, "account", &digest);
    err = err ? err : desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(id.bytes, digest.bytes, ACCOUNT_ID_SIZE);
    const struct ledger_account *account = ledger_account(ledger, &id);
    if (account == NULL) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no such account on the ledger");
    }
    Openledger__V1__AccountState state = OPENLEDGER__V1__ACCOUNT_STATE__INIT;
    Openledger__V1__BondState bonds[LEDGER_ROLE_END];
    Openledger__V1__BondState *pointers[LEDGER_ROLE_END];
    for (int role = 1; role < LEDGER_ROLE_END; role++) {
        struct amount amount = ledger_bond(ledger, &id, (enum ledger_role)role);
        if (!amount_is_zero(amount)) {
            Openledger__V1__BondState *bond = &bonds[state.n_bonds];
            openledger__v1__bond_state__init(bond);
            bond->role = (Openledger__V1__Role)role;
            bond->amount = answer_amount_text(arena, amount);
            pointers[state.n_bonds++] = bond;
        }
    }
    state.bonds = pointers;
    state.account = ledger_binary(id.bytes, ACCOUNT_ID_SIZE);
    state.name = arena_strdup(arena, account->name);
    if (account->has_key) {
        state.key = ledger_binary(account->key.bytes, PUBLIC_KEY_SIZE);
    }
    state.balance = answer_amount_text(arena, account->balance);
    state.first_index = account->first_index;
    if (state.balance == NULL) {
        return ERR_LIMIT;
    }
    Openledger__V1__VestingState vesting = OPENLEDGER__V1__VESTING_STATE__INIT;
    err = vesting_state(ledger, &id, arena, &vesting);
    if (err != ERR_OK) {
        return err == ERR_NOT_FOUND ? rpc_reply(call, &state) : err;
    }
    state.vesting = &vesting;
    return rpc_reply(call, &state);
}

/* ---- blocks and entries ------------------------------------------------------------------------- */

static enum err get_block(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetBlockRequest *request = message;
    struct ledger_head head;
    struct digest hash;
    struct buf header;
    ProtobufCMessage *decoded = NULL;
    enum err err = desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    ledger_head(settlement_ledger(desk->settlement), &head);
    uint64_t height = request->height == 0 ? head.height : request->height;
    if (height == 0 || height > head.height) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no block %llu, the newest is %llu",
                        (unsigned long long)height, (unsigned long long)head.height);
    }
    buf_init(&header, 4096);
    err = settlement_store_header(settlement_index(desk->settlement), height, &header);
    err = err ? err
              : rpc_decode(&openledger__v1__block_header__descriptor, buf_bytes(&header),
                           rpc_arena(call), &decoded, rpc_note(call));
    if (err == ERR_OK) {
        sha256(buf_bytes(&header), &hash);
        Openledger__V1__BlockRecord record = OPENLEDGER__V1__BLOCK_RECORD__INIT;
        record.header = ledger_binary(header.data, header.size);
        record.hash = ledger_binary(hash.bytes, DIGEST_SIZE);
        record.decoded = (Openledger__V1__BlockHeader *)decoded;
        err = rpc_reply(call, &record);
    }
    buf_deinit(&header);
    return err;
}

static enum err get_entries(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetEntriesRequest *request = message;
    struct arena *arena = rpc_arena(call);
    enum err err = desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t last = settlement_durable(desk->settlement);
    uint64_t from = request->from_index == 0 ? 1 : request->from_index;
    size_t max = request->count == 0 || request->count > ENTRIES_MAX ? ENTRIES_MAX : request->count;
    ProtobufCBinaryData *items = arena_alloc_array(arena, max, sizeof *items);
    if (items == NULL) {
        return ERR_LIMIT;
    }
    Openledger__V1__GetEntriesReply reply = OPENLEDGER__V1__GET_ENTRIES_REPLY__INIT;
    reply.entries = items;
    reply.last_index = last;
    struct buf entry;
    buf_init(&entry, LEDGER_ENTRY_MAX);
    size_t size = 0;
    for (uint64_t i = from; i <= last && reply.n_entries < max && err == ERR_OK; i++) {
        buf_clear(&entry);
        err = settlement_entry(desk->settlement, i, &entry, rpc_note(call));
        size += entry.size;
        if (err == ERR_OK && reply.n_entries > 0 && size > ANSWER_BYTES_MAX) {
            break;
        }
        if (err == ERR_OK) {
            items[reply.n_entries] = answer_copy(arena, entry.data, entry.size);
            err = items[reply.n_entries++].data == NULL ? ERR_LIMIT : ERR_OK;
        }
    }
    buf_deinit(&entry);
    return err ? err : rpc_reply(call, &reply);
}

/* ---- proofs ------------------------------------------------------------------------------------- */

static enum err reply_proof(struct rpc_call *call, enum err err, struct buf *proof)
{
    ProtobufCMessage *message = NULL;
    err = err ? err
              : rpc_decode(&openledger__v1__inclusion_proof__descriptor, buf_bytes(proof),
                           rpc_arena(call), &message, rpc_note(call));
    buf_deinit(proof);
    return err ? err : rpc_reply(call, message);
}

static enum err prove_tx(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__ProveTxRequest *request = message;
    struct buf proof;
    uint64_t index;
    buf_init(&proof, LEDGER_ENTRY_MAX);
    enum err err = answer_tx_index(desk, call, request->tx, &index);
    err = err ? err : settlement_prove_entry(desk->settlement, index, &proof, rpc_note(call));
    return reply_proof(call, err, &proof);
}

static enum err prove_posting(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__ProvePostingRequest *request = message;
    struct buf proof;
    buf_init(&proof, LEDGER_ENTRY_MAX);
    enum err err = settlement_prove_leg(desk->settlement, request->index, request->leg, &proof,
                                        rpc_note(call));
    return reply_proof(call, err, &proof);
}

static const struct rpc_binding BINDINGS[] = {
    {"GetInfo", get_info},
    {"Submit", submit},
    {"GetAccount", get_account},
    {"GetTx", answer_get_tx},
    {"ListTxs", answer_list_txs},
    {"GetBlock", get_block},
    {"GetEntries", get_entries},
    {"GetCheckpoint", log_get_checkpoint},
    {"ProveTx", prove_tx},
    {"ProvePosting", prove_posting},
    {"ProveAccount", log_prove_account},
    {"GetLogFile", log_get_file},
    {"GetGrant", answer_get_grant},
    {"GetReceipt", answer_get_receipt},
    {"GetStake", answer_get_stake},
    {"GetProposal", answer_get_proposal},
    {"ListProposals", answer_list_proposals},
};

const struct rpc_service settlement_rpc = {
    .descriptor = &openledger__v1__settlement__descriptor,
    .bindings = BINDINGS,
    .count = sizeof BINDINGS / sizeof BINDINGS[0],
};
