/* rows.c - the rows of a dataset version, from manifest to training examples; see lineage.h. */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "shared/merkle/merkle.h"

/* ---- the plan --------------------------------------------------------------------------------- */

static bool usable(const struct ledger_contribution *contribution, const char *datanet)
{
    return contribution->state == LEDGER_CONTRIBUTION_ACCEPTED &&
           strcmp(contribution->datanet, datanet) == 0;
}

enum err lineage_plan_init(const struct ledger *ledger, const char *datanet, uint32_t version,
                           struct lineage_plan *out, struct note *note)
{
    const struct ledger_version *found = ledger_version(ledger, datanet, version);
    if (found == NULL) {
        return note_set(note, ERR_NOT_FOUND, "no version %u of datanet %.64s", version, datanet);
    }
    struct lineage_plan plan = {.version = version,
                                .row_count = found->row_count,
                                .root = found->root,
                                .manifest = found->manifest};
    memcpy(plan.datanet, found->datanet, sizeof plan.datanet);
    const struct ledger_contribution *at = NULL;
    uint32_t count = 0;
    while ((at = ledger_next_contribution(ledger, at)) != NULL) {
        count += usable(at, plan.datanet);
    }
    plan.contributions = calloc((size_t)count + 1, sizeof *plan.contributions);
    if (plan.contributions == NULL) {
        return ERR_NO_MEMORY;
    }
    while ((at = ledger_next_contribution(ledger, at)) != NULL) {
        if (usable(at, plan.datanet)) {
            plan.contributions[plan.contribution_count++] = (struct lineage_contribution){
                .id = at->id, .content = at->content, .contributor = at->contributor};
        }
    }
    *out = plan;
    return ERR_OK;
}

void lineage_plan_deinit(struct lineage_plan *plan)
{
    free(plan->contributions);
    *plan = (struct lineage_plan){.contributions = NULL};
}

static const struct lineage_contribution *plan_find(const struct lineage_plan *plan,
                                                    ProtobufCBinaryData id)
{
    for (uint32_t i = 0; id.len == DIGEST_SIZE && i < plan->contribution_count; i++) {
        if (memcmp(plan->contributions[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return &plan->contributions[i];
        }
    }
    return NULL;
}

/* ---- loading ---------------------------------------------------------------------------------- */

/* Everything that grows while rows are read. */
struct loading {
    struct blob_store *blobs;
    const struct lineage_plan *plan;
    const struct lm_chat *chat;
    uint32_t context;
    struct lineage_rows rows;
    size_t *offsets; /* of each row in tokens; row_count + 1 */
    struct merkle_tree tree;
};

static enum err manifest_load(struct blob_store *blobs, const struct lineage_plan *plan,
                              Openledger__V1__DatasetVersion **out, struct note *note)
{
    struct buf data;
    buf_init(&data, BLOB_SIZE_MAX);
    Openledger__V1__DatasetVersion *manifest = NULL;
    enum err err = blob_get(blobs, &plan->manifest, &data, note);
    if (err == ERR_OK) {
        manifest = openledger__v1__dataset_version__unpack(NULL, data.size, data.data);
        bool fits = manifest != NULL && strcmp(manifest->datanet, plan->datanet) == 0 &&
                    manifest->version == plan->version &&
                    manifest->n_row_index == plan->row_count &&
                    manifest->n_contribution_index == plan->row_count &&
                    manifest->n_contribution_contents == manifest->n_contribution_ids;
        if (!fits) {
            err = note_set(note, ERR_INVALID, "manifest of %s version %u contradicts the ledger",
                           plan->datanet, plan->version);
        }
    }
    buf_deinit(&data);
    if (err != ERR_OK) {
        openledger__v1__dataset_version__free_unpacked(manifest, NULL);
        return err;
    }
    *out = manifest;
    return ERR_OK;
}

static enum err contribution_load(const struct loading *loading,
                                  const Openledger__V1__DatasetVersion *manifest, uint32_t which,
                                  Openledger__V1__Contribution **out, struct note *note)
{
    if (which >= manifest->n_contribution_ids) {
        return note_set(note, ERR_INVALID, "manifest names contribution %u of %zu", which,
                        manifest->n_contribution_ids);
    }
    const struct lineage_contribution *known =
        plan_find(loading->plan, manifest->contribution_ids[which]);
    struct bytes content = ledger_bytes(manifest->contribution_contents[which]);
    if (known == NULL || !bytes_equal(content, digest_bytes(&known->content))) {
        return note_set(note, ERR_INVALID, "manifest's contribution %u is not on the ledger",
                        which);
    }
    struct buf data;
    buf_init(&data, LEDGER_CONTRIBUTION_SIZE_MAX);
    Openledger__V1__Contribution *contribution = NULL;
    enum err err = blob_get(loading->blobs, &known->content, &data, note);
    if (err == ERR_OK) {
        contribution = openledger__v1__contribution__unpack(NULL, data.size, data.data);
        if (contribution == NULL ||
            !bytes_equal(ledger_bytes(contribution->contributor),
                         bytes_of(known->contributor.bytes, ACCOUNT_ID_SIZE))) {
            err = note_set(note, ERR_INVALID, "contribution %u is not its contributor's", which);
        }
    }
    buf_deinit(&data);
    if (err != ERR_OK) {
        openledger__v1__contribution__free_unpacked(contribution, NULL);
        return err;
    }
    *out = contribution;
    return ERR_OK;
}

/* Adds one row: its leaf to the tree, its tokens to the store. */
static enum err add_row(struct loading *loading, const Openledger__V1__Contribution *contribution,
                        uint32_t which, struct note *note)
{
    struct lineage_rows *rows = &loading->rows;
    uint32_t row = rows->count;
    if (contribution == NULL || which >= contribution->n_rows) {
        return note_set(note, ERR_INVALID, "row %u is row %u of a contribution without it", row,
                        which);
    }
    const Openledger__V1__Row *source = contribution->rows[which];
    if (source->salt.len != SALT_SIZE) {
        return note_set(note, ERR_INVALID, "row %u has a salt of %zu bytes", row, source->salt.len);
    }
    struct salt salt;
    memcpy(salt.bytes, source->salt.data, SALT_SIZE);
    struct ledger_row_leaf leaf = {.licence = contribution->licence,
                                   .permission = (uint32_t)contribution->permission};
    memcpy(leaf.contributor.bytes, contribution->contributor.data, ACCOUNT_ID_SIZE);
    ledger_row_hash(&salt, ledger_bytes(source->data), &leaf.row_hash);
    struct digest hash;
    enum err err = ledger_row_leaf_hash(&leaf, &hash);
    if (err == ERR_OK) {
        err = merkle_tree_append(&loading->tree, &hash);
    }
    if (err == ERR_OK) {
        size_t begin = rows->tokens.ids.count;
        err = lm_chat_row_json(loading->chat, ledger_bytes(source->data), &rows->tokens, note);
        size_t most = (size_t)loading->context + 1;
        if (err == ERR_OK && rows->tokens.ids.count - begin > most) {
            rows->tokens.ids.count = begin + most; /* the mask follows the ids' count */
        }
        if (err != ERR_OK) {
            err = note_wrap(note, err, "row %u", row);
        }
    }
    if (err == ERR_OK) {
        rows->contributors[row] = leaf.contributor;
        loading->offsets[row + 1] = rows->tokens.ids.count;
        rows->count++;
    }
    return err;
}

/* Points the examples into the tokens, now that those do not move any more. */
static void finish(struct loading *loading)
{
    struct lineage_rows *rows = &loading->rows;
    for (uint32_t row = 0; row < rows->count; row++) {
        size_t begin = loading->offsets[row];
        struct lm_example *example = &rows->examples[row];
        *example = (struct lm_example){.tokens = rows->tokens.ids.items + begin,
                                       .mask = rows->tokens.mask + begin,
                                       .count = (uint32_t)(loading->offsets[row + 1] - begin)};
        bool counted = false;
        for (uint32_t i = 1; i < example->count; i++) {
            counted = counted || example->mask[i] != 0;
        }
        if (counted) {
            rows->trainable[rows->trainable_count++] = row;
        }
    }
}

static enum err load_all(struct loading *loading, const Openledger__V1__DatasetVersion *manifest,
                         struct note *note)
{
    Openledger__V1__Contribution *contribution = NULL;
    uint32_t held = 0;
    enum err err = ERR_OK;
    for (uint32_t row = 0; err == ERR_OK && row < loading->plan->row_count; row++) {
        uint32_t wanted = manifest->contribution_index[row];
        if (contribution == NULL || wanted != held) { /* ascending, so each is loaded once */
            openledger__v1__contribution__free_unpacked(contribution, NULL);
            contribution = NULL;
            err = contribution_load(loading, manifest, wanted, &contribution, note);
            held = wanted;
        }
        if (err == ERR_OK) {
            err = add_row(loading, contribution, manifest->row_index[row], note);
        }
    }
    openledger__v1__contribution__free_unpacked(contribution, NULL);
    struct merkle_head head;
    merkle_tree_head(&loading->tree, &head);
    if (err == ERR_OK && !digest_equal(&head.root, &loading->plan->root)) {
        err =
            note_set(note, ERR_INVALID, "rows of %s version %u do not give the root on the ledger",
                     loading->plan->datanet, loading->plan->version);
    }
    return err;
}

enum err lineage_rows_load(struct blob_store *blobs, const struct lineage_plan *plan,
                           const struct lineage_base *base, uint32_t context,
                           struct lineage_rows *out, struct note *note)
{
    if (plan->row_count == 0 || plan->row_count > LINEAGE_ROWS_MAX) {
        return note_set(note, ERR_LIMIT, "version has %u rows, the bounds are 1 and %u",
                        plan->row_count, LINEAGE_ROWS_MAX);
    }
    uint32_t longest = lm_model_config(base->model)->context;
    if (context == 0 || context > longest) {
        return note_set(note, ERR_RANGE, "context is %u, the model's is %u", context, longest);
    }
    struct loading loading = {
        .blobs = blobs,
        .plan = plan,
        .chat = &base->chat,
        .context = context,
        .offsets = calloc((size_t)plan->row_count + 1, sizeof *loading.offsets),
        .rows = {.examples = calloc(plan->row_count, sizeof *loading.rows.examples),
                 .contributors = calloc(plan->row_count, sizeof *loading.rows.contributors),
                 .trainable = calloc(plan->row_count, sizeof *loading.rows.trainable)},
    };
    lm_chat_row_init(&loading.rows.tokens, LINEAGE_TOKENS_MAX);
    Openledger__V1__DatasetVersion *manifest = NULL;
    bool memory = loading.offsets != NULL && loading.rows.examples != NULL &&
                  loading.rows.contributors != NULL && loading.rows.trainable != NULL;
    enum err err = memory ? manifest_load(blobs, plan, &manifest, note) : ERR_NO_MEMORY;
    if (err == ERR_OK) {
        err = load_all(&loading, manifest, note);
    }
    if (err == ERR_OK) {
        finish(&loading);
        if (loading.rows.trainable_count == 0) {
            err = note_set(note, ERR_INVALID, "no row has a token to train on");
        }
    }
    openledger__v1__dataset_version__free_unpacked(manifest, NULL);
    free(loading.offsets);
    if (err != ERR_OK) {
        lineage_rows_deinit(&loading.rows);
        return err;
    }
    *out = loading.rows;
    return ERR_OK;
}

void lineage_rows_deinit(struct lineage_rows *rows)
{
    free(rows->examples);
    free(rows->contributors);
    free(rows->trainable);
    lm_chat_row_deinit(&rows->tokens);
    *rows = (struct lineage_rows){.count = 0};
}
