/* ledger_draw.h - draws transactions of every type from a world as ledger_model.h knows it: mostly ones that
 * should be taken, often with one thing wrong. The source of randomness is seed.h. */
#pragma once

#include "tests/harness/ledger_model.h"

enum { DRAW_FIELDS = 24, DRAW_TEXTS = 8 };

struct draw {
    struct model *m;
    struct model_call call;
    Openledger__V1__TxBody body;
    /* What the drawn message points to: until the next one. */
    struct digest digests[DRAW_TEXTS];
    ProtobufCBinaryData fields[DRAW_FIELDS];
    char texts[DRAW_TEXTS][64];
    int digest_count, field_count, text_count;
    struct buf notes[2];
};

void draw_init(struct draw *d, struct model *m);
void draw_deinit(struct draw *d);
/* Fills d->call but for tx. action: enum of TxBody. */
void draw_action(struct draw *d, Openledger__V1__TxBody__ActionCase action);
