/* settle.c - receipts and shares become money. The legs are computed here, never stated by anyone.
 *
 * A charge is split at once: platform, model (half the adapter's developer, half the base model's),
 * stakers, contributors. The contributors' part waits in the datanet's escrow for its share set; the
 * stakers' part goes to their pool, which stake.c spreads over all stake.
 *
 * Each receipt is split by itself, to the last unit; what a batch does to one account for one reason is
 * then posted as one leg that refers to the batch. legs.c derives any receipt's own legs again. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/settle.h"
#include "shared/ledger/tx.h"

/* ---- what the receipts of a batch have in common ------------------------------------------------ */

/* An adapter that occurs in the batch, looked up once. */
struct context {
    const struct ledger_adapter *adapter;
    const struct ledger_model *model;
    struct account_id escrow; /* where contributors' parts wait */
    struct account_id treasury;
    struct net members; /* contributors of its version that occurred, and what they get */
};

struct work {
    struct step *step;
    const struct settle_batch *batch;
    struct context *contexts;
    size_t context_count;
    struct net net;
};

static struct work work_begin(struct step *step)
{
    struct work work = {.step = step, .batch = step->prepared->batch};
    work.contexts = calloc(work.batch->head.count, sizeof *work.contexts);
    CHECK(work.contexts != NULL);
    return work;
}

static void work_end(struct work *work)
{
    for (size_t i = 0; i < work->context_count; i++) {
        net_deinit(&work->contexts[i].members);
    }
    free(work->contexts);
    net_deinit(&work->net);
}

/* The context of an adapter's name (no NUL behind it); NULL: no such adapter. */
static struct context *context_of(struct work *work, struct bytes name)
{
    for (size_t i = work->context_count; i > 0; i--) {
        struct context *context = &work->contexts[i - 1];
        if (strncmp(context->adapter->name, (const char *)name.data, name.size) == 0 &&
            context->adapter->name[name.size] == '\0') {
            return context;
        }
    }
    char text[LEDGER_NAME_MAX + 1] = "";
    CHECK(name.size <= LEDGER_NAME_MAX);
    memcpy(text, name.data, name.size);
    const struct ledger_adapter *adapter = ledger_adapter(work->step->ledger, text);
    if (adapter == NULL) {
        (void)note_set(work->step->note, ERR_NOT_FOUND, "no adapter \"%s\"", text);
        return NULL;
    }
    CHECK(work->context_count < work->batch->head.count);
    struct context *context = &work->contexts[work->context_count++];
    context->adapter = adapter;
    context->model = ledger_model(work->step->ledger, adapter->model);
    CHECK(context->model != NULL);
    ledger_pending_escrow_id(adapter->datanet, &context->escrow);
    ledger_treasury_id(adapter->datanet, &context->treasury);
    return context;
}

static void sum(struct work *work, const struct account_id *account, const char *reason,
                bool credit, struct amount amount)
{
    if (!amount_is_zero(amount)) {
        net_add(&work->net, net_place(&work->net, account, reason, credit), amount);
    }
}

/* ---- receipts ----------------------------------------------------------------------------------- */

enum err settle_receipt_check(const struct ledger *ledger, const struct receipt_view *receipt,
                              const struct ledger_adapter *adapter, struct note *note)
{
    const struct ledger_model *model = ledger_model(ledger, adapter->model);
    struct amount due = AMOUNT_ZERO;
    CHECK(model != NULL);
    if (!bytes_equal(receipt->profile, digest_bytes(&model->profile))) {
        return note_set(note, ERR_INVALID, "the profile is not that of model \"%s\"", model->name);
    }
    if (!receipt->is_void) {
        struct ledger_price price;
        ledger_price_at(ledger, adapter, receipt->opened_ms, &price);
        if (ledger_adapter_revoked(adapter, receipt->opened_ms)) {
            return note_set(note, ERR_DENIED, "adapter \"%s\" was revoked from %llu ms on",
                            adapter->name, (unsigned long long)adapter->revoked_ms);
        }
        enum err err = ledger_fee(price.prompt, price.completion, receipt->prompt_tokens,
                                  receipt->completion_tokens, &due);
        if (err != ERR_OK) {
            return note_set(note, err, "the fee is too large");
        }
    }
    if (!amount_equal(receipt->fee, due)) {
        char stated[AMOUNT_TEXT_SIZE];
        char text[AMOUNT_TEXT_SIZE];
        return note_set(note, ERR_INVALID, "fee %s, by the adapter's prices it is %s",
                        amount_format(receipt->fee, stated), amount_format(due, text));
    }
    return ERR_OK;
}

/* Price, profile and credit of one receipt, whose form was checked. */
static enum err charge_check(struct work *work, const struct receipt_view *receipt,
                             const struct context *context, struct ledger_lease *lease)
{
    struct note *note = work->step->note;
    struct amount drawn;
    enum err err = settle_receipt_check(work->step->ledger, receipt, context->adapter, note);
    if (err != ERR_OK) {
        return err;
    }
    if (amount_add(lease->drawn, receipt->fee, &drawn) != ERR_OK ||
        amount_compare(drawn, lease->amount) > 0) {
        char has[AMOUNT_TEXT_SIZE];
        char needs[AMOUNT_TEXT_SIZE];
        return note_set(note, ERR_FUNDS, "the lease of %s OPEN would be drawn by %s",
                        amount_format(lease->amount, has), amount_format(drawn, needs));
    }
    lease->drawn = drawn;
    return ERR_OK;
}

/* Sums a charge's parts and remembers the receipt. Its number was due, so it was never here before. */
static enum err receipt_charge(struct work *work, const struct settle_receipt *receipt,
                               struct ledger_lease *lease)
{
    struct step *step = work->step;
    const struct receipt_view *view = &receipt->view;
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    struct context *context = context_of(work, view->adapter);
    enum err err = context == NULL ? ERR_NOT_FOUND : charge_check(work, view, context, lease);
    if (err != ERR_OK) {
        return err;
    }
    struct ledger_fee_split split;
    ledger_split_fee(parameters, view->fee, &split);
    sum(work, &parameters->platform, "fee.platform", true, split.platform);
    sum(work, &context->adapter->developer, "fee.model.adapter", true, split.adapter_developer);
    sum(work, &context->model->developer, "fee.model.base", true, split.base_developer);
    sum(work, &context->escrow, "fee.contributors.hold", true, split.contributors);
    struct account_id pool;
    ledger_stakers_pool_id(&pool);
    sum(work, &pool, "fee.stakers", true, split.stakers);
    struct ledger_receipt record = {
        .id = receipt->id,
        .batch = work->batch->digest,
        .grant = lease->grant,
        .lease = lease->lease,
        .number = view->number,
        .fee = view->fee,
        .split = settle_split_pack(parameters),
        .pending = split.contributors,
        .waiting = !view->is_void,
        .charged_index = step->index,
        .shared_index = view->is_void ? step->index : 0,
        .deadline_height = step->ledger->head.height + 1 + parameters->share_deadline_blocks,
    };
    memcpy(record.adapter, context->adapter->name, sizeof record.adapter);
    (void)state_add(step->state, STATE_RECEIPT, &record);
    step_receipt(step, &record.id);
    return ERR_OK;
}

/* Grant, lease and signer of a receipt batch, ready to be drawn from. */
static enum err receipts_open(struct work *work, struct ledger_grant **out_grant,
                              struct ledger_lease **out_lease)
{
    struct step *step = work->step;
    const struct batch_view *head = &work->batch->head;
    struct digest grant_id;
    struct account_id gateway_id;
    memcpy(grant_id.bytes, head->grant.data, DIGEST_SIZE);
    memcpy(gateway_id.bytes, head->account.data, ACCOUNT_ID_SIZE);
    const struct ledger_grant *grant = ledger_grant(step->ledger, &grant_id);
    const struct ledger_lease *lease = ledger_lease(step->ledger, &grant_id, head->lease);
    if (grant == NULL || lease == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no grant %s with lease %u",
                        short_hex(grant_id.bytes).text, head->lease);
    }
    if (grant->closed) {
        return note_set(step->note, ERR_DENIED, "grant %s is closed",
                        short_hex(grant_id.bytes).text);
    }
    const struct ledger_account *gateway = ledger_account(step->ledger, &gateway_id);
    if (!account_id_equal(&grant->gateway, &gateway_id) || gateway == NULL || !gateway->has_key ||
        !bytes_equal(head->key, bytes_of(gateway->key.bytes, PUBLIC_KEY_SIZE))) {
        return note_set(step->note, ERR_DENIED, "the batch is not signed by the grant's gateway");
    }
    if (head->first_number != lease->next_number) {
        return note_set(
            step->note, ERR_CONFLICT, "the batch begins with receipt %llu, %llu is next",
            (unsigned long long)head->first_number, (unsigned long long)lease->next_number);
    }
    *out_grant = state_edit(step->state, grant);
    *out_lease = state_edit(step->state, lease);
    return ERR_OK;
}

static enum err receipts_apply(struct work *work)
{
    struct step *step = work->step;
    const struct digest *digest = &work->batch->digest;
    struct ledger_grant *grant = NULL;
    struct ledger_lease *lease = NULL;
    enum err err = receipts_open(work, &grant, &lease);
    if (err != ERR_OK) {
        return err;
    }
    CHECK(grant != NULL);
    CHECK(lease != NULL);
    struct amount before = lease->drawn;
    for (size_t i = 0; i < work->batch->head.count; i++) {
        err = receipt_charge(work, &work->batch->receipts[i], lease);
        if (err != ERR_OK) {
            return note_wrap(step->note, err, "batch %s receipt %zu", short_hex(digest->bytes).text,
                             i);
        }
    }
    struct amount charged;
    struct account_id escrow;
    CHECK(amount_sub(lease->drawn, before, &charged) == ERR_OK);
    CHECK(amount_add(grant->drawn, charged, &grant->drawn) == ERR_OK);
    lease->next_number += work->batch->head.count;
    ledger_grant_escrow_id(&grant->id, &escrow);
    sum(work, &escrow, "fee.charge", false, charged);
    return net_post(&work->net, step, digest);
}

enum err rule_settle_receipts(struct step *step, const Openledger__V1__SettleReceipts *action)
{
    (void)action; /* prepared */
    if (step->prepared->batch->err != ERR_OK) {
        return note_set(step->note, step->prepared->batch->err, "%s",
                        step->prepared->batch->note.text);
    }
    struct work work = work_begin(step);
    enum err err = receipts_apply(&work);
    work_end(&work);
    return err;
}

/* ---- shares ------------------------------------------------------------------------------------- */

static enum err shares_check(struct work *work, const struct share_set_view *set,
                             const struct ledger_receipt *receipt,
                             const struct ledger_adapter *adapter)
{
    struct note *note = work->step->note;
    if (!receipt->waiting) {
        return note_set(note, ERR_CONFLICT, "receipt %s has its shares, or was too late for them",
                        short_hex(receipt->id.bytes).text);
    }
    if (!adapter->has_index) {
        return note_set(note, ERR_CONFLICT, "adapter \"%s\" has no published index yet",
                        adapter->name);
    }
    if (!bytes_equal(set->index, digest_bytes(&adapter->attribution_index))) {
        return note_set(note, ERR_INVALID, "not the published index of adapter \"%s\"",
                        adapter->name);
    }
    return ERR_OK;
}

/* Where account's sum is. ERR_INVALID: it contributed nothing to the adapter's dataset version. */
static enum err member_place(struct work *work, struct context *context, const uint8_t *id,
                             size_t *out_place)
{
    const struct ledger_adapter *adapter = context->adapter;
    struct account_id account;
    memcpy(account.bytes, id, ACCOUNT_ID_SIZE);
    size_t known = context->members.count;
    *out_place = net_place(&context->members, &account, "fee.contributor", true);
    if (context->members.count > known && ledger_version_rows(work->step->ledger, adapter->datanet,
                                                              adapter->version, &account) == 0) {
        return note_set(work->step->note, ERR_INVALID,
                        "account %s contributed nothing to \"%s\" version %u",
                        short_hex(account.bytes).text, adapter->datanet, adapter->version);
    }
    return ERR_OK;
}

enum { PARTS_SMALL = 64 };

void settle_split_shares(struct amount pending, const struct share_set_view *set,
                         struct amount *out_parts)
{
    uint64_t small[PARTS_SMALL];
    size_t count = set->share_count + 1; /* the last one is unearned */
    uint64_t *weights = count <= PARTS_SMALL ? small : malloc(count * sizeof *weights);
    CHECK(weights != NULL);
    struct bytes shares = set->shares;
    struct share_view share;
    for (size_t i = 0; share_next(&shares, &share); i++) {
        weights[i] = share.ppb;
    }
    weights[count - 1] = set->unearned_ppb;
    CHECK(amount_split(pending, weights, NULL, count, out_parts) == ERR_OK);
    if (weights != small) {
        free(weights);
    }
}

/* Splits a receipt's waiting part: each share its portion, the rest to the datanet's treasury. */
static enum err shares_pay(struct work *work, const struct share_set_view *set,
                           struct context *context, const struct ledger_receipt *found)
{
    struct amount small[PARTS_SMALL];
    size_t count = set->share_count + 1;
    struct amount *parts = count <= PARTS_SMALL ? small : malloc(count * sizeof *parts);
    CHECK(parts != NULL);
    settle_split_shares(found->pending, set, parts);
    struct bytes shares = set->shares;
    struct share_view share;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && share_next(&shares, &share); i++) {
        size_t place;
        err = member_place(work, context, share.account, &place);
        if (err == ERR_OK) {
            net_add(&context->members, place, parts[i]);
        }
    }
    sum(work, &context->treasury, "fee.unearned", true, parts[count - 1]);
    sum(work, &context->escrow, "fee.contributors.release", false, found->pending);
    if (parts != small) {
        free(parts);
    }
    struct ledger_receipt *receipt = state_edit(work->step->state, found);
    receipt->pending = AMOUNT_ZERO;
    receipt->waiting = false;
    receipt->shared_index = work->step->index;
    step_receipt(work->step, &receipt->id);
    return err;
}

static enum err share_set_apply(struct work *work, const struct share_set_view *set,
                                const struct digest *key)
{
    const struct ledger_receipt *receipt = state_get_key(work->step->state, key);
    if (receipt == NULL) {
        return note_set(work->step->note, ERR_NOT_FOUND, "receipt %s is not settled yet",
                        short_hex(set->receipt.data).text);
    }
    struct context *context = context_of(work, bytes_of_text(receipt->adapter));
    CHECK(context != NULL);
    enum err err = shares_check(work, set, receipt, context->adapter);
    return err ? err : shares_pay(work, set, context, receipt);
}

/* Derives where the receipts are and has those places fetched, before they are needed. */
static struct digest *receipts_prefetch(const struct work *work)
{
    size_t count = work->batch->head.count;
    struct digest *ids = malloc(count * sizeof *ids);
    struct digest *keys = malloc(count * sizeof *keys);
    CHECK(ids != NULL);
    CHECK(keys != NULL);
    for (size_t i = 0; i < count; i++) {
        memcpy(ids[i].bytes, work->batch->sets[i].receipt.data, DIGEST_SIZE);
    }
    static_assert(offsetof(struct ledger_receipt, id) == 0, "an id is a probe for its receipt");
    state_keys(STATE_RECEIPT, ids, sizeof *ids, count, keys);
    for (size_t i = 0; i < count; i++) {
        state_prefetch(work->step->state, &keys[i]);
    }
    free(ids);
    return keys;
}

static enum err shares_apply(struct work *work)
{
    struct step *step = work->step;
    const struct batch_view *head = &work->batch->head;
    struct account_id signer;
    memcpy(signer.bytes, head->account.data, ACCOUNT_ID_SIZE);
    const struct ledger_account *account = ledger_account(step->ledger, &signer);
    if (account == NULL || !account->has_key ||
        !bytes_equal(head->key, bytes_of(account->key.bytes, PUBLIC_KEY_SIZE)) ||
        !ledger_is_bonded(step->ledger, &signer, LEDGER_ROLE_ATTRIBUTION)) {
        return note_set(step->note, ERR_DENIED,
                        "the batch is not signed by an account bonded as attribution");
    }
    struct digest *keys = receipts_prefetch(work);
    enum err err = ERR_OK;
    for (size_t i = 0; i < head->count && err == ERR_OK; i++) {
        err = share_set_apply(work, &work->batch->sets[i], &keys[i]);
        if (err != ERR_OK) {
            err = note_wrap(step->note, err, "batch %s share set %zu",
                            short_hex(work->batch->digest.bytes).text, i);
        }
    }
    free(keys);
    for (size_t i = 0; i < work->context_count && err == ERR_OK; i++) {
        const struct net *members = &work->contexts[i].members;
        for (size_t k = 0; k < members->count; k++) {
            sum(work, &members->sums[k].account, "fee.contributor", true, members->sums[k].amount);
        }
    }
    return err ? err : net_post(&work->net, step, &work->batch->digest);
}

enum err rule_settle_shares(struct step *step, const Openledger__V1__SettleShares *action)
{
    (void)action; /* prepared */
    if (step->prepared->batch->err != ERR_OK) {
        return note_set(step->note, step->prepared->batch->err, "%s",
                        step->prepared->batch->note.text);
    }
    struct work work = work_begin(step);
    enum err err = shares_apply(&work);
    work_end(&work);
    return err;
}

/* ---- what waited too long ----------------------------------------------------------------------- */

enum err settle_overdue(struct step *step, uint64_t height)
{
    struct net net = {.count = 0};
    const struct ledger_receipt *found = step->ledger->waiting;
    for (uint32_t sent = 0; found != NULL && sent < LEDGER_EXPIRE_MAX;
         found = state_next(step->state, STATE_RECEIPT, found)) {
        if (!found->waiting) {
            continue;
        }
        if (found->deadline_height > height) {
            break; /* receipts are in log order, so are their deadlines */
        }
        const struct ledger_adapter *adapter = ledger_adapter(step->ledger, found->adapter);
        CHECK(adapter != NULL);
        struct ledger_receipt *receipt = state_edit(step->state, found);
        struct account_id escrow;
        struct account_id treasury;
        ledger_pending_escrow_id(adapter->datanet, &escrow);
        ledger_treasury_id(adapter->datanet, &treasury);
        net_add(&net, net_place(&net, &escrow, "fee.overdue", false), receipt->pending);
        net_add(&net, net_place(&net, &treasury, "fee.overdue", true), receipt->pending);
        receipt->pending = AMOUNT_ZERO;
        receipt->waiting = false;
        receipt->shared_index = step->index;
        step_receipt(step, &receipt->id);
        sent++;
    }
    enum err err = net_post(&net, step, NULL);
    net_deinit(&net);
    return err;
}
