/* tokenizer_cmd.c - `openledger tokenizer train|encode|decode`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/corpus.h"
#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/bpe/bpe.h"
#include "shared/json/json.h"
#include "shared/platform/file.h"
#include "shared/platform/settings.h"
#include "shared/token/chat.h"
#include "shared/token/tokenizer.h"

#define CONTEXT_MAX 131072.0
#define IDS_MAX (16U << 20)

static const struct setting TABLE[] = {
    {.name = "corpus",
     .type = SETTING_TEXT,
     .fallback = "build/base/corpus/train.jsonl",
     .doc = "train: rows to learn from, as `openledger corpus base` writes them"},
    {.name = "vocab",
     .type = SETTING_U64,
     .fallback = "4096",
     .min = LM_BPE_VOCAB_MIN + 4,
     .max = LM_BPE_VOCAB_MAX,
     .doc = "train: number of tokens"},
    {.name = "context",
     .type = SETTING_U64,
     .fallback = "256",
     .min = 16,
     .max = CONTEXT_MAX,
     .doc = "train: positions of the model, for tokenizer_config.json"},
    {.name = "out",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "train: folder for tokenizer.json and tokenizer_config.json"},
    {.name = "tokenizer",
     .type = SETTING_TEXT,
     .fallback = "deploy/models/openledger-3m/tokenizer.json",
     .doc = "encode, decode: the file to use"},
    {.name = "special",
     .type = SETTING_BOOL,
     .fallback = "false",
     .doc = "encode: read spellings of special tokens as such; decode: write them"},
    {.name = "template",
     .type = SETTING_BOOL,
     .fallback = "false",
     .doc = "encode: with the tokens that post_processor puts around a text"},
    {.name = "rows",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "encode, decode: a file of rows instead of arguments, each a text or a list of ids as "
            "JSON; answers are JSON too"},
};

static const struct settings_spec SPEC = {
    .program = "openledger tokenizer",
    .usage = "train --out DIR | encode TEXT... | decode ID... | encode|decode --rows FILE",
    .about = "Learns a byte-level BPE vocabulary; turns text into token ids and back.",
    .table = TABLE,
    .count = sizeof TABLE / sizeof *TABLE,
    .positional_min = 1,
    .positional_max = SETTINGS_POSITIONAL_MAX,
};

static void show_progress(void *context, uint32_t done, uint32_t total)
{
    (void)context;
    (void)fprintf(stderr, "\r%u of %u tokens", done, total);
}

/* Calls visit for every line of the file, a JSON document each. */
static enum err each_row(const char *path,
                         enum err (*visit)(void *argument, const struct json *row,
                                           struct note *note),
                         void *argument, struct note *note)
{
    struct file_map map = {0};
    enum err err = file_map_open(path, &map, note);
    size_t at = 0;
    for (uint64_t line = 1; err == ERR_OK && at < map.size; line++) {
        const uint8_t *end = memchr(map.data + at, '\n', map.size - at);
        size_t size = end == NULL ? map.size - at : (size_t)(end - map.data) - at;
        struct json *row = NULL;
        err = json_parse((struct bytes){map.data + at, size}, LM_CHAT_ROW_MAX, &row, note);
        if (err == ERR_OK) {
            err = visit(argument, row, note);
        }
        json_destroy(row);
        if (err != ERR_OK) {
            err = note_wrap(note, err, "%s line %llu", path, (unsigned long long)line);
        }
        at += size + 1;
    }
    file_map_close(&map);
    return err;
}

static enum err count_text(void *argument, const struct json *row, struct note *note)
{
    static const char *const KEYS[] = {"text", "prompt", "completion"};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS && err == ERR_OK; i++) {
        const char *text = json_as_text(json_member(row, KEYS[i]), NULL);
        if (text != NULL) {
            err = lm_bpe_add(argument, (struct bytes){(const uint8_t *)text, strlen(text)}, note);
        }
    }
    return err;
}

static enum err write_vocabulary(const struct lm_bpe *bpe, const struct settings *settings,
                                 struct note *note)
{
    const char *out = settings_text(settings, "out");
    char path[FILE_PATH_SIZE];
    struct buf text;
    buf_init(&text, CORPUS_FILE_MAX);
    enum err err = lm_bpe_write(bpe, &text);
    if (err == ERR_OK) {
        err = file_make_folders(out, note);
    }
    if (err == ERR_OK) {
        err = file_path(path, "%s/tokenizer.json", out);
    }
    if (err == ERR_OK) {
        err = file_write_atomic(path, buf_bytes(&text), 0644, note);
    }
    buf_clear(&text);
    if (err == ERR_OK) {
        err = lm_bpe_write_config((uint32_t)settings_u64(settings, "context"), &text);
    }
    if (err == ERR_OK) {
        err = file_path(path, "%s/tokenizer_config.json", out);
    }
    if (err == ERR_OK) {
        err = file_write_atomic(path, buf_bytes(&text), 0644, note);
    }
    buf_deinit(&text);
    if (err == ERR_OK) {
        (void)printf("wrote %s: %u tokens, %u merges\n", out, lm_bpe_vocab(bpe),
                     lm_bpe_merge_count(bpe));
    }
    return err;
}

static enum err train(const struct settings *settings, struct note *note)
{
    if (settings_text(settings, "out")[0] == '\0') {
        return note_set(note, ERR_INVALID, "--out is needed");
    }
    static const char *const SPECIAL[] = {LM_CHAT_END_OF_TEXT, LM_CHAT_USER, LM_CHAT_ASSISTANT,
                                          LM_CHAT_END, LM_CHAT_SYSTEM};
    struct lm_bpe *bpe = lm_bpe_create();
    if (bpe == NULL) {
        return ERR_NO_MEMORY;
    }
    (void)fprintf(stderr, "counting words\n");
    enum err err = each_row(settings_text(settings, "corpus"), count_text, bpe, note);
    if (err == ERR_OK) {
        err = lm_bpe_train(bpe, (uint32_t)settings_u64(settings, "vocab"), SPECIAL,
                           sizeof SPECIAL / sizeof *SPECIAL, show_progress, NULL, note);
        (void)fputc('\n', stderr);
    }
    if (err == ERR_OK) {
        err = write_vocabulary(bpe, settings, note);
    }
    lm_bpe_destroy(bpe);
    return err;
}

/* One run of encode or decode. */
struct run {
    const struct lm_tokenizer *tokenizer;
    bool special, framed;
    struct lm_ids ids; /* of the text at hand */
    struct buf text;
};

static enum err encode_text(struct run *run, const char *text, struct note *note)
{
    uint32_t begin = LM_TOKENIZER_NONE;
    uint32_t end = LM_TOKENIZER_NONE;
    if (run->framed) {
        (void)lm_tokenizer_template(run->tokenizer, &begin, &end);
    }
    run->ids.count = 0;
    enum err err = begin != LM_TOKENIZER_NONE ? lm_ids_append(&run->ids, begin) : ERR_OK;
    if (err == ERR_OK) {
        err =
            lm_tokenizer_encode(run->tokenizer, (struct bytes){(const uint8_t *)text, strlen(text)},
                                run->special, &run->ids, note);
    }
    return err == ERR_OK && end != LM_TOKENIZER_NONE ? lm_ids_append(&run->ids, end) : err;
}

static enum err encode_row(void *argument, const struct json *row, struct note *note)
{
    struct run *run = argument;
    const char *text = json_as_text(row, NULL);
    enum err err = text == NULL ? note_set(note, ERR_INVALID, "the row is no text")
                                : encode_text(run, text, note);
    for (size_t i = 0; i < run->ids.count && err == ERR_OK; i++) {
        (void)printf("%s%u", i == 0 ? "[" : ",", run->ids.items[i]);
    }
    (void)(err == ERR_OK ? printf("%s]\n", run->ids.count == 0 ? "[" : "") : 0);
    return err;
}

static enum err decode_ids(struct run *run)
{
    buf_clear(&run->text);
    return lm_tokenizer_decode(run->tokenizer, run->ids.items, run->ids.count, run->special,
                               &run->text);
}

static enum err decode_row(void *argument, const struct json *row, struct note *note)
{
    struct run *run = argument;
    struct json_writer writer;
    struct buf answer;
    enum err err = json_kind(row) == JSON_KIND_ARRAY
                       ? ERR_OK
                       : note_set(note, ERR_INVALID, "the row is no list of ids");
    run->ids.count = 0;
    for (size_t i = 0; i < json_count(row) && err == ERR_OK; i++) {
        int64_t id = json_as_i64(json_item(row, i), -1);
        err = id < 0 || id >= (int64_t)lm_tokenizer_vocab(run->tokenizer)
                  ? note_set(note, ERR_RANGE, "item %zu is no token id below %u", i,
                             lm_tokenizer_vocab(run->tokenizer))
                  : lm_ids_append(&run->ids, (uint32_t)id);
    }
    err = err == ERR_OK ? decode_ids(run) : err;
    buf_init(&answer, CORPUS_FILE_MAX);
    json_writer_init(&writer, &answer, false);
    json_write_text_bytes(&writer, buf_bytes(&run->text));
    err = err == ERR_OK ? buf_err(&answer) : err;
    if (err == ERR_OK) {
        (void)printf("%s\n", buf_text(&answer));
    }
    buf_deinit(&answer);
    return err;
}

static enum err encode_arguments(struct run *run, const struct settings *settings,
                                 struct note *note)
{
    enum err err = ERR_OK;
    for (size_t i = 1; i < settings_positional_count(settings) && err == ERR_OK; i++) {
        err = encode_text(run, settings_positional(settings, i), note);
        for (size_t k = 0; k < run->ids.count && err == ERR_OK; k++) {
            (void)printf("%s%u", k == 0 ? "" : " ", run->ids.items[k]);
        }
        (void)printf("\n");
    }
    return err;
}

static enum err decode_arguments(struct run *run, const struct settings *settings,
                                 struct note *note)
{
    enum err err = ERR_OK;
    for (size_t i = 1; i < settings_positional_count(settings) && err == ERR_OK; i++) {
        const char *word = settings_positional(settings, i);
        char *end = NULL;
        errno = 0;
        unsigned long id = strtoul(word, &end, 10);
        if (errno != 0 || end == word || *end != '\0' || id >= lm_tokenizer_vocab(run->tokenizer)) {
            err = note_set(note, ERR_RANGE, "\"%.40s\" is no token id below %u", word,
                           lm_tokenizer_vocab(run->tokenizer));
        } else {
            err = lm_ids_append(&run->ids, (uint32_t)id);
        }
    }
    err = err == ERR_OK ? decode_ids(run) : err;
    if (err == ERR_OK) {
        (void)printf("%s\n", buf_text(&run->text));
    }
    return err;
}

static enum err convert(const struct settings *settings, const struct lm_tokenizer *tokenizer,
                        bool encodes, struct note *note)
{
    struct run run = {.tokenizer = tokenizer,
                      .special = settings_bool(settings, "special"),
                      .framed = settings_bool(settings, "template")};
    const char *rows = settings_text(settings, "rows");
    lm_ids_init(&run.ids, IDS_MAX);
    buf_init(&run.text, CORPUS_FILE_MAX);
    enum err err = ERR_OK;
    if (rows[0] != '\0') {
        err = settings_positional_count(settings) > 1
                  ? note_set(note, ERR_INVALID, "--rows and arguments exclude each other")
                  : each_row(rows, encodes ? encode_row : decode_row, &run, note);
    } else {
        err = encodes ? encode_arguments(&run, settings, note)
                      : decode_arguments(&run, settings, note);
    }
    buf_deinit(&run.text);
    lm_ids_deinit(&run.ids);
    return err;
}

int cmd_tokenizer(int argc, char **argv)
{
    struct settings *settings = NULL;
    struct lm_tokenizer *tokenizer = NULL;
    struct note note = {0};
    struct buf text;
    buf_init(&text, LM_TOKENIZER_FILE_MAX);
    enum err err = settings_load(&SPEC, argc, argv, &settings, &note);
    if (err == ERR_OK && settings_help_wanted(settings)) {
        settings_help(&SPEC, &text);
        (void)fputs(buf_text(&text), stdout);
        goto done;
    }
    const char *what = err == ERR_OK ? settings_positional(settings, 0) : "";
    bool encodes = strcmp(what, "encode") == 0;
    if (err == ERR_OK && strcmp(what, "train") == 0) {
        err = train(settings, &note);
    } else if (err == ERR_OK && !encodes && strcmp(what, "decode") != 0) {
        err = note_set(&note, ERR_INVALID, "unknown verb \"%.40s\": train, encode or decode", what);
    } else if (err == ERR_OK) {
        err = file_read(settings_text(settings, "tokenizer"), &text, &note);
        if (err == ERR_OK) {
            err = lm_tokenizer_load(buf_bytes(&text), &tokenizer, &note);
        }
        if (err == ERR_OK) {
            err = convert(settings, tokenizer, encodes, &note);
        }
    }
    if (err != ERR_OK) {
        (void)fprintf(stderr, "openledger tokenizer: %s: %s\n", err_name(err), note.text);
    }
done:
    buf_deinit(&text);
    lm_tokenizer_destroy(tokenizer);
    settings_destroy(settings);
    return err == ERR_OK ? 0 : 1;
}
