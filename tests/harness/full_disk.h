/* full_disk.h - a disk of our own, small enough to be filled: what a real one says when it is full.
 *
 * A tmpfs at test_path("disk"), in a mount namespace of this process: it goes with the process, whatever becomes of
 * the test. Only root may mount; else full_disk_make() says SKIP and returns false. */
#pragma once

#include <check.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#include "tests/harness/folder.h"

static inline bool full_disk_make(unsigned mib)
{
    char options[32];
    ck_assert_uint_eq(file_make_folders(test_path("disk"), NULL), ERR_OK);
    (void)snprintf(options, sizeof options, "size=%um", mib);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", test_path("disk"), "tmpfs", 0, options) != 0) {
        printf("SKIP: no disk may be mounted here\n");
        return false;
    }
    return true;
}

/* Takes all but left bytes of what is free, and gives it back. */
static inline void full_disk_fill(size_t left)
{
    enum { STEP = 4096 };
    static const uint8_t zeros[STEP];
    uint64_t size = 0;
    int fd = -1;
    ck_assert_uint_eq(file_open(test_path("disk/filler"), FILE_WRITE, &fd, NULL), ERR_OK);
    enum err err = ERR_OK;
    while ((err = file_write_at(fd, size, zeros, STEP, NULL)) == ERR_OK) {
        size += STEP;
    }
    ck_assert_uint_eq(err, ERR_FULL);
    ck_assert_uint_eq(file_truncate(fd, size < left ? 0 : size - left, NULL), ERR_OK);
    file_close(fd);
}

static inline void full_disk_room(void)
{
    ck_assert_uint_eq(file_remove(test_path("disk/filler"), NULL), ERR_OK);
}

static inline void full_disk_remove(void)
{
    ck_assert_int_eq(umount2(test_path("disk"), MNT_DETACH), 0);
}
