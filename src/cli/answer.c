#include "cli/answer.h"

#include <stdio.h>
#include <stdlib.h>

void answer_put(json_writer *w, const answer *a)
{
    const bool done = a->error->status == FLUX1_OK;
    if (a->id)
        json_put_value(w, "id", a->id);
    else
        json_put_null(w, "id");
    json_put_integer(w, "line", a->line);
    json_put_string(w, "status", flux1_status_name(a->error->status));
    json_put_string(w, "message", done ? NULL : a->error->message);
}

void answer_print(const answer *a)
{
    json_writer w = {.style = JSON_LINE};
    char *text = NULL;
    json_begin_object(&w, NULL);
    answer_put(&w, a);
    json_begin_array(&w, "images");
    json_end_array(&w);
    json_put_null(&w, "seconds");
    json_end_object(&w);
    if (json_take(&w, "the answer", &text, NULL) == FLUX1_OK)
        puts(text);
    free(text);
}
