/* simt.h - what a test may say to the simulated device. C. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Chooses the order of blocks and threads from here on; 0 is ascending. */
void simt_seed(uint64_t seed);
/* The count-th call of the runtime from now fails (1 is the next); 0: none does. */
void simt_fail(uint64_t count);
/* Calls of the runtime so far. */
uint64_t simt_calls(void);

#ifdef __cplusplus
}
#endif
