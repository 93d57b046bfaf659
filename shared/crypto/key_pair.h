/* key_pair.h - the inside of struct key_pair. Private to this room. */
#pragma once

#include "shared/crypto/keys.h"

/* Lives in sodium_malloc, read-only once made. */
struct key_pair {
    uint8_t secret[SIGNATURE_SIZE]; /* libsodium's form: seed and public key */
    uint8_t seed[KEY_SEED_SIZE];
    struct public_key public_key;
};
