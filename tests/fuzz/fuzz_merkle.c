/* fuzz_merkle.c - no proof bytes whatsoever may verify a record that is not in the tree.
 *
 * The oracle is exact: an accepted stranger would be a SHA-256 collision or a bug of ours. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/merkle/merkle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct digest hash[5];
    struct merkle_head head;
    struct merkle_proof proof = {0};
    for (uint32_t i = 0; i < 5; i++) {
        merkle_leaf(&i, sizeof i, &hash[i]);
    }
    merkle_head((struct merkle_leaves){.items = hash, .count = 5}, &head);
    memcpy(&proof, data, data_size < sizeof proof ? data_size : sizeof proof);
    bool accepted = merkle_verify(&head, &proof, "stranger", 8);
    CHECK(!accepted);
    return 0;
}
