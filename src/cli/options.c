#include "cli/options.h"

#include "base/builder.h"
#include "base/units.h"
#include "cli/console.h"
#include "cli/foreign.h"
#include "cli/names.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const option_row option_rows[OPTION_COUNT] = {
#define ROW(id, name, letter, kind, argument, lowest, highest, in, help) \
    {name, letter, OPTION_##kind, argument, lowest, highest, in, help},
    OPTION_TABLE(ROW)
#undef ROW
};

const command_row command_rows[COMMAND_COUNT] = {
#define ROW(id, name, operand, help) {name, operand, help},
    COMMAND_TABLE(ROW)
#undef ROW
};

static const char *option_name(int index) { return index < OPTION_COUNT ? option_rows[index].name : NULL; }

/* ---- one value
 * --------------------------------------------------------------------------------------------------------------- */

/* What an error names: nothing would be seen of an empty text. */
static const char *shown(const char *text) { return text[0] ? text : "\"\""; }

/* All digits, and below 2^64. */
static bool parse_unsigned(const char *text, uint64_t *out)
{
    char *end;
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool parse_whole(const option_row *row, const char *text, option_value *out)
{
    uint64_t n = 0;
    if (parse_unsigned(text, &n) && (double)n >= row->lowest && (double)n <= row->highest) {
        out->whole = (int64_t)n;
        return true;
    }
    print_error("--%s %s: must be a whole number from %.0f to %.0f", row->name, shown(text), row->lowest, row->highest);
    return false;
}

static bool parse_real(const option_row *row, const char *text, option_value *out)
{
    char *end;
    out->real = strtod(text, &end);
    bool plain = text[0] != '\0' && *end == '\0' && strspn(text, "0123456789.eE+-") == strlen(text);
    if (plain && isfinite(out->real) && out->real >= row->lowest && out->real <= row->highest)
        return true;
    print_error("--%s %s: must be a number from %g to %g", row->name, shown(text), row->lowest, row->highest);
    return false;
}

static bool parse_seed(const option_row *row, const char *text, option_value *out)
{
    if (parse_unsigned(text, &out->seed))
        return true;
    if (strcmp(text, "-1") == 0) { /* as other programs have it */
        out->given = false;
        return true;
    }
    print_error("--%s %s: must be a whole number from 0 to 18446744073709551615, or -1 for a random one", row->name,
                shown(text));
    return false;
}

static bool parse_size(const option_row *row, const char *text, option_value *out)
{
    if (parse_bytes(text, &out->seed))
        return true;
    print_error("--%s %s: must be a size above 0 and below 8388608T: a number, then K, M, G or T, such as 8G, 1.5G or "
                "512M",
                row->name, shown(text));
    return false;
}

static bool parse_cache(const option_row *row, const char *text, option_value *out)
{
    char *end = NULL;
    const bool fb =
        strncmp(text, "fb:", 3) == 0 && text[3] != '\0' && strspn(text + 3, "0123456789.eE+-") == strlen(text + 3);
    out->real = fb ? (double)strtof(text + 3, &end) : 0; /* as it will be used: no smaller one counts as none */
    if (strcmp(text, "off") == 0 || (fb && *end == '\0' && out->real > row->lowest && out->real <= row->highest))
        return true;
    print_error("--%s %s: must be off, or fb: and a threshold above %g and at most %g, such as fb:0.12", row->name,
                shown(text), row->lowest, row->highest);
    return false;
}

/* Whether `text` is `word`, which ends at | or the end; "cuda:1" is "cuda[:N]", "ttnn:wh-n300" is "ttnn[:MACHINE]". */
static bool is_word(const char *word, const char *text)
{
    const size_t n = strcspn(word, "|[");
    if (n == 0 || strncmp(word, text, n) != 0)
        return false;
    if (word[n] != '[' || text[n] != ':')
        return text[n] == '\0';
    const bool number = strncmp(word + n, "[:N]", 4) == 0;
    const size_t rest = strspn(text + n + 1, number ? "0123456789" : "abcdefghijklmnopqrstuvwxyz0123456789-");
    return rest > 0 && text[n + 1 + rest] == '\0';
}

/* The N of "cuda:N", where the row says how large it may be. */
static bool parse_number_behind(const option_row *row, const char *text, option_value *out)
{
    const char *colon = strchr(text, ':');
    uint64_t n = 0;
    if (!colon || row->highest == 0)
        return true;
    if (parse_unsigned(colon + 1, &n) && (double)n >= row->lowest && (double)n <= row->highest) {
        out->whole = (int64_t)n;
        return true;
    }
    print_error("--%s %s: N must be a whole number from %.0f to %.0f", row->name, text, row->lowest, row->highest);
    return false;
}

static bool parse_choice(const option_row *row, const char *text, option_value *out)
{
    for (const char *word = row->argument; word; word = strchr(word, '|') ? strchr(word, '|') + 1 : NULL)
        if (is_word(word, text))
            return parse_number_behind(row, text, out);
    print_error("--%s %s: must be one of %s", row->name, shown(text), row->argument);
    return false;
}

static bool parse_text(const option_row *row, const char *text, option_value *out)
{
    (void)out;
    if (text[0] != '\0' || row->kind == OPTION_TEXT)
        return true;
    print_error("--%s: the argument is empty", row->name);
    return false;
}

static bool parse_value(const option_row *row, const char *text, option_value *out)
{
    if ((out->given || out->text) && row->kind != OPTION_FLAG && row->kind != OPTION_FILES &&
        row->kind != OPTION_TEXTS) {
        print_error("--%s is given twice", row->name);
        return false;
    }
    out->given = true;
    out->text = text;
    switch (row->kind) {
    case OPTION_FLAG: return true;
    case OPTION_TEXT:
    case OPTION_TEXTS:
    case OPTION_FILE:
    case OPTION_FILES:
    case OPTION_FOLDER: return parse_text(row, text, out);
    case OPTION_WHOLE: return parse_whole(row, text, out);
    case OPTION_REAL: return parse_real(row, text, out);
    case OPTION_SEED: return parse_seed(row, text, out);
    case OPTION_BYTES: return parse_size(row, text, out);
    case OPTION_CACHE: return parse_cache(row, text, out);
    case OPTION_CHOICE:
    case OPTION_DEVICE: return parse_choice(row, text, out);
    }
    return false;
}

int option_named(const char *name)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (names_equal(name, option_rows[i].name))
            return i;
    return -1;
}

bool options_replace(options *o, option_id id, const char *text)
{
    o->values[id] = (option_value){0};
    return parse_value(&option_rows[id], text, &o->values[id]);
}

/* One more value of an option that may be given several times. */
static bool add_value(options *o, option_id id, const char *text, const char **list, int *count, int most)
{
    if (!parse_value(&option_rows[id], text, &o->values[id]))
        return false;
    if (*count == most) {
        print_error("--%s: at most %d", option_rows[id].name, most);
        return false;
    }
    list[(*count)++] = text;
    return true;
}

bool options_add_lora(options *o, const char *text)
{
    return add_value(o, OPT_LORA, text, o->lora, &o->loras, LORA_MAX);
}

/* ---- the whole line
 * ---------------------------------------------------------------------------------------------------------- */

#define LONG_BASE 256 /* getopt_long's values for the rows: above every letter */

/* getopt's two descriptions, out of the table. */
static void describe(struct option longs[OPTION_COUNT + 1], char letters[2 * OPTION_COUNT + 2])
{
    char *to = letters;
    *to++ = ':'; /* a missing argument is ':' and not '?' */
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_row *row = &option_rows[i];
        longs[i] = (struct option){row->name, row->argument ? required_argument : no_argument, NULL, LONG_BASE + i};
        if (!row->letter)
            continue;
        *to++ = row->letter;
        if (row->argument)
            *to++ = ':';
    }
    *to = '\0';
    longs[OPTION_COUNT] = (struct option){0};
}

static int row_of(int code)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (code == LONG_BASE + i || (option_rows[i].letter && code == option_rows[i].letter))
            return i;
    return -1;
}

/* "--ma could be --max-memory, …": whoever abbreviates an option means one of these. */
static bool tell_abbreviated(command cmd, const char *word, size_t length)
{
    builder names = {0};
    int count = 0;
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (length < 2 || !(option_rows[i].in & 1u << cmd) || strncmp(option_rows[i].name, word, length) != 0)
            continue;
        builder_format(&names, "%s--%s", count++ ? ", " : "", option_rows[i].name);
    }
    if (count == 1)
        print_error("unknown option --%.*s; did you mean %s?", (int)length, word, names.text ? names.text : "");
    else if (count > 1)
        print_error("option --%.*s is ambiguous: %s; options cannot be abbreviated", (int)length, word,
                    names.text ? names.text : "");
    builder_free(&names);
    return count > 0;
}

/* word: "--widht=3". */
static void unknown_long(command cmd, const char *word)
{
    char plain[64] = "";
    word += strspn(word, "-");
    const size_t n = strcspn(word, "=");
    if (n < sizeof plain)
        memcpy(plain, word, n);
    const char *pointer = foreign_option(plain), *near = plain[0] ? nearest_name(plain, option_name) : NULL;
    if (pointer)
        print_error("unknown option --%s: %s", plain, pointer);
    else if (tell_abbreviated(cmd, word, n))
        return;
    else if (near)
        print_error("unknown option --%s; did you mean --%s?", plain, near);
    else
        print_error("unknown option --%.*s; flux1 %s --help lists the options", (int)n, word, command_rows[cmd].name);
}

/* getopt's '?': an unknown option, an abbreviation of several, or an argument where none belongs. */
static void unknown_option(command cmd, const char *word)
{
    const char letter[2] = {(char)optopt, '\0'}, *pointer = optopt ? foreign_option(letter) : NULL;
    int row = row_of(optopt);
    if (row >= 0)
        print_error("--%s takes no argument", option_rows[row].name);
    else if (pointer)
        print_error("unknown option -%c: %s", optopt, pointer);
    else if (optopt)
        print_error("unknown option -%c; flux1 %s --help lists the options", optopt, command_rows[cmd].name);
    else
        unknown_long(cmd, word);
}

/* Whether the word is an option as it would stand on the command line: --steps, --steps=4, -s. */
static bool is_option(const char *word)
{
    if (word[0] != '-' || !word[1])
        return false;
    for (int i = 0; i < OPTION_COUNT; i++) {
        const size_t n = strlen(option_rows[i].name);
        if (word[1] == '-' ? strncmp(word + 2, option_rows[i].name, n) == 0 && (!word[2 + n] || word[2 + n] == '=')
                           : option_rows[i].letter == word[1] && !word[2])
            return true;
    }
    return false;
}

/* Of the option that getopt found in `code`: it is written out, belongs to the command, and is not followed by another
 * option where its value should be. */
static bool option_fits(command cmd, char **argv, int code, int row)
{
    const option_row *o = &option_rows[row];
    const bool separate = optarg && optarg == argv[optind - 1];
    const char *word = argv[optind - (separate ? 2 : 1)] + 2;
    if (code >= LONG_BASE && (strlen(o->name) != strcspn(word, "=") || strncmp(word, o->name, strlen(o->name)) != 0)) {
        unknown_long(cmd, word);
        return false;
    }
    if (!(o->in & 1u << cmd)) {
        print_error("%s has no option --%s; flux1 %s --help lists its options", command_rows[cmd].name, o->name,
                    command_rows[cmd].name);
        return false;
    }
    if (separate && is_option(optarg)) {
        print_error("--%s has no value: %s after it is an option; if it is the value, write --%s=%s", o->name, optarg,
                    o->name, optarg);
        return false;
    }
    return true;
}

static bool take_operands(command cmd, int argc, char **argv, options *out)
{
    const char *name = command_rows[cmd].name, *operand = command_rows[cmd].operand;
    if (optind == argc)
        return true;
    if (!operand) {
        print_error("unexpected argument \"%s\"; %s", argv[optind],
                    cmd == COMMAND_GENERATE || cmd == COMMAND_TOKENIZE || cmd == COMMAND_RUN_PLAN
                        ? "put the whole prompt in quotes after -p"
                        : "this command takes options only");
        return false;
    }
    const int most = strchr(operand, ' ') ? 2 : 1;
    if (argc - optind > most) {
        print_error("unexpected argument \"%s\"; %s takes %s %s", argv[optind + most], name,
                    most == 1 ? "one" : "two:", operand);
        return false;
    }
    for (int i = optind; i < argc; i++)
        if (!argv[i][0]) {
            print_error("an argument of %s is empty; it takes %s", name, operand);
            return false;
        }
    out->operand = argv[optind];
    out->operand_2 = argc - optind > 1 ? argv[optind + 1] : NULL;
    return true;
}

static bool take_value(options *out, int row, const char *text)
{
    if (row == OPT_LORA)
        return options_add_lora(out, text);
    if (row == OPT_FILE)
        return add_value(out, OPT_FILE, text, out->pattern, &out->patterns, PATTERN_MAX);
    if (row == OPT_API_KEY)
        return add_value(out, OPT_API_KEY, text, out->key, &out->keys, API_KEY_MAX);
    return parse_value(&option_rows[row], text, &out->values[row]);
}

bool options_parse(command cmd, int argc, char **argv, options *out)
{
    struct option longs[OPTION_COUNT + 1];
    char letters[2 * OPTION_COUNT + 2];
    describe(longs, letters);
    *out = (options){.command = cmd};
    opterr = 0;
    optind = 1;
    for (int code; (code = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        int row = code == ':' || code == '?' ? -1 : row_of(code);
        if (code == ':') {
            row = row_of(optopt);
            print_error("--%s needs an argument: %s", row < 0 ? "?" : option_rows[row].name,
                        row < 0 ? "?" : option_rows[row].argument);
            return false;
        }
        if (row < 0) {
            unknown_option(cmd, argv[optind - 1]);
            return false;
        }
        if (!option_fits(cmd, argv, code, row))
            return false;
        if (!take_value(out, row, optarg))
            return false;
    }
    return take_operands(cmd, argc, argv, out);
}
