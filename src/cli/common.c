#include "cli/cli.h"

#include "base/builder.h"
#include "cli/builtin.h"
#include "cli/console.h"
#include "cli/hints.h"
#include "cli/launcher.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL_MODEL "black-forest-labs/FLUX.1-schnell"

/* --model, or the environment's FLUX1_MODEL, or (with a note) the mini model that comes with flux1; prints how to get
 * one and returns NULL if there is none. */
static const char *model_folder(const options *opt)
{
    static char mini[BUILTIN_PATH_MAX];
    const option_value *model = &opt->values[OPT_MODEL];
    const char *folder = model->given ? model->text : environment_model();
    builder looked = {0};
    if (folder)
        return folder;
    folder = builtin_model(mini, sizeof mini, &looked) ? mini : NULL;
    if (folder)
        print_note("no --model: using the mini model %s (for a real one: flux1 pull " REAL_MODEL
                   ", then --model " REAL_MODEL ")",
                   folder);
    else
        print_error(
            "no model: flux1's mini model is not in %s; name a pipeline folder with --model DIR or in FLUX1_MODEL (to "
            "download one: flux1 pull " REAL_MODEL "), or the folder that contains mini-schnell in FLUX1_MODELS",
            looked.text ? looked.text : "any folder");
    builder_free(&looked);
    return folder;
}

bool given_parts(const options *opt, flux1_model_parts *parts)
{
    const option_value *v = opt->values;
    parts->size = sizeof *parts;
    parts->transformer = v[OPT_TRANSFORMER].text;
    parts->clip = v[OPT_CLIP].text;
    parts->t5 = v[OPT_T5].text;
    parts->vae = v[OPT_VAE].text;
    parts->tokenizers = v[OPT_TOKENIZERS].text;
    parts->file_variant = v[OPT_FILE_VARIANT].text;
    return parts->transformer || parts->clip || parts->t5 || parts->vae || parts->tokenizers;
}

bool name_parts(const options *opt, flux1_model_parts *parts)
{
    const option_value *model = &opt->values[OPT_MODEL];
    *parts = (flux1_model_parts){.size = sizeof *parts};
    given_parts(opt, parts);
    if (parts->transformer || parts->clip || parts->t5 || parts->vae) /* the mini model has no other parts */
        parts->model = model->given ? model->text : environment_model();
    else
        return (parts->model = model_folder(opt)) != NULL;
    return true;
}

void take_whole(const options *opt, option_id id, int *out)
{
    if (opt->values[id].given)
        *out = (int)opt->values[id].whole;
}

static void take_real(const options *opt, option_id id, float *out)
{
    if (opt->values[id].given)
        *out = (float)opt->values[id].real;
}

void fill_request(const options *opt, flux1_generate_params *params)
{
    const option_value *v = opt->values;
    flux1_generate_params_defaults(params);
    take_whole(opt, OPT_WIDTH, &params->width);
    take_whole(opt, OPT_HEIGHT, &params->height);
    take_whole(opt, OPT_STEPS, &params->steps);
    take_real(opt, OPT_GUIDANCE, &params->guidance);
    take_whole(opt, OPT_COUNT, &params->count);
    take_whole(opt, OPT_BATCH, &params->batch);
    params->negative_prompt = v[OPT_NEGATIVE_PROMPT].text;
    take_real(opt, OPT_TRUE_CFG_SCALE, &params->true_cfg_scale);
    params->step_cache = (float)v[OPT_STEP_CACHE].real;
    take_whole(opt, OPT_MAX_SEQUENCE_LENGTH, &params->max_sequence_length);
    if (v[OPT_VAE_TILING].given)
        params->tiling = strcmp(v[OPT_VAE_TILING].text, "yes") == 0     ? FLUX1_TILING_YES
                         : strcmp(v[OPT_VAE_TILING].text, "no") == 0    ? FLUX1_TILING_NO
                         : strcmp(v[OPT_VAE_TILING].text, "bands") == 0 ? FLUX1_TILING_BANDS
                                                                        : FLUX1_TILING_AUTO;
    if (v[OPT_RNG].given) {
        params->rng = strncmp(v[OPT_RNG].text, "cuda", 4) == 0 ? FLUX1_RNG_CUDA : FLUX1_RNG_CPU;
        params->rng_threads = (int)v[OPT_RNG].whole;
    }
    if (v[OPT_DUMP].given)
        params->dump = v[OPT_DUMP].text;
    params->profile = v[OPT_PROFILE].text;
}

/* ---- FLUX1_MODEL ---- */

static const char *from_environment; /* the model, where the environment has named it */

const char *environment_model(void)
{
    const char *model = getenv("FLUX1_MODEL");
    return from_environment = model && model[0] ? model : NULL;
}

/* Whether the path is in the folder that the model is in, and an option has named it, or what is in it: with its scale
 * (of a LoRA), and with what a picture's name has for its number. */
static bool is_named_by(const char *text, const char *path, size_t folder_bytes)
{
    const char *slash = text ? strrchr(text, '/') : NULL;
    const size_t n = slash ? (size_t)(slash + 1 - text) + strcspn(slash + 1, ".:%") : 0;
    return n > folder_bytes + 1 && strncmp(path, text, n) == 0;
}

static bool is_named(const options *opt, const char *path, size_t folder_bytes)
{
    bool named = is_named_by(opt->operand, path, folder_bytes);
    for (int id = 0; id < OPTION_COUNT; id++)
        named |= is_named_by(opt->values[id].text, path, folder_bytes);
    for (int i = 0; i < opt->loras; i++)
        named |= is_named_by(opt->lora[i], path, folder_bytes);
    return named;
}

/* Whether the message is about that model: its path, or one in it that nobody has named, stands in front, or behind
 * what the line is about. */
static bool blames_environment(const options *opt, const char *message)
{
    const size_t n = from_environment ? strlen(from_environment) : 0;
    bool blames = false;
    for (const char *at = n ? strstr(message, from_environment) : NULL; at; at = strstr(at + 1, from_environment)) {
        if (is_named(opt, at, n))
            return false;
        blames |= (at == message || at[-1] == ' ') && (at[n] == ':' || at[n] == '/');
    }
    return blames;
}

/* user: the options. */
static void on_log(void *user, flux1_log_level level, const char *message)
{
    const options *opt = user;
    if (level == FLUX1_LOG_DETAIL && !opt->values[OPT_VERBOSE].given)
        return;
    if (level != FLUX1_LOG_WARNING) {
        print_note("%s", message);
        return;
    }
    builder hints = {0};
    hints_add(&hints, message);
    print_warning("%s%s", message, hints.text ? hints.text : "");
    builder_free(&hints);
}

flux1_dtype dtype_named(const char *name)
{
    static const char *const names[] = {"auto", "f32", "bf16", "fp8", "int8", "int8-fast"}; /* in flux1_dtype's order */
    int i = FLUX1_DTYPE_INT8_FAST;
    while (i > FLUX1_DTYPE_AUTO && strcmp(names[i], name) != 0)
        i--;
    return (flux1_dtype)i;
}

static flux1_device_weights device_weights_named(const char *name)
{
    return strcmp(name, "packed") == 0    ? FLUX1_DEVICE_WEIGHTS_PACKED
           : strcmp(name, "decoded") == 0 ? FLUX1_DEVICE_WEIGHTS_DECODED
                                          : FLUX1_DEVICE_WEIGHTS_AUTO;
}

static flux1_status create_context(const options *opt, void (*log)(void *, flux1_log_level, const char *), void *user,
                                   flux1_context **out)
{
    const option_value *v = opt->values;
    flux1_context_params params;
    flux1_context_params_defaults(&params);
    if (v[OPT_DEVICE].given)
        params.device = v[OPT_DEVICE].text;
    params.encoder_device = v[OPT_ENCODER_DEVICE].text;
    if (v[OPT_CAPTURE].given)
        params.eager = strcmp(v[OPT_CAPTURE].text, "no") == 0         ? 1
                       : strcmp(v[OPT_CAPTURE].text, "branches") == 0 ? 2
                                                                      : 0;
    params.mesh = v[OPT_MESH].text;
    params.sp = v[OPT_SP].text;
    params.tp = v[OPT_TP].text;
    params.threads = (int)v[OPT_THREADS].whole;
    params.max_memory = v[OPT_MAX_MEMORY].seed;
    params.memory_of_process = !opt->shares;
    params.plans_only = opt->command == COMMAND_INFO;
    params.max_device_memory = v[OPT_MAX_DEVICE_MEMORY].seed;
    params.cache = v[OPT_CACHE].text;
    params.cache_size = v[OPT_CACHE_SIZE].seed;
    if (v[OPT_DTYPE].given)
        params.dtype = dtype_named(v[OPT_DTYPE].text);
    if (v[OPT_DEVICE_WEIGHTS].given)
        params.device_weights = device_weights_named(v[OPT_DEVICE_WEIGHTS].text);
    if (v[OPT_ROUND_WEIGHTS].given)
        params.weight_rounding = FLUX1_ROUNDING_BFP8;
    params.processes = opt->command != COMMAND_INFO && opt->command != COMMAND_DECODE &&
                       opt->command != COMMAND_SERVE && launcher_processes() > 1;
    params.log = log;
    params.log_user = user;
    return flux1_context_create(&params, out);
}

int open_context(const options *opt, flux1_context **out)
{
    flux1_status st = create_context(opt, on_log, (void *)opt, out);
    return st == FLUX1_OK ? EXIT_DONE : report(*out, st);
}

flux1_status open_silent_context(const options *opt, flux1_context **out)
{
    return create_context(opt, NULL, NULL, out);
}

flux1_status open_logged_context(const options *opt, void (*log)(void *, flux1_log_level, const char *), void *user,
                                 flux1_context **out)
{
    return create_context(opt, log, user, out);
}

flux1_status open_plain_context(void (*log)(void *, flux1_log_level, const char *), flux1_context **out)
{
    flux1_context_params params;
    flux1_context_params_defaults(&params);
    params.threads = 1;
    params.cache = "";
    params.log = log;
    return flux1_context_create(&params, out);
}

bool lost_process(flux1_context *context)
{
    flux1_context_info info = {.size = sizeof info};
    if (!context || launcher_processes() == 1)
        return false;
    return flux1_context_get_info(context, &info) == FLUX1_ERR_COMM;
}

/* of_model: the options, where the model was opened that the environment may name; else NULL. */
static int report_all(flux1_context *context, flux1_status status, const char *about, const options *of_model)
{
    if (status == FLUX1_OK)
        return EXIT_DONE;
    if (status == FLUX1_ERR_CANCELLED && was_interrupted()) { /* or the launcher's SIGTERM, where a process has ended */
        usleep(100000);                                       /* the news may be a little behind the signal */
        if (!lost_process(context)) {
            print_failure(FLUX1_ERR_CANCELLED, "interrupted");
            return EXIT_INTERRUPTED;
        }
        status = FLUX1_ERR_COMM;
    }
    const char *message = context ? flux1_context_message(context) : "";
    builder hints = {0};
    hints_add(&hints, message);
    if (of_model && blames_environment(of_model, message))
        builder_add(&hints, " (FLUX1_MODEL names this model)");
    print_failure(status, "%s%s%s%s", about ? about : "", about ? ": " : "",
                  message[0] ? message : flux1_status_text(status), hints.text ? hints.text : "");
    builder_free(&hints);
    return status == FLUX1_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

int report(flux1_context *context, flux1_status status) { return report_all(context, status, NULL, NULL); }

int report_about(flux1_context *context, flux1_status status, const char *about)
{
    return report_all(context, status, about, NULL);
}

int report_opening(const options *opt, flux1_context *context, flux1_status status)
{
    return report_all(context, status, NULL, opt);
}

/* ---- signals
 * ----------------------------------------------------------------------------------------------------------------- */

static flux1_context *volatile watched;
static flux1_cancel_token *token;
static volatile sig_atomic_t interrupts;

static void on_signal(int number)
{
    flux1_context *context = watched;
    int saved = errno;
    if (interrupts++ && number != SIGUSR1) /* that one comes again by itself */
        _exit(EXIT_INTERRUPTED);
    if (context)
        flux1_cancel(context);
    if (token)
        flux1_cancel_token_cancel(token);
    errno = saved;
}

void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    size_t count = sizeof numbers / sizeof *numbers - (launcher_processes() == 1); /* SIGUSR1: from flux1 --launch */
    token = flux1_cancel_token_create(); /* of the process; NULL: requests still ask was_interrupted */
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    for (size_t i = 0; i < count; i++)
        /* nohup and a shell's & say that a signal is to be ignored: it stays so */
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
}

flux1_cancel_token *signal_token(void) { return token; }

void watch_signals(flux1_context *context) { watched = context; }

bool was_interrupted(void) { return interrupts != 0; }

int finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (status == EXIT_DONE)
        print_error("standard output: cannot write: %s", errno ? strerror(errno) : "the disk may be full");
    return status == EXIT_DONE ? EXIT_FAILED : status;
}
