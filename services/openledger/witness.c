/* witness.c - see witness.h. */
#include "services/openledger/witness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/base/log.h"
#include "shared/http/fetch.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/rpc/rpc.h"
#include "shared/tlog/store.h"

enum {
    REPLAY_MS = 2500, /* of one request; the log waits for 4 s and asks again */
    SNAPSHOT_BLOCKS =
        4 * TLOG_TILE_WIDTH, /* full tiles, so that the tiles kept have all its headers */
    FETCH_MS = 10000,
    URL_SIZE = 512,
    ARENA_MAX = 8 << 20
};
#define SNAPSHOT_MAX (UINT64_C(1) << 30) /* bytes */

struct witness {
    char folder[FILE_PATH_SIZE];
    char log_url[URL_SIZE];
    char name[SIGNED_NOTE_NAME_MAX + 1];
    const struct key_pair *keys;
    int lock;
    struct ledger *ledger;
    struct ledger_effects effects;
    struct ledger_trust trust;
    char origin[LEDGER_ORIGIN_SIZE];
    struct tlog_store
        *tiles; /* headers of the ledger, but for what a snapshot is ahead of: nothing */
    struct rpc_client *client;
    struct fetch *fetch;
    struct arena *arena;
    struct tlog_seen seen;
};

static enum err path_in(const struct witness *witness, const char *name, char out[FILE_PATH_SIZE])
{
    return file_path(out, "%s/%s", witness->folder, name);
}

/* ---- replaying ---------------------------------------------------------------------------------- */

/* Batches come from the log; the ledger compares them with their names. */
static enum err batch_find(void *context, const struct digest *digest, struct buf *out)
{
    struct witness *witness = context;
    char hex[2 * DIGEST_SIZE + 1];
    char url[URL_SIZE + sizeof hex + 8];
    int status = 0;
    size_t before = out->size;
    (void)snprintf(url, sizeof url, "%s/batch/%s", witness->log_url,
                   hex_encode(digest->bytes, DIGEST_SIZE, hex));
    const struct fetch_request request = {.url = url, .timeout_ms = FETCH_MS};
    enum err err = fetch_run(witness->fetch, &request, &status, out, NULL);
    if (err == ERR_OK && status != 200) {
        buf_truncate(out, before);
        err = ERR_NOT_FOUND;
    }
    return err;
}

static uint64_t height_of(const struct witness *witness)
{
    struct ledger_head head;
    ledger_head(witness->ledger, &head);
    return head.height;
}

static enum err snapshot_write(struct witness *witness, struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf snapshot;
    buf_init(&snapshot, SNAPSHOT_MAX);
    enum err err = path_in(witness, "snapshot", path);
    err = err ? err : ledger_snapshot(witness->ledger, &snapshot);
    err = err ? err : file_write_atomic(path, buf_bytes(&snapshot), 0644, note);
    buf_deinit(&snapshot);
    return err;
}

/* The header of the block applied last goes into the tiles. One that could not be written is still
 * there to be written before the next entry is applied. */
static enum err header_keep(struct witness *witness, struct note *note)
{
    return tlog_store_size(witness->tiles) < height_of(witness) && witness->effects.header.size > 0
               ? tlog_store_append(witness->tiles, buf_bytes(&witness->effects.header), note)
               : ERR_OK;
}

static enum err entry_apply(struct witness *witness, struct bytes entry, struct note *note)
{
    const struct ledger_blobs blobs = {.get = batch_find, .context = witness};
    struct ledger_head head;
    enum err err = ledger_apply(witness->ledger, entry, &blobs, &witness->effects, note);
    ledger_head(witness->ledger, &head);
    if (err != ERR_OK) {
        return note_wrap(note, err, "entry %llu", (unsigned long long)head.index + 1);
    }
    if (witness->effects.kind != LEDGER_KIND_SEAL) {
        return ERR_OK;
    }
    err = header_keep(witness, note);
    if (err == ERR_OK && head.height % SNAPSHOT_BLOCKS == 0) {
        err = snapshot_write(witness, note);
    }
    return err;
}

/* One page of entries, applied up to the seal of height. */
static enum err page_apply(struct witness *witness, uint64_t height, struct note *note)
{
    struct ledger_head head;
    ProtobufCMessage *message = NULL;
    Openledger__V1__GetEntriesRequest request = OPENLEDGER__V1__GET_ENTRIES_REQUEST__INIT;
    arena_reset(witness->arena);
    ledger_head(witness->ledger, &head);
    request.from_index = head.index + 1;
    enum err err = rpc_call(witness->client, "Settlement.GetEntries", &request.base, FETCH_MS,
                            witness->arena, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__GetEntriesReply *reply = (const void *)message;
    if (reply->n_entries == 0) {
        return note_set(note, ERR_UNAVAILABLE, "the log has no entry %llu yet",
                        (unsigned long long)head.index + 1);
    }
    for (size_t i = 0; i < reply->n_entries && err == ERR_OK && height_of(witness) < height; i++) {
        err = entry_apply(witness, ledger_bytes(reply->entries[i]), note);
    }
    return err;
}

/* ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_NOT_FOUND: not there yet. Any other error: the log breaks a rule. */
static enum err replay(struct witness *witness, uint64_t height, struct note *note)
{
    uint64_t end_ms = clock_mono_ms() + REPLAY_MS;
    enum err err = header_keep(witness, note);
    while (err == ERR_OK && height_of(witness) < height) {
        err = clock_mono_ms() < end_ms
                  ? page_apply(witness, height, note)
                  : note_set(note, ERR_TIMEOUT, "replaying: block %llu of %llu",
                             (unsigned long long)height_of(witness), (unsigned long long)height);
    }
    return err;
}

static bool not_yet(enum err err)
{
    return err == ERR_UNAVAILABLE || err == ERR_TIMEOUT || err == ERR_NOT_FOUND ||
           err == ERR_NO_MEMORY;
}

/* ---- answering ---------------------------------------------------------------------------------- */

/* Keeps a checkpoint of the log's own key that is not the tree we computed: whoever sees it and ours
 * knows that the log lied. */
static void fork_keep(struct witness *witness, const struct checkpoint *checkpoint,
                      struct bytes signed_note)
{
    char path[FILE_PATH_SIZE];
    struct note note = {""};
    if (file_path(path, "%s/fork-%llu", witness->folder,
                  (unsigned long long)checkpoint->leaf_count) == ERR_OK &&
        file_write_atomic(path, signed_note, 0644, &note) != ERR_OK) {
        log_error("fork_not_kept note=\"%s\"", note.text);
    }
    log_error("fork_seen height=%llu kept=%s", (unsigned long long)checkpoint->leaf_count, path);
}

/* Is the checkpoint over the headers that we computed? Both must be there. */
static enum err root_compare(struct witness *witness, const struct checkpoint *checkpoint,
                             struct note *note)
{
    struct digest root;
    struct tlog_reader reader = tlog_store_reader(witness->tiles);
    enum err err = tlog_root(&reader, checkpoint->leaf_count, &root, note);
    if (err == ERR_OK && !digest_equal(&root, &checkpoint->root)) {
        err = note_set(note, ERR_CONFLICT,
                       "the headers replayed here up to block %llu have another root",
                       (unsigned long long)checkpoint->leaf_count);
    }
    return err;
}

/* After a refusal: does what the log signed contradict what its entries gave? */
static void fork_look(struct witness *witness, struct bytes signed_note)
{
    const struct signed_note_key log = {witness->origin, SIGNED_NOTE_PLAIN,
                                        witness->trust.sequencer};
    struct checkpoint checkpoint;
    struct bytes body;
    if (signed_note_verify(signed_note, &log, 1, &body, NULL) == ERR_OK &&
        checkpoint_parse(body, &checkpoint, NULL, NULL) == ERR_OK &&
        strcmp(checkpoint.origin, witness->origin) == 0 &&
        checkpoint.leaf_count <= tlog_store_size(witness->tiles) &&
        root_compare(witness, &checkpoint, NULL) == ERR_CONFLICT) {
        fork_keep(witness, &checkpoint, signed_note);
    }
}

/* Remembers, on disk first, then signs. */
static int sign(struct witness *witness, const struct checkpoint *checkpoint,
                struct bytes signed_note, uint64_t time_s, struct buf *out, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = path_in(witness, "checkpoint", path);
    err = err ? err : file_write_atomic(path, signed_note, 0644, note);
    if (err == ERR_OK) {
        witness->seen = (struct tlog_seen){checkpoint->leaf_count, checkpoint->root};
        err = signed_note_cosign(signed_note, witness->name, witness->keys, time_s, out);
    }
    return err == ERR_OK ? TLOG_SIGN : err_http_status(err);
}

static int answer(struct witness *witness, struct bytes body, uint64_t time_s, struct buf *out,
                  struct note *note)
{
    const struct signed_note_key log = {witness->origin, SIGNED_NOTE_PLAIN,
                                        witness->trust.sequencer};
    struct tlog_request request;
    struct checkpoint checkpoint;
    if (tlog_request_parse(body, &request, note) != ERR_OK) {
        return TLOG_MALFORMED;
    }
    int verdict = (int)tlog_judge(&witness->seen, &request, &log, &checkpoint, note);
    if (verdict != TLOG_SIGN) {
        fork_look(witness, request.checkpoint);
        if (verdict == TLOG_CONFLICT && request.old_size != witness->seen.size) {
            (void)buf_printf(out, "%llu\n", (unsigned long long)witness->seen.size);
        }
        return verdict;
    }
    enum err err = replay(witness, checkpoint.leaf_count, note);
    if (not_yet(err)) {
        return WITNESS_BEHIND;
    }
    err = err ? err : root_compare(witness, &checkpoint, note);
    if (err == ERR_CONFLICT) {
        fork_keep(witness, &checkpoint, request.checkpoint);
    }
    if (err != ERR_OK) {
        log_error("refused height=%llu err=%s note=\"%s\"",
                  (unsigned long long)checkpoint.leaf_count, err_name(err), note->text);
        return TLOG_INCONSISTENT;
    }
    return sign(witness, &checkpoint, request.checkpoint, time_s, out, note);
}

int witness_answer(struct witness *witness, struct bytes request, uint64_t time_s,
                   struct buf *out_body)
{
    struct note note = {""};
    int status = answer(witness, request, time_s, out_body, &note);
    if (status != TLOG_SIGN && out_body->size == 0) {
        (void)buf_printf(out_body, "%s\n", note.text);
    }
    return status;
}

/* ---- life --------------------------------------------------------------------------------------- */

/* What we cosigned last. */
static enum err seen_load(struct witness *witness, struct note *note)
{
    const struct signed_note_key log = {witness->origin, SIGNED_NOTE_PLAIN,
                                        witness->trust.sequencer};
    char path[FILE_PATH_SIZE];
    struct buf text;
    struct bytes body;
    struct checkpoint checkpoint;
    buf_init(&text, SIGNED_NOTE_MAX);
    enum err err = path_in(witness, "checkpoint", path);
    err = err ? err : file_read(path, &text, note);
    if (err == ERR_OK) {
        err = signed_note_verify(buf_bytes(&text), &log, 1, &body, note);
        err = err ? err : checkpoint_parse(body, &checkpoint, NULL, note);
        err = err ? note_wrap(note, ERR_CORRUPT, "%s", path) : err;
    }
    if (err == ERR_OK) {
        witness->seen = (struct tlog_seen){checkpoint.leaf_count, checkpoint.root};
    }
    buf_deinit(&text);
    return err == ERR_NOT_FOUND ? ERR_OK : err; /* the first time */
}

/* A snapshot fits when the tiles hold its headers; else everything is replayed. */
static enum err state_load(struct witness *witness, struct bytes genesis, struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf snapshot;
    struct ledger *restored = NULL;
    struct ledger_head head;
    struct digest root;
    buf_init(&snapshot, SNAPSHOT_MAX);
    enum err err = path_in(witness, "tiles", path);
    err = err ? err : tlog_store_open(path, &witness->tiles, note);
    err = err ? err : path_in(witness, "snapshot", path);
    if (err == ERR_OK && file_exists(path) && file_read(path, &snapshot, NULL) == ERR_OK &&
        ledger_restore(genesis, buf_bytes(&snapshot), &restored, NULL) == ERR_OK) {
        struct tlog_reader reader = tlog_store_reader(witness->tiles);
        ledger_head(restored, &head);
        if (head.height <= tlog_store_size(witness->tiles) &&
            tlog_root(&reader, head.height, &root, NULL) == ERR_OK &&
            digest_equal(&root, &head.headers_root)) {
            ledger_destroy(witness->ledger);
            witness->ledger = restored;
            restored = NULL;
        }
    }
    ledger_destroy(restored);
    buf_deinit(&snapshot);
    if (err == ERR_OK && height_of(witness) == 0) {
        err = tlog_store_clear(witness->tiles, note); /* computed anew, every one */
    }
    return err;
}

static enum err name_find(struct witness *witness, const char *given, struct note *note)
{
    const struct ledger_witnesses *known = &witness->trust.witnesses;
    for (uint32_t i = 0; i < known->count && given[0] == '\0'; i++) {
        if (public_key_equal(&known->items[i].key, key_pair_public(witness->keys))) {
            given = known->items[i].name;
        }
    }
    if (given[0] == '\0') {
        return note_set(note, ERR_NOT_FOUND,
                        "genesis does not name this key as a witness; --name gives it a name");
    }
    if (!signed_note_name_valid(given)) {
        return note_set(note, ERR_INVALID, "'%.64s' cannot be a key's name", given);
    }
    (void)snprintf(witness->name, sizeof witness->name, "%s", given);
    return ERR_OK;
}

static enum err connect(struct witness *witness, const char *url, struct note *note)
{
    if (strlen(url) >= URL_SIZE) {
        return note_set(note, ERR_LIMIT, "the log's URL has more than %d bytes", URL_SIZE - 1);
    }
    (void)snprintf(witness->log_url, sizeof witness->log_url, "%s", url);
    witness->client = rpc_client_http(witness->log_url, NULL);
    witness->fetch = fetch_create();
    witness->arena = arena_create(ARENA_MAX);
    return witness->client == NULL || witness->fetch == NULL || witness->arena == NULL
               ? ERR_NO_MEMORY
               : ERR_OK;
}

enum err witness_open(const struct witness_options *options, struct witness **out_witness,
                      struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct witness *witness = calloc(1, sizeof *witness);
    if (witness == NULL) {
        return ERR_NO_MEMORY;
    }
    witness->lock = -1;
    witness->keys = options->keys;
    ledger_effects_init(&witness->effects);
    enum err err = file_path(witness->folder, "%s", options->folder);
    err = err ? err : file_make_folders(options->folder, note);
    err = err ? err : path_in(witness, "lock", path);
    err = err ? err : file_open(path, FILE_WRITE, &witness->lock, note);
    err = err ? err : file_lock(witness->lock, note);
    err = err ? err : ledger_create(options->genesis, &witness->ledger, note);
    if (err == ERR_OK) {
        ledger_trust(witness->ledger, &witness->trust);
        (void)ledger_origin(&witness->trust.chain_id, witness->origin);
        err = name_find(witness, options->name, note);
    }
    err = err ? err : connect(witness, options->log_url, note);
    err = err ? err : seen_load(witness, note);
    err = err ? err : state_load(witness, options->genesis, note);
    if (err != ERR_OK) {
        witness_close(witness);
        return err;
    }
    *out_witness = witness;
    return ERR_OK;
}

void witness_close(struct witness *witness)
{
    if (witness == NULL) {
        return;
    }
    rpc_client_destroy(witness->client);
    fetch_destroy(witness->fetch);
    arena_destroy(witness->arena);
    tlog_store_close(witness->tiles);
    ledger_effects_deinit(&witness->effects);
    ledger_destroy(witness->ledger);
    file_close(witness->lock);
    free(witness);
}

enum err witness_key(const struct witness *witness, struct buf *out)
{
    const struct signed_note_key key = {witness->name, SIGNED_NOTE_COSIGNATURE,
                                        *key_pair_public(witness->keys)};
    return signed_note_key_format(&key, out);
}
