/* form.h - a command that is one transaction: its words are the fields of the action, in order. */
#pragma once

#include "services/openledger/cli.h"

/* fields: words "field:kind", with a '?' at the end when the word may be missing (all after it too).
 *     account   "open1...", or the name of a local key     digest  64 hex digits
 *     text      as it is                                   number  decimal
 *     days      from now, as a time                        hours   a duration, in ms
 *     choice    yes or no
 *     accounts, numbers, digests   all further words, as a repeated field (at most FORM_REST_MAX) */
struct form {
    const char *name, *usage, *about;
    uint32_t action; /* field number in TxBody */
    const char *fields;
};
#define FORM_REST_MAX 256

/* Reads the words, signs, submits, prints the transaction's id; returns the exit code. */
int form_run(const struct form *form, int argc, char **argv);
