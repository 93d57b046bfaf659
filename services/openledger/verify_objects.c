/* verify_objects.c - see verify_objects.h. */
#include "services/openledger/verify_objects.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/bundle.h"
#include "shared/merkle/merkle.h"

/* A contribution's rows as leaf hashes, kept while versions are checked. */
struct rows {
    const struct ledger_contribution *contribution;
    struct digest *leaves;
};

struct run {
    const struct ledger *ledger;
    struct blob_store *blobs;
    struct verify_objects *counts;
    struct note *note;
    struct rows *rows;
    size_t rows_count, rows_capacity;
};

struct short_id {
    char text[2 * DIGEST_SIZE + 1];
};

static struct short_id id_text(const struct digest *digest)
{
    struct short_id id = {""};
    (void)hex_encode(digest->bytes, DIGEST_SIZE, id.text);
    return id;
}

/* Reads and decodes an object; free it with protobuf_c_message_free_unpacked. */
static enum err object_get(struct run *run, const struct digest *digest, const char *what,
                           const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **out)
{
    struct buf bytes;
    buf_init(&bytes, BLOB_SIZE_MAX);
    enum err err = blob_get(run->blobs, digest, &bytes, run->note);
    if (err != ERR_OK) {
        err = note_wrap(run->note, err, "%s", what);
    } else if (descriptor != NULL) {
        *out = protobuf_c_message_unpack(descriptor, NULL, bytes.size, bytes.data);
        err = *out != NULL ? ERR_OK
                           : note_set(run->note, ERR_CORRUPT, "%s: blob %s is not of its kind",
                                      what, id_text(digest).text);
    }
    buf_deinit(&bytes);
    return err;
}

static void rows_keep(struct run *run, const struct ledger_contribution *contribution,
                      struct digest *leaves)
{
    if (run->rows_count == run->rows_capacity) {
        run->rows_capacity = run->rows_capacity == 0 ? 64 : 2 * run->rows_capacity;
        run->rows = realloc(run->rows, run->rows_capacity * sizeof *run->rows);
        CHECK(run->rows != NULL);
    }
    run->rows[run->rows_count++] = (struct rows){contribution, leaves};
}

static enum err contribution_check(struct run *run, const struct ledger_contribution *contribution)
{
    ProtobufCMessage *message = NULL;
    struct digest root;
    uint64_t byte_count = 0;
    char what[96] = "contribution ";
    (void)hex_encode(contribution->id.bytes, 8, what + strlen(what));
    enum err err = object_get(run, &contribution->content, what,
                              &openledger__v1__contribution__descriptor, &message);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Contribution *content = (Openledger__V1__Contribution *)message;
    CHECK(content != NULL);
    struct digest *leaves = calloc(content->n_rows + 1, sizeof *leaves);
    CHECK(leaves != NULL);
    err = ledger_contribution_root(content, &root, &byte_count, leaves, run->note);
    if (err != ERR_OK) {
        err = note_wrap(run->note, err, "%s", what);
    } else if (!digest_equal(&root, &contribution->root) ||
               content->n_rows != contribution->row_count ||
               byte_count != contribution->byte_count ||
               memcmp(content->contributor.data, contribution->contributor.bytes,
                      ACCOUNT_ID_SIZE) != 0 ||
               strcmp(content->datanet, contribution->datanet) != 0) {
        err = note_set(run->note, ERR_CORRUPT,
                       "%s: its rows do not give the root, counts or names that were committed",
                       what);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    if (err != ERR_OK) {
        free(leaves);
        return err;
    }
    rows_keep(run, contribution, leaves);
    run->counts->contributions++;
    return ERR_OK;
}

/* ---- versions ----------------------------------------------------------------------------------- */

static const struct rows *rows_find(const struct run *run, ProtobufCBinaryData id)
{
    for (size_t i = 0; i < run->rows_count; i++) {
        if (bytes_equal(ledger_bytes(id), digest_bytes(&run->rows[i].contribution->id))) {
            return &run->rows[i];
        }
    }
    return NULL;
}

/* One row of a manifest: adds its leaf, and counts it for its contributor. */
static enum err version_row(struct run *run, const Openledger__V1__DatasetVersion *manifest,
                            size_t i, struct merkle_tree *tree,
                            struct ledger_version_contributor *contributors, size_t count)
{
    uint32_t which = manifest->contribution_index[i];
    const struct rows *rows =
        which < manifest->n_contribution_ids && which < manifest->n_contribution_contents
            ? rows_find(run, manifest->contribution_ids[which])
            : NULL;
    if (rows == NULL || manifest->row_index[i] >= rows->contribution->row_count ||
        !bytes_equal(ledger_bytes(manifest->contribution_contents[which]),
                     digest_bytes(&rows->contribution->content)) ||
        strcmp(rows->contribution->datanet, manifest->datanet) != 0) {
        return note_set(run->note, ERR_CORRUPT, "row %zu is of no accepted contribution", i);
    }
    for (size_t k = 0; k < count; k++) {
        if (account_id_equal(&contributors[k].account, &rows->contribution->contributor)) {
            contributors[k].row_count--; /* ends at 0 when the counts are right */
            return merkle_tree_append(tree, &rows->leaves[manifest->row_index[i]]);
        }
    }
    return note_set(run->note, ERR_CORRUPT, "row %zu is of no listed contributor", i);
}

static enum err version_rows(struct run *run, const struct ledger_version *version,
                             const Openledger__V1__DatasetVersion *manifest,
                             struct ledger_version_contributor *contributors, size_t count)
{
    struct merkle_tree tree = {0};
    struct merkle_head head;
    CHECK(manifest != NULL);
    if (manifest->n_contribution_index != version->row_count ||
        manifest->n_row_index != version->row_count || manifest->version != version->version ||
        strcmp(manifest->datanet, version->datanet) != 0) {
        return note_set(run->note, ERR_CORRUPT,
                        "the manifest is of another version, or has %zu rows, "
                        "not %u",
                        manifest->n_row_index, version->row_count);
    }
    for (size_t i = 0; i < manifest->n_row_index; i++) {
        enum err err = version_row(run, manifest, i, &tree, contributors, count);
        if (err != ERR_OK) {
            return err;
        }
    }
    for (size_t k = 0; k < count; k++) {
        if (contributors[k].row_count != 0) {
            return note_set(run->note, ERR_CORRUPT,
                            "a contributor's rows are not as many as stated");
        }
    }
    merkle_tree_head(&tree, &head);
    return digest_equal(&head.root, &version->root)
               ? ERR_OK
               : note_set(run->note, ERR_CORRUPT, "its rows do not give the published root");
}

static enum err version_check(struct run *run, const struct ledger_version *version)
{
    ProtobufCMessage *message = NULL;
    char what[LEDGER_NAME_MAX + 40] = "datanet ";
    memcpy(what + strlen(what), version->datanet, strlen(version->datanet) + 1);
    enum err err = object_get(run, &version->manifest, what,
                              &openledger__v1__dataset_version__descriptor, &message);
    if (err != ERR_OK) {
        return err;
    }
    size_t count = version->contributor_count;
    struct ledger_version_contributor *contributors = calloc(count + 1, sizeof *contributors);
    CHECK(contributors != NULL);
    CHECK(ledger_version_contributors(run->ledger, version->datanet, version->version, contributors,
                                      count) == count);
    err =
        version_rows(run, version, (Openledger__V1__DatasetVersion *)message, contributors, count);
    free(contributors);
    protobuf_c_message_free_unpacked(message, NULL);
    run->counts->versions += err ? 0 : 1;
    return err ? note_wrap(run->note, err, "%s version %u", what, version->version) : ERR_OK;
}

/* ---- jobs --------------------------------------------------------------------------------------- */

static enum err transcript_check(struct run *run, const struct ledger_job *job)
{
    ProtobufCMessage *message = NULL;
    char what[96] = "transcript of job ";
    struct merkle_tree tree = {0};
    struct merkle_head head;
    (void)hex_encode(job->id.bytes, 8, what + strlen(what));
    enum err err =
        object_get(run, &job->transcript, what, &openledger__v1__transcript__descriptor, &message);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Transcript *transcript = (Openledger__V1__Transcript *)message;
    CHECK(transcript != NULL);
    for (size_t i = 0; i < transcript->n_steps; i++) {
        struct digest leaf;
        merkle_leaf(transcript->steps[i].data, transcript->steps[i].len, &leaf);
        CHECK(merkle_tree_append(&tree, &leaf) == ERR_OK);
    }
    merkle_tree_head(&tree, &head);
    const struct ledger_version *version = ledger_version(run->ledger, job->datanet, job->version);
    const struct ledger_model *model = ledger_model(run->ledger, job->model);
    if (!digest_equal(&head.root, &job->transcript_root) ||
        !bytes_equal(ledger_bytes(transcript->job), digest_bytes(&job->id)) ||
        !bytes_equal(ledger_bytes(transcript->model), digest_bytes(&model->content)) ||
        !bytes_equal(ledger_bytes(transcript->dataset_root), digest_bytes(&version->root))) {
        err = note_set(run->note, ERR_CORRUPT,
                       "%s: its steps, job, model or data are not those on the ledger", what);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    err = err ? err : object_get(run, &job->adapter, "adapter's files", NULL, NULL);
    run->counts->transcripts += err ? 0 : 1;
    return err;
}

static enum err named_check(struct run *run)
{
    enum err err = ERR_OK;
    const struct ledger_contribution *contribution = NULL;
    while (err == ERR_OK &&
           (contribution = ledger_next_contribution(run->ledger, contribution)) != NULL) {
        if (contribution->state == LEDGER_CONTRIBUTION_ACCEPTED) {
            err = contribution_check(run, contribution);
        }
    }
    const struct ledger_datanet *datanet = NULL;
    while (err == ERR_OK && (datanet = ledger_next_datanet(run->ledger, datanet)) != NULL) {
        for (uint32_t version = 1; version <= datanet->versions && err == ERR_OK; version++) {
            err = version_check(run, ledger_version(run->ledger, datanet->name, version));
        }
    }
    const struct ledger_model *model = NULL;
    while (err == ERR_OK && (model = ledger_next_model(run->ledger, model)) != NULL) {
        err = lineage_bundle_check(run->blobs, &model->content, run->note);
        err = err ? note_wrap(run->note, err, "base model %s", model->name) : ERR_OK;
    }
    const struct ledger_job *job = NULL;
    while (err == ERR_OK && (job = ledger_next_job(run->ledger, job)) != NULL) {
        err = job->state == LEDGER_JOB_COMPLETED ? transcript_check(run, job) : ERR_OK;
    }
    const struct ledger_adapter *adapter = NULL;
    while (err == ERR_OK && (adapter = ledger_next_adapter(run->ledger, adapter)) != NULL) {
        err = adapter->has_index
                  ? object_get(run, &adapter->attribution_index, "attribution index", NULL, NULL)
                  : ERR_OK;
    }
    return err;
}

/* blob_get compares bytes and name. */
static enum err blob_check(void *argument, const struct digest *digest)
{
    struct run *run = argument;
    run->counts->blobs++;
    return object_get(run, digest, "blob folder", NULL, NULL);
}

enum err verify_objects(const struct ledger *ledger, struct blob_store *blobs,
                        struct verify_objects *out_counts, struct note *note)
{
    struct run run = {.ledger = ledger, .blobs = blobs, .counts = out_counts, .note = note};
    struct note detail = {""};
    enum err err = named_check(&run);
    if (err == ERR_OK) {
        err = blob_each(blobs, blob_check, &run, &detail);
        if (err != ERR_OK && (note == NULL || note->text[0] == '\0')) {
            (void)note_set(note, err, "%s", detail.text);
        }
    }
    for (size_t i = 0; i < run.rows_count; i++) {
        free(run.rows[i].leaves);
    }
    free(run.rows);
    return err;
}
