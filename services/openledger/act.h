/* act.h - what people do on the suite, step by step, as functions: the commands and the demo are made
 * of these. All go through the front door; errors are explained in cli->note. */
#pragma once

#include "services/openledger/cli.h"
#include "shared/base/amount.h"
#include "shared/ledger/tx.h"
#include "shared/lm/model.h"

/* Signs action by keys, whose owner is the sender, and submits it to the ledger (or, for training
 * jobs, to the trainer). Returns when it is on disk. */
MUST_USE enum err act_submit(struct cli *cli, const struct key_pair *keys,
                             Openledger__V1__TxBody *action, struct digest *out_tx);

/* The same by several: the first of the signers is the sender. */
MUST_USE enum err act_submit_signed(struct cli *cli, const struct ledger_signer *signers,
                                    size_t count, Openledger__V1__TxBody *action,
                                    struct digest *out_tx);

MUST_USE enum err act_open_account(struct cli *cli, const struct key_pair *keys, const char *name);
MUST_USE enum err act_transfer(struct cli *cli, const struct key_pair *keys,
                               const struct account_id *to, const char *amount, const char *memo,
                               struct digest *out_tx);
MUST_USE enum err act_bond(struct cli *cli, const struct key_pair *keys, Openledger__V1__Role role,
                           const char *amount);

struct act_datanet {
    const char *name, *title, *description, *licence;
};
MUST_USE enum err act_create_datanet(struct cli *cli, const struct key_pair *keys,
                                     const struct act_datanet *datanet);

/* Called as bytes of an upload are acknowledged; may be NULL. */
typedef void act_progress(void *context, uint64_t done, uint64_t total);

/* Contributes the rows of a JSONL text: salts each, signs the commitment onto the ledger, uploads,
 * finishes. An upload that was cut off goes on from state_file with the same salts and commitment. */
struct act_contribution {
    const char *datanet;
    struct bytes rows;      /* JSONL */
    const char *state_file; /* where the contribution waits until it is uploaded; or NULL */
    act_progress *progress;
    void *context;
};
MUST_USE enum err act_contribute(struct cli *cli, const struct key_pair *keys,
                                 const struct act_contribution *contribution,
                                 const Openledger__V1__ContributionRecord **out_record);
MUST_USE enum err act_review(struct cli *cli, const struct key_pair *keys,
                             const struct digest *contribution, bool accept, const char *reason);
/* Asks the datanet for the next version, signs it. */
MUST_USE enum err act_publish_version(struct cli *cli, const struct key_pair *keys,
                                      const char *datanet,
                                      const Openledger__V1__PublishVersion **out_version);

/* Puts a Hugging Face folder or a GGUF file into the blob folder and registers it as a base model. */
struct act_model {
    const char *name, *folder, *blob_folder, *licence;
    enum lm_precision precision; /* LM_STORED: as the file says */
};
MUST_USE enum err act_register_model(struct cli *cli, const struct key_pair *keys,
                                     const struct act_model *model);

struct act_job {
    const char *datanet;
    uint32_t version;
    const char *model;
    const char *fee;
    Openledger__V1__TrainSettings settings;
};
MUST_USE enum err act_train(struct cli *cli, const struct key_pair *keys, const struct act_job *job,
                            struct digest *out_job);
/* Follows a job until it ends, calling watch for each piece of news. ERR_CANCELLED: it failed, the
 * note says why. */
MUST_USE enum err act_watch(struct cli *cli, const struct digest *job,
                            void (*watch)(void *context,
                                          const Openledger__V1__TrainProgress *progress),
                            void *context);
MUST_USE enum err act_publish_adapter(struct cli *cli, const struct key_pair *keys,
                                      const char *name, const struct digest *job,
                                      const char *price_prompt, const char *price_completion);

MUST_USE enum err act_open_grant(struct cli *cli, const struct key_pair *keys, const char *limit,
                                 uint64_t expires_ms, struct digest *out_grant);
/* *out_key lives until cli_close. */
MUST_USE enum err act_api_key(struct cli *cli, const struct key_pair *keys,
                              const struct digest *grant, const char **out_key);
