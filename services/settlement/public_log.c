/* public_log.c - see public_log.h. */
#include "services/settlement/public_log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/base/log.h"
#include "shared/crypto/signed_note.h"
#include "shared/http/fetch.h"
#include "shared/ledger/batch.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/thread.h"
#include "shared/tlog/store.h"
#include "shared/tlog/witness.h"

enum {
    ROUND_MS = 5000, /* how long a checkpoint waits for its quorum before it is shown without */
    ASK_MS = 4000,   /* one that has much to replay says so and is asked again */
    RETRY_MS = 1000,
    URL_SIZE = 256,
    ANSWER_MAX = 16384, /* bytes of a witness's answer */
    SIZE_DIGITS_MAX = 18
};

/* One witness as we reach it; which of genesis's it is, its signature tells. */
struct asker {
    struct public_log *log;
    struct thread *thread;
    struct fetch *fetch;
    char url[URL_SIZE];
    uint64_t cosigned;    /* size of the tree it cosigned last, as far as we know */
    uint64_t done_height; /* of the last round it signed in; guarded by the mutex */
    enum err last;        /* to log only what changed */
};

struct public_log {
    char folder[FILE_PATH_SIZE];
    struct ledger_trust trust;
    struct signed_note_key keys[LEDGER_WITNESSES_MAX];
    struct blob_store *blobs;
    struct metric *final_metric, *refused_metric;
    struct asker askers[PUBLIC_LOG_WITNESSES_MAX];
    uint32_t asker_count;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool stopping;
    uint64_t offered_height;
    struct buf offered;
    uint64_t round_height; /* 0: none yet */
    uint64_t round_ms;     /* when it began */
    struct buf round;      /* our note, without cosignatures */
    struct buf lines;      /* the cosignatures so far */
    bool signed_by[LEDGER_WITNESSES_MAX];
    uint32_t cosignatures;
    struct public_log_state published;
    struct buf published_note;
};

/* ---- rounds: with the mutex held ---------------------------------------------------------------- */

static void publish(struct public_log *log)
{
    struct public_log_state *state = &log->published;
    if (log->round_height < state->height) {
        return;
    }
    buf_clear(&log->published_note);
    (void)buf_append_bytes(&log->published_note, buf_bytes(&log->round));
    CHECK(buf_append_bytes(&log->published_note, buf_bytes(&log->lines)) == ERR_OK);
    state->height = log->round_height;
    state->cosignatures = log->cosignatures;
    state->final = log->cosignatures >= log->trust.witnesses.quorum;
    if (state->final) {
        state->final_height = state->height;
        metric_set(log->final_metric, (double)state->final_height);
    }
}

/* Begins the next round where the last one is over and there is something newer. */
static void round_next(struct public_log *log)
{
    bool over = log->round_height == 0 || log->cosignatures >= log->trust.witnesses.quorum ||
                clock_mono_ms() - log->round_ms >= ROUND_MS;
    if (!over || log->offered_height <= log->round_height) {
        return;
    }
    if (log->round_height != 0) {
        publish(log);
    }
    log->round_height = log->offered_height;
    log->round_ms = clock_mono_ms();
    buf_clear(&log->round);
    CHECK(buf_append_bytes(&log->round, buf_bytes(&log->offered)) == ERR_OK);
    buf_clear(&log->lines);
    log->cosignatures = 0;
    memset(log->signed_by, 0, sizeof log->signed_by);
    if (log->trust.witnesses.quorum == 0) {
        publish(log);
    }
    (void)pthread_cond_broadcast(&log->changed);
}

/* Counts cosignatures that were verified: signed_by[i] is witness i. */
static void round_add(struct public_log *log, struct bytes lines, const bool *signed_by)
{
    bool new = false;
    for (uint32_t i = 0; i < log->trust.witnesses.count; i++) {
        if (signed_by[i] && !log->signed_by[i]) {
            new = true;
            log->signed_by[i] = true;
            log->cosignatures++;
        }
    }
    if (new &&buf_append_bytes(&log->lines, lines) == ERR_OK &&
        log->cosignatures >= log->trust.witnesses.quorum) {
        publish(log);
    }
    round_next(log);
}

void public_log_offer(struct public_log *log, uint64_t height, struct bytes checkpoint)
{
    (void)pthread_mutex_lock(&log->mutex);
    if (height > log->offered_height) {
        buf_clear(&log->offered);
        CHECK(buf_append_bytes(&log->offered, checkpoint) == ERR_OK);
        log->offered_height = height;
    }
    round_next(log);
    (void)pthread_mutex_unlock(&log->mutex);
}

void public_log_state(struct public_log *log, struct public_log_state *out_state, struct buf *out)
{
    (void)pthread_mutex_lock(&log->mutex);
    round_next(log);
    *out_state = log->published;
    if (out != NULL) {
        (void)buf_append_bytes(out, buf_bytes(&log->published_note));
    }
    (void)pthread_mutex_unlock(&log->mutex);
}

/* ---- asking witnesses --------------------------------------------------------------------------- */

/* The size in the body of a 409. False: there is none, so it is a fork in the witness's eyes. */
static bool conflict_size(struct bytes body, uint64_t *out)
{
    uint64_t value = 0;
    if (body.size < 2 || body.size > SIZE_DIGITS_MAX || body.data[body.size - 1] != '\n') {
        return false;
    }
    for (size_t i = 0; i + 1 < body.size; i++) {
        if (body.data[i] < '0' || body.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(body.data[i] - '0');
    }
    *out = value;
    return true;
}

static enum err post(struct asker *asker, uint64_t height, struct bytes checkpoint, int *out_status,
                     struct buf *answer, struct note *note)
{
    struct tlog_request request = {.old_size = asker->cosigned, .checkpoint = checkpoint};
    struct tlog_reader reader = tlog_files_reader(asker->log->folder);
    char url[URL_SIZE + 32];
    struct buf body;
    buf_init(&body, TLOG_REQUEST_MAX);
    enum err err = tlog_prove_consistency(&reader, asker->cosigned, height, &request.proof, note);
    err = err ? err : tlog_request_format(&request, &body);
    (void)snprintf(url, sizeof url, "%s/add-checkpoint", asker->url);
    if (err == ERR_OK) {
        static const char *const HEADERS[] = {"Content-Type: text/plain", NULL};
        const struct fetch_request fetch = {
            .url = url, .headers = HEADERS, .body = buf_bytes(&body), .timeout_ms = ASK_MS};
        err = fetch_run(asker->fetch, &fetch, out_status, answer, note);
    }
    buf_deinit(&body);
    return err;
}

/* Are the lines of the answer cosignatures of this checkpoint by genesis's witnesses? */
static enum err lines_check(struct public_log *log, struct bytes checkpoint, struct bytes lines,
                            bool *out_signed_by, struct note *note)
{
    struct buf whole;
    struct bytes text;
    bool any = false;
    buf_init(&whole, SIGNED_NOTE_MAX);
    (void)buf_append_bytes(&whole, checkpoint);
    enum err err = buf_append_bytes(&whole, lines);
    err = err ? err
              : signed_note_check(buf_bytes(&whole), log->keys, log->trust.witnesses.count,
                                  out_signed_by, &text, note);
    buf_deinit(&whole);
    for (uint32_t i = 0; i < log->trust.witnesses.count; i++) {
        any = any || out_signed_by[i];
    }
    return err || any
               ? err
               : note_set(note, ERR_DENIED, "the cosignature is of none of genesis's witnesses");
}

/* One request, and a second one when the witness tells where it stands. Appends its lines. */
static enum err ask(struct asker *asker, uint64_t height, struct bytes checkpoint,
                    struct buf *lines, struct note *note)
{
    int status = 0;
    enum err err = ERR_OK;
    for (int turn = 0; turn < 2; turn++) {
        uint64_t size = 0;
        buf_clear(lines);
        err = post(asker, height, checkpoint, &status, lines, note);
        if (err != ERR_OK || status != TLOG_CONFLICT) {
            break;
        }
        if (!conflict_size(buf_bytes(lines), &size)) {
            return note_set(note, ERR_CONFLICT, "%s saw another history of this log", asker->url);
        }
        if (size > height) {
            return note_set(note, ERR_CONFLICT, "%s cosigned %llu blocks, we have %llu", asker->url,
                            (unsigned long long)size, (unsigned long long)height);
        }
        asker->cosigned = size;
    }
    if (err == ERR_OK && status != TLOG_SIGN) {
        err = note_set(note, ERR_DENIED, "%s answered %d: %.120s", asker->url, status,
                       buf_text(lines));
    }
    return err;
}

static void asker_report(struct asker *asker, enum err err, const struct note *note)
{
    if (err != asker->last) {
        asker->last = err;
        if (err == ERR_OK) {
            log_info("witness_cosigns url=%s", asker->url);
        } else {
            log_warn("witness_refuses url=%s err=%s note=\"%s\"", asker->url, err_name(err),
                     note->text);
        }
    }
    metric_add(asker->log->refused_metric, err == ERR_OK ? 0 : 1);
}

static void wait_ms(struct public_log *log, uint32_t ms)
{
    uint64_t until_ms = clock_mono_ms() + ms;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000};
    (void)pthread_cond_timedwait(&log->changed, &log->mutex, &until);
}

static void ask_loop(void *argument)
{
    struct asker *asker = argument;
    struct public_log *log = asker->log;
    struct buf checkpoint;
    struct buf lines;
    buf_init(&checkpoint, SIGNED_NOTE_MAX);
    buf_init(&lines, ANSWER_MAX);
    (void)pthread_mutex_lock(&log->mutex);
    while (!log->stopping) {
        uint64_t height = log->round_height;
        if (height == 0 || asker->done_height == height) {
            wait_ms(log, RETRY_MS);
            round_next(log);
            continue;
        }
        buf_clear(&checkpoint);
        CHECK(buf_append_bytes(&checkpoint, buf_bytes(&log->round)) == ERR_OK);
        (void)pthread_mutex_unlock(&log->mutex);
        bool signed_by[LEDGER_WITNESSES_MAX] = {false};
        struct note note = {""};
        enum err err = ask(asker, height, buf_bytes(&checkpoint), &lines, &note);
        err = err ? err
                  : lines_check(log, buf_bytes(&checkpoint), buf_bytes(&lines), signed_by, &note);
        asker->cosigned = err ? asker->cosigned : height;
        asker_report(asker, err, &note);
        (void)pthread_mutex_lock(&log->mutex);
        if (err != ERR_OK) {
            wait_ms(log, RETRY_MS);
            round_next(log);
        } else {
            asker->done_height = height;
            if (log->round_height == height) {
                round_add(log, buf_bytes(&lines), signed_by);
            }
        }
    }
    (void)pthread_mutex_unlock(&log->mutex);
    buf_deinit(&checkpoint);
    buf_deinit(&lines);
}

/* ---- life --------------------------------------------------------------------------------------- */

static enum err askers_start(struct public_log *log, const char *urls, struct note *note)
{
    const char *at = urls;
    while (*at != '\0') {
        size_t size = strcspn(at, ",");
        if (log->asker_count == PUBLIC_LOG_WITNESSES_MAX || size == 0 || size >= URL_SIZE) {
            return note_set(note, ERR_INVALID, "witnesses: at most %d URLs of at most %d bytes",
                            PUBLIC_LOG_WITNESSES_MAX, URL_SIZE - 1);
        }
        struct asker *asker = &log->askers[log->asker_count++];
        asker->log = log;
        memcpy(asker->url, at, size);
        asker->fetch = fetch_create();
        enum err err = asker->fetch == NULL
                           ? ERR_NO_MEMORY
                           : thread_start("witness", ask_loop, asker, &asker->thread, note);
        if (err != ERR_OK) {
            return err;
        }
        at += size + (at[size] == ',' ? 1 : 0);
    }
    return ERR_OK;
}

enum err public_log_start(const struct public_log_options *options, struct public_log **out_log,
                          struct note *note)
{
    struct public_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_condattr_t monotonic;
    CHECK(pthread_condattr_init(&monotonic) == 0);
    CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&log->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&log->changed, &monotonic) == 0);
    (void)pthread_condattr_destroy(&monotonic);
    log->trust = *options->trust;
    log->blobs = options->blobs;
    for (uint32_t i = 0; i < log->trust.witnesses.count; i++) {
        const struct ledger_witness *witness = &log->trust.witnesses.items[i];
        log->keys[i] =
            (struct signed_note_key){witness->name, SIGNED_NOTE_COSIGNATURE, witness->key};
    }
    log->final_metric = metrics_gauge(options->metrics, "openledger_final_height", "",
                                      "blocks under the newest checkpoint with its quorum");
    log->refused_metric = metrics_counter(options->metrics, "openledger_witness_failures_total", "",
                                          "requests to witnesses that gave no cosignature");
    buf_init(&log->offered, SIGNED_NOTE_MAX);
    buf_init(&log->round, SIGNED_NOTE_MAX);
    buf_init(&log->lines, SIGNED_NOTE_MAX);
    buf_init(&log->published_note, SIGNED_NOTE_MAX);
    enum err err = file_path(log->folder, "%s", options->tiles_folder);
    err = err ? err : askers_start(log, options->witnesses, note);
    if (err != ERR_OK) {
        public_log_stop(log);
        return err;
    }
    *out_log = log;
    return ERR_OK;
}

void public_log_stop(struct public_log *log)
{
    if (log == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&log->mutex);
    log->stopping = true;
    (void)pthread_cond_broadcast(&log->changed);
    (void)pthread_mutex_unlock(&log->mutex);
    for (uint32_t i = 0; i < log->asker_count; i++) {
        thread_join(log->askers[i].thread);
        fetch_destroy(log->askers[i].fetch);
    }
    buf_deinit(&log->offered);
    buf_deinit(&log->round);
    buf_deinit(&log->lines);
    buf_deinit(&log->published_note);
    (void)pthread_cond_destroy(&log->changed);
    (void)pthread_mutex_destroy(&log->mutex);
    free(log);
}

/* ---- files -------------------------------------------------------------------------------------- */

/* Only what is a receipt or share batch of this chain: the folder holds rows too, which are not public. */
static enum err batch_file(struct public_log *log, const char *hex, struct buf *out,
                           struct note *note)
{
    struct digest digest;
    Openledger__V1__ReceiptBatch *receipts = NULL;
    Openledger__V1__ShareBatch *shares = NULL;
    size_t before = out->size;
    if (hex_decode(hex, strlen(hex), digest.bytes, DIGEST_SIZE) != ERR_OK) {
        return note_set(note, ERR_INVALID, "not a batch's name");
    }
    enum err err = blob_get(log->blobs, &digest, out, note);
    if (err != ERR_OK) {
        return err;
    }
    struct bytes data = bytes_of(out->data + before, out->size - before);
    if (ledger_receipt_batch_verify(data, &log->trust.chain_id, &receipts, NULL) == ERR_OK) {
        openledger__v1__receipt_batch__free_unpacked(receipts, NULL);
        return ERR_OK;
    }
    if (ledger_share_batch_verify(data, &log->trust.chain_id, &shares, NULL) == ERR_OK) {
        openledger__v1__share_batch__free_unpacked(shares, NULL);
        return ERR_OK;
    }
    buf_truncate(out, before);
    return note_set(note, ERR_NOT_FOUND, "no such batch");
}

enum err public_log_file(struct public_log *log, const char *path, struct buf *out,
                         struct public_log_file *out_file, struct note *note)
{
    static const char BATCH[] = "batch/";
    struct tlog_tile tile;
    struct public_log_state state;
    *out_file = (struct public_log_file){"application/octet-stream", true};
    if (strcmp(path, "checkpoint") == 0) {
        *out_file = (struct public_log_file){"text/plain; charset=utf-8", false};
        public_log_state(log, &state, out);
        return state.height > 0 ? ERR_OK : note_set(note, ERR_NOT_FOUND, "no checkpoint yet");
    }
    if (strncmp(path, BATCH, sizeof BATCH - 1) == 0) {
        return batch_file(log, path + sizeof BATCH - 1, out, note);
    }
    if (tlog_tile_parse(path, &tile) != ERR_OK) {
        return note_set(note, ERR_INVALID, "not a path of the log");
    }
    enum err err = tlog_files_read(log->folder, &tile, out, NULL);
    return err ? note_set(note, err, "no such tile") : ERR_OK; /* without our folder's name */
}

static void on_get(void *context, struct http_request *request)
{
    struct public_log *log = context;
    struct public_log_file file;
    struct note note = {""};
    struct buf body;
    buf_init(&body, TLOG_BUNDLE_MAX);
    enum err err = public_log_file(log, http_path(request) + 1, &body, &file, &note);
    if (err == ERR_INVALID) {
        http_reply_error(request, 404, "not_found", note.text);
    } else if (err != ERR_OK) {
        http_reply_error(request, err_http_status(err), "not_found", note.text);
    } else {
        const struct http_field fields[] = {
            {"content-type", file.content_type},
            {"cache-control",
             file.immutable ? "public, max-age=31536000, immutable" : "public, max-age=1"},
            {"access-control-allow-origin", "*"}};
        http_reply_fields(request, 200, (struct http_fields){.items = fields, .count = 3},
                          buf_bytes(&body));
    }
    buf_deinit(&body);
}

void public_log_routes(struct public_log *log, struct http_server *server)
{
    http_route(server, "GET", "/checkpoint", on_get, log);
    http_route(server, "GET", "/tile/*", on_get, log);
    http_route(server, "GET", "/batch/*", on_get, log);
}
