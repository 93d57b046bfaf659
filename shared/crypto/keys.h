/* keys.h - Ed25519 keys and signatures, keys at rest, sealed boxes, salts.
 *
 * Source: RFC 8032 (Ed25519, through libsodium), Argon2id (RFC 9106), XSalsa20-Poly1305 secretbox.
 *
 * A secret key lives in guarded memory (sodium_malloc) behind an opaque struct, is wiped when
 * destroyed and never printed. Call crypto_start() first in main (or test). Any thread may use a
 * key_pair that nobody destroys. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/account_id.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define PUBLIC_KEY_SIZE 32
#define SIGNATURE_SIZE 64
#define KEY_SEED_SIZE 32
#define SALT_SIZE 32
#define KEY_FILE_MAX 4096   /* bytes of a key file */
#define PASSPHRASE_MAX 1024 /* bytes */
#define SEALED_EXTRA 48     /* bytes a sealed box adds */

struct public_key {
    uint8_t bytes[PUBLIC_KEY_SIZE];
};

struct signature {
    uint8_t bytes[SIGNATURE_SIZE];
};

struct salt {
    uint8_t bytes[SALT_SIZE];
};

struct key_pair; /* a secret key with its public key */

/* Prepares the libraries. Idempotent, any thread; aborts when they are broken. */
void crypto_start(void);

/* NULL: out of (lockable) memory. seed: KEY_SEED_SIZE bytes, the RFC 8032 secret key. */
MUST_USE struct key_pair *key_pair_create(void); /* random */
MUST_USE struct key_pair *key_pair_from_seed(const uint8_t seed[KEY_SEED_SIZE]);
void key_pair_destroy(struct key_pair *keys); /* wipes; NULL is fine */

const struct public_key *key_pair_public(const struct key_pair *keys); /* borrowed */
void key_pair_sign(const struct key_pair *keys, struct bytes message, struct signature *out);

/* True only for a valid signature of exactly these bytes. Refuses non-canonical signatures and keys
 * of small order, so all verifiers of this suite agree. */
MUST_USE bool signature_verify(const struct public_key *key, struct bytes message,
                               const struct signature *signature);

bool public_key_equal(const struct public_key *a, const struct public_key *b);

/* The id of the account whose first key this is: SHA-256("openledger/account/v1" || 0x00 || key). */
void account_id_from_key(const struct public_key *key, struct account_id *out_id);

/* Key files: JSON text with the public key, and the secret either sealed by a passphrase (Argon2id,
 * secretbox) or, with an empty passphrase, as it is: then the file's mode 0600 is all that protects it,
 * and the file says so ("protection":"none"). Written atomically with mode 0600, never over an
 * existing file (ERR_CONFLICT). */
MUST_USE enum err key_pair_save(const struct key_pair *keys, const char *path,
                                const char *passphrase, struct note *note);
/* ERR_DENIED: wrong passphrase, or others may read an unprotected file. ERR_INVALID: not a key file.
 * ERR_NOT_FOUND, ERR_IO. */
MUST_USE enum err key_pair_load(const char *path, const char *passphrase,
                                struct key_pair **out_keys, struct note *note);

/* Loads path, or makes a new key there when it is missing: what a service does at start. */
MUST_USE enum err key_pair_load_or_create(const char *path, const char *passphrase,
                                          struct key_pair **out_keys, struct note *note);

/* Sealed boxes: anyone can write to the owner of key; only the owner reads. Appends to out (SEALED_EXTRA bytes
 * more than message). The Ed25519 key is converted to X25519. ERR_INVALID: not a valid key; ERR_DENIED:
 * not for us, or damaged. */
MUST_USE enum err sealed_box_seal(const struct public_key *key, struct bytes message,
                                  struct buf *out);
MUST_USE enum err sealed_box_open(const struct key_pair *keys, struct bytes sealed,
                                  struct buf *out);

/* A fresh random salt; and the commitment to data under it: SHA-256(domain || 0x00 || salt || data),
 * domain being a fixed text such as "openledger/row/v1". Hides even short data while the salt is
 * secret; after the salt is destroyed nothing can be guessed. */
void salt_create(struct salt *out_salt);
void salted_digest(const char *domain, const struct salt *salt, struct bytes data,
                   struct digest *out_digest);

/* Equal bytes, in time that depends on size only. */
MUST_USE bool secret_equal(const void *a, const void *b, size_t size);
void secret_wipe(void *data, size_t size);
