/* settings.c - see settings.h. Values are kept as text and as numbers, checked once at load. */
#include "shared/platform/settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

enum { NAME_MAX_SIZE = 64, HELP_COLUMN = 30 };

struct value {
    char *text;
    uint64_t u64;
    double f64;
    bool boolean;
    bool given;
};

struct settings {
    const struct settings_spec *spec;
    bool help;
    struct value values[SETTINGS_MAX];
    char *positional[SETTINGS_POSITIONAL_MAX];
    size_t positional_count;
};

static void variable_name(const char *name, char out[NAME_MAX_SIZE + 16])
{
    int size = snprintf(out, NAME_MAX_SIZE + 16, "OPENLEDGER_%s", name);
    CHECK(size > 0);
    CHECK(size < NAME_MAX_SIZE + 16);
    for (char *c = out; *c != '\0'; c++) {
        if (*c == '-') {
            *c = '_';
        } else if (*c >= 'a' && *c <= 'z') {
            *c = (char)(*c - 'a' + 'A');
        }
    }
}

static bool bounded(const struct setting *setting)
{
    return setting->min != 0 || setting->max != 0;
}

static enum err refuse(struct note *note, const struct setting *setting, const char *text,
                       const char *why)
{
    return note_set(note, ERR_INVALID, "--%s: '%.80s' %s", setting->name,
                    setting->secret ? "(secret)" : text, why);
}

static enum err refuse_bounds(struct note *note, const struct setting *setting, const char *text,
                              const char *what)
{
    char why[120];
    (void)snprintf(why, sizeof why, "%s must be between %.15g and %.15g", what, setting->min,
                   setting->max);
    return refuse(note, setting, text, why);
}

/* Checks text against the setting and keeps it. */
static enum err set(struct settings *settings, size_t index, const char *text, bool given,
                    struct note *note)
{
    const struct setting *setting = &settings->spec->table[index];
    struct value value = {.given = given};
    size_t size = strlen(text);
    if (size > SETTINGS_VALUE_MAX) {
        return refuse(note, setting, text, "is too long");
    }
    char *end = NULL;
    errno = 0;
    double number = (double)size;
    switch (setting->type) {
    case SETTING_TEXT:
        break;
    case SETTING_U64:
        value.u64 = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
            return refuse(note, setting, text, "is not a whole number");
        }
        number = (double)value.u64;
        break;
    case SETTING_F64:
        value.f64 = strtod(text, &end);
        if (size == 0 || *end != '\0' || !isfinite(value.f64)) {
            return refuse(note, setting, text, "is not a number");
        }
        number = value.f64;
        break;
    case SETTING_BOOL:
        value.boolean = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
        if (!value.boolean && strcmp(text, "false") != 0 && strcmp(text, "0") != 0) {
            return refuse(note, setting, text, "is neither true nor false");
        }
        number = setting->min;
        break;
    }
    if (bounded(setting) && !(number >= setting->min && number <= setting->max)) {
        return refuse_bounds(note, setting, text,
                             setting->type == SETTING_TEXT ? "in length" : "as a number");
    }
    value.text = strdup(text);
    if (value.text == NULL) {
        return ERR_NO_MEMORY;
    }
    free(settings->values[index].text);
    settings->values[index] = value;
    return ERR_OK;
}

/* The table's entry for the first name_size characters of name; count when there is none. */
static size_t find(const struct settings_spec *spec, const char *name, size_t name_size)
{
    size_t i = 0;
    while (i < spec->count && (strlen(spec->table[i].name) != name_size ||
                               memcmp(spec->table[i].name, name, name_size) != 0)) {
        i++;
    }
    return i;
}

/* Takes the flag at argv[*at] and its value; leaves *at on the last word used. */
static enum err take_flag(struct settings *settings, int argc, char *const *argv, int *at,
                          struct note *note)
{
    const struct settings_spec *spec = settings->spec;
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t size = equals != NULL ? (size_t)(equals - name) : strlen(name);
    size_t index = find(spec, name, size);
    if (index == spec->count && equals == NULL && strncmp(name, "no-", 3) == 0) {
        index = find(spec, name + 3, size - 3);
        if (index < spec->count && spec->table[index].type == SETTING_BOOL) {
            return set(settings, index, "false", true, note);
        }
        index = spec->count;
    }
    if (index == spec->count) {
        return note_set(note, ERR_INVALID, "unknown option --%.*s (see --help)",
                        (int)(size < 80 ? size : 80), name);
    }
    if (equals != NULL) {
        return set(settings, index, equals + 1, true, note);
    }
    if (spec->table[index].type == SETTING_BOOL) {
        return set(settings, index, "true", true, note);
    }
    if (*at + 1 >= argc) {
        return note_set(note, ERR_INVALID, "--%s needs a value", spec->table[index].name);
    }
    return set(settings, index, argv[++*at], true, note);
}

static enum err take_words(struct settings *settings, int argc, char *const *argv,
                           struct note *note)
{
    bool flags = true;
    for (int at = 1; at < argc; at++) {
        if (flags && strcmp(argv[at], "--") == 0) {
            flags = false;
        } else if (flags && strncmp(argv[at], "--", 2) == 0) {
            enum err err = take_flag(settings, argc, argv, &at, note);
            if (err != ERR_OK) {
                return err;
            }
        } else if (flags && argv[at][0] == '-' && argv[at][1] != '\0') {
            return note_set(note, ERR_INVALID, "unknown option %.80s (see --help)", argv[at]);
        } else if (settings->positional_count == SETTINGS_POSITIONAL_MAX ||
                   settings->positional_count == settings->spec->positional_max) {
            return note_set(note, ERR_INVALID, "'%.80s': at most %u arguments are allowed",
                            argv[at], settings->spec->positional_max);
        } else {
            char *word = strdup(argv[at]);
            if (word == NULL) {
                return ERR_NO_MEMORY;
            }
            settings->positional[settings->positional_count++] = word;
        }
    }
    return ERR_OK;
}

static enum err load(struct settings *settings, int argc, char *const *argv, struct note *note)
{
    const struct settings_spec *spec = settings->spec;
    enum err err = ERR_OK;
    for (size_t i = 0; i < spec->count && err == ERR_OK; i++) {
        char name[NAME_MAX_SIZE + 16];
        variable_name(spec->table[i].name, name);
        const char *text = settings_environment(name);
        if (spec->table[i].fallback != NULL) {
            err = set(settings, i, spec->table[i].fallback, false, NULL);
            CHECK(err != ERR_INVALID); /* our own default breaks our own bounds */
        }
        if (err == ERR_OK && text != NULL) {
            err = set(settings, i, text, true, note);
            if (err == ERR_INVALID) {
                return note_wrap(note, err, "%s in the environment", name);
            }
        }
    }
    err = err == ERR_OK ? take_words(settings, argc, argv, note) : err;
    for (size_t i = 0; i < spec->count && err == ERR_OK; i++) {
        if (settings->values[i].text == NULL) {
            err = note_set(note, ERR_INVALID, "--%s is required: %s", spec->table[i].name,
                           spec->table[i].doc);
        }
    }
    if (err == ERR_OK && settings->positional_count < spec->positional_min) {
        err =
            note_set(note, ERR_INVALID, "%zu arguments given, %u needed: %s %s",
                     settings->positional_count, spec->positional_min, spec->program, spec->usage);
    }
    return err;
}

enum err settings_load(const struct settings_spec *spec, int argc, char *const *argv,
                       struct settings **out_settings, struct note *note)
{
    CHECK(spec->count <= SETTINGS_MAX);
    struct settings *settings = calloc(1, sizeof *settings);
    if (settings == NULL) {
        return ERR_NO_MEMORY;
    }
    settings->spec = spec;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        settings->help = settings->help || strcmp(argv[i], "--help") == 0;
    }
    enum err err = settings->help ? ERR_OK : load(settings, argc, argv, note);
    if (err != ERR_OK) {
        settings_destroy(settings);
        return err;
    }
    *out_settings = settings;
    return ERR_OK;
}

void settings_destroy(struct settings *settings)
{
    if (settings == NULL) {
        return;
    }
    for (size_t i = 0; i < settings->spec->count; i++) {
        char *text = settings->values[i].text;
        if (text != NULL && settings->spec->table[i].secret) {
            explicit_bzero(text, strlen(text));
        }
        free(text);
    }
    for (size_t i = 0; i < settings->positional_count; i++) {
        free(settings->positional[i]);
    }
    free(settings);
}

bool settings_help_wanted(const struct settings *settings)
{
    return settings->help;
}

void settings_help(const struct settings_spec *spec, struct buf *out)
{
    static const char *const KIND[] = {"TEXT", "N", "X", ""};
    (void)buf_printf(out, "usage: %s %s\n%s\n\noptions:\n", spec->program, spec->usage,
                     spec->about);
    for (size_t i = 0; i < spec->count; i++) {
        const struct setting *setting = &spec->table[i];
        char flag[NAME_MAX_SIZE + 16];
        (void)snprintf(flag, sizeof flag, "--%s %s", setting->name, KIND[setting->type]);
        (void)buf_printf(out, "  %-*s %s", HELP_COLUMN - 3, flag, setting->doc);
        if (setting->fallback == NULL) {
            (void)buf_printf(out, " (required)");
        } else if (setting->fallback[0] != '\0' && !setting->secret) {
            (void)buf_printf(out, " (default %s)", setting->fallback);
        }
        if (bounded(setting)) {
            (void)buf_printf(out, " [%.15g..%.15g%s]", setting->min, setting->max,
                             setting->type == SETTING_TEXT ? " bytes" : "");
        }
        (void)buf_printf(out, "\n");
    }
    (void)buf_printf(out, "  %-*s %s\n", HELP_COLUMN - 3, "--help", "show this text");
    if (spec->count > 0) {
        char variable[NAME_MAX_SIZE + 16];
        variable_name(spec->table[0].name, variable);
        (void)buf_printf(out, "\nEach option can be set by environment: --%s is %s.\n",
                         spec->table[0].name, variable);
    }
}

static const struct value *value_of(const struct settings *settings, const char *name)
{
    size_t index = find(settings->spec, name, strlen(name));
    CHECK(index < settings->spec->count);
    CHECK(!settings->help); /* nothing was loaded */
    return &settings->values[index];
}

static const struct value *typed(const struct settings *settings, const char *name,
                                 enum setting_type type)
{
    const struct value *value = value_of(settings, name);
    CHECK(settings->spec->table[value - settings->values].type == type);
    return value;
}

const char *settings_text(const struct settings *settings, const char *name)
{
    return typed(settings, name, SETTING_TEXT)->text;
}

uint64_t settings_u64(const struct settings *settings, const char *name)
{
    return typed(settings, name, SETTING_U64)->u64;
}

double settings_f64(const struct settings *settings, const char *name)
{
    return typed(settings, name, SETTING_F64)->f64;
}

bool settings_bool(const struct settings *settings, const char *name)
{
    return typed(settings, name, SETTING_BOOL)->boolean;
}

bool settings_given(const struct settings *settings, const char *name)
{
    return value_of(settings, name)->given;
}

size_t settings_positional_count(const struct settings *settings)
{
    return settings->positional_count;
}

const char *settings_positional(const struct settings *settings, size_t index)
{
    CHECK(index < settings->positional_count);
    return settings->positional[index];
}

void settings_show(const struct settings *settings, struct buf *out)
{
    for (size_t i = 0; i < settings->spec->count && !settings->help; i++) {
        const struct setting *setting = &settings->spec->table[i];
        (void)buf_printf(out, "%s%s=%s", i > 0 ? " " : "", setting->name,
                         setting->secret ? "(secret)" : settings->values[i].text);
    }
}

const char *settings_environment(const char *name)
{
    return getenv(name); /* NOLINT(concurrency-mt-unsafe): no program of ours sets variables */
}
