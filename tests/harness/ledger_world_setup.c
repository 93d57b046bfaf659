/* ledger_world_setup.c - world_setup(): data, a model, an adapter, with real objects behind them. */
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/check.h"
#include "shared/ledger/rows.h"
#include "shared/merkle/merkle.h"
#include "tests/harness/ledger_world.h"

/* What the world keeps of a contribution to make a version of it. */
struct part {
    struct digest id, content;
    struct digest leaves[WORLD_ROWS_MAX];
    uint32_t rows;
};

static struct digest pack_blob(struct world *world, const ProtobufCMessage *message)
{
    struct buf bytes;
    buf_init(&bytes, 1U << 24);
    CHECK(ledger_pack(message, &bytes) == ERR_OK);
    struct digest digest = world_blob(world, buf_bytes(&bytes));
    buf_deinit(&bytes);
    return digest;
}

static void contribute(struct world *world, enum world_who who, uint32_t rows, struct part *out)
{
    static const uint8_t salt[SALT_SIZE] = {0x5a};
    Openledger__V1__Row items[WORLD_ROWS_MAX];
    Openledger__V1__Row *pointers[WORLD_ROWS_MAX];
    char texts[WORLD_ROWS_MAX][64];
    CHECK(rows <= WORLD_ROWS_MAX);
    for (uint32_t i = 0; i < rows; i++) {
        struct buf row = {.limit = 64};
        buf_printf(&row, "{\"text\":\"row %u of %d\"}", i, (int)who);
        memcpy(texts[i], row.data, row.size);
        openledger__v1__row__init(&items[i]);
        items[i].salt = ledger_binary(salt, sizeof salt);
        items[i].data = ledger_binary(texts[i], row.size);
        pointers[i] = &items[i];
        buf_deinit(&row);
    }
    Openledger__V1__Contribution content = OPENLEDGER__V1__CONTRIBUTION__INIT;
    content.datanet = world_text("net");
    content.contributor = world_id_field(world, who);
    content.licence = world_text("CC0-1.0");
    content.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    content.n_rows = rows;
    content.rows = pointers;
    struct digest root;
    uint64_t byte_count;
    out->rows = rows;
    CHECK(ledger_contribution_root(&content, &root, &byte_count, out->leaves, NULL) == ERR_OK);
    out->content = pack_blob(world, &content.base);
    Openledger__V1__CommitRows commit = OPENLEDGER__V1__COMMIT_ROWS__INIT;
    commit.datanet = world_text("net");
    commit.root = ledger_binary(root.bytes, DIGEST_SIZE);
    commit.row_count = rows;
    commit.byte_count = byte_count;
    WORLD_ACTION(body, COMMIT_ROWS, commit_rows, &commit);
    CHECK(world_try(world, who, &body) == ERR_OK);
    out->id = world->tx;
    Openledger__V1__ReviewContribution review = OPENLEDGER__V1__REVIEW_CONTRIBUTION__INIT;
    review.contribution = ledger_binary(out->id.bytes, DIGEST_SIZE);
    review.accept = true;
    review.content = ledger_binary(out->content.bytes, DIGEST_SIZE);
    review.accepted_rows = rows;
    WORLD_ACTION(body2, REVIEW_CONTRIBUTION, review_contribution, &review);
    CHECK(world_try(world, WORLD_OWNER, &body2) == ERR_OK);
}

/* The manifest's blob, and the version's root: all rows of both parts in order. */
static struct digest publish_manifest(struct world *world, const struct part parts[2],
                                      struct digest *out_root)
{
    uint32_t which[2 * WORLD_ROWS_MAX];
    uint32_t row[2 * WORLD_ROWS_MAX];
    ProtobufCBinaryData ids[2];
    ProtobufCBinaryData contents[2];
    struct merkle_tree tree = {0};
    struct merkle_head head;
    size_t count = 0;
    for (uint32_t p = 0; p < 2; p++) {
        ids[p] = ledger_binary(parts[p].id.bytes, DIGEST_SIZE);
        contents[p] = ledger_binary(parts[p].content.bytes, DIGEST_SIZE);
        for (uint32_t i = 0; i < parts[p].rows; i++) {
            which[count] = p;
            row[count++] = i;
            CHECK(merkle_tree_append(&tree, &parts[p].leaves[i]) == ERR_OK);
        }
    }
    merkle_tree_head(&tree, &head);
    *out_root = head.root;
    Openledger__V1__DatasetVersion manifest = OPENLEDGER__V1__DATASET_VERSION__INIT;
    manifest.datanet = world_text("net");
    manifest.version = 1;
    manifest.n_contribution_ids = 2;
    manifest.contribution_ids = ids;
    manifest.n_contribution_contents = 2;
    manifest.contribution_contents = contents;
    manifest.n_contribution_index = count;
    manifest.contribution_index = which;
    manifest.n_row_index = count;
    manifest.row_index = row;
    return pack_blob(world, &manifest.base);
}

static void publish_data(struct world *world, struct digest *out_root)
{
    struct part parts[2];
    Openledger__V1__CreateDatanet create = OPENLEDGER__V1__CREATE_DATANET__INIT;
    create.name = world_text("net");
    create.title = world_text("A net");
    create.licence = world_text("CC0-1.0");
    create.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    WORLD_ACTION(body, CREATE_DATANET, create_datanet, &create);
    CHECK(world_try(world, WORLD_OWNER, &body) == ERR_OK);
    contribute(world, WORLD_ALICE, 30, &parts[0]);
    contribute(world, WORLD_BOB, 70, &parts[1]);
    struct digest manifest = publish_manifest(world, parts, out_root);
    bool alice_first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[WORLD_BOB]) < 0;
    Openledger__V1__VersionContributor items[2] = {OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT,
                                                   OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT};
    items[0].account = world_id_field(world, alice_first ? WORLD_ALICE : WORLD_BOB);
    items[0].row_count = alice_first ? 30 : 70;
    items[1].account = world_id_field(world, alice_first ? WORLD_BOB : WORLD_ALICE);
    items[1].row_count = alice_first ? 70 : 30;
    Openledger__V1__VersionContributor *pointers[2] = {&items[0], &items[1]};
    Openledger__V1__PublishVersion version = OPENLEDGER__V1__PUBLISH_VERSION__INIT;
    version.datanet = world_text("net");
    version.version = 1;
    version.root = ledger_binary(out_root->bytes, DIGEST_SIZE);
    version.manifest = ledger_binary(manifest.bytes, DIGEST_SIZE);
    version.row_count = 100;
    version.n_contributors = 2;
    version.contributors = pointers;
    WORLD_ACTION(body2, PUBLISH_VERSION, publish_version, &version);
    CHECK(world_try(world, WORLD_OWNER, &body2) == ERR_OK);
}

static void publish_adapter(struct world *world, const struct digest *files)
{
    Openledger__V1__PublishAdapter adapter = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    adapter.name = world_text("adapter");
    adapter.job = ledger_binary(world->job.bytes, DIGEST_SIZE);
    adapter.price_prompt = world_text("0.001");
    adapter.price_completion = world_text("0.002");
    WORLD_ACTION(body, PUBLISH_ADAPTER, publish_adapter, &adapter);
    CHECK(world_try(world, WORLD_DEV, &body) == ERR_OK);
    Openledger__V1__PublishIndex index = OPENLEDGER__V1__PUBLISH_INDEX__INIT;
    index.adapter = world_text("adapter");
    index.index = ledger_binary(files->bytes, DIGEST_SIZE);
    WORLD_ACTION(body2, PUBLISH_INDEX, publish_index, &index);
    CHECK(world_try(world, WORLD_ATTRIBUTION, &body2) == ERR_OK);
}

/* The list of a base's files: one, of one chunk. */
static struct digest base_files(struct world *world)
{
    const struct bytes text = bytes_of_text("a model's file");
    struct digest chunk = world_blob(world, text);
    ProtobufCBinaryData chunks[1] = {ledger_binary(chunk.bytes, DIGEST_SIZE)};
    Openledger__V1__ModelFile file = OPENLEDGER__V1__MODEL_FILE__INIT;
    Openledger__V1__ModelFile *list[1] = {&file};
    Openledger__V1__ModelFiles files = OPENLEDGER__V1__MODEL_FILES__INIT;
    file.name = world_text("config.json");
    file.size = text.size;
    file.n_chunks = 1;
    file.chunks = chunks;
    files.n_files = 1;
    files.files = list;
    return pack_blob(world, &files.base);
}

static void publish_model(struct world *world, const struct digest *dataset_root)
{
    static const uint8_t profile[DIGEST_SIZE] = {0x3d};
    struct digest base = base_files(world);
    world->files = world_blob(world, bytes_of_text("files of an adapter, an index"));
    Openledger__V1__RegisterModel model = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    model.name = world_text("base");
    model.content = ledger_binary(base.bytes, DIGEST_SIZE);
    model.profile = ledger_binary(profile, sizeof profile);
    model.licence = world_text("Apache-2.0");
    WORLD_ACTION(body, REGISTER_MODEL, register_model, &model);
    CHECK(world_try(world, WORLD_BASE, &body) == ERR_OK);
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = 8;
    settings.alpha = 16;
    settings.steps = 10;
    settings.batch_rows = 4;
    settings.learning_rate_ppm = 1000;
    settings.context = 64;
    Openledger__V1__SubmitJob submit = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    submit.datanet = world_text("net");
    submit.version = 1;
    submit.model = world_text("base");
    submit.settings = &settings;
    submit.fee = world_text("5");
    WORLD_ACTION(body2, SUBMIT_JOB, submit_job, &submit);
    CHECK(world_try(world, WORLD_DEV, &body2) == ERR_OK);
    world->job = world->tx;
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    claim.job = ledger_binary(world->job.bytes, DIGEST_SIZE);
    WORLD_ACTION(body3, CLAIM_JOB, claim_job, &claim);
    CHECK(world_try(world, WORLD_TRAINER, &body3) == ERR_OK);
    ProtobufCBinaryData step = ledger_binary("step", 4);
    struct digest leaf;
    struct digest files = world->files;
    struct merkle_head steps;
    merkle_leaf("step", 4, &leaf);
    merkle_head((struct merkle_leaves){&leaf, 1}, &steps);
    Openledger__V1__Transcript transcript = OPENLEDGER__V1__TRANSCRIPT__INIT;
    transcript.job = claim.job;
    transcript.model = model.content;
    transcript.dataset_root = ledger_binary(dataset_root->bytes, DIGEST_SIZE);
    transcript.n_steps = 1;
    transcript.steps = &step;
    struct digest transcript_blob = pack_blob(world, &transcript.base);
    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    complete.job = claim.job;
    complete.transcript_root = ledger_binary(steps.root.bytes, DIGEST_SIZE);
    complete.transcript = ledger_binary(transcript_blob.bytes, DIGEST_SIZE);
    complete.adapter = ledger_binary(files.bytes, DIGEST_SIZE);
    WORLD_ACTION(body4, COMPLETE_JOB, complete_job, &complete);
    CHECK(world_try(world, WORLD_TRAINER, &body4) == ERR_OK);
    publish_adapter(world, &files);
}

void world_setup(struct world *world)
{
    struct digest dataset_root;
    CHECK(world_open(world, WORLD_ALICE) == ERR_OK);
    CHECK(world_open(world, WORLD_BOB) == ERR_OK);
    CHECK(world_bond(world, WORLD_TRAINER, LEDGER_ROLE_TRAINER, "1000") == ERR_OK);
    CHECK(world_bond(world, WORLD_ATTRIBUTION, LEDGER_ROLE_ATTRIBUTION, "2000") == ERR_OK);
    publish_data(world, &dataset_root);
    publish_model(world, &dataset_root);
}
