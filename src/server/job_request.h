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
#define REQUEST_TOKENS_MAX 65536 /* the model is what decides */

typedef struct request_lora {
    char *name;
    float scale;
} request_lora;

/* Free with request_free. What was not given has the value that the model, or the command line, says. */
typedef struct job_request {
    char *model; /* its name; NULL: the one there is */
    char *prompt;
    char *written;         /* the prompt with the tags of adapters that were in it; NULL: there were none */
    char *negative_prompt; /* NULL: none */
    float true_cfg_scale;  /* 1: off */
    int width, height;     /* multiples of the model's unit once it is planned */
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

/* Numbers may also be texts of decimal digits, and flags 0, 1 and texts of them, of "true" and "false". *out stays as
 * it is where nothing is given. */
bool request_real(const json_value *object, const char *key, double lowest, double highest, float *out, fault *f);
bool request_text(const json_value *object, const char *key, char **out, fault *f); /* a copy; at most PROMPT_MAX */
bool request_flag(const json_value *object, const char *key, bool *out, fault *f);
bool request_add_lora(job_request *r, const char *name, size_t bytes, double scale, fault *f);

/* The value is there and not null. */
bool request_has(const json_value *object, const char *key);

/* ---- fields: one row for each member that an interface takes; reading and /openapi.json go by it ---- */

typedef enum field_type {
    FIELD_TEXT,
    FIELD_WHOLE,
    FIELD_REAL,
    FIELD_FLAG,
    FIELD_SEED,
    FIELD_FORMAT,
    FIELD_STEP_CACHE,
    FIELD_LORAS, /* only of a job_request, whatever the place */
    FIELD_OTHER  /* request_read_fields passes over it: its interface reads it itself */
} field_type;

typedef struct request_field {
    const char *name; /* NULL: the end of a table */
    field_type type;
    double lowest, highest; /* of FIELD_WHOLE and FIELD_REAL; lowest: bytes of FIELD_TEXT, for /openapi.json */
    size_t place;           /* of the value, in the struct that is read into */
    const char *text;       /* a sentence for /openapi.json */
    const char *schema;     /* of FIELD_OTHER: its JSON Schema */
} request_field;

/* into: the struct of the table's places. */
bool request_read_fields(const request_field *fields, const json_value *object, void *into, fault *f);

/* What all interfaces have alike, under our names. */
extern const request_field request_common_fields[];
/* Those, of which prompt must be there and not empty. */
bool request_read_common(const json_value *object, job_request *r, fault *f);

/* POST /api/jobs: the common fields and these; notes: which fields were not known. */
extern const request_field request_own_fields[];
bool request_read(const json_value *object, job_request *r, remarks *n, fault *f);

/* Notes about members that are in none of the tables (others and more may be NULL). */
void request_note_unknown(const json_value *object, const request_field *fields, const request_field *others,
                          const request_field *more, remarks *n);

/* A note about a tag of an adapter, where tags are a part of the prompt. */
void request_note_tag(const job_request *r, remarks *n);

/* Seeds up to the last picture's exist. */
bool request_check_seeds(const job_request *r, fault *f);

/* ---- writing ---- */

/* As POST /api/jobs takes it. */
void request_put(json_writer *w, const char *key, const job_request *r);

const char *format_name(flux1_format format);   /* "png" */
const char *format_ending(flux1_format format); /* "png", "jpg" */
const char *format_type(flux1_format format);   /* "image/png" */

#endif
