/* file.h - disk. Every read has a ceiling, every durable write survives a power cut.
 *
 * Errors of the system map to: ERR_NOT_FOUND (no such file), ERR_DENIED (permission), ERR_CONFLICT
 * (exists, locked), ERR_LIMIT (larger than the ceiling), ERR_FULL (disk full), ERR_NO_MEMORY (memory,
 * descriptors), ERR_IO; the note, which may be NULL everywhere, names path and cause. Paths are the
 * caller's: never build one from foreign names.
 *
 * Any thread; descriptors are plain ints, close-on-exec. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define FILE_PATH_SIZE 4096 /* bytes with NUL: for paths made with file_path() */

/* --- whole files --- */

/* Appends a file's bytes to out, whose limit is the ceiling. */
MUST_USE enum err file_read(const char *path, struct buf *out, struct note *note);

/* Replaces path in one step: a reader sees the old bytes or the new, also after a power cut
 * (temporary file beside it, fsync, rename, fsync of the folder). mode e.g. 0644, or 0600. */
MUST_USE enum err file_write_atomic(const char *path, struct bytes content, unsigned mode,
                                    struct note *note);

/* As file_write_atomic without waiting for the disk: whole, but may be lost by a power cut. */
MUST_USE enum err file_write_quick(const char *path, struct bytes content, unsigned mode,
                                   struct note *note);

/* Read-only memory map. Zero-sized files give data NULL. Truncating a mapped file elsewhere kills
 * the reader with SIGBUS: map only files that are replaced by rename. */
struct file_map {
    const uint8_t *data;
    size_t size;
    int held; /* file_map_take's own; 0 in a zeroed map */
};
MUST_USE enum err file_map_open(const char *path, struct file_map *out_map, struct note *note);
/* Maps the open file fd. On ERR_OK fd belongs to the map and is closed with it: a lock on it is held until then. */
MUST_USE enum err file_map_take(int fd, struct file_map *out_map, struct note *note);
void file_map_close(struct file_map *map); /* a zeroed map is fine */

/* --- folders and names --- */

bool file_exists(const char *path);  /* of any kind */
bool file_private(const char *path); /* it exists, and nobody but its owner may touch it */
MUST_USE enum err file_size(const char *path, uint64_t *out_size, struct note *note);
MUST_USE enum err file_make_folders(const char *path, struct note *note); /* mkdir -p, 0755 */
MUST_USE enum err file_rename(const char *from, const char *to, struct note *note); /* + fsync */
MUST_USE enum err file_remove(const char *path, struct note *note); /* file or empty folder */
/* Removes a folder and all in it; follows no links. A missing path is fine. */
MUST_USE enum err file_remove_tree(const char *path, struct note *note);
/* Makes a private folder named prefix + random letters (e.g. "/tmp/openledger-"). */
MUST_USE enum err file_make_private_folder(const char *prefix, char out_path[FILE_PATH_SIZE],
                                           struct note *note);

/* Joins with '/' and formats: file_path(out, "%s/%s", folder, name). ERR_LIMIT: too long. */
MUST_USE enum err file_path(char out_path[FILE_PATH_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The running program's own path and its folder: how the command line finds the services. */
MUST_USE enum err file_self(char out_path[FILE_PATH_SIZE], struct note *note);

/* Names in a folder without "." and "..", sorted by byte order. ERR_LIMIT: more than max. */
struct file_names {
    char **items;
    size_t count;
};
MUST_USE enum err file_list(const char *folder, size_t max, struct file_names *out_names,
                            struct note *note);
void file_names_deinit(struct file_names *names);

/* --- descriptors: what the journal is built from --- */

enum file_mode {
    FILE_READ,      /* must exist */
    FILE_WRITE,     /* read and write, created when missing (0644) */
    FILE_WRITE_NEW, /* as FILE_WRITE, ERR_CONFLICT when it exists */
};
MUST_USE enum err file_open(const char *path, enum file_mode mode, int *out_fd, struct note *note);
void file_close(int fd); /* -1 is fine */
MUST_USE enum err file_fd_size(int fd, uint64_t *out_size, struct note *note);

/* Reads up to size bytes at offset; fewer only at the end of the file. */
MUST_USE enum err file_read_at(int fd, uint64_t offset, void *out, size_t size, size_t *out_read,
                               struct note *note);
/* Writes all size bytes at offset, or fails (part of them may then be there). */
MUST_USE enum err file_write_at(int fd, uint64_t offset, const void *data, size_t size,
                                struct note *note);
MUST_USE enum err file_sync(int fd, struct note *note);                    /* fdatasync */
MUST_USE enum err file_sync_folder(const char *folder, struct note *note); /* names in it */
MUST_USE enum err file_sync_parent(const char *path, struct note *note);  /* of the path's folder */
MUST_USE enum err file_reserve(int fd, uint64_t size, struct note *note); /* preallocate, zero */
MUST_USE enum err file_truncate(int fd, uint64_t size, struct note *note);

/* Takes the file's exclusive lock, held until its descriptor closes or the process dies (flock).
 * ERR_CONFLICT: someone else has it. */
MUST_USE enum err file_lock(int fd, struct note *note);
/* The same, and waits for it. shared: not alone, but with others that ask so. fd may be a folder's (FILE_READ). */
MUST_USE enum err file_lock_wait(int fd, bool shared, struct note *note);

/* Is it fd's file that path names? After a lock was got: its holder before may have removed or replaced it. */
bool file_is_at(int fd, const char *path);

/* When a file was last marked as used, in nanoseconds since 1970: its time of modification, which writing
 * sets too. (Reading through a map leaves no trace that could be relied on.) */
MUST_USE enum err file_used(const char *path, int64_t *out_ns, struct note *note);
MUST_USE enum err file_use(int fd, struct note *note); /* now */

/* --- a simulated disk --- */

/* Stands in for every path that begins with prefix: tests/sim crashes it, tears its writes and fills it,
 * under the very code that runs on a real one. Each function as its namesake above. */
struct file_disk {
    const char *prefix; /* "sim:" */
    int first_fd;       /* its descriptors are this and above */
    enum err (*open)(const char *path, enum file_mode mode, int *out_fd);
    void (*close)(int fd);
    enum err (*size)(int fd, uint64_t *out_size);
    enum err (*read_at)(int fd, uint64_t offset, void *out, size_t size, size_t *out_read);
    enum err (*write_at)(int fd, uint64_t offset, const void *data, size_t size);
    enum err (*resize)(int fd, uint64_t size); /* truncate and reserve; new bytes are zero */
    enum err (*sync)(int fd);
    enum err (*sync_folder)(const char *folder);
    enum err (*rename)(const char *from, const char *to); /* without sync */
    enum err (*remove)(const char *path);
    enum err (*list)(const char *folder, size_t max, struct file_names *out_names);
    bool (*exists)(const char *path);
};
/* Borrowed for good; NULL ends it. Before any thread that touches files. */
void file_simulate(const struct file_disk *disk);
