/* What AUTOMATIC1111's clients list before they ask for a picture. Of what this server has no choice there is one, or
 * none. */
#include "base/limits.h"
#include "server/looks.h"
#include "server/routes.h"
#include "server/webui_request.h"

#include <stdlib.h>
#include <string.h>

#define NONE "[]"

/* the part of the path behind /sdapi/v1/, its answer */
static const struct {
    const char *name, *json;
} lists[] = {
    {"samplers", "[{\"name\": \"Euler\", \"aliases\": [\"euler\", \"k_euler\"], \"options\": {}}]"},
    {"schedulers", "[{\"name\": \"simple\", \"label\": \"Simple\", \"aliases\": null, \"default_rho\": -1.0, "
                   "\"need_inner_model\": false}]"},
    {"upscalers",
     "[{\"name\": \"None\", \"model_name\": null, \"model_path\": null, \"model_url\": null, \"scale\": 4}]"},
    {"latent-upscale-modes", NONE},
    {"sd-vae", NONE},
    {"sd-modules", NONE},
    {"hypernetworks", NONE},
    {"face-restorers", NONE},
    {"realesrgan-models", NONE},
    {"prompt-styles", NONE},
    {"embeddings", "{\"loaded\": {}, \"skipped\": {}}"},
    {"scripts", "{\"txt2img\": [], \"img2img\": []}"},
    {"script-info", NONE},
    {"extensions", NONE},
    {"cmd-flags", "{}"},
};

static void answer_copy(exchange *x, const char *json) { answer_text(x, 200, "application/json", strdup(json)); }

static const char *list_named(const char *name)
{
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(name, lists[i].name) == 0)
            return lists[i].json;
    return NULL;
}

bool webui_has_list(const char *name) { return list_named(name) != NULL; }

void webui_list(exchange *x) { answer_copy(x, list_named(x->argument)); }

void webui_nothing(exchange *x) { answer_copy(x, "null"); }

static void put_model(void *user, const char *name)
{
    json_writer *w = user;
    json_begin_object(w, NULL);
    json_put_string(w, "title", name);
    json_put_string(w, "model_name", name);
    json_put_null(w, "hash");
    json_put_null(w, "sha256");
    json_put_string(w, "filename", name);
    json_put_null(w, "config");
    json_end_object(w);
}

void webui_models(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    json_begin_array(&w, NULL);
    models_list(x->server, put_model, &w);
    json_end_array(&w);
    answer_json(x, 200, &w);
}

/* Those that the model can have, and those of which nobody knows yet, since clients ask once: the interface has no
 * place to say why it cannot have another. */
static void put_lora(void *user, const lora_facts *facts)
{
    json_writer *w = user;
    if (facts->why[0])
        return;
    json_begin_object(w, NULL);
    json_put_string(w, "name", facts->name);
    json_put_string(w, "alias", facts->name);
    json_put_string(w, "path", facts->name); /* where it lies is nobody's business */
    json_begin_object(w, "metadata");
    json_end_object(w);
    json_end_object(w);
}

static void tell_loras(exchange *x)
{
    server *s = x->server;
    char name[MODEL_NAME_ROOM];
    fault f = {0};
    models_chosen(s, name);
    served_model *m = models_take_facts(s, name, "sd_model_checkpoint", &f);
    json_writer w = {.style = JSON_LINE};
    if (!m) {
        answer_fault(x, &f);
        return;
    }
    json_begin_array(&w, NULL);
    looks_tell(s, m, put_lora, &w);
    json_end_array(&w);
    models_return(s, m);
    answer_json(x, 200, &w);
}

void webui_loras(exchange *x)
{
    char name[MODEL_NAME_ROOM];
    models_chosen(x->server, name);
    if (models_is_open(x->server, name))
        tell_loras(x);
    else
        exchange_aside(x, tell_loras);
}

/* Clients ask for it to see whether the server is there. Of a GPU it tells what their own server does where it has
 * none: a text in place of numbers. */
void webui_memory(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    const uint64_t used = limits_resident(), available = limits_memory();
    const uint64_t left = available < UINT64_MAX - used ? available : 0; /* 0: nothing is known */
    json_begin_object(&w, NULL);
    json_begin_object(&w, "ram");
    json_put_unsigned(&w, "free", left);
    json_put_unsigned(&w, "used", used);
    json_put_unsigned(&w, "total", left + used);
    json_end_object(&w);
    json_begin_object(&w, "cuda");
    json_put_string(&w, "error", "unavailable");
    json_end_object(&w);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

void webui_options_get(exchange *x)
{
    json_writer w = {.style = JSON_LINE};
    char name[MODEL_NAME_ROOM];
    models_chosen(x->server, name);
    json_begin_object(&w, NULL);
    json_put_string(&w, "sd_model_checkpoint", name);
    json_put_null(&w, "sd_checkpoint_hash");
    json_put_string(&w, "sd_vae", "Automatic");
    json_put_string(&w, "samples_format", "png");
    json_put_integer(&w, "CLIP_stop_at_last_layers", 1);
    json_end_object(&w);
    answer_json(x, 200, &w);
}

/* Settings are the requests' here, but for the model, which counts for later requests that name none. */
void webui_options_post(exchange *x)
{
    json_value *root;
    char name[MODEL_NAME_ROOM], whole[MODEL_NAME_ROOM];
    fault f = {0};
    if (!exchange_json(x, &root))
        return;
    const char *wanted;
    const bool good = webui_wanted_model(root, &wanted, &f), names = wanted && wanted[0];
    webui_model_name(names ? wanted : "", name);
    json_free(root);
    if (!good || (names && !models_know(x->server, name, "sd_model_checkpoint", whole, &f))) {
        answer_fault(x, &f);
        return;
    }
    if (names)
        models_choose(x->server, whole);
    webui_nothing(x);
}
