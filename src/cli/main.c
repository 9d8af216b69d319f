/* flux1: the command line. Finds the command, parses its options, runs it; the exit status is 0 done, 1 failed, 2 wrong
 * usage, 130 interrupted. */
#include "cli/cli.h"

#include "cli/console.h"
#include "cli/hints.h"
#include "cli/launch.h"
#include "cli/launcher.h"
#include "cli/names.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int command_fn(const options *opt);
static command_fn *const runs[COMMAND_COUNT] = {generate_run, decode_run,   tokenize_run, info_run,  bench_run,
                                                plan_run,     run_plan_run, trial_run,    cache_run, pull_run,
                                                convert_run,  serve_run,    doctor_run};

static const char *command_name(int index)
{
    if (index < COMMAND_COUNT)
        return command_rows[index].name;
    return help_other_name(index - COMMAND_COUNT);
}

static int find_command(const char *name)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, command_rows[i].name) == 0)
            return i;
    return -1;
}

static int unknown_command(const char *name)
{
    const char *near = nearest_name(name + strspn(name, "-"), command_name);
    if (near)
        print_error("unknown command \"%s\"; did you mean %s?", name, near);
    else if (name[0] == '-')
        print_error("%s goes after a command, such as flux1 generate %s; flux1 --help lists the commands", name, name);
    else if (strchr(name, ' '))
        print_error("\"%s\" is not a command; is it a prompt? flux1 generate --prompt \"a red fox\"", name);
    else
        print_error("unknown command \"%s\"; flux1 --help lists the commands", name);
    return EXIT_USAGE;
}

static bool is_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

static int help_run(const char *topic)
{
    int cmd = topic ? find_command(topic) : -1;
    const bool other = topic && help_other(topic);
    if (topic && cmd < 0 && !other && !is_help(topic))
        return unknown_command(topic);
    if (cmd >= 0)
        help_command((command)cmd);
    else if (!other)
        help_overview();
    return finish_output(EXIT_DONE);
}

static int completion_run(const char *shell)
{
    if (shell && is_help(shell))
        return help_run("completion");
    if (shell && help_completion(shell))
        return finish_output(EXIT_DONE);
    print_error(shell ? "unknown shell \"%s\"; allowed: bash, zsh, fish" : "completion needs a shell: bash, zsh, fish",
                shell);
    return EXIT_USAGE;
}

/* What is no command of the table: words[0] is its name, and at most one word may follow. Returns the exit status, or
 * -1 if it is none of these. */
static int run_other(int count, char **words)
{
    const char *name = words[0], *operand = count > 1 ? words[1] : NULL;
    const bool help = is_help(name) || strcmp(name, "help") == 0, completion = strcmp(name, "completion") == 0,
               version = strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0 || strcmp(name, "version") == 0,
               man = strcmp(name, "--man") == 0;
    const int most = help || completion ? 2 : 1;
    if (!help && !completion && !version && !man)
        return -1;
    if (version && operand && is_help(operand))
        return help_run(name);
    if (count > most) {
        print_error("unexpected argument \"%s\"", words[most]);
        return EXIT_USAGE;
    }
    if (help)
        return help_run(operand);
    if (completion)
        return completion_run(operand);
    if (man)
        help_man_page();
    else
        printf("flux1 %s\n", flux1_version());
    return finish_output(EXIT_DONE);
}

/* A standard stream that is closed would become the next file that is opened, a picture perhaps, and what is printed
 * would go into it. What stands in its place refuses to be read, or to be written, as nothing would. */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == -1)
            return;
}

/* Of the options that several commands have; false after an error. */
static bool options_agree(const options *opt)
{
    const option_value *v = opt->values;
    const char *folder = v[OPT_CACHE].given ? v[OPT_CACHE].text : getenv("FLUX1_CACHE_DIR");
    if (v[OPT_QUIET].given && v[OPT_VERBOSE].given) {
        print_error("--verbose cannot be combined with --quiet");
        return false;
    }
    if (v[OPT_CACHE_SIZE].given && (!folder || !*folder)) {
        print_error(
            "--cache-size limits a cache folder, and there is none: name one with --cache DIR or FLUX1_CACHE_DIR");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    options opt;
    hold_standard_streams();
    /* a closed pipe and a file's size limit become errors of write, which are reported */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (!name) {
        print_error("no command; try flux1 generate --prompt \"a red fox\", or flux1 --help");
        return EXIT_USAGE;
    }
    const int other = run_other(argc - 1, argv + 1);
    if (other >= 0)
        return other;
    int cmd = find_command(name);
    if (cmd < 0)
        return unknown_command(name);
    console_mute(launcher_process() > 0); /* the first process says it for all */
    if (!options_parse((command)cmd, argc - 1, argv + 1, &opt))
        return EXIT_USAGE;
    if (opt.values[OPT_HELP].given)
        return help_run(name);
    if (!options_agree(&opt))
        return EXIT_USAGE;
    console_quiet(opt.values[OPT_QUIET].given);
    hints_command((command)cmd);
    int status = EXIT_DONE;
    if (!(IN_PROCESSES & 1u << cmd) || !launch_run(&opt, argc, argv, &status))
        status = IN_PROCESSES & 1u << cmd && launcher_process() > 0 ? launch_follow(&opt) : runs[cmd](&opt);
    if (launcher_processes() > 1 && status != EXIT_DONE) {
        fflush(NULL);
        launch_tell_end(status);
        _exit(status); /* after a failure MPI's end may wait for processes that are gone */
    }
    return status;
}
