/* The connections between the leader and its followers: strangers and garbage do no harm, frames arrive whole and in
 * order, what ends or is silent is reported once. And which transfers stay set up between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mesh/control.h"
#include "mesh/transfers.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 400 };

/* What one side has heard. */
typedef struct ear {
    pthread_mutex_t lock;
    int from[FRAMES], type[FRAMES], frames, lost, lost_who;
    size_t size[FRAMES];
    bool wrong;
    char cause[128];
} ear;

static unsigned char letter(int type, size_t i) { return (unsigned char)(type * 31 + (int)(i % 251)); }

static void hear(void *arg, int from, int type, const void *bytes, size_t size)
{
    ear *e = arg;
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < size; i++)
        e->wrong = e->wrong || ((const unsigned char *)bytes)[i] != letter(type, i);
    if (e->frames < FRAMES) {
        e->from[e->frames] = from;
        e->type[e->frames] = type;
        e->size[e->frames] = size;
    }
    e->frames++;
    pthread_mutex_unlock(&e->lock);
}

static void lose(void *arg, int who, const char *cause)
{
    ear *e = arg;
    pthread_mutex_lock(&e->lock);
    e->lost++;
    e->lost_who = who;
    snprintf(e->cause, sizeof e->cause, "%s", cause);
    pthread_mutex_unlock(&e->lock);
}

static ear new_ear(void) { return (ear){.lock = PTHREAD_MUTEX_INITIALIZER}; }
static control_events events_of(ear *e) { return (control_events){hear, lose, e, 1, 20}; }

/* Waits for what the other thread counts. */
static void until(ear *e, const int *count, int least, const char *what)
{
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&e->lock);
        bool done = *count >= least;
        pthread_mutex_unlock(&e->lock);
        if (done)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    fail_msg("%s: %d of %d", what, *count, least);
}

static int dial(const control_address *a)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(a->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const void *bytes, size_t size)
{
    ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
    (void)n; /* the other side may have closed by now: that is what is tested */
}

/* A frame by hand: mark, type, size, bytes. */
static void say_frame(int fd, uint32_t type, uint32_t claimed, const void *bytes, size_t size)
{
    unsigned char head[12] = {'f', 'x', '1', 'c'};
    for (int i = 0; i < 4; i++) {
        head[4 + i] = (unsigned char)(type >> (8 * i));
        head[8 + i] = (unsigned char)(claimed >> (8 * i));
    }
    say(fd, head, sizeof head);
    say(fd, bytes, size);
}

static void hello(int fd, const control_address *a, uint32_t index)
{
    unsigned char text[CONTROL_TOKEN + 4] = {0};
    memcpy(text, a->token, CONTROL_TOKEN);
    text[CONTROL_TOKEN] = (unsigned char)index;
    say_frame(fd, CONTROL_TYPES, sizeof text, text, sizeof text);
}

/* Closed by the other side, without a byte. */
static void refused(int fd, const char *what)
{
    char byte;
    struct timeval limit = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (recv(fd, &byte, 1, 0) > 0)
        fail_msg("%s is answered", what);
    close(fd);
}

static control *lead(int count, ear *e, int silence, control_address *a)
{
    control *c = NULL;
    flux1_error err = {0};
    control_events events = events_of(e);
    events.silence = silence;
    if (control_listen(count, &events, a, &c, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return c;
}

static control *follow(const control_address *a, int index, ear *e)
{
    control *c = NULL;
    flux1_error err = {0};
    control_events events = events_of(e);
    if (control_connect(a, index, &events, 5, &c, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return c;
}

static void strangers_are_refused(void **state)
{
    (void)state;
    ear ears[3] = {new_ear(), new_ear(), new_ear()};
    control_address a, other;
    flux1_error err = {0};
    int missing;
    control *c = lead(3, &ears[0], 20, &a), *f[2];
    int quiet = dial(&a), half = dial(&a), garbage = dial(&a), large = dial(&a), token = dial(&a), index = dial(&a),
        frame = dial(&a), left = dial(&a);
    close(left);
    say(half, "fx1", 3);
    say(garbage, "GET / HTTP/1.1\r\nHost: flux1\r\n\r\n", 31);
    say_frame(large, CONTROL_TYPES, 0xffffffff, "", 0);
    other = a;
    other.token[CONTROL_TOKEN - 1] ^= 1;
    hello(token, &other, 1);
    hello(index, &a, 3);
    say_frame(frame, 0, 1, "x", 1);
    refused(garbage, "garbage");
    refused(large, "a frame of 4 GB");
    refused(token, "a wrong token");
    refused(index, "a process that does not exist");
    refused(frame, "an order by a stranger");
    assert_int_equal(control_wait(c, 0, &missing, &err), FLUX1_ERR_COMM);
    assert_int_equal(missing, 1);
    f[0] = follow(&a, 1, &ears[1]);
    assert_int_equal(control_wait(c, 0, &missing, &err), FLUX1_ERR_COMM);
    assert_int_equal(missing, 2);
    int again = dial(&a);
    hello(again, &a, 1);
    refused(again, "the same process once more");
    f[1] = follow(&a, 2, &ears[2]);
    assert_int_equal(control_wait(c, 5, &missing, &err), FLUX1_OK);
    refused(quiet, "one who says nothing");
    refused(half, "one who has begun a word");
    pthread_mutex_lock(&ears[0].lock);
    assert_int_equal(ears[0].lost + ears[0].frames, 0);
    pthread_mutex_unlock(&ears[0].lock);
    control_close(f[0]);
    control_close(f[1]);
    control_close(c);
}

/* Sizes from nothing to the largest, both ways at once, so that sockets are full. */
static void frames_arrive_whole_and_in_order(void **state)
{
    (void)state;
    ear ears[2] = {new_ear(), new_ear()};
    control_address a;
    control *c = lead(2, &ears[0], 20, &a), *f = follow(&a, 1, &ears[1]);
    unsigned char *bytes = malloc(CONTROL_FRAME_MAX + 1);
    assert_non_null(bytes);
    for (int i = 0; i < 60; i++) {
        size_t size = i % 3 == 0 ? (size_t)i : i % 3 == 1 ? (size_t)CONTROL_FRAME_MAX - (size_t)i : 70000;
        int type = i % CONTROL_TYPES;
        for (size_t k = 0; k < size; k++)
            bytes[k] = letter(type, k);
        assert_true(control_send(c, i % 2 ? 1 : -1, type, bytes, size));
        assert_true(control_send(f, 0, type, bytes, size));
    }
    assert_false(control_send(c, 1, 0, bytes, CONTROL_FRAME_MAX + 1));
    for (int side = 0; side < 2; side++) {
        until(&ears[side], &ears[side].frames, 60, "frames");
        assert_false(ears[side].wrong);
        for (int i = 0; i < 60; i++) {
            assert_int_equal(ears[side].from[i], side == 0 ? 1 : 0);
            assert_int_equal(ears[side].type[i], i % CONTROL_TYPES);
            assert_int_equal(ears[side].size[i], i % 3 == 0 ? i : i % 3 == 1 ? CONTROL_FRAME_MAX - i : 70000);
        }
    }
    free(bytes);
    control_close(f);
    until(&ears[0], &ears[0].lost, 1, "the end");
    assert_int_equal(ears[0].lost_who, 1);
    assert_non_null(strstr(ears[0].cause, "has ended"));
    control_close(c);
}

/* A follower by hand, which is silent, and one that says what is not a frame. */
static void silence_and_garbage_are_reported(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        ear e = new_ear();
        control_address a;
        flux1_error err = {0};
        int missing;
        control *c = lead(2, &e, 2, &a);
        int fd = dial(&a);
        hello(fd, &a, 1);
        assert_int_equal(control_wait(c, 5, &missing, &err), FLUX1_OK);
        if (i)
            say(fd, "this is no frame of ours", 24);
        until(&e, &e.lost, 1, "what is lost");
        assert_non_null(strstr(e.cause, i ? "is not understood" : "has been silent for 2 s"));
        close(fd);
        control_close(c);
        assert_int_equal(e.lost, 1);
    }
}

static void a_leader_that_is_not_there_is_reported(void **state)
{
    (void)state;
    ear e = new_ear();
    control_address a;
    control_events events = events_of(&e);
    flux1_error err = {0};
    control *c = lead(2, &e, 20, &a), *f = NULL;
    control_close(c);
    assert_int_equal(control_connect(&a, 1, &events, 1, &f, &err), FLUX1_ERR_COMM);
    assert_non_null(strstr(err.message, "within 1 s"));
}

/* ---- transfers, over a wire that counts ---- */

enum { STAY = 256 }; /* set up at a time */

struct wire_request {
    int tag, starts;
    bool there;
};
static wire_request requests[2 * STAY + 8];
static int made, on_wire;
static bool refuses; /* what it is asked to make, or to start */

static bool make_request(bool send, int peer, int tag, void *buffer, size_t bytes, wire_request **out, char *why)
{
    (void)send, (void)peer, (void)buffer, (void)bytes;
    if (refuses) {
        snprintf(why, WIRE_WHY, "no more");
        return false;
    }
    *out = &requests[made++];
    **out = (wire_request){.tag = tag, .there = true};
    on_wire++;
    return true;
}

static bool start_request(wire_request *r, char *why)
{
    assert_true(r->there);
    if (refuses) {
        snprintf(why, WIRE_WHY, "not now");
        return false;
    }
    r->starts++;
    return true;
}

static void end_request(wire_request *r)
{
    assert_true(r->there);
    r->there = false;
    on_wire--;
}

static const wire_table counting = {.create = make_request, .start = start_request, .destroy = end_request};

static transfer *started(transfers *t, const transfer_key *key)
{
    char why[WIRE_WHY] = "";
    transfer *k = NULL;
    if (!transfers_start(t, key, &k, why))
        fail_msg("%s", why);
    assert_true(k->active);
    return k;
}

static void a_transfer_that_comes_again_is_not_made_again(void **state)
{
    (void)state;
    char place[2];
    const transfer_key all[] = {{true, 1, 2, place, 1}, {false, 1, 2, place, 1},    {true, 2, 2, place, 1},
                                {true, 1, 3, place, 1}, {true, 1, 2, place + 1, 1}, {true, 1, 2, place, 2},
                                {false, 2, 3, place, 2}};
    enum { KEYS = sizeof all / sizeof *all };
    transfers t = {.wire = &counting};
    transfer *first[KEYS];
    made = on_wire = 0;
    for (int i = 0; i < KEYS; i++)
        first[i] = started(&t, &all[i]);
    assert_true(made == KEYS && t.count == KEYS);
    for (int i = 0; i < KEYS; i++)
        first[i]->active = false;
    for (int i = 0; i < KEYS; i++)
        assert_ptr_equal(started(&t, &all[i]), first[i]);
    assert_int_equal(made, KEYS);
    transfer *beside = started(&t, &all[0]); /* while that is under way */
    assert_ptr_not_equal(beside, first[0]);
    assert_true(made == KEYS + 1 && requests[0].starts == 2 && requests[KEYS].starts == 1);
    first[3]->active = false;
    transfers_end(&t); /* what is under way stays */
    assert_true(t.count == KEYS && on_wire == KEYS && !requests[3].there);
    transfers_forget(&t);
    assert_null(t.first);
}

/* The one that was used longest ago goes for a new one; more are set up only while they are all under way. */
static void so_many_transfers_stay_set_up(void **state)
{
    (void)state;
    transfers t = {.wire = &counting};
    transfer *k[STAY + 4], *none;
    transfer_key key = {.send = true};
    char why[WIRE_WHY] = "";
    made = on_wire = 0;
    for (key.tag = 0; key.tag < STAY; key.tag++)
        k[key.tag] = started(&t, &key);
    for (int i = 1; i < STAY; i++) /* the first is under way */
        k[i]->active = false;
    key.tag = 1;
    assert_ptr_equal(started(&t, &key), k[1]); /* and the second is used again */
    k[1]->active = false;
    key.tag = STAY;
    k[STAY] = started(&t, &key);
    assert_true(made == STAY + 1 && on_wire == STAY && t.count == STAY);
    assert_true(requests[0].there && requests[1].there && !requests[2].there && requests[3].there);
    for (int i = 3; i < STAY; i++)
        k[i]->active = true;
    k[1]->active = true;
    for (int i = 1; i < 4; i++) {
        key.tag = STAY + i;
        k[STAY + i] = started(&t, &key);
    }
    assert_true(on_wire == STAY + 3 && t.count == STAY + 3);
    transfers_trim(&t); /* all are under way */
    assert_int_equal(t.count, STAY + 3);
    k[STAY + 3]->active = k[STAY + 2]->active = k[5]->active = k[7]->active = k[9]->active = false;
    transfers_trim(&t);
    assert_true(t.count == STAY && on_wire == STAY && !requests[5].there && !requests[7].there && !requests[9].there);
    refuses = true;
    key.tag = 2 * STAY;
    assert_false(transfers_start(&t, &key, &none, why));
    assert_string_equal(why, "no more");
    k[8]->active = false;
    key.tag = 8;
    assert_false(transfers_start(&t, &key, &none, why));
    assert_string_equal(why, "not now");
    assert_false(k[8]->active);
    refuses = false;
    assert_true(t.count == on_wire);
    transfers_forget(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(frames_arrive_whole_and_in_order),
        cmocka_unit_test(silence_and_garbage_are_reported),
        cmocka_unit_test(a_leader_that_is_not_there_is_reported),
        cmocka_unit_test(a_transfer_that_comes_again_is_not_made_again),
        cmocka_unit_test(so_many_transfers_stay_set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
