/* witnesses.h - three witnesses on a faulty bus, and the log's rounds: a checkpoint is final with two
 * cosignatures.
 *
 * Each remembers on its own disk what it cosigned last, before the cosignature goes out, and signs by
 * tlog_judge(); two also compare with the tree of the entries that they executed. The third does not, and a
 * sequencer that shows a second history may fool it, alone. Requests are lost, doubled, late and out of order;
 * witnesses are killed and lose power.
 *
 * Checked: no witness ever signs a smaller tree than before, nor another one of the same size; who executes
 * never signs a fork; nothing but the one history is ever final; final sizes only grow. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"

#define WITNESSES_MS 60 /* between two steps */

void witnesses_start(void);
void witnesses_step(void);
/* A request reached witness w; an answer reached the log. size: what a refusing witness says it signed last. */
void witnesses_asked(size_t w, struct bytes body);
void witnesses_answered(size_t w, struct bytes signed_note, uint64_t size);
/* The newest block is under a final checkpoint. */
bool witnesses_done(void);
