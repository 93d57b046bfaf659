/* log.c - see log.h. The state is set once at start, before threads, and only read afterwards. */
#include "shared/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *program;
    enum log_level min;
    uint64_t (*now_ms)(void);
} settings = {.min = LOG_LEVEL_INFO};

static const char *const LEVEL[] = {"debug", "info", "warn", "error"};

void log_start(const char *program, enum log_level min, uint64_t (*now_ms)(void))
{
    settings.program = program;
    settings.min = min;
    settings.now_ms = now_ms;
}

enum err log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof LEVEL / sizeof LEVEL[0]; i++) {
        if (strcmp(text, LEVEL[i]) == 0) {
            *out = (enum log_level)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

/* Adds formatted text at *used, cut to leave one byte for the newline. */
static void add(char line[LOG_LINE_MAX], size_t *used, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
static void add(char line[LOG_LINE_MAX], size_t *used, const char *format, va_list args)
{
    size_t room = LOG_LINE_MAX - 1 - *used;
    int size = vsnprintf(line + *used, room, format, args);
    if (size > 0) {
        *used += (size_t)size < room ? (size_t)size : room - 1;
    }
}

static void addf(char line[LOG_LINE_MAX], size_t *used, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void addf(char line[LOG_LINE_MAX], size_t *used, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(line, used, format, args);
    va_end(args);
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level < settings.min) {
        return;
    }
    int saved_errno = errno;
    char line[LOG_LINE_MAX];
    size_t used = 0;
    if (settings.now_ms != NULL) {
        addf(line, &used, "time_ms=%llu ", (unsigned long long)settings.now_ms());
    }
    addf(line, &used, "level=%s ", LEVEL[level]);
    if (settings.program != NULL) {
        addf(line, &used, "program=%s ", settings.program);
    }
    addf(line, &used, "event=");
    va_list args;
    va_start(args, format);
    add(line, &used, format, args);
    va_end(args);
    for (size_t i = 0; i < used; i++) {
        unsigned char c = (unsigned char)line[i];
        line[i] = c < 32 || c == 127 ? '?' : line[i];
    }
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written; /* nowhere left to complain */
    errno = saved_errno;
}
