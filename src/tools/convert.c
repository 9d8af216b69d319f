#include "tools/convert.h"

#include "base/ending.h"
#include "base/json_write.h"
#include "base/pool.h"
#include "pipeline/adapter_calls.h"
#include "pipeline/adapter_place.h"
#include "pipeline/opening.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RULES_MAX ((size_t)1 << 20)

void flux1_convert_params_defaults(flux1_convert_params *params)
{
    if (params)
        *params = (flux1_convert_params){.size = sizeof *params, .type = "keep"};
}

/* ---- the parameters ---- */

static flux1_status read_format(convert_job *j)
{
    j->is_gguf = ends_in_any_case(j->out, ".gguf");
    if (j->is_gguf || ends_in_any_case(j->out, ".safetensors") || ends_in_any_case(j->out, ".sft"))
        return FLUX1_OK;
    return error_set(j->err, FLUX1_ERR_ARGUMENT,
                     "%s: the file to write should end in .gguf or .safetensors, which says what it will be", j->out);
}

static flux1_status read_names(convert_job *j, const char *names)
{
    j->names = j->is_gguf || j->part == MODEL_TRANSFORMER || j->part == MODEL_VAE ? CONVERT_FILES : CONVERT_OURS;
    if (j->part == MODEL_CLIP)
        j->names = CONVERT_OURS; /* they are transformers' in every file */
    if (!names)
        return FLUX1_OK;
    if (strcmp(names, "bfl") != 0 && strcmp(names, "diffusers") != 0)
        return error_set(j->err, FLUX1_ERR_ARGUMENT, "names \"%s\": it should be bfl or diffusers", names);
    const bool ours = strcmp(names, "diffusers") == 0;
    if (ours && j->is_gguf && j->names == CONVERT_FILES)
        return error_set(j->err, FLUX1_ERR_ARGUMENT,
                         "names \"diffusers\": GGUF files have Black Forest Labs' and llama.cpp's names; write a "
                         ".safetensors file");
    if (j->part == MODEL_TRANSFORMER || j->part == MODEL_VAE)
        j->names = ours ? CONVERT_OURS : CONVERT_FILES;
    return FLUX1_OK;
}

static flux1_status read_type(convert_job *j, const char *name)
{
    char problem[512];
    j->type = convert_type_named(name, strlen(name), j->is_gguf, problem, sizeof problem);
    return j->type ? FLUX1_OK : error_set(j->err, FLUX1_ERR_ARGUMENT, "type: %s", problem);
}

static flux1_status read_rules(convert_job *j, const char *path)
{
    char *text;
    size_t size;
    if (!path)
        return FLUX1_OK;
    TRY(file_read(path, RULES_MAX, &text, &size, j->err));
    flux1_status st = strlen(text) == size ? convert_rules_parse(text, path, j->is_gguf, &j->rules, j->err)
                                           : error_set(j->err, FLUX1_ERR_FORMAT, "%s: it is not a text", path);
    free(text);
    return st;
}

/* As generate finds it, beside the model to convert. */
static flux1_status open_adapter(convert_job *j, const char *name, adapter_file **out)
{
    const store *stores[MODEL_PARTS] = {[0] = NULL};
    char *place;
    stores[j->part] = j->s;
    TRY(adapter_locate_beside(&j->in, 1, name, &place, j->err));
    const flux1_status st = adapter_open(place, stores, out, j->err);
    if (st == FLUX1_OK && strcmp(place, name) != 0)
        context_log(j->context, FLUX1_LOG_INFO, "%s: %s", name, place);
    if (st == FLUX1_OK)
        adapter_warn(j->context, name, *out);
    free(place);
    return st;
}

static flux1_status open_adapters(convert_job *j, const flux1_convert_params *p)
{
    if (p->adapter_count < 0 || p->adapter_count > FLUX1_ADAPTER_FILES_MAX || (p->adapter_count && !p->adapters))
        return error_set(j->err, FLUX1_ERR_ARGUMENT, "%d adapters: it should be a list of at most %d", p->adapter_count,
                         FLUX1_ADAPTER_FILES_MAX);
    for (int i = 0; i < p->adapter_count; i++) {
        if (!p->adapters[i].path)
            return error_set(j->err, FLUX1_ERR_ARGUMENT, "adapter %d: its path is NULL", i);
        if (!isfinite(p->adapters[i].scale))
            return error_set(j->err, FLUX1_ERR_ARGUMENT,
                             "adapter %d: scale %g, it should be a finite number, such as 1", i,
                             (double)p->adapters[i].scale);
        TRY(open_adapter(j, p->adapters[i].path, &j->adapter[i]));
        j->adapters++;
        j->strength[i] = p->adapters[i].scale;
    }
    return FLUX1_OK;
}

/* ---- the output must be no input ---- */

static flux1_status check_other_file(const convert_job *j, const store *s)
{
    struct stat out;
    if (stat(j->out, &out) != 0)
        return FLUX1_OK;
    for (size_t i = 0; i < store_files(s); i++) {
        const file_identity *in = &store_file(s, i)->map.identity;
        if (in->device == (uint64_t)out.st_dev && in->inode == (uint64_t)out.st_ino)
            return error_set(j->err, FLUX1_ERR_ARGUMENT, "%s: is read for the conversion; choose another name", j->out);
    }
    return FLUX1_OK;
}

static flux1_status check_output(const convert_job *j)
{
    if (file_is_directory(j->out))
        return error_set(j->err, FLUX1_ERR_IO, "%s: is a folder, the name of a file is needed", j->out);
    TRY(check_other_file(j, j->s));
    for (int i = 0; i < j->adapters; i++)
        TRY(check_other_file(j, j->adapter[i]->store));
    return FLUX1_OK;
}

/* Of a file that was cut meanwhile zeros may have been read. */
static flux1_status check_inputs(const convert_job *j)
{
    TRY(store_check_files(j->s, j->err));
    for (int i = 0; i < j->adapters; i++)
        TRY(store_check_files(j->adapter[i]->store, j->err));
    return FLUX1_OK;
}

/* ---- the file ---- */

/* "blocks.0.weight" to "blocks.0.scale_weight" (ComfyUI's form) */
static flux1_status add_scale(convert_job *j, convert_tensor *t)
{
    char name[NAME_BYTES_MAX + 16];
    snprintf(name, sizeof name, "%.*s.scale_weight", (int)(strlen(t->name) - strlen(".weight")), t->name);
    return tensor_file_add(&j->file, name, DTYPE_F32, 0, NULL, &t->scale_index, j->err);
}

static flux1_status list_tensors(convert_job *j)
{
    const convert_tensor *scaled = NULL;
    size_t marker;
    for (size_t i = 0; i < j->count; i++) {
        convert_tensor *t = &j->tensor[i];
        TRY(tensor_file_add(&j->file, t->name, t->type, t->dims, t->shape, &t->index, j->err));
        if (t->scaled)
            TRY(add_scale(j, t));
        scaled = t->scaled ? t : scaled;
    }
    if (!scaled)
        return FLUX1_OK;
    return tensor_file_add(&j->file, "scaled_fp8", scaled->type, 1, (const int64_t[]){0}, &marker, j->err);
}

static void describe_types(json_writer *w, const convert_job *j)
{
    json_begin_array(w, "types");
    for (int type = 0; type < DTYPE_COUNT; type++) {
        size_t tensors = 0;
        uint64_t parameters = 0;
        for (size_t i = 0; i < j->count; i++)
            if ((int)j->tensor[i].type == type) {
                tensors++;
                parameters += (uint64_t)(j->tensor[i].rows * j->tensor[i].cols);
            }
        if (!tensors)
            continue;
        json_begin_object(w, NULL);
        json_put_string(w, "type", dtype_describe((dtype)type)->name);
        json_put_unsigned(w, "tensors", tensors);
        json_put_unsigned(w, "parameters", parameters);
        json_end_object(w);
    }
    json_end_array(w);
}

static flux1_status describe(const convert_job *j, char **json)
{
    json_writer w = {.style = JSON_INDENTED};
    double parameters = 0;
    for (size_t i = 0; i < j->count; i++)
        parameters += (double)j->tensor[i].rows * (double)j->tensor[i].cols;
    json_begin_object(&w, NULL);
    json_put_string(&w, "file", j->out);
    json_put_string(&w, "part", name_map_of(j->part)->title);
    json_put_string(&w, "format", j->is_gguf ? "GGUF" : "safetensors");
    json_put_unsigned(&w, "bytes", j->file.bytes);
    json_put_unsigned(&w, "tensors", j->count);
    json_put_unsigned(&w, "parameters", (uint64_t)parameters);
    json_put_real(&w, "bits_per_parameter", parameters > 0 ? 8 * (double)j->file.bytes / parameters : 0);
    describe_types(&w, j);
    json_end_object(&w);
    return json_take(&w, "the description", json, j->err);
}

static flux1_status run(convert_job *j, const flux1_convert_params *p, char **json)
{
    TRY(read_format(j));
    TRY(read_type(j, p->type ? p->type : "keep"));
    TRY(read_rules(j, p->rules));
    TRY(opening_variant(j->context, p->file_variant));
    TRY(convert_open(j->in, p->part, p->file_variant, &j->part, &j->s, j->err));
    for (int kind = 0; kind < STORE_NOTES; kind++)
        if (store_note(j->s, kind))
            context_log(j->context, FLUX1_LOG_INFO, "%s", store_note(j->s, kind));
    TRY(read_names(j, p->names));
    TRY(open_adapters(j, p));
    TRY(check_output(j));
    TRY(convert_plan(j));
    TRY(convert_choose_types(j));
    j->file.is_gguf = j->is_gguf;
    TRY(list_tensors(j));
    TRY(convert_facts(j));
    TRY(tensor_file_begin(&j->file, j->out, j->err));
    TRY(convert_write(j));
    TRY(check_inputs(j));
    TRY(describe(j, json));
    return tensor_file_commit(&j->file, j->err);
}

flux1_status flux1_convert(flux1_context *c, const char *in, const char *out, const flux1_convert_params *params,
                           char **json)
{
    flux1_convert_params p;
    char *text = NULL;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_needs(c, in, "in"));
    TRY(context_needs(c, out, "out"));
    if (params && params->size < offsetof(flux1_convert_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "the parameters were not set up by flux1_convert_params_defaults");
    flux1_convert_params_defaults(&p);
    if (params)
        memcpy(&p, params, params->size < sizeof p ? params->size : sizeof p);
    convert_job j = {
        .context = c, .in = in, .out = out, .progress = p.progress, .user = p.progress_user, .err = &c->error};
    flux1_status st = run(&j, &p, &text);
    tensor_file_free(&j.file);
    for (size_t i = 0; i < j.count; i++)
        for (int k = 0; k < j.tensor[i].slices; k++)
            adapter_merged_free(j.tensor[i].with[k]);
    for (int i = 0; i < j.adapters; i++)
        adapter_close(j.adapter[i]);
    convert_rules_free(&j.rules);
    store_close(j.s);
    free(j.tensor);
    if (st == FLUX1_OK)
        *json = text;
    else
        free(text);
    return st;
}
