/* params.h - the parameters: one table from which everything about them comes.
 *
 * Genesis checks, governance, `openledger governance params` and the table in README.md all read these
 * rows, so they cannot disagree. A parameter's name is its field in ledger.proto's Parameters (the first
 * eight) or its name in Parameters.others. Pure; any thread. */
#pragma once

#include <stddef.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/amount.h"
#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/ledger/ledger.h"

enum ledger_parameter_type { LEDGER_PARAMETER_U32, LEDGER_PARAMETER_U64, LEDGER_PARAMETER_AMOUNT };

struct ledger_parameter {
    const char *name;
    enum ledger_parameter_type type;
    uint32_t offset; /* in struct ledger_parameters */
    const char *unit;
    const char *fallback;          /* what a genesis file that does not state it gets */
    const char *minimum, *maximum; /* inclusive */
    const char *meaning;
};

extern const struct ledger_parameter LEDGER_PARAMETERS[];
extern const size_t LEDGER_PARAMETER_COUNT;

/* NULL: no parameter of that name. */
const struct ledger_parameter *ledger_parameter_find(const char *name);

/* The value as decimal text (amounts in OPEN); returns out. */
const char *ledger_parameter_format(const struct ledger_parameter *row,
                                    const struct ledger_parameters *from,
                                    char out[AMOUNT_TEXT_SIZE]);

/* Parses a canonical decimal value into *parameters. ERR_INVALID: not one; ERR_RANGE: out of bounds.
 * The note names parameter, value and bounds. */
MUST_USE enum err ledger_parameter_set(const struct ledger_parameter *row, const char *value,
                                       struct ledger_parameters *parameters, struct note *note);

/* What holds between parameters: the four parts of a fee sum to 10,000. ERR_RANGE. */
MUST_USE enum err ledger_parameters_check(const struct ledger_parameters *parameters,
                                          struct note *note);

/* Every fallback of the table; platform and sequencer stay zero. */
void ledger_parameters_defaults(struct ledger_parameters *out);

/* Reads a genesis file's message over the defaults, checking each value. ERR_INVALID, ERR_RANGE. */
MUST_USE enum err ledger_parameters_from_message(const Openledger__V1__Parameters *from,
                                                 struct ledger_parameters *out, struct note *note);

/* All values as a message in arena (NULL: the arena is full). */
Openledger__V1__Parameters *ledger_parameters_message(const struct ledger_parameters *parameters,
                                                      struct arena *arena);
