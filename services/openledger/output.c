/* output.c - see output.h. */
#include "services/openledger/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"

enum { CELL_MAX = 96, BAR_WIDTH = 24, REDRAW_MS = 100, LINE_WIDTH = 100 };

struct output_table {
    uint32_t columns;
    uint32_t cell_count;
    uint32_t cell_capacity;
    uint32_t width[OUTPUT_COLUMNS_MAX];
    bool right[OUTPUT_COLUMNS_MAX];
    char (*cells)[CELL_MAX + 1];
};

/* Characters on the screen: UTF-8 continuation bytes take no place. */
static uint32_t text_width(const char *text)
{
    uint32_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

/* Foreign text may hold newlines or escape sequences: a terminal must not act on them. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = ' ';
        }
    }
}

/* snprintf may have cut a UTF-8 sequence in two: drop the incomplete end. */
static void trim_utf8(char *text)
{
    size_t size = strlen(text);
    size_t start = size;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (size - start < need) {
        text[start - 1] = '\0';
    }
}

struct output_table *output_table_create(uint32_t columns, const char *const *headers)
{
    CHECK(columns >= 1);
    CHECK(columns <= OUTPUT_COLUMNS_MAX);
    struct output_table *table = calloc(1, sizeof *table);
    CHECK(table != NULL);
    table->columns = columns;
    for (uint32_t i = 0; i < columns; i++) {
        table->right[i] = headers[i][0] == '>';
        output_cell(table, "%s", headers[i] + (table->right[i] ? 1 : 0));
    }
    return table;
}

void output_cell(struct output_table *table, const char *format, ...)
{
    if (table->cell_count == table->cell_capacity) {
        table->cell_capacity = table->cell_capacity == 0 ? 64 : table->cell_capacity * 2;
        table->cells = realloc(table->cells, (size_t)table->cell_capacity * sizeof *table->cells);
        CHECK(table->cells != NULL);
    }
    char *cell = table->cells[table->cell_count];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(cell, CELL_MAX + 1, format, args);
    va_end(args);
    make_printable(cell);
    trim_utf8(cell);
    uint32_t column = table->cell_count % table->columns;
    uint32_t width = text_width(cell);
    table->width[column] = width > table->width[column] ? width : table->width[column];
    table->cell_count++;
}

void output_table_finish(struct output_table *table)
{
    CHECK(table->cell_count % table->columns == 0);
    bool bold = isatty(STDOUT_FILENO) != 0;
    for (uint32_t i = 0; i < table->cell_count; i++) {
        uint32_t column = i % table->columns;
        const char *cell = table->cells[i];
        int pad = (int)(table->width[column] - text_width(cell));
        bool last = column + 1 == table->columns;
        printf("%s%s", column == 0 ? "" : "  ", bold && i < table->columns ? "\033[1m" : "");
        if (table->right[column]) {
            printf("%*s%s", pad, "", cell);
        } else {
            printf("%s%*s", cell, last ? 0 : pad, "");
        }
        printf("%s%s", bold && i < table->columns ? "\033[0m" : "", last ? "\n" : "");
    }
    (void)fflush(stdout);
    output_table_discard(table);
}

void output_table_discard(struct output_table *table)
{
    free(table->cells);
    free(table);
}

const char *output_bar(double share, uint32_t width, char out[64])
{
    CHECK(width < 64);
    double clamped = share > 0 ? share : 0;
    clamped = clamped < 1 ? clamped : 1;
    uint32_t full = (uint32_t)(clamped * width + 0.5);
    for (uint32_t i = 0; i < width; i++) {
        out[i] = i < full ? '#' : '.';
    }
    out[width] = '\0';
    return out;
}

static void draw(struct output_progress *progress, uint64_t done, const char *detail)
{
    char bar[64];
    char line[256];
    if (progress->total > 0) {
        double share = (double)done / (double)progress->total;
        (void)snprintf(line, sizeof line, "%s [%s] %3.0f %%  %s", progress->label,
                       output_bar(share, BAR_WIDTH, bar), share * 100, detail);
    } else {
        (void)snprintf(line, sizeof line, "%s  %s", progress->label, detail);
    }
    make_printable(line);
    trim_utf8(line);
    if (isatty(STDERR_FILENO) != 0) {
        (void)fprintf(stderr, "\r%-*s", LINE_WIDTH, line);
    } else {
        (void)fprintf(stderr, "%s\n", line);
    }
    (void)fflush(stderr);
    progress->drawn = true;
}

void output_progress_start(struct output_progress *progress, const char *label, uint64_t total)
{
    *progress = (struct output_progress){.label = label, .total = total};
}

void output_progress_update(struct output_progress *progress, uint64_t done, const char *format,
                            ...)
{
    uint64_t now_ms = clock_mono_ms();
    uint32_t tenth = progress->total == 0 ? 0 : (uint32_t)(done * 10 / progress->total);
    bool terminal = isatty(STDERR_FILENO) != 0;
    bool due = terminal ? now_ms - progress->last_ms >= REDRAW_MS
                        : tenth != progress->last_tenth || !progress->drawn;
    if (!due && !(terminal && done == progress->total)) {
        return;
    }
    char detail[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    progress->last_ms = now_ms;
    progress->last_tenth = tenth;
    draw(progress, done, detail);
}

void output_progress_finish(struct output_progress *progress, const char *format, ...)
{
    char detail[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    draw(progress, progress->total, detail);
    if (isatty(STDERR_FILENO) != 0) {
        (void)fputc('\n', stderr);
    }
}

void output_heading(const char *format, ...)
{
    bool bold = isatty(STDOUT_FILENO) != 0;
    va_list args;
    va_start(args, format);
    printf("%s", bold ? "\n\033[1m" : "\n");
    (void)vprintf(format, args);
    printf("%s\n", bold ? "\033[0m" : "");
    va_end(args);
    (void)fflush(stdout);
}

int output_error(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    make_printable(text);
    (void)fflush(stdout);
    (void)fprintf(stderr, "openledger: %s\n", text);
    return 1;
}
