/* datanet.c - duplicates, versions and row proofs; see datanet.h. The index of a datanet's rows is
 * filled from blobs when first needed: it is derived and never stored. */
#include "services/datanet/datanet.h"

#include <stdlib.h>
#include <string.h>

#include "services/datanet/dedupe.h"
#include "services/datanet/load.h"
#include "shared/base/check.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "shared/merkle/merkle.h"

/* A contribution whose rows are in the index; its place in the array is its number there. */
struct indexed {
    struct digest id;
    struct digest content;
};

struct net {
    char name[LEDGER_NAME_MAX + 1];
    struct dedupe *dedupe;
    struct indexed *indexed;
    uint32_t count;
    struct net *next;
};

struct datanet {
    struct blob_store *blobs;
    struct datanet_uploads uploads;
    struct net *nets;
};

struct datanet *datanet_create(struct blob_store *blobs, struct datanet_uploads uploads)
{
    struct datanet *datanet = calloc(1, sizeof *datanet);
    if (datanet != NULL) {
        datanet->blobs = blobs;
        datanet->uploads = uploads;
    }
    return datanet;
}

void datanet_destroy(struct datanet *datanet)
{
    while (datanet != NULL && datanet->nets != NULL) {
        struct net *net = datanet->nets;
        datanet->nets = net->next;
        dedupe_destroy(net->dedupe);
        free(net->indexed);
        free(net);
    }
    free(datanet);
}

static struct net *net_of(struct datanet *datanet, const char *name)
{
    for (struct net *net = datanet->nets; net != NULL; net = net->next) {
        if (strcmp(net->name, name) == 0) {
            return net;
        }
    }
    struct net *net = calloc(1, sizeof *net);
    struct dedupe *dedupe = dedupe_create();
    if (net == NULL || dedupe == NULL) {
        free(net);
        dedupe_destroy(dedupe);
        return NULL;
    }
    (void)memcpy(net->name, name, strlen(name) + 1); /* a ledger name: it fits */
    net->dedupe = dedupe;
    net->next = datanet->nets;
    datanet->nets = net;
    return net;
}

/* Where a contribution's rows are, if they were uploaded: the ledger knows once it is reviewed. */
static enum err content_of(struct datanet *datanet, const struct ledger_contribution *contribution,
                           struct digest *out_content)
{
    if (contribution->accepted_rows > 0) {
        *out_content = contribution->content;
        return ERR_OK;
    }
    return datanet->uploads.content(datanet->uploads.context, &contribution->id, out_content);
}

static bool is_indexed(const struct net *net, const struct digest *id)
{
    for (uint32_t i = 0; i < net->count; i++) {
        if (digest_equal(&net->indexed[i].id, id)) {
            return true;
        }
    }
    return false;
}

static enum err index_one(struct datanet *datanet, struct net *net,
                          const struct ledger_contribution *contribution,
                          const struct digest *content, struct note *note)
{
    struct indexed *grown = realloc(net->indexed, (net->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    net->indexed = grown;
    Openledger__V1__Contribution *rows;
    enum err err = load_contribution(datanet->blobs, content, &rows, note);
    if (err != ERR_OK) {
        return err;
    }
    struct buf text;
    buf_init(&text, 2UL * LEDGER_ROW_SIZE_MAX);
    for (size_t i = 0; i < rows->n_rows && err == ERR_OK; i++) {
        buf_clear(&text);
        err = lineage_row_check(ledger_bytes(rows->rows[i]->data), &text, note);
        struct dedupe_row row = {
            .priority = contribution->index, .contribution = net->count, .row = (uint32_t)i};
        err = err != ERR_OK ? err : dedupe_add(net->dedupe, row, buf_bytes(&text));
    }
    net->indexed[net->count++] = (struct indexed){.id = contribution->id, .content = *content};
    buf_deinit(&text);
    load_free(rows);
    return err;
}

/* Brings the index up to all contents that are known now. */
static enum err index_all(struct datanet *datanet, const struct ledger *ledger, struct net *net,
                          struct note *note)
{
    enum err err = ERR_OK;
    for (const struct ledger_contribution *contribution = ledger_next_contribution(ledger, NULL);
         contribution != NULL && err == ERR_OK;
         contribution = ledger_next_contribution(ledger, contribution)) {
        struct digest content;
        if (strcmp(contribution->datanet, net->name) == 0 && !is_indexed(net, &contribution->id) &&
            content_of(datanet, contribution, &content) == ERR_OK) {
            err = index_one(datanet, net, contribution, &content, note);
        }
    }
    return err;
}

struct filter_context {
    const struct net *net;
    const struct ledger *ledger;
    bool accepted_only;
};

static bool filter_counts(void *context, uint32_t number)
{
    const struct filter_context *filter = context;
    const struct ledger_contribution *contribution =
        ledger_contribution(filter->ledger, &filter->net->indexed[number].id);
    return contribution != NULL &&
           (contribution->accepted_rows >
                0 || /* withdrawn rows are still the first of their kind */
            (!filter->accepted_only && contribution->state == LEDGER_CONTRIBUTION_COMMITTED));
}

static enum err find(const struct net *net, const struct ledger *ledger,
                     const struct ledger_contribution *contribution, uint32_t row,
                     const Openledger__V1__Contribution *rows, struct dedupe_result *out_result)
{
    struct filter_context context = {.net = net,
                                     .ledger = ledger,
                                     .accepted_only =
                                         contribution->state == LEDGER_CONTRIBUTION_ACCEPTED};
    struct dedupe_filter filter = {.counts = filter_counts, .context = &context};
    struct dedupe_row place = {.priority = contribution->index, .row = row};
    struct buf text;
    buf_init(&text, 2UL * LEDGER_ROW_SIZE_MAX);
    enum err err = lineage_row_check(ledger_bytes(rows->rows[row]->data), &text, NULL);
    err =
        err != ERR_OK ? err : dedupe_find(net->dedupe, place, buf_bytes(&text), filter, out_result);
    buf_deinit(&text);
    return err;
}

static enum err list_duplicate(const struct net *net, uint32_t row,
                               const struct dedupe_result *result, struct arena *arena,
                               Openledger__V1__ContributionRecord *record)
{
    if (record->n_duplicates == DATANET_DUPLICATES_LISTED) {
        return ERR_OK;
    }
    Openledger__V1__DuplicateRow *duplicate = arena_alloc(arena, sizeof *duplicate);
    uint8_t *id = arena_dup(arena, net->indexed[result->of.contribution].id.bytes, DIGEST_SIZE);
    if (duplicate == NULL || id == NULL) {
        return ERR_LIMIT;
    }
    openledger__v1__duplicate_row__init(duplicate);
    duplicate->row = row;
    duplicate->verdict = result->verdict == DEDUPE_EXACT
                             ? OPENLEDGER__V1__ROW_VERDICT__ROW_VERDICT_EXACT_DUPLICATE
                             : OPENLEDGER__V1__ROW_VERDICT__ROW_VERDICT_NEAR_DUPLICATE;
    duplicate->of_contribution = ledger_binary(id, DIGEST_SIZE);
    duplicate->of_row = result->of.row;
    duplicate->similarity_bp = result->similarity_bp;
    record->duplicates[record->n_duplicates++] = duplicate;
    return ERR_OK;
}

static enum err add_duplicates(struct datanet *datanet, const struct ledger *ledger,
                               const struct ledger_contribution *contribution,
                               const struct digest *content, struct arena *arena,
                               Openledger__V1__ContributionRecord *record, struct note *note)
{
    struct net *net = net_of(datanet, contribution->datanet);
    if (net == NULL) {
        return ERR_NO_MEMORY;
    }
    Openledger__V1__Contribution *rows;
    enum err err = index_all(datanet, ledger, net, note);
    err = err != ERR_OK ? err : load_contribution(datanet->blobs, content, &rows, note);
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t i = 0; i < rows->n_rows && err == ERR_OK; i++) {
        struct dedupe_result result;
        err = find(net, ledger, contribution, i, rows, &result);
        if (err == ERR_OK && result.verdict == DEDUPE_UNIQUE) {
            record->unique_rows++;
        } else if (err == ERR_OK) {
            err = list_duplicate(net, i, &result, arena, record);
        }
    }
    load_free(rows);
    return err;
}

enum err datanet_contribution(struct datanet *datanet, const struct ledger *ledger,
                              const struct ledger_contribution *contribution, struct arena *arena,
                              Openledger__V1__ContributionRecord **out_record, struct note *note)
{
    static const char *const STATES[] = {[0] = "unknown",
                                         [LEDGER_CONTRIBUTION_COMMITTED] = "committed",
                                         [LEDGER_CONTRIBUTION_ACCEPTED] = "accepted",
                                         [LEDGER_CONTRIBUTION_REJECTED] = "rejected",
                                         [LEDGER_CONTRIBUTION_WITHDRAWN] = "withdrawn"};
    Openledger__V1__ContributionRecord *record = arena_alloc(arena, sizeof *record);
    Openledger__V1__DuplicateRow **duplicates =
        arena_alloc_array(arena, DATANET_DUPLICATES_LISTED, sizeof(Openledger__V1__DuplicateRow *));
    struct ledger_contribution *copy = arena_dup(arena, contribution, sizeof *contribution);
    struct digest *content = arena_alloc(arena, sizeof *content);
    if (record == NULL || duplicates == NULL || copy == NULL || content == NULL) {
        return note_set(note, ERR_LIMIT, "the contribution's record does not fit into memory");
    }
    openledger__v1__contribution_record__init(record);
    record->contribution = ledger_binary(copy->id.bytes, DIGEST_SIZE);
    record->datanet = copy->datanet;
    record->contributor = ledger_binary(copy->contributor.bytes, ACCOUNT_ID_SIZE);
    record->row_count = copy->row_count;
    record->index = copy->index;
    record->state = arena_strdup(arena, STATES[copy->state]);
    record->reason = copy->reason;
    record->duplicates = duplicates;
    enum err err = content_of(datanet, contribution, content);
    if (err == ERR_OK) {
        record->content = ledger_binary(content->bytes, DIGEST_SIZE);
        if (copy->state == LEDGER_CONTRIBUTION_COMMITTED) {
            record->state = arena_strdup(arena, "uploaded");
        }
        err = add_duplicates(datanet, ledger, contribution, content, arena, record, note);
    } else if (err == ERR_NOT_FOUND) {
        err = ERR_OK; /* not uploaded yet */
    }
    if (err == ERR_OK && record->state == NULL) {
        err = ERR_LIMIT;
    }
    if (err == ERR_OK) {
        *out_record = record;
    }
    return err;
}

/* ---- versions ---- */

/* A version under construction. Arrays grow together; all on the heap until it is packed. */
struct draft {
    Openledger__V1__DatasetVersion manifest;
    struct digest *leaves;
    struct ledger_version_contributor *contributors; /* in order of appearance */
    uint32_t contributor_count;
    size_t row_capacity;
};

static void draft_deinit(struct draft *draft)
{
    free(draft->manifest.contribution_ids);
    free(draft->manifest.contribution_contents);
    free(draft->manifest.contribution_index);
    free(draft->manifest.row_index);
    free(draft->leaves);
    free(draft->contributors);
}

/* Room for one more contribution of row_count rows. */
static enum err draft_reserve(struct draft *draft, uint32_t row_count)
{
    Openledger__V1__DatasetVersion *manifest = &draft->manifest;
    size_t contributions = manifest->n_contribution_ids + 1;
    size_t rows = manifest->n_row_index + row_count;
    void *ids = realloc(manifest->contribution_ids, contributions * sizeof(ProtobufCBinaryData));
    manifest->contribution_ids = ids != NULL ? ids : manifest->contribution_ids;
    void *contents =
        realloc(manifest->contribution_contents, contributions * sizeof(ProtobufCBinaryData));
    manifest->contribution_contents = contents != NULL ? contents : manifest->contribution_contents;
    void *which = realloc(manifest->contribution_index, rows * sizeof(uint32_t));
    manifest->contribution_index = which != NULL ? which : manifest->contribution_index;
    void *row = realloc(manifest->row_index, rows * sizeof(uint32_t));
    manifest->row_index = row != NULL ? row : manifest->row_index;
    void *leaves = realloc(draft->leaves, rows * sizeof(struct digest));
    draft->leaves = leaves != NULL ? leaves : draft->leaves;
    void *contributors =
        realloc(draft->contributors, contributions * sizeof(struct ledger_version_contributor));
    draft->contributors = contributors != NULL ? contributors : draft->contributors;
    bool all = ids != NULL && contents != NULL && which != NULL && row != NULL && leaves != NULL &&
               contributors != NULL;
    /* cppcheck-suppress memleak ; the draft owns each of them */
    return all ? ERR_OK : ERR_NO_MEMORY;
}

static void draft_credit(struct draft *draft, const struct account_id *account)
{
    for (uint32_t i = 0; i < draft->contributor_count; i++) {
        if (account_id_equal(&draft->contributors[i].account, account)) {
            draft->contributors[i].row_count++;
            return;
        }
    }
    draft->contributors[draft->contributor_count++] =
        (struct ledger_version_contributor){.account = *account, .row_count = 1};
}

static enum err draft_add(struct draft *draft, const struct net *net, const struct ledger *ledger,
                          const struct ledger_contribution *contribution,
                          const Openledger__V1__Contribution *rows)
{
    enum err err = draft_reserve(draft, (uint32_t)rows->n_rows);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__DatasetVersion *manifest = &draft->manifest;
    uint32_t number = (uint32_t)manifest->n_contribution_ids++;
    manifest->n_contribution_contents++;
    manifest->contribution_ids[number] = ledger_binary(contribution->id.bytes, DIGEST_SIZE);
    manifest->contribution_contents[number] =
        ledger_binary(contribution->content.bytes, DIGEST_SIZE);
    for (uint32_t i = 0; i < rows->n_rows; i++) {
        struct dedupe_result result;
        err = find(net, ledger, contribution, i, rows, &result);
        if (err != ERR_OK) {
            return err;
        }
        if (result.verdict != DEDUPE_UNIQUE || ledger_row_withdrawn(ledger, &contribution->id, i)) {
            continue;
        }
        struct salt salt;
        CHECK(rows->rows[i]->salt.len == SALT_SIZE); /* checked before it was accepted */
        (void)memcpy(salt.bytes, rows->rows[i]->salt.data, SALT_SIZE);
        struct ledger_row_leaf leaf = {.contributor = contribution->contributor,
                                       .licence = rows->licence,
                                       .permission = (uint32_t)rows->permission};
        ledger_row_hash(&salt, ledger_bytes(rows->rows[i]->data), &leaf.row_hash);
        err = ledger_row_leaf_hash(&leaf, &draft->leaves[manifest->n_row_index]);
        if (err != ERR_OK) {
            return err;
        }
        manifest->contribution_index[manifest->n_contribution_index++] = number;
        manifest->row_index[manifest->n_row_index++] = i;
        draft_credit(draft, &contribution->contributor);
    }
    return ERR_OK;
}

static int compare_contributors(const void *a, const void *b)
{
    const struct ledger_version_contributor *x = a;
    const struct ledger_version_contributor *y = b;
    return account_id_compare(&x->account, &y->account);
}

/* The ledger's walk is in log order, which is the order of priority. */
static enum err draft_fill(struct draft *draft, struct datanet *datanet, const struct net *net,
                           const struct ledger *ledger, struct note *note)
{
    enum err err = ERR_OK;
    for (const struct ledger_contribution *contribution = ledger_next_contribution(ledger, NULL);
         contribution != NULL && err == ERR_OK;
         contribution = ledger_next_contribution(ledger, contribution)) {
        if (strcmp(contribution->datanet, net->name) != 0 ||
            contribution->state != LEDGER_CONTRIBUTION_ACCEPTED) {
            continue;
        }
        Openledger__V1__Contribution *rows;
        err = load_contribution(datanet->blobs, &contribution->content, &rows, note);
        if (err == ERR_OK) {
            err = draft_add(draft, net, ledger, contribution, rows);
            load_free(rows);
        }
    }
    if (err == ERR_OK && draft->manifest.n_row_index == 0) {
        err = note_set(note, ERR_NOT_FOUND, "datanet '%s' has no accepted rows", net->name);
    }
    if (err == ERR_OK) {
        qsort(draft->contributors, draft->contributor_count, sizeof *draft->contributors,
              compare_contributors);
    }
    return err;
}

static enum err make_action(const struct draft *draft, const struct digest *manifest,
                            struct arena *arena, Openledger__V1__PublishVersion **out_action)
{
    uint32_t count = draft->contributor_count;
    struct merkle_head head;
    merkle_head((struct merkle_leaves){draft->leaves, draft->manifest.n_row_index}, &head);
    Openledger__V1__PublishVersion *action = arena_alloc(arena, sizeof *action);
    Openledger__V1__VersionContributor *items = arena_alloc_array(arena, count, sizeof *items);
    Openledger__V1__VersionContributor **pointers =
        arena_alloc_array(arena, count, sizeof(Openledger__V1__VersionContributor *));
    uint8_t *root = arena_dup(arena, head.root.bytes, DIGEST_SIZE);
    uint8_t *digest = arena_dup(arena, manifest->bytes, DIGEST_SIZE);
    struct ledger_version_contributor *contributors =
        arena_dup(arena, draft->contributors, count * sizeof *contributors);
    if (action == NULL || items == NULL || pointers == NULL || root == NULL || digest == NULL ||
        contributors == NULL) {
        return ERR_LIMIT;
    }
    openledger__v1__publish_version__init(action);
    action->datanet = arena_strdup(arena, draft->manifest.datanet);
    action->version = draft->manifest.version;
    action->root = ledger_binary(root, DIGEST_SIZE);
    action->row_count = (uint32_t)draft->manifest.n_row_index;
    action->manifest = ledger_binary(digest, DIGEST_SIZE);
    action->contributors = pointers;
    action->n_contributors = count;
    for (uint32_t i = 0; i < count; i++) {
        openledger__v1__version_contributor__init(&items[i]);
        items[i].account = ledger_binary(contributors[i].account.bytes, ACCOUNT_ID_SIZE);
        items[i].row_count = contributors[i].row_count;
        pointers[i] = &items[i];
    }
    *out_action = action;
    return action->datanet == NULL ? ERR_LIMIT : ERR_OK;
}

enum err datanet_prepare_version(struct datanet *datanet, const struct ledger *ledger,
                                 const char *name, struct arena *arena,
                                 Openledger__V1__PublishVersion **out_action, struct note *note)
{
    const struct ledger_datanet *record = ledger_datanet(ledger, name);
    if (record == NULL) {
        return note_set(note, ERR_NOT_FOUND, "no datanet '%.64s'", name);
    }
    struct net *net = net_of(datanet, record->name);
    if (net == NULL) {
        return ERR_NO_MEMORY;
    }
    struct draft draft = {.manifest = OPENLEDGER__V1__DATASET_VERSION__INIT};
    struct buf packed;
    struct digest manifest;
    buf_init(&packed, BLOB_SIZE_MAX);
    draft.manifest.datanet = net->name;
    draft.manifest.version = record->versions + 1;
    enum err err = index_all(datanet, ledger, net, note);
    err = err != ERR_OK ? err : draft_fill(&draft, datanet, net, ledger, note);
    err = err != ERR_OK ? err : ledger_pack(&draft.manifest.base, &packed);
    err = err != ERR_OK ? err : blob_put(datanet->blobs, buf_bytes(&packed), &manifest, note);
    err = err != ERR_OK ? err : make_action(&draft, &manifest, arena, out_action);
    buf_deinit(&packed);
    draft_deinit(&draft);
    return err;
}
