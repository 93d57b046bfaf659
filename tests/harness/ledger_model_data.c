/* ledger_model_data.c - the model of datanets, models, jobs and adapters. See ledger_model.h. */
#include <string.h>

#include "shared/base/check.h"
#include "tests/harness/ledger_model.h"

enum { NOTICE_MS = 600000, DAY_MS = 86400000 };

static bool name_good(const char *name)
{
    return strlen(name) >= 2 && strlen(name) < 16 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(name);
}

int model_net_find(const struct model *m, const char *name)
{
    for (int i = 0; i < m->net_count; i++) {
        if (strcmp(m->nets[i].name, name) == 0) {
            return i;
        }
    }
    return NOBODY;
}

/* Prices and fees may be zero; the tests' own are far below any bound. */
static bool price(const char *text, struct amount *out)
{
    if (strcmp(text, "0") == 0) {
        *out = AMOUNT_ZERO;
        return true;
    }
    return model_amount(text, out);
}

static int part_of(const struct model *m, ProtobufCBinaryData id)
{
    for (int i = 0; i < m->part_count; i++) {
        if (id.len == DIGEST_SIZE && memcmp(m->parts[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return i;
        }
    }
    return NOBODY;
}

static uint32_t rows_left(const struct model_part *part)
{
    uint32_t left = part->rows;
    for (uint32_t i = 0; i < part->rows; i++) {
        left -= part->gone[i] ? 1 : 0;
    }
    return left;
}

uint32_t model_standing(const struct model *m, int net, int who)
{
    uint32_t sum = 0;
    for (int i = 0; i < m->part_count; i++) {
        const struct model_part *part = &m->parts[i];
        if (part->net == net && part->who == who && part->state == ACCEPTED) {
            uint32_t left = rows_left(part);
            sum += part->accepted < left ? part->accepted : left;
        }
    }
    return sum;
}

/* ---- datanets ----------------------------------------------------------------------------------- */

MODEL_RULE(create_datanet, CreateDatanet)
{
    struct model_net net = {
        .owner = c->sender, .offered = NOBODY, .permission = (int)a->permission};
    NEED(name_good(a->name), ERR_INVALID);
    NEED(MODEL_TEXT(a->title, 128) && MODEL_TEXT(a->description, 1024), ERR_INVALID);
    NEED(MODEL_TEXT(a->licence, 128), ERR_INVALID);
    NEED((int)a->permission >= 1 && (int)a->permission <= 3, ERR_INVALID);
    NEED(a->licence[0] != '\0', ERR_INVALID);
    NEED(a->n_validators <= 16, ERR_LIMIT);
    for (size_t i = 0; i < a->n_validators; i++) {
        NEED(model_32(a->validators[i]), ERR_INVALID);
        net.validator[model_who(m, a->validators[i])] = true;
    }
    NEED(model_net_find(m, a->name) == NOBODY, ERR_CONFLICT);
    memcpy(net.name, a->name, strlen(a->name));
    CHECK(m->net_count < ITEMS_MAX);
    m->nets[m->net_count++] = net;
    return ERR_OK;
}

static enum err owned(struct model *m, const struct model_call *c, const char *name,
                      struct model_net **out)
{
    int net = model_net_find(m, name);
    NEED(net != NOBODY, ERR_NOT_FOUND);
    *out = &m->nets[net];
    return (*out)->owner == c->sender ? ERR_OK : ERR_DENIED;
}

MODEL_RULE(offer_datanet, OfferDatanet)
{
    struct model_net *net = NULL;
    int to = a->to.len == 0 ? NOBODY : model_who(m, a->to);
    enum err err = owned(m, c, a->datanet, &net);
    NEED(err == ERR_OK, err);
    NEED(a->to.len == 0 || model_32(a->to), ERR_INVALID);
    NEED(to != c->sender, ERR_INVALID);
    net->offered = to;
    return ERR_OK;
}

MODEL_RULE(accept_datanet, AcceptDatanet)
{
    int net = model_net_find(m, a->datanet);
    NEED(net != NOBODY, ERR_NOT_FOUND);
    NEED(m->nets[net].offered == c->sender, ERR_DENIED);
    m->nets[net].owner = c->sender;
    m->nets[net].offered = NOBODY;
    return ERR_OK;
}

MODEL_RULE(set_validators, SetValidators)
{
    struct model_net *net = NULL;
    bool fresh[PEOPLE] = {false};
    enum err err = owned(m, c, a->datanet, &net);
    NEED(err == ERR_OK, err);
    NEED(a->n_validators <= 16, ERR_LIMIT);
    for (size_t i = 0; i < a->n_validators; i++) {
        NEED(model_32(a->validators[i]), ERR_INVALID);
        NEED(i == 0 || memcmp(a->validators[i - 1].data, a->validators[i].data, 32) < 0,
             ERR_INVALID);
        fresh[model_who(m, a->validators[i])] = true;
    }
    memcpy(net->validator, fresh, sizeof fresh);
    return ERR_OK;
}

MODEL_RULE(pay_from_treasury, PayFromTreasury)
{
    struct model_net *net = NULL;
    struct account_id treasury;
    struct account_id to;
    struct amount amount;
    struct amount paid = AMOUNT_ZERO;
    enum err err = owned(m, c, a->datanet, &net);
    ledger_treasury_id(a->datanet, &treasury);
    NEED(err == ERR_OK, err);
    NEED(model_id(a->to, &to), ERR_INVALID);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    NEED(MODEL_TEXT(a->memo, 256), ERR_INVALID);
    NEED(!account_id_equal(&to, &treasury), ERR_INVALID);
    bool fresh = !net->paying || m->now_ms - net->paid_from_ms >= UINT64_C(2592000000);
    struct amount limit =
        fresh ? model_part_of(*model_purse(m, &treasury), m->treasury_bp) : net->limit;
    NEED(amount_add(fresh ? AMOUNT_ZERO : net->paid, amount, &paid) == ERR_OK, ERR_FUNDS);
    NEED(amount_compare(paid, limit) <= 0, ERR_FUNDS);
    NEED(model_pay(m, &treasury, &to, amount), ERR_FUNDS);
    net->paid_from_ms = fresh ? m->now_ms : net->paid_from_ms;
    net->paying = true;
    net->limit = limit;
    net->paid = paid;
    return ERR_OK;
}

/* ---- contributions ------------------------------------------------------------------------------ */

MODEL_RULE(commit_rows, CommitRows)
{
    int net = model_net_find(m, a->datanet);
    NEED(net != NOBODY, ERR_NOT_FOUND);
    NEED(model_32(a->root), ERR_INVALID);
    NEED(a->row_count >= 1 && a->row_count <= 100000 && a->byte_count > 0, ERR_RANGE);
    CHECK(m->part_count < ITEMS_MAX);
    CHECK(a->row_count <= ROWS);
    m->parts[m->part_count++] =
        (struct model_part){.id = c->tx, .net = net, .who = c->sender, .rows = a->row_count};
    return ERR_OK;
}

MODEL_RULE(review_contribution, ReviewContribution)
{
    int at = part_of(m, a->contribution);
    NEED(model_32(a->contribution), ERR_INVALID);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    struct model_part *part = &m->parts[at];
    const struct model_net *net = &m->nets[part->net];
    NEED(model_32(a->content) || (!a->accept && a->content.len == 0), ERR_INVALID);
    NEED(MODEL_TEXT(a->reason, 256), ERR_INVALID);
    NEED(net->owner == c->sender || net->validator[c->sender], ERR_DENIED);
    NEED(part->state == COMMITTED, ERR_CONFLICT);
    NEED(a->accept ? a->accepted_rows > 0 && a->accepted_rows <= rows_left(part)
                   : a->accepted_rows == 0,
         ERR_RANGE);
    part->state = a->accept ? ACCEPTED : REJECTED;
    part->accepted = a->accepted_rows;
    return ERR_OK;
}

static enum err mine(struct model *m, const struct model_call *c, ProtobufCBinaryData id,
                     struct model_part **out)
{
    int at = part_of(m, id);
    NEED(model_32(id), ERR_INVALID);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    *out = &m->parts[at];
    NEED((*out)->who == c->sender, ERR_DENIED);
    return (*out)->state == COMMITTED || (*out)->state == ACCEPTED ? ERR_OK : ERR_CONFLICT;
}

MODEL_RULE(withdraw_contribution, WithdrawContribution)
{
    struct model_part *part = NULL;
    enum err err = mine(m, c, a->contribution, &part);
    NEED(err == ERR_OK, err);
    part->state = WITHDRAWN;
    return ERR_OK;
}

MODEL_RULE(withdraw_rows, WithdrawRows)
{
    struct model_part *part = NULL;
    enum err err = mine(m, c, a->contribution, &part);
    NEED(err == ERR_OK, err);
    NEED(a->n_rows >= 1 && a->n_rows <= 1024, ERR_LIMIT);
    for (size_t i = 0; i < a->n_rows; i++) {
        NEED(a->rows[i] < part->rows, ERR_RANGE);
        NEED(i == 0 || a->rows[i - 1] < a->rows[i], ERR_INVALID);
        NEED(!part->gone[a->rows[i]], ERR_CONFLICT);
    }
    for (size_t i = 0; i < a->n_rows; i++) {
        part->gone[a->rows[i]] = true;
    }
    return ERR_OK;
}

MODEL_RULE(publish_version, PublishVersion)
{
    struct model_net *owner = NULL;
    struct model_version version = {.net = model_net_find(m, a->datanet), .version = a->version};
    uint32_t sum = 0;
    enum err err = owned(m, c, a->datanet, &owner);
    NEED(err != ERR_NOT_FOUND, err);
    NEED(model_32(a->root), ERR_INVALID);
    NEED(model_32(a->manifest), ERR_INVALID);
    NEED(err == ERR_OK, err);
    NEED(a->version == owner->versions + 1, ERR_CONFLICT);
    NEED(a->n_contributors >= 1 && a->n_contributors <= 8192, ERR_LIMIT);
    for (size_t i = 0; i < a->n_contributors; i++) {
        ProtobufCBinaryData account = a->contributors[i]->account;
        uint32_t rows = a->contributors[i]->row_count;
        NEED(model_32(account), ERR_INVALID);
        NEED(i == 0 || memcmp(a->contributors[i - 1]->account.data, account.data, 32) < 0,
             ERR_INVALID);
        NEED(rows > 0 && rows <= model_standing(m, version.net, model_who(m, account)), ERR_RANGE);
        version.rows[model_who(m, account)] = rows;
        sum += rows;
    }
    NEED(sum == a->row_count, ERR_INVALID);
    CHECK(m->version_count < ITEMS_MAX);
    m->versions[m->version_count++] = version;
    m->nets[version.net].versions++;
    return ERR_OK;
}

/* ---- models and jobs ---------------------------------------------------------------------------- */

static int base_find(const struct model *m, const char *name)
{
    for (int i = 0; i < m->base_count; i++) {
        if (strcmp(m->bases[i].name, name) == 0) {
            return i;
        }
    }
    return NOBODY;
}

MODEL_RULE(register_model, RegisterModel)
{
    struct model_base base = {.developer = c->sender};
    NEED(name_good(a->name), ERR_INVALID);
    NEED(model_32(a->content), ERR_INVALID);
    NEED(digest_from_bytes(ledger_bytes(a->profile), &base.profile) == ERR_OK, ERR_INVALID);
    NEED(MODEL_TEXT(a->licence, 128), ERR_INVALID);
    NEED(base_find(m, a->name) == NOBODY, ERR_CONFLICT);
    memcpy(base.name, a->name, strlen(a->name));
    CHECK(m->base_count < ITEMS_MAX);
    m->bases[m->base_count++] = base;
    return ERR_OK;
}

MODEL_RULE(revoke_model, RevokeModel)
{
    int base = base_find(m, a->model);
    NEED(MODEL_TEXT(a->reason, 256), ERR_INVALID);
    NEED(base != NOBODY, ERR_NOT_FOUND);
    NEED(m->bases[base].developer == c->sender, ERR_DENIED);
    NEED(!m->bases[base].revoked, ERR_CONFLICT);
    m->bases[base].revoked = true;
    return ERR_OK;
}

MODEL_RULE(submit_job, SubmitJob)
{
    struct model_job job = {.id = c->tx,
                            .developer = c->sender,
                            .net = model_net_find(m, a->datanet),
                            .base = base_find(m, a->model),
                            .version = a->version};
    struct account_id escrow;
    ledger_job_escrow_id(&c->tx, &escrow);
    NEED(job.net != NOBODY, ERR_NOT_FOUND);
    NEED(a->settings != NULL, ERR_INVALID);
    NEED(a->settings->rank > 0, ERR_RANGE);
    NEED(price(a->fee, &job.fee), ERR_INVALID);
    NEED(m->nets[job.net].permission != 2, ERR_DENIED);
    NEED(a->version >= 1 && a->version <= m->nets[job.net].versions, ERR_NOT_FOUND);
    NEED(job.base != NOBODY, ERR_NOT_FOUND);
    NEED(!m->bases[job.base].revoked, ERR_DENIED);
    NEED(model_pay(m, &m->ids[c->sender], &escrow, job.fee), ERR_FUNDS);
    CHECK(m->job_count < ITEMS_MAX);
    m->jobs[m->job_count++] = job;
    return ERR_OK;
}

int model_job_find(const struct model *m, ProtobufCBinaryData id)
{
    for (int i = 0; i < m->job_count; i++) {
        if (id.len == DIGEST_SIZE && memcmp(m->jobs[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return i;
        }
    }
    return NOBODY;
}

MODEL_RULE(claim_job, ClaimJob)
{
    int at = model_job_find(m, a->job);
    NEED(model_32(a->job), ERR_INVALID);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    NEED(model_bonded(m, c->sender, LEDGER_ROLE_TRAINER), ERR_DENIED);
    struct model_job *job = &m->jobs[at];
    bool again = job->state == CLAIMED &&
                 (job->trainer == c->sender || m->now_ms - job->claimed_ms >= DAY_MS);
    NEED(job->state == QUEUED || again, ERR_CONFLICT);
    job->state = CLAIMED;
    job->trainer = c->sender;
    job->claimed_ms = m->now_ms;
    return ERR_OK;
}

MODEL_RULE(complete_job, CompleteJob)
{
    int at = model_job_find(m, a->job);
    struct account_id escrow;
    NEED(model_32(a->job), ERR_INVALID);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    NEED(model_32(a->transcript_root), ERR_INVALID);
    NEED(model_32(a->transcript), ERR_INVALID);
    NEED(model_32(a->adapter), ERR_INVALID);
    NEED(m->jobs[at].state == CLAIMED, ERR_CONFLICT);
    NEED(m->jobs[at].trainer == c->sender, ERR_DENIED);
    m->jobs[at].state = DONE;
    m->jobs[at].done_ms = m->now_ms;
    ledger_job_escrow_id(&m->jobs[at].id, &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[c->sender], m->jobs[at].fee));
    return ERR_OK;
}

MODEL_RULE(fail_job, FailJob)
{
    int at = model_job_find(m, a->job);
    struct account_id escrow;
    NEED(model_32(a->job), ERR_INVALID);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    NEED(MODEL_TEXT(a->reason, 256), ERR_INVALID);
    struct model_job *job = &m->jobs[at];
    bool held = job->state == CLAIMED && m->now_ms - job->claimed_ms < DAY_MS;
    if (job->state != CLAIMED || job->trainer != c->sender) {
        NEED(job->developer == c->sender, ERR_DENIED);
        NEED(job->state == QUEUED || (job->state == CLAIMED && !held), ERR_CONFLICT);
    }
    job->state = FAILED;
    ledger_job_escrow_id(&job->id, &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[job->developer], job->fee));
    return ERR_OK;
}

/* ---- adapters ----------------------------------------------------------------------------------- */

static int adapter_find(const struct model *m, const char *name)
{
    for (int i = 0; i < m->adapter_count; i++) {
        if (strcmp(m->adapters[i].name, name) == 0) {
            return i;
        }
    }
    return NOBODY;
}

MODEL_RULE(publish_adapter, PublishAdapter)
{
    struct model_adapter adapter = {
        .job = model_job_find(m, a->job), .developer = c->sender, .price_count = 1};
    NEED(name_good(a->name), ERR_INVALID);
    NEED(model_32(a->job), ERR_INVALID);
    NEED(adapter.job != NOBODY, ERR_NOT_FOUND);
    NEED(price(a->price_prompt, &adapter.prices[0].prompt), ERR_INVALID);
    NEED(price(a->price_completion, &adapter.prices[0].completion), ERR_INVALID);
    struct model_job *job = &m->jobs[adapter.job];
    NEED(job->developer == c->sender, ERR_DENIED);
    NEED(job->state == DONE, ERR_CONFLICT);
    NEED(!job->published, ERR_CONFLICT);
    NEED(!m->bases[job->base].revoked, ERR_DENIED);
    NEED(adapter_find(m, a->name) == NOBODY, ERR_CONFLICT);
    job->published = true;
    memcpy(adapter.name, a->name, strlen(a->name));
    CHECK(m->adapter_count < ITEMS_MAX);
    m->adapters[m->adapter_count++] = adapter;
    return ERR_OK;
}

static enum err developed(struct model *m, const struct model_call *c, const char *name,
                          struct model_adapter **out)
{
    int at = adapter_find(m, name);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    *out = &m->adapters[at];
    NEED((*out)->developer == c->sender, ERR_DENIED);
    return (*out)->revoked_ms == 0 ? ERR_OK : ERR_CONFLICT;
}

MODEL_RULE(set_price, SetPrice)
{
    struct model_adapter *adapter = NULL;
    struct amount prompt = AMOUNT_ZERO;
    struct amount completion = AMOUNT_ZERO;
    enum err err = developed(m, c, a->adapter, &adapter);
    NEED(err == ERR_OK, err);
    NEED(price(a->price_prompt, &prompt), ERR_INVALID);
    NEED(price(a->price_completion, &completion), ERR_INVALID);
    CHECK(adapter->price_count < 32);
    uint64_t before = adapter->prices[adapter->price_count - 1].from_ms;
    uint64_t from = m->now_ms + NOTICE_MS;
    adapter->prices[adapter->price_count].from_ms = from > before ? from : before;
    adapter->prices[adapter->price_count].prompt = prompt;
    adapter->prices[adapter->price_count++].completion = completion;
    return ERR_OK;
}

MODEL_RULE(revoke_adapter, RevokeAdapter)
{
    struct model_adapter *adapter = NULL;
    NEED(MODEL_TEXT(a->reason, 256), ERR_INVALID);
    enum err err = developed(m, c, a->adapter, &adapter);
    NEED(err == ERR_OK, err);
    adapter->revoked_ms = m->now_ms + NOTICE_MS;
    return ERR_OK;
}

MODEL_RULE(publish_index, PublishIndex)
{
    int at = adapter_find(m, a->adapter);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    NEED(model_32(a->index), ERR_INVALID);
    NEED(model_bonded(m, c->sender, LEDGER_ROLE_ATTRIBUTION), ERR_DENIED);
    NEED(!m->adapters[at].indexed, ERR_CONFLICT);
    memcpy(m->adapters[at].index.bytes, a->index.data, DIGEST_SIZE);
    m->adapters[at].indexed = true;
    return ERR_OK;
}

enum err model_price_fits(const struct model *m, int adapter, uint64_t opened_ms, uint32_t prompt,
                          uint32_t completion, struct amount fee)
{
    const struct model_adapter *about = &m->adapters[adapter];
    uint32_t i = about->price_count - 1;
    while (i > 0 && about->prices[i].from_ms > opened_ms) {
        i--;
    }
    struct amount a;
    struct amount b;
    CHECK(amount_mul(about->prices[i].prompt, prompt, &a) == ERR_OK);
    CHECK(amount_mul(about->prices[i].completion, completion, &b) == ERR_OK);
    CHECK(amount_add(a, b, &a) == ERR_OK);
    NEED(about->revoked_ms == 0 || opened_ms < about->revoked_ms, ERR_DENIED);
    return amount_equal(a, fee) ? ERR_OK : ERR_INVALID;
}
