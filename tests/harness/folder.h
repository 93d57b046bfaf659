/* folder.h - a private folder per test, and small helpers on its files. */
#pragma once

#include <check.h>
#include <stdio.h>

#include "shared/platform/file.h"

/* One per test process: Check forks for every test. */
static char test_folder[FILE_PATH_SIZE];

static inline void test_folder_make(void)
{
    ck_assert_uint_eq(file_make_private_folder("/tmp/openledger-test-", test_folder, NULL), ERR_OK);
}

static inline void test_folder_remove(void)
{
    ck_assert_uint_eq(file_remove_tree(test_folder, NULL), ERR_OK);
}

/* test_folder/name; the text lives until the next call. */
static inline const char *test_path(const char *name)
{
    static char path[FILE_PATH_SIZE];
    ck_assert_uint_eq(file_path(path, "%s/%s", test_folder, name), ERR_OK);
    return path;
}
