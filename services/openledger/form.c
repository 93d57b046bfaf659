/* form.c - see form.h. */
#include "services/openledger/form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/act.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/platform/clock.h"

enum { WORD_MAX = 48, DAY_MS = 86400000, HOUR_MS = 3600000 };

/* One "field:kind" of a form. */
struct word {
    char field[WORD_MAX];
    const char *kind; /* in field, behind the name */
    bool optional;
};

/* Takes the next word off *fields; false: there is none. */
static bool word_next(const char **fields, struct word *out)
{
    size_t size = strcspn(*fields, " ");
    if (size == 0) {
        return false;
    }
    CHECK(size < WORD_MAX);
    memcpy(out->field, *fields, size);
    out->field[size] = '\0';
    out->optional = out->field[size - 1] == '?';
    if (out->optional) {
        out->field[size - 1] = '\0';
    }
    char *colon = strchr(out->field, ':');
    CHECK(colon != NULL);
    *colon = '\0';
    out->kind = colon + 1;
    *fields += size;
    *fields += strspn(*fields, " ");
    return true;
}

static bool takes_rest(const struct word *word)
{
    return word->kind[strlen(word->kind) - 1] == 's' && strcmp(word->kind, "days") != 0 &&
           strcmp(word->kind, "hours") != 0;
}

/* 32 bytes in the arena: an account or a digest. */
static enum err bytes_set(struct cli *cli, const char *kind, const char *name, const char *text,
                          ProtobufCBinaryData *out)
{
    struct account_id id;
    struct digest digest;
    bool account = strncmp(kind, "account", strlen("account")) == 0;
    enum err err =
        account ? cli_parse_account(cli, text, &id) : cli_parse_digest(cli, text, name, &digest);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_binary(arena_dup(cli->arena, account ? id.bytes : digest.bytes, DIGEST_SIZE),
                         DIGEST_SIZE);
    return out->data == NULL ? ERR_NO_MEMORY : ERR_OK;
}

/* The value of a word, wherever it goes: at is the field, or an item of it. */
static enum err value_set(struct cli *cli, const struct word *word,
                          const ProtobufCFieldDescriptor *field, const char *text, void *at)
{
    uint64_t number = 0;
    enum err err = ERR_OK;
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        ProtobufCBinaryData data;
        err = bytes_set(cli, word->kind, word->field, text, &data);
        if (err == ERR_OK) {
            memcpy(at, &data, sizeof data);
        }
        return err;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        char *copy = arena_strdup(cli->arena, text);
        memcpy(at, &copy, sizeof copy);
        return copy == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (strcmp(word->kind, "choice") == 0) {
        if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0) {
            return note_set(&cli->note, ERR_INVALID, "'%.32s' is not yes or no", text);
        }
        memcpy(at, &(protobuf_c_boolean){strcmp(text, "yes") == 0}, sizeof(protobuf_c_boolean));
        return ERR_OK;
    }
    bool days = strcmp(word->kind, "days") == 0;
    bool hours = strcmp(word->kind, "hours") == 0;
    bool wide = field->type == PROTOBUF_C_TYPE_UINT64;
    err = cli_parse_number(cli, text,
                           days || hours ? 100000
                           : wide        ? INT64_MAX
                                         : UINT32_MAX,
                           &number);
    number = days ? clock_real_ms() + number * DAY_MS : hours ? number * HOUR_MS : number;
    if (err == ERR_OK && wide) {
        memcpy(at, &number, sizeof number);
    } else if (err == ERR_OK) {
        CHECK(field->type == PROTOBUF_C_TYPE_UINT32);
        memcpy(at, &(uint32_t){(uint32_t)number}, sizeof(uint32_t));
    }
    return err;
}

/* All words from first on into a repeated field. */
static enum err rest_set(struct cli *cli, const struct word *word,
                         const ProtobufCFieldDescriptor *field, size_t first,
                         ProtobufCMessage *message)
{
    size_t item = field->type == PROTOBUF_C_TYPE_BYTES    ? sizeof(ProtobufCBinaryData)
                  : field->type == PROTOBUF_C_TYPE_UINT64 ? sizeof(uint64_t)
                                                          : sizeof(uint32_t);
    size_t count = settings_positional_count(cli->settings) - first;
    uint8_t *items = arena_alloc_array(cli->arena, count + 1, item);
    enum err err = items == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = value_set(cli, word, field, settings_positional(cli->settings, first + i),
                        items + i * item);
    }
    memcpy((uint8_t *)message + field->offset, &items, sizeof items);
    memcpy((uint8_t *)message + field->quantifier_offset, &count, sizeof count);
    return err;
}

static enum err fields_set(struct cli *cli, const struct form *form, ProtobufCMessage *message)
{
    const char *fields = form->fields;
    size_t given = settings_positional_count(cli->settings);
    struct word word;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && word_next(&fields, &word); i++) {
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(message->descriptor, word.field);
        CHECK(field != NULL);
        if (takes_rest(&word)) {
            err = rest_set(cli, &word, field, i < given ? i : given, message);
        } else if (i < given) {
            err = value_set(cli, &word, field, settings_positional(cli->settings, i),
                            (uint8_t *)message + field->offset);
        }
    }
    return err;
}

/* Puts an empty action of that field number into body. */
static enum err action_begin(struct cli *cli, uint32_t number, Openledger__V1__TxBody *body,
                             ProtobufCMessage **out)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&openledger__v1__tx_body__descriptor, number);
    CHECK(field != NULL);
    const ProtobufCMessageDescriptor *descriptor = field->descriptor;
    ProtobufCMessage *message = arena_alloc(cli->arena, descriptor->sizeof_message);
    if (message == NULL) {
        return ERR_NO_MEMORY;
    }
    protobuf_c_message_init(descriptor, message);
    openledger__v1__tx_body__init(body);
    body->action_case = (Openledger__V1__TxBody__ActionCase)number;
    memcpy((uint8_t *)body + field->offset, &(void *){message}, sizeof(void *));
    *out = message;
    return ERR_OK;
}

static struct cli_spec spec_of(const struct form *form)
{
    struct cli_spec spec = {.name = form->name, .usage = form->usage, .about = form->about};
    const char *fields = form->fields;
    struct word word;
    while (word_next(&fields, &word)) {
        bool rest = takes_rest(&word);
        spec.positional_max += rest ? FORM_REST_MAX : 1;
        spec.positional_min += rest || word.optional ? 0 : 1;
    }
    return spec;
}

int form_run(const struct form *form, int argc, char **argv)
{
    const struct cli_spec spec = spec_of(form);
    struct cli cli;
    int code = cli_open(&cli, &spec, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct key_pair *keys = NULL;
    struct digest tx;
    Openledger__V1__TxBody body;
    ProtobufCMessage *message = NULL;
    enum err err = action_begin(&cli, form->action, &body, &message);
    err = err != ERR_OK ? err : fields_set(&cli, form, message);
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    err = err != ERR_OK ? err : act_submit(&cli, keys, &body, &tx);
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s\n", hex_encode(tx.bytes, DIGEST_SIZE, hex));
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, form->name);
    key_pair_destroy(keys);
    cli_close(&cli);
    return code;
}
