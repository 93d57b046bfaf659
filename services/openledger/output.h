/* output.h - what people see: aligned tables, progress bars, colours only on a terminal.
 *
 * Results go to standard output, progress and errors to standard error, so that a pipe gets only
 * results. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define OUTPUT_COLUMNS_MAX 12

/* A table collects its cells and prints itself with columns as wide as needed. */
struct output_table;

/* headers: `columns` words; a header that starts with '>' makes its column right-aligned. */
struct output_table *output_table_create(uint32_t columns, const char *const *headers);
/* The next cell, row by row; text is copied and cut to 96 characters on one line. */
void output_cell(struct output_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints (to standard output) and frees. A table whose last row is unfinished CHECKs. */
void output_table_finish(struct output_table *table);
void output_table_discard(struct output_table *table); /* frees without printing */

/* One line on standard error that is redrawn: "label [#####.....]  52 % detail". When standard error
 * is not a terminal, it prints a line at every tenth instead. total 0 shows no bar. */
struct output_progress {
    const char *label;
    uint64_t total;
    uint32_t last_tenth; /* the rest is its own */
    uint64_t last_ms;
    bool drawn;
};
void output_progress_start(struct output_progress *progress, const char *label, uint64_t total);
void output_progress_update(struct output_progress *progress, uint64_t done, const char *format,
                            ...) __attribute__((format(printf, 3, 4)));
/* Ends the line with a last text, which stays. */
void output_progress_finish(struct output_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A heading, bold on a terminal; a bar of '#' for a share (0..1) of width characters. */
void output_heading(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *output_bar(double share, uint32_t width, char out[64]);

/* "openledger: text" on standard error. Returns 1, the exit code of a failed command. */
int output_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
