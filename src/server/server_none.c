/* A build without libmicrohttpd or SQLite (cmake/serve.cmake). */
#include "server/server.h"

flux1_status server_open(const server_settings *settings, server **out, flux1_error *err)
{
    (void)settings;
    *out = NULL;
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "this build has no flux1 serve: libmicrohttpd or SQLite was not found; install libmicrohttpd-dev "
                     "and libsqlite3-dev and build again");
}

const char *server_address(const server *s)
{
    (void)s;
    return "";
}

flux1_status server_begin(server *s, const server_engine *engine, flux1_error *err)
{
    (void)s;
    (void)engine;
    return error_set(err, FLUX1_ERR_UNSUPPORTED, "this build has no flux1 serve");
}

void *server_worker(server *s, int index)
{
    (void)s;
    (void)index;
    return NULL;
}

void server_log_planner(void *s, flux1_log_level level, const char *message)
{
    (void)s;
    (void)level;
    (void)message;
}

void server_log_worker(void *by, flux1_log_level level, const char *message)
{
    (void)by;
    (void)level;
    (void)message;
}

void server_log_encoder(void *s, flux1_log_level level, const char *message)
{
    (void)s;
    (void)level;
    (void)message;
}

void server_end(server *s, double drain, bool (*hurry)(void))
{
    (void)s;
    (void)drain;
    (void)hurry;
}

void server_close(server *s) { (void)s; }
