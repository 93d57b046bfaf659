/* sim.h - settlement's replicas, clients and gateways' batches in one process: real journal, state, index and
 * decisions (services/settlement) on simulated disks, bus and clocks. One seed is one history, always the
 * same one.
 *
 * What may happen: messages are lost, doubled, late, out of order, cut off for a while; programs are killed,
 * machines lose power (torn and lost writes), disks are full, lost, or have a flipped bit; an index is deleted;
 * clocks jump; the claims' stream loses its tail; blobs are late; batches and openings are lost with their
 * streams.
 *
 * What is checked after every step: every replica that shows an entry shows the same one; headers, checkpoints
 * and roots agree with a witness that executes the final log by itself; checkpoints only grow; what was
 * acknowledged is final where it was said to be, for good; no transaction is there twice, no receipt is charged
 * or paid twice; what datanets hold for contributors is what waits for shares; the supply is whole. Once nothing
 * fails any more, no part goes to a treasury whose shares could have come. At the end: everything is acknowledged
 * everywhere, and nothing is held for ever. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/work.h"

struct sim_report { /* of one seed, or summed */
    uint64_t seeds, events, entries, epochs, kills, power_cuts, wipes, flips, lost_messages;
    uint64_t gateway_deaths, receipts, late_receipts, overdue; /* gateways and attribution */
    uint64_t openings, lost_openings;
    uint64_t witness_deaths, witness_refusals, forks, finals; /* witnesses */
    char failure[256];                                        /* "": none */
};

/* Runs one seed; false: report->failure says what is wrong. folder: real, for the derived indexes. */
bool sim_run(struct work *work, const char *folder, uint64_t seed, bool trace,
             struct sim_report *report);
