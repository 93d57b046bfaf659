/* blob_room.c - see blob_room.h.
 *
 * Order of locks: the folder's, exclusive and waited for, then a copy's, never waited for. Who maps a copy has its
 * shared lock before it asks for the folder's, so nobody waits in a circle.
 *
 * Opening and removing race: between another's open and its lock we may remove the name. So it looks, with the lock,
 * whether the name still leads to what it opened (file_is_at), and opens again if not; and we remove only with
 * the exclusive lock, when nobody has got that far. */
#include "shared/blob/blob_room.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/digest.h"
#include "shared/base/hex.h"
#include "shared/platform/file.h"

struct seen {
    const char *name; /* of the list's */
    uint64_t size;
    int64_t used_ns;
};

/* What lies in the folder beside the copy in hand, the one used longest ago first. */
struct copies {
    const char *folder;
    struct file_names names;
    struct seen *seen; /* [count] */
    size_t count, next;
    uint64_t size; /* bytes of all that are left */
};

static int compare_seen(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;
    if (x->used_ns != y->used_ns) {
        return x->used_ns < y->used_ns ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

/* Else somebody else put it there: it is neither counted nor touched. */
static bool is_copy(const char *name)
{
    struct digest digest;
    return hex_decode(name, strlen(name), digest.bytes, DIGEST_SIZE) == ERR_OK;
}

static void copies_deinit(struct copies *copies)
{
    file_names_deinit(&copies->names);
    free(copies->seen);
}

static enum err copies_list(const char *folder, const char *own, struct copies *out,
                            struct note *note)
{
    struct copies copies = {.folder = folder};
    enum err err = file_list(folder, BLOB_COPIES_COUNT_MAX, &copies.names, note);
    copies.seen = err ? NULL : calloc(copies.names.count + 1, sizeof *copies.seen);
    err = err == ERR_OK && copies.seen == NULL ? ERR_NO_MEMORY : err;
    for (size_t i = 0; i < copies.names.count && err == ERR_OK; i++) {
        char path[FILE_PATH_SIZE];
        struct seen seen = {.name = copies.names.items[i]};
        if (strcmp(seen.name, own) == 0 || !is_copy(seen.name)) {
            continue;
        }
        err = file_path(path, "%s/%s", folder, seen.name);
        err = err ? err : file_size(path, &seen.size, note);
        err = err ? err : file_used(path, &seen.used_ns, note);
        if (err == ERR_OK) {
            copies.seen[copies.count++] = seen;
            copies.size += seen.size;
        }
        err = err == ERR_NOT_FOUND ? ERR_OK : err; /* somebody tidies up by hand */
    }
    if (err != ERR_OK) {
        copies_deinit(&copies);
        return err;
    }
    qsort(copies.seen, copies.count, sizeof *copies.seen, compare_seen);
    *out = copies;
    return ERR_OK;
}

/* Removes the first of those left that nobody uses. ERR_NOT_FOUND: there is none. */
static enum err copies_drop_one(struct copies *copies)
{
    while (copies->next < copies->count) {
        const struct seen *seen = &copies->seen[copies->next++];
        char path[FILE_PATH_SIZE];
        int fd = -1;
        enum err err = file_path(path, "%s/%s", copies->folder, seen->name);
        err = err ? err : file_open(path, FILE_READ, &fd, NULL);
        err = err ? err : file_lock(fd, NULL);
        err = err ? err : file_remove(path, NULL);
        file_close(fd);
        if (err == ERR_OK || err == ERR_NOT_FOUND) {
            copies->size -= seen->size;
            return ERR_OK;
        } /* else in use, or not ours to remove */
    }
    return ERR_NOT_FOUND;
}

/* With the folder's lock. */
static enum err reserve(struct copies *copies, int fd, uint64_t size, uint64_t size_max,
                        struct note *note)
{
    uint64_t old = 0;
    enum err err = file_fd_size(fd, &old, note);
    if (err != ERR_OK || old >= size) {
        return err; /* another process was faster */
    }
    while (copies->size > size_max || size > size_max - copies->size) {
        if (copies_drop_one(copies) != ERR_OK) {
            return note_set(note, ERR_FULL,
                            "%llu bytes do not fit: copies may have %llu bytes (blob-copies-mib), "
                            "those in use have %llu",
                            (unsigned long long)size, (unsigned long long)size_max,
                            (unsigned long long)copies->size);
        }
    }
    do {
        err = file_reserve(fd, size, note);
    } while (err == ERR_FULL && copies_drop_one(copies) == ERR_OK);
    if (err != ERR_OK) { /* part of it may have been reserved: on a full disk others want it */
        enum err cut = file_truncate(fd, old, NULL);
        return note_wrap(note, cut ? cut : err, "%llu bytes more are needed",
                         (unsigned long long)(size - old));
    }
    return ERR_OK;
}

enum err blob_room_reserve(const char *path, int fd, uint64_t size, uint64_t size_max,
                           struct note *note)
{
    char folder[FILE_PATH_SIZE];
    const char *slash = strrchr(path, '/');
    struct copies copies;
    int lock = -1;
    enum err err = file_path(folder, "%.*s", (int)(slash - path), path);
    err = err ? err : file_open(folder, FILE_READ, &lock, note);
    err = err ? err : file_lock_wait(lock, false, note);
    err = err ? err : copies_list(folder, slash + 1, &copies, note);
    if (err == ERR_OK) {
        err = reserve(&copies, fd, size, size_max, note);
        copies_deinit(&copies);
    }
    file_close(lock);
    return err ? note_wrap(note, err, "%s", path) : ERR_OK;
}
