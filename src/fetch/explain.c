#include "fetch/explain.h"

#include "fetch/url.h"

#include <string.h>

/* The server's own words, if it has any. */
static const char *server_text(const http_reply *r)
{
    return r->error_message[0] ? r->error_message : "no reason given";
}

static flux1_status explain_access(const fetch_subject *s, const http_reply *r, flux1_error *err)
{
    const char *repository = s->name->repository;
    if (!s->token_source)
        return error_set(err, FLUX1_ERR_IO,
                         "%s: the hub shows it only to users it knows, if it exists (HTTP %ld: %s). If it is gated, "
                         "accept its conditions at %s/%s; then make a token at %s/settings/tokens and give it in "
                         "HF_TOKEN, or with: hf auth login",
                         repository, r->code, server_text(r), s->endpoint, repository, s->endpoint);
    return error_set(err, FLUX1_ERR_IO,
                     "%s: the token from %s does not give access (HTTP %ld: %s). If it is gated, ask for access at "
                     "%s/%s; %s/settings/tokens shows whether the token is valid and may read gated repositories",
                     repository, s->token_source, r->code, server_text(r), s->endpoint, repository, s->endpoint);
}

static flux1_status explain_missing(const fetch_subject *s, const char *file, const http_reply *r, flux1_error *err)
{
    const char *code = r->error_code;
    if (strcmp(code, "RevisionNotFound") == 0)
        return error_set(err, FLUX1_ERR_IO, "%s: it has no branch, tag or commit \"%s\"", s->name->repository,
                         s->name->revision);
    if (file && strcmp(code, "RepoNotFound") != 0)
        return error_set(err, FLUX1_ERR_IO, "%s: %s is in the listing of %s, but the hub has no such file (HTTP %ld)",
                         s->name->repository, file, s->name->revision, r->code);
    return error_set(err, FLUX1_ERR_IO, "%s: no such repository at %s (HTTP %ld)%s", s->name->repository, s->endpoint,
                     r->code, s->token_source ? "" : "; a private one needs a token in HF_TOKEN");
}

flux1_status explain(const fetch_subject *s, const char *file, const http_call *c, http_outcome outcome,
                     flux1_error *err)
{
    char host[256];
    const http_reply *r = &c->reply;
    const char *what = file ? file : "the list of files", *repository = s->name->repository;
    if (outcome == HTTP_FAILED)
        return error_set(err, FLUX1_ERR_IO, "%s: cannot fetch %s (%s)", repository, what, c->why);
    url_host(c->url, host, sizeof host);
    const bool hub = url_same_origin(c->url, s->endpoint);
    if (hub && (r->code == 401 || r->code == 403))
        return explain_access(s, r, err);
    if (hub && (r->code == 404 || r->code == 410))
        return explain_missing(s, file, r, err);
    if (r->code == 429)
        return error_set(err, FLUX1_ERR_IO,
                         "%s: %s asks to be left alone for a while (HTTP 429, too many requests); run it again later",
                         repository, host);
    return error_set(err, FLUX1_ERR_IO, "%s: cannot fetch %s: %s answers with HTTP %ld (%s)", repository, what, host,
                     r->code, server_text(r));
}
