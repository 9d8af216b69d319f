/* The processes of a mesh that are not the first. */
#include "cli/launch.h"

#include "cli/console.h"

#include <signal.h>
#include <unistd.h>

/* Whoever fails before it has joined the others leaves them waiting. Where all fail alike, the first one says so, the
 * launcher ends the rest, and this one is gone before it has waited; where it alone fails, nobody else can tell.
 * Arguments are the same everywhere. */
static int cannot_join(flux1_context *context, flux1_status status)
{
    if (status == FLUX1_ERR_ARGUMENT)
        return EXIT_USAGE;
    signal(SIGTERM, SIG_DFL);
    sleep(3);
    console_mute(false);
    return report(context, status);
}

int launch_follow(const options *opt)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1}; /* the first process ends what is to be ended */
    flux1_context *context = NULL;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        signal(numbers[i], SIG_IGN);
    flux1_status st = open_silent_context(opt, &context);
    int status = EXIT_DONE;
    if (st != FLUX1_OK)
        status = cannot_join(context, st);
    else if ((st = flux1_context_follow(context)) != FLUX1_OK) {
        status = EXIT_FAILED;
        console_mute(!flux1_context_message(context)[0]); /* one is enough to tell that the first is gone */
        report(context, st);
    }
    flux1_context_destroy(context);
    return status;
}
