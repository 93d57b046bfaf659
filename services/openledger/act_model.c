/* act_model.c - registering a base model; see act.h. */
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "services/openledger/act.h"
#include "shared/blob/blob.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"

static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed;
}

/* What a Hugging Face folder must and may hold, ascending by name. */
static const char *const MODEL_FILES[] = {"config.json",       "generation_config.json",
                                          "model.safetensors", "special_tokens_map.json",
                                          "tokenizer.json",    "tokenizer_config.json"};

enum { MODEL_FILE_COUNT = sizeof MODEL_FILES / sizeof MODEL_FILES[0] };

bool act_is_gguf(const char *path)
{
    static const char END[] = ".gguf";
    size_t size = strlen(path);
    return size >= sizeof END && strcmp(path + size - (sizeof END - 1), END) == 0;
}

static enum err pack_gguf(struct cli *cli, const char *path, struct buf *out)
{
    Openledger__V1__ModelFiles model = OPENLEDGER__V1__MODEL_FILES__INIT;
    Openledger__V1__NamedFile item = OPENLEDGER__V1__NAMED_FILE__INIT;
    Openledger__V1__NamedFile *pointer = &item;
    struct buf content;
    buf_init(&content, BLOB_SIZE_MAX);
    enum err err = file_read(path, &content, &cli->note);
    if (err == ERR_OK) {
        item.name = text(LINEAGE_GGUF);
        item.data = ledger_binary(content.data, content.size);
        model.files = &pointer;
        model.n_files = 1;
        err = ledger_pack(&model.base, out);
    }
    buf_deinit(&content);
    return err;
}

static enum err pack_model(struct cli *cli, const char *folder, struct buf *out)
{
    if (act_is_gguf(folder)) {
        return pack_gguf(cli, folder, out);
    }
    Openledger__V1__ModelFiles model = OPENLEDGER__V1__MODEL_FILES__INIT;
    Openledger__V1__NamedFile items[MODEL_FILE_COUNT];
    Openledger__V1__NamedFile *pointers[MODEL_FILE_COUNT];
    struct buf contents[MODEL_FILE_COUNT];
    enum err err = ERR_OK;
    size_t count = 0;
    for (size_t i = 0; i < MODEL_FILE_COUNT && err == ERR_OK; i++) {
        char path[FILE_PATH_SIZE];
        err = file_path(path, "%s/%s", folder, MODEL_FILES[i]);
        if (err != ERR_OK || !file_exists(path)) {
            continue;
        }
        buf_init(&contents[count], BLOB_SIZE_MAX);
        openledger__v1__named_file__init(&items[count]);
        err = file_read(path, &contents[count], &cli->note);
        items[count].name = text(MODEL_FILES[i]);
        items[count].data = ledger_binary(contents[count].data, contents[count].size);
        pointers[count] = &items[count];
        count++;
    }
    model.files = pointers;
    model.n_files = count;
    err = err != ERR_OK ? err : ledger_pack(&model.base, out);
    for (size_t i = 0; i < count; i++) {
        buf_deinit(&contents[i]);
    }
    return err;
}

static enum err get_blob(void *context, const struct digest *digest, struct buf *out,
                         struct note *note)
{
    return blob_get(context, digest, out, note);
}

/* Stores the folder as one object and loads it back as every service will: so a model that cannot be
 * served is refused here, and the profile is derived, not claimed. */
static enum err store_model(struct cli *cli, const struct act_model *model,
                            struct digest *out_content, struct digest *out_profile)
{
    struct buf packed;
    struct blob_store *blobs = NULL;
    struct lineage_base *base = NULL;
    buf_init(&packed, BLOB_SIZE_MAX);
    enum err err = pack_model(cli, model->folder, &packed);
    err = err != ERR_OK ? err : blob_open(model->blob_folder, &blobs, &cli->note);
    err = err != ERR_OK ? err : blob_put(blobs, buf_bytes(&packed), out_content, &cli->note);
    if (err == ERR_OK) {
        struct lineage_blobs source = {.get = get_blob, .context = blobs};
        struct lineage_load how = {.precision = model->precision, .serve_only = true};
        err = lineage_base_load(&source, out_content, &how, &base, &cli->note);
    }
    if (err == ERR_OK) {
        *out_profile = base->profile;
    }
    lineage_base_destroy(base);
    blob_close(blobs);
    buf_deinit(&packed);
    return err;
}

enum err act_register_model(struct cli *cli, const struct key_pair *keys,
                            const struct act_model *model)
{
    struct digest content;
    struct digest profile;
    enum err err = store_model(cli, model, &content, &profile);
    if (err != ERR_OK) {
        return note_wrap(&cli->note, err, "%s", model->folder);
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__RegisterModel registration = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    registration.name = text(model->name);
    registration.content = ledger_binary(content.bytes, DIGEST_SIZE);
    registration.profile = ledger_binary(profile.bytes, DIGEST_SIZE);
    registration.licence = text(model->licence);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_REGISTER_MODEL;
    action.register_model = &registration;
    return act_submit(cli, keys, &action, NULL);
}
