/* signed_note.h - C2SP signed notes, checkpoints and cosignatures: how logs and witnesses sign text.
 *
 *     openledger.example/log          <- checkpoint body: origin,
 *     42                              <- number of leaves,
 *     qINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=   <- root hash, base64
 *
 *     \xe2\x80\x94 openledger.example/log 1f0b...base64(key hash || signature)
 *
 * Source: https://c2sp.org/signed-note (v1.0.0: signature type 0x01, Ed25519), https://c2sp.org/
 * tlog-checkpoint. The text is signed exactly as it stands, with its final newline. A witness signs
 * "cosignature/v1\ntime <seconds>\n" and the text (https://c2sp.org/tlog-cosignature, type 0x04).
 *
 * Parsing is strict and takes hostile bytes. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"

#define SIGNED_NOTE_MAX 65536 /* bytes of a whole note */
#define SIGNED_NOTE_SIGNATURES_MAX 64
#define SIGNED_NOTE_NAME_MAX 255    /* bytes of a key name: no blanks, no '+' */
#define CHECKPOINT_EXTENSION_MAX 16 /* further lines of a checkpoint's body */

enum signed_note_type { /* how the key signs; the specification's byte */
                        SIGNED_NOTE_PLAIN = 0x01,
                        SIGNED_NOTE_COSIGNATURE = 0x04, /* with the time of signing */
};

/* Who signs: a name (a URL without scheme) and an Ed25519 key. */
struct signed_note_key {
    const char *name; /* borrowed */
    enum signed_note_type type;
    struct public_key key;
};

/* 1 to SIGNED_NOTE_NAME_MAX bytes without blanks, control characters and '+'. */
bool signed_note_name_valid(const char *name);

/* First 4 bytes of SHA-256(name || "\n" || type || key), big-endian: tells keys apart in a note. */
uint32_t signed_note_key_hash(const struct signed_note_key *key);

/* The vkey text "name+hash+base64" that others configure to trust us, and back: out_key->name is then
 * out_name. ERR_INVALID. */
MUST_USE enum err signed_note_key_format(const struct signed_note_key *key, struct buf *out);
MUST_USE enum err signed_note_key_parse(const char *text, char out_name[SIGNED_NOTE_NAME_MAX + 1],
                                        struct signed_note_key *out_key, struct note *note);

/* Appends text, the empty line and one signature line. text must be UTF-8 without control characters
 * but newline, and end with a newline: else ERR_INVALID. */
MUST_USE enum err signed_note_sign(struct bytes text, const char *name, const struct key_pair *keys,
                                   struct buf *out);

/* Appends a witness's signature line for a note that was already signed, made at time_s (seconds since
 * 1970). The line alone: put it behind the note. ERR_INVALID: not a signed note, a name that cannot be
 * one. */
MUST_USE enum err signed_note_cosign(struct bytes signed_note, const char *name,
                                     const struct key_pair *keys, uint64_t time_s, struct buf *out);

/* Checks that every key signed the note, and points *out_text at the signed text inside it.
 * Signatures by other keys are ignored, as the specification asks. ERR_INVALID: not a note;
 * ERR_DENIED: a signature of one of keys is missing or wrong. */
MUST_USE enum err signed_note_verify(struct bytes signed_note, const struct signed_note_key *keys,
                                     size_t key_count, struct bytes *out_text, struct note *note);

/* Which of keys (at most SIGNED_NOTE_SIGNATURES_MAX) signed the note: out_signed[i] for keys[i].
 * ERR_INVALID: not a note; ERR_DENIED: a signature that claims to be one of keys' is wrong. */
MUST_USE enum err signed_note_check(struct bytes signed_note, const struct signed_note_key *keys,
                                    size_t key_count, bool *out_signed, struct bytes *out_text,
                                    struct note *note);

/* --- checkpoint bodies --- */

struct checkpoint {
    char origin[SIGNED_NOTE_NAME_MAX + 1];
    uint64_t leaf_count;
    struct digest root;
};

/* Appends "origin\ncount\nbase64 root\n", then extension (whole lines; may be empty). */
MUST_USE enum err checkpoint_format(const struct checkpoint *checkpoint, struct bytes extension,
                                    struct buf *out);
/* ERR_INVALID. *out_extension (may be NULL) borrows the lines after the root. */
MUST_USE enum err checkpoint_parse(struct bytes body, struct checkpoint *out_checkpoint,
                                   struct bytes *out_extension, struct note *note);
