/* philox.c - see philox.h. */
#include "shared/lm/philox.h"

#include "shared/base/check.h"

__extension__ typedef unsigned __int128 wide; /* 64 x 64 bit products */

struct philox_block philox_rounds(struct philox_block counter, uint32_t key0, uint32_t key1)
{
    uint32_t *c = counter.word;
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = UINT64_C(0xD2511F53) * c[0];
        uint64_t product1 = UINT64_C(0xCD9E8D57) * c[2];
        uint32_t next0 = (uint32_t)(product1 >> 32) ^ c[1] ^ key0;
        uint32_t next2 = (uint32_t)(product0 >> 32) ^ c[3] ^ key1;
        c[0] = next0;
        c[1] = (uint32_t)product1;
        c[2] = next2;
        c[3] = (uint32_t)product0;
        key0 += UINT32_C(0x9E3779B9); /* golden ratio */
        key1 += UINT32_C(0xBB67AE85); /* sqrt(3) - 1 */
    }
    return counter;
}

struct philox_block philox_at(uint64_t seed, enum philox_purpose purpose, uint64_t index)
{
    struct philox_block counter = {
        {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)purpose, 0}};
    return philox_rounds(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

uint64_t philox_u64(uint64_t seed, enum philox_purpose purpose, uint64_t index)
{
    struct philox_block block = philox_at(seed, purpose, index);
    return (uint64_t)block.word[1] << 32 | block.word[0];
}

float philox_signed(uint64_t seed, enum philox_purpose purpose, uint64_t index)
{
    struct philox_block block = philox_at(seed, purpose, index / 4);
    int32_t top = (int32_t)(block.word[index % 4] >> 8) - (1 << 23); /* 24 bits: exact in fp32 */
    return (float)top * 0x1p-23F;
}

uint64_t philox_below(uint64_t seed, enum philox_purpose purpose, uint64_t index, uint64_t bound)
{
    CHECK(bound >= 1);
    wide product = (wide)philox_u64(seed, purpose, index) * bound;
    return (uint64_t)(product >> 64);
}

void philox_permutation(uint64_t seed, enum philox_purpose purpose, uint32_t count, uint32_t *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = i;
    }
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)philox_below(seed, purpose, i, i);
        uint32_t moved = out[i - 1];
        out[i - 1] = out[j];
        out[j] = moved;
    }
}
