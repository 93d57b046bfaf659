/* blob_room.h - room for one more copy of a whole file; private to this room.
 *
 * Copies are a cache without an owner: several processes make them, and a crash leaves them behind. What keeps one
 * is a shared lock (flock) on its open descriptor, which the kernel drops with the process that held it. So no
 * list of users is kept that could be wrong: a copy whose exclusive lock can be had is nobody's. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/note.h"

#define BLOB_COPIES_COUNT_MAX 65536U /* names in the folder of copies */

/* Makes the copy at path, open as fd with a shared lock, at least size bytes long, all of them reserved on disk. The copies
 * in its folder then have at most size_max bytes: those used longest ago that nobody has mapped are removed
 * for that, and further ones while the disk is full. One process at a time does this; the others wait.
 * ERR_FULL: what is in use leaves too little; the note names the bound, the copy is as long as before. ERR_LIMIT: more
 * than BLOB_COPIES_COUNT_MAX names. ERR_IO. */
MUST_USE enum err blob_room_reserve(const char *path, int fd, uint64_t size, uint64_t size_max,
                                    struct note *note);
