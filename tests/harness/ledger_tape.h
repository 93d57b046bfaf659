/* ledger_tape.h - a test world's history, written down for the second implementation (tests/e2e/ledger) to repeat.
 *
 * With LEDGER_TAPES=FOLDER in the environment each world writes one file there, in lines: "genesis HEX", then in
 * order "blob HEX" for bytes that are at hand from now on, and "entry CODE ROOT HEADER HEX" for each entry that was
 * tried: err_name() of the outcome, then state root and hash of the last block's header after it. Without it nothing
 * is written, and there is no tape. */
#pragma once

#include "shared/ledger/ledger.h"

struct world_tape;

struct world_tape *tape_create(struct bytes genesis); /* NULL: none is wanted */
/* NULL is a tape on which nothing is written, here and below. */
void tape_destroy(struct world_tape *tape);
void tape_blob(struct world_tape *tape, struct bytes blob);
void tape_entry(struct world_tape *tape, struct ledger *ledger, struct bytes entry, enum err err);
