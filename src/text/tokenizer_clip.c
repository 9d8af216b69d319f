/* CLIP: cut at special strings, clean (BERT's BasicTokenizer without punctuation splitting), split each word by CLIP's
 * pattern, merge byte pairs. (transformers 4.57.1, CLIPTokenizer without ftfy.) */
#include "text/clip_stated.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- cleaning ---- */

static bool is_ideograph(int32_t c)
{
    static const int32_t blocks[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                                        {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        if (c >= blocks[i][0] && c <= blocks[i][1])
            return true;
    return false;
}

/* Valid UTF-8 to code points: control and unassigned characters go, white space becomes a space, ideographs get a space
 * on both sides. `out` holds 3 * bytes at most (an ideograph has three bytes). */
static size_t clean(const char *text, size_t bytes, int32_t *out)
{
    size_t n = 0;
    int32_t c = 0;
    for (size_t at = 0; at < bytes;) {
        at += utf8_decode(text + at, bytes - at, &c);
        if (c == '\t' || c == '\n' || c == '\r' || c == ' ')
            out[n++] = ' ';
        else if (c > ' ' && c < 0x7F)
            out[n++] = c;
        else if (c == 0 || c == 0xFFFD || unicode_is_other(c))
            continue;
        else if (unicode_is_space_mark(c))
            out[n++] = ' ';
        else if (is_ideograph(c)) {
            out[n++] = ' ';
            out[n++] = c;
            out[n++] = ' ';
        } else
            out[n++] = c;
    }
    return n;
}

/* ---- the pattern, on one lower-cased word ----
 * <|startoftext|> | <|endoftext|> | 's 't 're 've 'm 'll 'd | letters | one number | anything else but white space,
 * regardless of case */

/* Case-insensitive equality with a lower-case ASCII letter leaves one character that lower-casing does not: the long s.
 */
static bool literal_at(const int32_t *word, size_t count, const char *literal)
{
    size_t n = strlen(literal);
    if (n > count)
        return false;
    for (size_t i = 0; i < n; i++)
        if (word[i] != literal[i] && !(literal[i] == 's' && word[i] == 0x17F))
            return false;
    return true;
}

typedef enum character_kind { KIND_NONE, KIND_LETTER, KIND_NUMBER, KIND_OTHER } character_kind;

/* U+0345 is no letter, but its upper case is: ignoring case it belongs to no class, so it separates and vanishes. */
static character_kind kind_of(int32_t c)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ? KIND_LETTER
               : c >= '0' && c <= '9'                           ? KIND_NUMBER
                                                                : KIND_OTHER;
    return c == 0x345             ? KIND_NONE
           : unicode_is_letter(c) ? KIND_LETTER
           : unicode_is_number(c) ? KIND_NUMBER
                                  : KIND_OTHER;
}

/* Length of the match at the word's start; 0 if nothing matches. *literal is 0 or 1 for the two special strings in
 * their exact form, else -1. */
static size_t match(const int32_t *word, size_t count, int *literal)
{
    static const char *const special[2] = {"<|startoftext|>", "<|endoftext|>"};
    static const char *const contraction[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    *literal = -1;
    if (word[0] == '<')
        for (int i = 0; i < 2; i++)
            if (literal_at(word, count, special[i])) {
                bool exact = true;
                for (size_t k = 0; special[i][k]; k++)
                    exact = exact && word[k] == special[i][k];
                *literal = exact ? i : -1;
                return strlen(special[i]);
            }
    if (word[0] == '\'')
        for (size_t i = 0; i < sizeof contraction / sizeof contraction[0]; i++)
            if (literal_at(word, count, contraction[i]))
                return strlen(contraction[i]);
    character_kind kind = kind_of(word[0]);
    if (kind == KIND_NONE || kind == KIND_NUMBER)
        return kind == KIND_NUMBER;
    size_t n = 1;
    while (n < count && kind_of(word[n]) == kind)
        n++;
    return n;
}

/* `bytes`: scratch of 4 * count. */
static flux1_status encode_word(const clip_tokenizer *t, const int32_t *word, size_t count, char *bytes, id_list *out,
                                flux1_error *err)
{
    for (size_t at = 0; at < count && !out->full;) {
        int literal;
        size_t length = match(word + at, count - at, &literal), n = 0;
        if (literal >= 0) {
            id_list_push(out, t->literal[literal]);
        } else if (length > 0) {
            for (size_t i = 0; i < length; i++)
                n += utf8_encode(word[at + i], bytes + n);
            TRY(bpe_encode(&t->pairs, (const unsigned char *)bytes, n, out, err));
        }
        at += length ? length : 1;
    }
    return FLUX1_OK;
}

/* ---- a stretch of text between special strings ---- */

static flux1_status encode_text(const clip_tokenizer *t, const char *text, size_t bytes, id_list *out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    size_t count = 0, at = 0;
    int32_t *cleaned = malloc((3 * bytes + 1) * sizeof *cleaned); /* bytes <= TEXT_PROMPT_MAX */
    int32_t *composed = NULL, *lower = NULL;
    char *utf8 = NULL;
    if (!cleaned) {
        st = error_oom(err, 3 * bytes * sizeof *cleaned, "a prompt");
        goto cleanup;
    }
    TRY_CLEANUP(unicode_nfc(cleaned, clean(text, bytes, cleaned), &composed, &count, err));
    lower = malloc((2 * count + 1) * sizeof *lower);
    utf8 = malloc(8 * count + 1);
    if (!lower || !utf8) {
        st = error_oom(err, 16 * count, "a prompt");
        goto cleanup;
    }
    while (at < count && !out->full) {
        size_t end = at;
        while (end < count && !unicode_is_white_space(composed[end]))
            end++;
        if (end > at)
            TRY_CLEANUP(encode_word(t, lower, unicode_lower_word(composed + at, end - at, lower), utf8, out, err));
        at = end + 1;
    }
cleanup:
    free(cleaned);
    free(composed);
    free(lower);
    free(utf8);
    return st;
}

flux1_status clip_tokenize(const clip_tokenizer *t, const char *prompt, size_t bytes, int length, int32_t *ids,
                           int *used, bool *truncated, flux1_error *err)
{
    if (length < 2)
        return error_set(err, FLUX1_ERR_ARGUMENT,
                         "a CLIP prompt of %d tokens has no room for its start and end; ask for at least 2", length);
    TRY(utf8_check_prompt(prompt, bytes, err));
    id_list list = {ids + 1, 0, (size_t)length - 2, false};
    cut_position position = {0};
    prompt_piece piece;
    while (!list.full && prompt_cut(&t->cutter, prompt, bytes, &position, &piece)) {
        if (piece.id >= 0)
            id_list_push(&list, piece.id);
        else if (t->steps.stated)
            TRY(clip_stated_encode(t, prompt + piece.begin, piece.end - piece.begin, &list, err));
        else
            TRY(encode_text(t, prompt + piece.begin, piece.end - piece.begin, &list, err));
    }
    ids[0] = t->bos;
    ids[list.count + 1] = t->eos;
    for (size_t i = list.count + 2; i < (size_t)length; i++)
        ids[i] = t->pad;
    if (used)
        *used = (int)list.count + 2;
    if (truncated)
        *truncated = list.full;
    return FLUX1_OK;
}
