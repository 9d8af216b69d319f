#include "text/unicode.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "text/text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool code_point_in(const code_point_set *set, int32_t c)
{
    size_t low = 0, high = set->count; /* number of edges <= c */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->edges[middle] <= (uint32_t)c)
            low = middle + 1;
        else
            high = middle;
    }
    return low & 1;
}

flux1_status utf8_check_prompt(const char *s, size_t size, flux1_error *err)
{
    if (size > TEXT_PROMPT_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "the prompt has %zu bytes, at most %zu are taken: shorten it", size,
                         TEXT_PROMPT_MAX);
    size_t good = utf8_valid_prefix(s, size);
    if (good < size)
        return error_set(
            err, FLUX1_ERR_ARGUMENT,
            "the prompt is not valid UTF-8: byte 0x%02x at offset %zu begins no character; convert the text to UTF-8",
            (unsigned char)s[good], good);
    return FLUX1_OK;
}

bool unicode_is_letter(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool unicode_is_number(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool unicode_is_other(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CN || !code_point_in(&unicode_assigned, c);
}

bool unicode_is_space_mark(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ZS; }

bool unicode_is_white_space(int32_t c)
{
    return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* ---- NFC. utf8proc's own canonical ordering is an insertion sort, quadratic on long runs of marks: runs are sorted
 * here by counting. ---- */

/* Stable sort by combining class of a run without starters; `scratch` holds as many. */
static void order_marks(int32_t *run, size_t count, int32_t *scratch)
{
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++)
        sorted = utf8proc_get_property(run[i - 1])->combining_class <= utf8proc_get_property(run[i])->combining_class;
    if (sorted)
        return;
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++)
        start[utf8proc_get_property(run[i])->combining_class + 1]++;
    for (size_t k = 1; k < 257; k++)
        start[k] += start[k - 1];
    for (size_t i = 0; i < count; i++)
        scratch[start[utf8proc_get_property(run[i])->combining_class]++] = run[i];
    memcpy(run, scratch, count * sizeof *run);
}

static void order_canonically(int32_t *text, size_t count, int32_t *scratch)
{
    size_t i = 0;
    while (i < count) {
        size_t begin = i;
        while (i < count && utf8proc_get_property(text[i])->combining_class != 0)
            i++;
        if (i - begin > 1)
            order_marks(text + begin, i - begin, scratch);
        i += i < count;
    }
}

flux1_status unicode_nfc(const int32_t *text, size_t count, int32_t **out, size_t *out_count, flux1_error *err)
{
    enum { LONGEST = 4 }; /* canonical decompositions have at most four code points */
    flux1_status st = FLUX1_OK;
    size_t n = 0, room, bytes;
    int32_t *whole = NULL, *scratch = NULL;
    *out = NULL;
    *out_count = 0;
    if (!size_mul(count, LONGEST, &room) || !size_mul(room + 1, sizeof *whole, &bytes))
        return error_oom(err, 0, "normalising a prompt");
    whole = malloc(bytes);
    scratch = malloc(bytes);
    if (!whole || !scratch) {
        st = error_oom(err, bytes, "normalising a prompt");
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        int last_class = 0;
        utf8proc_ssize_t got =
            utf8proc_decompose_char(text[i], whole + n, (utf8proc_ssize_t)(room - n), UTF8PROC_DECOMPOSE, &last_class);
        if (got < 0 || (size_t)got > room - n) {
            st = error_set(err, FLUX1_ERR_INTERNAL, "U+%04X cannot be decomposed: %s", (unsigned)text[i],
                           utf8proc_errmsg(got));
            goto cleanup;
        }
        n += (size_t)got;
    }
    order_canonically(whole, n, scratch);
    utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(whole, (utf8proc_ssize_t)n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (composed < 0) {
        st = error_set(err, FLUX1_ERR_INTERNAL, "a prompt cannot be composed: %s", utf8proc_errmsg(composed));
        goto cleanup;
    }
    *out = whole;
    *out_count = (size_t)composed;
    whole = NULL;
cleanup:
    free(whole);
    free(scratch);
    return st;
}

/* ---- lower case ---- */

/* SpecialCasing's Final_Sigma, as CPython evaluates it: a cased character before, none after, case-ignorable ones not
 * counting. `cased` here excludes the characters that are both. */
static bool sigma_is_final(const int32_t *word, size_t count, size_t at)
{
    size_t i = at;
    while (i > 0 && code_point_in(&unicode_case_ignorable, word[i - 1]))
        i--;
    if (i == 0 || !code_point_in(&unicode_cased, word[i - 1]))
        return false;
    for (i = at + 1; i < count && code_point_in(&unicode_case_ignorable, word[i]);)
        i++;
    return i == count || !code_point_in(&unicode_cased, word[i]);
}

size_t unicode_lower_word(const int32_t *word, size_t count, int32_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t c = word[i];
        if (c == 0x130) { /* the only lower case of two characters */
            out[n++] = 'i';
            out[n++] = 0x307;
        } else if (c == 0x3A3) {
            out[n++] = sigma_is_final(word, count, i) ? 0x3C2 : 0x3C3;
        } else {
            out[n++] = utf8proc_tolower(c);
        }
    }
    return n;
}

/* ---- grapheme clusters ---- */

/* What the rules GB9c, GB11 and GB12 remember from the cluster so far. */
typedef struct cluster_state {
    enum { CONJUNCT_NONE, CONJUNCT_CONSONANT, CONJUNCT_LINKED } conjunct;
    enum { PICTURE_NONE, PICTURE, PICTURE_ZWJ } picture;
    size_t regional_indicators;
} cluster_state;

static void cluster_remember(cluster_state *s, int32_t c)
{
    bool extend = code_point_in(&unicode_cluster_extend, c) &&
                  !code_point_in(&unicode_cluster_spacing, c); /* the joiner U+200D counts as spacing */
    bool conjunct_extend = c == 0x200D || (extend && c != 0x200C);
    if (code_point_in(&unicode_conjunct_consonant, c))
        s->conjunct = CONJUNCT_CONSONANT;
    else if (s->conjunct && code_point_in(&unicode_conjunct_linker, c))
        s->conjunct = CONJUNCT_LINKED;
    else if (!conjunct_extend)
        s->conjunct = CONJUNCT_NONE;
    if (code_point_in(&unicode_cluster_pictographic, c))
        s->picture = PICTURE;
    else if (s->picture != PICTURE)
        s->picture = PICTURE_NONE;
    else
        s->picture = c == 0x200D ? PICTURE_ZWJ : extend ? PICTURE : PICTURE_NONE;
    s->regional_indicators =
        utf8proc_get_property(c)->boundclass == UTF8PROC_BOUNDCLASS_REGIONAL_INDICATOR ? s->regional_indicators + 1 : 0;
}

static bool is_control(int32_t c)
{
    int k = utf8proc_get_property(c)->boundclass;
    return k == UTF8PROC_BOUNDCLASS_CONTROL || k == UTF8PROC_BOUNDCLASS_CR || k == UTF8PROC_BOUNDCLASS_LF;
}

static bool hangul_joins(int32_t a, int32_t b)
{
    int x = utf8proc_get_property(a)->boundclass, y = utf8proc_get_property(b)->boundclass;
    if (x == UTF8PROC_BOUNDCLASS_L)
        return y == UTF8PROC_BOUNDCLASS_L || y == UTF8PROC_BOUNDCLASS_V || y == UTF8PROC_BOUNDCLASS_LV ||
               y == UTF8PROC_BOUNDCLASS_LVT;
    if (x == UTF8PROC_BOUNDCLASS_LV || x == UTF8PROC_BOUNDCLASS_V)
        return y == UTF8PROC_BOUNDCLASS_V || y == UTF8PROC_BOUNDCLASS_T;
    return (x == UTF8PROC_BOUNDCLASS_LVT || x == UTF8PROC_BOUNDCLASS_T) && y == UTF8PROC_BOUNDCLASS_T;
}

/* The oracle's tables decide first: a mark newer than utf8proc's Unicode would count as a control there. */
static bool cluster_goes_on(const cluster_state *s, int32_t a, int32_t b)
{
    bool extends = code_point_in(&unicode_cluster_extend, b);
    if (a == '\r' && b == '\n')
        return true;
    if (is_control(a) && !code_point_in(&unicode_cluster_extend, a) && !code_point_in(&unicode_cluster_prepend, a))
        return false;
    if (extends)
        return true;
    if (is_control(b) && !code_point_in(&unicode_cluster_prepend, b))
        return false;
    if (code_point_in(&unicode_cluster_prepend, a) || hangul_joins(a, b))
        return true;
    if (s->conjunct == CONJUNCT_LINKED && code_point_in(&unicode_conjunct_consonant, b))
        return true;
    if (s->picture == PICTURE_ZWJ && code_point_in(&unicode_cluster_pictographic, b))
        return true;
    return s->regional_indicators % 2 == 1 &&
           utf8proc_get_property(b)->boundclass == UTF8PROC_BOUNDCLASS_REGIONAL_INDICATOR;
}

size_t unicode_cluster(const char *s, size_t size)
{
    int32_t a, b;
    size_t at = utf8_decode(s, size, &a);
    if (at == 0)
        return 1; /* never in checked text; keeps the caller going */
    if (at < size && a >= 0x20 && a < 0x7F && s[at] >= 0x20 && s[at] < 0x7F)
        return at; /* ASCII before ASCII */
    cluster_state state = {CONJUNCT_NONE, PICTURE_NONE, 0};
    cluster_remember(&state, a);
    while (at < size) {
        size_t n = utf8_decode(s + at, size - at, &b);
        if (n == 0 || !cluster_goes_on(&state, a, b))
            break;
        cluster_remember(&state, b);
        at += n;
        a = b;
    }
    return at;
}
