/* openai_write.c - see openai.h: responses, server-sent events, errors, models. */
#include "services/lora-gateway/openai.h"

void openai_write_error(struct buf *out, const struct openai_error *error)
{
    struct json_writer writer;
    json_writer_init(&writer, out, false);
    json_begin_object(&writer);
    json_write_key(&writer, "error");
    json_begin_object(&writer);
    json_put_text(&writer, "message", error->note.text);
    json_put_text(&writer, "type", error->type);
    json_put_text(&writer, "param", error->param);
    json_put_text(&writer, "code", error->code);
    json_end_object(&writer);
    json_end_object(&writer);
}

static void begin(struct json_writer *writer, struct buf *out, const struct openai_answer *answer,
                  bool chunk)
{
    json_writer_init(writer, out, false);
    json_begin_object(writer);
    json_write_key(writer, "id");
    char id[96];
    struct buf text;
    buf_init(&text, sizeof id);
    buf_printf(&text, "%s-%s", answer->chat ? "chatcmpl" : "cmpl", answer->id);
    json_write_text(writer, buf_text(&text));
    buf_deinit(&text);
    json_put_text(writer, "object",
                  !answer->chat ? "text_completion"
                  : chunk       ? "chat.completion.chunk"
                                : "chat.completion");
    json_put_u64(writer, "created", answer->created_s);
    json_put_text(writer, "model", answer->model);
}

static void write_usage(struct json_writer *writer, const struct openai_answer *answer)
{
    json_write_key(writer, "usage");
    json_begin_object(writer);
    json_put_u64(writer, "prompt_tokens", answer->prompt_tokens);
    json_put_u64(writer, "completion_tokens", answer->completion_tokens);
    json_put_u64(writer, "total_tokens",
                 (uint64_t)answer->prompt_tokens + answer->completion_tokens);
    json_end_object(writer);
}

static void write_extension(struct json_writer *writer, const struct openai_answer *answer)
{
    json_write_key(writer, "openledger");
    json_begin_object(writer);
    json_put_text(writer, "request_id", answer->id);
    json_put_text(writer, "receipt", answer->receipt);
    json_put_text(writer, "fee", answer->fee);
    json_put_text(writer, "adapter", answer->adapter);
    json_put_text(writer, "grant", answer->grant);
    json_put_u64(writer, "lease", answer->lease);
    json_put_u64(writer, "number", answer->number);
    json_end_object(writer);
}

/* The one choice. role and text may be absent (NULL, data NULL) in a chunk. */
static void write_choice(struct json_writer *writer, const struct openai_answer *answer, bool chunk,
                         bool role, struct bytes text, const char *finish_reason)
{
    json_write_key(writer, "choices");
    json_begin_array(writer);
    json_begin_object(writer);
    json_put_u64(writer, "index", 0);
    if (answer->chat) {
        json_write_key(writer, chunk ? "delta" : "message");
        json_begin_object(writer);
        if (role) {
            json_put_text(writer, "role", "assistant");
        }
        if (text.data != NULL) {
            json_write_key(writer, "content");
            json_write_text_bytes(writer, text);
        }
        json_end_object(writer);
    } else {
        json_write_key(writer, "text");
        json_write_text_bytes(writer, text);
    }
    json_write_key(writer, "logprobs");
    json_write_null(writer);
    json_put_text(writer, "finish_reason", finish_reason);
    json_end_object(writer);
    json_end_array(writer);
}

static struct bytes empty(void)
{
    return bytes_of("", 0);
}

void openai_write_response(struct buf *out, const struct openai_answer *answer, struct bytes text)
{
    struct json_writer writer;
    begin(&writer, out, answer, false);
    write_choice(&writer, answer, false, true, text.data == NULL ? empty() : text,
                 answer->finish_reason);
    write_usage(&writer, answer);
    write_extension(&writer, answer);
    json_end_object(&writer);
}

static void end_event(struct json_writer *writer, struct buf *out)
{
    json_end_object(writer);
    buf_append_text(out, "\n\n");
}

void openai_write_first(struct buf *out, const struct openai_answer *answer)
{
    if (answer->chat) {
        struct json_writer writer;
        buf_append_text(out, "data: ");
        begin(&writer, out, answer, true);
        write_choice(&writer, answer, true, true, empty(), NULL);
        end_event(&writer, out);
    }
}

void openai_write_text(struct buf *out, const struct openai_answer *answer, struct bytes text)
{
    struct json_writer writer;
    buf_append_text(out, "data: ");
    begin(&writer, out, answer, true);
    write_choice(&writer, answer, true, false, text, NULL);
    end_event(&writer, out);
}

void openai_write_finish(struct buf *out, const struct openai_answer *answer, bool usage)
{
    struct json_writer writer;
    buf_append_text(out, "data: ");
    begin(&writer, out, answer, true);
    const struct bytes nothing = {0};
    write_choice(&writer, answer, true, false, answer->chat ? nothing : empty(),
                 answer->finish_reason);
    write_extension(&writer, answer);
    end_event(&writer, out);
    if (usage) {
        buf_append_text(out, "data: ");
        begin(&writer, out, answer, true);
        json_write_key(&writer, "choices");
        json_begin_array(&writer);
        json_end_array(&writer);
        write_usage(&writer, answer);
        end_event(&writer, out);
    }
    buf_append_text(out, "data: [DONE]\n\n");
}

void openai_write_error_event(struct buf *out, const struct openai_error *error)
{
    buf_append_text(out, "data: ");
    openai_write_error(out, error);
    buf_append_text(out, "\n\n");
}

void openai_write_model(struct json_writer *writer, const struct openai_model *model)
{
    json_begin_object(writer);
    json_put_text(writer, "id", model->id);
    json_put_text(writer, "object", "model");
    json_put_u64(writer, "created", model->created_s);
    json_put_text(writer, "owned_by", model->owned_by);
    json_write_key(writer, "openledger");
    json_begin_object(writer);
    json_put_text(writer, "base", model->base);
    json_put_text(writer, "datanet", model->datanet);
    json_put_u64(writer, "version", model->version);
    json_put_text(writer, "adapter", model->adapter);
    json_put_text(writer, "job", model->job);
    json_put_text(writer, "price_prompt", model->price_prompt);
    json_put_text(writer, "price_completion", model->price_completion);
    json_put_bool(writer, "attributed", model->attributed);
    json_end_object(writer);
    json_end_object(writer);
}
