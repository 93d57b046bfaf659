/* demo_setup.c - the demo's people and datanets; see demo.h. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/demo.h"
#include "services/openledger/output.h"
#include "services/openledger/suite.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

/* What the genesis file gives to whom: sums to 1,000,000,000. Contributors start with nothing. */
static const struct suite_allocation ALLOCATIONS[] = {
    SUITE_ALLOCATIONS_COMMON,
    {"treasury", "ecosystem", "98500000", 0, 0},
    {"developer", "ecosystem", "500000", 0, 0},
    {"user", "ecosystem", "500000", 0, 0},
    {"validator-1", "ecosystem", "50000", 0, 0},
    {"validator-2", "ecosystem", "50000", 0, 0},
    {"settlement", "ecosystem", "100000", 0, 0},
    {"lora-gateway", "ecosystem", "100000", 0, 0},
    {"attribution", "ecosystem", "100000", 0, 0},
    {"trainer", "ecosystem", "100000", 0, 0},
};

/* A vote that is over in seconds; everything else is as the parameter table has it. */
static const struct suite_parameter PARAMETERS[] = {
    {"voting_delay_blocks", "2"}, {"voting_period_blocks", "5"}, {"timelock_ms", "2000"}};

enum { ALLOCATION_COUNT = sizeof ALLOCATIONS / sizeof ALLOCATIONS[0] };

struct demo_person *demo_find_person(struct demo *demo, const char *name)
{
    for (uint32_t i = 0; i < demo->person_count; i++) {
        if (strcmp(demo->people[i].name, name) == 0) {
            return &demo->people[i];
        }
    }
    return NULL;
}

const char *demo_name_of(const struct demo *demo, ProtobufCBinaryData account, char out[DEMO_NAME])
{
    for (uint32_t i = 0; i < demo->person_count; i++) {
        if (account.len == ACCOUNT_ID_SIZE &&
            memcmp(demo->people[i].id.bytes, account.data, ACCOUNT_ID_SIZE) == 0) {
            return demo->people[i].name;
        }
    }
    char text[ACCOUNT_ID_TEXT_SIZE];
    (void)snprintf(out, DEMO_NAME, "%.16s...", cli_account(account, text));
    return out;
}

static enum err add_person(struct demo *demo, const char *name, const char *key)
{
    if (demo->person_count == DEMO_PEOPLE_MAX) {
        return note_set(&demo->cli.note, ERR_LIMIT, "more than %d people", DEMO_PEOPLE_MAX);
    }
    struct demo_person *person = &demo->people[demo->person_count];
    char path[FILE_PATH_SIZE];
    (void)snprintf(person->name, sizeof person->name, "%s", name);
    (void)snprintf(person->key, sizeof person->key, "%s", key);
    enum err err = cli_key_path(demo->suite, key, path);
    err = err != ERR_OK ? note_set(&demo->cli.note, err, "'%.64s' is not a key name", key)
                        : key_pair_load_or_create(path, "", &person->keys, &demo->cli.note);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(person->keys), &person->id);
        demo->person_count++;
    }
    return err;
}

/* "presidents/george-washington.jsonl" -> "george-washington" */
static void key_of_file(const char *file, char out[DEMO_NAME])
{
    const char *slash = strrchr(file, '/');
    (void)snprintf(out, DEMO_NAME, "%s", slash != NULL ? slash + 1 : file);
    char *dot = strrchr(out, '.');
    if (dot != NULL) {
        *dot = '\0';
    }
}

static enum err add_contributors(struct demo *demo)
{
    const struct json *datanets = json_member(demo->plan, "datanets");
    enum err err = ERR_OK;
    for (size_t d = 0; d < json_count(datanets) && err == ERR_OK; d++) {
        const struct json *contributors = json_member(json_item(datanets, d), "contributors");
        for (size_t i = 0; i < json_count(contributors) && err == ERR_OK; i++) {
            const struct json *contributor = json_item(contributors, i);
            char key[DEMO_NAME];
            key_of_file(json_as_text(json_member(contributor, "file"), ""), key);
            err = add_person(demo, json_as_text(json_member(contributor, "name"), ""), key);
        }
    }
    return err;
}

enum err demo_make_people(struct demo *demo)
{
    struct suite_options options = {.folder = demo->suite,
                                    .witnesses = SUITE_WITNESSES_MAX,
                                    .http = demo->http,
                                    .allocations = ALLOCATIONS,
                                    .allocation_count = ALLOCATION_COUNT,
                                    .parameters = PARAMETERS,
                                    .parameter_count = sizeof PARAMETERS / sizeof PARAMETERS[0]};
    enum err err = suite_prepare(&options, &demo->cli.note);
    for (size_t i = 0; i < ALLOCATION_COUNT && err == ERR_OK; i++) {
        err = add_person(demo, ALLOCATIONS[i].name, ALLOCATIONS[i].name);
    }
    err = err != ERR_OK ? err : add_contributors(demo);
    if (err == ERR_OK) {
        const struct json *planted = json_member(demo->plan, "planted");
        demo->developer = demo_find_person(demo, "developer");
        demo->user = demo_find_person(demo, "user");
        demo->planted =
            demo_find_person(demo, json_as_text(json_member(planted, "contributor"), ""));
        if (demo->planted == NULL) {
            err = note_set(&demo->cli.note, ERR_INVALID, "demo.json names no planted contributor");
        }
    }
    return err;
}

enum err demo_open_accounts(struct demo *demo)
{
    struct output_progress progress;
    uint32_t first = ALLOCATION_COUNT; /* the others are open since genesis */
    enum err err = ERR_OK;
    output_progress_start(&progress, "accounts", demo->person_count - first);
    for (uint32_t i = first; i < demo->person_count && err == ERR_OK; i++) {
        err = act_open_account(&demo->cli, demo->people[i].keys, demo->people[i].name);
        output_progress_update(&progress, i - first + 1, "%s", demo->people[i].name);
    }
    for (uint32_t i = 1; i <= 2 && err == ERR_OK; i++) {
        char name[DEMO_NAME];
        (void)snprintf(name, sizeof name, "validator-%u", i);
        const struct demo_person *validator = demo_find_person(demo, name);
        CHECK(validator != NULL);
        err = act_bond(&demo->cli, validator->keys, OPENLEDGER__V1__ROLE__ROLE_VALIDATOR, "20000");
    }
    if (err == ERR_OK) {
        output_progress_finish(&progress, "%u contributors, 2 validators bonded",
                               demo->person_count - first);
    }
    return err;
}

/* ---- datanets ---- */

/* Commit, upload, review: what a contributor and the datanet's owner do. */
static enum err contribute(struct demo *demo, const struct demo_datanet *datanet,
                           const struct demo_person *person, const char *file)
{
    char path[FILE_PATH_SIZE];
    struct buf rows;
    const Openledger__V1__ContributionRecord *record;
    buf_init(&rows, LEDGER_CONTRIBUTION_SIZE_MAX);
    enum err err = file_path(path, "%s/%s", demo->text, file);
    err = err != ERR_OK ? err : file_read(path, &rows, &demo->cli.note);
    struct act_contribution contribution = {.datanet = datanet->name, .rows = buf_bytes(&rows)};
    err = err != ERR_OK ? err : act_contribute(&demo->cli, person->keys, &contribution, &record);
    if (err == ERR_OK) {
        struct digest id;
        err = digest_from_bytes(ledger_bytes(record->contribution), &id);
        err = err != ERR_OK
                  ? err
                  : act_review(&demo->cli, demo->developer->keys, &id, true, "every row checked");
    }
    buf_deinit(&rows);
    return err;
}

static enum err publish(struct demo *demo, struct demo_datanet *datanet)
{
    const Openledger__V1__PublishVersion *version;
    enum err err = act_publish_version(&demo->cli, demo->developer->keys, datanet->name, &version);
    if (err == ERR_OK) {
        datanet->version = version->version;
        datanet->rows = version->row_count;
        datanet->contributors = (uint32_t)version->n_contributors;
        (void)cli_hex(version->root, datanet->root);
        printf("  %s version %u: %u rows of %u contributors, root %.16s...\n", datanet->name,
               datanet->version, datanet->rows, datanet->contributors, datanet->root);
    }
    return err;
}

static enum err make_datanet(struct demo *demo, const struct json *plan,
                             struct demo_datanet *datanet)
{
    const struct json *contributors = json_member(plan, "contributors");
    const struct json *prompts = json_member(plan, "prompts");
    struct act_datanet wanted = {.name = json_as_text(json_member(plan, "name"), ""),
                                 .title = json_as_text(json_member(plan, "title"), ""),
                                 .description = json_as_text(json_member(plan, "description"), ""),
                                 .licence = json_as_text(json_member(plan, "licence"), "")};
    const struct json *later = NULL; /* the planted rows come into a second version */
    (void)snprintf(datanet->name, sizeof datanet->name, "%s", wanted.name);
    for (size_t i = 0; i < json_count(prompts) && i < DEMO_PROMPTS_MAX; i++) {
        (void)snprintf(datanet->prompts[i], DEMO_PROMPT_SIZE, "%s",
                       json_as_text(json_item(prompts, i), ""));
        datanet->prompt_count++;
    }
    enum err err =
        file_path(datanet->heldout, "%s/%s", demo->text,
                  json_as_text(json_member(json_member(plan, "heldout"), "file"), "heldout.jsonl"));
    err = err != ERR_OK ? err : act_create_datanet(&demo->cli, demo->developer->keys, &wanted);
    for (size_t i = 0; i < json_count(contributors) && err == ERR_OK; i++) {
        const struct json *contributor = json_item(contributors, i);
        const char *name = json_as_text(json_member(contributor, "name"), "");
        const struct demo_person *person = demo_find_person(demo, name);
        if (person == demo->planted) {
            later = contributor;
            continue;
        }
        err = contribute(demo, datanet, person, json_as_text(json_member(contributor, "file"), ""));
    }
    err = err != ERR_OK ? err : publish(demo, datanet);
    if (err == ERR_OK && later != NULL) {
        err =
            contribute(demo, datanet, demo->planted, json_as_text(json_member(later, "file"), ""));
        err = err != ERR_OK ? err : publish(demo, datanet);
    }
    return err;
}

enum err demo_make_datanets(struct demo *demo)
{
    const struct json *datanets = json_member(demo->plan, "datanets");
    enum err err = ERR_OK;
    for (size_t i = 0; i < json_count(datanets) && err == ERR_OK; i++) {
        if (demo->datanet_count == DEMO_DATANETS_MAX) {
            return note_set(&demo->cli.note, ERR_LIMIT, "more than %d datanets", DEMO_DATANETS_MAX);
        }
        err = make_datanet(demo, json_item(datanets, i), &demo->datanets[demo->datanet_count++]);
    }
    return err;
}
