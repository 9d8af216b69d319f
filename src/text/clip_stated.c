#include "text/clip_stated.h"

#include "base/utf8.h"
#include "text/clip_normalize.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- the pattern ----
 * (<|startoftext|> | <|endoftext|>) | 's 't 're 've 'm 'll 'd | letters | one number | anything else but white space */

typedef enum character_kind { KIND_SPACE, KIND_LETTER, KIND_NUMBER, KIND_OTHER } character_kind;

static character_kind kind_of(int32_t c)
{
    if (unicode_is_white_space(c))
        return KIND_SPACE;
    if (unicode_is_letter(c) || code_point_in(&unicode_later_letter, c))
        return KIND_LETTER;
    return unicode_is_number(c) || code_point_in(&unicode_later_number, c) ? KIND_NUMBER : KIND_OTHER;
}

/* Length of the string of the list that the text begins with; 0: none. */
static size_t begins_with(const char *text, size_t size, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) <= size && memcmp(text, *list, strlen(*list)) == 0)
            return strlen(*list);
    return 0;
}

/* Length of the word at the start of the text; 0 for white space. */
static size_t match(const char *text, size_t size)
{
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", NULL};
    int32_t c;
    size_t length = begins_with(text, size, contractions), n = utf8_decode(text, size, &c);
    const character_kind kind = kind_of(c);
    if (length || kind == KIND_SPACE)
        return length;
    for (length = n; kind != KIND_NUMBER && length < size; length += n) {
        n = utf8_decode(text + length, size - length, &c);
        if (kind_of(c) != kind)
            break;
    }
    return length;
}

static flux1_status encode_words(const clip_tokenizer *t, const char *text, size_t size, id_list *out, flux1_error *err)
{
    static const char *const literals[] = {"<|startoftext|>", "<|endoftext|>", NULL};
    int32_t c;
    for (size_t at = 0; at < size && !out->full;) {
        /* a literal ends where it ends; within it, ByteLevel's pattern finds the same words as this one */
        const size_t whole = t->steps.literals ? begins_with(text + at, size - at, literals) : 0;
        const size_t end = whole ? at + whole : size;
        do {
            const size_t length = match(text + at, end - at);
            if (length)
                TRY(bpe_encode(&t->pairs, (const unsigned char *)text + at, length, out, err));
            at += length ? length : utf8_decode(text + at, end - at, &c);
        } while (whole && at < end && !out->full);
    }
    return FLUX1_OK;
}

flux1_status clip_stated_encode(const clip_tokenizer *t, const char *text, size_t bytes, id_list *out, flux1_error *err)
{
    char *normal;
    size_t size;
    cut_position position = {0};
    prompt_piece piece;
    TRY(clip_normalize(&t->steps, text, bytes, &normal, &size, err));
    flux1_status st = FLUX1_OK;
    while (st == FLUX1_OK && !out->full && prompt_cut(&t->later, normal, size, &position, &piece)) {
        if (piece.id >= 0)
            id_list_push(out, piece.id);
        else
            st = encode_words(t, normal + piece.begin, piece.end - piece.begin, out, err);
    }
    free(normal);
    return st;
}
