/* keyfile.c - keys at rest; see keys.h.
 *
 *     {"format": "openledger-key-v1", "public": base64, "protection": "argon2id-secretbox",
 *      "opslimit": 2, "memlimit": 67108864, "salt": base64, "nonce": base64, "secret": base64}
 *
 * with "protection": "none" there are no parameters and "secret" is the seed itself. libsodium's
 * "interactive" cost (64 MiB, 2 passes): a service starts within a tenth of a second. The limits in a
 * file are checked before they are believed: a hostile file cannot make us use all memory. */
#include <string.h>

#include <sodium.h>

#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/crypto/key_pair.h"
#include "shared/json/json.h"
#include "shared/platform/file.h"

#define FORMAT "openledger-key-v1"
#define PROTECTED "argon2id-secretbox"
#define UNPROTECTED "none"

enum { BOX_SIZE = KEY_SEED_SIZE + crypto_secretbox_MACBYTES };

static void put_base64(struct json_writer *writer, const char *key, const void *data, size_t size)
{
    struct buf text;
    buf_init(&text, KEY_FILE_MAX);
    (void)base64_encode(bytes_of(data, size), &text);
    json_put_text(writer, key, buf_text(&text));
    buf_wipe(&text);
}

/* The key that seals the seed. ERR_NO_MEMORY when Argon2id cannot have its memory. */
static enum err derive(const char *passphrase, const uint8_t *salt,
                       uint8_t out_key[crypto_secretbox_KEYBYTES])
{
    return crypto_pwhash(out_key, crypto_secretbox_KEYBYTES, passphrase, strlen(passphrase), salt,
                         crypto_pwhash_OPSLIMIT_INTERACTIVE, crypto_pwhash_MEMLIMIT_INTERACTIVE,
                         crypto_pwhash_ALG_ARGON2ID13) == 0
               ? ERR_OK
               : ERR_NO_MEMORY;
}

static enum err write_protected(struct json_writer *writer, const struct key_pair *keys,
                                const char *passphrase)
{
    uint8_t salt[crypto_pwhash_SALTBYTES];
    uint8_t nonce[crypto_secretbox_NONCEBYTES];
    uint8_t box_key[crypto_secretbox_KEYBYTES];
    uint8_t box[BOX_SIZE];
    randombytes_buf(salt, sizeof salt);
    randombytes_buf(nonce, sizeof nonce);
    enum err err = derive(passphrase, salt, box_key);
    if (err == ERR_OK) {
        int rc = crypto_secretbox_easy(box, keys->seed, KEY_SEED_SIZE, nonce, box_key);
        CHECK(rc == 0);
        json_put_u64(writer, "opslimit", crypto_pwhash_OPSLIMIT_INTERACTIVE);
        json_put_u64(writer, "memlimit", crypto_pwhash_MEMLIMIT_INTERACTIVE);
        put_base64(writer, "salt", salt, sizeof salt);
        put_base64(writer, "nonce", nonce, sizeof nonce);
        put_base64(writer, "secret", box, sizeof box);
    }
    sodium_memzero(box_key, sizeof box_key);
    return err;
}

enum err key_pair_save(const struct key_pair *keys, const char *path, const char *passphrase,
                       struct note *note)
{
    if (strlen(passphrase) > PASSPHRASE_MAX) {
        return note_set(note, ERR_INVALID, "passphrase is longer than %d bytes", PASSPHRASE_MAX);
    }
    if (file_exists(path)) {
        return note_set(note, ERR_CONFLICT, "key file %s exists: it is never overwritten", path);
    }
    bool protect = passphrase[0] != '\0';
    struct buf text;
    buf_init(&text, KEY_FILE_MAX);
    struct json_writer writer;
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    json_put_text(&writer, "format", FORMAT);
    put_base64(&writer, "public", keys->public_key.bytes, PUBLIC_KEY_SIZE);
    json_put_text(&writer, "protection", protect ? PROTECTED : UNPROTECTED);
    enum err err = ERR_OK;
    if (protect) {
        err = write_protected(&writer, keys, passphrase);
    } else {
        put_base64(&writer, "secret", keys->seed, KEY_SEED_SIZE);
    }
    json_end_object(&writer);
    (void)buf_append_text(&text, "\n");
    err = err == ERR_OK ? buf_err(&text) : err;
    err = err == ERR_OK ? file_write_atomic(path, buf_bytes(&text), 0600, note)
                        : note_set(note, err, "no memory to protect key file %s", path);
    buf_wipe(&text);
    return err;
}

/* Decodes exactly size bytes of base64 from a member. */
static enum err get_base64(const struct json *root, const char *key, void *out, size_t size,
                           struct note *note)
{
    const char *text = NULL;
    enum err err = json_get_text(root, key, &text, note);
    if (err != ERR_OK) {
        return err;
    }
    struct buf data;
    buf_init(&data, KEY_FILE_MAX);
    err = base64_decode(bytes_of_text(text), false, &data);
    if (err == ERR_OK && data.size == size) {
        memcpy(out, data.data, size);
    } else {
        err = note_set(note, ERR_INVALID, "\"%s\" must be %zu bytes in base64", key, size);
    }
    buf_wipe(&data);
    return err;
}

static enum err read_protected(const struct json *root, const char *passphrase,
                               uint8_t out_seed[KEY_SEED_SIZE], struct note *note)
{
    uint8_t salt[crypto_pwhash_SALTBYTES];
    uint8_t nonce[crypto_secretbox_NONCEBYTES];
    uint8_t box[BOX_SIZE];
    uint8_t box_key[crypto_secretbox_KEYBYTES];
    uint64_t opslimit = 0;
    uint64_t memlimit = 0;
    enum err err = json_get_u64(root, "opslimit", &opslimit, note);
    err = err == ERR_OK ? json_get_u64(root, "memlimit", &memlimit, note) : err;
    err = err == ERR_OK ? get_base64(root, "salt", salt, sizeof salt, note) : err;
    err = err == ERR_OK ? get_base64(root, "nonce", nonce, sizeof nonce, note) : err;
    err = err == ERR_OK ? get_base64(root, "secret", box, sizeof box, note) : err;
    if (err != ERR_OK) {
        return err;
    }
    if (opslimit != crypto_pwhash_OPSLIMIT_INTERACTIVE ||
        memlimit != crypto_pwhash_MEMLIMIT_INTERACTIVE) {
        return note_set(note, ERR_INVALID, "key derivation cost is not the one of " FORMAT);
    }
    if (strlen(passphrase) > PASSPHRASE_MAX) {
        return note_set(note, ERR_DENIED, "wrong passphrase");
    }
    err = derive(passphrase, salt, box_key);
    if (err != ERR_OK) {
        return note_set(note, err, "no memory to check the passphrase");
    }
    if (crypto_secretbox_open_easy(out_seed, box, sizeof box, nonce, box_key) != 0) {
        err = note_set(note, ERR_DENIED, "wrong passphrase");
    }
    sodium_memzero(box_key, sizeof box_key);
    return err;
}

static enum err load(const struct json *root, const char *path, const char *passphrase,
                     struct key_pair **out_keys, struct note *note)
{
    const char *format = NULL;
    const char *protection = NULL;
    struct public_key expected;
    enum err err = json_get_text(root, "format", &format, note);
    err = err == ERR_OK ? json_get_text(root, "protection", &protection, note) : err;
    err = err == ERR_OK ? get_base64(root, "public", expected.bytes, PUBLIC_KEY_SIZE, note) : err;
    if (err != ERR_OK) {
        return err;
    }
    if (strcmp(format, FORMAT) != 0) {
        return note_set(note, ERR_INVALID, "format is not " FORMAT);
    }
    uint8_t seed[KEY_SEED_SIZE];
    if (strcmp(protection, PROTECTED) == 0) {
        err = read_protected(root, passphrase, seed, note);
    } else if (strcmp(protection, UNPROTECTED) != 0) {
        err = note_set(note, ERR_INVALID, "unknown protection '%.40s'", protection);
    } else if (!file_private(path)) {
        err = note_set(note, ERR_DENIED, "others may read this unprotected key: chmod 600 it");
    } else {
        err = get_base64(root, "secret", seed, sizeof seed, note);
    }
    struct key_pair *keys = err == ERR_OK ? key_pair_from_seed(seed) : NULL;
    sodium_memzero(seed, sizeof seed);
    if (err == ERR_OK && keys == NULL) {
        err = note_set(note, ERR_NO_MEMORY, "no lockable memory for a key");
    }
    if (err == ERR_OK && !public_key_equal(&expected, &keys->public_key)) {
        err = note_set(note, ERR_INVALID, "public and secret key do not match");
    }
    if (err != ERR_OK) {
        key_pair_destroy(keys);
        return err;
    }
    *out_keys = keys;
    return ERR_OK;
}

enum err key_pair_load(const char *path, const char *passphrase, struct key_pair **out_keys,
                       struct note *note)
{
    crypto_start();
    struct buf text;
    struct json *root = NULL;
    buf_init(&text, KEY_FILE_MAX);
    enum err err = file_read(path, &text, note);
    if (err == ERR_OK) {
        err = json_parse(buf_bytes(&text), KEY_FILE_MAX, &root, note);
        err = err == ERR_OK ? load(root, path, passphrase, out_keys, note) : err;
        err = err == ERR_OK ? ERR_OK : note_wrap(note, err, "key file %s", path);
    } else if (err == ERR_LIMIT) {
        err = ERR_INVALID;
    }
    json_destroy(root);
    buf_wipe(&text);
    return err;
}

enum err key_pair_load_or_create(const char *path, const char *passphrase,
                                 struct key_pair **out_keys, struct note *note)
{
    enum err err = key_pair_load(path, passphrase, out_keys, note);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    struct key_pair *keys = key_pair_create();
    if (keys == NULL) {
        return note_set(note, ERR_NO_MEMORY, "no lockable memory for a key");
    }
    err = key_pair_save(keys, path, passphrase, note);
    if (err != ERR_OK) {
        key_pair_destroy(keys);
        return err;
    }
    *out_keys = keys;
    return ERR_OK;
}
