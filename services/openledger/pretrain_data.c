/* pretrain_data.c - see pretrain_data.h. */
#include "services/openledger/pretrain_data.h"

#include <stdio.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/json/json.h"
#include "shared/platform/file.h"

static struct pretrain_source *source_of(struct pretrain_data *data, struct bytes line)
{
    const char *name = "unknown";
    struct json *root = NULL;
    if (json_parse(line, LM_CHAT_ROW_MAX, &root, NULL) == ERR_OK) {
        name = json_as_text(json_member(root, "source"), name);
    }
    char cut[PRETRAIN_SOURCE_SIZE];
    (void)snprintf(cut, sizeof cut, "%s", name);
    json_destroy(root);
    for (uint32_t i = 0; i < data->source_count; i++) {
        if (strcmp(data->sources[i].name, cut) == 0) {
            return &data->sources[i];
        }
    }
    if (data->source_count == PRETRAIN_SOURCES_MAX) {
        return &data->sources[PRETRAIN_SOURCES_MAX - 1];
    }
    struct pretrain_source *source = &data->sources[data->source_count++];
    memcpy(source->name, cut, sizeof cut);
    return source;
}

static enum err lines_read(struct pretrain_data *data, const struct lm_chat *chat,
                           struct bytes file, struct note *note)
{
    const uint8_t *end = file.data + file.size;
    uint64_t number = 0;
    for (const uint8_t *at = file.data; at < end;) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        struct bytes line = {at, (size_t)(stop - at)};
        at = stop + 1;
        number++;
        if (line.size == 0) {
            continue;
        }
        size_t before = data->ids.count;
        enum err err = lm_chat_document_json(chat, line, &data->ids, note);
        if (err != ERR_OK) {
            return note_wrap(note, err, "line %llu", (unsigned long long)number);
        }
        struct pretrain_source *source = source_of(data, line);
        source->document_count++;
        source->token_count += data->ids.count - before;
        data->document_count++;
        data->byte_count += line.size;
    }
    return ERR_OK;
}

enum err pretrain_data_load(struct pretrain_data *data, const char *path, const char *tokenizer,
                            struct note *note)
{
    char name[FILE_PATH_SIZE];
    struct buf json;
    buf_init(&json, LM_TOKENIZER_FILE_MAX);
    enum err err = file_path(name, "%s/tokenizer.json", tokenizer);
    if (err == ERR_OK) {
        err = file_read(name, &json, note);
    }
    if (err == ERR_OK) {
        err = pretrain_data_read(data, path, buf_bytes(&json), note);
    }
    buf_deinit(&json);
    return err;
}

enum err pretrain_data_read(struct pretrain_data *data, const char *path,
                            struct bytes tokenizer_json, struct note *note)
{
    struct pretrain_data made = {0};
    struct lm_tokenizer *loaded = NULL;
    struct file_map map = {0};
    lm_ids_init(&made.ids, PRETRAIN_TOKENS_MAX);
    sha256(tokenizer_json, &made.tokenizer_digest);
    enum err err = lm_tokenizer_load(tokenizer_json, &loaded, note);
    if (err == ERR_OK) {
        err = file_map_open(path, &map, note);
    }
    if (err == ERR_OK) {
        struct lm_chat chat;
        struct bytes file = {map.data, map.size};
        made.vocab = lm_tokenizer_vocab(loaded);
        made.end_of_text = lm_tokenizer_find(loaded, LM_CHAT_END_OF_TEXT);
        lm_chat_init(&chat, loaded, LM_TOKENIZER_NONE, made.end_of_text);
        sha256(file, &made.digest);
        err = lines_read(&made, &chat, file, note);
    }
    if (err == ERR_OK && made.end_of_text == LM_TOKENIZER_NONE) {
        err = note_set(note, ERR_INVALID, "the tokenizer has no token %s", LM_CHAT_END_OF_TEXT);
    }
    file_map_close(&map);
    lm_tokenizer_destroy(loaded);
    if (err != ERR_OK) {
        pretrain_data_deinit(&made);
        return note_wrap(note, err, "%s", path);
    }
    *data = made;
    return ERR_OK;
}

void pretrain_data_deinit(struct pretrain_data *data)
{
    lm_ids_deinit(&data->ids);
    *data = (struct pretrain_data){0};
}
