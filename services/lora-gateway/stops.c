/* stops.c - see stops.h. Stop sequences are few and short, so plain comparison will do. */
#include "services/lora-gateway/stops.h"

#include <string.h>

size_t stops_find(struct bytes text, size_t from, const char *const *stops, size_t count)
{
    size_t best = STOPS_NONE;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(stops[i]);
        if (size == 0 || text.size < size) {
            continue;
        }
        for (size_t at = from >= size ? from - size + 1 : 0; at + size <= text.size; at++) {
            if (memcmp(text.data + at, stops[i], size) == 0) {
                best = at < best ? at : best;
                break;
            }
        }
    }
    return best;
}

size_t stops_hold(struct bytes text, const char *const *stops, size_t count)
{
    size_t hold = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(stops[i]);
        for (size_t part = size > 0 ? size - 1 : 0; part > hold; part--) {
            if (part <= text.size && memcmp(text.data + text.size - part, stops[i], part) == 0) {
                hold = part;
            }
        }
    }
    return hold;
}
