/* store.h - checkpoints of jobs on disk: what lets a killed trainer go on to the same bytes. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/platform/file.h"

struct trainer_store {
    char folder[FILE_PATH_SIZE];
};

/* Makes folder/checkpoints. */
MUST_USE enum err trainer_store_init(struct trainer_store *store, const char *folder,
                                     struct note *note);

/* Replaces the job's checkpoint in one step; what is read later is whole. ERR_FULL, ERR_IO (also for a
 * read-only disk): this machine's fault and not the job's; the note names the path. */
MUST_USE enum err trainer_store_save(const struct trainer_store *store, const struct digest *job,
                                     struct bytes checkpoint, struct note *note);
/* Appends it to out. ERR_NOT_FOUND: there is none. */
MUST_USE enum err trainer_store_load(const struct trainer_store *store, const struct digest *job,
                                     struct buf *out, struct note *note);
/* What it means for a job that our own disk, or the blob store's, did not take bytes: ERR_IO for ERR_DENIED
 * (read-only), which from anybody else is about the job; other errors as they are. */
enum err trainer_store_refused(enum err err);
/* Forgets it; a missing one is fine. */
void trainer_store_remove(const struct trainer_store *store, const struct digest *job);
