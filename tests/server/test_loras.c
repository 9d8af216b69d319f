/* What is known of the files of adapters: how long, and who waits for it. The library's part is played here: it says
 * what the test wants it to. */
#include "server/loras.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    flux1_status status; /* of the next opening, and its message */
    const char *message;
    int opened, open;
    int looked;           /* files opened to tell which they are */
    int told;             /* sentences for the operator */
    char adapter[64];     /* one each, by its address */
    pthread_mutex_t gate; /* an opening waits for it */
    pthread_cond_t news;
    bool closed, waits;
} library = {.gate = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};

flux1_status __wrap_flux1_adapter_open(flux1_context *context, const flux1_model *model, const char *path,
                                       flux1_adapter **out);
void __wrap_flux1_adapter_close(flux1_adapter *adapter);
const char *__wrap_flux1_context_message(const flux1_context *context);

flux1_status __wrap_flux1_adapter_open(flux1_context *context, const flux1_model *model, const char *path,
                                       flux1_adapter **out)
{
    (void)context, (void)model, (void)path;
    pthread_mutex_lock(&library.gate);
    library.waits = true;
    pthread_cond_broadcast(&library.news);
    while (library.closed)
        pthread_cond_wait(&library.news, &library.gate);
    library.opened++;
    library.open += library.status == FLUX1_OK;
    assert_true(library.opened <= (int)sizeof library.adapter);
    *out = library.status == FLUX1_OK ? (flux1_adapter *)(void *)&library.adapter[library.opened - 1] : NULL;
    pthread_mutex_unlock(&library.gate);
    return library.status;
}

void __wrap_flux1_adapter_close(flux1_adapter *adapter)
{
    const char *at = (const char *)(const void *)adapter;
    assert_true(at >= library.adapter && at < library.adapter + library.opened);
    library.open--;
}

const char *__wrap_flux1_context_message(const flux1_context *context)
{
    (void)context;
    return library.message;
}

flux1_status __real_file_open_regular(const char *path, int *descriptor, file_identity *identity, flux1_error *err);
flux1_status __wrap_file_open_regular(const char *path, int *descriptor, file_identity *identity, flux1_error *err);

flux1_status __wrap_file_open_regular(const char *path, int *descriptor, file_identity *identity, flux1_error *err)
{
    library.looked++;
    return __real_file_open_regular(path, descriptor, identity, err);
}

/* ---- a folder with two files ---- */

typedef struct fixture {
    char folder[64], one[96], two[96];
    loras l;
} fixture;

static const flux1_model *const model = (const flux1_model *)(const void *)&library; /* nobody looks into it */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void tell(const char *sentence)
{
    assert_true(sentence[0]);
    library.told++;
}

static int set_up(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    assert_non_null(x);
    strcpy(x->folder, "/tmp/flux1-loras-XXXXXX");
    assert_non_null(mkdtemp(x->folder));
    snprintf(x->one, sizeof x->one, "%s/one.safetensors", x->folder);
    snprintf(x->two, sizeof x->two, "%s/two.safetensors", x->folder);
    write_file(x->one, "1");
    write_file(x->two, "2");
    assert_int_equal(loras_open(&x->l, x->folder, tell, NULL), FLUX1_OK);
    library.status = FLUX1_OK;
    library.message = "";
    library.opened = library.open = library.looked = library.told = 0;
    library.closed = library.waits = false;
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    fixture *x = *state;
    loras_close(&x->l);
    assert_int_equal(library.open, 0);
    unlink(x->one);
    unlink(x->two);
    assert_int_equal(rmdir(x->folder), 0);
    free(x);
    return 0;
}

/* "one", "one?" (not examined), "one!" (to be examined again), and why not, in brackets. */
static void add(void *user, const lora_facts *facts)
{
    char *out = user;
    const size_t used = strlen(out);
    snprintf(out + used, 512 - used, "%s%s%s%s%s%s ", facts->name, facts->examined ? "" : "?", facts->again ? "!" : "",
             facts->why[0] ? "(" : "", facts->why, facts->why[0] ? ")" : "");
}

static void assert_known(fixture *x, const char *expected)
{
    char known[512] = "";
    loras_survey(&x->l, model, add, known);
    assert_string_equal(known, expected);
}

static void examine(fixture *x, const char *path, flux1_status status, const char *message)
{
    library.status = status;
    library.message = message;
    loras_examine(&x->l, NULL, model, path);
}

static int verdicts(const fixture *x)
{
    int count = 0;
    for (const lora_verdict *v = x->l.verdicts; v; v = v->next)
        count++;
    return count;
}

static void a_survey_opens_nothing_and_tells_what_is_known(void **state)
{
    fixture *x = *state;
    assert_known(x, "one? two? ");
    assert_int_equal(library.looked, 0);
    examine(x, x->one, FLUX1_OK, "");
    assert_known(x, "one two? ");
    examine(x, x->two, FLUX1_ERR_FORMAT, "two is bad");
    library.looked = 0;
    assert_known(x, "one two(two is bad) ");
    assert_int_equal(library.looked, 0);
    assert_int_equal(library.opened, 2);
    write_file(x->two, "another");
    assert_known(x, "one two? ");
}

/* Until the next look at it is due: at once. */
static void a_minute_passes(fixture *x)
{
    for (lora_verdict *v = x->l.verdicts; v; v = v->next) {
        assert_true(v->again <= clock_seconds() + 60);
        v->again = v->again > 0 ? 1e-9 : 0;
    }
}

/* A bad file stays bad; a disk may have failed for a moment, and so may memory. */
static void an_error_of_reading_is_tried_again(void **state)
{
    fixture *x = *state;
    flux1_adapter *adapter;
    fault f = {0};
    examine(x, x->one, FLUX1_ERR_IO, "one cannot be read");
    examine(x, x->two, FLUX1_ERR_MEMORY, "no memory");
    assert_known(x, "one(one cannot be read) two(no memory) ");
    a_minute_passes(x);
    assert_known(x, "one!(one cannot be read) two!(no memory) ");
    examine(x, x->two, FLUX1_ERR_FORMAT, "bad");
    assert_int_equal(verdicts(x), 2);
    a_minute_passes(x);
    assert_known(x, "one!(one cannot be read) two(bad) ");
    library.status = FLUX1_ERR_MEMORY;
    assert_false(loras_take(&x->l, NULL, model, "one", &adapter, &f)); /* with the last message and status */
    assert_int_equal(f.kind, FAULT_SERVER);
    library.status = FLUX1_ERR_IO;
    assert_false(loras_take(&x->l, NULL, model, "one", &adapter, &f));
    assert_int_equal(f.kind, FAULT_UNAVAILABLE);
    library.status = FLUX1_ERR_FORMAT;
    assert_false(loras_take(&x->l, NULL, model, "one", &adapter, &f));
    assert_int_equal(f.kind, FAULT_INVALID);
    examine(x, x->one, FLUX1_OK, "");
    a_minute_passes(x);
    assert_known(x, "one two(bad) ");
    assert_true(loras_take(&x->l, NULL, model, "one", &adapter, &f));
    loras_return(&x->l, adapter);
}

static void what_is_known_of_a_file_goes_with_it(void **state)
{
    fixture *x = *state;
    const flux1_model *other = (const flux1_model *)(const void *)x;
    examine(x, x->one, FLUX1_OK, "");
    examine(x, x->two, FLUX1_ERR_FORMAT, "bad");
    loras_examine(&x->l, NULL, other, x->two);
    assert_known(x, "one two(bad) ");
    assert_int_equal(verdicts(x), 3);
    unlink(x->two);
    assert_known(x, "one ");
    assert_int_equal(verdicts(x), 2); /* the other model's goes when it is asked for */
    write_file(x->two, "2");
    assert_known(x, "one two? ");
    unlink(x->two);
    char known[512] = "";
    loras_survey(&x->l, other, add, known);
    assert_string_equal(known, "one? ");
    assert_int_equal(verdicts(x), 1);
}

static void link_to(const fixture *x, const char *name, const char *target, char path[128])
{
    snprintf(path, 128, "%s/%s", x->folder, name);
    assert_int_equal(symlink(target, path), 0);
}

/* A link that leads nowhere, or in a circle, is no file; of one that cannot be looked at nobody knows. */
static void a_link_that_leads_nowhere_hides_nothing(void **state)
{
    fixture *x = *state;
    char path[3][128], long_name[301];
    memset(long_name, 'x', 300);
    long_name[300] = '\0';
    examine(x, x->one, FLUX1_OK, "");
    examine(x, x->two, FLUX1_OK, "");
    link_to(x, "gone.safetensors", "nowhere", path[0]);
    link_to(x, "loop.safetensors", "loop.safetensors", path[1]);
    unlink(x->two);
    assert_known(x, "one ");
    assert_int_equal(verdicts(x), 1);
    link_to(x, "what.safetensors", long_name, path[2]);
    unlink(x->one);
    assert_known(x, "");
    assert_int_equal(verdicts(x), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(unlink(path[i]), 0);
}

static void refused(fixture *x, const char *name, fault_kind kind, const char *words)
{
    flux1_adapter *adapter;
    fault f = {0};
    assert_false(loras_take(&x->l, NULL, model, name, &adapter, &f));
    assert_int_equal(f.kind, kind);
    if (!strstr(f.message, words) || strchr(f.message, '/'))
        fail_msg("%s: %s", name, f.message);
}

static void what_is_known_outlives_a_folder_that_cannot_be_listed(void **state)
{
    fixture *x = *state;
    char aside[80];
    snprintf(aside, sizeof aside, "%s-", x->folder);
    examine(x, x->one, FLUX1_OK, "");
    assert_int_equal(rename(x->folder, aside), 0);
    assert_known(x, "");
    assert_int_equal(library.told, 1);
    refused(x, "one", FAULT_UNAVAILABLE, "cannot be listed");
    assert_int_equal(rename(aside, x->folder), 0);
    assert_known(x, "one two? ");
}

static void *examine_one(void *x)
{
    examine(x, ((fixture *)x)->one, FLUX1_OK, "");
    return NULL;
}

static void nobody_waits_for_a_file_that_is_being_examined(void **state)
{
    fixture *x = *state;
    pthread_t thread;
    library.closed = true;
    assert_int_equal(pthread_create(&thread, NULL, examine_one, x), 0);
    pthread_mutex_lock(&library.gate);
    while (!library.waits)
        pthread_cond_wait(&library.news, &library.gate);
    pthread_mutex_unlock(&library.gate);
    alarm(20); /* instead of hanging for ever */
    assert_known(x, "one? two? ");
    assert_true(loras_try_hold(&x->l, NULL, 0));
    alarm(0);
    pthread_mutex_lock(&library.gate);
    library.closed = false;
    pthread_cond_broadcast(&library.news);
    pthread_mutex_unlock(&library.gate);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_known(x, "one two? ");
}

/* ---- their use ---- */

static flux1_adapter *take(fixture *x, const flux1_model *of, const char *name)
{
    flux1_adapter *adapter = NULL;
    fault f = {0};
    if (!loras_take(&x->l, NULL, of, name, &adapter, &f))
        fail_msg("%s: %s", name, f.message);
    return adapter;
}

static void a_name_is_whole_and_a_clients_sentence_has_no_path(void **state)
{
    fixture *x = *state;
    char folder[96];
    snprintf(folder, sizeof folder, "%s/three.safetensors", x->folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    static const char *const none[] = {"on", "onee", "three", "one.safe", "", "one.safetensors.safetensors"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        refused(x, none[i], FAULT_INVALID, "there is one, two");
    assert_int_equal(rmdir(folder), 0);
    loras_return(&x->l, take(x, model, "one.safetensors"));
    assert_int_equal(library.opened, 1);
    library.status = FLUX1_ERR_FORMAT;
    library.message = "/elsewhere/tensor: bad";
    refused(x, "two", FAULT_INVALID, "two.safetensors: ");
    assert_int_equal(library.told, 0); /* it is the client's choice */
    library.status = FLUX1_ERR_IO;
    refused(x, "two", FAULT_UNAVAILABLE, "two.safetensors: ");
    assert_int_equal(library.told, 1);
    char message[128];
    snprintf(message, sizeof message, "%s: bad", x->two);
    library.message = message;
    refused(x, "two", FAULT_UNAVAILABLE, "two.safetensors: bad");
    const loras deep = {.folder = "/l/x//"};
    assert_string_equal(loras_without_folder(&deep, "/l/x/one: bad"), "one: bad");
    assert_string_equal(loras_without_folder(&deep, "/l/xy/one: bad"), "/l/xy/one: bad");
    assert_string_equal(loras_without_folder(&(loras){0}, "/l/x/one: bad"), "/l/x/one: bad");
}

/* A file that was opened is used again as long as it is the same one, and the model's. */
static void an_open_file_is_used_again(void **state)
{
    fixture *x = *state;
    const flux1_model *other = (const flux1_model *)(const void *)x;
    flux1_adapter *first = take(x, model, "one"), *of_other = take(x, other, "one");
    assert_ptr_equal(take(x, model, "one"), first);
    assert_ptr_not_equal(of_other, first);
    assert_true(library.opened == 2 && library.open == 2);
    write_file(x->one, "changed");
    flux1_adapter *second = take(x, model, "one");
    assert_ptr_not_equal(second, first);
    loras_return(&x->l, first);
    loras_return(&x->l, first);
    loras_return(&x->l, second);
    loras_return(&x->l, of_other);
    assert_int_equal(library.open, 3);
    examine(x, x->one, FLUX1_OK, "");
    loras_forget(&x->l, other);
    assert_true(library.open == 2 && verdicts(x) == 1);
    loras_forget(&x->l, model);
    assert_true(library.open == 0 && verdicts(x) == 0);
}

/* Eight, those that were opened last; and all that somebody has. */
static void files_that_nobody_has_stay_open_up_to_a_limit(void **state)
{
    enum { FILES = 12, IDLE = 8 };
    fixture *x = *state;
    char path[FILES][96], name[FILES][16];
    flux1_adapter *held = take(x, model, "one");
    const flux1_adapter_use use = {.adapter = held, .scale = 1};
    assert_true(loras_try_hold(&x->l, &use, 1));
    loras_return(&x->l, held); /* one has it still */
    for (int i = 0; i < FILES; i++) {
        snprintf(name[i], sizeof name[i], "file%d", i);
        snprintf(path[i], sizeof path[i], "%.60s/%.15s.safetensors", x->folder, name[i]);
        write_file(path[i], "x");
        loras_return(&x->l, take(x, model, name[i]));
        assert_int_equal(library.open, 1 + (i < IDLE ? i + 1 : IDLE));
    }
    const int opened = library.opened;
    assert_ptr_equal(take(x, model, "one"), held);
    for (int i = FILES - IDLE; i < FILES; i++)
        loras_return(&x->l, take(x, model, name[i]));
    assert_int_equal(library.opened, opened);
    loras_return(&x->l, take(x, model, name[FILES - IDLE - 1]));
    assert_int_equal(library.opened, opened + 1);
    loras_return(&x->l, held);
    loras_return(&x->l, held);
    assert_int_equal(library.open, IDLE); /* now it is one of those that nobody has, and the oldest */
    for (int i = 0; i < FILES; i++)
        assert_int_equal(unlink(path[i]), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_survey_opens_nothing_and_tells_what_is_known),
                                       TEST(an_error_of_reading_is_tried_again),
                                       TEST(what_is_known_of_a_file_goes_with_it),
                                       TEST(what_is_known_outlives_a_folder_that_cannot_be_listed),
                                       TEST(nobody_waits_for_a_file_that_is_being_examined),
                                       TEST(a_link_that_leads_nowhere_hides_nothing),
                                       TEST(a_name_is_whole_and_a_clients_sentence_has_no_path),
                                       TEST(an_open_file_is_used_again),
                                       TEST(files_that_nobody_has_stay_open_up_to_a_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
