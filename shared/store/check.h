/* check.h - is the file of a store as LMDB wrote it? Private to this room.
 *
 * LMDB maps its file and follows the numbers in it unchecked: a file cut short ends the process with SIGBUS, a page
 * of other bytes with SIGSEGV or abort(), and other bits of a value are simply believed. So each value is sealed
 * with a checksum of itself and its key, and before the file is opened every page that the newest meta page leads
 * to is looked at once: that it is there, is what its place says, is filled by its nodes, is nobody else's, that
 * all keys ascend and all seals fit. A checksum finds decay, not forgery: whoever can write the file can seal.
 *
 * Source: LMDB 0.9.24, mdb.c, "Meta-page", "Page header" and "Node" (data version 1, 64 bits). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

enum { STORE_SEAL = 4 }; /* bytes behind each value */

/* path: of data.mdb; no other process may be writing to it. names: that its tables may have. One pass over what is
 * in use: about as long as reading it. ERR_OK also when there is no file, or an empty one: LMDB then makes
 * it. ERR_CORRUPT: the note says which page and why. ERR_NO_MEMORY. */
MUST_USE enum err store_check(const char *path, const char *const *names, uint32_t name_count,
                              struct note *note);

/* What goes behind a value. */
void store_seal(struct bytes key, struct bytes value, uint8_t out_seal[STORE_SEAL]);
/* Takes the seal off a value. false: it does not fit. */
MUST_USE bool store_unseal(struct bytes key, struct bytes *value);
