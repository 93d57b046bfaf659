/* utf8.c - see utf8.h. */
#include "shared/base/utf8.h"

#include <stdint.h>

size_t utf8_char_size(struct bytes text)
{
    if (text.size == 0) {
        return 0;
    }
    uint8_t first = text.data[0];
    if (first < 0x80) {
        return 1;
    }
    size_t size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (size == 0 || size > text.size) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((text.data[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    uint8_t second = text.data[1];
    bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
               (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
    return bad ? 0 : size;
}

bool utf8_valid(struct bytes text)
{
    while (text.size > 0) {
        size_t size = utf8_char_size(text);
        if (size == 0) {
            return false;
        }
        text = bytes_of(text.data + size, text.size - size);
    }
    return true;
}
