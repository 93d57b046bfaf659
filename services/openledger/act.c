/* act.c - see act.h: transactions. Contributions are in act_rows.c. */
#include "services/openledger/act.h"

#include <string.h>

#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/random.h"

enum { WATCH_POLL_MS = 500, PREPARE_TRIES = 100 };

static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed; /* protobuf-c's fields are not const; packing only reads */
}

/* The chain id, asked once per call: it is cheap, and the demo talks to one chain only. And the time that
 * a transaction is judged by: log time never goes back, so after a jump of the sequencer's clock it may be
 * far ahead of ours. */
static enum err chain_of(struct cli *cli, struct digest *out_chain, uint64_t *out_now_ms)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    enum err err = cli_call_fresh(cli, "Settlement.GetInfo", &request.base, &info);
    if (err != ERR_OK) {
        return err;
    }
    *out_now_ms = clock_real_ms() > info->time_ms ? clock_real_ms() : info->time_ms;
    return digest_from_bytes(ledger_bytes(info->chain_id), out_chain);
}

/* The first signer is the sender. */
struct signing {
    const struct ledger_signer *signers;
    size_t count;
};

static enum err submit_to(struct cli *cli, const char *method, struct signing signing,
                          Openledger__V1__TxBody *action, struct digest *out_tx)
{
    struct digest chain;
    struct digest tx;
    uint64_t now_ms = 0;
    uint8_t nonce[LEDGER_NONCE_SIZE];
    struct buf body;
    struct buf signed_tx;
    buf_init(&body, RPC_MESSAGE_MAX);
    buf_init(&signed_tx, RPC_MESSAGE_MAX);
    random_bytes(nonce, sizeof nonce);
    enum err err = chain_of(cli, &chain, &now_ms);
    if (err == ERR_OK) {
        struct ledger_tx frame =
            ledger_tx_at(&chain, signing.signers[0].account, now_ms, LEDGER_TX_VALIDITY_MS, nonce);
        err = ledger_tx_body(&frame, action, &body);
        ledger_tx_id(&chain, buf_bytes(&body), &tx);
    }
    err = err != ERR_OK ? err
                        : ledger_tx_sign(&chain, buf_bytes(&body), signing.signers, signing.count,
                                         &signed_tx);
    if (err == ERR_OK) {
        Openledger__V1__SubmitRequest request = OPENLEDGER__V1__SUBMIT_REQUEST__INIT;
        const Openledger__V1__SubmitReply *reply;
        request.signed_tx = ledger_binary(signed_tx.data, signed_tx.size);
        /* The same bytes again are the same transaction: a lost answer is no lost money. */
        for (uint32_t attempt = 0; attempt < 20; attempt++) {
            err = cli_call(cli, method, &request.base, &reply);
            if (err != ERR_UNAVAILABLE && err != ERR_TIMEOUT) {
                break;
            }
            clock_sleep_ms(500);
        }
    }
    buf_deinit(&body);
    buf_deinit(&signed_tx);
    if (err == ERR_OK && out_tx != NULL) {
        *out_tx = tx;
    }
    return err;
}

enum err act_submit(struct cli *cli, const struct key_pair *keys, Openledger__V1__TxBody *action,
                    struct digest *out_tx)
{
    struct account_id sender;
    account_id_from_key(key_pair_public(keys), &sender);
    const struct ledger_signer signer = {.account = &sender, .keys = keys};
    return act_submit_signed(cli, &signer, 1, action, out_tx);
}

enum err act_submit_signed(struct cli *cli, const struct ledger_signer *signers, size_t count,
                           Openledger__V1__TxBody *action, struct digest *out_tx)
{
    return submit_to(cli, "Settlement.Submit", (struct signing){signers, count}, action, out_tx);
}

enum err act_open_account(struct cli *cli, const struct key_pair *keys, const char *name)
{
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
    open.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
    open.name = text(name);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT;
    action.open_account = &open;
    return act_submit(cli, keys, &action, NULL);
}

enum err act_transfer(struct cli *cli, const struct key_pair *keys, const struct account_id *to,
                      const char *amount, const char *memo, struct digest *out_tx)
{
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
    transfer.to = ledger_binary(to->bytes, ACCOUNT_ID_SIZE);
    transfer.amount = text(amount);
    transfer.memo = text(memo);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_TRANSFER;
    action.transfer = &transfer;
    return act_submit(cli, keys, &action, out_tx);
}

enum err act_bond(struct cli *cli, const struct key_pair *keys, Openledger__V1__Role role,
                  const char *amount)
{
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Bond bond = OPENLEDGER__V1__BOND__INIT;
    bond.role = role;
    bond.amount = text(amount);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_BOND;
    action.bond = &bond;
    return act_submit(cli, keys, &action, NULL);
}

enum err act_create_datanet(struct cli *cli, const struct key_pair *keys,
                            const struct act_datanet *datanet)
{
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__CreateDatanet create = OPENLEDGER__V1__CREATE_DATANET__INIT;
    create.name = text(datanet->name);
    create.title = text(datanet->title);
    create.description = text(datanet->description);
    create.licence = text(datanet->licence);
    create.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CREATE_DATANET;
    action.create_datanet = &create;
    return act_submit(cli, keys, &action, NULL);
}

enum err act_review(struct cli *cli, const struct key_pair *keys, const struct digest *contribution,
                    bool accept, const char *reason)
{
    Openledger__V1__GetContributionRequest request = OPENLEDGER__V1__GET_CONTRIBUTION_REQUEST__INIT;
    const Openledger__V1__ContributionRecord *record;
    request.contribution = ledger_binary(contribution->bytes, DIGEST_SIZE);
    enum err err = cli_call_fresh(cli, "Datanet.GetContribution", &request.base, &record);
    if (err != ERR_OK) {
        return err;
    }
    if (accept && record->content.len != DIGEST_SIZE) {
        return note_set(&cli->note, ERR_CONFLICT, "the contribution has not been uploaded yet");
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__ReviewContribution review = OPENLEDGER__V1__REVIEW_CONTRIBUTION__INIT;
    review.contribution = request.contribution;
    review.accept = accept;
    review.reason = text(reason);
    if (accept) {
        review.content = record->content;
        review.accepted_rows = record->unique_rows;
    }
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_REVIEW_CONTRIBUTION;
    action.review_contribution = &review;
    return act_submit(cli, keys, &action, NULL);
}

enum err act_publish_version(struct cli *cli, const struct key_pair *keys, const char *datanet,
                             const Openledger__V1__PublishVersion **out_version)
{
    Openledger__V1__PrepareVersionRequest request = OPENLEDGER__V1__PREPARE_VERSION_REQUEST__INIT;
    const Openledger__V1__PreparedVersion *prepared = NULL;
    Openledger__V1__Empty empty = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    enum err err = cli_call_fresh(cli, "Settlement.GetInfo", &empty.base, &info);
    if (err != ERR_OK) {
        return err;
    }
    /* Every review that is on the ledger now must count, so the datanet has to have read that far. */
    request.datanet = text(datanet);
    request.after_index = info->last_index;
    for (uint32_t attempt = 0; attempt < PREPARE_TRIES; attempt++) {
        err = cli_call_fresh(cli, "Datanet.PrepareVersion", &request.base, &prepared);
        if (err != ERR_UNAVAILABLE) {
            break;
        }
        clock_sleep_ms(100);
    }
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_VERSION;
    action.publish_version = prepared->action;
    err = act_submit(cli, keys, &action, NULL);
    if (err == ERR_OK) {
        *out_version = prepared->action;
    }
    return err;
}

enum err act_train(struct cli *cli, const struct key_pair *keys, const struct act_job *job,
                   struct digest *out_job)
{
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__SubmitJob submit = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    Openledger__V1__TrainSettings settings = job->settings;
    submit.datanet = text(job->datanet);
    submit.version = job->version;
    submit.model = text(job->model);
    submit.fee = text(job->fee);
    submit.settings = &settings;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_SUBMIT_JOB;
    action.submit_job = &submit;
    struct account_id sender;
    account_id_from_key(key_pair_public(keys), &sender);
    const struct ledger_signer signer = {.account = &sender, .keys = keys};
    return submit_to(cli, "Trainer.SubmitJob", (struct signing){&signer, 1}, &action, out_job);
}

/* Polls: progress events may be lost, the ledger's word on the job is not. */
enum err act_watch(struct cli *cli, const struct digest *job,
                   void (*watch)(void *context, const Openledger__V1__TrainProgress *progress),
                   void *context)
{
    Openledger__V1__GetJobRequest request = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    request.job = ledger_binary(job->bytes, DIGEST_SIZE);
    struct arena *arena = arena_create(RPC_ARENA_MAX);
    if (arena == NULL) {
        return ERR_NO_MEMORY;
    }
    uint32_t failures = 0;
    enum err err = ERR_OK;
    for (bool going = true; going;) {
        ProtobufCMessage *message;
        arena_reset(arena);
        err =
            rpc_call(cli->client, "Trainer.GetJob", &request.base, 0, arena, &message, &cli->note);
        if (err != ERR_OK) {
            failures++; /* the trainer may be starting again */
            going = failures < 60 && err != ERR_NOT_FOUND && err != ERR_INVALID;
        } else {
            const Openledger__V1__JobRecord *record = (const Openledger__V1__JobRecord *)message;
            failures = 0;
            if (record->progress != NULL) {
                watch(context, record->progress);
            }
            going = strcmp(record->state, "completed") != 0;
            if (strcmp(record->state, "failed") == 0) {
                err = note_set(&cli->note, ERR_CANCELLED, "the job failed: %s", record->reason);
                going = false;
            }
        }
        if (going) {
            clock_sleep_ms(WATCH_POLL_MS);
        }
    }
    arena_destroy(arena);
    return err;
}

enum err act_publish_adapter(struct cli *cli, const struct key_pair *keys, const char *name,
                             const struct digest *job, const char *price_prompt,
                             const char *price_completion)
{
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__PublishAdapter publish = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    publish.name = text(name);
    publish.job = ledger_binary(job->bytes, DIGEST_SIZE);
    publish.price_prompt = text(price_prompt);
    publish.price_completion = text(price_completion);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_ADAPTER;
    action.publish_adapter = &publish;
    return act_submit(cli, keys, &action, NULL);
}

enum err act_open_grant(struct cli *cli, const struct key_pair *keys, const char *limit,
                        uint64_t expires_ms, struct digest *out_grant)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__GatewayInfo *info;
    enum err err = cli_call(cli, "Gateway.GetInfo", &request.base, &info);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__OpenGrant open = OPENLEDGER__V1__OPEN_GRANT__INIT;
    open.gateway = info->account;
    open.limit = text(limit);
    open.expires_ms = expires_ms;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_OPEN_GRANT;
    action.open_grant = &open;
    return act_submit(cli, keys, &action, out_grant);
}

enum err act_api_key(struct cli *cli, const struct key_pair *keys, const struct digest *grant,
                     const char **out_key)
{
    static const char DOMAIN[] = "openledger/apikey/v1";
    struct digest chain;
    uint64_t log_ms = 0;
    enum err err = chain_of(cli, &chain, &log_ms);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t now_ms = clock_real_ms(); /* the gateway's clock judges this, not the log's */
    struct buf message;
    struct signature signature;
    buf_init(&message, 256);
    buf_append(&message, DOMAIN, sizeof DOMAIN); /* with its NUL */
    buf_append(&message, chain.bytes, DIGEST_SIZE);
    buf_append(&message, grant->bytes, DIGEST_SIZE);
    buf_append_u64be(&message, now_ms);
    err = buf_err(&message);
    if (err == ERR_OK) {
        key_pair_sign(keys, buf_bytes(&message), &signature);
        Openledger__V1__CreateApiKeyRequest request = OPENLEDGER__V1__CREATE_API_KEY_REQUEST__INIT;
        const Openledger__V1__CreateApiKeyReply *reply;
        request.grant = ledger_binary(grant->bytes, DIGEST_SIZE);
        request.time_ms = now_ms;
        request.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
        request.signature = ledger_binary(signature.bytes, SIGNATURE_SIZE);
        err = cli_call_fresh(cli, "Gateway.CreateApiKey", &request.base, &reply);
        if (err == ERR_OK) {
            *out_key = reply->api_key;
        }
    }
    buf_deinit(&message);
    return err;
}
