/* data.h - material that others made, for tests: ../shared/data or OPENLEDGER_TEST_DATA. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/buf.h"
#include "shared/platform/file.h"

/* Appends the file; says SKIP and returns false when it is absent. */
static inline bool test_read(const char *path, struct buf *out)
{
    if (file_read(path, out, NULL) != ERR_OK) {
        (void)printf("SKIP: no %s\n", path);
        return false;
    }
    return true;
}

static inline bool test_data(const char *name, struct buf *out)
{
    const char *folder = getenv("OPENLEDGER_TEST_DATA");
    char path[FILE_PATH_SIZE];
    if (file_path(path, "%s/%s", folder == NULL ? "../shared/data" : folder, name) != ERR_OK) {
        return false;
    }
    return test_read(path, out);
}
