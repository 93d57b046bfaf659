/* demo.h - the whole loop on real text, step by step; each file does some of the steps.
 *
 * demo.c runs the stages and ends the suite; demo_setup.c makes people, datanets, versions;
 * demo_train.c trains, publishes, measures losses; demo_ask.c asks and shows attribution and money;
 * demo_govern.c changes a parameter by vote;
 * demo_report.c writes build/demo/report.json. The demo is a client like any other: it acts through
 * the front door with keys of its own, and only the last step, `openledger verify`, runs as a program
 * of its own on the files. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "services/openledger/act.h"
#include "services/openledger/chat.h"
#include "shared/base/amount.h"
#include "shared/json/json.h"

enum {
    DEMO_NAME = 64,
    DEMO_PEOPLE_MAX = 64,
    DEMO_DATANETS_MAX = 8,
    DEMO_ADAPTERS_MAX = 9, /* one per datanet and the control */
    DEMO_PROMPTS_MAX = 8,
    DEMO_PROMPT_SIZE = 512,
    DEMO_ANSWERS_MAX = 64,
    DEMO_STAGES_MAX = 12
};

/* Someone with a key and an account. */
struct demo_person {
    char name[DEMO_NAME];
    char key[DEMO_NAME]; /* name of the key file */
    struct key_pair *keys;
    struct account_id id;
    char before[AMOUNT_TEXT_SIZE], after[AMOUNT_TEXT_SIZE]; /* around the questions */
};

struct demo_datanet {
    char name[DEMO_NAME];
    uint32_t version; /* the newest */
    uint32_t rows, contributors;
    char root[2 * DIGEST_SIZE + 1];
    char heldout[FILE_PATH_SIZE];
    char prompts[DEMO_PROMPTS_MAX][DEMO_PROMPT_SIZE];
    uint32_t prompt_count;
};

struct demo_adapter {
    char name[DEMO_NAME];
    struct demo_datanet *datanet;
    uint32_t version;
    bool control; /* trained without the planted rows */
    struct digest job;
    uint32_t steps;
    double loss_before, loss_after;        /* mean nll per token of the held-out documents */
    uint32_t heldout_rows, heldout_better; /* rows of them, and how many the adapter does better */
    double loss_of_others[DEMO_DATANETS_MAX]; /* on this datanet's documents, by adapter */
    char transcript_root[2 * DIGEST_SIZE + 1];
    struct digest content;
};

struct demo_answer {
    const struct demo_adapter *adapter;
    char prompt[DEMO_PROMPT_SIZE];
    bool planted; /* the question about the fictitious fact */
    bool asked;   /* answer below is owned */
    struct chat_answer answer;
    enum err err;
    struct note note;
    const Openledger__V1__AnswerAttribution *attribution; /* lives in the demo's cli */
    struct digest payout_tx; /* of its first contributor's leg, when there is one */
    uint64_t payout_index;
    uint32_t payout_leg;
    bool has_payout;
};

struct demo {
    struct cli cli;
    struct json *plan; /* demo.json of the corpus */
    char folder[FILE_PATH_SIZE], suite[FILE_PATH_SIZE], text[FILE_PATH_SIZE];
    char openings[FILE_PATH_SIZE], proof[FILE_PATH_SIZE], self[FILE_PATH_SIZE];
    char url[64], http[48];
    const char *model_folder;
    struct demo_person people[DEMO_PEOPLE_MAX];
    uint32_t person_count;
    struct demo_person *developer, *user, *planted;
    struct demo_datanet datanets[DEMO_DATANETS_MAX];
    uint32_t datanet_count;
    struct demo_adapter adapters[DEMO_ADAPTERS_MAX];
    uint32_t adapter_count;
    struct demo_answer answers[DEMO_ANSWERS_MAX];
    uint32_t answer_count;
    const char *api_key;
    uint32_t control_share_ppb, control_shuffled_ppb;
    struct {
        const char *name;
        double seconds;
    } stages[DEMO_STAGES_MAX];
    uint32_t stage_count;
    uint64_t stage_start_ms, start_ms;
    struct {
        char proposal[2 * DIGEST_SIZE + 1];
        char votes_for[AMOUNT_TEXT_SIZE], quorum[AMOUNT_TEXT_SIZE];
        uint32_t platform_bp_before, platform_bp_after;
        char fee[AMOUNT_TEXT_SIZE], platform_part[AMOUNT_TEXT_SIZE]; /* of the next answer */
    } governance;
    bool verified;
    uint64_t transactions, blocks;
    char supply[AMOUNT_TEXT_SIZE];
};

/* Every step: on an error demo->cli.note says what failed. */

/* demo_setup.c */
MUST_USE enum err demo_make_people(struct demo *demo); /* keys and genesis, before the suite runs */
MUST_USE enum err demo_open_accounts(struct demo *demo);
MUST_USE enum err demo_make_datanets(struct demo *demo);
struct demo_person *demo_find_person(struct demo *demo, const char *name); /* NULL: none */
const char *demo_name_of(const struct demo *demo, ProtobufCBinaryData account, char out[DEMO_NAME]);

/* demo_train.c */
MUST_USE enum err demo_train(struct demo *demo);
MUST_USE enum err demo_measure_losses(struct demo *demo);

/* demo_ask.c */
MUST_USE enum err demo_ask(struct demo *demo);       /* grant, key, questions in flight together */
MUST_USE enum err demo_attribute(struct demo *demo); /* whose data, and is the planted one found */
MUST_USE enum err demo_control(struct demo *demo);   /* the same with names shuffled */

/* The first question once more, its shares settled; *out_answer is one of demo->answers. */
MUST_USE enum err demo_ask_again(struct demo *demo, const struct demo_answer **out_answer);

/* demo_govern.c */
MUST_USE enum err
demo_govern(struct demo *demo); /* a fee parameter changes; an answer is split by it */

/* demo_report.c */
MUST_USE enum err demo_balances(struct demo *demo, bool after);
MUST_USE enum err demo_show_money(struct demo *demo);
MUST_USE enum err demo_publish_openings(struct demo *demo);
MUST_USE enum err demo_verify(struct demo *demo); /* two runs of `openledger verify` */
MUST_USE enum err demo_write_report(struct demo *demo);
