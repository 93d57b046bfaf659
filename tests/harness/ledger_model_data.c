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
    if (!name_good(a->name) || a->licence[0] == '\0' || (int)a->permission < 1 ||
        (int)a->permission > 3 || a->n_validators > 16 || model_net_find(m, a->name) != NOBODY) {
        return false;
    }
    for (size_t i = 0; i < a->n_validators; i++) {
        net.validator[model_who(m, a->validators[i])] = true;
    }
    memcpy(net.name, a->name, strlen(a->name));
    CHECK(m->net_count < ITEMS_MAX);
    m->nets[m->net_count++] = net;
    return true;
}

static struct model_net *owned(struct model *m, const struct model_call *c, const char *name)
{
    int net = model_net_find(m, name);
    return net == NOBODY || m->nets[net].owner != c->sender ? NULL : &m->nets[net];
}

MODEL_RULE(offer_datanet, OfferDatanet)
{
    struct model_net *net = owned(m, c, a->datanet);
    int to = a->to.len == 0 ? NOBODY : model_who(m, a->to);
    if (net == NULL || to == c->sender) {
        return false;
    }
    net->offered = to;
    return true;
}

MODEL_RULE(accept_datanet, AcceptDatanet)
{
    int net = model_net_find(m, a->datanet);
    if (net == NOBODY || m->nets[net].offered != c->sender) {
        return false;
    }
    m->nets[net].owner = c->sender;
    m->nets[net].offered = NOBODY;
    return true;
}

MODEL_RULE(set_validators, SetValidators)
{
    struct model_net *net = owned(m, c, a->datanet);
    bool fresh[PEOPLE] = {false};
    if (net == NULL || a->n_validators > 16) {
        return false;
    }
    for (size_t i = 0; i < a->n_validators; i++) {
        fresh[model_who(m, a->validators[i])] = true;
        if (i > 0 && memcmp(a->validators[i - 1].data, a->validators[i].data, 32) >= 0) {
            return false;
        }
    }
    memcpy(net->validator, fresh, sizeof fresh);
    return true;
}

MODEL_RULE(pay_from_treasury, PayFromTreasury)
{
    struct model_net *net = owned(m, c, a->datanet);
    struct account_id treasury;
    struct account_id to;
    struct amount amount;
    struct amount paid;
    ledger_treasury_id(a->datanet, &treasury);
    if (net == NULL || !model_id(a->to, &to) || !model_amount(a->amount, &amount) ||
        account_id_equal(&to, &treasury)) {
        return false;
    }
    bool fresh = !net->paying || m->now_ms - net->paid_from_ms >= UINT64_C(2592000000);
    struct amount limit =
        fresh ? model_part_of(*model_purse(m, &treasury), m->treasury_bp) : net->limit;
    if (amount_add(fresh ? AMOUNT_ZERO : net->paid, amount, &paid) != ERR_OK ||
        amount_compare(paid, limit) > 0 || !model_pay(m, &treasury, &to, amount)) {
        return false;
    }
    net->paid_from_ms = fresh ? m->now_ms : net->paid_from_ms;
    net->paying = true;
    net->limit = limit;
    net->paid = paid;
    return true;
}

/* ---- contributions ------------------------------------------------------------------------------ */

MODEL_RULE(commit_rows, CommitRows)
{
    int net = model_net_find(m, a->datanet);
    if (net == NOBODY || a->root.len != DIGEST_SIZE || a->row_count == 0 || a->row_count > 100000 ||
        a->byte_count == 0) {
        return false;
    }
    CHECK(m->part_count < ITEMS_MAX);
    CHECK(a->row_count <= ROWS);
    m->parts[m->part_count++] =
        (struct model_part){.id = c->tx, .net = net, .who = c->sender, .rows = a->row_count};
    return true;
}

MODEL_RULE(review_contribution, ReviewContribution)
{
    int at = part_of(m, a->contribution);
    if (at == NOBODY || ((a->accept || a->content.len != 0) && a->content.len != DIGEST_SIZE)) {
        return false;
    }
    struct model_part *part = &m->parts[at];
    const struct model_net *net = &m->nets[part->net];
    if ((net->owner != c->sender && !net->validator[c->sender]) || part->state != COMMITTED ||
        (a->accept ? a->accepted_rows == 0 || a->accepted_rows > rows_left(part)
                   : a->accepted_rows != 0)) {
        return false;
    }
    part->state = a->accept ? ACCEPTED : REJECTED;
    part->accepted = a->accepted_rows;
    return true;
}

static struct model_part *mine(struct model *m, const struct model_call *c, ProtobufCBinaryData id)
{
    int at = part_of(m, id);
    return at == NOBODY || m->parts[at].who != c->sender ||
                   (m->parts[at].state != COMMITTED && m->parts[at].state != ACCEPTED)
               ? NULL
               : &m->parts[at];
}

MODEL_RULE(withdraw_contribution, WithdrawContribution)
{
    struct model_part *part = mine(m, c, a->contribution);
    if (part == NULL) {
        return false;
    }
    part->state = WITHDRAWN;
    return true;
}

MODEL_RULE(withdraw_rows, WithdrawRows)
{
    struct model_part *part = mine(m, c, a->contribution);
    if (part == NULL || a->n_rows == 0 || a->n_rows > 1024) {
        return false;
    }
    for (size_t i = 0; i < a->n_rows; i++) {
        if (a->rows[i] >= part->rows || (i > 0 && a->rows[i - 1] >= a->rows[i]) ||
            part->gone[a->rows[i]]) {
            return false;
        }
    }
    for (size_t i = 0; i < a->n_rows; i++) {
        part->gone[a->rows[i]] = true;
    }
    return true;
}

MODEL_RULE(publish_version, PublishVersion)
{
    const struct model_net *owner = owned(m, c, a->datanet);
    struct model_version version = {.net = model_net_find(m, a->datanet), .version = a->version};
    uint32_t sum = 0;
    if (owner == NULL || a->root.len != DIGEST_SIZE || a->manifest.len != DIGEST_SIZE ||
        a->version != owner->versions + 1 || a->n_contributors == 0) {
        return false;
    }
    for (size_t i = 0; i < a->n_contributors; i++) {
        int who = model_who(m, a->contributors[i]->account);
        uint32_t rows = a->contributors[i]->row_count;
        if ((i > 0 && memcmp(a->contributors[i - 1]->account.data, a->contributors[i]->account.data,
                             32) >= 0) ||
            rows == 0 || rows > model_standing(m, version.net, who)) {
            return false;
        }
        version.rows[who] = rows;
        sum += rows;
    }
    if (sum != a->row_count) {
        return false;
    }
    CHECK(m->version_count < ITEMS_MAX);
    m->versions[m->version_count++] = version;
    m->nets[version.net].versions++;
    return true;
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
    if (!name_good(a->name) || a->content.len != DIGEST_SIZE ||
        digest_from_bytes(ledger_bytes(a->profile), &base.profile) != ERR_OK ||
        base_find(m, a->name) != NOBODY) {
        return false;
    }
    memcpy(base.name, a->name, strlen(a->name));
    CHECK(m->base_count < ITEMS_MAX);
    m->bases[m->base_count++] = base;
    return true;
}

MODEL_RULE(revoke_model, RevokeModel)
{
    int base = base_find(m, a->model);
    if (base == NOBODY || m->bases[base].developer != c->sender || m->bases[base].revoked) {
        return false;
    }
    m->bases[base].revoked = true;
    return true;
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
    if (job.net == NOBODY || job.base == NOBODY || a->settings == NULL || a->settings->rank == 0 ||
        m->nets[job.net].permission == 2 || a->version == 0 ||
        a->version > m->nets[job.net].versions || m->bases[job.base].revoked ||
        !price(a->fee, &job.fee) || !model_pay(m, &m->ids[c->sender], &escrow, job.fee)) {
        return false;
    }
    CHECK(m->job_count < ITEMS_MAX);
    m->jobs[m->job_count++] = job;
    return true;
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
    if (at == NOBODY || !model_bonded(m, c->sender, LEDGER_ROLE_TRAINER)) {
        return false;
    }
    struct model_job *job = &m->jobs[at];
    bool again = job->state == CLAIMED &&
                 (job->trainer == c->sender || m->now_ms - job->claimed_ms >= DAY_MS);
    if (job->state != QUEUED && !again) {
        return false;
    }
    job->state = CLAIMED;
    job->trainer = c->sender;
    job->claimed_ms = m->now_ms;
    return true;
}

MODEL_RULE(complete_job, CompleteJob)
{
    int at = model_job_find(m, a->job);
    struct account_id escrow;
    if (at == NOBODY || m->jobs[at].state != CLAIMED || m->jobs[at].trainer != c->sender ||
        a->transcript_root.len != DIGEST_SIZE || a->transcript.len != DIGEST_SIZE ||
        a->adapter.len != DIGEST_SIZE) {
        return false;
    }
    m->jobs[at].state = DONE;
    m->jobs[at].done_ms = m->now_ms;
    ledger_job_escrow_id(&m->jobs[at].id, &escrow);
    return model_pay(m, &escrow, &m->ids[c->sender], m->jobs[at].fee);
}

MODEL_RULE(fail_job, FailJob)
{
    int at = model_job_find(m, a->job);
    struct account_id escrow;
    if (at == NOBODY) {
        return false;
    }
    struct model_job *job = &m->jobs[at];
    bool held = job->state == CLAIMED && m->now_ms - job->claimed_ms < DAY_MS;
    bool trainer = job->state == CLAIMED && job->trainer == c->sender;
    bool developer =
        job->developer == c->sender && (job->state == QUEUED || (job->state == CLAIMED && !held));
    if (!trainer && !developer) {
        return false;
    }
    job->state = FAILED;
    ledger_job_escrow_id(&job->id, &escrow);
    return model_pay(m, &escrow, &m->ids[job->developer], job->fee);
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
    if (!name_good(a->name) || adapter.job == NOBODY || adapter_find(m, a->name) != NOBODY ||
        !price(a->price_prompt, &adapter.prices[0].prompt) ||
        !price(a->price_completion, &adapter.prices[0].completion)) {
        return false;
    }
    struct model_job *job = &m->jobs[adapter.job];
    if (job->developer != c->sender || job->state != DONE || job->published ||
        m->bases[job->base].revoked) {
        return false;
    }
    job->published = true;
    memcpy(adapter.name, a->name, strlen(a->name));
    CHECK(m->adapter_count < ITEMS_MAX);
    m->adapters[m->adapter_count++] = adapter;
    return true;
}

static struct model_adapter *developed(struct model *m, const struct model_call *c,
                                       const char *name)
{
    int at = adapter_find(m, name);
    return at == NOBODY || m->adapters[at].developer != c->sender || m->adapters[at].revoked_ms != 0
               ? NULL
               : &m->adapters[at];
}

MODEL_RULE(set_price, SetPrice)
{
    struct model_adapter *adapter = developed(m, c, a->adapter);
    struct amount prompt;
    struct amount completion;
    if (adapter == NULL || !price(a->price_prompt, &prompt) ||
        !price(a->price_completion, &completion)) {
        return false;
    }
    CHECK(adapter->price_count < 32);
    uint64_t before = adapter->prices[adapter->price_count - 1].from_ms;
    uint64_t from = m->now_ms + NOTICE_MS;
    adapter->prices[adapter->price_count].from_ms = from > before ? from : before;
    adapter->prices[adapter->price_count].prompt = prompt;
    adapter->prices[adapter->price_count++].completion = completion;
    return true;
}

MODEL_RULE(revoke_adapter, RevokeAdapter)
{
    struct model_adapter *adapter = developed(m, c, a->adapter);
    if (adapter == NULL || !MODEL_TEXT(a->reason, 256)) {
        return false;
    }
    adapter->revoked_ms = m->now_ms + NOTICE_MS;
    return true;
}

MODEL_RULE(publish_index, PublishIndex)
{
    int at = adapter_find(m, a->adapter);
    if (at == NOBODY || m->adapters[at].indexed ||
        !model_bonded(m, c->sender, LEDGER_ROLE_ATTRIBUTION) ||
        digest_from_bytes(ledger_bytes(a->index), &m->adapters[at].index) != ERR_OK) {
        return false;
    }
    m->adapters[at].indexed = true;
    return true;
}

bool model_price_fits(const struct model *m, int at, uint64_t opened_ms, uint32_t prompt,
                      uint32_t completion, struct amount fee)
{
    const struct model_adapter *adapter = &m->adapters[at];
    uint32_t i = adapter->price_count - 1;
    while (i > 0 && adapter->prices[i].from_ms > opened_ms) {
        i--;
    }
    struct amount a;
    struct amount b;
    CHECK(amount_mul(adapter->prices[i].prompt, prompt, &a) == ERR_OK);
    CHECK(amount_mul(adapter->prices[i].completion, completion, &b) == ERR_OK);
    CHECK(amount_add(a, b, &a) == ERR_OK);
    return amount_equal(a, fee) && (adapter->revoked_ms == 0 || opened_ms < adapter->revoked_ms);
}
