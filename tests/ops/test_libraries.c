/* Where NVIDIA's libraries are looked for, and what is said of each that is missing: against small stand-ins
 * (cuda_stubs/) in folders that are laid out as pip, a distribution or a careless user lays them out. */
#include "ops/cuda/libraries.h"
#include "ops/cuda/notes.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define PIP "venv/lib/python3.11/site-packages/nvidia/"

static char root[64];
static cuda_libraries lib;
static char joined[2048];

/* <root>/name, in one of a few buffers in turn. */
static const char *at(const char *name)
{
    static char paths[8][256];
    static int turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/flux1_libraries_XXXXXX");
    lib = (cuda_libraries){0};
    return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "/bin/rm -rf '%s'", root);
    return system(command);
}

static void make_folders(const char *path)
{
    char parent[256];
    snprintf(parent, sizeof parent, "%s", path);
    for (char *slash = parent + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(parent, 0777);
        *slash = '/';
    }
}

static void put_text(const char *name, const char *text, size_t size)
{
    make_folders(at(name));
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A copy: the loader knows a file by its inode, and one that is open is never opened under another name. */
static void put(const char *stub, const char *name)
{
    char *bytes;
    size_t size;
    flux1_error err;
    assert_int_equal(file_read(stub, 1 << 24, &bytes, &size, &err), FLUX1_OK);
    put_text(name, bytes, size);
    free(bytes);
}

/* Looks into these folders of the test's, of which the first `named` are the user's; not on the loader's path, where
 * this machine may have the real ones. */
static void look_in(size_t named, size_t count, const char *const *folders)
{
    char *paths[8];
    for (size_t i = 0; i < count; i++)
        paths[i] = strdup(at(folders[i]));
    cuda_libraries_find(&(cuda_search){.folder = paths, .count = count, .named = named}, false, &lib);
    for (size_t i = 0; i < count; i++)
        free(paths[i]);
}

#define LOOK_IN(named, ...) \
    look_in(named, sizeof(const char *[]){__VA_ARGS__} / sizeof(char *), (const char *[]){__VA_ARGS__})

static void assert_found(cuda_library which, const char *name, const char *version)
{
    char v[32];
    assert_string_equal(lib.place[which].path, at(name));
    assert_string_equal(lib.place[which].missing, "");
    cuda_library_version(&lib, which, v, sizeof v);
    assert_string_equal(v, version);
}

static void assert_missing(cuda_library which, const char *sentence)
{
    assert_string_equal(lib.place[which].path, "");
    if (!strstr(lib.place[which].missing, sentence))
        fail_msg("\"%s\" does not say \"%s\"", lib.place[which].missing, sentence);
}

/* ---- where ---- */

/* Each folder's name below the test's own, in order, between spaces. What the machine has beside CUDA is left out. */
static const char *names_of(const cuda_search *s)
{
    size_t used = 0;
    joined[0] = 0;
    for (size_t i = 0; i < s->count; i++) {
        const char *folder = s->folder[i];
        if (strcmp(folder, "/usr/local/cuda/lib64") == 0)
            continue;
        bool own = strncmp(folder, root, strlen(root)) == 0;
        used += (size_t)snprintf(joined + used, sizeof joined - used, "%s%s", used ? " " : "",
                                 own ? folder + strlen(root) + 1 : folder);
    }
    return joined;
}

static void set_environment(const char *named, const char *environment, const char *conda, const char *path,
                            const char *home)
{
    const char *const names[] = {"FLUX1_CUDA_LIBRARIES", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH", "HOME"},
                      *const values[] = {named, environment, conda, path, home};
    for (int i = 0; i < 5; i++)
        assert_int_equal(values[i] ? setenv(names[i], values[i], 1) : unsetenv(names[i]), 0);
}

static void expect_folders(const char *names)
{
    cuda_search s;
    flux1_error err;
    assert_int_equal(cuda_search_folders(&s, &err), FLUX1_OK);
    assert_string_equal(names_of(&s), names);
    cuda_search_free(&s);
    assert_int_equal(s.count, 0);
}

static void folders_are_searched_in_order(void **state)
{
    (void)state;
    char path[512];
    put_text("v[1]*/lib/python3.12/site-packages/nvidia/cudnn/lib/x", "", 0);
    put_text("v[1]*/lib/python3.12/site-packages/nvidia/cu13/lib/x", "", 0);
    put_text("v1/lib/python3.12/site-packages/nvidia/cu13/lib/x", "", 0); /* as a pattern, the first's name is this */
    put_text("conda/lib/python3.9/site-packages/nvidia/cublas/lib/x", "", 0);
    put_text("rel/bin/python3", "", 0); /* on PATH by a relative name: the folder at hand is nobody's choice */
    put_text("rel/lib/python3.10/site-packages/nvidia/nccl/lib/x", "", 0);
    put_text("py/bin/python3", "", 0);
    put_text("py/lib/python3.10/dist-packages/nvidia/nccl/lib/x", "", 0);
    put_text("home/.local/lib/python3.11/site-packages/nvidia/cudnn/lib/x", "", 0);
    assert_int_equal(chmod(at("py/bin/python3"), 0755), 0);
    assert_int_equal(chmod(at("rel/bin/python3"), 0755), 0);
    assert_int_equal(chdir(root), 0);
    snprintf(path, sizeof path, "rel/bin:%s:%s::%s", at("nothing"), at("py/lib"), at("py/bin"));
    set_environment("one::/no/such:one", at("v[1]*"), at("conda"), path, at("home"));
    expect_folders("one /no/such v[1]*/lib/python3.12/site-packages/nvidia/cu13/lib "
                   "v[1]*/lib/python3.12/site-packages/nvidia/cudnn/lib "
                   "conda/lib/python3.9/site-packages/nvidia/cublas/lib conda/lib "
                   "py/lib/python3.10/dist-packages/nvidia/nccl/lib "
                   "home/.local/lib/python3.11/site-packages/nvidia/cudnn/lib");
    set_environment(NULL, NULL, NULL, NULL, NULL);
    expect_folders("");
    set_environment("", "", "", "", "");
    expect_folders("");
    assert_int_equal(chdir("/"), 0);
}

/* A virtual environment's python3 is a link to another's, and both may have packages. */
static void a_python_on_the_path_is_followed(void **state)
{
    (void)state;
    put_text("base/bin/python3.11", "", 0);
    put_text("base/lib/python3.11/site-packages/nvidia/cudnn/lib/x", "", 0);
    put_text("env/lib/python3.11/site-packages/nvidia/cublas/lib/x", "", 0);
    make_folders(at("env/bin/python3"));
    assert_int_equal(chmod(at("base/bin/python3.11"), 0755), 0);
    assert_int_equal(symlink(at("base/bin/python3.11"), at("env/bin/python3")), 0);
    set_environment(NULL, NULL, NULL, at("env/bin"), NULL);
    expect_folders(
        "env/lib/python3.11/site-packages/nvidia/cublas/lib base/lib/python3.11/site-packages/nvidia/cudnn/lib");
}

/* ---- what ---- */

static void all_are_found_as_pip_lays_them_out(void **state)
{
    (void)state;
    put(STUB_BLAS, PIP "cu13/lib/libcublasLt.so.13");
    put_text(PIP "cu13/lib/libnvrtc.so.13", "", 0); /* cuDNN's to open */
    put(STUB_DNN, PIP "cudnn/lib/libcudnn.so.9");
#if FLUX1_HAS_NCCL
    put(STUB_NCCL, PIP "nccl/lib/libnccl.so.2");
#endif
    LOOK_IN(0, PIP "cu13/lib", PIP "cudnn/lib", PIP "nccl/lib");
    assert_true(lib.blas && lib.dnn && !lib.driver);
    assert_found(CUDA_BLAS, PIP "cu13/lib/libcublasLt.so.13", "13.2.5");
    assert_found(CUDA_DNN, PIP "cudnn/lib/libcudnn.so.9", "9.19.0");
    assert_found(CUDA_NVRTC, PIP "cu13/lib/libnvrtc.so.13", "");
#if FLUX1_HAS_NCCL
    assert_true(lib.nccl);
    assert_found(CUDA_NCCL, PIP "nccl/lib/libnccl.so.2", "2.28.3");
#endif
    assert_non_null(lib.cublasLtMatmul);
    assert_int_equal(
        lib.cublasLtMatmul(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL),
        0);
}

static void all_are_found_as_a_distribution_lays_them_out(void **state)
{
    (void)state;
    put(STUB_DRIVER, "lib/libcuda.so.1");
    put(STUB_BLAS, "lib/libcublasLt.so.12");
    put(STUB_DNN, "lib/libcudnn.so.9");
    put_text("lib/libnvrtc.so.13", "", 0);
    LOOK_IN(1, "lib");
    assert_true(lib.driver && lib.blas && lib.dnn);
    assert_found(CUDA_DRIVER, "lib/libcuda.so.1", "12.4");
    assert_found(CUDA_BLAS, "lib/libcublasLt.so.12", "13.2.5");
    assert_found(CUDA_DNN, "lib/libcudnn.so.9", "9.19.0");
    assert_found(CUDA_NVRTC, "lib/libnvrtc.so.13", "");
}

static void what_the_user_names_comes_first(void **state)
{
    (void)state;
    put(STUB_DNN, "mine/libcudnn.so.9");
    put(STUB_DNN, "cuda/libcudnn.so.9");
    put(STUB_BLAS, "mine/libcublasLt.so.12");
    put(STUB_BLAS, "cuda/libcublasLt.so.13");
    LOOK_IN(1, "mine", "cuda");
    assert_found(CUDA_DNN, "mine/libcudnn.so.9", "9.19.0");
    assert_found(CUDA_BLAS, "mine/libcublasLt.so.12", "13.2.5");
}

/* The driver is the machine's: one that lies among other libraries (CUDA's own folder has a stub for linking) is none.
 */
static void the_driver_is_taken_from_named_folders_only(void **state)
{
    (void)state;
    put(STUB_DRIVER, "cuda/libcuda.so.1");
    LOOK_IN(0, "cuda");
    assert_false(lib.driver);
    assert_missing(CUDA_DRIVER, "libcuda.so.1 is not there");
}

static void a_driver_before_12_8_has_all_functions(void **state)
{
    (void)state;
    put(STUB_DRIVER_BEFORE_12_8, "lib/libcuda.so.1");
    LOOK_IN(1, "lib");
    assert_true(lib.driver);
    assert_non_null(lib.cuEventElapsedTime);
    assert_int_equal(lib.cuEventElapsedTime(NULL, NULL, NULL), 0);
}

/* ---- what is missing ---- */

static void each_miss_has_its_own_reason(void **state)
{
    (void)state;
    char sentence[512];
    put_text("lib/libcublasLt.so.13", "not a library", 13);
    put(STUB_OLD, "lib/libcudnn.so.9");
    LOOK_IN(1, "lib", "none");
    assert_false(lib.driver || lib.blas || lib.dnn);
    snprintf(sentence, sizeof sentence, "libcuda.so.1 is not there, nor in %s", at("lib"));
    assert_string_equal(lib.place[CUDA_DRIVER].missing, sentence);
    snprintf(sentence, sizeof sentence, "%s: file too short", at("lib/libcublasLt.so.13"));
    assert_missing(CUDA_BLAS, sentence);
    snprintf(sentence, sizeof sentence, "%s has no cudnnGetErrorString: it is older than this build needs",
             at("lib/libcudnn.so.9"));
    assert_string_equal(lib.place[CUDA_DNN].missing, sentence);
    assert_missing(CUDA_NVRTC, "not looked for");
#if FLUX1_HAS_NCCL
    snprintf(sentence, sizeof sentence, "libnccl.so.2 is not there, nor in %s or %s", at("lib"), at("none"));
    assert_string_equal(lib.place[CUDA_NCCL].missing, sentence);
#endif
}

static void one_that_is_too_old_is_passed_over(void **state)
{
    (void)state;
    put(STUB_OLD, "first/libcublasLt.so.13");
    put(STUB_OLD, "first/libcublasLt.so.12");
    put(STUB_BLAS, "second/libcublasLt.so.13");
    LOOK_IN(0, "first", "second");
    assert_true(lib.blas);
    assert_found(CUDA_BLAS, "second/libcublasLt.so.13", "13.2.5");
}

static void a_cudnn_without_nvrtc_is_told(void **state)
{
    (void)state;
    put(STUB_DNN, "lib/libcudnn.so.9");
    LOOK_IN(1, "lib");
    assert_true(lib.dnn);
    assert_missing(CUDA_NVRTC, "libnvrtc.so.13 is not there");
}

/* Each once a process, as a warning, with what to do. */
static void missing_libraries_are_noted_once(void **state)
{
    (void)state;
    ops_note n;
    put(STUB_DNN, "lib/libcudnn.so.9");
    put_text("lib/libnvrtc.so.13", "", 0);
    LOOK_IN(1, "lib");
    cuda_notes_forget();
    cuda_note_missing(&lib);
    assert_true(cuda_next_note(&n));
    assert_true(n.warning);
    assert_non_null(strstr(n.text, "cuBLASLt is missing (libcublasLt.so.13 is not there, nor in "));
    assert_non_null(strstr(n.text, "FLUX1_CUDA_LIBRARIES"));
    assert_false(cuda_next_note(&n));
    cuda_note_missing(&lib);
    assert_false(cuda_next_note(&n));
    lib.dnn = false;
    cuda_note_missing(&lib);
    assert_true(cuda_next_note(&n));
    assert_non_null(strstr(n.text, "cuDNN is missing"));
    assert_false(cuda_next_note(&n));
}

/* The driver is there at once, the others when somebody asks. cuBLASLt is a pipe that is not open at its other end: the
 * thread that opens it waits. The last test: it is once a process. */
static void the_driver_does_not_wait_for_the_others(void **state)
{
    (void)state;
    const cuda_libraries *now, *then;
    flux1_error err = {0};
    put(STUB_DRIVER, "lib/libcuda.so.1");
    put(STUB_DNN, "lib/libcudnn.so.9");
    assert_int_equal(mkfifo(at("lib/libcublasLt.so.13"), 0600), 0);
    set_environment(at("lib"), NULL, NULL, NULL, NULL);
    assert_int_equal(cuda_libraries_begin(&now, &err), FLUX1_OK);
    assert_true(now->driver && now->cuInit);
    assert_string_equal(now->place[CUDA_DRIVER].path, at("lib/libcuda.so.1"));
    int end = open(at("lib/libcublasLt.so.13"), O_WRONLY); /* waits for the thread to open its own */
    assert_true(end >= 0);
    assert_false(now->dnn); /* which comes behind it */
    assert_int_equal(close(end), 0);
    assert_int_equal(cuda_libraries_load(&then, &err), FLUX1_OK);
    assert_ptr_equal(now, then);
    assert_true(then->dnn);
    assert_string_equal(then->place[CUDA_DNN].path, at("lib/libcudnn.so.9"));
    assert_int_equal(cuda_libraries_begin(&now, &err), FLUX1_OK);
    assert_ptr_equal(now, then);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(folders_are_searched_in_order),          IN_FOLDER(a_python_on_the_path_is_followed),
        IN_FOLDER(all_are_found_as_pip_lays_them_out),     IN_FOLDER(all_are_found_as_a_distribution_lays_them_out),
        IN_FOLDER(what_the_user_names_comes_first),        IN_FOLDER(the_driver_is_taken_from_named_folders_only),
        IN_FOLDER(a_driver_before_12_8_has_all_functions), IN_FOLDER(each_miss_has_its_own_reason),
        IN_FOLDER(one_that_is_too_old_is_passed_over),     IN_FOLDER(a_cudnn_without_nvrtc_is_told),
        IN_FOLDER(missing_libraries_are_noted_once),       IN_FOLDER(the_driver_does_not_wait_for_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
