/* public_log.h - the log as the world sees it: checkpoints with cosignatures, tiles, batches, over HTTP.
 *
 *     GET /checkpoint                 the newest checkpoint that has its quorum (text/plain)
 *     GET /tile/<L>/<N>[.p/<W>]       hashes; /tile/entries/<N>[.p/<W>] block headers (C2SP tlog-tiles)
 *     GET /batch/<64 hex digits>      a published receipt or share batch, which replaying the log needs
 *
 * A round asks every witness to cosign one checkpoint (POST add-checkpoint, C2SP tlog-witness), each from a
 * thread of its own. It ends with the quorum that genesis asks for, which makes the checkpoint final; or
 * after ROUND_MS without one: then the checkpoint is published with what it has, as readers must be able to
 * see that the log goes on. The next round takes the newest checkpoint there is by then.
 *
 *     idle --offer--> asking --quorum--> published, final     --newer offer--> asking
 *                     asking --ROUND_MS, newer offer--> published, not final, asking the newer
 *
 * Any thread, but for what is marked. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/metrics.h"
#include "shared/blob/blob.h"
#include "shared/http/http.h"
#include "shared/ledger/proof.h"

#define PUBLIC_LOG_WITNESSES_MAX LEDGER_WITNESSES_MAX

struct public_log;

struct public_log_options {
    const char *tiles_folder;         /* copied */
    const struct ledger_trust *trust; /* copied: origin, keys, quorum */
    const char *witnesses;            /* their URLs, separated by commas; "" for none */
    struct blob_store *blobs;         /* borrowed */
    struct metrics *metrics;
};

/* ERR_INVALID: more than PUBLIC_LOG_WITNESSES_MAX witnesses. */
MUST_USE enum err public_log_start(const struct public_log_options *options,
                                   struct public_log **out_log, struct note *note);
/* Waits for requests under way, some seconds at most. NULL is fine. */
void public_log_stop(struct public_log *log);

/* A newer checkpoint of ours, whose tiles are in the folder. The worker's. */
void public_log_offer(struct public_log *log, uint64_t height, struct bytes checkpoint);

struct public_log_state {
    uint64_t height; /* of the published checkpoint; 0: none yet */
    uint32_t cosignatures;
    bool final;
    uint64_t final_height; /* of the newest final one */
};
/* Also appends the published checkpoint; out may be NULL. */
void public_log_state(struct public_log *log, struct public_log_state *out_state, struct buf *out);

struct public_log_file {
    const char *content_type;
    bool immutable;
};
/* Appends the file at path ("checkpoint", "tile/...", "batch/..."). ERR_NOT_FOUND; ERR_INVALID: not a path of
 * the log. */
MUST_USE enum err public_log_file(struct public_log *log, const char *path, struct buf *out,
                                  struct public_log_file *out_file, struct note *note);
/* Serves them; before the server starts. */
void public_log_routes(struct public_log *log, struct http_server *server);
