/* flux1 decode: pictures out of latents that are done. */
#include "cli/console.h"
#include "cli/latents.h"
#include "cli/request.h"

int decode_run(const options *opt)
{
    options with = *opt;
    shared_model s = {.opt = &with};
    flux1_latents_file *file = NULL;
    catch_signals();
    if (!opt->operand) {
        print_error("decode needs a FILE: latents that flux1 has kept or dumped, or diffusers' or ComfyUI's");
        return EXIT_USAGE;
    }
    int status = latents_open(opt, opt->operand, false, &file);
    if (status == EXIT_DONE && !latents_take_model(&with, opt->operand, file))
        status = EXIT_USAGE;
    if (status == EXIT_DONE)
        status = request_run(&s, &with, &(request_hooks){.latents = file});
    if (status == EXIT_DONE)
        status = finish_output(status);
    shared_model_close(&s);
    flux1_latents_close(file);
    return status;
}
