/* answers.c - one answer's life after its admission (admit.c): computed, settled, shown. See desk.h.
 *
 *     admit --refused--> error object
 *       | Opened on disk
 *     start --> engine --> text events to the client (engine's thread)
 *       | done
 *     settle: Finished (receipt, opening) on disk
 *       |
 *     deliver: last chunk or whole response; a slow reader waits in desk->draining */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "services/lora-gateway/answer.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

#define DRAIN_MS                                                                                   \
    15000 /* a client that does not read the end of its answer within this is cut off */

void answer_free(struct answer *answer)
{
    engine_job_deinit(&answer->job);
    openai_request_deinit(&answer->request);
    lm_ids_deinit(&answer->prompt);
    buf_deinit(&answer->out);
    buf_deinit(&answer->receipt);
    free(answer);
}

static struct answer *answer_of(struct engine_job *job)
{
    return (struct answer *)(void *)((char *)job - offsetof(struct answer, job));
}

/* ---- talking to the client ---------------------------------------------------------------------- */

void answer_refuse(struct answer *answer, const struct openai_error *error)
{
    struct http_field fields[] = {
        {"content-type", "application/json"}, {"x-request-id", answer->id}, {"retry-after", "2"}};
    bool retry = error->status == 429 || error->status == 503;
    struct buf body;
    buf_init(&body, OPENAI_RESPONSE_MAX);
    openai_write_error(&body, error);
    http_reply_fields(answer->http, error->status,
                      (struct http_fields){.items = fields, .count = retry ? 3 : 2},
                      buf_bytes(&body));
    buf_deinit(&body);
    answer->http = NULL;
}

/* Offers everything that waits in out; what the client does not take stays there. */
static void push_out(struct answer *answer)
{
    if (answer->gone || answer->out.size == 0) {
        return;
    }
    enum err err = http_write(answer->http, buf_bytes(&answer->out));
    if (err == ERR_OK) {
        buf_clear(&answer->out);
    } else if (err != ERR_LIMIT) {
        answer->gone = true;
    }
}

void answer_begin(struct answer *answer)
{
    struct http_field fields[] = {{"content-type", "text/event-stream; charset=utf-8"},
                                  {"cache-control", "no-cache"},
                                  {"x-request-id", answer->id}};
    http_begin(answer->http, 200, (struct http_fields){.items = fields, .count = 3});
    openai_write_first(&answer->out, &answer->about);
    push_out(answer);
}

void answer_end(struct answer *answer)
{
    push_out(answer);
    if (answer->out.size > 0 && !answer->gone) {
        answer->drain_until_ms = clock_mono_ms() + DRAIN_MS;
        answer->next = answer->desk->draining;
        answer->desk->draining = answer;
        return;
    }
    http_finish(answer->http, (struct http_fields){0});
    answer_free(answer);
}

void answer_drain(struct desk *desk, uint64_t now_ms)
{
    struct answer *list = desk->draining;
    desk->draining = NULL;
    while (list != NULL) {
        struct answer *answer = list;
        list = answer->next;
        push_out(answer);
        if (answer->out.size > 0 && !answer->gone && now_ms < answer->drain_until_ms) {
            answer->next = desk->draining;
            desk->draining = answer;
            continue;
        }
        if (answer->out.size > 0) {
            http_abort(answer->http);
        } else {
            http_finish(answer->http, (struct http_fields){0});
        }
        answer_free(answer);
    }
}

void answer_reply(struct answer *answer, struct bytes text)
{
    struct http_field fields[] = {{"content-type", "application/json"},
                                  {"x-request-id", answer->id}};
    struct buf body;
    buf_init(&body, OPENAI_RESPONSE_MAX);
    openai_write_response(&body, &answer->about, text);
    http_reply_fields(answer->http, 200, (struct http_fields){.items = fields, .count = 2},
                      buf_bytes(&body));
    buf_deinit(&body);
    answer_free(answer);
}

/* Fills in what only a receipt tells. receipt and texts must live as long as about is used. */
void answer_tell(struct answer *answer, const Openledger__V1__Receipt *receipt, struct bytes data,
                 struct bytes adapter, struct answer_texts *texts)
{
    struct digest id;
    struct digest content = {{0}};
    ledger_receipt_id(data, &id);
    CHECK(digest_from_bytes(adapter, &content) == ERR_OK);
    struct openai_answer *about = &answer->about;
    about->receipt = hex_encode(id.bytes, DIGEST_SIZE, texts->receipt);
    about->adapter = digest_format(&content, texts->adapter);
    about->grant = hex_encode(receipt->grant.data, receipt->grant.len, texts->grant);
    about->lease = receipt->lease;
    about->number = receipt->number;
    about->fee = receipt->fee;
    about->prompt_tokens = receipt->prompt_tokens;
    about->completion_tokens = receipt->completion_tokens;
    about->finish_reason = strcmp(receipt->finish_reason, "stop") == 0 ? "stop" : "length";
}

/* ---- settling ------------------------------------------------------------------------------------ */

/* What opens a receipt's commitments; all zero for a void. */
struct served {
    struct bytes opening;
    struct digest adapter; /* its content */
};

/* Records the receipt of an opening. receipt gets its bytes. */
static enum err finish(struct desk *desk, const struct gateway_opening *opening,
                       const struct gateway_outcome *outcome, const struct served *served,
                       struct buf *receipt, struct desk_waiter *waiter, struct note *note)
{
    struct gateway_opening copy = *opening; /* the record removes the original */
    enum err err = gateway_receipt_write(desk->gateway, &copy, outcome, receipt);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__GatewayFinished finished = OPENLEDGER__V1__GATEWAY_FINISHED__INIT;
    finished.receipt = ledger_binary(receipt->data, receipt->size);
    finished.opening = ledger_binary(served->opening.data, served->opening.size);
    finished.adapter_content = ledger_binary(served->adapter.bytes, DIGEST_SIZE);
    if (copy.idempotent) {
        finished.idempotency = ledger_binary(copy.idempotency.bytes, DIGEST_SIZE);
        finished.body = ledger_binary(copy.body.bytes, DIGEST_SIZE);
    }
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED;
    record.finished = &finished;
    metric_add(outcome->served ? desk->answers_total : desk->voids_total, 1);
    metric_add(desk->tokens_total, outcome->completion_tokens);
    return desk_record(desk, &record, waiter, note);
}

enum err answer_void(struct desk *desk, const struct gateway_opening *opening, struct note *note)
{
    struct gateway_outcome outcome = {.finished_ms = clock_real_ms(), .finish_reason = "restart"};
    const struct served none = {.opening = {0}};
    struct buf receipt;
    buf_init(&receipt, GATEWAY_RECEIPT_MAX);
    enum err err = finish(desk, opening, &outcome, &none, &receipt, NULL, note);
    buf_deinit(&receipt);
    return err;
}

static void deliver_failure(struct answer *answer)
{
    struct openai_error error;
    bool stopping = answer->job.end == ENGINE_CANCELLED;
    const char *why = stopping ? "the gateway is stopping" : answer->job.note.text;
    (void)openai_fail(&error, ERR_UNAVAILABLE, stopping ? 503 : 500, NULL, NULL,
                      "the answer could not be computed: %.200s; nothing was charged",
                      why[0] == '\0' ? err_meaning(answer->job.err) : why);
    if (!answer->request.stream) {
        answer_refuse(answer, &error);
        answer_free(answer);
        return;
    }
    openai_write_error_event(&answer->out, &error);
    answer_end(answer);
}

/* The receipt is on disk: the client may see the end. */
static void deliver(struct desk_waiter *waiter)
{
    struct answer *answer = (struct answer *)waiter;
    struct desk *desk = answer->desk;
    struct answer_texts texts;
    metric_observe(desk->answer_seconds,
                   (double)(clock_mono_ms() - answer->opened_mono_ms) / 1000.0);
    Openledger__V1__Receipt *receipt =
        openledger__v1__receipt__unpack(NULL, answer->receipt.size, answer->receipt.data);
    CHECK(receipt != NULL); /* we have just made it */
    if (receipt->kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_VOID) {
        deliver_failure(answer);
    } else {
        answer_tell(answer, receipt, buf_bytes(&answer->receipt),
                    digest_bytes(&answer->job.adapter), &texts);
        if (answer->request.stream) {
            openai_write_finish(&answer->out, &answer->about, answer->request.include_usage);
            answer_end(answer);
        } else {
            answer_reply(answer, buf_bytes(&answer->job.text));
        }
    }
    openledger__v1__receipt__free_unpacked(receipt, NULL);
}

/* What the receipt commits to, serialised. */
static enum err write_opening(const struct answer *answer, const struct digest *receipt,
                              struct buf *out)
{
    const struct engine_job *job = &answer->job;
    Openledger__V1__Opening opening = OPENLEDGER__V1__OPENING__INIT;
    opening.receipt = ledger_binary(receipt->bytes, DIGEST_SIZE);
    opening.prompt_salt = ledger_binary(answer->prompt_salt.bytes, SALT_SIZE);
    opening.answer_salt = ledger_binary(answer->answer_salt.bytes, SALT_SIZE);
    opening.n_prompt_ids = answer->prompt.count;
    opening.prompt_ids = answer->prompt.items;
    opening.n_answer_ids = job->id_count;
    opening.answer_ids = job->ids;
    opening.adapter = (char *)(uintptr_t)answer->model;
    opening.answer_text = (char *)(uintptr_t)buf_text(&job->text);
    return ledger_pack(&opening.base, out);
}

static enum err settle_answer(struct answer *answer, struct note *note)
{
    struct desk *desk = answer->desk;
    const struct engine_job *job = &answer->job;
    const struct gateway_opening *opening = gateway_opening_find(desk->gateway, answer->request_id);
    CHECK(opening != NULL);
    bool ended = job->end == ENGINE_STOP || job->end == ENGINE_LENGTH;
    /* Who leaves pays for what was generated; what we break off costs nothing. */
    bool left = job->end == ENGINE_CANCELLED && !desk->stopping;
    struct gateway_outcome outcome = {
        .served = ended || (left && job->id_count > 0),
        .finished_ms = clock_real_ms(),
        .finish_reason = job->end == ENGINE_STOP     ? "stop"
                         : job->end == ENGINE_LENGTH ? "length"
                         : desk->stopping            ? "restart"
                                                     : "cancelled",
    };
    struct buf opening_data;
    struct digest receipt_id;
    buf_init(&opening_data, JOURNAL_RECORD_MAX);
    enum err err = ERR_OK;
    if (outcome.served) {
        outcome.prompt_tokens = (uint32_t)answer->prompt.count;
        outcome.completion_tokens = job->id_count;
        ledger_answer_commitment(&answer->answer_salt, job->ids, job->id_count,
                                 &outcome.answer_commitment);
        err = ledger_fee(answer->price_prompt, answer->price_completion, outcome.prompt_tokens,
                         outcome.completion_tokens, &outcome.fee);
        if (err == ERR_OK) { /* written twice: the opening names the receipt */
            err = gateway_receipt_write(desk->gateway, opening, &outcome, &answer->receipt);
        }
        if (err == ERR_OK) {
            ledger_receipt_id(buf_bytes(&answer->receipt), &receipt_id);
            buf_clear(&answer->receipt);
            err = write_opening(answer, &receipt_id, &opening_data);
        }
    }
    if (err == ERR_OK) {
        /* From here the answer may be gone: without a worker to post to, it is delivered at once. */
        answer->waiter.durable = deliver;
        const struct served served = {.opening = buf_bytes(&opening_data), .adapter = job->adapter};
        err = finish(desk, opening, &outcome, &served, &answer->receipt, &answer->waiter, note);
    }
    buf_deinit(&opening_data);
    return err;
}

static void settle(void *argument)
{
    struct answer *answer = argument;
    struct note note = {.text = ""};
    struct desk *desk = answer->desk;
    enum err err = settle_answer(answer, &note);
    if (err != ERR_OK) {
        /* The opening stays and becomes a void at the next start. */
        desk_fail(desk, err, &note);
        http_abort(answer->http);
        answer_free(answer);
    }
}

void answer_settle_late(struct desk *desk)
{
    struct answer *answer = desk->late;
    desk->late = NULL;
    while (answer != NULL) {
        struct answer *next = answer->next;
        settle(answer);
        answer = next;
    }
    answer_drain(desk, UINT64_MAX);
}

/* ---- the engine's calls: on its thread ----------------------------------------------------------- */

static void on_text(void *context, struct engine_job *job, struct bytes text)
{
    struct answer *answer = answer_of(job);
    (void)context;
    if (answer->request.stream && !answer->gone) {
        openai_write_text(&answer->out, &answer->about, text);
        if (buf_err(&answer->out) != ERR_OK) {
            answer->gone = true; /* megabytes behind: it does not read at all */
            return;
        }
        push_out(answer);
    }
}

static bool on_gone(void *context, struct engine_job *job)
{
    struct answer *answer = answer_of(job);
    (void)context;
    return answer->gone || http_gone(answer->http);
}

static void on_done(void *context, struct engine_job *job)
{
    struct answer *answer = answer_of(job);
    struct desk *desk = context;
    enum err err;
    while ((err = service_post(desk->service, settle, answer)) == ERR_LIMIT) {
        clock_sleep_ms(1); /* the desk is behind; the answer must not be lost */
    }
    if (err != ERR_OK) { /* stopping: desk_destroy waits for this thread, then settles */
        answer->next = desk->late;
        desk->late = answer;
    }
}

struct engine_calls answer_engine_calls(struct desk *desk)
{
    return (struct engine_calls){
        .context = desk, .text = on_text, .gone = on_gone, .done = on_done};
}

/* ---- starting ----------------------------------------------------------------------------------- */

/* The opening is on disk: compute. */
void answer_start(struct desk_waiter *waiter)
{
    struct answer *answer = (struct answer *)waiter;
    if (answer->request.stream) {
        answer_begin(answer);
    }
    if (answer->desk->engine == NULL) { /* it is gone, we are stopping */
        answer->job.end = ENGINE_CANCELLED;
        settle(answer);
        return;
    }
    enum err err = engine_submit(answer->desk->engine, &answer->job);
    if (err != ERR_OK) {
        answer->job.end = ENGINE_FAILED;
        answer->job.err = err;
        settle(answer);
    }
}
