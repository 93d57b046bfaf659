/* tokenizer_cmd.c - `openledger tokenizer train|encode|decode`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/corpus.h"
#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/token/bpe.h"
#include "shared/token/chat.h"
#include "shared/token/tokenizer.h"
#include "shared/platform/file.h"
#include "shared/platform/settings.h"

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
     .fallback = "deploy/models/base/tokenizer.json",
     .doc = "encode, decode: the file to use"},
    {.name = "special",
     .type = SETTING_BOOL,
     .fallback = "false",
     .doc = "encode: read spellings of special tokens as such; decode: write them"},
};

static const struct settings_spec SPEC = {
    .program = "openledger tokenizer",
    .usage = "train --out DIR | encode TEXT... | decode ID...",
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

static enum err count_text(struct lm_bpe *bpe, const struct json *row, struct note *note)
{
    static const char *const KEYS[] = {"text", "prompt", "completion"};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS && err == ERR_OK; i++) {
        const char *text = json_as_text(json_member(row, KEYS[i]), NULL);
        if (text != NULL) {
            err = lm_bpe_add(bpe, (struct bytes){(const uint8_t *)text, strlen(text)}, note);
        }
    }
    return err;
}

static enum err count_rows(struct lm_bpe *bpe, const char *path, struct note *note)
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
            err = count_text(bpe, row, note);
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
    enum err err = count_rows(bpe, settings_text(settings, "corpus"), note);
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

static enum err encode(const struct settings *settings, const struct lm_tokenizer *tokenizer,
                       struct note *note)
{
    struct lm_ids ids;
    lm_ids_init(&ids, IDS_MAX);
    enum err err = ERR_OK;
    for (size_t i = 1; i < settings_positional_count(settings) && err == ERR_OK; i++) {
        const char *text = settings_positional(settings, i);
        ids.count = 0;
        err = lm_tokenizer_encode(tokenizer, (struct bytes){(const uint8_t *)text, strlen(text)},
                                  settings_bool(settings, "special"), &ids, note);
        for (size_t k = 0; k < ids.count && err == ERR_OK; k++) {
            (void)printf("%s%u", k == 0 ? "" : " ", ids.items[k]);
        }
        (void)printf("\n");
    }
    lm_ids_deinit(&ids);
    return err;
}

static enum err decode(const struct settings *settings, const struct lm_tokenizer *tokenizer,
                       struct note *note)
{
    struct lm_ids ids;
    struct buf text;
    lm_ids_init(&ids, IDS_MAX);
    buf_init(&text, CORPUS_FILE_MAX);
    enum err err = ERR_OK;
    for (size_t i = 1; i < settings_positional_count(settings) && err == ERR_OK; i++) {
        const char *word = settings_positional(settings, i);
        char *end = NULL;
        errno = 0;
        unsigned long id = strtoul(word, &end, 10);
        if (errno != 0 || end == word || *end != '\0' || id >= lm_tokenizer_vocab(tokenizer)) {
            err = note_set(note, ERR_RANGE, "\"%.40s\" is no token id below %u", word,
                           lm_tokenizer_vocab(tokenizer));
        } else {
            err = lm_ids_append(&ids, (uint32_t)id);
        }
    }
    if (err == ERR_OK) {
        err = lm_tokenizer_decode(tokenizer, ids.items, ids.count,
                                  settings_bool(settings, "special"), &text);
    }
    if (err == ERR_OK) {
        (void)printf("%s\n", buf_text(&text));
    }
    buf_deinit(&text);
    lm_ids_deinit(&ids);
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
            err = encodes ? encode(settings, tokenizer, &note) : decode(settings, tokenizer, &note);
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
