/* replica.c - see replica.h. */
#include "services/settlement/replica.h"

#include <stdlib.h>
#include <string.h>

#include "services/settlement/replica_log.h"
#include "services/settlement/replica_wire.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/crypto/sha256.h"
#include "shared/journal/journal.h"
#include "shared/ledger/tx.h"
#include "shared/platform/file.h"

enum { PROMISE_FILE_MAX = 4096 };

struct replica {
    struct replica_options options;
    struct settlement_agreement agreement;
    struct settlement *settlement;
    struct epoch epoch;
    struct epoch_log log; /* on our disk */
    struct replica_seal seal;
    char promise_path[FILE_PATH_SIZE];
    const Openledger__V1__ReplicaMessage *message; /* being worked on */
    struct buf envelope, carried;
    struct buf
        put_off; /* a message that deposes us, met while we waited: worked on after opening again */
    uint64_t final_before; /* entries that were final before that message */
    bool claim_due, lead_due;
    bool waiting;    /* inside settlement_sync() */
    bool reopen;     /* deposed: the settlement may be ahead of what is final */
    enum err failed; /* nothing can go on */
};

static struct journal *journal_of(struct replica *replica)
{
    return settlement_journal(replica->settlement);
}

static uint64_t now(struct replica *replica)
{
    return replica->options.hands.now_ms(replica->options.hands.context);
}

static bool alone(const struct replica *replica)
{
    return replica->options.epoch.replicas == 1;
}

/* ---- the promise on disk ------------------------------------------------------------------------ */

static enum err promise_keep(struct replica *replica, const struct epoch_promise *promise,
                             struct note *note)
{
    struct buf file;
    buf_init(&file, PROMISE_FILE_MAX);
    replica_wire_promise(promise, &file);
    enum err err = file_write_atomic(replica->promise_path, buf_bytes(&file), 0600, note);
    buf_deinit(&file);
    return err;
}

/* A replica without the file is a newcomer: its disk is new, or it was alone until now. */
static enum err promise_load(struct replica *replica, struct epoch_promise *out, struct note *note)
{
    const struct replica_hands *hands = &replica->options.hands;
    struct buf file;
    buf_init(&file, PROMISE_FILE_MAX);
    enum err err = file_read(replica->promise_path, &file, note);
    if (err == ERR_NOT_FOUND) {
        uint64_t life = hands->random(hands->context);
        replica->epoch.promise = (struct epoch_promise){.life = life == 0 ? 1 : life};
        *out = replica->epoch.promise;
        err = promise_keep(replica, out, note);
    } else if (err == ERR_OK && replica_wire_promised(buf_bytes(&file), out) != ERR_OK) {
        err = note_set(note, ERR_CORRUPT,
                       "%s is damaged: move this replica's folder away, it joins anew",
                       replica->promise_path);
    }
    buf_deinit(&file);
    return err;
}

/* ---- the log ------------------------------------------------------------------------------------ */

/* EPOCH_DO_TAKE. The entries were checked to be entries. */
static enum err log_take(struct replica *replica, struct note *note)
{
    struct ledger_head head;
    bool changed = false;
    ledger_head(settlement_ledger(replica->settlement), &head);
    uint64_t keep = head.index > replica->final_before ? head.index : replica->final_before;
    enum err err = replica_log_take(journal_of(replica), replica->message, keep, &changed, note);
    return err || !changed ? err : replica_log_learn(journal_of(replica), &replica->log, note);
}

/* ---- messages ----------------------------------------------------------------------------------- */

/* The last block that is final here. */
static uint64_t final_height(const struct replica *replica)
{
    const struct settlement *settlement = replica->settlement;
    struct ledger_head head;
    ledger_head(settlement_ledger(settlement), &head);
    uint64_t beyond = settlement_height_of(settlement, settlement_durable(settlement) + 1);
    return beyond == 0 ? head.height : beyond - 1;
}

static enum err say(struct replica *replica, uint32_t to, const struct epoch_message *from,
                    struct note *note)
{
    ProtobufCBinaryData items[REPLICA_CARRY_COUNT];
    struct digest chain;
    struct journal *journal = journal_of(replica);
    Openledger__V1__ReplicaMessage message = OPENLEDGER__V1__REPLICA_MESSAGE__INIT;
    message.kind = (Openledger__V1__ReplicaKind)from->kind;
    message.from = from->from;
    message.to = to;
    message.epoch = from->epoch;
    message.index = from->index;
    message.count = from->count;
    message.last_epoch = from->last_epoch;
    message.final = from->final;
    message.life = from->life;
    message.admit = from->admit;
    message.full = from->full;
    message.formed = from->formed;
    message.ok = from->ok;
    message.round = from->round;
    if (from->kind == EPOCH_APPEND || from->kind == EPOCH_ENTRIES) {
        CHECK(journal_chain(journal, from->index, &chain) == ERR_OK);
        message.chain = ledger_binary(chain.bytes, DIGEST_SIZE);
        buf_clear(&replica->carried);
        enum err err =
            replica_log_carry(journal, from->index, &replica->carried, items, &message.n_entries);
        if (err != ERR_OK) {
            return note_set(note, err, "entry %llu of the journal cannot be read",
                            (unsigned long long)from->index + 1);
        }
        message.entries = items;
        epoch_sent(&replica->epoch, to, from->index + message.n_entries);
    }
    message.height = replica->reopen ? 0 : final_height(replica);
    if (message.height > 0) {
        const struct digest *leaf = settlement_header_leaf(replica->settlement, message.height);
        message.header = ledger_binary(leaf->bytes, DIGEST_SIZE);
    }
    buf_clear(&replica->envelope);
    replica_wire_close(&replica->seal, &message, &replica->envelope);
    replica->options.hands.send(replica->options.hands.context, to, buf_bytes(&replica->envelope));
    return ERR_OK;
}

/* ---- doing what was decided --------------------------------------------------------------------- */

/* Applies what is final and not applied yet. A blob that is still on its way is no error. */
static enum err follow(struct replica *replica, struct note *note)
{
    struct note why = {""};
    struct ledger_head head;
    uint64_t until =
        replica->epoch.final < replica->log.count ? replica->epoch.final : replica->log.count;
    ledger_head(settlement_ledger(replica->settlement), &head);
    if (replica->reopen || replica->epoch.role == EPOCH_LEADING || head.index >= until) {
        return ERR_OK;
    }
    enum err err = settlement_follow(replica->settlement, until, &why);
    if (err == ERR_NOT_FOUND || err == ERR_NO_MEMORY) {
        log_warn("entry_waits note=\"%s\"", why.text);
        return ERR_OK;
    }
    return err == ERR_OK ? ERR_OK
                         : note_set(note, ERR_CORRUPT, "a final entry is refused: %s", why.text);
}

static enum err open_again(struct replica *replica, struct note *note)
{
    struct settlement_options options = replica->options.settlement;
    options.agreement = alone(replica) ? NULL : &replica->agreement;
    options.final = replica->epoch.final;
    settlement_close(replica->settlement);
    replica->settlement = NULL;
    enum err err = settlement_open(&options, &replica->settlement, note);
    err = err ? err : replica_log_learn(journal_of(replica), &replica->log, note);
    if (err == ERR_OK && replica->epoch.final > replica->log.count) {
        err = note_set(note, ERR_CORRUPT,
                       "%llu entries were final, the journal has %llu: move this replica's folder "
                       "away, it joins anew",
                       (unsigned long long)replica->epoch.final,
                       (unsigned long long)replica->log.count);
    }
    if (err == ERR_OK) {
        uint64_t final = settlement_durable(replica->settlement); /* the index may know more */
        replica->epoch.final = final > replica->epoch.final ? final : replica->epoch.final;
        replica->reopen = false;
        replica->options.hands.opened(replica->options.hands.context, replica->settlement);
    }
    return err;
}

/* Does actions; what leads to further ones (a claim, leading) is only noted down. */
static enum err perform(struct replica *replica, const struct epoch_actions *actions,
                        struct note *note)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < actions->count && err == ERR_OK; i++) {
        const struct epoch_action *action = &actions->items[i];
        switch (action->act) {
        case EPOCH_DO_KEEP:
            err = promise_keep(replica, &action->promise, note);
            break;
        case EPOCH_DO_SEND:
            err = say(replica, action->to, &action->message, note);
            break;
        case EPOCH_DO_TAKE:
            err = log_take(replica, note);
            break;
        case EPOCH_DO_FINAL:
            err = follow(replica, note);
            break;
        case EPOCH_DO_CLAIM:
            replica->claim_due = true;
            break;
        case EPOCH_DO_LEAD:
            replica->lead_due = true;
            break;
        case EPOCH_DO_STOP:
            log_warn("epoch_ends epoch=%llu", (unsigned long long)replica->epoch.promise.epoch);
            replica->reopen = true;
            err = replica->waiting ? ERR_OK : open_again(replica, note);
            break;
        }
    }
    return err;
}

static void claim(struct replica *replica, struct epoch_actions *out)
{
    const struct replica_hands *hands = &replica->options.hands;
    uint64_t number = 0;
    if (hands->claim(hands->context, replica->epoch.highest, &number) == ERR_OK) {
        epoch_claimed(&replica->epoch, now(replica), number, replica->log, out);
    } /* else another was first, or the bus is away: silence will tell */
}

static enum err lead(struct replica *replica, struct epoch_actions *out, struct note *note)
{
    const struct replica_hands *hands = &replica->options.hands;
    struct note why = {""};
    CHECK(journal_count(journal_of(replica)) + 1 == replica->epoch.first);
    uint64_t number = replica->epoch.promise.epoch;
    enum err err =
        settlement_lead(replica->settlement, number, hands->clock_ms(hands->context), &why);
    if (err == ERR_OK) {
        log_info("epoch_begins epoch=%llu index=%llu", (unsigned long long)number,
                 (unsigned long long)replica->epoch.first);
        return ERR_OK;
    }
    if (err != ERR_UNAVAILABLE && err != ERR_NOT_FOUND) {
        return note_set(note, err, "%s", why.text);
    }
    log_warn("epoch_fails epoch=%llu note=\"%s\"", (unsigned long long)number, why.text);
    replica->reopen = true;
    epoch_resign(&replica->epoch, now(replica), out);
    return ERR_OK;
}

/* Does actions and all that comes of them. */
static enum err drive(struct replica *replica, struct epoch_actions *actions, struct note *note)
{
    enum err err = perform(replica, actions, note);
    while (err == ERR_OK && (replica->claim_due || replica->lead_due)) {
        CHECK(!replica->waiting);
        actions->count = 0;
        if (replica->claim_due) {
            replica->claim_due = false;
            claim(replica, actions);
        } else {
            replica->lead_due = false;
            err = lead(replica, actions, note);
        }
        err = err ? err : perform(replica, actions, note);
    }
    return err;
}

/* Compares roots where both sides have the block. */
static enum err compare(struct replica *replica, const Openledger__V1__ReplicaMessage *message,
                        struct note *note)
{
    const struct replica_hands *hands = &replica->options.hands;
    if (replica->reopen || message->height == 0 || message->height > final_height(replica) ||
        message->header.len != DIGEST_SIZE ||
        memcmp(settlement_header_leaf(replica->settlement, message->height)->bytes,
               message->header.data, DIGEST_SIZE) == 0) {
        return ERR_OK;
    }
    log_error("roots_differ replica=%u height=%llu", message->from,
              (unsigned long long)message->height);
    if (hands->differs != NULL) {
        hands->differs(hands->context, message->from, message->height);
    }
    return replica->epoch.role == EPOCH_LEADING
               ? ERR_OK
               : note_set(note, ERR_CORRUPT, "block %llu has another root at replica %u",
                          (unsigned long long)message->height, message->from);
}

static enum err receive(struct replica *replica, struct bytes bytes, struct note *note)
{
    Openledger__V1__ReplicaMessage *message = replica_wire_open(&replica->seal, bytes);
    if (message == NULL) {
        return ERR_OK;
    }
    bool deposes = message->epoch > replica->epoch.promise.epoch &&
                   (message->kind == OPENLEDGER__V1__REPLICA_KIND__REPLICA_KIND_ASK ||
                    message->kind == OPENLEDGER__V1__REPLICA_KIND__REPLICA_KIND_APPEND);
    if (replica->waiting && deposes) {
        buf_clear(&replica->put_off);
        (void)buf_append_bytes(&replica->put_off, bytes);
        openledger__v1__replica_message__free_unpacked(message, NULL);
        struct epoch_actions stop = {.count = 0};
        epoch_resign(&replica->epoch, now(replica), &stop);
        return perform(replica, &stop, note);
    }
    const struct epoch_message event = {.kind = (enum epoch_kind)message->kind,
                                        .from = message->from,
                                        .epoch = message->epoch,
                                        .index = message->index,
                                        .carried = message->n_entries,
                                        .count = message->count,
                                        .last_epoch = message->last_epoch,
                                        .final = message->final,
                                        .life = message->life,
                                        .admit = message->admit,
                                        .full = message->full,
                                        .formed = message->formed,
                                        .round = message->round,
                                        .ok = message->ok};
    struct digest chain;
    bool fits = message->chain.len == DIGEST_SIZE && message->index <= replica->log.count &&
                journal_chain(journal_of(replica), message->index, &chain) == ERR_OK &&
                memcmp(chain.bytes, message->chain.data, DIGEST_SIZE) == 0;
    struct epoch_actions actions = {.count = 0};
    replica->final_before = replica->epoch.final;
    epoch_receive(&replica->epoch, now(replica), &event, fits, replica->log, &actions);
    replica->message = message;
    enum err err = drive(replica, &actions, note);
    replica->message = NULL;
    err = err ? err : compare(replica, message, note);
    openledger__v1__replica_message__free_unpacked(message, NULL);
    return err;
}

static enum err tick(struct replica *replica, struct note *note)
{
    struct epoch_actions actions = {.count = 0};
    epoch_tick(&replica->epoch, now(replica), replica->log, &actions);
    return drive(replica, &actions, note);
}

/* ---- the sequencer's sync ----------------------------------------------------------------------- */

static void offer(void *context, uint64_t count)
{
    struct replica *replica = context;
    struct epoch_actions actions = {.count = 0};
    struct note note = {""};
    epoch_offer(&replica->epoch, now(replica), count, &actions);
    enum err err = perform(replica, &actions, &note);
    replica->failed = err ? err : replica->failed;
}

/* round 0: none is waited for. */
static bool reached(const struct replica *replica, uint64_t count, uint64_t round)
{
    return replica->epoch.final >= count && (round == 0 || epoch_confirmed(&replica->epoch, round));
}

/* Does actions, then works on messages until entries up to count are final and round is confirmed. */
static enum err wait_until(struct replica *replica, struct epoch_actions *actions, uint64_t count,
                           uint64_t round, struct note *note)
{
    const struct replica_hands *hands = &replica->options.hands;
    struct buf message;
    buf_init(&message, REPLICA_MESSAGE_MAX);
    replica->waiting = true;
    enum err err = replica->failed ? replica->failed : perform(replica, actions, note);
    while (err == ERR_OK && replica->epoch.role == EPOCH_LEADING &&
           !reached(replica, count, round)) {
        buf_clear(&message);
        err = hands->receive(hands->context, replica->options.epoch.heartbeat_ms / 2, &message);
        if (err == ERR_OK) {
            err = receive(replica, buf_bytes(&message), note);
        } else if (err == ERR_TIMEOUT) {
            err = ERR_OK;
        }
        err = err ? err : tick(replica, note);
    }
    replica->waiting = false;
    buf_deinit(&message);
    replica->failed = err == ERR_CANCELLED ? ERR_OK : err;
    if (err == ERR_OK && !reached(replica, count, round)) {
        err = note_set(note, ERR_UNAVAILABLE, "this replica is not the sequencer any more");
    }
    replica->reopen = replica->reopen || err != ERR_OK;
    return err;
}

static enum err wait(void *context, uint64_t count, struct note *note)
{
    struct replica *replica = context;
    struct epoch_actions actions = {.count = 0};
    replica->log = (struct epoch_log){count, replica->epoch.promise.epoch};
    epoch_synced(&replica->epoch, now(replica), count, &actions);
    return wait_until(replica, &actions, count, 0, note);
}

static enum err confirm(void *context, struct note *note)
{
    struct replica *replica = context;
    struct epoch_actions actions = {.count = 0};
    uint64_t round = epoch_ask_round(&replica->epoch, now(replica), &actions);
    return wait_until(replica, &actions, 0, round, note);
}

/* ---- from outside ------------------------------------------------------------------------------- */

/* After each message and tick: opens again when deposed, and works on what deposed us. */
static enum err settle_down(struct replica *replica, enum err err, struct note *note)
{
    err = err ? err : replica->failed;
    if (err == ERR_OK && replica->reopen) {
        if (replica->epoch.role == EPOCH_LEADING) {
            struct epoch_actions actions = {.count = 0};
            epoch_resign(&replica->epoch, now(replica), &actions);
        }
        err = open_again(replica, note);
    }
    if (err == ERR_OK && replica->put_off.size > 0) {
        struct buf message = replica->put_off;
        buf_init(&replica->put_off, REPLICA_MESSAGE_MAX);
        err = receive(replica, buf_bytes(&message), note);
        buf_deinit(&message);
    }
    return err;
}

enum err replica_receive(struct replica *replica, struct bytes message, struct note *note)
{
    if (alone(replica)) {
        return ERR_OK;
    }
    enum err err = settle_down(replica, ERR_OK, note);
    err = err ? err : receive(replica, message, note);
    return settle_down(replica, err, note);
}

enum err replica_tick(struct replica *replica, struct note *note)
{
    if (alone(replica)) {
        return ERR_OK;
    }
    enum err err = settle_down(replica, ERR_OK, note);
    err = err ? err : tick(replica, note);
    err = settle_down(replica, err, note);
    err = err ? err : follow(replica, note);
    if (err == ERR_OK && replica->epoch.role != EPOCH_LEADING) {
        err = settlement_sync(replica->settlement,
                              note); /* commits the index, signs the checkpoint */
    }
    return err;
}

enum err replica_open(const struct replica_options *options, struct replica **out_replica,
                      struct note *note)
{
    struct replica *replica = calloc(1, sizeof *replica);
    if (replica == NULL) {
        return ERR_NO_MEMORY;
    }
    CHECK(options->epoch.replicas >= 1 && options->epoch.replicas <= EPOCH_REPLICAS_MAX);
    replica->options = *options;
    replica->agreement = (struct settlement_agreement){
        .context = replica, .offer = offer, .wait = wait, .confirm = confirm};
    buf_init(&replica->envelope, REPLICA_MESSAGE_MAX + 4096);
    buf_init(&replica->carried, LEDGER_ENTRY_MAX);
    buf_init(&replica->put_off, REPLICA_MESSAGE_MAX);
    struct epoch_promise promise = {.full = true};
    enum err err = file_path(replica->promise_path, "%s/promise", options->settlement.folder);
    if (!alone(replica)) {
        err = err ? err : file_make_folders(options->settlement.folder, note);
        err = err ? err : promise_load(replica, &promise, note);
    }
    epoch_init(&replica->epoch, &options->epoch, &promise, now(replica));
    replica->seal = (struct replica_seal){.keys = options->settlement.sequencer,
                                          .self = options->epoch.self,
                                          .replicas = options->epoch.replicas};
    sha256(options->settlement.genesis, &replica->seal.chain_id);
    err = err ? err : open_again(replica, note);
    if (err != ERR_OK) {
        replica_close(replica);
        return err;
    }
    *out_replica = replica;
    return ERR_OK;
}

void replica_close(struct replica *replica)
{
    if (replica != NULL) {
        settlement_close(replica->settlement);
        buf_deinit(&replica->envelope);
        buf_deinit(&replica->carried);
        buf_deinit(&replica->put_off);
        free(replica);
    }
}

struct settlement *replica_settlement(struct replica *replica)
{
    return replica->settlement;
}

bool replica_leads(const struct replica *replica)
{
    return alone(replica) || (replica->epoch.role == EPOCH_LEADING && !replica->reopen);
}

uint32_t replica_leader(const struct replica *replica)
{
    return alone(replica) ? replica->options.epoch.self : replica->epoch.leader;
}

bool replica_wants_entry(const struct replica *replica)
{
    return replica_leads(replica) && !alone(replica) && epoch_wants_entry(&replica->epoch);
}

const struct epoch *replica_epoch(const struct replica *replica)
{
    return &replica->epoch;
}
