/* disk.h - simulated disks, one per node, for paths "sim:<node>/...": what is written is in the cache until
 * it is synced; a power cut keeps any sectors of it or none, and resizes only in order.
 *
 * One thread at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DISK_NODES_MAX 10

void disk_start(uint64_t (*random)(void)); /* file_simulate(); empty disks; the source of choices */
void disk_clear(void);                     /* empties all */

/* How a node's programs end: */
void disk_kill(uint32_t node);      /* kill -9: the cache stays */
void disk_power_cut(uint32_t node); /* what was not synced may be gone, in part or whole */
void disk_wipe(uint32_t node);      /* a new, empty disk */
/* After this many operations of the node every further one fails, as if the program were gone: then
 * disk_kill() or disk_power_cut(). 0: now. */
void disk_die_after(uint32_t node, uint32_t operations);
bool disk_dead(uint32_t node);
void disk_full(uint32_t node, bool full);
/* Flips one bit of the node's journal, in its first `part` of 256; false: it has none yet. */
bool disk_flip(uint32_t node);
