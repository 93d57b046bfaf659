/* corpus.c - `openledger corpus base` and `openledger corpus demo`; see corpus.h. */
#include "services/openledger/corpus.h"

#include <stdio.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/corpus_demo.h"
#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/platform/file.h"
#include "shared/platform/settings.h"

static const struct setting TABLE[] = {
    {.name = "out", .type = SETTING_TEXT, .fallback = "", .doc = "folder to write to (needed)"},
    {.name = "text",
     .type = SETTING_TEXT,
     .fallback = "deploy/text/node_modules",
     .doc = "folder of the installed npm packages"},
    {.name = "wordnet",
     .type = SETTING_TEXT,
     .fallback = "/usr/share/wordnet",
     .doc = "folder of wordnet-base"},
    {.name = "jargon",
     .type = SETTING_TEXT,
     .fallback = "/usr/share/dictd/jargon",
     .doc = "dict-jargon's files, without .index and .dict.dz"},
};

static const struct settings_spec SPEC = {
    .program = "openledger corpus",
    .usage = "base|demo --out DIR [options]",
    .about = "Cuts installed public texts into training rows, the same bytes every time.\n"
             "  base   train.jsonl and heldout.jsonl for the base model\n"
             "  demo   the demo's datanets: a folder each, demo.json beside them",
    .table = TABLE,
    .count = sizeof TABLE / sizeof *TABLE,
    .positional_min = 1,
    .positional_max = 1,
};

static enum err write_file(const char *folder, const char *name, const struct buf *content,
                           struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = file_path(path, "%s/%s", folder, name);
    return err != ERR_OK ? err : file_write_quick(path, buf_bytes(content), 0644, note);
}

static enum err make_base(const struct corpus *corpus, const char *out, struct note *note)
{
    struct buf train;
    struct buf heldout;
    struct corpus_counts counts;
    buf_init(&train, CORPUS_OUTPUT_MAX);
    buf_init(&heldout, CORPUS_OUTPUT_MAX);
    enum err err = corpus_base_rows(corpus, &train, &heldout, &counts);
    if (err == ERR_OK) {
        err = file_make_folders(out, note);
    }
    if (err == ERR_OK) {
        err = write_file(out, "train.jsonl", &train, note);
    }
    if (err == ERR_OK) {
        err = write_file(out, "heldout.jsonl", &heldout, note);
    }
    if (err == ERR_OK) {
        uint64_t rows = 0;
        uint64_t bytes = 0;
        (void)printf("%-10s %9s %9s %12s\n", "source", "rows", "chats", "text bytes");
        for (int kind = 0; kind < CORPUS_KINDS; kind++) {
            (void)printf("%-10s %9llu %9llu %12llu\n", corpus_kind_name((enum corpus_kind)kind),
                         (unsigned long long)counts.rows[kind],
                         (unsigned long long)counts.chats[kind],
                         (unsigned long long)counts.bytes[kind]);
            rows += counts.rows[kind];
            bytes += counts.bytes[kind];
        }
        (void)printf("%-10s %9llu %9s %12llu\n", "all", (unsigned long long)rows, "",
                     (unsigned long long)bytes);
        (void)printf("wrote %s/train.jsonl (%zu bytes), heldout.jsonl (%zu bytes)\n", out,
                     train.size, heldout.size);
    }
    buf_deinit(&train);
    buf_deinit(&heldout);
    return err;
}

int cmd_corpus(int argc, char **argv)
{
    struct settings *settings = NULL;
    struct corpus corpus = {0};
    struct note note = {0};
    enum err err = settings_load(&SPEC, argc, argv, &settings, &note);
    if (err == ERR_OK && settings_help_wanted(settings)) {
        struct buf help;
        buf_init(&help, 1U << 16);
        settings_help(&SPEC, &help);
        (void)fputs(buf_text(&help), stdout);
        buf_deinit(&help);
        settings_destroy(settings);
        return 0;
    }
    const char *what = err == ERR_OK ? settings_positional(settings, 0) : "";
    const char *out = err == ERR_OK ? settings_text(settings, "out") : "";
    bool base = strcmp(what, "base") == 0;
    if (err == ERR_OK && !base && strcmp(what, "demo") != 0) {
        err = note_set(&note, ERR_INVALID, "unknown corpus \"%.40s\": base or demo", what);
    }
    if (err == ERR_OK && out[0] == '\0') {
        err = note_set(&note, ERR_INVALID, "--out is needed");
    }
    if (err == ERR_OK) {
        struct corpus_paths paths = {.node_modules = settings_text(settings, "text"),
                                     .wordnet = settings_text(settings, "wordnet"),
                                     .jargon = settings_text(settings, "jargon")};
        (void)fprintf(stderr, "reading the installed texts\n");
        err = corpus_load(&paths, &corpus, &note);
    }
    if (err == ERR_OK) {
        (void)fprintf(stderr, "read %zu documents\n", corpus.count);
        err = base ? make_base(&corpus, out, &note) : corpus_demo_make(&corpus, out, &note);
    }
    if (err != ERR_OK) {
        (void)fprintf(stderr, "openledger corpus: %s: %s\n", err_name(err), note.text);
    }
    corpus_deinit(&corpus);
    settings_destroy(settings);
    return err == ERR_OK ? 0 : 1;
}
