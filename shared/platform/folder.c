/* folder.c - the part of file.h about folders and names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/file.h"
#include "shared/platform/simulate.h"

static enum err failed(struct note *note, const char *verb, const char *path)
{
    int cause = errno;
    return note_set(note, err_from_errno(cause), "could not %s %s: %s", verb, path,
                    strerrordesc_np(cause));
}

bool file_exists(const char *path)
{
    const struct file_disk *disk = simulated_path(path);
    if (disk != NULL) {
        return disk->exists(path);
    }
    struct stat info;
    return lstat(path, &info) == 0;
}

enum err file_size(const char *path, uint64_t *out_size, struct note *note)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return failed(note, "ask the size of", path);
    }
    *out_size = (uint64_t)info.st_size;
    return ERR_OK;
}

enum err file_path(char out_path[FILE_PATH_SIZE], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(out_path, FILE_PATH_SIZE, format, args);
    va_end(args);
    return size >= 0 && size < FILE_PATH_SIZE ? ERR_OK : ERR_LIMIT;
}

enum err file_make_folders(const char *path, struct note *note)
{
    if (simulated_path(path) != NULL) {
        return ERR_OK; /* names there need no folders */
    }
    char part[FILE_PATH_SIZE];
    if (path[0] == '\0' || file_path(part, "%s", path) != ERR_OK) {
        return note_set(note, ERR_INVALID, "not a folder's path: '%.64s'", path);
    }
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0') {
            continue;
        }
        char end = *at;
        *at = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST) {
            return failed(note, "make folder", part);
        }
        *at = end;
        if (end == '\0') {
            break;
        }
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return note_set(note, ERR_CONFLICT, "%s exists and is not a folder", path);
    }
    return ERR_OK;
}

enum err file_rename(const char *from, const char *to, struct note *note)
{
    const struct file_disk *disk = simulated_path(from);
    if (disk != NULL) {
        enum err err = simulated(disk->rename(from, to), note, "rename");
        return err ? err : file_sync_parent(to, note);
    }
    if (rename(from, to) != 0) {
        return failed(note, "rename to", to);
    }
    return file_sync_parent(to, note);
}

enum err file_remove(const char *path, struct note *note)
{
    const struct file_disk *disk = simulated_path(path);
    if (disk != NULL) {
        return simulated(disk->remove(path), note, "remove");
    }
    return remove(path) == 0 ? ERR_OK : failed(note, "remove", path);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

enum err file_remove_tree(const char *path, struct note *note)
{
    enum { DESCRIPTORS = 16 };
    if (!file_exists(path)) {
        return ERR_OK;
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): only with FTW_CHDIR, see nftw(3) */
    return nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS) == 0
               ? ERR_OK
               : failed(note, "remove", path);
}

enum err file_make_private_folder(const char *prefix, char out_path[FILE_PATH_SIZE],
                                  struct note *note)
{
    char path[FILE_PATH_SIZE];
    if (file_path(path, "%s------", prefix) != ERR_OK) {
        return note_set(note, ERR_LIMIT, "path too long: %.64s...", prefix);
    }
    memset(path + strlen(prefix), 'X', 6); /* mkdtemp's pattern */
    if (mkdtemp(path) == NULL) {
        return failed(note, "make folder", path);
    }
    memcpy(out_path, path, sizeof path);
    return ERR_OK;
}

enum err file_self(char out_path[FILE_PATH_SIZE], struct note *note)
{
    char path[FILE_PATH_SIZE];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size < 0) {
        return failed(note, "read", "/proc/self/exe");
    }
    path[size] = '\0';
    memcpy(out_path, path, (size_t)size + 1);
    return ERR_OK;
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum err file_list(const char *folder, size_t max, struct file_names *out_names, struct note *note)
{
    const struct file_disk *disk = simulated_path(folder);
    if (disk != NULL) {
        return simulated(disk->list(folder, max, out_names), note, "list");
    }
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return failed(note, "open folder", folder);
    }
    enum err err = ERR_OK;
    struct file_names names = {0};
    size_t capacity = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this call's own */
    for (const struct dirent *entry; (errno = 0, entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (names.count == max) {
            err = note_set(note, ERR_LIMIT, "%s has more than %zu names", folder, max);
            break;
        }
        if (names.count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            char **items = realloc(names.items, capacity * sizeof *items);
            if (items == NULL) {
                err = ERR_NO_MEMORY;
                break;
            }
            names.items = items;
        }
        names.items[names.count] = strdup(entry->d_name);
        if (names.items[names.count] == NULL) {
            err = ERR_NO_MEMORY;
            break;
        }
        names.count++;
    }
    if (err == ERR_OK && errno != 0) {
        err = failed(note, "read folder", folder);
    }
    (void)closedir(dir);
    if (err != ERR_OK) {
        file_names_deinit(&names);
        return err;
    }
    if (names.count > 0) {
        qsort(names.items, names.count, sizeof names.items[0], name_compare);
    }
    *out_names = names;
    return ERR_OK;
}

void file_names_deinit(struct file_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i]);
    }
    free(names->items);
    *names = (struct file_names){0};
}
