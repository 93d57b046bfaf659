/* random.h - randomness from the kernel. What must be reproducible uses a keyed counter instead. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Fills out with random bytes fit for keys. Cannot fail once the machine is up: failure aborts. */
void random_bytes(void *out, size_t size);
uint64_t random_u64(void);
