/* file.c - descriptors and whole files; folders and names are in folder.c. See file.h. */
#include "shared/platform/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/random.h"
#include "shared/platform/simulate.h"

const struct file_disk *file_simulated;

void file_simulate(const struct file_disk *disk)
{
    file_simulated = disk;
}

/* Turns errno into the caller's error: "could not DO path: cause". */
static enum err failed(struct note *note, const char *verb, const char *path)
{
    int cause = errno;
    return note_set(note, err_from_errno(cause), "could not %s %s: %s", verb, path,
                    strerrordesc_np(cause));
}

static enum err fd_failed(struct note *note, const char *verb)
{
    return failed(note, verb, "an open file");
}

void file_close(int fd)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        disk->close(fd);
        return;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

enum err file_open(const char *path, enum file_mode mode, int *out_fd, struct note *note)
{
    const struct file_disk *disk = simulated_path(path);
    if (disk != NULL) {
        return simulated(disk->open(path, mode, out_fd), note, "open");
    }
    int flags = mode == FILE_READ ? O_RDONLY : O_RDWR | O_CREAT;
    flags |= mode == FILE_WRITE_NEW ? O_EXCL : 0;
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0) {
        return failed(note, "open", path);
    }
    *out_fd = fd;
    return ERR_OK;
}

enum err file_fd_size(int fd, uint64_t *out_size, struct note *note)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        return simulated(disk->size(fd, out_size), note, "ask the size");
    }
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return fd_failed(note, "ask the size of");
    }
    *out_size = (uint64_t)info.st_size;
    return ERR_OK;
}

enum err file_read_at(int fd, uint64_t offset, void *out, size_t size, size_t *out_read,
                      struct note *note)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        return simulated(disk->read_at(fd, offset, out, size, out_read), note, "read");
    }
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, (uint8_t *)out + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fd_failed(note, "read");
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    *out_read = done;
    return ERR_OK;
}

enum err file_write_at(int fd, uint64_t offset, const void *data, size_t size, struct note *note)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        return simulated(disk->write_at(fd, offset, data, size), note, "write");
    }
    for (size_t done = 0; done < size;) {
        ssize_t put = pwrite(fd, (const uint8_t *)data + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return fd_failed(note, "write");
        }
        done += (size_t)put;
    }
    return ERR_OK;
}

enum err file_sync(int fd, struct note *note)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        return simulated(disk->sync(fd), note, "sync");
    }
    return fdatasync(fd) == 0 ? ERR_OK : fd_failed(note, "sync");
}

enum err file_reserve(int fd, uint64_t size, struct note *note)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        return simulated(disk->resize(fd, size), note, "reserve");
    }
    int rc;
    do {
        rc = posix_fallocate(fd, 0, (off_t)size);
    } while (rc == EINTR);
    errno = rc;
    return rc == 0 ? ERR_OK : fd_failed(note, "reserve space in");
}

enum err file_truncate(int fd, uint64_t size, struct note *note)
{
    const struct file_disk *disk = simulated_fd(fd);
    if (disk != NULL) {
        return simulated(disk->resize(fd, size), note, "truncate");
    }
    return ftruncate(fd, (off_t)size) == 0 ? ERR_OK : fd_failed(note, "truncate");
}

enum err file_lock(int fd, struct note *note)
{
    if (simulated_fd(fd) != NULL) {
        return ERR_OK; /* the simulation runs each program once */
    }
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? ERR_OK : fd_failed(note, "lock");
}

enum err file_lock_wait(int fd, bool shared, struct note *note)
{
    if (simulated_fd(fd) != NULL) {
        return ERR_OK;
    }
    int rc;
    do {
        rc = flock(fd, shared ? LOCK_SH : LOCK_EX);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? ERR_OK : fd_failed(note, "lock");
}

bool file_is_at(int fd, const char *path)
{
    struct stat open_one;
    struct stat named;
    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

enum err file_used(const char *path, int64_t *out_ns, struct note *note)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return failed(note, "ask the times of", path);
    }
    *out_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    return ERR_OK;
}

enum err file_use(int fd, struct note *note)
{
    return futimens(fd, NULL) == 0 ? ERR_OK : fd_failed(note, "set the times of");
}

enum err file_sync_folder(const char *folder, struct note *note)
{
    const struct file_disk *disk = simulated_path(folder);
    if (disk != NULL) {
        return simulated(disk->sync_folder(folder), note, "sync a folder");
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return failed(note, "open", folder);
    }
    enum err err = fsync(fd) == 0 ? ERR_OK : failed(note, "sync", folder);
    file_close(fd);
    return err;
}

enum err file_sync_parent(const char *path, struct note *note)
{
    char folder[FILE_PATH_SIZE];
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - path);
    enum err err = slash == NULL ? file_path(folder, ".")
                                 : file_path(folder, "%.*s", (int)(size > 0 ? size : 1), path);
    return err == ERR_OK ? file_sync_folder(folder, note) : err;
}

/* Appends what fd still gives, at most to out's limit. size_hint: what the file said it has. */
static enum err read_all(int fd, size_t size_hint, struct buf *out, const char *path,
                         struct note *note)
{
    enum { STEP = 65536 }; /* for files that do not say their size: pipes, /proc */
    for (;;) {
        size_t room = size_hint > 0 ? size_hint : STEP;
        room = room > out->limit - out->size ? out->limit - out->size : room;
        uint8_t extra = 0; /* at the limit: one byte more tells a full buffer from a larger file */
        uint8_t *at = room > 0 ? buf_reserve(out, room) : &extra;
        if (at == NULL) {
            return note_set(note, buf_err(out), "could not read %s: no memory", path);
        }
        ssize_t got = read(fd, at, room > 0 ? room : 1);
        if (got == 0) {
            return ERR_OK;
        }
        if (got < 0 && errno != EINTR) {
            return failed(note, "read", path);
        }
        if (got > 0 && room == 0) {
            return note_set(note, ERR_LIMIT, "%s is larger than %zu bytes", path, out->limit);
        }
        if (got > 0) {
            buf_commit(out, (size_t)got);
            size_hint = (size_t)got < size_hint ? size_hint - (size_t)got : 0;
        }
    }
}

enum err file_read(const char *path, struct buf *out, struct note *note)
{
    int fd = -1;
    size_t before = out->size;
    struct stat info;
    enum err err = file_open(path, FILE_READ, &fd, note);
    if (err != ERR_OK) {
        return err;
    }
    if (simulated_fd(fd) != NULL) {
        uint64_t there = 0;
        size_t got = 0;
        err = file_fd_size(fd, &there, note);
        uint8_t *at = err == ERR_OK ? buf_reserve(out, (size_t)there + 1) : NULL;
        err = err          ? err
              : at == NULL ? ERR_LIMIT
                           : file_read_at(fd, 0, at, (size_t)there, &got, note);
        buf_commit(out, got);
    } else if (fstat(fd, &info) != 0) {
        err = failed(note, "ask the size of", path);
    } else if (S_ISDIR(info.st_mode)) {
        err = note_set(note, ERR_INVALID, "%s is a folder", path);
    } else if ((uint64_t)info.st_size > out->limit - out->size) {
        err = note_set(note, ERR_LIMIT, "%s has %lld bytes, the limit is %zu", path,
                       (long long)info.st_size, out->limit - out->size);
    } else {
        err = read_all(fd, (size_t)info.st_size, out, path, note);
    }
    file_close(fd);
    if (err != ERR_OK) {
        buf_truncate(out, before);
    }
    return err;
}

bool file_private(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && (info.st_mode & 077) == 0;
}

/* The same steps on the simulated disk. */
static enum err simulated_replace(const char *path, struct bytes content, bool durable,
                                  struct note *note)
{
    char temporary[FILE_PATH_SIZE];
    int fd = -1;
    enum err err = file_path(temporary, "%s.tmp", path);
    err = err ? err : file_open(temporary, FILE_WRITE, &fd, note);
    err = err ? err : file_truncate(fd, 0, note);
    err = err ? err : file_write_at(fd, 0, content.data, content.size, note);
    err = err || !durable ? err : file_sync(fd, note);
    file_close(fd);
    err = err ? err : simulated(file_simulated->rename(temporary, path), note, "rename");
    return err || !durable ? err : file_sync_parent(path, note);
}

static enum err write_replace(const char *path, struct bytes content, unsigned mode, bool durable,
                              struct note *note)
{
    char temporary[FILE_PATH_SIZE];
    if (simulated_path(path) != NULL) {
        return simulated_replace(path, content, durable, note);
    }
    enum err err = file_path(temporary, "%s.tmp-%016llx", path, (unsigned long long)random_u64());
    if (err != ERR_OK) {
        return note_set(note, err, "path too long: %.64s...", path);
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    if (fd < 0) {
        return failed(note, "create", temporary);
    }
    err = file_write_at(fd, 0, content.data, content.size, note);
    err = err ? note_wrap(note, err, "%s", temporary) : ERR_OK;
    if (err == ERR_OK && fchmod(fd, (mode_t)mode) != 0) { /* whatever the umask says */
        err = failed(note, "set the mode of", temporary);
    }
    if (err == ERR_OK && durable && fsync(fd) != 0) {
        err = failed(note, "sync", temporary);
    }
    file_close(fd);
    if (err == ERR_OK && rename(temporary, path) != 0) {
        err = failed(note, "replace", path);
    }
    if (err != ERR_OK) {
        (void)unlink(temporary);
        return err;
    }
    return durable ? file_sync_parent(path, note) : ERR_OK;
}

enum err file_write_atomic(const char *path, struct bytes content, unsigned mode, struct note *note)
{
    return write_replace(path, content, mode, true, note);
}

enum err file_write_quick(const char *path, struct bytes content, unsigned mode, struct note *note)
{
    return write_replace(path, content, mode, false, note);
}

static enum err map_fd(int fd, struct file_map *out_map, struct note *note)
{
    uint64_t size = 0;
    enum err err = file_fd_size(fd, &size, note);
    struct file_map map = {.size = (size_t)size};
    if (err == ERR_OK && size > 0) {
        void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
        map.data = data;
        err = data == MAP_FAILED ? fd_failed(note, "map") : ERR_OK;
    }
    if (err == ERR_OK) {
        *out_map = map;
    }
    return err;
}

enum err file_map_open(const char *path, struct file_map *out_map, struct note *note)
{
    int fd = -1;
    enum err err = file_open(path, FILE_READ, &fd, note);
    if (err != ERR_OK) {
        return err;
    }
    err = map_fd(fd, out_map, note);
    file_close(fd);
    return err == ERR_OK ? ERR_OK : note_wrap(note, err, "%s", path);
}

enum err file_map_take(int fd, struct file_map *out_map, struct note *note)
{
    enum err err = map_fd(fd, out_map, note);
    out_map->held = err == ERR_OK ? fd + 1 : out_map->held;
    return err;
}

void file_map_close(struct file_map *map)
{
    if (map->data != NULL) {
        (void)munmap((void *)(uintptr_t)map->data, map->size);
    }
    file_close(map->held - 1);
    *map = (struct file_map){0};
}
