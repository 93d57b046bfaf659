/* signed_note.c - see signed_note.h. A note is text, an empty line, then signature lines. */
#include "shared/crypto/signed_note.h"

#include <inttypes.h>
#include <string.h>

#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/base/utf8.h"
#include "shared/crypto/sha256.h"

enum {
    KEY_HASH_SIZE = 4,
    TIME_SIZE = 8,          /* of a cosignature: seconds, big-endian, before the signature */
    COSIGNED_EXTRA_MAX = 64 /* bytes that a cosignature's message has before the note's text */
};

static const char DASH[] = "\xe2\x80\x94 "; /* em dash, blank: begins a signature line */
enum { DASH_SIZE = sizeof DASH - 1 };

static bool name_ok(struct bytes name)
{
    if (name.size == 0 || name.size > SIGNED_NOTE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] <= ' ' || name.data[i] == '+' || name.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

bool signed_note_name_valid(const char *name)
{
    return name_ok(bytes_of_text(name));
}

static uint32_t key_hash(struct bytes name, enum signed_note_type type,
                         const struct public_key *key)
{
    const uint8_t tail[] = {'\n', (uint8_t)type};
    struct bytes parts[3] = {name, bytes_of(tail, sizeof tail),
                             bytes_of(key->bytes, PUBLIC_KEY_SIZE)};
    struct digest digest;
    sha256_parts(parts, 3, &digest);
    struct bytes in = digest_bytes(&digest);
    uint32_t hash = 0;
    enum err err = bytes_take_u32be(&in, &hash);
    CHECK(err == ERR_OK);
    return hash;
}

uint32_t signed_note_key_hash(const struct signed_note_key *key)
{
    return key_hash(bytes_of_text(key->name), key->type, &key->key);
}

enum err signed_note_key_format(const struct signed_note_key *key, struct buf *out)
{
    if (!name_ok(bytes_of_text(key->name))) {
        return ERR_INVALID;
    }
    uint8_t typed[1 + PUBLIC_KEY_SIZE] = {(uint8_t)key->type};
    memcpy(typed + 1, key->key.bytes, PUBLIC_KEY_SIZE);
    (void)buf_printf(out, "%s+%08" PRIx32 "+", key->name, signed_note_key_hash(key));
    return base64_encode(bytes_of(typed, sizeof typed), out);
}

/* Decodes strict base64 of exactly size bytes. */
static bool decode_exact(struct bytes text, void *out, size_t size)
{
    struct buf data;
    buf_init(&data, size + 3);
    bool ok = text.size == BASE64_SIZE(size) && base64_decode(text, false, &data) == ERR_OK &&
              data.size == size;
    if (ok) {
        memcpy(out, data.data, size);
    }
    buf_deinit(&data);
    return ok;
}

enum err signed_note_key_parse(const char *text, char out_name[SIGNED_NOTE_NAME_MAX + 1],
                               struct signed_note_key *out_key, struct note *note)
{
    const char *first = strchr(text, '+');
    const char *second = first == NULL ? NULL : strchr(first + 1, '+');
    uint8_t hash_bytes[KEY_HASH_SIZE];
    uint8_t typed[1 + PUBLIC_KEY_SIZE];
    if (second == NULL || !name_ok(bytes_of(text, (size_t)(first - text))) ||
        hex_decode(first + 1, (size_t)(second - first - 1), hash_bytes, sizeof hash_bytes) !=
            ERR_OK ||
        !decode_exact(bytes_of_text(second + 1), typed, sizeof typed) ||
        (typed[0] != SIGNED_NOTE_PLAIN && typed[0] != SIGNED_NOTE_COSIGNATURE)) {
        return note_set(note, ERR_INVALID, "not a verifier key: '%.60s'", text);
    }
    struct bytes name = bytes_of(text, (size_t)(first - text));
    struct bytes in = bytes_of(hash_bytes, sizeof hash_bytes);
    struct signed_note_key key = {.name = out_name, .type = (enum signed_note_type)typed[0]};
    memcpy(key.key.bytes, typed + 1, PUBLIC_KEY_SIZE);
    uint32_t hash = 0;
    enum err err = bytes_take_u32be(&in, &hash);
    if (err != ERR_OK || hash != key_hash(name, key.type, &key.key)) {
        return note_set(note, ERR_INVALID, "verifier key's hash does not match: '%.60s'", text);
    }
    memcpy(out_name, name.data, name.size);
    out_name[name.size] = '\0';
    *out_key = key;
    return ERR_OK;
}

/* Valid UTF-8 without control characters but newline. */
static bool text_ok(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((text.data[i] < 0x20 && text.data[i] != '\n') || text.data[i] == 0x7f) {
            return false;
        }
    }
    return utf8_valid(text);
}

/* What a cosignature of text signs. */
static enum err cosigned_message(struct bytes text, uint64_t time_s, struct buf *out)
{
    (void)buf_printf(out, "cosignature/v1\ntime %" PRIu64 "\n", time_s);
    return buf_append_bytes(out, text);
}

/* Appends a signature line of message; time_s only for cosignatures. */
static enum err append_signature(struct bytes message, const struct signed_note_key *key,
                                 const struct key_pair *keys, uint64_t time_s, struct buf *out)
{
    struct signature signature;
    key_pair_sign(keys, message, &signature);
    struct buf raw;
    buf_init(&raw, KEY_HASH_SIZE + TIME_SIZE + SIGNATURE_SIZE);
    (void)buf_append_u32be(&raw, signed_note_key_hash(key));
    if (key->type == SIGNED_NOTE_COSIGNATURE) {
        (void)buf_append_u64be(&raw, time_s);
    }
    (void)buf_append(&raw, signature.bytes, SIGNATURE_SIZE);
    enum err err = buf_err(&raw);
    if (err == ERR_OK) {
        (void)buf_printf(out, "%s%s ", DASH, key->name);
        (void)base64_encode(buf_bytes(&raw), out);
        err = buf_append_text(out, "\n");
    }
    buf_deinit(&raw);
    return err;
}

enum err signed_note_sign(struct bytes text, const char *name, const struct key_pair *keys,
                          struct buf *out)
{
    if (!name_ok(bytes_of_text(name)) || text.size == 0 || text.size > SIGNED_NOTE_MAX ||
        text.data[text.size - 1] != '\n' || !text_ok(text)) {
        return ERR_INVALID;
    }
    (void)buf_append_bytes(out, text);
    (void)buf_append_text(out, "\n");
    const struct signed_note_key key = {
        .name = name, .type = SIGNED_NOTE_PLAIN, .key = *key_pair_public(keys)};
    return append_signature(text, &key, keys, 0, out);
}

/* Splits a note into its text and its signature lines. */
static enum err split(struct bytes signed_note, struct bytes *out_text, struct bytes *out_lines,
                      struct note *note)
{
    if (signed_note.size > SIGNED_NOTE_MAX) {
        return note_set(note, ERR_INVALID, "signed note has %zu bytes, the limit is %d",
                        signed_note.size, SIGNED_NOTE_MAX);
    }
    if (!text_ok(signed_note)) {
        return note_set(note, ERR_INVALID, "signed note is not plain UTF-8 text");
    }
    /* The last empty line: a text may have empty lines of its own, signature lines have none. */
    for (size_t i = signed_note.size; i >= 2; i--) {
        if (signed_note.data[i - 1] == '\n' && signed_note.data[i - 2] == '\n') {
            *out_text = bytes_of(signed_note.data, i - 1);
            *out_lines = bytes_of(signed_note.data + i, signed_note.size - i);
            return ERR_OK;
        }
    }
    return note_set(note, ERR_INVALID, "signed note has no signatures");
}

struct line {
    struct bytes name;
    uint32_t key_hash;
    size_t size; /* of what follows the key hash; above the sum below: only its size is known */
    uint8_t data[TIME_SIZE + SIGNATURE_SIZE];
};

/* Takes one signature line from the front of *lines. */
static enum err take_line(struct bytes *lines, struct line *out_line, struct note *note)
{
    const uint8_t *end = memchr(lines->data, '\n', lines->size);
    if (end == NULL || (size_t)(end - lines->data) <= DASH_SIZE ||
        memcmp(lines->data, DASH, DASH_SIZE) != 0) {
        return note_set(note, ERR_INVALID, "malformed signature line");
    }
    struct bytes rest = bytes_of(lines->data + DASH_SIZE, (size_t)(end - lines->data) - DASH_SIZE);
    const uint8_t *blank = memchr(rest.data, ' ', rest.size);
    struct line line = {.name =
                            bytes_of(rest.data, blank == NULL ? 0 : (size_t)(blank - rest.data))};
    struct buf raw;
    buf_init(&raw, SIGNED_NOTE_MAX);
    enum err err = ERR_INVALID;
    if (blank != NULL && name_ok(line.name)) {
        struct bytes text = bytes_of(blank + 1, rest.size - line.name.size - 1);
        err = base64_decode(text, false, &raw);
    }
    struct bytes in = buf_bytes(&raw);
    err = err == ERR_OK ? bytes_take_u32be(&in, &line.key_hash) : err;
    if (err == ERR_OK && in.size > 0) {
        line.size = in.size;
        if (line.size <= sizeof line.data) {
            memcpy(line.data, in.data, in.size);
        }
        *lines = bytes_of(end + 1, lines->size - (size_t)(end + 1 - lines->data));
        *out_line = line;
    } else {
        err = note_set(note, ERR_INVALID, "malformed signature line");
    }
    buf_deinit(&raw);
    return err;
}

enum err signed_note_cosign(struct bytes signed_note, const char *name, const struct key_pair *keys,
                            uint64_t time_s, struct buf *out)
{
    struct bytes text;
    struct bytes lines;
    struct buf message;
    const struct signed_note_key key = {
        .name = name, .type = SIGNED_NOTE_COSIGNATURE, .key = *key_pair_public(keys)};
    if (!signed_note_name_valid(name) || time_s > INT64_MAX ||
        split(signed_note, &text, &lines, NULL) != ERR_OK) {
        return ERR_INVALID;
    }
    buf_init(&message, text.size + COSIGNED_EXTRA_MAX);
    enum err err = cosigned_message(text, time_s, &message);
    err = err ? err : append_signature(buf_bytes(&message), &key, keys, time_s, out);
    buf_deinit(&message);
    return err;
}

/* Is this line, which names key, a valid signature of text by it? */
static bool line_valid(const struct line *line, struct bytes text,
                       const struct signed_note_key *key)
{
    struct signature signature;
    bool cosigned = key->type == SIGNED_NOTE_COSIGNATURE;
    size_t before = cosigned ? TIME_SIZE : 0;
    if (line->size != before + SIGNATURE_SIZE) {
        return false;
    }
    memcpy(signature.bytes, line->data + before, SIGNATURE_SIZE);
    if (!cosigned) {
        return signature_verify(&key->key, text, &signature);
    }
    struct bytes in = bytes_of(line->data, TIME_SIZE);
    struct buf message;
    uint64_t time_s = 0;
    buf_init(&message, text.size + COSIGNED_EXTRA_MAX);
    bool valid = bytes_take_u64be(&in, &time_s) == ERR_OK && time_s <= INT64_MAX &&
                 cosigned_message(text, time_s, &message) == ERR_OK &&
                 signature_verify(&key->key, buf_bytes(&message), &signature);
    buf_deinit(&message);
    return valid;
}

/* Marks the key that made this line, if it is one of keys. ERR_DENIED: it did not make it. */
static enum err check_line(const struct line *line, struct bytes text,
                           const struct signed_note_key *keys, size_t key_count, bool *signed_by,
                           struct note *note)
{
    for (size_t i = 0; i < key_count; i++) {
        if (!bytes_equal(line->name, bytes_of_text(keys[i].name)) ||
            line->key_hash != signed_note_key_hash(&keys[i])) {
            continue;
        }
        if (!line_valid(line, text, &keys[i])) {
            return note_set(note, ERR_DENIED, "signature of %.100s is wrong", keys[i].name);
        }
        signed_by[i] = true;
    }
    return ERR_OK;
}

enum err signed_note_check(struct bytes signed_note, const struct signed_note_key *keys,
                           size_t key_count, bool *out_signed, struct bytes *out_text,
                           struct note *note)
{
    CHECK(key_count <= SIGNED_NOTE_SIGNATURES_MAX);
    struct bytes text = {0};
    struct bytes lines = {0};
    bool signed_by[SIGNED_NOTE_SIGNATURES_MAX] = {false};
    enum err err = split(signed_note, &text, &lines, note);
    if (err == ERR_OK && lines.size == 0) {
        err = note_set(note, ERR_INVALID, "signed note has no signatures");
    }
    for (size_t count = 0; err == ERR_OK && lines.size > 0; count++) {
        struct line line = {.key_hash = 0};
        if (count == SIGNED_NOTE_SIGNATURES_MAX) {
            return note_set(note, ERR_INVALID, "signed note has more than %d signatures",
                            SIGNED_NOTE_SIGNATURES_MAX);
        }
        err = take_line(&lines, &line, note);
        err = err == ERR_OK ? check_line(&line, text, keys, key_count, signed_by, note) : err;
    }
    if (err == ERR_OK) {
        memcpy(out_signed, signed_by, key_count * sizeof signed_by[0]);
        *out_text = text;
    }
    return err;
}

enum err signed_note_verify(struct bytes signed_note, const struct signed_note_key *keys,
                            size_t key_count, struct bytes *out_text, struct note *note)
{
    CHECK(key_count >= 1);
    struct bytes text;
    bool signed_by[SIGNED_NOTE_SIGNATURES_MAX] = {false};
    enum err err = signed_note_check(signed_note, keys, key_count, signed_by, &text, note);
    for (size_t i = 0; i < key_count && err == ERR_OK; i++) {
        if (!signed_by[i]) {
            err = note_set(note, ERR_DENIED, "signature of %.100s is missing", keys[i].name);
        }
    }
    if (err == ERR_OK) {
        *out_text = text;
    }
    return err;
}

enum err checkpoint_format(const struct checkpoint *checkpoint, struct bytes extension,
                           struct buf *out)
{
    if (!name_ok(bytes_of_text(checkpoint->origin)) ||
        (extension.size > 0 && extension.data[extension.size - 1] != '\n')) {
        return ERR_INVALID;
    }
    (void)buf_printf(out, "%s\n%" PRIu64 "\n", checkpoint->origin, checkpoint->leaf_count);
    (void)base64_encode(digest_bytes(&checkpoint->root), out);
    (void)buf_append_text(out, "\n");
    return buf_append_bytes(out, extension);
}

/* Takes a line without its newline. False at the end or for an empty line. */
static bool take_text_line(struct bytes *in, struct bytes *out_line)
{
    const uint8_t *end = in->size == 0 ? NULL : memchr(in->data, '\n', in->size);
    if (end == NULL || end == in->data) {
        return false;
    }
    *out_line = bytes_of(in->data, (size_t)(end - in->data));
    *in = bytes_of(end + 1, in->size - out_line->size - 1);
    return true;
}

enum err checkpoint_parse(struct bytes body, struct checkpoint *out_checkpoint,
                          struct bytes *out_extension, struct note *note)
{
    enum { COUNT_DIGITS_MAX = 19 }; /* fits 64 bits whatever the digits */
    struct bytes in = body;
    struct bytes origin;
    struct bytes count;
    struct bytes root;
    struct checkpoint checkpoint = {.leaf_count = 0};
    if (!take_text_line(&in, &origin) || !name_ok(origin) || !take_text_line(&in, &count) ||
        !take_text_line(&in, &root)) {
        return note_set(note, ERR_INVALID, "not a checkpoint");
    }
    if (count.size > COUNT_DIGITS_MAX || (count.size > 1 && count.data[0] == '0')) {
        return note_set(note, ERR_INVALID, "checkpoint: malformed size");
    }
    for (size_t i = 0; i < count.size; i++) {
        if (count.data[i] < '0' || count.data[i] > '9') {
            return note_set(note, ERR_INVALID, "checkpoint: malformed size");
        }
        checkpoint.leaf_count = checkpoint.leaf_count * 10 + (count.data[i] - '0');
    }
    if (!decode_exact(root, checkpoint.root.bytes, DIGEST_SIZE)) {
        return note_set(note, ERR_INVALID, "checkpoint: malformed root");
    }
    struct bytes extension = in;
    struct bytes line;
    for (size_t lines = 0; in.size > 0; lines++) {
        if (lines == CHECKPOINT_EXTENSION_MAX || !take_text_line(&in, &line)) {
            return note_set(note, ERR_INVALID, "checkpoint: malformed extension lines");
        }
    }
    memcpy(checkpoint.origin, origin.data, origin.size);
    *out_checkpoint = checkpoint;
    if (out_extension != NULL) {
        *out_extension = extension;
    }
    return ERR_OK;
}
