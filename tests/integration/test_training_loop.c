/* test_training_loop.c - settlement, trainer and attribution as real processes: from rows on the ledger
 * to an adapter, its index, and an answer's shares paid out; with the trainer and attribution killed
 * on the way.
 *
 * What is derived here from the blobs alone must equal what the processes published. */
#include "shared/base/hex.h"
#include "tests/harness/training_world.h"

/* ---- jobs ------------------------------------------------------------------------------------------------ */

/* Through the trainer's own method. */
static struct digest submit_job(void)
{
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = 4;
    settings.alpha = 8;
    settings.steps = STEPS;
    settings.batch_rows = 8;
    settings.learning_rate_ppm = 5000;
    settings.warmup_steps = 4;
    settings.context = 96;
    settings.seed = 3;
    settings.digest_every = 10;
    Openledger__V1__SubmitJob job = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    job.datanet = text("net");
    job.version = 1;
    job.model = text("stories");
    job.settings = &settings;
    job.fee = text("5");
    ACTION(body, SUBMIT_JOB, submit_job, &job);
    struct buf signed_tx;
    struct digest id;
    uint8_t nonce[LEDGER_NONCE_SIZE] = {0};
    static uint8_t counter;
    nonce[0] = ++counter;
    struct ledger_head head;
    ledger_head(follow_ledger(follow), &head);
    struct ledger_tx tx = ledger_tx_at(&head.chain_id, &world->ids[WORLD_DEV], clock_real_ms(),
                                       LEDGER_TX_VALIDITY_MS, nonce);
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    accepted(ledger_tx_build(&tx, &body, world->keys[WORLD_DEV], &signed_tx, &id));
    Openledger__V1__SubmitRequest request = OPENLEDGER__V1__SUBMIT_REQUEST__INIT;
    request.signed_tx = ledger_binary(signed_tx.data, signed_tx.size);
    const Openledger__V1__SubmitReply *reply = call("Trainer.SubmitJob", &request.base);
    ck_assert_mem_eq(reply->tx.data, id.bytes, DIGEST_SIZE);
    buf_deinit(&signed_tx);
    return id;
}

static bool job_over(void *argument)
{
    const struct ledger_job *job = ledger_job(follow_ledger(follow), argument);
    return job != NULL && job->state >= LEDGER_JOB_COMPLETED;
}

/* Has it trained for a while, with a checkpoint behind it? */
static bool job_under_way(void *argument)
{
    Openledger__V1__GetJobRequest request = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    request.job = field(argument);
    const Openledger__V1__JobRecord *record = call("Trainer.GetJob", &request.base);
    return record->progress != NULL && record->progress->step >= 10;
}

static struct ledger_job finished(struct digest *id)
{
    ck_assert(until(job_over, id));
    const struct ledger_job *job = ledger_job(follow_ledger(follow), id);
    ck_assert_msg(job->state == LEDGER_JOB_COMPLETED, "job failed: %s", job->reason);
    return *job;
}

static void publish_adapter(const struct digest *job)
{
    struct digest id = *job;
    Openledger__V1__PublishAdapter publish = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    publish.name = text("adapter");
    publish.job = field(&id);
    publish.price_prompt = text("0.001");
    publish.price_completion = text("0.002");
    ACTION(body, PUBLISH_ADAPTER, publish_adapter, &publish);
    (void)submit(WORLD_DEV, &body);
}

static bool has_index(void *argument)
{
    const struct ledger_adapter *adapter = ledger_adapter(follow_ledger(follow), "adapter");
    (void)argument;
    return adapter != NULL && adapter->has_index;
}

/* ---- an answer --------------------------------------------------------------------------------------------- */

struct answer {
    struct digest receipt;
    struct lm_ids prompt, ids;
    struct salt salts[2];
    struct buf message; /* serialised AnswerFinished */
};

static struct digest open_lease(void)
{
    Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
    grant.gateway = ledger_binary(world->ids[WORLD_GATEWAY].bytes, ACCOUNT_ID_SIZE);
    grant.limit = text("10");
    grant.expires_ms = clock_real_ms() + 3600000;
    ACTION(body, OPEN_GRANT, open_grant, &grant);
    struct digest id = submit(WORLD_PAYER, &body);
    Openledger__V1__OpenLease lease = OPENLEDGER__V1__OPEN_LEASE__INIT;
    lease.grant = field(&id);
    lease.lease = 1;
    lease.amount = text("10");
    ACTION(body2, OPEN_LEASE, open_lease, &lease);
    (void)submit(WORLD_GATEWAY, &body2);
    return id;
}

static void tell(const char *subject, const struct buf *data)
{
    accepted(bus_stream_publish(bus, subject, buf_bytes(data), NULL, NULL, &note));
}

/* Receipt number `number` for an answer that repeats Alice's fact; settles it and opens it. */
static void serve(const struct lineage_base *base, const struct digest *grant, uint64_t number,
                  bool honest, struct answer *out)
{
    struct digest grant_copy = *grant;
    struct digest prompt_commitment;
    struct digest answer_commitment;
    struct digest head_id;
    uint8_t request_id[16] = {(uint8_t)number};
    lm_ids_init(&out->prompt, 1000);
    lm_ids_init(&out->ids, 1000);
    accepted(lm_chat_text_prompt(&base->chat, bytes_of_text("Once there was a kind princess"),
                                 &out->prompt, &note));
    accepted(lm_tokenizer_encode(
        base->tokenizer, bytes_of_text(" the blue dragon of Zanzi eats seven green pies every day"),
        false, &out->ids, &note));
    memset(&out->salts, (int)number, sizeof out->salts);
    ledger_prompt_commitment(&out->salts[0], out->prompt.items, out->prompt.count,
                             &prompt_commitment);
    ledger_answer_commitment(&out->salts[1], out->ids.items, out->ids.count, &answer_commitment);
    char fee[AMOUNT_TEXT_SIZE];
    struct amount amount;
    struct amount prices[2];
    accepted(amount_parse("0.001", &prices[0]));
    accepted(amount_parse("0.002", &prices[1]));
    accepted(ledger_fee(prices[0], prices[1], (uint32_t)out->prompt.count, (uint32_t)out->ids.count,
                        &amount));
    (void)amount_format(amount, fee);
    Openledger__V1__Receipt receipt = OPENLEDGER__V1__RECEIPT__INIT;
    receipt.grant = field(&grant_copy);
    receipt.lease = 1;
    receipt.number = number;
    receipt.request_id = ledger_binary(request_id, sizeof request_id);
    receipt.kind = OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE;
    receipt.adapter = text("adapter");
    receipt.prompt_tokens = (uint32_t)out->prompt.count;
    receipt.completion_tokens = (uint32_t)out->ids.count;
    receipt.fee = fee;
    receipt.prompt_commitment = field(&prompt_commitment);
    receipt.answer_commitment = field(&answer_commitment);
    receipt.profile = field(&model_profile);
    receipt.opened_ms = clock_real_ms();
    receipt.finished_ms = receipt.opened_ms;
    receipt.finish_reason = text("stop");
    struct buf bytes;
    struct buf batch_bytes;
    buf_init(&bytes, 1U << 16);
    buf_init(&batch_bytes, 1U << 16);
    accepted(ledger_pack(&receipt.base, &bytes));
    ledger_receipt_id(buf_bytes(&bytes), &out->receipt);
    struct ledger_head head;
    ledger_head(follow_ledger(follow), &head);
    struct bytes one = buf_bytes(&bytes);
    struct ledger_receipt_batch batch = {.chain_id = &head.chain_id,
                                         .gateway = &world->ids[WORLD_GATEWAY],
                                         .grant = grant,
                                         .lease = 1,
                                         .first_number = number,
                                         .receipts = &one,
                                         .count = 1};
    accepted(ledger_receipt_batch_sign(&batch, world->keys[WORLD_GATEWAY], &batch_bytes));
    accepted(blob_put(blobs, buf_bytes(&batch_bytes), &head_id, &note));
    Openledger__V1__ReceiptBatchPublished published = OPENLEDGER__V1__RECEIPT_BATCH_PUBLISHED__INIT;
    ProtobufCBinaryData ids[1] = {field(&out->receipt)};
    published.batch = field(&head_id);
    published.receipts = ids;
    published.n_receipts = 1;
    buf_clear(&batch_bytes);
    accepted(ledger_pack(&published.base, &batch_bytes));
    tell("ol.receipts.batch", &batch_bytes);
    Openledger__V1__Opening opening = OPENLEDGER__V1__OPENING__INIT;
    Openledger__V1__AnswerFinished finished_answer = OPENLEDGER__V1__ANSWER_FINISHED__INIT;
    opening.receipt = field(&out->receipt);
    opening.prompt_salt = ledger_binary(out->salts[0].bytes, SALT_SIZE);
    opening.answer_salt = ledger_binary(out->salts[honest ? 1 : 0].bytes, SALT_SIZE);
    opening.prompt_ids = out->prompt.items;
    opening.n_prompt_ids = out->prompt.count;
    opening.answer_ids = out->ids.items;
    opening.n_answer_ids = out->ids.count - (honest ? 0 : 1);
    opening.adapter = text("adapter");
    finished_answer.receipt = field(&out->receipt);
    finished_answer.receipt_bytes = ledger_binary(bytes.data, bytes.size);
    finished_answer.opening = &opening;
    buf_init(&out->message, 1U << 16);
    accepted(ledger_pack(&finished_answer.base, &out->message));
    tell("ol.openings.answer", &out->message);
    buf_deinit(&bytes);
    buf_deinit(&batch_bytes);
}

static void answer_deinit(struct answer *answer)
{
    lm_ids_deinit(&answer->prompt);
    lm_ids_deinit(&answer->ids);
    buf_deinit(&answer->message);
}

static bool is_shared(void *argument)
{
    const struct ledger_receipt *receipt = ledger_receipt(follow_ledger(follow), argument);
    return receipt != NULL && receipt->shared_index > 0;
}

/* What the blobs give must be what was published. */
static void check_derived(const struct lineage_base *base, const struct answer *answer)
{
    struct lineage_adapter origin;
    struct lm_adapter *adapter;
    struct attrib_index *index;
    struct attrib_result result;
    struct buf bytes;
    struct buf set;
    struct digest digest;
    accepted(lineage_adapter_init(follow_ledger(follow), "adapter", &origin, &note));
    accepted(lineage_adapter_load(blobs, base, &origin.content, &adapter, &note));
    const struct lineage_build build = {.blobs = blobs,
                                        .origin = &origin,
                                        .base = base,
                                        .adapter = adapter,
                                        .parallel = &parallel_serial};
    accepted(lineage_index_build(&build, &index, &note));
    buf_init(&bytes, ATTRIB_INDEX_MAX);
    buf_init(&set, LINEAGE_SHARE_SET_MAX);
    accepted(attrib_index_save(index, &bytes));
    sha256(buf_bytes(&bytes), &digest);
    ck_assert(digest_equal(&digest, &origin.index));
    Openledger__V1__AnswerFinished *message =
        openledger__v1__answer_finished__unpack(NULL, answer->message.size, answer->message.data);
    struct lineage_judge judge = {
        .base = base, .adapter = adapter, .index = index, .index_digest = digest};
    accepted(lineage_shares(&judge, &answer->receipt, message->opening, &parallel_serial, &result,
                            &set, &note));
    Openledger__V1__GetAttributionRequest request = OPENLEDGER__V1__GET_ATTRIBUTION_REQUEST__INIT;
    struct digest receipt = answer->receipt;
    request.receipt = field(&receipt);
    const Openledger__V1__AnswerAttribution *record =
        call("Attribution.GetAttribution", &request.base);
    ck_assert_uint_eq(record->batch.len, DIGEST_SIZE);
    buf_clear(&bytes);
    accepted(ledger_pack(&record->shares->base, &bytes));
    ck_assert(bytes_equal(buf_bytes(&bytes), buf_bytes(&set)));
    ck_assert_uint_gt(record->n_rows, 0);
    ck_assert_mem_eq(record->rows[0]->contributor.data, world->ids[WORLD_ALICE].bytes,
                     ACCOUNT_ID_SIZE);
    ck_assert_uint_gt(record->rows[0]->span_length, 8);
    ck_assert(strstr(record->rows[0]->span_text, "dragon") != NULL);
    ck_assert(strstr(record->rows[0]->excerpt, "dragon") != NULL);
    printf("unearned %.3f, first row: z %.1f span \"%s\"\n", record->shares->unearned_ppb / 1e9,
           record->rows[0]->influence, record->rows[0]->span_text);
    openledger__v1__answer_finished__free_unpacked(message, NULL);
    attrib_result_deinit(&result);
    attrib_index_destroy(index);
    lm_adapter_destroy(adapter);
    lineage_adapter_deinit(&origin);
    buf_deinit(&bytes);
    buf_deinit(&set);
}

static bool one_parked(void *argument)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__AttributionInfo *info = call("Attribution.GetInfo", &request.base);
    (void)argument;
    return info->parked == 1;
}

static void declare_openings(void)
{
    static const char *const SUBJECTS[] = {"ol.openings.>"};
    struct bus_stream openings = {
        .name = "OL_OPENINGS", .subjects = SUBJECTS, .subject_count = 1, .retention = BUS_KEEP};
    accepted(bus_stream_declare(bus, &openings));
}

/* ---- the verifier ------------------------------------------------------------------------------------------- */

/* Writes the payer's opening of an answer where `openledger verify` looks for them. */
static void publish_opening(const struct answer *answer, const char *name)
{
    char path[FILE_PATH_SIZE];
    char suffix[64];
    struct buf data;
    Openledger__V1__AnswerFinished *message =
        openledger__v1__answer_finished__unpack(NULL, answer->message.size, answer->message.data);
    buf_init(&data, 1U << 16);
    accepted(ledger_pack(&message->opening->base, &data));
    accepted(file_make_folders(inside(path, "openings", ""), &note));
    (void)snprintf(suffix, sizeof suffix, "/%s", name);
    accepted(file_write_atomic(inside(path, "openings", suffix), buf_bytes(&data), 0644, &note));
    openledger__v1__answer_finished__free_unpacked(message, NULL);
    buf_deinit(&data);
}

/* Runs `openledger verify` over the files alone; its exit code, and what it said. */
static int verify(struct buf *out)
{
    char self[FILE_PATH_SIZE];
    char program[FILE_PATH_SIZE];
    char log[FILE_PATH_SIZE];
    char blob_dir[FILE_PATH_SIZE];
    char genesis[FILE_PATH_SIZE];
    char openings[FILE_PATH_SIZE];
    char said[FILE_PATH_SIZE];
    struct process *process;
    int code = -1;
    accepted(file_self(self, &note));
    *strrchr(self, '/') = '\0';
    accepted(file_path(program, "%s/../../bin/openledger", self));
    const char *const argv[] = {program,      "verify",
                                "--log",      inside(log, "data/settlement/log", ""),
                                "--blobs",    inside(blob_dir, "blobs", ""),
                                "--genesis",  inside(genesis, "genesis", ".json"),
                                "--openings", inside(openings, "openings", ""),
                                NULL};
    const struct process_options options = {.argv = argv,
                                            .log_path = inside(said, "verify", ".log")};
    accepted(process_start(&options, &process, &note));
    accepted(process_wait(process, 60000, &code));
    process_destroy(process);
    buf_clear(out);
    accepted(file_read(said, out, &note));
    return code;
}

/* A bonded attributor that lies: everything to Bob. The ledger cannot see it; the verifier must. */
static void lie(const struct answer *answer)
{
    struct digest receipt = answer->receipt;
    struct digest index = ledger_adapter(follow_ledger(follow), "adapter")->attribution_index;
    Openledger__V1__Share bob = OPENLEDGER__V1__SHARE__INIT;
    Openledger__V1__Share *list[1] = {&bob};
    Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
    bob.account = ledger_binary(world->ids[WORLD_BOB].bytes, ACCOUNT_ID_SIZE);
    bob.share_ppb = ATTRIB_WHOLE_PPB;
    bob.influence_ppb = ATTRIB_WHOLE_PPB;
    set.receipt = field(&receipt);
    set.shares = list;
    set.n_shares = 1;
    set.index = field(&index);
    struct buf bytes;
    struct buf batch_bytes;
    struct digest digest;
    struct ledger_head head;
    buf_init(&bytes, 1U << 16);
    buf_init(&batch_bytes, 1U << 16);
    accepted(ledger_pack(&set.base, &bytes));
    struct bytes one = buf_bytes(&bytes);
    ledger_head(follow_ledger(follow), &head);
    struct ledger_share_batch batch = {.chain_id = &head.chain_id,
                                       .account = &world->ids[WORLD_ATTRIBUTION],
                                       .sets = &one,
                                       .count = 1};
    accepted(ledger_share_batch_sign(&batch, world->keys[WORLD_ATTRIBUTION], &batch_bytes));
    accepted(blob_put(blobs, buf_bytes(&batch_bytes), &digest, &note));
    Openledger__V1__ShareBatchPublished published = OPENLEDGER__V1__SHARE_BATCH_PUBLISHED__INIT;
    ProtobufCBinaryData ids[1] = {field(&receipt)};
    published.batch = field(&digest);
    published.receipts = ids;
    published.n_receipts = 1;
    buf_clear(&batch_bytes);
    accepted(ledger_pack(&published.base, &batch_bytes));
    tell("ol.shares.batch", &batch_bytes);
    buf_deinit(&bytes);
    buf_deinit(&batch_bytes);
}

/* Is everything in a sealed block that the sequencer has signed? Two seals later it is. */
static bool two_blocks_on(void *argument)
{
    struct ledger_head head;
    ledger_head(follow_ledger(follow), &head);
    return head.height >= *(uint64_t *)argument + 2;
}

static void wait_sealed(void)
{
    struct ledger_head head;
    ledger_head(follow_ledger(follow), &head);
    uint64_t height = head.height;
    ck_assert(until(two_blocks_on, &height));
}

static void check_verifier(const struct lineage_base *base, const struct digest *grant,
                           const struct answer *honest)
{
    struct buf said;
    struct answer answer;
    buf_init(&said, 1U << 20);
    publish_opening(&honest[0], "first");
    publish_opening(&honest[1], "second");
    wait_sealed();
    int code = verify(&said);
    ck_assert_msg(code == 0, "verify said %d: %s", code, buf_text(&said));
    ck_assert_msg(strstr(buf_text(&said), "2 share sets derived") != NULL, "%s", buf_text(&said));
    program_kill(ATTRIBUTION);
    serve(base, grant, 4, true, &answer);
    lie(&answer);
    ck_assert(until(is_shared, &answer.receipt));
    publish_opening(&answer, "third");
    wait_sealed();
    code = verify(&said);
    ck_assert_int_ne(code, 0);
    ck_assert_msg(strstr(buf_text(&said), "ppb and was paid as 1000000000 ppb") != NULL, "%s",
                  buf_text(&said));
    answer_deinit(&answer);
    buf_deinit(&said);
}

/* The registered profile says the precision; nobody else can. */
static void check_precisions(void)
{
    struct lineage_base *base = NULL;
    struct lineage_load asked = {.precision = LM_INT8};
    accepted(lineage_base_load(blobs, &model_content, &asked, &base, &note));
    struct digest int8 = base->profile;
    ck_assert(!digest_equal(&int8, &model_profile));
    lineage_base_destroy(base);
    struct lineage_load registered = {.profile = &int8, .serve_only = true};
    accepted(lineage_base_load(blobs, &model_content, &registered, &base, &note));
    ck_assert_int_eq(lm_model_precision(base->model), LM_INT8);
    ck_assert(digest_equal(&base->profile, &int8));
    lineage_base_destroy(base);
    base = NULL;
    registered.precision = LM_BF16;
    ck_assert_int_eq(lineage_base_load(blobs, &model_content, &registered, &base, &note),
                     ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "registered under int8, not bf16"));
    struct digest unknown = {{1}};
    struct lineage_load foreign = {.profile = &unknown};
    ck_assert_int_eq(lineage_base_load(blobs, &model_content, &foreign, &base, &note), ERR_INVALID);
    ck_assert_ptr_null(base);
}

/* ---- a disk that decays -------------------------------------------------------------------------------------- */

static void blob_place(const struct digest *digest, char out[FILE_PATH_SIZE])
{
    char hex[2 * DIGEST_SIZE + 1];
    (void)hex_encode(digest->bytes, DIGEST_SIZE, hex);
    ck_assert_int_eq(file_path(out, "%s/blobs/%.2s/%s", folder, hex, hex), ERR_OK);
}

/* Changes a byte of an object on disk; what it was goes into out. */
static void blob_damage(const struct digest *digest, struct buf *out)
{
    char path[FILE_PATH_SIZE];
    struct buf file;
    buf_init(out, BLOB_SIZE_MAX);
    buf_init(&file, BLOB_SIZE_MAX + 1);
    accepted(blob_get(blobs, digest, out, &note));
    blob_place(digest, path);
    accepted(file_read(path, &file, &note));
    file.data[file.size / 2] ^= 1;
    accepted(file_write_quick(path, buf_bytes(&file), 0644, &note));
    buf_deinit(&file);
}

static bool job_postponed(void *argument)
{
    char path[FILE_PATH_SIZE];
    struct buf log;
    buf_init(&log, 1U << 20);
    accepted(file_read(inside(path, "trainer", ".log"), &log, &note));
    bool found =
        strstr(buf_text(&log), "job_postponed") != NULL && strstr(buf_text(&log), argument) != NULL;
    buf_deinit(&log);
    return found;
}

/* The rows on the disk are not those that were published: that is no fault of the job's, which waits for them. */
static struct digest submit_over_damaged_rows(void)
{
    char path[FILE_PATH_SIZE];
    char aside[FILE_PATH_SIZE];
    struct buf rows;
    struct digest content = ledger_next_contribution(follow_ledger(follow), NULL)->content;
    struct digest again;
    blob_damage(&content, &rows);
    struct digest job = submit_job();
    blob_place(&content, path);
    accepted(file_path(aside, "%s.damaged", path));
    ck_assert(until(job_postponed, aside));
    ck_assert_uint_eq(ledger_job(follow_ledger(follow), &job)->state, LEDGER_JOB_CLAIMED);
    accepted(blob_put(blobs, buf_bytes(&rows), &again, &note));
    ck_assert(digest_equal(&again, &content) && !file_exists(aside));
    program_kill(TRAINER); /* started anew it need not wait for the queue */
    program_start(TRAINER);
    buf_deinit(&rows);
    return job;
}

START_TEST(test_from_rows_to_shares)
{
    open_account(WORLD_ALICE);
    open_account(WORLD_BOB);
    if (!publish_model()) {
        return;
    }
    publish_data();
    declare_openings();

    /* one job with its trainer killed half-way, one without: the same adapter */
    struct digest first = submit_over_damaged_rows();
    ck_assert(until(job_under_way, &first));
    program_kill(TRAINER);
    ck_assert_uint_eq(ledger_job(follow_ledger(follow), &first)->state, LEDGER_JOB_CLAIMED);
    program_start(TRAINER);
    struct ledger_job killed = finished(&first);
    struct digest second = submit_job();
    struct ledger_job whole = finished(&second);
    ck_assert(digest_equal(&killed.adapter, &whole.adapter));
    ck_assert(digest_equal(&killed.transcript_root, &whole.transcript_root));

    publish_adapter(&first);
    ck_assert(until(has_index, NULL));

    struct lineage_base *base;
    struct answer answers[3];
    accepted(lineage_base_load(blobs, &model_content, NULL, &base, &note));
    check_precisions();
    struct digest grant = open_lease();
    serve(base, &grant, 1, true, &answers[0]);
    tell("ol.openings.answer", &answers[0].message); /* at least once */
    ck_assert(until(is_shared, &answers[0].receipt));
    check_derived(base, &answers[0]);

    program_kill(ATTRIBUTION); /* the answer comes while it is away, and its index decays */
    struct digest index = ledger_adapter(follow_ledger(follow), "adapter")->attribution_index;
    struct buf index_bytes;
    struct buf found;
    blob_damage(&index, &index_bytes);
    serve(base, &grant, 2, true, &answers[1]);
    program_start(ATTRIBUTION);
    ck_assert(until(is_shared, &answers[1].receipt));
    buf_init(&found, ATTRIB_INDEX_MAX);
    accepted(blob_get(blobs, &index, &found, &note));
    ck_assert(bytes_equal(buf_bytes(&found), buf_bytes(&index_bytes)));
    buf_deinit(&found);
    buf_deinit(&index_bytes);

    serve(base, &grant, 3, false, &answers[2]); /* its opening does not open the receipt */
    ck_assert(until(one_parked, NULL));

    check_verifier(base, &grant, answers);

    char amount[AMOUNT_TEXT_SIZE];
    const struct ledger_account *alice =
        ledger_account(follow_ledger(follow), &world->ids[WORLD_ALICE]);
    ck_assert(!amount_is_zero(alice->balance));
    printf("alice earned %s OPEN\n", amount_format(alice->balance, amount));
    for (uint32_t i = 0; i < 3; i++) {
        answer_deinit(&answers[i]);
    }
    lineage_base_destroy(base);
}
END_TEST

int main(void)
{
    crypto_start();
    Suite *suite = suite_create("training_loop");
    TCase *tcase = tcase_create("processes");
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_from_rows_to_shares);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
