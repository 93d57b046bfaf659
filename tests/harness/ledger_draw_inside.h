/* ledger_draw_inside.h - what the files of ledger_draw share; for no one else. */
#pragma once

#include "tests/harness/ledger_draw.h"
#include "tests/harness/seed.h"

#define DRAW(lower, Message) void draw_##lower(struct draw *d, Openledger__V1__##Message *a)
#define DRAW_DECLARE(upper, lower, Message) DRAW(lower, Message);
LEDGER_RULES(DRAW_DECLARE)
#undef DRAW_DECLARE

static inline int draw_to(int count)
{
    return count <= 0 ? 0 : (int)(test_rand() % (uint64_t)count);
}

static inline bool draw_odds(int percent)
{
    return draw_to(100) < percent;
}

static inline bool draw_wrong(void)
{
    return draw_odds(7);
}

void draw_sender(struct draw *d, int who);
char *draw_text(struct draw *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *draw_amount(struct draw *d, int from, int to); /* whole OPEN, or something that is none */
ProtobufCBinaryData draw_person(const struct draw *d, int who);
ProtobufCBinaryData draw_digest(struct draw *d, const struct digest *digest); /* or another one */
ProtobufCBinaryData draw_key(const struct draw *d, int key);
uint64_t draw_expiry(const struct draw *d, int seconds_max);
/* Accounts as a repeated field: those of `who`, ascending by their ids. */
ProtobufCBinaryData *draw_people(struct draw *d, const bool who[PEOPLE], size_t *out_count);
/* Of the last ones (at most 30) of count objects, one that fits, else any; NOBODY: there is none. */
int draw_recent(const struct draw *d, int count, bool (*fits)(const struct model *m, int at));
