/* cpuid.h - what an x86 CPU can do, where __builtin_cpu_supports of one of our compilers cannot tell.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID. */
#pragma once

#include <cpuid.h>
#include <stdbool.h>

#define CPUID_1_ECX_F16C (1U << 29)
#define CPUID_7_EDX_AMX (3U << 24) /* tiles and their int8 products */

static inline bool cpuid_f16c(void)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & CPUID_1_ECX_F16C) != 0;
}

static inline bool cpuid_amx(void)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & CPUID_7_EDX_AMX) == CPUID_7_EDX_AMX;
}
