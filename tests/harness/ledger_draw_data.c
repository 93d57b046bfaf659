/* ledger_draw_data.c - draws what has to do with datanets, models, jobs and adapters. See ledger_draw.h. */
#include <string.h>

#include "shared/base/check.h"
#include "tests/harness/ledger_draw_inside.h"

static char *net_name(struct draw *d)
{
    return d->m->net_count == 0 || draw_wrong()
               ? draw_text(d, "nowhere")
               : draw_text(d, "%s", d->m->nets[draw_to(d->m->net_count)].name);
}

static void some_people(bool who[PEOPLE])
{
    memset(who, 0, PEOPLE * sizeof *who);
    for (int i = draw_to(4); i > 0; i--) {
        who[draw_to(PEOPLE)] = true;
    }
}

DRAW(create_datanet, CreateDatanet)
{
    static const char *const NAMES[] = {"x", "Capital", "with space", "net0"};
    bool who[PEOPLE];
    some_people(who);
    a->name =
        draw_odds(40) ? draw_text(d, "%s", NAMES[draw_to(4)]) : draw_text(d, "net%d", draw_to(8));
    a->title = draw_text(d, "A net");
    a->licence = draw_text(d, "%s", draw_wrong() ? "" : "CC0-1.0");
    a->permission = (Openledger__V1__Permission)(draw_wrong() ? draw_to(5) : 1);
    a->validators = draw_people(d, who, &a->n_validators);
}

DRAW(offer_datanet, OfferDatanet)
{
    a->datanet = net_name(d);
    int net = model_net_find(d->m, a->datanet);
    draw_sender(d, net == NOBODY ? NOBODY : d->m->nets[net].owner);
    if (!draw_wrong()) {
        a->to = draw_person(d, draw_to(PEOPLE));
    }
}

DRAW(accept_datanet, AcceptDatanet)
{
    a->datanet = net_name(d);
    int net = model_net_find(d->m, a->datanet);
    draw_sender(d, net == NOBODY ? NOBODY : d->m->nets[net].offered);
}

DRAW(set_validators, SetValidators)
{
    bool who[PEOPLE];
    some_people(who);
    a->datanet = net_name(d);
    int net = model_net_find(d->m, a->datanet);
    draw_sender(d, net == NOBODY ? NOBODY : d->m->nets[net].owner);
    a->validators = draw_people(d, who, &a->n_validators);
}

DRAW(pay_from_treasury, PayFromTreasury)
{
    char has[AMOUNT_TEXT_SIZE];
    struct account_id treasury;
    int net = draw_recent(d, d->m->net_count, NULL);
    for (int i = 0; i < d->m->net_count && !draw_wrong(); i++) { /* one that has something */
        ledger_treasury_id(d->m->nets[i].name, &treasury);
        net = amount_is_zero(*model_purse(d->m, &treasury)) || draw_odds(40) ? net : i;
    }
    const char *name = net == NOBODY ? "nowhere" : d->m->nets[net].name;
    ledger_treasury_id(name, &treasury);
    struct amount part = model_part_of(*model_purse(d->m, &treasury), 1 + (uint32_t)draw_to(2500));
    draw_sender(d, net == NOBODY ? NOBODY : d->m->nets[net].owner);
    a->datanet = draw_text(d, "%s", name);
    a->to = draw_wrong() ? ledger_binary(memcpy(d->digests[7].bytes, treasury.bytes, 32), 32)
                         : draw_person(d, NOBODY);
    a->amount = draw_wrong() ? draw_amount(d, 1, 5) : draw_text(d, "%s", amount_format(part, has));
}

/* ---- contributions ------------------------------------------------------------------------------ */

DRAW(commit_rows, CommitRows)
{
    a->datanet = net_name(d);
    a->root = draw_digest(d, &d->m->world->files);
    a->row_count = draw_wrong() ? 0 : 1 + (uint32_t)draw_to(ROWS);
    a->byte_count = draw_wrong() ? 0 : 100;
    draw_sender(d, draw_odds(60) ? (draw_odds(50) ? WORLD_ALICE : WORLD_BOB) : NOBODY);
}

static bool part_fresh(const struct model *m, int at)
{
    return m->parts[at].state == COMMITTED;
}

DRAW(review_contribution, ReviewContribution)
{
    int at = draw_recent(d, d->m->part_count, part_fresh);
    const struct model_part *part = at == NOBODY ? NULL : &d->m->parts[at];
    draw_sender(d, part == NULL ? NOBODY : d->m->nets[part->net].owner);
    a->contribution = draw_digest(d, part == NULL ? NULL : &part->id);
    a->accept = draw_odds(85);
    a->accepted_rows = draw_wrong()                ? (uint32_t)draw_to(ROWS + 3)
                       : a->accept && part != NULL ? 1 + (uint32_t)draw_to((int)part->rows)
                                                   : 0;
    if (a->accept || draw_odds(50)) {
        a->content = draw_digest(d, &d->m->world->files);
    }
}

static bool part_usable(const struct model *m, int at)
{
    return m->parts[at].state == COMMITTED || m->parts[at].state == ACCEPTED;
}

DRAW(withdraw_contribution, WithdrawContribution)
{
    int at = draw_recent(d, d->m->part_count, part_usable);
    draw_sender(d, at == NOBODY || draw_odds(60) ? NOBODY : d->m->parts[at].who);
    a->contribution = draw_digest(d, at == NOBODY ? NULL : &d->m->parts[at].id);
}

DRAW(withdraw_rows, WithdrawRows)
{
    static uint32_t rows[3];
    int at = draw_recent(d, d->m->part_count, part_usable);
    draw_sender(d, at == NOBODY ? NOBODY : d->m->parts[at].who);
    a->contribution = draw_digest(d, at == NOBODY ? NULL : &d->m->parts[at].id);
    a->n_rows = draw_wrong() ? 0 : 1 + (size_t)draw_to(2);
    a->rows = rows;
    rows[0] = (uint32_t)draw_to(ROWS / 2);
    rows[1] = draw_wrong() ? rows[0] : rows[0] + 1 + (uint32_t)draw_to(3);
}

DRAW(publish_version, PublishVersion)
{
    static Openledger__V1__VersionContributor items[PEOPLE];
    static Openledger__V1__VersionContributor *pointers[PEOPLE];
    bool who[PEOPLE] = {false};
    size_t count = 0;
    a->datanet = net_name(d);
    int net = model_net_find(d->m, a->datanet);
    draw_sender(d, net == NOBODY ? NOBODY : d->m->nets[net].owner);
    for (int i = 0; i < PEOPLE; i++) {
        who[i] = draw_wrong() || (net != NOBODY && model_standing(d->m, net, i) > 0);
    }
    const ProtobufCBinaryData *people = draw_people(d, who, &count);
    for (size_t i = 0; i < count; i++) {
        uint32_t rows = net == NOBODY ? 1 : model_standing(d->m, net, model_who(d->m, people[i]));
        openledger__v1__version_contributor__init(&items[i]);
        items[i].account = people[i];
        items[i].row_count =
            draw_wrong() || rows == 0 ? rows + 1 : 1 + (uint32_t)draw_to((int)rows);
        a->row_count += items[i].row_count;
        pointers[i] = &items[i];
    }
    a->version = (net == NOBODY ? 1 : d->m->nets[net].versions + 1) + (draw_wrong() ? 1 : 0);
    a->row_count += draw_wrong() ? 1 : 0;
    a->root = draw_digest(d, &d->m->world->files);
    a->manifest = draw_digest(d, &d->m->world->files);
    a->contributors = pointers;
    a->n_contributors = count;
}

/* ---- models and jobs ---------------------------------------------------------------------------- */

DRAW(register_model, RegisterModel)
{
    static const struct digest profile = {{0x3d}};
    a->name = draw_wrong() ? draw_text(d, "Bad") : draw_text(d, "base%d", draw_to(30));
    a->content = draw_digest(d, &d->m->world->files);
    a->profile = ledger_binary(profile.bytes, draw_wrong() ? 31 : DIGEST_SIZE);
    a->licence = draw_text(d, "Apache-2.0");
}

static bool base_good(const struct model *m, int at)
{
    return !m->bases[at].revoked;
}

static bool base_old(const struct model *m, int at)
{
    return !m->bases[at].revoked && at + 5 < m->base_count;
}

DRAW(revoke_model, RevokeModel)
{
    int at = draw_recent(d, d->m->base_count, base_old);
    draw_sender(d, at == NOBODY || draw_odds(50) ? NOBODY : d->m->bases[at].developer);
    a->model = draw_text(d, "%s", at == NOBODY || draw_wrong() ? "nothing" : d->m->bases[at].name);
}

static bool net_published(const struct model *m, int at)
{
    return m->nets[at].versions > 0 && m->nets[at].permission != 2;
}

DRAW(submit_job, SubmitJob)
{
    static Openledger__V1__TrainSettings settings;
    int net = draw_recent(d, d->m->net_count, net_published);
    int base = draw_recent(d, d->m->base_count, base_good);
    settings = (Openledger__V1__TrainSettings)OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = draw_wrong() ? 0 : 8;
    settings.alpha = 16;
    settings.steps = 10;
    settings.batch_rows = 4;
    settings.learning_rate_ppm = 1000;
    settings.context = 64;
    a->datanet =
        draw_text(d, "%s", net == NOBODY || draw_wrong() ? "nowhere" : d->m->nets[net].name);
    a->model =
        draw_text(d, "%s", base == NOBODY || draw_wrong() ? "nothing" : d->m->bases[base].name);
    a->version = net == NOBODY || draw_wrong() ? 99 : d->m->nets[net].versions;
    a->settings = draw_wrong() ? NULL : &settings;
    a->fee = draw_odds(10) ? draw_text(d, "0") : draw_amount(d, 1, 50);
}

static bool job_queued(const struct model *m, int at)
{
    return m->jobs[at].state == QUEUED;
}

static bool job_claimed(const struct model *m, int at)
{
    return m->jobs[at].state == CLAIMED;
}

static bool job_fresh(const struct model *m, int at)
{
    return m->jobs[at].state == DONE && !m->jobs[at].published;
}

static int bonded(const struct draw *d, int role)
{
    for (int i = 0; i < 60; i++) {
        int who = draw_to(PEOPLE);
        if (!amount_is_zero(d->m->bonds[who][role])) {
            return who;
        }
    }
    return NOBODY;
}

DRAW(claim_job, ClaimJob)
{
    int at = draw_recent(d, d->m->job_count, job_queued);
    draw_sender(d, bonded(d, LEDGER_ROLE_TRAINER));
    a->job = draw_digest(d, at == NOBODY ? NULL : &d->m->jobs[at].id);
}

DRAW(complete_job, CompleteJob)
{
    int at = draw_recent(d, d->m->job_count, job_claimed);
    draw_sender(d, at == NOBODY ? NOBODY : d->m->jobs[at].trainer);
    a->job = draw_digest(d, at == NOBODY ? NULL : &d->m->jobs[at].id);
    a->transcript_root = draw_digest(d, &d->m->world->files);
    a->transcript = draw_digest(d, &d->m->world->files);
    a->adapter = draw_digest(d, &d->m->world->files);
}

static bool job_open(const struct model *m, int at)
{
    return job_queued(m, at) || job_claimed(m, at);
}

DRAW(fail_job, FailJob)
{
    int at = draw_recent(d, d->m->job_count, job_open);
    const struct model_job *job = at == NOBODY ? NULL : &d->m->jobs[at];
    draw_sender(d, job == NULL || draw_odds(60) ? NOBODY
                   : job->state == CLAIMED      ? job->trainer
                                                : job->developer);
    a->job = draw_digest(d, job == NULL ? NULL : &job->id);
}

/* ---- adapters ----------------------------------------------------------------------------------- */

static void prices(struct draw *d, char **prompt, char **completion)
{
    static const char *const PRICES[] = {"0.001", "0.002", "0.005", "0"};
    *prompt = draw_wrong() ? draw_text(d, "0.0010") : draw_text(d, "%s", PRICES[draw_to(4)]);
    *completion = draw_wrong() ? draw_text(d, ".5") : draw_text(d, "%s", PRICES[draw_to(3)]);
}

DRAW(publish_adapter, PublishAdapter)
{
    int at = draw_recent(d, d->m->job_count, job_fresh);
    draw_sender(d, at == NOBODY ? NOBODY : d->m->jobs[at].developer);
    a->name = draw_text(d, draw_wrong() ? "-bad%d" : "adapter%d", draw_to(200));
    a->job = draw_digest(d, at == NOBODY ? NULL : &d->m->jobs[at].id);
    prices(d, &a->price_prompt, &a->price_completion);
}

static bool adapter_alive(const struct model *m, int at)
{
    return m->adapters[at].revoked_ms == 0 && m->adapters[at].price_count < 30;
}

static char *adapter_name(struct draw *d, int at)
{
    return draw_text(d, "%s", at == NOBODY || draw_wrong() ? "nothing" : d->m->adapters[at].name);
}

DRAW(set_price, SetPrice)
{
    int at = draw_recent(d, d->m->adapter_count, adapter_alive);
    if (at != NOBODY && d->m->adapters[at].price_count >= 30) {
        at = NOBODY;
    }
    draw_sender(d, at == NOBODY ? NOBODY : d->m->adapters[at].developer);
    a->adapter = adapter_name(d, at);
    prices(d, &a->price_prompt, &a->price_completion);
}

DRAW(revoke_adapter, RevokeAdapter)
{
    int at = draw_recent(d, d->m->adapter_count, adapter_alive);
    draw_sender(d, at == NOBODY || draw_odds(60) ? NOBODY : d->m->adapters[at].developer);
    a->adapter = adapter_name(d, at);
}

static bool adapter_unread(const struct model *m, int at)
{
    return !m->adapters[at].indexed;
}

DRAW(publish_index, PublishIndex)
{
    int at = draw_recent(d, d->m->adapter_count, adapter_unread);
    draw_sender(d, bonded(d, LEDGER_ROLE_ATTRIBUTION));
    a->adapter = adapter_name(d, at);
    a->index =
        draw_wrong() ? draw_digest(d, NULL) : ledger_binary(d->m->world->files.bytes, DIGEST_SIZE);
}
