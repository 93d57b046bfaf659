/* rules_data.c - datanets, contributions, versions, models, jobs, adapters. README.md has the rules in
 * words. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/machine.h"

enum {
    RANK_MAX = 1024,
    ALPHA_MAX = 65536,
    STEPS_MAX = 10000000,
    BATCH_ROWS_MAX = 4096,
    CONTEXT_MAX = 1 << 20,
    PPM = 1000000
};

/* ---- datanets ----------------------------------------------------------------------------------- */

enum err datanet_take(struct step *step, const char *name, const struct ledger_datanet **out)
{
    *out = ledger_datanet(step->ledger, name);
    return *out == NULL ? note_set(step->note, ERR_NOT_FOUND, "no datanet \"%.64s\"", name)
                        : ERR_OK;
}

enum err rule_create_datanet(struct step *step, const Openledger__V1__CreateDatanet *action)
{
    struct ledger_datanet datanet = {
        .owner = step->sender, .permission = (uint32_t)action->permission, .index = step->index};
    enum err err = step_name(step, action->name, "datanet", datanet.name);
    err = err ? err : step_text(step, action->title, LEDGER_TITLE_MAX, "title", datanet.title);
    err = err ? err
              : step_text(step, action->description, LEDGER_DESCRIPTION_MAX, "description",
                          datanet.description);
    err = err ? err
              : step_text(step, action->licence, LEDGER_LICENCE_MAX, "licence", datanet.licence);
    if (err != ERR_OK) {
        return err;
    }
    if ((int)action->permission < OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED ||
        (int)action->permission > OPENLEDGER__V1__PERMISSION__PERMISSION_CONSTRAINED) {
        return note_set(step->note, ERR_INVALID, "permission %d is unknown",
                        (int)action->permission);
    }
    if (datanet.licence[0] == '\0') {
        return note_set(step->note, ERR_INVALID, "licence is empty");
    }
    if (action->n_validators > LEDGER_VALIDATORS_MAX) {
        return note_set(step->note, ERR_LIMIT, "%zu validators, the limit is %d",
                        action->n_validators, LEDGER_VALIDATORS_MAX);
    }
    for (size_t i = 0; i < action->n_validators; i++) {
        err = step_account(step, action->validators[i], "validator", &datanet.validators[i]);
        if (err != ERR_OK) {
            return err;
        }
    }
    datanet.validator_count = (uint32_t)action->n_validators;
    if (ledger_datanet(step->ledger, datanet.name) != NULL) {
        return note_set(step->note, ERR_CONFLICT, "datanet \"%s\" exists", datanet.name);
    }
    ledger_treasury_id(datanet.name, &datanet.treasury);
    (void)state_add(step->state, STATE_DATANET, &datanet);
    return ERR_OK;
}

enum err rule_commit_rows(struct step *step, const Openledger__V1__CommitRows *action)
{
    struct ledger_contribution contribution = {.id = step->tx,
                                               .contributor = step->sender,
                                               .row_count = action->row_count,
                                               .byte_count = action->byte_count,
                                               .state = LEDGER_CONTRIBUTION_COMMITTED,
                                               .index = step->index};
    const struct ledger_datanet *found;
    enum err err = datanet_take(step, action->datanet, &found);
    err = err ? err : step_digest(step, action->root, "root", &contribution.root);
    if (err != ERR_OK) {
        return err;
    }
    if (action->row_count == 0 || action->row_count > LEDGER_ROWS_MAX || action->byte_count == 0) {
        return note_set(step->note, ERR_RANGE,
                        "%u rows of %llu bytes, allowed are 1 to %d rows, not "
                        "empty",
                        action->row_count, (unsigned long long)action->byte_count, LEDGER_ROWS_MAX);
    }
    struct ledger_datanet *datanet = state_edit(step->state, found);
    datanet->contributions++;
    memcpy(contribution.datanet, datanet->name, sizeof contribution.datanet);
    (void)state_add(step->state, STATE_CONTRIBUTION, &contribution);
    return ERR_OK;
}

static uint64_t standing(const struct step *step, const char *datanet,
                         const struct account_id *account, const struct state_standing **out)
{
    struct state_standing probe = {.account = *account};
    memcpy(probe.datanet, datanet, strlen(datanet));
    *out = state_get(step->state, STATE_STANDING, &probe);
    return *out == NULL ? 0 : (*out)->accepted_rows;
}

uint64_t contribution_counts(const struct ledger_contribution *contribution)
{
    uint32_t there = contribution->row_count - contribution->withdrawn_rows;
    if (contribution->state != LEDGER_CONTRIBUTION_ACCEPTED) {
        return 0;
    }
    return contribution->accepted_rows < there ? contribution->accepted_rows : there;
}

void standing_move(struct step *step, const struct ledger_contribution *contribution, uint64_t less,
                   uint64_t more)
{
    const struct state_standing *found;
    uint64_t rows = standing(step, contribution->datanet, &contribution->contributor, &found);
    CHECK(rows >= less);
    if (found == NULL) {
        struct state_standing fresh = {.account = contribution->contributor, .accepted_rows = more};
        memcpy(fresh.datanet, contribution->datanet, sizeof fresh.datanet);
        (void)state_add(step->state, STATE_STANDING, &fresh);
    } else {
        ((struct state_standing *)state_edit(step->state, found))->accepted_rows =
            rows - less + more;
    }
}

enum err rule_review_contribution(struct step *step,
                                  const Openledger__V1__ReviewContribution *action)
{
    struct digest id;
    struct digest content = {{0}};
    char reason[LEDGER_REASON_MAX + 1];
    enum err err = step_digest(step, action->contribution, "contribution", &id);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_contribution *found = ledger_contribution(step->ledger, &id);
    if (found == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no contribution %s", short_hex(id.bytes).text);
    }
    if (action->accept || action->content.len != 0) {
        err = step_digest(step, action->content, "content", &content);
    }
    err = err ? err : step_text(step, action->reason, LEDGER_REASON_MAX, "reason", reason);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_datanet *datanet = ledger_datanet(step->ledger, found->datanet);
    CHECK(datanet != NULL);
    if (!ledger_may_review(datanet, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only owner and validators of \"%s\" may review",
                        datanet->name);
    }
    if (found->state != LEDGER_CONTRIBUTION_COMMITTED) {
        return note_set(step->note, ERR_CONFLICT, "contribution %s is %s already",
                        short_hex(id.bytes).text,
                        found->state == LEDGER_CONTRIBUTION_WITHDRAWN ? "withdrawn" : "reviewed");
    }
    uint32_t there = found->row_count - found->withdrawn_rows;
    if (action->accept ? action->accepted_rows == 0 || action->accepted_rows > there
                       : action->accepted_rows != 0) {
        return note_set(step->note, ERR_RANGE, "%u accepted rows of %u", action->accepted_rows,
                        there);
    }
    struct ledger_contribution *contribution = state_edit(step->state, found);
    contribution->state =
        action->accept ? LEDGER_CONTRIBUTION_ACCEPTED : LEDGER_CONTRIBUTION_REJECTED;
    contribution->content = content;
    contribution->accepted_rows = action->accepted_rows;
    contribution->review_index = step->index;
    memcpy(contribution->reason, reason, sizeof contribution->reason);
    if (action->accept) {
        standing_move(step, contribution, 0, contribution_counts(contribution));
    }
    return ERR_OK;
}

/* Accounts ascend, each has that many accepted rows, and the counts sum to the version's. */
static enum err contributors_check(struct step *step, const Openledger__V1__PublishVersion *action)
{
    uint64_t sum = 0;
    struct account_id previous = {{0}};
    if (action->n_contributors == 0 || action->n_contributors > LEDGER_CONTRIBUTORS_MAX) {
        return note_set(step->note, ERR_LIMIT, "%zu contributors, allowed are 1 to %d",
                        action->n_contributors, LEDGER_CONTRIBUTORS_MAX);
    }
    for (size_t i = 0; i < action->n_contributors; i++) {
        const Openledger__V1__VersionContributor *item = action->contributors[i];
        const struct state_standing *found;
        struct account_id account;
        enum err err = step_account(step, item->account, "contributor", &account);
        if (err != ERR_OK) {
            return err;
        }
        if (i > 0 && account_id_compare(&previous, &account) >= 0) {
            return note_set(step->note, ERR_INVALID, "contributor %zu: accounts do not ascend", i);
        }
        uint64_t accepted = standing(step, action->datanet, &account, &found);
        if (item->row_count == 0 || item->row_count > accepted) {
            return note_set(step->note, ERR_RANGE, "contributor %s: %u rows, accepted were %llu",
                            short_hex(account.bytes).text, item->row_count,
                            (unsigned long long)accepted);
        }
        previous = account;
        sum += item->row_count;
    }
    return sum == action->row_count ? ERR_OK
                                    : note_set(step->note, ERR_INVALID,
                                               "contributors' rows sum to %llu, the version has "
                                               "%u",
                                               (unsigned long long)sum, action->row_count);
}

enum err rule_publish_version(struct step *step, const Openledger__V1__PublishVersion *action)
{
    struct ledger_version version = {.version = action->version,
                                     .row_count = action->row_count,
                                     .contributor_count = (uint32_t)action->n_contributors,
                                     .index = step->index};
    const struct ledger_datanet *found;
    enum err err = datanet_take(step, action->datanet, &found);
    err = err ? err : step_digest(step, action->root, "root", &version.root);
    err = err ? err : step_digest(step, action->manifest, "manifest", &version.manifest);
    if (err != ERR_OK) {
        return err;
    }
    if (!account_id_equal(&found->owner, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only the owner publishes versions of \"%s\"",
                        found->name);
    }
    if (action->version != found->versions + 1) {
        return note_set(step->note, ERR_CONFLICT, "version %u is not the next one, %u",
                        action->version, found->versions + 1);
    }
    err = contributors_check(step, action);
    if (err != ERR_OK) {
        return err;
    }
    struct ledger_datanet *datanet = state_edit(step->state, found);
    datanet->versions++;
    memcpy(version.datanet, datanet->name, sizeof version.datanet);
    (void)state_add(step->state, STATE_VERSION, &version);
    for (size_t i = 0; i < action->n_contributors; i++) {
        struct ledger_version_contributor item = {.version = version.version,
                                                  .row_count = action->contributors[i]->row_count};
        memcpy(item.datanet, datanet->name, sizeof item.datanet);
        memcpy(item.account.bytes, action->contributors[i]->account.data, ACCOUNT_ID_SIZE);
        (void)state_add(step->state, STATE_VERSION_CONTRIBUTOR, &item);
    }
    return ERR_OK;
}

/* ---- models and jobs ---------------------------------------------------------------------------- */

enum err rule_register_model(struct step *step, const Openledger__V1__RegisterModel *action)
{
    struct ledger_model model = {.developer = step->sender, .index = step->index};
    enum err err = step_name(step, action->name, "model", model.name);
    err = err ? err : step_digest(step, action->content, "content", &model.content);
    err = err ? err : step_digest(step, action->profile, "profile", &model.profile);
    err =
        err ? err : step_text(step, action->licence, LEDGER_LICENCE_MAX, "licence", model.licence);
    if (err == ERR_OK && ledger_model(step->ledger, model.name) != NULL) {
        err = note_set(step->note, ERR_CONFLICT, "model \"%s\" exists", model.name);
    }
    if (err == ERR_OK) {
        (void)state_add(step->state, STATE_MODEL, &model);
    }
    return err;
}

static enum err settings_take(struct step *step, const Openledger__V1__TrainSettings *from,
                              struct ledger_train_settings *out)
{
    if (from == NULL) {
        return note_set(step->note, ERR_INVALID, "the job has no settings");
    }
    if (from->rank == 0 || from->rank > RANK_MAX || from->alpha == 0 || from->alpha > ALPHA_MAX ||
        from->steps == 0 || from->steps > STEPS_MAX || from->batch_rows == 0 ||
        from->batch_rows > BATCH_ROWS_MAX || from->learning_rate_ppm == 0 ||
        from->learning_rate_ppm > PPM || from->warmup_steps > from->steps || from->context < 2 ||
        from->context > CONTEXT_MAX || from->weight_decay_ppm > PPM) {
        return note_set(
            step->note, ERR_RANGE,
            "settings: rank %u of 1..%d, alpha %u of 1..%d, steps %u of 1..%d, batch_rows "
            "%u of 1..%d, learning_rate_ppm %u of 1..%d, warmup_steps %u up to steps, "
            "context %u of 2..%d, weight_decay_ppm %u up to %d",
            from->rank, RANK_MAX, from->alpha, ALPHA_MAX, from->steps, STEPS_MAX, from->batch_rows,
            BATCH_ROWS_MAX, from->learning_rate_ppm, PPM, from->warmup_steps, from->context,
            CONTEXT_MAX, from->weight_decay_ppm, PPM);
    }
    *out = (struct ledger_train_settings){.rank = from->rank,
                                          .alpha = from->alpha,
                                          .steps = from->steps,
                                          .batch_rows = from->batch_rows,
                                          .learning_rate_ppm = from->learning_rate_ppm,
                                          .warmup_steps = from->warmup_steps,
                                          .context = from->context,
                                          .seed = from->seed,
                                          .digest_every = from->digest_every,
                                          .weight_decay_ppm = from->weight_decay_ppm};
    return ERR_OK;
}

enum err rule_submit_job(struct step *step, const Openledger__V1__SubmitJob *action)
{
    struct ledger_job job = {.id = step->tx,
                             .developer = step->sender,
                             .version = action->version,
                             .state = LEDGER_JOB_QUEUED,
                             .index = step->index};
    const struct ledger_datanet *datanet;
    struct account_id escrow;
    enum err err = datanet_take(step, action->datanet, &datanet);
    err = err ? err : settings_take(step, action->settings, &job.settings);
    err = err ? err : ledger_amount_parse(action->fee, "fee", &job.fee, step->note);
    if (err != ERR_OK) {
        return err;
    }
    if (datanet->permission == OPENLEDGER__V1__PERMISSION__PERMISSION_NOT_ALLOWED) {
        return note_set(step->note, ERR_DENIED, "datanet \"%s\" does not allow training",
                        datanet->name);
    }
    if (ledger_version(step->ledger, datanet->name, action->version) == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "datanet \"%s\" has no version %u",
                        datanet->name, action->version);
    }
    const struct ledger_model *model = ledger_model(step->ledger, action->model);
    if (model == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no model \"%.64s\"", action->model);
    }
    if (model->revoked) {
        return note_set(step->note, ERR_DENIED, "model \"%s\" is revoked", model->name);
    }
    memcpy(job.datanet, datanet->name, sizeof job.datanet);
    memcpy(job.model, model->name, sizeof job.model);
    (void)state_add(step->state, STATE_JOB, &job);
    ledger_job_escrow_id(&job.id, &escrow);
    return step_pay(step, &step->sender, &escrow, job.fee, "job.hold", &job.id);
}

enum err job_take(struct step *step, ProtobufCBinaryData field, const struct ledger_job **out)
{
    struct digest id;
    enum err err = step_digest(step, field, "job", &id);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_job(step->ledger, &id);
    return *out == NULL ? note_set(step->note, ERR_NOT_FOUND, "no job %s", short_hex(id.bytes).text)
                        : ERR_OK;
}

/* A claim binds while it is fresh; a trainer that vanished must not hold a job for ever. */
static bool claim_is_stale(const struct step *step, const struct ledger_job *job)
{
    return step->time_ms - job->claimed_ms >= LEDGER_CLAIM_MS;
}

enum err rule_claim_job(struct step *step, const Openledger__V1__ClaimJob *action)
{
    const struct ledger_job *found;
    enum err err = job_take(step, action->job, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (!ledger_is_bonded(step->ledger, &step->sender, LEDGER_ROLE_TRAINER)) {
        return note_set(step->note, ERR_DENIED, "trainer %s has no bond",
                        short_hex(step->sender.bytes).text);
    }
    bool mine = found->state == LEDGER_JOB_CLAIMED &&
                (account_id_equal(&found->trainer, &step->sender) || claim_is_stale(step, found));
    if (found->state != LEDGER_JOB_QUEUED && !mine) {
        return note_set(step->note, ERR_CONFLICT, "job %s is claimed by another or done",
                        short_hex(found->id.bytes).text);
    }
    struct ledger_job *job = state_edit(step->state, found);
    job->state = LEDGER_JOB_CLAIMED;
    job->trainer = step->sender;
    job->claimed_ms = step->time_ms;
    return ERR_OK;
}

enum err rule_complete_job(struct step *step, const Openledger__V1__CompleteJob *action)
{
    const struct ledger_job *found;
    struct digest root;
    struct digest transcript;
    struct digest adapter;
    struct account_id escrow;
    enum err err = job_take(step, action->job, &found);
    err = err ? err : step_digest(step, action->transcript_root, "transcript_root", &root);
    err = err ? err : step_digest(step, action->transcript, "transcript", &transcript);
    err = err ? err : step_digest(step, action->adapter, "adapter", &adapter);
    if (err != ERR_OK) {
        return err;
    }
    if (found->state != LEDGER_JOB_CLAIMED || !account_id_equal(&found->trainer, &step->sender)) {
        return note_set(step->note, found->state == LEDGER_JOB_CLAIMED ? ERR_DENIED : ERR_CONFLICT,
                        "job %s is not claimed by %s", short_hex(found->id.bytes).text,
                        short_hex(step->sender.bytes).text);
    }
    struct ledger_job *job = state_edit(step->state, found);
    job->state = LEDGER_JOB_COMPLETED;
    job->completed_ms = step->time_ms;
    job->transcript_root = root;
    job->transcript = transcript;
    job->adapter = adapter;
    ledger_job_escrow_id(&job->id, &escrow);
    return step_pay(step, &escrow, &job->trainer, job->fee, "job.fee", &job->id);
}

enum err rule_fail_job(struct step *step, const Openledger__V1__FailJob *action)
{
    const struct ledger_job *found;
    char reason[LEDGER_REASON_MAX + 1];
    struct account_id escrow;
    enum err err = job_take(step, action->job, &found);
    err = err ? err : step_text(step, action->reason, LEDGER_REASON_MAX, "reason", reason);
    if (err != ERR_OK) {
        return err;
    }
    bool is_developer = account_id_equal(&found->developer, &step->sender);
    bool is_trainer =
        found->state == LEDGER_JOB_CLAIMED && account_id_equal(&found->trainer, &step->sender);
    bool is_open = found->state == LEDGER_JOB_QUEUED ||
                   (found->state == LEDGER_JOB_CLAIMED && claim_is_stale(step, found));
    if (!is_trainer && !(is_developer && is_open)) {
        return note_set(step->note, is_developer ? ERR_CONFLICT : ERR_DENIED,
                        "job %s can be failed by its trainer, or by its developer while no trainer "
                        "holds it",
                        short_hex(found->id.bytes).text);
    }
    struct ledger_job *job = state_edit(step->state, found);
    job->state = LEDGER_JOB_FAILED;
    memcpy(job->reason, reason, sizeof job->reason);
    ledger_job_escrow_id(&job->id, &escrow);
    return step_pay(step, &escrow, &job->developer, job->fee, "job.refund", &job->id);
}

/* ---- adapters ----------------------------------------------------------------------------------- */

enum err prices_take(struct step *step, const char *prompt, const char *completion,
                     struct amount *out_prompt, struct amount *out_completion)
{
    struct amount most;
    enum err err = ledger_amount_parse(prompt, "price_prompt", out_prompt, step->note);
    err =
        err ? err : ledger_amount_parse(completion, "price_completion", out_completion, step->note);
    if (err != ERR_OK) {
        return err;
    }
    return ledger_fee(*out_prompt, *out_completion, LEDGER_TOKENS_MAX, LEDGER_TOKENS_MAX, &most) !=
                       ERR_OK ||
                   amount_compare(most, amount_from_open(AMOUNT_SUPPLY_OPEN)) > 0
               ? note_set(step->note, ERR_RANGE, "an answer could cost more than all there is")
               : ERR_OK;
}

static bool model_is_revoked(const struct step *step, const char *name)
{
    const struct ledger_model *model = ledger_model(step->ledger, name);
    CHECK(model != NULL);
    return model->revoked;
}

enum err rule_publish_adapter(struct step *step, const Openledger__V1__PublishAdapter *action)
{
    struct ledger_adapter adapter = {.developer = step->sender, .index = step->index};
    const struct ledger_job *found;
    enum err err = step_name(step, action->name, "adapter", adapter.name);
    err = err ? err : job_take(step, action->job, &found);
    err = err ? err
              : prices_take(step, action->price_prompt, action->price_completion,
                            &adapter.price_prompt, &adapter.price_completion);
    if (err != ERR_OK) {
        return err;
    }
    if (!account_id_equal(&found->developer, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only the job's developer publishes its adapter");
    }
    if (found->state != LEDGER_JOB_COMPLETED || found->published) {
        return note_set(step->note, ERR_CONFLICT, "job %s is not completed, or published already",
                        short_hex(found->id.bytes).text);
    }
    if (model_is_revoked(step, found->model)) {
        return note_set(step->note, ERR_DENIED, "model \"%s\" is revoked", found->model);
    }
    if (ledger_adapter(step->ledger, adapter.name) != NULL) {
        return note_set(step->note, ERR_CONFLICT, "adapter \"%s\" exists", adapter.name);
    }
    struct ledger_job *job = state_edit(step->state, found);
    job->published = true;
    adapter.job = job->id;
    adapter.version = job->version;
    adapter.content = job->adapter;
    memcpy(adapter.datanet, job->datanet, sizeof adapter.datanet);
    memcpy(adapter.model, job->model, sizeof adapter.model);
    (void)state_add(step->state, STATE_ADAPTER, &adapter);
    return ERR_OK;
}

enum err rule_publish_index(struct step *step, const Openledger__V1__PublishIndex *action)
{
    struct digest index;
    const struct ledger_adapter *found = ledger_adapter(step->ledger, action->adapter);
    if (found == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no adapter \"%.64s\"", action->adapter);
    }
    enum err err = step_digest(step, action->index, "index", &index);
    if (err != ERR_OK) {
        return err;
    }
    if (!ledger_is_bonded(step->ledger, &step->sender, LEDGER_ROLE_ATTRIBUTION)) {
        return note_set(step->note, ERR_DENIED, "%s has no bond as attribution",
                        short_hex(step->sender.bytes).text);
    }
    if (found->has_index) {
        return note_set(step->note, ERR_CONFLICT, "adapter \"%s\" has an index already",
                        found->name);
    }
    struct ledger_adapter *adapter = state_edit(step->state, found);
    adapter->has_index = true;
    adapter->attribution_index = index;
    return ERR_OK;
}
