/* What AUTOMATIC1111's clients list before they ask for a picture. Of what this server has no choice there is one, or
 * none. */
#include "server/plan.h"
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

void webui_list(exchange *x)
{
    fault f = {0};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(x->argument, lists[i].name) == 0) {
            answer_copy(x, lists[i].json);
            return;
        }
    fault_set(&f, FAULT_NOT_FOUND, NULL, "there is nothing at /sdapi/v1/%.60s", x->argument);
    answer_fault(x, &f);
}

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

typedef struct lora_list {
    json_writer w;
    server *s;
    const served_model *model;
} lora_list;

/* Those that the model can have: the interface has no place to say why it cannot have another. */
static void put_lora(void *user, const char *name, const char *path, uint64_t bytes)
{
    lora_list *list = user;
    char why[FAULT_MESSAGE];
    (void)bytes;
    plan_lora(list->s, list->model, path, why);
    if (why[0])
        return;
    json_begin_object(&list->w, NULL);
    json_put_string(&list->w, "name", name);
    json_put_string(&list->w, "alias", name);
    json_put_string(&list->w, "path", name); /* where it lies is nobody's business */
    json_begin_object(&list->w, "metadata");
    json_end_object(&list->w);
    json_end_object(&list->w);
}

void webui_loras(exchange *x)
{
    server *s = x->server;
    char name[MODEL_NAME_ROOM];
    fault f = {0};
    models_chosen(s, name);
    served_model *m = models_take(s, name, "sd_model_checkpoint", &f);
    lora_list list = {.w.style = JSON_LINE, .s = s, .model = m};
    if (!m) {
        answer_fault(x, &f);
        return;
    }
    json_begin_array(&list.w, NULL);
    loras_list(&s->loras, put_lora, &list);
    json_end_array(&list.w);
    models_return(s, m);
    answer_json(x, 200, &list.w);
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
    const char *wanted = json_string_value(json_object_get(root, "sd_model_checkpoint"));
    const bool names = wanted && wanted[0];
    webui_model_name(names ? wanted : "", name);
    json_free(root);
    if (names && !models_know(x->server, name, "sd_model_checkpoint", whole, &f)) {
        answer_fault(x, &f);
        return;
    }
    if (names)
        models_choose(x->server, whole);
    webui_nothing(x);
}
