/* What the two tables become for reading: --help, the shells' completions (man.c: the man page). */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static bool takes_file(const option_row *o) { return o->kind == OPTION_FILE || o->kind == OPTION_FILES; }

#define HELP_COLUMN 32
#define HELP_WIDTH 110

static const char exit_statuses[] = "0 done, 1 failed, 2 wrong usage, 130 interrupted";

/* `text` from `column` on, broken between words at HELP_WIDTH. */
static void print_wrapped(const char *text, int column)
{
    int at = column;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > column && at + 1 + n > HELP_WIDTH) {
            printf("\n%*s", column, "");
            at = column;
        } else if (at > column)
            at += printf(" ");
        at += printf("%.*s", n, text);
        text += n;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static bool has_option(command cmd, int row) { return (option_rows[row].in & 1u << cmd) != 0; }

/* ---- what of an option's text is for one command ----
 *
 * A clause "; bench, plan: …" (or a sentence that begins so) is for these commands alone, up to the next such clause,
 * the default or the end. In "(default: …)" it stands in place of what all others have. The man page has the text as
 * it is. */

#define TEXT_ROOM 1024
#define TEXT_FITS(id, name, letter, kind, argument, lowest, highest, in, help) \
    _Static_assert(sizeof(help) <= TEXT_ROOM, "room for the help of --" name);
OPTION_TABLE(TEXT_FITS)
#undef TEXT_FITS

static int command_at(const char *text, size_t length)
{
    for (int c = 0; c < COMMAND_COUNT; c++)
        if (strlen(command_rows[c].name) == length && strncmp(command_rows[c].name, text, length) == 0)
            return c;
    return -1;
}

/* Bytes of "; NAME, NAME: " at `text`, or with a full stop; 0: that is not there. *meant: cmd is one of them. */
static size_t label_at(const char *text, command cmd, bool *meant)
{
    size_t at = strncmp(text, "; ", 2) == 0 || strncmp(text, ". ", 2) == 0 ? 2 : 0;
    bool named = false;
    while (at > 0) {
        const size_t length = strcspn(text + at, ",: ");
        const int c = command_at(text + at, length);
        if (c < 0)
            break;
        named |= c == (int)cmd;
        at += length;
        if (strncmp(text + at, ": ", 2) == 0) {
            *meant = named;
            return at + 2;
        }
        at += strspn(text + at, ", ");
    }
    return 0;
}

static void text_for(const option_row *o, command cmd, char out[TEXT_ROOM])
{
    static const char opening[] = " (default: ";
    size_t n = 0, value = 0; /* where the default's text begins; 0: outside of it */
    bool meant = true;
    for (const char *at = o->help; *at;) {
        const size_t label = label_at(at, cmd, &meant);
        if (label && meant && value)
            n = value;
        else if (label && meant)
            n += (size_t)snprintf(out + n, TEXT_ROOM - n, "; "); /* no longer than what it stands for */
        at += label;
        if (label)
            continue;
        const bool opens = strncmp(at, opening, sizeof opening - 1) == 0, closes = value && *at == ')';
        meant |= opens || closes;
        value = opens ? n + sizeof opening - 1 : closes ? 0 : value;
        if (meant)
            out[n++] = *at;
        at++;
    }
    out[n] = '\0';
}

/* Commands without options. */
static const struct other {
    const char *name, *operand, *help, *more;
} others[] = {
    {"help", "[COMMAND]", "list a command's options, as flux1 COMMAND --help does", ""},
    {"version", "", "show the version", ""},
    {"completion", "bash|zsh|fish", "print a completion script for a shell",
     "\n  bash    eval \"$(flux1 completion bash)\" in ~/.bashrc\n"
     "  zsh     source <(flux1 completion zsh) in ~/.zshrc, after compinit\n"
     "  fish    flux1 completion fish > ~/.config/fish/completions/flux1.fish\n"},
};
#define OTHERS (sizeof others / sizeof *others)

bool help_other(const char *name)
{
    for (size_t i = 0; i < OTHERS; i++)
        if (strcmp(name, others[i].name) == 0) {
            printf("flux1 %s%s%s: %s\n%s", name, others[i].operand[0] ? " " : "", others[i].operand, others[i].help,
                   others[i].more);
            return true;
        }
    return false;
}

const char *help_other_name(int index) { return (size_t)index < OTHERS ? others[index].name : NULL; }

void help_overview(void)
{
    printf("flux1 %s: FLUX.1 text to image\n\n", flux1_version());
    puts("  flux1 generate --prompt \"a red fox\"                  with the mini model that comes with flux1\n"
         "  flux1 generate --model DIR --prompt \"a red fox\"      with a pipeline folder of FLUX.1\n\nCommands:");
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("  %-12s %s\n", command_rows[i].name, command_rows[i].help);
    for (size_t i = 0; i < OTHERS; i++)
        printf("  %-12s %s\n", others[i].name, others[i].help);
    printf("\nResults go to standard output, progress and errors to standard error. Exit status: %s.\n", exit_statuses);
}

void help_command(command cmd)
{
    const command_row *row = &command_rows[cmd];
    printf("flux1 %s [options]%s%s: %s\n\n", row->name, row->operand ? " " : "", row->operand ? row->operand : "",
           row->help);
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_row *o = &option_rows[i];
        char left[80], text[TEXT_ROOM];
        if (!has_option(cmd, i))
            continue;
        snprintf(left, sizeof left, "  %c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                 o->letter ? ',' : ' ', o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        printf("%-*s", HELP_COLUMN, left);
        if (strlen(left) >= HELP_COLUMN)
            printf("\n%*s", HELP_COLUMN, "");
        text_for(o, cmd, text);
        print_wrapped(text, HELP_COLUMN);
    }
    printf("\nExit status: %s.\n", exit_statuses);
}

/* ---- completion
 * -------------------------------------------------------------------------------------------------------------- */

/* An operand that is one of some words. */
static bool is_choice(const char *operand) { return operand && strchr(operand, '|'); }

/* ORG/NAME, which is no file. Operands of other kinds are files. */
static bool is_repository(const char *operand) { return strchr(operand, '/') != NULL; }

static bool has_words(const option_row *o) { return o->kind == OPTION_CHOICE || o->kind == OPTION_DEVICE; }

/* Without what is in brackets. */
static void print_words(const char *choices)
{
    for (bool inside = false; *choices; choices++) {
        inside = *choices == '[' || (inside && choices[-1] != ']');
        if (!inside)
            putchar(*choices == '|' ? ' ' : *choices);
    }
}

static void print_commands(void)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("%s ", command_rows[i].name);
    fputs("help version completion", stdout);
}

static void bash_completion(void)
{
    puts("# bash completion for flux1\n_flux1()\n{\n    local current=${COMP_WORDS[COMP_CWORD]} "
         "previous=${COMP_WORDS[COMP_CWORD-1]} options=\n    "
         "COMPREPLY=()");
    puts("    case $previous in");
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_row *o = &option_rows[i];
        if (!o->argument)
            continue;
        fputs("    ", stdout);
        if (o->letter)
            printf("-%c|", o->letter);
        printf("--%s) ", o->name);
        if (has_words(o)) {
            fputs("COMPREPLY=($(compgen -W '", stdout);
            print_words(o->argument);
            fputs("' -- \"$current\")); ", stdout);
        } else if (takes_file(o) || o->kind == OPTION_FOLDER)
            printf("compopt -o filenames; mapfile -t COMPREPLY < <(compgen %s -- \"$current\"); ",
                   takes_file(o) ? "-f" : "-d");
        puts("return ;;");
    }
    puts("    esac\n    case ${COMP_WORDS[1]} in");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        printf("    %s) options='", command_rows[c].name);
        for (int i = 0; i < OPTION_COUNT; i++)
            if (has_option((command)c, i))
                printf("--%s ", option_rows[i].name);
        puts("' ;;");
    }
    fputs("    help) options='", stdout);
    print_commands();
    puts("' ;;\n    completion) options='bash zsh fish' ;;\n    esac\n    if ((COMP_CWORD == 1)); then");
    fputs("        COMPREPLY=($(compgen -W '", stdout);
    print_commands();
    puts("' -- \"$current\"))");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        const char *operand = command_rows[c].operand;
        if (!operand || is_repository(operand))
            continue;
        printf("    elif [[ ${COMP_WORDS[1]} == %s && $current != -* ]]; then\n        ", command_rows[c].name);
        if (is_choice(operand)) {
            fputs("COMPREPLY=($(compgen -W '", stdout);
            print_words(operand);
            puts("' -- \"$current\"))");
        } else
            puts("compopt -o filenames\n        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")");
    }
    puts("    else\n        COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n    fi\n}\ncomplete -F _flux1 "
         "flux1");
}

/* Text between single quotes; `special` are escaped with a backslash. */
static void print_quoted(const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(special, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_option(const option_row *o, command cmd)
{
    char text[TEXT_ROOM];
    text_for(o, cmd, text);
    fputs("        '", stdout);
    if (o->letter)
        printf("(-%c --%s)'{-%c,--%s}'", o->letter, o->name, o->letter, o->name);
    else
        printf("--%s", o->name);
    putchar('[');
    print_quoted(text, "[]:\\");
    putchar(']');
    if (has_words(o)) {
        printf(":%s:(", o->name);
        print_words(o->argument);
        putchar(')');
    } else if (o->argument)
        printf(":%s:%s", o->name, takes_file(o) ? "_files" : o->kind == OPTION_FOLDER ? "_files -/" : "");
    puts("' \\");
}

static void zsh_completion(void)
{
    puts("#compdef flux1\n# zsh completion for flux1\n_flux1() {\n    if ((CURRENT == 2)); then\n        local -a "
         "commands=(");
    for (int i = 0; i < COMMAND_COUNT; i++) {
        printf("            '%s:", command_rows[i].name);
        print_quoted(command_rows[i].help, ":\\");
        puts("'");
    }
    for (size_t i = 0; i < OTHERS; i++) {
        printf("            '%s:", others[i].name);
        print_quoted(others[i].help, ":\\");
        puts("'");
    }
    puts("        )");
    puts("        _describe command commands\n        return\n    fi\n    local command=$words[2]\n    shift words\n   "
         " ((CURRENT--))\n    case $command in");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        printf("    %s)\n        _arguments -s \\\n", command_rows[c].name);
        for (int i = 0; i < OPTION_COUNT; i++)
            if (has_option((command)c, i))
                zsh_option(&option_rows[i], (command)c);
        if (is_choice(command_rows[c].operand)) {
            fputs("        ':what:(", stdout);
            print_words(command_rows[c].operand);
            puts(")' ;;");
        } else
            puts(command_rows[c].operand && !is_repository(command_rows[c].operand) ? "        '*:path:_files' ;;"
                                                                                    : "        ;;");
    }
    fputs("    completion)\n        _values shell bash zsh fish ;;\n    help)\n        _values command ", stdout);
    print_commands();
    puts(" ;;\n    esac\n}\n"
         "if [[ $funcstack[1] == _flux1 ]]; then\n    _flux1 \"$@\"\nelse\n    compdef _flux1 flux1\nfi");
}

static void fish_completion(void)
{
    puts("# fish completion for flux1\ncomplete -c flux1 -f");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        printf("complete -c flux1 -n __fish_use_subcommand -a %s -d '", command_rows[c].name);
        print_quoted(command_rows[c].help, "\\");
        puts("'");
    }
    puts("complete -c flux1 -n __fish_use_subcommand -a 'help version completion'\n"
         "complete -c flux1 -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'");
    fputs("complete -c flux1 -n '__fish_seen_subcommand_from help' -a '", stdout);
    print_commands();
    puts("'");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        const char *operand = command_rows[c].operand;
        if (!operand || is_repository(operand))
            continue;
        printf("complete -c flux1 -n '__fish_seen_subcommand_from %s' ", command_rows[c].name);
        if (is_choice(operand)) {
            fputs("-a '", stdout);
            print_words(operand);
            puts("'");
        } else
            puts("-F");
    }
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_row *o = &option_rows[i];
        fputs("complete -c flux1 -n '__fish_seen_subcommand_from", stdout);
        for (int c = 0; c < COMMAND_COUNT; c++)
            if (has_option((command)c, i))
                printf(" %s", command_rows[c].name);
        printf("' -l %s", o->name);
        if (o->letter)
            printf(" -s %c", o->letter);
        if (o->argument)
            fputs(takes_file(o) || o->kind == OPTION_FOLDER ? " -r -F" : " -x", stdout);
        if (has_words(o)) {
            fputs(" -a '", stdout);
            print_words(o->argument);
            putchar('\'');
        }
        fputs(" -d '", stdout);
        print_quoted(o->help, "\\");
        puts("'");
    }
}

bool help_completion(const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        bash_completion();
    else if (strcmp(shell, "zsh") == 0)
        zsh_completion();
    else if (strcmp(shell, "fish") == 0)
        fish_completion();
    else
        return false;
    return true;
}
