/* note.h - the detail of an error, for people.
 *
 * Why: enum err tells a caller what to do; a note tells a person what went wrong. The caller owns
 * it, so there is no hidden state and nothing to free. Style: short, lower case, names the object,
 * the value and the bound ("row 17 has 70000 bytes, the limit is 65536"). */
#pragma once

#include <stdarg.h>

#include "shared/base/err.h"

#define NOTE_SIZE 320 /* bytes with the final NUL; longer text is cut */

struct note {
    char text[NOTE_SIZE]; /* always NUL-terminated; "" when nothing was said */
};

/* Replaces the note's text and returns err, so that a failing function can say
 * `return note_set(note, ERR_RANGE, "...")`. note may be NULL: then nothing is kept. */
enum err note_set(struct note *note, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As note_set, but puts the words in front of what the note already says: "context: detail". */
enum err note_wrap(struct note *note, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* A static analyzer does not follow variadic calls: this tells it that they return err. */
#define note_set(note, err, ...) ((void)(note_set)(note, err, __VA_ARGS__), (err))
#define note_wrap(note, err, ...) ((void)(note_wrap)(note, err, __VA_ARGS__), (err))
#endif
