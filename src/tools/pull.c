/* A repository of the Hugging Face hub, fetched into its cache. */
#include "base/json_write.h"
#include "fetch/fetch.h"
#include "flux1_tools.h"
#include "pipeline/context.h"

#include <stddef.h>
#include <stdlib.h>

typedef struct pull {
    flux1_context *c;
    const flux1_pull_params *params;
} pull;

static bool is_cancelled(void *user)
{
    return atomic_load_explicit(&((pull *)user)->c->cancel, memory_order_relaxed) != 0;
}

static void on_note(void *user, const char *text) { context_log(((pull *)user)->c, FLUX1_LOG_INFO, "%s", text); }

static void on_progress(void *user, const fetch_progress *now)
{
    const flux1_pull_params *params = ((pull *)user)->params;
    const flux1_pull_progress progress = {.files = now->files,
                                          .files_done = now->files_done,
                                          .bytes = now->bytes,
                                          .bytes_present = now->present,
                                          .bytes_received = now->received,
                                          .file = now->file};
    if (params->progress)
        params->progress(params->user, &progress);
}

static flux1_status write_json(const hub_name *name, const fetch_result *result, char **json, flux1_error *err)
{
    json_writer w = {.style = JSON_INDENTED};
    json_begin_object(&w, NULL);
    json_put_string(&w, "repository", name->repository);
    json_put_string(&w, "revision", name->revision);
    json_put_string(&w, "commit", result->commit);
    json_put_string(&w, "folder", result->folder);
    json_put_unsigned(&w, "files", result->files);
    json_put_unsigned(&w, "bytes", result->bytes);
    json_put_unsigned(&w, "blobs_fetched", result->fetched);
    json_put_unsigned(&w, "bytes_received", result->bytes_fetched);
    json_end_object(&w);
    return json_take(&w, "the result", json, err);
}

void flux1_pull_params_defaults(flux1_pull_params *params)
{
    if (params)
        *params = (flux1_pull_params){.size = sizeof *params};
}

static flux1_status check_params(flux1_context *c, const flux1_pull_params *params)
{
    TRY(context_needs(c, params, "params"));
    if (params->size < offsetof(flux1_pull_params, reserved))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT,
                         "params->size is not set; call flux1_pull_params_defaults first");
    TRY(context_needs(c, params->repository, "repository"));
    if (params->file_count > 0)
        TRY(context_needs(c, params->files, "files"));
    for (size_t i = 0; i < params->file_count; i++)
        TRY(context_needs(c, params->files[i], "a pattern of files"));
    return FLUX1_OK;
}

flux1_status flux1_pull_json(flux1_context *c, const flux1_pull_params *params, char **json)
{
    hub_name name;
    fetch_result result = {0};
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(check_params(c, params));
    TRY(hub_name_parse(params->repository, &name, &c->error));
    pull state = {c, params};
    const fetch_request request = {.name = &name,
                                   .cache_folder = params->cache_folder,
                                   .variant = params->variant,
                                   .patterns = params->files,
                                   .pattern_count = params->file_count,
                                   .cancelled = is_cancelled,
                                   .progress = on_progress,
                                   .note = on_note,
                                   .user = &state};
    flux1_status st = fetch_repository(&request, &result, &c->error);
    if (st == FLUX1_OK)
        st = write_json(&name, &result, json, &c->error);
    free(result.folder);
    return st;
}
