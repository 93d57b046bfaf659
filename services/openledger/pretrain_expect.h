/* pretrain_expect.h - whether a training run came to the model that a manifest names.
 *
 * Why: "anyone can train the base again" is worth what the comparison at its end is worth; it is
 * made by the program, so nobody has to compare digests by eye. */
#pragma once

#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define PRETRAIN_MANIFEST_MAX ((size_t)1 << 20) /* bytes of a manifest.json */

/* "model_digest" of the manifest at path. ERR_INVALID names the file: not a base model's manifest, or
 * no digest in it. */
MUST_USE enum err pretrain_expect_load(const char *path, struct digest *out, struct note *note);

/* ERR_CORRUPT names both digests when they differ. */
MUST_USE enum err pretrain_expect_check(const struct digest *expected, const struct digest *made,
                                        struct note *note);
