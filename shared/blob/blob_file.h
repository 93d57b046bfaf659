/* blob_file.h - files larger than one object: a list of chunks, each an object of its own.
 *
 * Why: a base model has gigabytes, an object at most BLOB_SIZE_MAX. Its file goes into the store chunk
 * by chunk and comes out as a read-only map, with a few chunks in memory either way. Equal files give
 * equal lists, and a list commits to every byte.
 *
 * On disk: folder/files/<64 hex digits> beside the objects, named after the list, shared by all
 * processes. It is a copy: it may be deleted at any time, and is made again; copies that nobody has mapped
 * make room for new ones (blob_room.h, README.md). Mapping looks at every byte: a chunk of the copy that is
 * missing or damaged comes from the store again, so a fetch that was cut off goes on where it stopped. Where the
 * folder may only be read (an auditor's), the copy is a nameless one in /var/tmp, gone when it is unmapped.
 *
 * Caveats: until it is unmapped, the bytes are as trustworthy as whoever may write to the folder; the
 * copy takes as much disk as the file. Any thread. */
#pragma once

#include <stdint.h>

#include "shared/blob/blob.h"
#include "shared/platform/file.h"

#define BLOB_CHUNK_SIZE (8U << 20)              /* bytes of every chunk but a file's last */
#define BLOB_FILE_SIZE_MAX (UINT64_C(64) << 30) /* bytes of one file: 8,192 chunks */

struct blob_file {
    uint64_t size;         /* bytes, 1 to BLOB_FILE_SIZE_MAX */
    struct digest *chunks; /* [blob_chunk_count(size)] */
};

/* Chunks of a file of size bytes. */
uint32_t blob_chunk_count(uint64_t size);

/* Follows files on their way; one may be used for several. NULL is fine everywhere. */
struct blob_progress {
    bool (*report)(void *context, uint64_t done, uint64_t total); /* false: stop */
    void *context;
    uint64_t done;  /* bytes; the caller begins with 0 */
    uint64_t total; /* bytes of all files; the caller's */
};

/* Stores the file at path; blob_file_deinit() the list. ERR_INVALID: empty. ERR_LIMIT: larger than
 * BLOB_FILE_SIZE_MAX. ERR_FULL. ERR_CONFLICT: it became shorter meanwhile. ERR_CANCELLED. */
MUST_USE enum err blob_file_put(struct blob_store *store, const char *path,
                                struct blob_progress *progress, struct blob_file *out,
                                struct note *note);
void blob_file_deinit(struct blob_file *file); /* a zeroed one is fine */

/* The file's bytes, checked; file_map_close() them. ERR_NOT_FOUND, ERR_CORRUPT: the note names the chunk.
 * ERR_INVALID: the list says wrong how large it is.
 * ERR_FULL: no room for the copy, on the disk or within blob_copies_max(); what is there stays, and the next
 * call goes on. ERR_UNAVAILABLE: the copy was removed again and again. ERR_CANCELLED. Until the map is closed no
 * process removes the copy to make room. */
MUST_USE enum err blob_file_map(struct blob_store *store, const struct blob_file *file,
                                struct blob_progress *progress, struct file_map *out,
                                struct note *note);
