#include "cli/session.h"

#include "cli/launcher.h"
#include "cli/progress.h"

#include <stdlib.h>

/* The options that name parts; with one of them the mini model is no default. False: there is nothing to open. */
static bool name_parts(const options *opt, flux1_model_parts *parts)
{
    const option_value *v = opt->values;
    *parts = (flux1_model_parts){.size = sizeof *parts,
                                 .transformer = v[OPT_TRANSFORMER].text,
                                 .clip = v[OPT_CLIP].text,
                                 .t5 = v[OPT_T5].text,
                                 .vae = v[OPT_VAE].text,
                                 .tokenizers = v[OPT_TOKENIZERS].text};
    if (parts->transformer || parts->clip || parts->t5 || parts->vae)
        parts->model = v[OPT_MODEL].given ? v[OPT_MODEL].text : getenv("FLUX1_MODEL");
    else
        return (parts->model = model_folder(opt)) != NULL;
    return true;
}

static int open_once(session *s)
{
    flux1_model_parts parts;
    if (!name_parts(s->opt, &parts))
        return EXIT_USAGE;
    int status = s->context ? EXIT_DONE : open_context(s->opt, &s->context);
    if (status != EXIT_DONE)
        return status;
    s->info.size = sizeof s->info;
    flux1_status st = flux1_context_get_info(s->context, &s->info);
    if (st != FLUX1_OK)
        return report(s->context, st);
    watch_signals(s->context);
    double start = monotonic_seconds();
    if ((st = flux1_model_open_parts(s->context, &parts, &s->model)) != FLUX1_OK)
        return report(s->context, st);
    s->load_seconds = monotonic_seconds() - start;
    flux1_context_params params;
    flux1_context_params_defaults(&params);
    params.threads = 1;
    st = flux1_context_create(&params, &s->writer);
    return st == FLUX1_OK ? EXIT_DONE : report(s->writer, st);
}

int session_join(session *s) { return launcher_processes() > 1 ? open_context(s->opt, &s->context) : EXIT_DONE; }

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
