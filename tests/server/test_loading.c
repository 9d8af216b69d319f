/* Between server_open and server_begin the model is being opened: what is served meanwhile. */
#include "base/listing.h"
#include "server/server.h"
#include "server/watch.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const keys[] = {"a key"};

static int set_up(void **state)
{
    const server_settings settings = {
        .host = "127.0.0.1", .keys = keys, .key_count = 1, .queue = 1, .jobs_size = 1 << 20};
    flux1_error err = {0};
    server *s = NULL;
    if (server_open(&settings, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    server_end(*state, 0, NULL);
    server_close(*state);
    return 0;
}

/* A folder that is there and cannot be listed (by the linker's --wrap). */
flux1_status __wrap_listing_read(const char *folder, listing *out, flux1_error *err);

flux1_status __wrap_listing_read(const char *folder, listing *out, flux1_error *err)
{
    *out = (listing){0};
    return error_set(err, FLUX1_ERR_IO, "%s: cannot list: the disk fails", folder);
}

static void a_folder_that_cannot_be_listed_ends_the_start(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const server_settings settings = {.host = "127.0.0.1",
                                          .queue = 1,
                                          .jobs_size = 1 << 20,
                                          .loras = i ? "/tmp" : NULL,
                                          .models = i ? NULL : "/tmp"};
        flux1_error err = {0};
        server *s;
        assert_int_equal(server_open(&settings, &s, &err), FLUX1_ERR_IO);
        assert_null(s);
        assert_string_equal(err.message, "/tmp: cannot list: the disk fails");
    }
}

static int connect_to(const server *s)
{
    const int port = atoi(strrchr(server_address(s), ':') + 1), socket_ = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(socket_, (const struct sockaddr *)&address, sizeof address), 0);
    return socket_;
}

/* The beginning of the whole answer, as it comes. */
static void get(const server *s, const char *path, const char *header, char answer[4096])
{
    char request[256];
    size_t used = 0;
    ssize_t n;
    const int connection = connect_to(s);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", path,
             header);
    assert_int_equal(write(connection, request, strlen(request)), (ssize_t)strlen(request));
    while (used < 4095 && (n = read(connection, answer + used, 4095 - used)) > 0)
        used += (size_t)n;
    answer[used] = '\0';
    close(connection);
}

static void has(const char *answer, const char *words)
{
    if (!strstr(answer, words))
        fail_msg("\"%s\" is not in: %s", words, answer);
}

#define WITH_KEY "Authorization: Bearer a key\r\n"

static void health_says_that_it_loads(void **state)
{
    char answer[4096];
    get(*state, "/health", "", answer);
    has(answer, "HTTP/1.1 503 ");
    has(answer, "Retry-After: ");
    has(answer, "\"Loading model\"");
    has(answer, "\"code\": null");
}

static void what_needs_the_model_says_so_too(void **state)
{
    static const char *const paths[] = {"/api/info", "/api/jobs", "/v1/models", "/sdapi/v1/progress"};
    char answer[4096];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        get(*state, paths[i], WITH_KEY, answer);
        has(answer, "HTTP/1.1 503 ");
        has(answer, "\"Loading model\"");
        get(*state, paths[i], "", answer); /* the key comes first */
        has(answer, "HTTP/1.1 401 ");
    }
}

static void the_rest_is_served(void **state)
{
    char answer[4096];
    get(*state, "/", "", answer);
    has(answer, "HTTP/1.1 200 ");
    get(*state, "/openapi.json", WITH_KEY, answer);
    has(answer, "HTTP/1.1 200 ");
    has(answer, "\"openapi\": \"3.1.0\"");
    get(*state, "/metrics", WITH_KEY, answer);
    has(answer, "HTTP/1.1 200 ");
    has(answer, "flux1_ready 0\n");
}

/* As where the system has no thread left for the worker. */
static void a_server_without_a_worker_ends(void **state)
{
    flux1_error err = {0};
    assert_int_equal(watch_start(*state, &err), FLUX1_OK);
    alarm(20); /* instead of hanging for ever */
    server_end(*state, 0, NULL);
    alarm(0);
}

static server *open_at(const char *path)
{
    const server_settings settings = {.socket = path, .queue = 1, .jobs_size = 1 << 20};
    flux1_error err = {0};
    server *s = NULL;
    if (server_open(&settings, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return s;
}

static void a_successors_socket_is_left_alone(void **state)
{
    char folder[] = "/tmp/flux1-socket-XXXXXX", path[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    server *first = open_at(path);
    assert_int_equal(unlink(path), 0);
    server *second = open_at(path);
    server_end(first, 0, NULL);
    server_close(first);
    assert_int_equal(access(path, F_OK), 0);
    server_end(second, 0, NULL);
    assert_int_equal(access(path, F_OK), -1); /* before its answers have ended: a third one may begin */
    server_close(second);
    assert_int_equal(rmdir(folder), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(health_says_that_it_loads),
                                       TEST(what_needs_the_model_says_so_too),
                                       TEST(the_rest_is_served),
                                       TEST(a_server_without_a_worker_ends),
                                       cmocka_unit_test(a_successors_socket_is_left_alone),
                                       cmocka_unit_test(a_folder_that_cannot_be_listed_ends_the_start)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
