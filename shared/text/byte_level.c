/* byte_level.c - see byte_level.h. */
#include "shared/text/byte_level.h"

#include <stdbool.h>

/* GPT-2's map: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 onward. */
static bool stands_for_itself(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
           (byte >= 174 && byte <= 255);
}

uint32_t byte_level_code(uint8_t byte)
{
    if (stands_for_itself(byte)) {
        return byte;
    }
    uint32_t code = 256;
    for (uint32_t other = 0; other < byte; other++) {
        code += stands_for_itself(other) ? 0 : 1;
    }
    return code;
}

int byte_level_byte(uint32_t code)
{
    if (code < 256) {
        return stands_for_itself(code) ? (int)code : -1;
    }
    uint32_t other = 256;
    for (uint32_t byte = 0; byte < 256; byte++) {
        if (!stands_for_itself(byte) && other++ == code) {
            return (int)byte;
        }
    }
    return -1;
}
