/* note.c - see note.h. */
#include "shared/base/note.h"

#include <stdio.h>
#include <string.h>

enum err(note_set)(struct note *note, enum err err, const char *format, ...)
{
    if (note != NULL) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(note->text, sizeof note->text, format, args);
        va_end(args);
    }
    return err;
}

enum err(note_wrap)(struct note *note, enum err err, const char *format, ...)
{
    if (note != NULL) {
        struct note old = *note;
        va_list args;
        va_start(args, format);
        (void)vsnprintf(note->text, sizeof note->text, format, args);
        va_end(args);
        size_t used = strlen(note->text);
        if (old.text[0] != '\0') {
            (void)snprintf(note->text + used, sizeof note->text - used, ": %s", old.text);
        }
    }
    return err;
}
