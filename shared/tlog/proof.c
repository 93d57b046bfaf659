/* proof.c - see proof.h. */
#include "shared/tlog/proof.h"

#include <inttypes.h>

#include "shared/base/base64.h"
#include "shared/tlog/lines.h"

static const char FIRST_LINE[] = "c2sp.org/tlog-proof@v1";

enum err tlog_proof_format(const struct tlog_proof *proof, struct bytes extra, struct buf *out)
{
    (void)buf_printf(out, "%s\n", FIRST_LINE);
    if (extra.size > 0) {
        (void)buf_append_text(out, "extra ");
        (void)base64_encode(extra, out);
        (void)buf_append_text(out, "\n");
    }
    (void)buf_printf(out, "index %" PRIu64 "\n", proof->path.leaf_index);
    for (uint32_t i = 0; i < proof->path.path_count; i++) {
        (void)lines_put_hash(&proof->path.path[i], out);
    }
    (void)buf_append_text(out, "\n");
    return buf_append_bytes(out, proof->checkpoint);
}

enum err tlog_proof_parse(struct bytes text, struct tlog_proof *out_proof, struct buf *extra,
                          struct note *note)
{
    struct tlog_proof proof = {.path = {.path_count = 0}};
    struct bytes line;
    if (text.size > TLOG_PROOF_MAX || !lines_take(&text, &line) ||
        !bytes_equal(line, bytes_of_text(FIRST_LINE)) || !lines_take(&text, &line)) {
        return note_set(note, ERR_INVALID, "not a %s file", FIRST_LINE);
    }
    if (lines_skip(&line, "extra ")) {
        struct buf decoded;
        buf_init(&decoded, TLOG_PROOF_MAX);
        enum err err = base64_decode(line, false, &decoded);
        err = err == ERR_OK && extra != NULL ? buf_append_bytes(extra, buf_bytes(&decoded)) : err;
        buf_deinit(&decoded);
        if (err != ERR_OK || line.size == 0 || !lines_take(&text, &line)) {
            return note_set(note, ERR_INVALID, "proof file: malformed extra data");
        }
    }
    if (!lines_skip(&line, "index ") || !lines_number(line, &proof.path.leaf_index)) {
        return note_set(note, ERR_INVALID, "proof file: malformed index");
    }
    for (;;) {
        if (!lines_take(&text, &line)) {
            return note_set(note, ERR_INVALID, "proof file: cut off before its checkpoint");
        }
        if (line.size == 0) {
            break;
        }
        if (proof.path.path_count == MERKLE_PATH_MAX ||
            !lines_hash(line, &proof.path.path[proof.path.path_count])) {
            return note_set(note, ERR_INVALID, "proof file: hash %u is malformed or too many",
                            proof.path.path_count);
        }
        proof.path.path_count++;
    }
    proof.checkpoint = text;
    *out_proof = proof;
    return ERR_OK;
}
