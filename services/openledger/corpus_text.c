/* corpus_text.c - normalising, sentences, passages, rows; see corpus.h. */
#include <string.h>

#include "services/openledger/corpus.h"
#include "shared/base/buf.h"
#include "shared/json/json.h"

/* Multi-byte characters that are only typography, and what a small vocabulary knows instead. */
static const struct {
    const char *from, *to;
} PLAIN[] = {
    {"\xE2\x80\x98", "'"}, {"\xE2\x80\x99", "'"},    {"\xE2\x80\x9C", "\""}, {"\xE2\x80\x9D", "\""},
    {"\xC2\xB4", "'"},     {"\xC2\xA0", " "},        {"\xC2\xAD", ""},       {"\xE2\x80\x91", "-"},
    {"\xE2\x80\x93", "-"}, {"\xE2\x80\x94", " -- "}, {"\xEF\xBB\xBF", ""},
};

/* What stands for the first character (or byte) of text, which it takes off. */
static struct bytes take_plain(struct bytes *text)
{
    struct bytes piece = bytes_of(text->data, 1);
    size_t taken = 1;
    for (size_t p = 0; p < sizeof PLAIN / sizeof *PLAIN; p++) {
        size_t length = strlen(PLAIN[p].from);
        if (text->size >= length && memcmp(text->data, PLAIN[p].from, length) == 0) {
            piece = bytes_of_text(PLAIN[p].to);
            taken = length;
            break;
        }
    }
    *text = bytes_of(text->data + taken, text->size - taken);
    return piece;
}

void corpus_normalise(struct bytes text, bool keep_lines, struct buf *out)
{
    size_t start = out->size;
    bool blank = false;
    uint32_t lines = 0;
    while (text.size > 0) {
        struct bytes piece = take_plain(&text);
        for (size_t k = 0; k < piece.size; k++) {
            uint8_t c = piece.data[k];
            lines += c == '\n' ? 1 : 0;
            if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
                blank = true;
                continue;
            }
            if (c < 32 || c == 127) {
                continue;
            }
            if (out->size > start && blank) {
                bool parted = lines >= (keep_lines ? 1U : 2U);
                (void)buf_append_byte(out, parted ? '\n' : ' ');
            }
            blank = false;
            lines = 0;
            (void)buf_append_byte(out, c);
        }
    }
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

/* Does the word that ends at text[dot] (a full stop) usually go on, as in "Mr. Speaker"? */
static bool abbreviates(const char *text, size_t begin, size_t dot)
{
    static const char *const WORDS[] = {"Mr",  "Mrs",  "Ms",   "Dr",  "St",  "No",  "Gen", "Messrs",
                                        "Rev", "Hon",  "Capt", "vs",  "etc", "e.g", "i.e", "cf",
                                        "esp", "orig", "Jr",   "Sen", "Lt",  "Col"};
    size_t from = dot;
    while (from > begin && text[from - 1] != ' ' && text[from - 1] != '\n' &&
           text[from - 1] != '(') {
        from--;
    }
    size_t size = dot - from;
    if (size == 1 && is_upper(text[from])) {
        return true; /* an initial */
    }
    if (size == 3 && is_upper(text[from]) && text[from + 1] == '.' && is_upper(text[from + 2])) {
        return true; /* U.S. */
    }
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        if (size == strlen(WORDS[i]) && memcmp(text + from, WORDS[i], size) == 0) {
            return true;
        }
    }
    return false;
}

bool corpus_sentence(const char *text, size_t *at, struct bytes *out)
{
    size_t begin = *at;
    while (text[begin] == ' ' || text[begin] == '\n') {
        begin++;
    }
    if (text[begin] == '\0') {
        return false;
    }
    size_t end = begin;
    for (; text[end] != '\0' && text[end] != '\n'; end++) {
        if (text[end] != '.' && text[end] != '!' && text[end] != '?') {
            continue;
        }
        size_t after = end + 1;
        while (text[after] != '\0' && strchr("\"')]", text[after]) != NULL) {
            after++;
        }
        if (text[after] == ' ' && !is_lower(text[after + 1]) &&
            !(text[end] == '.' && abbreviates(text, begin, end))) {
            end = after;
            break;
        }
    }
    *out = (struct bytes){(const uint8_t *)text + begin, end - begin};
    *at = end;
    return true;
}

bool corpus_passage(const char *text, size_t *at, size_t target, size_t max, struct bytes *first,
                    struct bytes *rest)
{
    struct bytes sentence = {0};
    do {
        if (!corpus_sentence(text, at, &sentence)) {
            return false;
        }
    } while (sentence.size > max);
    *first = sentence;
    const uint8_t *end = sentence.data + sentence.size;
    const uint8_t *rest_begin = NULL;
    while ((size_t)(end - first->data) < target) {
        size_t next = *at;
        if (!corpus_sentence(text, &next, &sentence) ||
            (size_t)(sentence.data + sentence.size - first->data) > max) {
            break;
        }
        *at = next;
        end = sentence.data + sentence.size;
        rest_begin = rest_begin == NULL ? sentence.data : rest_begin;
    }
    *rest = (struct bytes){rest_begin, rest_begin == NULL ? 0 : (size_t)(end - rest_begin)};
    return true;
}

uint64_t corpus_hash(const char *purpose, const char *id, uint64_t number)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (const char *p = purpose; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3U;
    }
    hash = (hash ^ 0xFF) * 0x100000001b3U;
    for (const char *p = id; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3U;
    }
    hash ^= number * 0x9E3779B97F4A7C15U;
    /* The finaliser of splitmix64, so that low bits are as good as high ones. */
    hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9U;
    hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBU;
    return hash ^ (hash >> 31);
}

void corpus_write_row(struct buf *out, struct bytes prompt, struct bytes completion,
                      const char *source, const char *id)
{
    struct json_writer writer;
    json_writer_init(&writer, out, false);
    json_begin_object(&writer);
    json_write_key(&writer, completion.size > 0 ? "prompt" : "text");
    json_write_text_bytes(&writer, prompt);
    if (completion.size > 0) {
        json_write_key(&writer, "completion");
        json_write_text_bytes(&writer, completion);
    }
    if (source != NULL) {
        json_put_text(&writer, "source", source);
    }
    if (id != NULL) {
        json_put_text(&writer, "id", id);
    }
    json_end_object(&writer);
    (void)buf_append_byte(out, '\n');
}
