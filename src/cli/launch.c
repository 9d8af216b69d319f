#include "cli/launch.h"

#include "base/file.h"
#include "cli/console.h"
#include "cli/launcher.h"
#include "cli/lines.h"
#include "cli/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

extern char **environ;

/* Set for the processes that --launch starts, which have the same options. */
#define LAUNCHED "FLUX1_LAUNCHED"
enum { ARGUMENTS = 32, VARIABLES = 32 }; /* of mpirun's own; that are passed on */

typedef struct command_line {
    char **word; /* [room], of which `count` are used and the next is NULL */
    size_t count, room;
} command_line;

static void add_word(command_line *c, const char *word)
{
    if (c->count + 1 < c->room)
        c->word[c->count++] = (char *)word;
}

static void add_words(command_line *c, const char *const *words)
{
    for (; *words; words++)
        add_word(c, *words);
}

/* mpirun passes no variables on to other hosts, but those that it is told of. */
static void add_variables(command_line *c, char (*names)[64], size_t room)
{
    size_t n = 0;
    for (char **v = environ; *v && n < room; v++) {
        size_t length = strcspn(*v, "=");
        if (strncmp(*v, "FLUX1_", 6) != 0 || length >= sizeof *names || strncmp(*v, LAUNCHED "=", length + 1) == 0)
            continue;
        memcpy(names[n], *v, length);
        names[n][length] = '\0';
        add_word(c, "-x");
        add_word(c, names[n++]);
    }
}

/* Ranks may be more than cores: they are not bound to any and do not spin while they wait. -q: what mpirun has to say
 * flux1 says in one sentence. */
static bool make_command(const options *opt, int processes, int argc, char **argv, command_line *c)
{
    static const char *const always[] = {
        "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "-x", LAUNCHED, NULL};
    static char number[16], program[4096], names[VARIABLES][64];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    c->count = 0;
    c->room = ARGUMENTS + 2 * VARIABLES + (size_t)argc + 1;
    if (!(c->word = calloc(c->room, sizeof *c->word)))
        return false;
    if (n > 0)
        program[n] = '\0';
    snprintf(number, sizeof number, "%d", processes);
    add_words(c, (const char *const[]){"mpirun", "-q", "-n", number, NULL});
    add_words(c, always);
    if (geteuid() == 0)
        add_word(c, "--allow-run-as-root");
    if (opt->values[OPT_HOSTFILE].given)
        add_words(c, (const char *const[]){"--hostfile", opt->values[OPT_HOSTFILE].text, NULL});
    add_variables(c, names, VARIABLES);
    add_word(c, n > 0 ? program : argv[0]);
    for (int i = 1; i < argc; i++)
        add_word(c, argv[i]);
    return true;
}

static volatile sig_atomic_t runner; /* mpirun */
static volatile sig_atomic_t asked;

/* mpirun ends its processes by force within a second of SIGINT or SIGTERM; SIGUSR1 it passes on. The second time it is
 * meant so. */
static void on_signal(int number)
{
    int saved = errno;
    (void)number;
    if (asked++ && runner > 0)
        kill((pid_t)runner, SIGTERM);
    errno = saved;
}

static void watch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

static bool reads_input(const options *opt)
{
    const option_value *file = &opt->values[OPT_PROMPT_FILE], *list = &opt->values[OPT_PROMPTS];
    return opt->values[OPT_JSONL].given || (file->given && is_standard_input(file->text)) ||
           (list->given && is_standard_input(list->text));
}

/* In the child. In a group of its own the terminal's Ctrl-C does not reach it; but there it could not read from the
 * terminal. */
static void become_mpirun(const options *opt, const command_line *c, int errors)
{
    bool input = reads_input(opt);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
    if (!input || !isatty(STDIN_FILENO))
        setpgid(0, 0);
    if (dup2(errors, STDERR_FILENO) >= 0 && (input || freopen("/dev/null", "r", stdin)))
        execvp(c->word[0], c->word);
    if (errno == ENOENT)
        print_error("--launch needs Open MPI's mpirun, which is not installed (Debian: apt-get install openmpi-bin)");
    else
        print_error("mpirun cannot be started: %s", strerror(errno));
    relay_tell_end(EXIT_FAILED, true);
    _exit(EXIT_FAILED);
}

/* mpirun. In naps: how long it has run, how long ago the user wanted an end, a process had failed or START was over. */
typedef struct run {
    pid_t pid;
    bool late;
    int naps, asked, ended;
} run;

/* Waits of NAP ms, counted. For a host that does not answer ssh waits two minutes, mpirun for ever. */
enum { NAP = 50, SECOND = 1000 / NAP, ASK_AGAIN = SECOND / 2 };
enum { START = 60 * SECOND, ANSWER = 8 * SECOND, GRACE = 2 * SECOND, FORCE = 3 * SECOND };

/* SIGTERM first, on which mpirun ends what it has started; for what is behind a broken network it waits. */
static void force(const run *m, int naps)
{
    if (naps == 0)
        kill(m->pid, SIGTERM);
    if (naps >= FORCE) {
        kill(-m->pid, SIGKILL); /* with its ssh, if it has a group */
        kill(m->pid, SIGKILL);
    }
}

/* After each nap. Before all processes are there, mpirun passes no signal on: it is asked again and again. */
static void hurry(run *m, const relay *r)
{
    m->late = m->late || (!r->started && m->naps > START);
    if (r->ended || m->late)
        force(m, m->ended++ - (m->late ? 0 : GRACE));
    else if (asked && m->asked >= ANSWER)
        force(m, m->asked++ - ANSWER);
    else if (asked && m->asked++ % ASK_AGAIN == 0)
        kill(m->pid, SIGUSR1);
    m->naps++;
}

static void pause_and_pass(relay *r)
{
    const struct timespec nap = {.tv_nsec = NAP * 1000000L};
    if (r->from < 0)
        nanosleep(&nap, NULL);
    else
        relay_pass(r, NAP);
}

/* Naps are counted by the clock, since one ends early when there is something to pass on. */
static long long now_naps(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * SECOND + t.tv_nsec / (NAP * 1000000L);
}

/* When a process is killed, one of the others says which. mpirun leaves them a second for it, which a busy machine may
 * not give them. */
static void explain_end(int how)
{
    if (WIFSIGNALED(how))
        print_error("mpirun was killed (signal %d), and the processes of the mesh with it", WTERMSIG(how));
    else
        print_error("a process of the mesh was killed, and the others ended before one of them could say which");
}

/* The exit status of flux1: as its first process has told it, or as mpirun hands it on. A signal that comes right
 * before a wait must not be lost: so there are naps. */
static int wait_for(run *m, relay *r)
{
    long long before = now_naps();
    int how = 0;
    pid_t ended;
    while ((ended = waitpid(m->pid, &how, WNOHANG)) == 0) {
        pause_and_pass(r);
        for (; before < now_naps(); before++)
            hurry(m, r);
    }
    for (int i = 0; i < 4 && r->from >= 0; i++) /* an ssh that is left over may keep it open */
        relay_pass(r, NAP);
    int status = r->ended ? r->status : ended > 0 && WIFEXITED(how) ? WEXITSTATUS(how) : EXIT_FAILED;
    const bool unsaid = status != EXIT_DONE && !r->silent;
    if (unsaid && asked) {
        print_error("interrupted"); /* before the first process could say so */
        return EXIT_INTERRUPTED;
    }
    if (unsaid && r->started)
        explain_end(how);
    return status > EXIT_INTERRUPTED ? EXIT_FAILED : status; /* a process was killed */
}

static void explain_start(const options *opt, const run *m, int processes, const char *program)
{
    const option_value *hosts = &opt->values[OPT_HOSTFILE];
    if (!hosts->given)
        print_error("mpirun could not start flux1; to see why: mpirun -n %d %s --version", processes, program);
    else
        print_error(
            "mpirun %s start flux1 on the hosts of %s: check that each answers \"ssh HOST %s --version\" without "
            "a password, and that they reach each other",
            m->late ? "did not within 60 s" : "could not", hosts->text, program);
}

static int start(const options *opt, int processes, int argc, char **argv)
{
    command_line c;
    int ends[2];
    if (pipe(ends) != 0 || setenv(LAUNCHED, "1", 1) != 0 || !make_command(opt, processes, argc, argv, &c)) {
        print_error("mpirun cannot be started: %s", strerror(errno));
        return EXIT_FAILED;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    fflush(NULL);
    run m = {.pid = fork()};
    if (m.pid == 0)
        become_mpirun(opt, &c, ends[1]);
    close(ends[1]);
    relay r = {.from = ends[0]};
    runner = (sig_atomic_t)m.pid;
    watch();
    int status = m.pid > 0 ? wait_for(&m, &r) : EXIT_FAILED;
    if (m.pid < 0)
        print_error("mpirun cannot be started: %s", strerror(errno));
    else if (status == EXIT_FAILED && !r.started)
        explain_start(opt, &m, processes, argv[0]);
    if (r.from >= 0)
        close(r.from);
    free(c.word);
    return status;
}

void launch_tell_end(int status)
{
    if (getenv(LAUNCHED))
        relay_tell_end(status, console_has_told());
}

/* Ranks of the mesh, from a context that is closed again: what it refuses is refused before mpirun starts. */
static int count_ranks(const options *opt, int *ranks)
{
    flux1_context *context = NULL;
    flux1_context_info info = {.size = sizeof info};
    int status = open_context(opt, &context);
    if (status == EXIT_DONE) {
        status = report(context, flux1_context_get_info(context, &info));
        *ranks = info.ranks;
    }
    flux1_context_destroy(context);
    return status;
}

static int launch(const options *opt, int argc, char **argv)
{
    const option_value *v = opt->values;
    int ranks = 1, status;
    if (launcher_processes() > 1) {
        print_error("--launch starts mpirun, but a launcher has started this program already; leave out one of them");
        return EXIT_USAGE;
    }
    if (!v[OPT_MESH].given) {
        print_error("--%s needs a mesh, whose ranks become processes: give it with --mesh, such as --mesh 2x4",
                    v[OPT_LAUNCH].given     ? "launch"
                    : v[OPT_HOSTFILE].given ? "hostfile"
                                            : "processes");
        return EXIT_USAGE;
    }
    if (v[OPT_HOSTFILE].given && !file_exists(v[OPT_HOSTFILE].text)) {
        print_error("--hostfile %s: there is no such file", v[OPT_HOSTFILE].text);
        return EXIT_FAILED;
    }
    if ((status = count_ranks(opt, &ranks)) != EXIT_DONE)
        return status;
    if (v[OPT_PROCESSES].given && v[OPT_PROCESSES].whole > ranks) {
        print_error("--processes %d: the mesh has %d rank%s, and each process takes at least one",
                    (int)v[OPT_PROCESSES].whole, ranks, ranks == 1 ? "" : "s");
        return EXIT_USAGE;
    }
    return start(opt, v[OPT_PROCESSES].given ? (int)v[OPT_PROCESSES].whole : ranks, argc, argv);
}

bool launch_run(const options *opt, int argc, char **argv, int *status)
{
    const option_value *v = opt->values;
    if (getenv(LAUNCHED) && launcher_process() == 0)
        relay_tell_start();
    bool wanted = v[OPT_LAUNCH].given || v[OPT_HOSTFILE].given || v[OPT_PROCESSES].given;
    if (wanted && !getenv(LAUNCHED)) {
        *status = launch(opt, argc, argv);
        return true;
    }
    if (launcher_processes() == 1 || v[OPT_MESH].given)
        return false;
    print_error("%d processes were started, which would all do the same: give them one mesh with --mesh, such as "
                "--mesh 1x%d",
                launcher_processes(), launcher_processes());
    *status = EXIT_USAGE;
    return true;
}
