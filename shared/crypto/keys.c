/* keys.c - signatures, ids, sealed boxes and salts; key files are in keyfile.c. See keys.h. */
#include "shared/crypto/keys.h"

#include <assert.h>
#include <string.h>

#include <sodium.h>

#include "shared/base/check.h"
#include "shared/crypto/key_pair.h"
#include "shared/crypto/sha256.h"

static_assert(PUBLIC_KEY_SIZE == crypto_sign_PUBLICKEYBYTES, "Ed25519");
static_assert(SIGNATURE_SIZE == crypto_sign_BYTES, "Ed25519");
static_assert(KEY_SEED_SIZE == crypto_sign_SEEDBYTES, "Ed25519");
static_assert(SEALED_EXTRA == crypto_box_SEALBYTES, "sealed box");

void crypto_start(void)
{
    CHECK(sodium_init() >= 0);
}

struct key_pair *key_pair_from_seed(const uint8_t seed[KEY_SEED_SIZE])
{
    crypto_start();
    struct key_pair *keys = sodium_malloc(sizeof *keys);
    if (keys == NULL) {
        return NULL;
    }
    memcpy(keys->seed, seed, KEY_SEED_SIZE);
    int rc = crypto_sign_seed_keypair(keys->public_key.bytes, keys->secret, seed);
    CHECK(rc == 0);
    (void)sodium_mprotect_readonly(keys);
    return keys;
}

struct key_pair *key_pair_create(void)
{
    uint8_t seed[KEY_SEED_SIZE];
    crypto_start();
    randombytes_buf(seed, sizeof seed);
    struct key_pair *keys = key_pair_from_seed(seed);
    sodium_memzero(seed, sizeof seed);
    return keys;
}

void key_pair_destroy(struct key_pair *keys)
{
    sodium_free(keys); /* wipes */
}

const struct public_key *key_pair_public(const struct key_pair *keys)
{
    return &keys->public_key;
}

void key_pair_sign(const struct key_pair *keys, struct bytes message, struct signature *out)
{
    int rc = crypto_sign_detached(out->bytes, NULL, message.data, message.size, keys->secret);
    CHECK(rc == 0);
}

bool signature_verify(const struct public_key *key, struct bytes message,
                      const struct signature *signature)
{
    return crypto_sign_verify_detached(signature->bytes, message.data, message.size, key->bytes) ==
           0;
}

bool public_key_equal(const struct public_key *a, const struct public_key *b)
{
    return memcmp(a->bytes, b->bytes, PUBLIC_KEY_SIZE) == 0;
}

void account_id_from_key(const struct public_key *key, struct account_id *out_id)
{
    static const char DOMAIN[] = "openledger/account/v1"; /* hashed with its NUL */
    struct digest digest;
    struct bytes parts[2] = {bytes_of(DOMAIN, sizeof DOMAIN),
                             bytes_of(key->bytes, PUBLIC_KEY_SIZE)};
    sha256_parts(parts, 2, &digest);
    memcpy(out_id->bytes, digest.bytes, ACCOUNT_ID_SIZE);
}

enum err sealed_box_seal(const struct public_key *key, struct bytes message, struct buf *out)
{
    uint8_t box_key[crypto_box_PUBLICKEYBYTES];
    if (message.size > out->limit ||
        crypto_sign_ed25519_pk_to_curve25519(box_key, key->bytes) != 0) {
        return message.size > out->limit ? ERR_LIMIT : ERR_INVALID;
    }
    uint8_t *at = buf_reserve(out, message.size + SEALED_EXTRA);
    if (at == NULL) {
        return out->err;
    }
    if (crypto_box_seal(at, message.data, message.size, box_key) != 0) {
        return ERR_INVALID;
    }
    buf_commit(out, message.size + SEALED_EXTRA);
    return ERR_OK;
}

enum err sealed_box_open(const struct key_pair *keys, struct bytes sealed, struct buf *out)
{
    if (sealed.size < SEALED_EXTRA) {
        return ERR_DENIED;
    }
    uint8_t box_key[crypto_box_PUBLICKEYBYTES];
    uint8_t box_secret[crypto_box_SECRETKEYBYTES];
    CHECK(crypto_sign_ed25519_pk_to_curve25519(box_key, keys->public_key.bytes) == 0);
    CHECK(crypto_sign_ed25519_sk_to_curve25519(box_secret, keys->secret) == 0);
    uint8_t *at = buf_reserve(out, sealed.size - SEALED_EXTRA);
    enum err err = at == NULL ? out->err : ERR_OK;
    if (at != NULL) {
        if (crypto_box_seal_open(at, sealed.data, sealed.size, box_key, box_secret) == 0) {
            buf_commit(out, sealed.size - SEALED_EXTRA);
        } else {
            err = ERR_DENIED;
        }
    }
    sodium_memzero(box_secret, sizeof box_secret);
    return err;
}

void salt_create(struct salt *out_salt)
{
    crypto_start();
    randombytes_buf(out_salt->bytes, SALT_SIZE);
}

void salted_digest(const char *domain, const struct salt *salt, struct bytes data,
                   struct digest *out_digest)
{
    struct bytes parts[3] = {bytes_of(domain, strlen(domain) + 1), bytes_of(salt->bytes, SALT_SIZE),
                             data};
    sha256_parts(parts, 3, out_digest);
}

bool secret_equal(const void *a, const void *b, size_t size)
{
    return size == 0 || sodium_memcmp(a, b, size) == 0;
}

void secret_wipe(void *data, size_t size)
{
    sodium_memzero(data, size);
}
