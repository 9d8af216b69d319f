/* Everything the two tables can be turned into for reading: --help, the man page, the shells' completions. */
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

/* Commands without options. */
static const struct other {
    const char *name, *operand, *help, *more;
} others[] = {
    {"help", "[COMMAND]", "flux1 help COMMAND, or flux1 COMMAND --help, lists a command's options", ""},
    {"version", "", "show the version", ""},
    {"completion", "bash|zsh|fish", "flux1 completion bash|zsh|fish prints a completion script",
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
        char left[80];
        if (!has_option(cmd, i))
            continue;
        snprintf(left, sizeof left, "  %c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                 o->letter ? ',' : ' ', o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        printf("%-*s", HELP_COLUMN, left);
        if (strlen(left) >= HELP_COLUMN)
            printf("\n%*s", HELP_COLUMN, "");
        print_wrapped(o->help, HELP_COLUMN);
    }
    printf("\nExit status: %s.\n", exit_statuses);
}

/* ---- man page
 * ---------------------------------------------------------------------------------------------------------------- */

/* Text as roff wants it: hyphens that can be copied, no accidental requests. */
static void roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static void man_option(const option_row *o)
{
    fputs(".TP\n\\fB", stdout);
    if (o->letter)
        printf("\\-%c\\fR, \\fB", o->letter);
    roff("--");
    roff(o->name);
    fputs("\\fR", stdout);
    if (o->argument) {
        fputs(" \\fI", stdout);
        roff(o->argument);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    roff(o->help);
    fputs(".\n(", stdout);
    const char *between = "";
    for (int c = 0; c < COMMAND_COUNT && o->in != IN_EVERY; c++)
        if (o->in & 1u << c) {
            printf("%s%s", between, command_rows[c].name);
            between = ", ";
        }
    puts(o->in == IN_EVERY ? "all commands)" : ")");
}

static void man_commands_and_options(void)
{
    puts(".SH COMMANDS");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        printf(".TP\n\\fBflux1 %s\\fR\n", command_rows[c].name);
        roff(command_rows[c].help);
        puts(".");
    }
    puts(".SH OPTIONS\nIn brackets: the commands that have the option. Options are not abbreviated. A value that is "
         "itself an option is written\n\\fB\\-\\-prompt=\\fIVALUE\\fR.");
    for (int i = 0; i < OPTION_COUNT; i++)
        man_option(&option_rows[i]);
}

void help_man_page(void)
{
    printf(".TH FLUX1 1 \"\" \"flux1 %s\" \"User commands\"\n.SH NAME\nflux1 \\- FLUX.1 text to image\n.SH SYNOPSIS\n",
           flux1_version());
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("%s.B flux1 %s\n[\\fIoptions\\fR]%s%s\n", i ? ".br\n" : "", command_rows[i].name,
               command_rows[i].operand ? " " : "", command_rows[i].operand ? command_rows[i].operand : "");
    puts(".br\n.B flux1 completion\nbash|zsh|fish\n.SH DESCRIPTION\n"
         "Makes pictures from text with FLUX.1 models (schnell, dev), read from a pipeline folder in diffusers' "
         "layout. Results (the names of the files\n"
         "written, or JSON) go to standard output; progress, notes and errors to standard error. A picture's name "
         "appears only when the file is whole.\n"
         "Width and height are rounded down to a multiple of what the model's autoencoder needs, usually 16. A file "
         "flux1.json beside model_index.json can tell which sizes a model was trained for, in pixels of a side: "
         "{\"sizes\": {\"min\": 256, \"max\": 1536, \"multiple\": 16}}; a request that is more than a quarter outside, "
         "or no multiple, is warned of. "
         "Without \\fB\\-\\-output\\fR a new name is made\n"
         "from prompt and seed; an existing file is not replaced.");
    man_commands_and_options();
    puts(
        ".SH JSON LINES\nWith \\fB\\-\\-jsonl\\fR each line of standard input is a request, and each but a blank "
        "one is answered by one line on standard output,\nin the order of the lines. Options of the command line hold "
        "where a line does not say otherwise; null is the same as a key that is not given, true and false are yes and "
        "no.\nA line that fails does not stop the rest; the exit status is 1 if any failed. A file that an earlier "
        "line "
        "wrote is not replaced. An interrupt ends the run:\nlines behind the current one are not answered.\n.nf\n"
        "{\"prompt\": \"a red fox\", \"seed\": 7, \"output\": \"fox.png\", \"id\": 1}\n"
        "{\"id\": 1, \"line\": 1, \"status\": \"FLUX1_OK\", \"message\": null,\n"
        " \"images\": [{\"file\": \"fox.png\", \"seed\": 7, \"width\": 1024, \"height\": 1024}],\n"
        " \"seconds\": {\"load\": 1.2, \"text\": 0.9, \"denoise\": 40.1, \"decode\": 3.0, \"write\": 0.1, "
        "\"total\": 45.3},\n \"peak_rss_bytes\": 24696061952}\n.fi\n"
        "id is the request's, whatever it is, or null. line counts from 1. status is FLUX1_OK or the name of an error, "
        "such as FLUX1_ERR_ARGUMENT (the line is wrong),\nFLUX1_ERR_FORMAT (it is not JSON) or FLUX1_ERR_IO; message "
        "says then what went wrong. images has what was written, also where the request failed later. warnings, where "
        "there are any, has what was ignored, rounded or is doubtful.\nseconds is "
        "null for a line that became no request. The JSON schema of requests and answers is jsonl.schema.json, among "
        "the documentation.");
    puts(".SH SEVERAL HOSTS\nThe ranks of \\fB\\-\\-mesh\\fR can be processes on several hosts that have Open MPI, "
         "flux1 and "
         "the model at the same paths, and reach\neach other by ssh without a password:\n.nf\n"
         "printf 'alpha slots=4\\enbeta slots=4\\en' > hosts\n"
         "flux1 generate \\-p \"a red fox\" \\-\\-mesh 2x4 \\-\\-hostfile hosts\n"
         "mpirun \\-\\-hostfile hosts \\-n 8 flux1 generate \\-p \"a red fox\" \\-\\-mesh 2x4\n.fi\n"
         "The last two do the same, but mpirun alone may not end when a host is gone. A process that is killed is "
         "noticed at once, a host that is silent\nafter 20 seconds; hosts have 60 seconds to start.");
    puts(".SH ENVIRONMENT\n.TP\n.B FLUX1_MODEL\nmodel to use where none is named.\n.TP\n.B FLUX1_PATH\n"
         "folders, with colons between them, in which parts of a model and adapters are looked for that do not lie "
         "beside it; also ComfyUI's folder, or the models in it.\n.TP\n.B HF_HUB_CACHE, HF_HOME\n"
         "Hugging Face's cache, or the folder in which it is hub (default: ~/.cache/huggingface/hub).\n.TP\n.B "
         "FLUX1_MODELS\n"
         "folder in which the mini model lies, \"\" for none (default: ../models or ../share/flux1/models beside the "
         "program, or models in the source tree).\n.TP\n.B FLUX1_CACHE_DIR\nfolder for prepared weights where "
         "\\-\\-cache names none.\n.TP\n.B FLUX1_CACHE_SIZE\nmost that it may hold, such as 80G.\n.TP\n.B HF_TOKEN\n"
         "token for the Hugging Face hub (pull); else the file that \"hf auth login\" writes.\n.TP\n.B HF_ENDPOINT\n"
         "the hub's address (default: https://huggingface.co).\n.TP\n.B HF_HUB_DOWNLOAD_TIMEOUT\nseconds without data "
         "after which a connection is given up and made again (default: 10).\n.TP\n"
         ".B FLUX1_CUDA_LIBRARIES\nfolders, separated by colons, where cuBLASLt, cuDNN, NCCL or the driver are looked "
         "for first. Otherwise the loader's\npath, /usr/local/cuda/lib64, and what pip and conda have installed under "
         "VIRTUAL_ENV, CONDA_PREFIX, the python3 on PATH\nand ~/.local. flux1 info \\-\\-devices prints what was "
         "found.");
    printf(".SH EXIT STATUS\n%s.\n", exit_statuses);
    puts(".SH EXAMPLES\n.nf\nflux1 generate \\-p \"two yellow ducks on a beach\" \\-o ducks.png\n"
         "hf download black\\-forest\\-labs/FLUX.1\\-schnell \\-\\-local\\-dir FLUX.1\\-schnell\n"
         "flux1 generate \\-m FLUX.1\\-schnell \\-p \"a red fox\" \\-o fox.png\n"
         "flux1 info FLUX.1\\-schnell\n"
         "echo '{\"prompt\": \"a red fox\"}' | flux1 tokenize \\-m FLUX.1\\-schnell \\-\\-jsonl\n.fi");
}

/* ---- completion
 * -------------------------------------------------------------------------------------------------------------- */

/* An operand that is one of some words. */
static bool is_choice(const char *operand) { return operand && strchr(operand, '|'); }

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
    puts("' -- \"$current\"))\n"
         "    elif [[ ${COMP_WORDS[1]} == info && $current != -* ]]; then\n"
         "        compopt -o filenames\n        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        if (!is_choice(command_rows[c].operand))
            continue;
        printf("    elif [[ ${COMP_WORDS[1]} == %s && $current != -* ]]; then\n        COMPREPLY=($(compgen -W '",
               command_rows[c].name);
        print_words(command_rows[c].operand);
        puts("' -- \"$current\"))");
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

static void zsh_option(const option_row *o)
{
    fputs("        '", stdout);
    if (o->letter)
        printf("(-%c --%s)'{-%c,--%s}'", o->letter, o->name, o->letter, o->name);
    else
        printf("--%s", o->name);
    putchar('[');
    print_quoted(o->help, "[]:\\");
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
    puts("            'help:list a command'\\''s options'\n            'version:show the version'\n            "
         "'completion:print a completion script'\n        "
         ")");
    puts("        _describe command commands\n        return\n    fi\n    local command=$words[2]\n    shift words\n   "
         " ((CURRENT--))\n    case $command in");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        printf("    %s)\n        _arguments -s \\\n", command_rows[c].name);
        for (int i = 0; i < OPTION_COUNT; i++)
            if (has_option((command)c, i))
                zsh_option(&option_rows[i]);
        if (is_choice(command_rows[c].operand)) {
            fputs("        ':what:(", stdout);
            print_words(command_rows[c].operand);
            puts(")' ;;");
        } else
            puts(command_rows[c].operand ? "        ':path:_files' ;;" : "        ;;");
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
    puts("'\n"
         "complete -c flux1 -n '__fish_seen_subcommand_from info' -F");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        if (!is_choice(command_rows[c].operand))
            continue;
        printf("complete -c flux1 -n '__fish_seen_subcommand_from %s' -a '", command_rows[c].name);
        print_words(command_rows[c].operand);
        puts("'");
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
