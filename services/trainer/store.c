/* store.c - see store.h. One file per job, named by the job's id in hex. */
#include "services/trainer/store.h"

#include "shared/base/log.h"

enum err trainer_store_init(struct trainer_store *store, const char *folder, struct note *note)
{
    enum err err = file_path(store->folder, "%s/checkpoints", folder);
    return err != ERR_OK ? err : file_make_folders(store->folder, note);
}

static enum err path_of(const struct trainer_store *store, const struct digest *job,
                        char out[FILE_PATH_SIZE])
{
    char text[DIGEST_TEXT_SIZE];
    (void)digest_format(job, text);
    return file_path(out, "%s/%s", store->folder, text + sizeof DIGEST_PREFIX - 1);
}

enum err trainer_store_refused(enum err err)
{
    return err == ERR_DENIED ? ERR_IO : err;
}

enum err trainer_store_save(const struct trainer_store *store, const struct digest *job,
                            struct bytes checkpoint, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = path_of(store, job, path);
    return err != ERR_OK ? err
                         : trainer_store_refused(file_write_atomic(path, checkpoint, 0600, note));
}

enum err trainer_store_load(const struct trainer_store *store, const struct digest *job,
                            struct buf *out, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = path_of(store, job, path);
    return err != ERR_OK ? err : file_read(path, out, note);
}

void trainer_store_remove(const struct trainer_store *store, const struct digest *job)
{
    char path[FILE_PATH_SIZE];
    if (path_of(store, job, path) == ERR_OK && file_exists(path) &&
        file_remove(path, NULL) != ERR_OK) {
        log_warn("checkpoint_left path=%s", path); /* of a finished job: does no harm */
    }
}
