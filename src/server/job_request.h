/* What a picture is asked for, whichever interface asked; and reading it from JSON that nobody has checked. */
#ifndef FLUX1_SERVER_JOB_REQUEST_H
#define FLUX1_SERVER_JOB_REQUEST_H

#include "server/fault.h"
#include "server/remarks.h"

#define REQUEST_LORAS_MAX 16
#define REQUEST_COUNT_MAX 100
#define REQUEST_SIZE_MAX 65536 /* pixels; memory is what decides */
#define REQUEST_STEPS_MAX 10000
#define REQUEST_PROMPT_MAX 65536 /* bytes */

typedef struct request_lora {
    char *name;
    float scale;
} request_lora;

/* Free with request_free. What was not given has the value that the model, or the command line, says. */
typedef struct job_request {
    char *prompt;
    char *negative_prompt; /* NULL: none */
    float true_cfg_scale;  /* 1: off */
    int width, height;     /* after request_round: multiples of the model's unit */
    int steps;
    float guidance; /* negative: the model has none */
    uint64_t seed;
    int count;
    float step_cache;        /* 0: off */
    int max_sequence_length; /* T5 tokens */
    request_lora lora[REQUEST_LORAS_MAX];
    int loras;
    flux1_format format;
    int quality;       /* of JPEG and WebP; 0: 90 */
    int preview_every; /* steps; 0: none */
} job_request;

/* A request of these defaults, with an empty prompt and a random seed. defaults: strings are not looked at. */
bool request_begin(const job_request *defaults, job_request *out, fault *f);
void request_free(job_request *r);

/* ---- members of an object; absent and null are as not given ---- */

/* Numbers may also be texts of decimal digits. *out stays as it is where nothing is given. */
bool request_whole(const json_value *object, const char *key, int lowest, int highest, int *out, fault *f);
bool request_real(const json_value *object, const char *key, double lowest, double highest, float *out, fault *f);
bool request_text(const json_value *object, const char *key, char **out, fault *f); /* a copy; at most PROMPT_MAX */
bool request_flag(const json_value *object, const char *key, bool *out, fault *f);
bool request_seed(const json_value *object, const char *key, uint64_t *out, fault *f); /* -1: stays as it is */
bool request_format(const json_value *object, const char *key, flux1_format *out, fault *f);
bool request_step_cache(const json_value *object, const char *key, float *out, fault *f); /* "fb:0.12", off, 0.12 */
bool request_add_lora(job_request *r, const char *name, size_t bytes, double scale, fault *f);
bool request_loras(const json_value *object, const char *key, job_request *r, fault *f);

/* The value is there and not null. */
bool request_has(const json_value *object, const char *key);

/* What all interfaces have alike, under our names: prompt (which must be there, and not empty), negative_prompt, width,
 * height, steps, guidance, seed, true_cfg_scale, step_cache, max_sequence_length, lora. */
bool request_read_common(const json_value *object, job_request *r, fault *f);
extern const char *const request_common_names[]; /* ends with NULL */

/* POST /api/jobs: those, and count, format, quality, preview_every; notes: which fields were not known. */
bool request_read(const json_value *object, job_request *r, remarks *n, fault *f);

/* Notes about members that are in none of both lists (which end with NULL; others may be NULL). */
void request_note_unknown(const json_value *object, const char *const *names, const char *const *others, remarks *n);

/* Seeds up to the last picture's exist. */
bool request_check_seeds(const job_request *r, fault *f);

/* ---- writing ---- */

/* As POST /api/jobs takes it. */
void request_put(json_writer *w, const char *key, const job_request *r);

const char *format_name(flux1_format format);   /* "png" */
const char *format_ending(flux1_format format); /* "png", "jpg" */
const char *format_type(flux1_format format);   /* "image/png" */

#endif
