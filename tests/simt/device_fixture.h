/* device_fixture.h - what the parts of test_device share: numbers, the context, comparing. */
#pragma once

#include <check.h>
#include <stddef.h>

#include "kernels/cuda/cuda.h"

#define POOL 60000
#ifdef OPENLEDGER_SIMT
#define ORDERS 3 /* of the device's threads */
#else
#define ORDERS 1
#endif

extern float pool[POOL]; /* in [-2, 2) */
extern float want[POOL], got[POOL];
extern struct cuda *cuda; /* a new one for each test */
extern const struct kernels *scalar;

void sync_ok(void);
/* To the device. data must stay as it is until the next sync. */
void *put(const void *data, size_t size);
float *put_floats(const float *data, size_t count);
/* The device's numbers are those of want. */
void same(const float *device, size_t count);
/* Another order of the device's threads for each run of a test. */
void order(int round);

/* device_long.c's tests. */
void device_long_add(TCase *tcase);
