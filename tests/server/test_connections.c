/* Connections that never finish a header, and too many of one address. */
#include "base/clock.h"
#include "server/connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The tests do what the thread does. */
static connections open_for(unsigned limit)
{
    connections c = {.limit = limit};
    assert_int_equal(pthread_mutex_init(&c.mutex, NULL), 0);
    return c;
}

static bool is_ended(int other_side)
{
    char byte;
    return recv(other_side, &byte, 1, MSG_DONTWAIT) == 0;
}

static void a_late_header_ends_its_connection(void **state)
{
    connections c = open_for(100);
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    connection_entry *e = connections_add(&c, pair[0], NULL);
    connections_end_late(&c, clock_seconds() + 59);
    assert_false(is_ended(pair[1]));
    connections_begin(&c, e); /* it makes a picture for an hour */
    connections_end_late(&c, clock_seconds() + 3600);
    assert_false(is_ended(pair[1]));
    connections_done(&c, e);
    connections_end_late(&c, clock_seconds() + 59);
    assert_false(is_ended(pair[1]));
    connections_end_late(&c, clock_seconds() + 61);
    assert_true(is_ended(pair[1]));
    connections_remove(&c, e);
    assert_int_equal(c.count, 0);
    close(pair[0]);
    close(pair[1]);
    pthread_mutex_destroy(&c.mutex);
}

static void a_crowd_has_less_patience(void **state)
{
    connections c = open_for(4); /* three of four are a crowd */
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    connection_entry *e[3] = {connections_add(&c, pair[0], NULL), connections_add(&c, -1, NULL), NULL};
    connections_end_late(&c, clock_seconds() + 6);
    assert_false(is_ended(pair[1]));
    e[2] = connections_add(&c, -1, NULL);
    connections_end_late(&c, clock_seconds() + 4);
    assert_false(is_ended(pair[1]));
    connections_end_late(&c, clock_seconds() + 6);
    assert_true(is_ended(pair[1]));
    for (int i = 0; i < 3; i++)
        connections_remove(&c, e[i]);
    close(pair[0]);
    close(pair[1]);
    pthread_mutex_destroy(&c.mutex);
}

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage s = {0};
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct sockaddr_in6 b = {.sin6_family = AF_INET6};
    if (strchr(text, ':')) {
        assert_int_equal(inet_pton(AF_INET6, text, &b.sin6_addr), 1);
        memcpy(&s, &b, sizeof b);
    } else {
        assert_int_equal(inet_pton(AF_INET, text, &a.sin_addr), 1);
        memcpy(&s, &a, sizeof a);
    }
    return s;
}

static bool admits(connections *c, const char *text)
{
    const struct sockaddr_storage s = address_of(text);
    return connections_admit(c, (const struct sockaddr *)&s);
}

/* 256 of the first: the second has no more (or has: `more`). */
static void fill(const char *first, const char *second, bool more)
{
    connections c = open_for(1024);
    const struct sockaddr_storage s = address_of(first);
    connection_entry *e[CONNECTIONS_PER_ADDRESS];
    for (int i = 0; i < CONNECTIONS_PER_ADDRESS; i++) {
        assert_true(admits(&c, first));
        e[i] = connections_add(&c, -1, (const struct sockaddr *)&s);
    }
    assert_int_equal(admits(&c, second), more);
    connections_remove(&c, e[7]);
    assert_true(admits(&c, first));
    for (int i = 0; i < CONNECTIONS_PER_ADDRESS; i++)
        if (i != 7)
            connections_remove(&c, e[i]);
    pthread_mutex_destroy(&c.mutex);
}

static void an_address_has_a_limit(void **state)
{
    (void)state;
    fill("192.0.2.1", "192.0.2.1", false);
    fill("192.0.2.1", "192.0.2.2", true);
    fill("192.0.2.1", "::ffff:192.0.2.1", false);
    fill("2001:db8::1", "2001:db8::2", false);
    fill("2001:db8::1", "2001:db8:0:1::1", true);
    fill("127.0.0.1", "127.0.0.1", true); /* a proxy of this machine */
    fill("::1", "::1", true);
    fill("::ffff:127.0.0.1", "::ffff:127.0.0.1", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_late_header_ends_its_connection),
                                       cmocka_unit_test(a_crowd_has_less_patience),
                                       cmocka_unit_test(an_address_has_a_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
