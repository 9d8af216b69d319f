/* Cuts the raw prompt at the added tokens: the first step of both tokenizers. */
#ifndef FLUX1_TEXT_PIECES_H
#define FLUX1_TEXT_PIECES_H

#include "text/strings.h"

/* An added token's id, and whether white space before or after it is removed. */
typedef struct cut_token {
    int32_t id;
    bool strip_left, strip_right;
} cut_token;

typedef struct prompt_cutter {
    string_table strings; /* value: index into tokens */
    const cut_token *tokens;
} prompt_cutter;

/* A piece of the prompt: a stretch of text (id -1) or an added token. */
typedef struct prompt_piece {
    size_t begin, end;
    int32_t id;
} prompt_piece;

/* Where prompt_cut is in the prompt; zeroed at first. */
typedef struct cut_position {
    size_t at;
    prompt_piece pending; /* a token found while looking for the end of text; begin == end: none */
} cut_position;

/* The next piece: text up to the next added token, or that token (leftmost, and longest of those that begin there). One
 * stretch of text may come in several pieces. False at the end. */
bool prompt_cut(const prompt_cutter *c, const char *prompt, size_t bytes, cut_position *p, prompt_piece *out);

/* A growing list of ids that stops taking them at `limit`. */
typedef struct id_list {
    int32_t *ids;
    size_t count, limit;
    bool full; /* more ids came than fit */
} id_list;

static inline void id_list_push(id_list *l, int32_t id)
{
    if (l->count < l->limit)
        l->ids[l->count++] = id;
    else
        l->full = true;
}

#endif
