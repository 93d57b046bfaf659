/* witness.c - see witness.h. */
#include "shared/tlog/witness.h"

#include <inttypes.h>
#include <string.h>

#include "shared/tlog/lines.h"

enum { PROOF_LINES_MAX = 63 };

enum err tlog_request_format(const struct tlog_request *request, struct buf *out)
{
    (void)buf_printf(out, "old %" PRIu64 "\n", request->old_size);
    for (uint32_t i = 0; i < request->proof.path_count; i++) {
        (void)lines_put_hash(&request->proof.path[i], out);
    }
    (void)buf_append_text(out, "\n");
    return buf_append_bytes(out, request->checkpoint);
}

enum err tlog_request_parse(struct bytes body, struct tlog_request *out_request, struct note *note)
{
    struct tlog_request request = {.old_size = 0};
    struct bytes line;
    if (body.size > TLOG_REQUEST_MAX || !lines_take(&body, &line) || !lines_skip(&line, "old ") ||
        !lines_number(line, &request.old_size)) {
        return note_set(note, ERR_INVALID, "malformed old size line");
    }
    for (uint32_t count = 0;; count++) {
        struct digest hash;
        if (!lines_take(&body, &line)) {
            return note_set(note, ERR_INVALID, "no checkpoint");
        }
        if (line.size == 0) {
            break;
        }
        if (count == PROOF_LINES_MAX || !lines_hash(line, &hash)) {
            return note_set(note, ERR_INVALID, "proof line %u is malformed or one too many", count);
        }
        request.too_long = count >= MERKLE_CONSISTENCY_MAX;
        if (!request.too_long) {
            request.proof.path[request.proof.path_count++] = hash;
        }
    }
    request.checkpoint = body;
    *out_request = request;
    return ERR_OK;
}

enum tlog_verdict tlog_judge(const struct tlog_seen *seen, const struct tlog_request *request,
                             const struct signed_note_key *log, struct checkpoint *out_checkpoint,
                             struct note *note)
{
    struct bytes body;
    struct checkpoint checkpoint;
    bool signed_by = false;
    /* The signature is judged after the origin: an unknown log's cannot be. */
    enum err signature = signed_note_check(request->checkpoint, log, 1, &signed_by, &body, note);
    if (signature == ERR_INVALID) {
        return TLOG_MALFORMED;
    }
    if (signature == ERR_OK && checkpoint_parse(body, &checkpoint, NULL, note) != ERR_OK) {
        return TLOG_MALFORMED;
    }
    if (signature == ERR_OK && strcmp(checkpoint.origin, log->name) != 0) {
        (void)note_set(note, ERR_NOT_FOUND, "log \"%.100s\" is not known here", checkpoint.origin);
        return TLOG_UNKNOWN_LOG;
    }
    if (signature != ERR_OK || !signed_by) {
        (void)note_set(note, ERR_DENIED, "the checkpoint is not signed by the log's key");
        return TLOG_UNSIGNED;
    }
    if (request->old_size > checkpoint.leaf_count) {
        (void)note_set(note, ERR_INVALID, "old size %" PRIu64 " is above the checkpoint's %" PRIu64,
                       request->old_size, checkpoint.leaf_count);
        return TLOG_MALFORMED;
    }
    if (request->old_size != seen->size) {
        (void)note_set(note, ERR_CONFLICT, "the last tree cosigned has %" PRIu64 " leaves",
                       seen->size);
        return TLOG_CONFLICT;
    }
    struct merkle_head before = {.leaf_count = seen->size, .root = seen->root};
    const struct merkle_head now = {.leaf_count = checkpoint.leaf_count, .root = checkpoint.root};
    if (seen->size == 0) {
        merkle_head((struct merkle_leaves){NULL, 0}, &before);
    }
    if (before.leaf_count == now.leaf_count && !digest_equal(&before.root, &now.root)) {
        (void)note_set(note, ERR_CONFLICT, "another tree of %" PRIu64 " leaves: the log forked",
                       now.leaf_count);
        return TLOG_CONFLICT;
    }
    if (request->too_long || !merkle_verify_consistency(&before, &now, &request->proof)) {
        (void)note_set(note, ERR_INVALID,
                       "the tree of %" PRIu64 " leaves does not begin with that of %" PRIu64,
                       now.leaf_count, before.leaf_count);
        return TLOG_INCONSISTENT;
    }
    *out_checkpoint = checkpoint;
    return TLOG_SIGN;
}
