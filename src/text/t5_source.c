#include "text/t5_source.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>

flux1_status t5_source_add(t5_source *s, t5_piece piece, flux1_error *err)
{
    if (!isfinite(piece.score))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the score of piece %zu is not finite", s->name, s->piece_count);
    if (s->piece_count == s->piece_capacity) {
        size_t capacity = s->piece_capacity ? s->piece_capacity : 1024, bytes = 0;
        if (!size_mul(capacity, 2, &capacity) || capacity > INT32_MAX / 2 ||
            !size_mul(capacity, sizeof *s->pieces, &bytes))
            return error_set(err, FLUX1_ERR_LIMIT, "%s: more pieces than a vocabulary can have", s->name);
        t5_piece *grown = realloc(s->pieces, bytes);
        if (!grown)
            return error_oom(err, bytes, s->name);
        s->pieces = grown;
        s->piece_capacity = capacity;
    }
    s->pieces[s->piece_count++] = piece;
    return FLUX1_OK;
}

void t5_source_free(t5_source *s)
{
    tokenizer_settings_free(&s->settings);
    free(s->pieces);
    free(s->owned_charsmap);
    free(s->extra_names);
}
