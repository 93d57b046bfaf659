/* simulate.h - which calls go to the simulated disk; private to this room. See file_simulate(). */
#pragma once

#include <string.h>

#include "shared/platform/file.h"

extern const struct file_disk *file_simulated; /* NULL: none */

static inline const struct file_disk *simulated_path(const char *path)
{
    const struct file_disk *disk = file_simulated;
    return disk != NULL && strncmp(path, disk->prefix, strlen(disk->prefix)) == 0 ? disk : NULL;
}

static inline const struct file_disk *simulated_fd(int fd)
{
    const struct file_disk *disk = file_simulated;
    return disk != NULL && fd >= disk->first_fd ? disk : NULL;
}

/* Says what failed, as the real disk does. */
static inline enum err simulated(enum err err, struct note *note, const char *verb)
{
    return err == ERR_OK ? ERR_OK
                         : note_set(note, err, "could not %s: simulated %s", verb, err_name(err));
}
