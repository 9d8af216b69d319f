/* flux1 generate: one request from the options, or one a line of a file. */
#include "cli/batch.h"
#include "cli/from.h"
#include "cli/request.h"

int generate_run(const options *opt)
{
    shared_model s = {.opt = opt};
    catch_signals();
    if (opt->values[OPT_JSONL].given || opt->values[OPT_PROMPTS].given)
        return batch_run(opt);
    options with = *opt;
    from_picture picture;
    int status = from_picture_read(&with, &picture);
    if (status == EXIT_DONE)
        status = shared_model_join(&s);
    if (status == EXIT_DONE)
        status = request_run(&s, &with, &(request_hooks){.repeats = &picture});
    if (status == EXIT_DONE)
        status = finish_output(status);
    shared_model_close(&s);
    from_picture_free(&picture);
    return status;
}
