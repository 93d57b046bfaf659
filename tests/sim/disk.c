/* disk.c - see disk.h. */
#include "tests/sim/disk.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/file.h"

enum { NAMES_MAX = 256, FDS_MAX = 256, FIRST_FD = 1 << 20, NAME_SIZE = 96, SECTOR = 512 };

struct image {
    uint8_t *data;
    size_t size;
};

struct pending {
    bool resize;
    uint64_t offset; /* or the new size */
    struct image bytes;
};

struct inode {
    struct inode *next; /* of all that were ever made: freed together */
    struct image cache, disk;
    struct pending *pending;
    size_t count, capacity;
};

struct name {
    char path[NAME_SIZE]; /* "": free */
    struct inode *inode;
};

struct fd {
    struct inode *inode; /* NULL: free */
    uint32_t node;
};

static struct name cached[NAMES_MAX];  /* what programs see */
static struct name durable[NAMES_MAX]; /* what a power cut leaves */
static struct fd fds[FDS_MAX];
static struct inode *inodes;
static bool dead[DISK_NODES_MAX], full[DISK_NODES_MAX];
static int64_t operations_left[DISK_NODES_MAX]; /* -1: no end in sight */
static uint64_t (*draw)(void);

static uint32_t node_of(const char *path)
{
    uint32_t node = (uint32_t)(path[4] - '0');
    CHECK(strncmp(path, "sim:", 4) == 0 && node < DISK_NODES_MAX);
    return node;
}

/* Every operation passes here: false, when the node's program is gone in truth. */
static bool alive(uint32_t node)
{
    if (operations_left[node] == 0) {
        dead[node] = true;
    } else if (operations_left[node] > 0) {
        operations_left[node]--;
    }
    return !dead[node];
}

static void resize(struct image *image, uint64_t size)
{
    image->data = realloc(image->data, size + 1);
    CHECK(image->data != NULL);
    if (size > image->size) {
        memset(image->data + image->size, 0, size - image->size);
    }
    image->size = size;
}

static struct name *find(struct name *names, const char *path)
{
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (strcmp(names[i].path, path) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

static struct name *bind(struct name *names, const char *path, struct inode *inode)
{
    struct name *name = find(names, path);
    name = name == NULL ? find(names, "") : name;
    CHECK(name != NULL && strlen(path) < NAME_SIZE);
    (void)memcpy(name->path, path, strlen(path) + 1);
    name->inode = inode;
    return name;
}

static struct pending *later(struct inode *inode)
{
    if (inode->count == inode->capacity) {
        inode->capacity = inode->capacity == 0 ? 16 : 2 * inode->capacity;
        inode->pending = reallocarray(inode->pending, inode->capacity, sizeof *inode->pending);
        CHECK(inode->pending != NULL);
    }
    struct pending *pending = &inode->pending[inode->count++];
    *pending = (struct pending){.resize = false};
    return pending;
}

static void forget_pending(struct inode *inode)
{
    for (size_t i = 0; i < inode->count; i++) {
        free(inode->pending[i].bytes.data);
    }
    inode->count = 0;
}

static void copy(struct image *to, const struct image *from)
{
    resize(to, from->size);
    memcpy(to->data, from->data, from->size);
}

/* ---- operations --------------------------------------------------------------------------------- */

static enum err disk_open(const char *path, enum file_mode mode, int *out_fd)
{
    uint32_t node = node_of(path);
    if (!alive(node)) {
        return ERR_IO;
    }
    struct name *name = find(cached, path);
    if (name == NULL && mode == FILE_READ) {
        return ERR_NOT_FOUND;
    }
    if (name != NULL && mode == FILE_WRITE_NEW) {
        return ERR_CONFLICT;
    }
    if (name == NULL) {
        struct inode *inode = calloc(1, sizeof *inode);
        CHECK(inode != NULL);
        inode->next = inodes;
        inodes = inode;
        resize(&inode->cache, 0);
        resize(&inode->disk, 0);
        name = bind(cached, path, inode);
    }
    for (int i = 0; i < FDS_MAX; i++) {
        if (fds[i].inode == NULL) {
            fds[i] = (struct fd){name->inode, node};
            *out_fd = FIRST_FD + i;
            return ERR_OK;
        }
    }
    return ERR_LIMIT;
}

static struct fd *fd_at(int fd)
{
    CHECK(fd >= FIRST_FD && fd < FIRST_FD + FDS_MAX);
    return &fds[fd - FIRST_FD];
}

static void disk_close(int fd)
{
    fd_at(fd)->inode = NULL;
}

static enum err disk_size(int fd, uint64_t *out_size)
{
    const struct fd *at = fd_at(fd);
    if (!alive(at->node) || at->inode == NULL) {
        return ERR_IO;
    }
    *out_size = at->inode->cache.size;
    return ERR_OK;
}

static enum err disk_read(int fd, uint64_t offset, void *out, size_t size, size_t *out_read)
{
    const struct fd *at = fd_at(fd);
    if (dead[at->node] || at->inode == NULL) {
        return ERR_IO;
    }
    const struct image *cache = &at->inode->cache;
    size_t there = offset < cache->size ? cache->size - (size_t)offset : 0;
    *out_read = size < there ? size : there;
    if (*out_read > 0) {
        memcpy(out, cache->data + offset, *out_read);
    }
    return ERR_OK;
}

static enum err disk_write(int fd, uint64_t offset, const void *data, size_t size)
{
    const struct fd *at = fd_at(fd);
    if (!alive(at->node) || at->inode == NULL) {
        return ERR_IO;
    }
    if (full[at->node]) {
        return ERR_FULL;
    }
    struct inode *inode = at->inode;
    if (offset + size > inode->cache.size) {
        resize(&inode->cache, offset + size);
    }
    struct pending *pending = later(inode);
    pending->offset = offset;
    resize(&pending->bytes, size);
    memcpy(pending->bytes.data, data, size);
    memcpy(inode->cache.data + offset, data, size);
    return ERR_OK;
}

static enum err disk_resize(int fd, uint64_t size)
{
    const struct fd *at = fd_at(fd);
    if (!alive(at->node) || at->inode == NULL) {
        return ERR_IO;
    }
    if (full[at->node] && size > at->inode->cache.size) {
        return ERR_FULL;
    }
    resize(&at->inode->cache, size);
    struct pending *pending = later(at->inode);
    pending->resize = true;
    pending->offset = size;
    return ERR_OK;
}

static enum err disk_sync(int fd)
{
    const struct fd *at = fd_at(fd);
    if (!alive(at->node) || at->inode == NULL) {
        return ERR_IO;
    }
    copy(&at->inode->disk, &at->inode->cache);
    forget_pending(at->inode);
    return ERR_OK;
}

/* Names that the node's programs see, or that its disk holds, become those of another table. */
static void names_copy(struct name *to, const struct name *from, uint32_t node)
{
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (to[i].path[0] != '\0' && node_of(to[i].path) == node) {
            to[i].path[0] = '\0';
        }
    }
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (from[i].path[0] != '\0' && node_of(from[i].path) == node) {
            (void)bind(to, from[i].path, from[i].inode);
        }
    }
}

static enum err disk_sync_folder(const char *folder)
{
    uint32_t node = node_of(folder);
    if (!alive(node)) {
        return ERR_IO;
    }
    names_copy(durable, cached, node);
    return ERR_OK;
}

static enum err disk_rename(const char *from, const char *to)
{
    if (!alive(node_of(from))) {
        return ERR_IO;
    }
    struct name *name = find(cached, from);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    struct inode *inode = name->inode;
    name->path[0] = '\0';
    (void)bind(cached, to, inode);
    return ERR_OK;
}

static enum err disk_remove(const char *path)
{
    if (!alive(node_of(path))) {
        return ERR_IO;
    }
    struct name *name = find(cached, path);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    name->path[0] = '\0';
    return ERR_OK;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err disk_list(const char *folder, size_t max, struct file_names *out_names)
{
    size_t length = strlen(folder);
    if (!alive(node_of(folder))) {
        return ERR_IO;
    }
    struct file_names names = {calloc(NAMES_MAX, sizeof *names.items), 0};
    CHECK(names.items != NULL && max > NAMES_MAX);
    for (size_t i = 0; i < NAMES_MAX; i++) {
        const char *path = cached[i].path;
        if (strncmp(path, folder, length) == 0 && path[length] == '/' &&
            strchr(path + length + 1, '/') == NULL) {
            names.items[names.count++] = strdup(path + length + 1);
        }
    }
    qsort(names.items, names.count, sizeof *names.items, compare);
    *out_names = names;
    return ERR_OK;
}

static bool disk_exists(const char *path)
{
    return find(cached, path) != NULL;
}

/* ---- what befalls a disk ------------------------------------------------------------------------ */

void disk_start(uint64_t (*random)(void))
{
    static const struct file_disk DISK = {.prefix = "sim:",
                                          .first_fd = FIRST_FD,
                                          .open = disk_open,
                                          .close = disk_close,
                                          .size = disk_size,
                                          .read_at = disk_read,
                                          .write_at = disk_write,
                                          .resize = disk_resize,
                                          .sync = disk_sync,
                                          .sync_folder = disk_sync_folder,
                                          .rename = disk_rename,
                                          .remove = disk_remove,
                                          .list = disk_list,
                                          .exists = disk_exists};
    draw = random;
    file_simulate(&DISK);
    disk_clear();
}

static void inode_free(struct inode *inode)
{
    forget_pending(inode);
    free(inode->pending);
    free(inode->cache.data);
    free(inode->disk.data);
    free(inode);
}

void disk_clear(void)
{
    while (inodes != NULL) {
        struct inode *next = inodes->next;
        inode_free(inodes);
        inodes = next;
    }
    memset(cached, 0, sizeof cached);
    memset(durable, 0, sizeof durable);
    memset(fds, 0, sizeof fds);
    for (uint32_t node = 0; node < DISK_NODES_MAX; node++) {
        dead[node] = false;
        full[node] = false;
        operations_left[node] = -1;
    }
}

void disk_kill(uint32_t node)
{
    for (size_t i = 0; i < FDS_MAX; i++) {
        if (fds[i].inode != NULL && fds[i].node == node) {
            fds[i].inode = NULL;
        }
    }
    dead[node] = false;
    operations_left[node] = -1;
}

static void write_sectors(struct image *disk, const struct pending *write, unsigned keep_of_4)
{
    uint64_t end = write->offset + write->bytes.size;
    for (uint64_t at = write->offset; at < end;) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        next = next < end ? next : end;
        if (draw() % 4 < keep_of_4) {
            if (next > disk->size) {
                resize(disk, next);
            }
            memcpy(disk->data + at, write->bytes.data + (at - write->offset), next - at);
        }
        at = next;
    }
}

static void inode_cut(struct inode *inode)
{
    size_t resizes = 0;
    for (size_t i = 0; i < inode->count; i++) {
        resizes += inode->pending[i].resize ? 1 : 0;
    }
    uint64_t survive = draw() % (resizes + 1);
    unsigned keep_of_4 = (unsigned)(draw() % 5); /* none, some, all */
    for (size_t i = 0; i < inode->count; i++) {
        const struct pending *pending = &inode->pending[i];
        if (!pending->resize) {
            write_sectors(&inode->disk, pending, keep_of_4);
        } else if (survive-- == 0) {
            break;
        } else {
            resize(&inode->disk, pending->offset);
        }
    }
    forget_pending(inode);
    copy(&inode->cache, &inode->disk);
}

void disk_power_cut(uint32_t node)
{
    disk_kill(node);
    if (draw() % 2 == 0) {
        names_copy(cached, durable, node); /* renames and new names were not on disk yet */
    } else {
        names_copy(durable, cached, node);
    }
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (cached[i].path[0] != '\0' && node_of(cached[i].path) == node) {
            inode_cut(cached[i].inode);
        }
    }
}

void disk_wipe(uint32_t node)
{
    disk_kill(node);
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (cached[i].path[0] != '\0' && node_of(cached[i].path) == node) {
            cached[i].path[0] = '\0';
        }
        if (durable[i].path[0] != '\0' && node_of(durable[i].path) == node) {
            durable[i].path[0] = '\0';
        }
    }
}

void disk_die_after(uint32_t node, uint32_t operations)
{
    operations_left[node] = operations;
}

bool disk_dead(uint32_t node)
{
    return dead[node];
}

void disk_full(uint32_t node, bool is_full)
{
    full[node] = is_full;
}

bool disk_flip(uint32_t node)
{
    for (size_t i = 0; i < NAMES_MAX; i++) {
        const char *path = cached[i].path;
        if (path[0] != '\0' && node_of(path) == node && strstr(path, ".journal") != NULL &&
            draw() % 2 == 0) {
            struct image *cache = &cached[i].inode->cache;
            size_t used = cache->size;
            while (used > 0 && cache->data[used - 1] == 0) {
                used--;
            }
            if (used > 0) {
                cache->data[draw() % used] ^= (uint8_t)(1U << (draw() % 8));
                copy(&cached[i].inode->disk, cache);
                return true;
            }
        }
    }
    return false;
}
