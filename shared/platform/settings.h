/* settings.h - one table per program: names, types, defaults, bounds, documentation.
 *
 * The table makes --help, reads the environment (OPENLEDGER_<NAME>, '-' as '_') and the flags
 * (--name value, --name=value; a bool also as --name or --no-name), and refuses an unknown flag or a
 * bad value by name. A flag wins over the environment, the environment over the default. "--" ends
 * the flags. Unknown OPENLEDGER_ variables are not refused: they may be another program's.
 *
 *     static const struct setting TABLE[] = {
 *         {.name = "nats-url", .type = SETTING_TEXT, .fallback = "nats://127.0.0.1:4222",
 *          .doc = "where the bus is"},
 *         {.name = "workers", .type = SETTING_U64, .fallback = "2", .min = 1, .max = 64,
 *          .doc = "threads for the model"},
 *         {.name = "key-file", .type = SETTING_TEXT, .doc = "the service's secret key"},
 *     };
 *     err = settings_load(&(struct settings_spec){...}, argc, argv, &settings, &note);
 *     settings_u64(settings, "workers")
 *
 * Immutable after loading: any thread may read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define SETTINGS_MAX 128        /* settings in a table */
#define SETTINGS_VALUE_MAX 4096 /* bytes in one value */
#define SETTINGS_POSITIONAL_MAX 256

enum setting_type { SETTING_TEXT, SETTING_U64, SETTING_F64, SETTING_BOOL };

struct setting {
    const char *name; /* lower case and '-' */
    enum setting_type type;
    const char *fallback; /* text form of the default; NULL: required */
    double min, max;      /* of a number, or of a text's length; both 0: type's own bounds */
    bool secret;          /* never shown by settings_show; give it by environment, not by flag */
    const char *doc;      /* one line */
};

struct settings_spec {
    const char *program; /* "openledger-trainer" */
    const char *usage;   /* after the program's name: "[options] <model-folder>" */
    const char *about;   /* what it does, one or more lines */
    const struct setting *table;
    size_t count;
    uint32_t positional_min, positional_max; /* how many words besides flags are allowed */
};

struct settings;

/* argv[0] is skipped. When --help is among the flags, nothing else is checked and
 * settings_help_wanted() is true: print settings_help() and exit 0. spec is kept (static).
 * ERR_INVALID: the note names the setting, the value and the bound. */
MUST_USE enum err settings_load(const struct settings_spec *spec, int argc, char *const *argv,
                                struct settings **out_settings, struct note *note);
void settings_destroy(struct settings *settings); /* wipes secrets */

bool settings_help_wanted(const struct settings *settings);
void settings_help(const struct settings_spec *spec, struct buf *out);

/* Values by name; a name or type not in the table CHECKs. Text is never NULL and lives as long as
 * the settings. settings_given: set by flag or environment, not by default. */
const char *settings_text(const struct settings *settings, const char *name);
uint64_t settings_u64(const struct settings *settings, const char *name);
double settings_f64(const struct settings *settings, const char *name);
bool settings_bool(const struct settings *settings, const char *name);
bool settings_given(const struct settings *settings, const char *name);

/* Words that are not flags, in order. */
size_t settings_positional_count(const struct settings *settings);
const char *settings_positional(const struct settings *settings, size_t index);

/* Appends "name=value ..." without secrets: for the log line at start. */
void settings_show(const struct settings *settings, struct buf *out);

/* An environment variable that is no setting of ours (HOME, NO_COLOR); NULL when unset. */
const char *settings_environment(const char *name);
