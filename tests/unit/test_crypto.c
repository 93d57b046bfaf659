/* test_crypto.c - published vectors (FIPS 180, RFC 4231, RFC 8032, C2SP), key files, hostile notes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/base/hex.h"
#include "shared/crypto/keys.h"
#include "shared/crypto/sha256.h"
#include "shared/crypto/signed_note.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"

static struct note note;

static void check_digest(const struct digest *digest, const char *hex)
{
    char text[2 * DIGEST_SIZE + 1];
    ck_assert_str_eq(hex_encode(digest->bytes, DIGEST_SIZE, text), hex);
}

START_TEST(test_sha256_vectors)
{
    struct digest digest;
    sha256(bytes_of(NULL, 0), &digest);
    check_digest(&digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256(bytes_of_text("abc"), &digest);
    check_digest(&digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct bytes parts[3] = {bytes_of_text("a"), bytes_of(NULL, 0), bytes_of_text("bc")};
    sha256_parts(parts, 3, &digest);
    check_digest(&digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct sha256 *sha = sha256_create();
    char block[1000];
    memset(block, 'a', sizeof block);
    for (int round = 0; round < 2; round++) { /* a million a; final starts over */
        for (int i = 0; i < 1000; i++) {
            sha256_update(sha, bytes_of(block, sizeof block));
        }
        sha256_final(sha, &digest);
        check_digest(&digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    sha256_destroy(sha);
    hmac_sha256(bytes_of_text("Jefe"), bytes_of_text("what do ya want for nothing?"), &digest);
    check_digest(&digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    char key[131];
    memset(key, 0xaa, sizeof key);
    hmac_sha256(bytes_of(key, sizeof key),
                bytes_of_text("Test Using Larger Than Block-Size Key - Hash Key First"), &digest);
    check_digest(&digest, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}
END_TEST

enum { MANY = 100, LONG = 3000 };

/* Sizes around a block's and a lane's ends, and any number of them: each as if it were alone. */
START_TEST(test_sha256_many)
{
    static const size_t around[] = {0, 55, 64, 119, 128, 1015, 1024, LONG - 8};
    static uint8_t text[LONG];
    struct bytes messages[MANY];
    struct digest found[MANY + 1];
    struct digest alone;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)test_rand();
    }
#if defined(__x86_64__)
    bool can = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    ck_assert_uint_eq(sha256_many_lanes(), can ? 16 : 1);
#endif
    for (int round = 0; round < 300; round++) {
        const size_t count = round < MANY ? (size_t)round : test_rand() % MANY;
        const struct bytes prefix = bytes_of(text, test_rand() % 3 == 0 ? 66 : test_rand() % 2);
        for (size_t i = 0; i < count; i++) {
            size_t size = round % 3 == 0 ? 66 : around[test_rand() % 8] + test_rand() % 8;
            messages[i] = bytes_of(size == 0 ? NULL : text + LONG - size, size);
        }
        memset(&found[count], 0x5e, sizeof found[count]);
        sha256_many(prefix, messages, count, found);
        for (size_t i = 0; i < count; i++) {
            const struct bytes parts[2] = {prefix, messages[i]};
            sha256_parts(parts, 2, &alone);
            ck_assert_mem_eq(&found[i], &alone, sizeof alone);
        }
        memset(&alone, 0x5e, sizeof alone);
        ck_assert_mem_eq(&found[count], &alone, sizeof alone);
    }
}
END_TEST

/* RFC 8032 section 7.1, tests 1 and 3. */
START_TEST(test_ed25519_vectors)
{
    static const struct {
        const char *seed, *key, *message, *signature;
    } vector[] = {
        {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
         "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701"
         "cf9b46bd25bf5f0595bbe24655141438e7a100b"},
        {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
         "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f7609"
         "84dc6594a7c15e9716ed28dc027beceea1ec40a"},
    };
    for (size_t i = 0; i < 2; i++) {
        uint8_t seed[KEY_SEED_SIZE];
        uint8_t message[2];
        char hex[2 * SIGNATURE_SIZE + 1];
        size_t size = strlen(vector[i].message) / 2;
        ck_assert_uint_eq(hex_decode(vector[i].seed, 64, seed, sizeof seed), ERR_OK);
        ck_assert_uint_eq(hex_decode(vector[i].message, 2 * size, message, size), ERR_OK);
        struct key_pair *keys = key_pair_from_seed(seed);
        const struct public_key *key = key_pair_public(keys);
        struct signature signature;
        ck_assert_str_eq(hex_encode(key->bytes, PUBLIC_KEY_SIZE, hex), vector[i].key);
        key_pair_sign(keys, bytes_of(message, size), &signature);
        ck_assert_str_eq(hex_encode(signature.bytes, SIGNATURE_SIZE, hex), vector[i].signature);
        ck_assert(signature_verify(key, bytes_of(message, size), &signature));
        for (size_t bit = 0; bit < 8 * SIGNATURE_SIZE; bit++) {
            struct signature bad = signature;
            bad.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            ck_assert(!signature_verify(key, bytes_of(message, size), &bad));
        }
        key_pair_destroy(keys);
    }
    static const struct public_key SMALL_ORDER = {{1}};
    struct signature zero = {{1}};
    ck_assert(!signature_verify(&SMALL_ORDER, bytes_of(NULL, 0), &zero));
}
END_TEST

START_TEST(test_key_files)
{
    test_folder_make();
    struct key_pair *keys = key_pair_create();
    struct key_pair *loaded = NULL;
    ck_assert_ptr_nonnull(keys);
    ck_assert_uint_eq(key_pair_save(keys, test_path("a"), "correct horse", &note), ERR_OK);
    ck_assert_uint_eq(key_pair_save(keys, test_path("a"), "", &note), ERR_CONFLICT);
    ck_assert_uint_eq(key_pair_load(test_path("a"), "wrong", &loaded, &note), ERR_DENIED);
    ck_assert_uint_eq(key_pair_load(test_path("a"), "", &loaded, &note), ERR_DENIED);
    ck_assert_uint_eq(key_pair_load(test_path("none"), "", &loaded, &note), ERR_NOT_FOUND);
    ck_assert_ptr_null(loaded);
    ck_assert_uint_eq(key_pair_load(test_path("a"), "correct horse", &loaded, &note), ERR_OK);
    ck_assert(public_key_equal(key_pair_public(keys), key_pair_public(loaded)));
    key_pair_destroy(loaded);
    loaded = NULL;

    ck_assert_uint_eq(key_pair_load_or_create(test_path("b"), "", &loaded, &note), ERR_OK);
    key_pair_destroy(keys);
    ck_assert_uint_eq(key_pair_load_or_create(test_path("b"), "", &keys, &note), ERR_OK);
    ck_assert(public_key_equal(key_pair_public(keys), key_pair_public(loaded)));
    key_pair_destroy(loaded);
    loaded = NULL;
    struct stat info;
    ck_assert_int_eq(stat(test_path("b"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0600);
    ck_assert_int_eq(chmod(test_path("b"), 0644), 0);
    ck_assert_uint_eq(key_pair_load(test_path("b"), "", &loaded, &note), ERR_DENIED);
    ck_assert_int_eq(chmod(test_path("b"), 0600), 0);

    struct buf text; /* a damaged file never gives a key */
    buf_init(&text, KEY_FILE_MAX);
    ck_assert_uint_eq(file_read(test_path("b"), &text, &note), ERR_OK);
    for (size_t at = 0; at < text.size; at += 3) {
        text.data[at] ^= 1;
        ck_assert_uint_eq(file_write_quick(test_path("b"), buf_bytes(&text), 0600, &note), ERR_OK);
        enum err err = key_pair_load(test_path("b"), "", &loaded, &note);
        text.data[at] ^= 1;
        if (err == ERR_OK) { /* only a blank turned into another character jansson skips could */
            ck_assert(public_key_equal(key_pair_public(keys), key_pair_public(loaded)));
            key_pair_destroy(loaded);
            loaded = NULL;
        } else {
            ck_assert(err == ERR_INVALID || err == ERR_DENIED);
        }
    }
    buf_deinit(&text);
    key_pair_destroy(keys);
    test_folder_remove();
}
END_TEST

START_TEST(test_sealed_boxes_and_salts)
{
    struct key_pair *keys = key_pair_create();
    struct key_pair *other = key_pair_create();
    struct buf sealed;
    struct buf opened;
    buf_init(&sealed, 1000);
    buf_init(&opened, 1000);
    ck_assert_uint_eq(sealed_box_seal(key_pair_public(keys), bytes_of_text("secret"), &sealed),
                      ERR_OK);
    ck_assert_uint_eq(sealed.size, 6 + SEALED_EXTRA);
    ck_assert_uint_eq(sealed_box_open(other, buf_bytes(&sealed), &opened), ERR_DENIED);
    ck_assert_uint_eq(sealed_box_open(keys, buf_bytes(&sealed), &opened), ERR_OK);
    ck_assert_str_eq(buf_text(&opened), "secret");
    sealed.data[SEALED_EXTRA] ^= 1;
    ck_assert_uint_eq(sealed_box_open(keys, buf_bytes(&sealed), &opened), ERR_DENIED);
    ck_assert_uint_eq(sealed_box_open(keys, bytes_of_text("short"), &opened), ERR_DENIED);
    ck_assert_uint_eq(opened.size, 6);
    buf_deinit(&sealed);
    buf_deinit(&opened);
    key_pair_destroy(keys);
    key_pair_destroy(other);

    struct salt salt[2];
    struct digest digest[3];
    salt_create(&salt[0]);
    salt_create(&salt[1]);
    salted_digest("a/v1", &salt[0], bytes_of_text("row"), &digest[0]);
    salted_digest("a/v1", &salt[1], bytes_of_text("row"), &digest[1]);
    salted_digest("b/v1", &salt[0], bytes_of_text("row"), &digest[2]);
    ck_assert(!digest_equal(&digest[0], &digest[1]));
    ck_assert(!digest_equal(&digest[0], &digest[2]));
    ck_assert(secret_equal(&salt[0], &salt[0], SALT_SIZE));
    ck_assert(!secret_equal(&salt[0], &salt[1], SALT_SIZE));
}
END_TEST

/* The example of golang.org/x/mod/sumdb/note, whose format C2SP specifies. */
static const char VKEY[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
static const char NOTE[] = "If you think cryptography is the answer to your problem,\n"
                           "then you don't know what your problem is.\n"
                           "\n"
                           "\xe2\x80\x94 PeterNeumann "
                           "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdn"
                           "gotpRZb6KE6RyyBwJnAM=\n";

START_TEST(test_signed_note_vector)
{
    char name[SIGNED_NOTE_NAME_MAX + 1];
    struct signed_note_key signer;
    struct bytes text;
    struct buf out;
    buf_init(&out, SIGNED_NOTE_MAX);
    ck_assert_uint_eq(signed_note_key_parse(VKEY, name, &signer, &note), ERR_OK);
    ck_assert_str_eq(name, "PeterNeumann");
    ck_assert_uint_eq(signed_note_key_hash(&signer), 0xc74f20a3);
    ck_assert_uint_eq(signed_note_key_format(&signer, &out), ERR_OK);
    ck_assert_str_eq(buf_text(&out), VKEY);
    ck_assert_uint_eq(signed_note_verify(bytes_of_text(NOTE), &signer, 1, &text, &note), ERR_OK);
    ck_assert_uint_eq(text.size, (size_t)(strstr(NOTE, "\n\n") + 1 - NOTE));
    uint8_t damaged[sizeof NOTE];
    for (size_t at = 0; at < sizeof NOTE - 1; at++) { /* any changed bit: never accepted */
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(damaged, NOTE, sizeof NOTE);
            damaged[at] ^= (uint8_t)(1U << bit);
            ck_assert(signed_note_verify(bytes_of(damaged, sizeof NOTE - 1), &signer, 1, &text,
                                         &note) != ERR_OK);
        }
    }
    for (size_t size = 0; size < sizeof NOTE - 1; size++) {
        ck_assert(signed_note_verify(bytes_of(NOTE, size), &signer, 1, &text, &note) != ERR_OK);
    }
    buf_deinit(&out);
}
END_TEST

START_TEST(test_checkpoints)
{
    struct key_pair *log = key_pair_create();
    struct key_pair *witness = key_pair_create();
    struct checkpoint checkpoint = {.origin = "openledger.example/log", .leaf_count = 42};
    struct checkpoint back;
    struct buf body;
    struct buf signed_note;
    sha256(bytes_of_text("root"), &checkpoint.root);
    buf_init(&body, 4096);
    buf_init(&signed_note, SIGNED_NOTE_MAX);
    ck_assert_uint_eq(checkpoint_format(&checkpoint, bytes_of_text("extra 1\n"), &body), ERR_OK);
    ck_assert_uint_eq(
        signed_note_sign(buf_bytes(&body), "openledger.example/log", log, &signed_note), ERR_OK);
    struct signed_note_key keys[2] = {
        {"openledger.example/log", SIGNED_NOTE_PLAIN, *key_pair_public(log)},
        {"witness.example", SIGNED_NOTE_COSIGNATURE, *key_pair_public(witness)}};
    struct bytes text;
    struct bytes extension;
    ck_assert_uint_eq(signed_note_verify(buf_bytes(&signed_note), keys, 1, &text, &note), ERR_OK);
    ck_assert_uint_eq(signed_note_verify(buf_bytes(&signed_note), keys, 2, &text, &note),
                      ERR_DENIED);
    struct buf copy; /* cosign reads from a buffer it does not write */
    buf_init(&copy, SIGNED_NOTE_MAX);
    (void)buf_append_bytes(&copy, buf_bytes(&signed_note));
    ck_assert_uint_eq(
        signed_note_cosign(buf_bytes(&copy), "witness.example", witness, 1679315147, &signed_note),
        ERR_OK);
    buf_deinit(&copy);
    ck_assert_uint_eq(signed_note_verify(buf_bytes(&signed_note), keys, 2, &text, &note), ERR_OK);
    ck_assert_uint_eq(checkpoint_parse(text, &back, &extension, &note), ERR_OK);
    ck_assert_str_eq(back.origin, checkpoint.origin);
    ck_assert_uint_eq(back.leaf_count, 42);
    ck_assert(digest_equal(&back.root, &checkpoint.root));
    ck_assert(bytes_equal(extension, bytes_of_text("extra 1\n")));
    static const char *const bad[] = {
        "",
        "log\n",
        "log\n1\n",
        "log\n01\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n",
        "lo g\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n99999999999999999999\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(checkpoint_parse(bytes_of_text(bad[i]), &back, NULL, &note) == ERR_INVALID,
                      "%s", bad[i]);
    }
    ck_assert_uint_eq(signed_note_sign(bytes_of_text("no newline"), "a", log, &body), ERR_INVALID);
    ck_assert_uint_eq(signed_note_sign(bytes_of_text("x\n"), "a b", log, &body), ERR_INVALID);
    ck_assert_uint_eq(signed_note_sign(bytes_of_text("x\t\n"), "a", log, &body), ERR_INVALID);
    ck_assert_uint_eq(signed_note_sign(bytes_of_text("\xc0\x80\n"), "a", log, &body), ERR_INVALID);
    buf_deinit(&body);
    buf_deinit(&signed_note);
    key_pair_destroy(log);
    key_pair_destroy(witness);
}
END_TEST

/* A cosignature counts for its own key and time only; a wrong one of a known key spoils the note, one
 * of an unknown key does not. */
START_TEST(test_cosignatures)
{
    static const char TEXT[] = "log.example\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    struct key_pair *log = key_pair_create();
    struct key_pair *witness = key_pair_create();
    struct key_pair *other = key_pair_create();
    struct signed_note_key keys[3] = {
        {"log.example", SIGNED_NOTE_PLAIN, *key_pair_public(log)},
        {"w1.example", SIGNED_NOTE_COSIGNATURE, *key_pair_public(witness)},
        {"w2.example", SIGNED_NOTE_COSIGNATURE, *key_pair_public(other)}};
    bool signed_by[3];
    struct bytes text;
    struct buf all;
    struct buf line;
    buf_init(&all, SIGNED_NOTE_MAX);
    buf_init(&line, SIGNED_NOTE_MAX);
    ck_assert_uint_eq(signed_note_sign(bytes_of_text(TEXT), "log.example", log, &all), ERR_OK);
    size_t signed_size = all.size;
    ck_assert_uint_eq(signed_note_cosign(buf_bytes(&all), "w1.example", witness, 77, &line),
                      ERR_OK);
    (void)buf_append_bytes(&all, buf_bytes(&line));
    ck_assert_uint_eq(signed_note_check(buf_bytes(&all), keys, 3, signed_by, &text, &note), ERR_OK);
    ck_assert(signed_by[0] && signed_by[1] && !signed_by[2]);
    ck_assert(bytes_equal(text, bytes_of_text(TEXT)));
    for (size_t at = signed_size; at < all.size; at++) { /* any change: no cosignature */
        for (unsigned bit = 0; bit < 8; bit++) {
            all.data[at] ^= (uint8_t)(1U << bit);
            enum err err = signed_note_check(buf_bytes(&all), keys, 3, signed_by, &text, &note);
            ck_assert(err != ERR_OK || !signed_by[1]);
            all.data[at] ^= (uint8_t)(1U << bit);
        }
    }
    keys[1].key = keys[2].key; /* another key under the name: its hash differs, so it is unknown */
    ck_assert_uint_eq(signed_note_check(buf_bytes(&all), keys, 2, signed_by, &text, &note), ERR_OK);
    ck_assert(signed_by[0] && !signed_by[1]);
    keys[1].key = *key_pair_public(witness);
    keys[1].type = SIGNED_NOTE_PLAIN; /* nor does it count as a plain signature of the same key */
    ck_assert_uint_eq(signed_note_check(buf_bytes(&all), keys, 2, signed_by, &text, &note), ERR_OK);
    ck_assert(!signed_by[1]);
    ck_assert_uint_eq(signed_note_cosign(bytes_of_text("x\n"), "w1", witness, 1, &line),
                      ERR_INVALID);
    ck_assert_uint_eq(signed_note_cosign(buf_bytes(&all), "w 1", witness, 1, &line), ERR_INVALID);
    ck_assert_uint_eq(signed_note_cosign(buf_bytes(&all), "w1", witness, UINT64_MAX, &line),
                      ERR_INVALID);
    buf_clear(&line); /* verifier keys say how they sign */
    char name[SIGNED_NOTE_NAME_MAX + 1];
    struct signed_note_key back;
    ck_assert_uint_eq(signed_note_key_format(&keys[2], &line), ERR_OK);
    ck_assert_uint_eq(signed_note_key_parse(buf_text(&line), name, &back, &note), ERR_OK);
    ck_assert_uint_eq(back.type, SIGNED_NOTE_COSIGNATURE);
    ck_assert_str_eq(back.name, "w2.example");
    ck_assert(public_key_equal(&back.key, &keys[2].key));
    buf_deinit(&all);
    buf_deinit(&line);
    key_pair_destroy(log);
    key_pair_destroy(witness);
    key_pair_destroy(other);
}
END_TEST

int main(void)
{
    crypto_start();
    Suite *suite = suite_create("crypto");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_sha256_vectors);
    tcase_add_test(rules, test_sha256_many);
    tcase_add_test(rules, test_ed25519_vectors);
    tcase_add_test(rules, test_key_files);
    tcase_add_test(rules, test_sealed_boxes_and_salts);
    tcase_add_test(rules, test_signed_note_vector);
    tcase_add_test(rules, test_checkpoints);
    tcase_add_test(rules, test_cosignatures);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
