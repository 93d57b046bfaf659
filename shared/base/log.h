/* log.h - one line of key=value per event, on standard error. For programs, not for libraries.
 *
 * A library returns an error and a note; the program decides what is worth a line:
 *
 *     log_info("job_started job=%s steps=%u", id, steps);
 *     -> time_ms=1764012345678 level=info program=trainer event=job_started job=7f.. steps=400
 *
 * The format's first word is the event, fixed for good; put text with blanks last and in quotes.
 * Control characters (a newline in foreign text) become '?', so one event is always one line.
 * Never log a secret. Any thread; a line is written by one write(2). */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"

#define LOG_LINE_MAX 2048 /* bytes; longer lines are cut */

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* Call once in main before any thread starts. program is kept (static text). now_ms gives the time
 * (clock_real_ms of shared/platform/clock.h); NULL leaves the time out. Lines below min are dropped;
 * without log_start everything from LOG_LEVEL_INFO up is written, without program or time. */
void log_start(const char *program, enum log_level min, uint64_t (*now_ms)(void));

/* "debug", "info", "warn", "error"; ERR_INVALID otherwise. */
MUST_USE enum err log_level_parse(const char *text, enum log_level *out);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
