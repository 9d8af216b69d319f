/* T5: cut at special strings, normalise each stretch by the character map, mark words with U+2581, split every word by
 * Unigram. (transformers 4.57.1, T5TokenizerFast; tokenizers 0.22.2) */
#include "text/t5_open.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

static const char word_mark[] = "\xE2\x96\x81";
#define WORD_MARK_BYTES (sizeof word_mark - 1)

static bool begins_with_mark(const char *s, size_t size)
{
    return size >= WORD_MARK_BYTES && memcmp(s, word_mark, WORD_MARK_BYTES) == 0;
}

static void strip(const t5_steps *steps, const char **text, size_t *size)
{
    int32_t c;
    size_t n;
    while (steps->strip_left && *size > 0 && (n = utf8_decode(*text, *size, &c)) > 0 && unicode_is_white_space(c)) {
        *text += n;
        *size -= n;
    }
    while (steps->strip_right && *size > 0) {
        size_t at = utf8_last(*text, *size);
        if (utf8_decode(*text + at, *size - at, &c) == 0 || !unicode_is_white_space(c))
            break;
        *size = at;
    }
}

/* Spaces become word marks: two and more become one where the normalizer collapses them, each one its own otherwise. */
static flux1_status mark_words(const t5_steps *steps, const char *text, size_t size, bool at_start, byte_buffer *out,
                               flux1_error *err)
{
    size_t run;
    if (size == 0)
        return FLUX1_OK;
    bool prefix = steps->prefix == PREFIX_ALWAYS || (steps->prefix == PREFIX_FIRST && at_start);
    if (prefix && text[0] != ' ' && !begins_with_mark(text, size)) {
        TRY(byte_buffer_reserve(out, WORD_MARK_BYTES, err));
        memcpy(out->bytes, word_mark, WORD_MARK_BYTES);
        out->size = WORD_MARK_BYTES;
    }
    for (size_t at = 0; at < size; at += run) {
        run = 1;
        TRY(byte_buffer_reserve(out, WORD_MARK_BYTES, err));
        if (text[at] != ' ') {
            out->bytes[out->size++] = text[at];
            continue;
        }
        while (steps->collapse_spaces && at + run < size && text[at + run] == ' ')
            run++;
        memcpy(out->bytes + out->size, word_mark, WORD_MARK_BYTES);
        out->size += WORD_MARK_BYTES;
    }
    return FLUX1_OK;
}

static flux1_status encode_segments(const t5_tokenizer *t, const byte_buffer *marked, id_list *out, flux1_error *err)
{
    for (size_t at = 0; at < marked->size && !out->full;) {
        size_t end = t->steps.split ? at + 1 : marked->size;
        while (end < marked->size && !begins_with_mark(marked->bytes + end, marked->size - end))
            end++;
        TRY(unigram_encode(&t->model, marked->bytes + at, end - at, out, err));
        at = end;
    }
    return FLUX1_OK;
}

/* The next stretch without white space from *at on; false if there is none. */
static bool next_word(const char *text, size_t size, size_t *at, size_t *begin)
{
    int32_t c;
    size_t n = 0;
    while (*at < size && (n = utf8_decode(text + *at, size - *at, &c)) > 0 && unicode_is_white_space(c))
        *at += n;
    *begin = *at;
    while (*at < size && (n = utf8_decode(text + *at, size - *at, &c)) > 0 && !unicode_is_white_space(c))
        *at += n;
    return *at > *begin;
}

static flux1_status encode_words(const t5_tokenizer *t, const char *text, size_t size, bool at_start,
                                 byte_buffer *marked, id_list *out, flux1_error *err)
{
    size_t begin;
    for (size_t at = 0; !out->full && next_word(text, size, &at, &begin);) {
        marked->size = 0;
        TRY(mark_words(&t->steps, text + begin, at - begin, at_start && begin == 0, marked, err));
        TRY(encode_segments(t, marked, out, err));
    }
    return FLUX1_OK;
}

static flux1_status encode_text(const t5_tokenizer *t, const char *text, size_t bytes, bool at_start, id_list *out,
                                flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    byte_buffer normal = {0}, marked = {0};
    TRY_CLEANUP(charsmap_apply(&t->map, text, bytes, &normal, err));
    const char *stripped = normal.bytes;
    size_t size = normal.size;
    strip(&t->steps, &stripped, &size);
    at_start = at_start && stripped == normal.bytes; /* what is stripped was the start */
    if (t->steps.words_alone) {
        TRY_CLEANUP(encode_words(t, stripped, size, at_start, &marked, out, err));
        goto cleanup;
    }
    TRY_CLEANUP(mark_words(&t->steps, stripped, size, at_start, &marked, err));
    TRY_CLEANUP(encode_segments(t, &marked, out, err));
cleanup:
    free(normal.bytes);
    free(marked.bytes);
    return st;
}

flux1_status t5_tokenize(const t5_tokenizer *t, const char *prompt, size_t bytes, int length, int32_t *ids, int *used,
                         bool *truncated, flux1_error *err)
{
    if (length < 1)
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "a T5 prompt of %d tokens has no room for its end; ask for at least 1", length);
    TRY(utf8_check_prompt(prompt, bytes, err));
    id_list list = {ids, 0, (size_t)length - t->steps.end_token, false};
    cut_position position = {0};
    prompt_piece piece;
    while (!list.full && prompt_cut(&t->cutter, prompt, bytes, &position, &piece)) {
        if (piece.id >= 0)
            id_list_push(&list, piece.id);
        else
            TRY(encode_text(t, prompt + piece.begin, piece.end - piece.begin, piece.begin == 0, &list, err));
    }
    size_t count = list.count;
    if (t->steps.end_token)
        ids[count++] = t->end;
    for (size_t i = count; i < (size_t)length; i++)
        ids[i] = t->pad;
    if (used)
        *used = (int)count;
    if (truncated)
        *truncated = list.full;
    return FLUX1_OK;
}
