/* clock.h - the only way to learn the time. Pure code takes `now` as an argument instead. */
#pragma once

#include <stdint.h>

/* Since 1970 UTC; may jump when the machine's clock is set. For dates on records. */
uint64_t clock_real_ms(void);
uint64_t clock_real_us(void);

/* Since some fixed moment; never goes back. For timeouts and durations. */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);

/* Sleeps at least this long, signals or not. */
void clock_sleep_ms(uint64_t duration_ms);
