#include "cli/session.h"

#include "cli/progress.h"

static int open_once(session *s)
{
    const char *folder = model_folder(s->opt);
    if (!folder)
        return EXIT_USAGE;
    int status = open_context(s->opt, &s->context);
    if (status != EXIT_DONE)
        return status;
    watch_signals(s->context);
    double start = monotonic_seconds();
    flux1_status st = flux1_model_open(s->context, folder, &s->model);
    if (st != FLUX1_OK)
        return report(s->context, st);
    s->load_seconds = monotonic_seconds() - start;
    if (s->opt->values[OPT_PREVIEW].given) {
        flux1_context_params params;
        flux1_context_params_defaults(&params);
        params.threads = 1;
        if ((st = flux1_context_create(&params, &s->writer)) != FLUX1_OK)
            return report(s->writer, st);
    }
    return EXIT_DONE;
}

int session_open(session *s)
{
    int status = s->model ? EXIT_DONE : open_once(s);
    s->failed = status != EXIT_DONE;
    return status;
}

void session_close(session *s)
{
    watch_signals(NULL);
    flux1_model_close(s->model);
    flux1_context_destroy(s->writer);
    flux1_context_destroy(s->context);
}
