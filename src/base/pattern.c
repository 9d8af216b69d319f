#include "base/pattern.h"

#include "base/builder.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1000, DEPTH_MAX = 50, EXPANDED_MAX = 10000, ASCII = 128 };

struct pattern {
    char *literal; /* a name in which a dot stands for any byte, as most are; NULL: `compiled` */
    regex_t compiled;
};

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", digits[] = "0123456789",
                  blanks[] = " \t\n\r\f\v";

/* ---- translation ---- */

typedef struct translation {
    const char *at; /* what comes next */
    builder out;
    int depth;
    int64_t repeated;      /* the product of all counts */
    const char *complaint; /* NULL: all is well */
} translation;

static bool is_one_of(char c, const char *set) { return c && strchr(set, c); }

/* \d and its like: the members in set; false: the letter is none of them. */
static bool add_class(char letter, bool set[ASCII])
{
    const bool number = is_one_of(letter, "dD"), word = is_one_of(letter, "wW"), blank = is_one_of(letter, "sS");
    for (int i = 1; i < ASCII && (number || word || blank); i++) {
        const char c = (char)i;
        const bool in = (number && is_one_of(c, digits)) || (blank && is_one_of(c, blanks)) ||
                        (word && (is_one_of(c, digits) || is_one_of(c, letters) || c == '_'));
        set[i] = set[i] || in != is_one_of(letter, "DWS");
    }
    return number || word || blank;
}

/* As a bracket expression, in which these four have a place where they mean themselves. */
static void put_set(translation *t, const bool set[ASCII], bool negated)
{
    int count = 0;
    for (int i = 0; i < ASCII; i++)
        count += set[i];
    if (set['^'] && count == 1 + set['-'] && !negated) { /* nothing that may stand in front of the caret */
        builder_add(&t->out, set['-'] ? "[-^]" : "\\^");
        return;
    }
    builder_add(&t->out, negated ? "[^" : "[");
    builder_add(&t->out, set[']'] ? "]" : "");
    for (int i = 1; i < ASCII; i++) {
        const char c = (char)i;
        if (set[i] && !is_one_of(c, "]^-["))
            builder_add_bytes(&t->out, &c, 1);
    }
    builder_add(&t->out, set['['] ? "[" : "");
    builder_add(&t->out, set['^'] ? "^" : "");
    builder_add(&t->out, set['-'] ? "-]" : "]");
}

/* One member of a set, or the first of a range; -1: it was a class of several. */
static int set_member(translation *t, bool set[ASCII])
{
    char c = *t->at;
    if (c == '\\') {
        c = *++t->at;
        if (add_class(c, set)) {
            t->at++;
            return -1;
        }
        if (is_one_of(c, letters) || is_one_of(c, digits))
            t->complaint = "an escape in a set";
    }
    t->at += c != '\0';
    if ((unsigned char)c >= ASCII || !c)
        t->complaint = c ? "a set with characters other than ASCII's" : "a set without an end";
    return t->complaint ? -1 : c;
}

/* Behind the bracket. */
static void take_set(translation *t)
{
    bool set[ASCII] = {false};
    const bool negated = *t->at == '^';
    t->at += negated;
    const char *first = t->at;
    while (!t->complaint && (*t->at != ']' || t->at == first)) {
        int from = set_member(t, set), to = from;
        if (from >= 0 && t->at[0] == '-' && t->at[1] && t->at[1] != ']') {
            t->at++;
            to = set_member(t, set);
            if (to < from && !t->complaint)
                t->complaint = "a range in a set whose end comes first";
        }
        for (int c = from; c >= 0 && c <= to; c++)
            set[c] = true;
    }
    if (t->complaint)
        return;
    t->at++;
    put_set(t, set, negated);
}

/* Behind the backslash. */
static void take_escape(translation *t)
{
    bool set[ASCII] = {false};
    const char c = *t->at;
    if (!c || is_one_of(c, digits) || (is_one_of(c, letters) && !is_one_of(c, "dDwWsS"))) {
        t->complaint = "an escape other than \\d, \\w, \\s and of punctuation";
        return;
    }
    t->at++;
    if (add_class(c, set)) {
        put_set(t, set, false);
        return;
    }
    builder_add(&t->out, is_one_of(c, ".[]()*+?{}|^$\\") ? "\\" : "");
    builder_add_bytes(&t->out, &c, 1);
}

static void take_group(translation *t)
{
    if (*t->at == '?' && t->at[1] != ':')
        t->complaint = "lookaround, a flag or a named group";
    else if (++t->depth > DEPTH_MAX)
        t->complaint = "too many groups in each other";
    t->at += *t->at == '?' ? 2 : 0;
    builder_add(&t->out, "(");
}

/* {3}, {3,}, {,3} and {3,5} repeat; another brace is a character. */
static void take_brace(translation *t)
{
    char *end;
    const char *at = t->at;
    const bool has_low = is_one_of(*at, digits);
    const long low = has_low ? strtol(at, &end, 10) : 0;
    at = has_low ? end : at;
    const bool comma = *at == ',';
    at += comma;
    const bool has_high = comma && is_one_of(*at, digits);
    const long high = has_high ? strtol(at, &end, 10) : low;
    at = has_high ? end : at;
    if (*at != '}' || (!has_low && !comma)) {
        builder_add(&t->out, "\\{");
        return;
    }
    t->at = at + 1;
    const long most = high > low ? high : low;
    if (most > EXPANDED_MAX || (has_high && high < low)) {
        t->complaint = most > EXPANDED_MAX ? "too large a count" : "a count whose end comes first";
        return;
    }
    t->repeated *= most > 1 ? most : 1;
    if (t->repeated > EXPANDED_MAX)
        t->complaint = "too much repetition";
    builder_format(&t->out, comma && !has_high ? "{%ld," : comma ? "{%ld,%ld" : "{%ld", low, high);
    builder_add(&t->out, "}");
}

/* Which of the possible repetitions is preferred makes no difference to whether a name matches. */
static void take_preference(translation *t)
{
    if (*t->at == '+')
        t->complaint = "possessive repetition";
    t->at += *t->at == '?';
}

static void take_one(translation *t)
{
    const char c = *t->at++;
    if (c == '\\') {
        take_escape(t);
    } else if (c == '[') {
        take_set(t);
    } else if (c == '(') {
        take_group(t);
    } else if (c == '{') {
        const char *before = t->at;
        take_brace(t);
        if (t->at != before)
            take_preference(t);
    } else {
        if (c == ')' && --t->depth < 0)
            t->complaint = "a group that ends before it begins";
        builder_add(&t->out, is_one_of(c, "]}") ? "\\" : "");
        builder_add_bytes(&t->out, &c, 1);
        if (is_one_of(c, "*+?"))
            take_preference(t);
    }
}

static flux1_status unusable(const char *text, const char *why, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_FORMAT,
                     "\"%.200s\": the regular expression has %s, which flux1 does not understand", text, why);
}

static flux1_status translate(const char *text, char **out, flux1_error *err)
{
    translation t = {.at = text, .repeated = 1};
    const size_t length = strlen(text);
    if (length > TEXT_MAX)
        t.complaint = "more than 1000 bytes";
    builder_add(&t.out, "^(.*\\.)?(");
    while (*t.at && !t.complaint)
        take_one(&t);
    if (!t.complaint && (int64_t)length * t.repeated > EXPANDED_MAX)
        t.complaint = "too much repetition";
    builder_add(&t.out, ")$");
    if (t.complaint) {
        builder_free(&t.out);
        return unusable(text, t.complaint, err);
    }
    return builder_take(&t.out, "a regular expression", out, err);
}

/* ---- matching ---- */

static bool is_literal(const char *text)
{
    while (is_one_of(*text, letters) || is_one_of(*text, digits) || is_one_of(*text, "._"))
        text++;
    return !*text;
}

static flux1_status compile(const char *text, pattern *p, flux1_error *err)
{
    char *translated, why[200];
    TRY(translate(text, &translated, err));
    const int failed = regcomp(&p->compiled, translated, REG_EXTENDED | REG_NOSUB);
    free(translated);
    if (failed == REG_ESPACE)
        return error_oom(err, 0, "a regular expression");
    if (failed == 0)
        return FLUX1_OK;
    regerror(failed, &p->compiled, why, sizeof why);
    return error_set(err, FLUX1_ERR_FORMAT, "\"%.200s\": it is no regular expression (%s)", text, why);
}

flux1_status pattern_compile(const char *text, pattern **out, flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    pattern *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return error_oom(err, sizeof *p, "a regular expression");
    if (!is_literal(text))
        st = compile(text, p, err);
    else if (!(p->literal = strdup(text)))
        st = error_oom(err, strlen(text), "a regular expression");
    if (st == FLUX1_OK)
        *out = p;
    else
        free(p);
    return st;
}

static bool literal_matches(const char *literal, const char *name)
{
    const size_t n = strlen(literal), all = strlen(name);
    if (n > all || (n < all && name[all - n - 1] != '.'))
        return false;
    for (size_t i = 0; i < n; i++)
        if (literal[i] != '.' && literal[i] != name[all - n + i])
            return false;
    return true;
}

bool pattern_matches(const pattern *p, const char *name)
{
    return p->literal ? literal_matches(p->literal, name) : regexec(&p->compiled, name, 0, NULL, 0) == 0;
}

void pattern_free(pattern *p)
{
    if (p && !p->literal)
        regfree(&p->compiled);
    if (p)
        free(p->literal);
    free(p);
}
