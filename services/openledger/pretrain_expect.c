/* pretrain_expect.c - see pretrain_expect.h. */
#include "services/openledger/pretrain_expect.h"

#include <string.h>

#include "services/openledger/pretrain_data.h"
#include "shared/json/json.h"
#include "shared/platform/file.h"

enum err pretrain_expect_load(const char *path, struct digest *out, struct note *note)
{
    struct buf bytes;
    struct json *manifest = NULL;
    buf_init(&bytes, PRETRAIN_MANIFEST_MAX);
    enum err err = file_read(path, &bytes, note);
    if (err == ERR_OK) {
        err = json_parse(buf_bytes(&bytes), PRETRAIN_MANIFEST_MAX, &manifest, note);
    }
    if (err == ERR_OK) {
        const char *kind = json_as_text(json_member(manifest, "kind"), "");
        const char *text = json_as_text(json_member(manifest, "model_digest"), "");
        if (strcmp(kind, PRETRAIN_MANIFEST_KIND) != 0) {
            err = note_set(note, ERR_INVALID, "%s is no base model's manifest", path);
        } else if (digest_parse(text, out) != ERR_OK) {
            err = note_set(note, ERR_INVALID, "%s has no model_digest", path);
        }
    }
    json_destroy(manifest);
    buf_deinit(&bytes);
    return err;
}

enum err pretrain_expect_check(const struct digest *expected, const struct digest *made,
                               struct note *note)
{
    char want[DIGEST_TEXT_SIZE];
    char got[DIGEST_TEXT_SIZE];
    if (digest_equal(expected, made)) {
        return ERR_OK;
    }
    return note_set(note, ERR_CORRUPT, "the model is %s, expected was %s", digest_format(made, got),
                    digest_format(expected, want));
}
