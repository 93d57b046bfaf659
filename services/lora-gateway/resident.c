/* resident.c - see resident.h. */
#include "services/lora-gateway/resident.h"

#include <stdlib.h>

#include "shared/base/check.h"

struct place {
    struct digest content;
    struct lm_adapter *adapter; /* NULL: empty */
    uint32_t uses;
    uint64_t used_last; /* tick of the latest acquire */
};

struct resident_adapters {
    struct place *places;
    uint32_t max;
    uint64_t tick;
};

struct resident_adapters *resident_adapters_create(uint32_t max)
{
    struct resident_adapters *adapters = calloc(1, sizeof *adapters);
    if (adapters == NULL) {
        return NULL;
    }
    adapters->places = calloc(max, sizeof *adapters->places);
    if (adapters->places == NULL) {
        free(adapters);
        return NULL;
    }
    adapters->max = max;
    return adapters;
}

void resident_adapters_destroy(struct resident_adapters *adapters)
{
    if (adapters == NULL) {
        return;
    }
    for (uint32_t i = 0; i < adapters->max; i++) {
        lm_adapter_destroy(adapters->places[i].adapter);
    }
    free(adapters->places);
    free(adapters);
}

enum err resident_adapters_acquire(struct resident_adapters *adapters,
                                   const struct lineage_base *base, struct blob_store *blobs,
                                   const struct digest *content, const struct lm_adapter **out,
                                   struct note *note)
{
    struct place *victim = NULL;
    struct place *place = NULL;
    for (uint32_t i = 0; i < adapters->max && place == NULL; i++) {
        struct place *at = &adapters->places[i];
        if (at->adapter != NULL && digest_equal(&at->content, content)) {
            place = at;
        } else if (at->uses == 0 && (victim == NULL || at->used_last < victim->used_last)) {
            victim = at; /* an empty place was used at tick 0 */
        }
    }
    if (place == NULL) {
        if (victim == NULL) {
            return note_set(note, ERR_LIMIT, "all %u adapters in memory are in use", adapters->max);
        }
        struct lm_adapter *adapter = NULL;
        enum err err = lineage_adapter_load(blobs, base, content, &adapter, note);
        if (err != ERR_OK) {
            return err;
        }
        lm_adapter_destroy(victim->adapter);
        *victim = (struct place){.content = *content, .adapter = adapter};
        place = victim;
    }
    place->uses++;
    place->used_last = ++adapters->tick;
    *out = place->adapter;
    return ERR_OK;
}

void resident_adapters_release(struct resident_adapters *adapters, const struct lm_adapter *adapter)
{
    for (uint32_t i = 0; i < adapters->max; i++) {
        if (adapters->places[i].adapter == adapter) {
            CHECK(adapters->places[i].uses > 0);
            adapters->places[i].uses--;
            return;
        }
    }
    CHECK(adapter == NULL);
}

uint32_t resident_adapters_count(const struct resident_adapters *adapters)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < adapters->max; i++) {
        count += adapters->places[i].adapter != NULL;
    }
    return count;
}
