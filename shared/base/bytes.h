/* bytes.h - a borrowed run of bytes: pointer and size travel together. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* data may be NULL only when size (bytes) is 0. Valid as long as its owner says. */
struct bytes {
    const uint8_t *data;
    size_t size;
};
