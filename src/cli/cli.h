/* What the commands share: exit statuses, the model folder, the prompt, a context made from options, signals. */
#ifndef FLUX1_CLI_CLI_H
#define FLUX1_CLI_CLI_H

#include "cli/options.h"
#include "flux1.h"

#include <stddef.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* One function a command; options are parsed, the return value is the exit status. */
int generate_run(const options *opt);
int decode_run(const options *opt);
int tokenize_run(const options *opt);
int info_run(const options *opt);
int bench_run(const options *opt);
int cache_run(const options *opt);
int plan_run(const options *opt);
int run_plan_run(const options *opt);
int trial_run(const options *opt);
int pull_run(const options *opt);
int convert_run(const options *opt);
int doctor_run(const options *opt);
int serve_run(const options *opt);

/* The tables as texts, on standard output. */
void help_overview(void);
void help_command(command cmd);
void help_man_page(void);
bool help_completion(const char *shell); /* false: no such shell */
bool help_other(const char *name);       /* of help, version, completion; false: it is none of them */
const char *help_other_name(int index);  /* these; NULL behind the last */

/* What FLUX1_MODEL says, or NULL where it is not set; report says of an error about that model where it was named. */
const char *environment_model(void);

/* What --transformer, --clip, --t5, --vae and --tokenizers name; false if none of them is given. `model` is left alone.
 */
bool given_parts(const options *opt, flux1_model_parts *parts);

/* The same with the model: --model, FLUX1_MODEL, or without any part the mini model. False, after an error, if there is
 * no model. */
bool name_parts(const options *opt, flux1_model_parts *parts);

/* The prompt from --prompt or --prompt-file, malloc'd in *prompt. Prints an error on failure; returns the exit status.
 */
int read_prompt(const options *opt, char **prompt, size_t *bytes);

/* The number of an option; *out stays as it is where it is not given. */
void take_whole(const options *opt, option_id id, int *out);

/* The numbers of a request that a command offers. */
void fill_request(const options *opt, flux1_generate_params *params);

/* A context as --device, --mesh, --threads and so on ask. Prints an error on failure and returns the exit status; *out
 * may be NULL. */
int open_context(const options *opt, flux1_context **out);
/* Another one like it, which logs nothing and prints no error: for work in parallel with the first. */
flux1_status open_silent_context(const options *opt, flux1_context **out);
/* The same, which logs elsewhere. */
flux1_status open_logged_context(const options *opt, void (*log)(void *, flux1_log_level, const char *), void *user,
                                 flux1_context **out);
/* One that computes nothing: it reads and writes files, is cancelled, and has the message. log may be NULL; it is
 * called without a user. *out may be NULL after a failure. */
flux1_status open_plain_context(void (*log)(void *, flux1_log_level, const char *), flux1_context **out);

/* What --dtype says, one of its words. */
flux1_dtype dtype_named(const char *name);

/* A tool's JSON on standard output, as it is or, without --json, as a text for people. Returns the exit status. */
int print_result(const options *opt, const char *json);

/* Prints the context's message (NULL: out of memory) with the options that it is about; returns the exit status. */
int report(flux1_context *context, flux1_status status);
/* The same with "<about>: " in front; NULL: nothing. */
int report_about(flux1_context *context, flux1_status status, const char *about);
/* As report, of a call that has opened the model: where the message is about the one that FLUX1_MODEL names, it says
 * so. */
int report_opening(const options *opt, flux1_context *context, flux1_status status);

/* Whether a process of the mesh is gone, so that nothing works any more; the context's message then says which. */
bool lost_process(flux1_context *context);

/* From here on SIGINT, SIGTERM and SIGHUP are remembered (was_interrupted) and cancel the watched context, if any; a
 * second one ends the process at once. */
void catch_signals(void);
void watch_signals(flux1_context *context); /* NULL: none */
/* Cancelled by the first signal; for one request at a time. May be NULL. */
flux1_cancel_token *signal_token(void);
bool was_interrupted(void);

/* Flushes standard output; prints an error where that fails. Returns the exit status. */
int finish_output(int status);

#endif
