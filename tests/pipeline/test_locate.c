/* Where the parts of a model are found: layouts of folders with files of FLUX.1's true shapes (holes), broken files,
 * and Hugging Face's cache. */
#include "support/golden.h"
#include "support/true_layout.h"

#include "base/file.h"
#include "pipeline/adapter_place.h"
#include "pipeline/locate.h"

#include <limits.h>
#include <sys/stat.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static char root[] = "/tmp/flux1_locate_XXXXXX";

/* A path in the tests' folder, in one of some buffers; its folders are made. */
static const char *at(const char *name)
{
    static char buffer[8][PATH_MAX];
    static int next;
    char *path = buffer[next++ % 8];
    snprintf(path, PATH_MAX, "%s/%s", root, name);
    for (char *slash = strchr(path + sizeof root, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const true_layout transformer = {.transformer = true, .in_channels = 64}, clip = {.clip = true},
                         t5 = {.t5 = true}, t5_bf16 = {.t5 = true, .bf16 = true}, vae = {.vae = true},
                         vae_bf16 = {.vae = true, .bf16 = true},
                         all = {.transformer = true, .clip = true, .t5 = true, .vae = true, .in_channels = 64};

static void make(const char *name, const true_layout *l) { true_layout_write(at(name), l); }

static int begin(void **state)
{
    (void)state;
    strcpy(root + sizeof root - 7, "XXXXXX");
    if (!mkdtemp(root))
        return -1;
    unsetenv("FLUX1_PATH");
    return setenv("HF_HUB_CACHE", at("hub"), 1);
}

static int end(void **state)
{
    char command[PATH_MAX];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static located find(const model_paths *named)
{
    located l;
    flux1_error err = {0};
    if (locate(named, &l, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    assert_int_equal(locate_strays(&l, &err), FLUX1_OK);
    return l;
}

static void is_at(const char *path, const char *name)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (!path || !realpath(path, a) || !realpath(at(name), b) || strcmp(a, b) != 0)
        fail_msg("%s is not %s", path ? path : "nothing", at(name));
}

static bool noted(const located *l, const char *one, const char *two)
{
    for (size_t i = 0; i < l->notes.count; i++)
        if (strstr(l->notes.note[i].text, one) && strstr(l->notes.note[i].text, two))
            return true;
    return false;
}

static void says(const located *l, const char *one, const char *two)
{
    if (noted(l, one, two))
        return;
    for (size_t i = 0; i < l->notes.count; i++)
        print_error("  %s\n", l->notes.note[i].text);
    fail_msg("no note with \"%s\" and \"%s\"", one, two);
}

static void refused(const model_paths *named, const char *one, const char *two)
{
    located l;
    flux1_error err = {0};
    const flux1_status st = locate(named, &l, &err);
    located_free(&l);
    if (st == FLUX1_OK || !strstr(err.message, one) || !strstr(err.message, two))
        fail_msg("%d \"%s\" lacks \"%s\" or \"%s\"", st, err.message, one, two);
}

static void make_comfy(const char *folder)
{
    char name[128];
    const struct {
        const char *file;
        const true_layout *layout;
    } files[] = {{"unet/flux/flux1-dev.safetensors", &transformer},
                 {"clip/clip_l.safetensors", &clip},
                 {"clip/another.safetensors", &clip},
                 {"clip/t5xxl_fp8.safetensors", &t5},
                 {"text_encoders/sub/t5xxl_bf16.safetensors", &t5_bf16},
                 {"vae/ae.safetensors", &vae},
                 {"vae/sd3_vae.safetensors", &vae_bf16},
                 {"loras/t5_by_mistake.safetensors", &t5_bf16}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%s/%s", folder, files[i].file);
        make(name, files[i].layout);
    }
}

static void check_comfy(const model_paths *named, const char *folder)
{
    char name[128];
    static const char *const found[COMPONENTS] = {[COMPONENT_CLIP] = "clip/clip_l.safetensors",
                                                  [COMPONENT_T5] = "text_encoders/sub/t5xxl_bf16.safetensors",
                                                  [COMPONENT_VAE] = "vae/ae.safetensors"};
    located l = find(named);
    for (int c = 0; c < COMPONENTS; c++) {
        snprintf(name, sizeof name, "%s/%s", folder, found[c] ? found[c] : "");
        if (found[c])
            is_at(l.part[c], name);
    }
    says(&l, "T5: ", "16.0 bits a weight), not ");
    says(&l, "t5xxl_fp8.safetensors (8.0): most bits first", "");
    says(&l, "ae.safetensors", "sd3_vae.safetensors (16.0): it has the usual name");
    located_free(&l);
}

static void comfy_s_folders_are_known(void **state)
{
    (void)state;
    make_comfy("ui/models");
    check_comfy(&(model_paths){.model = at("ui/models/unet/flux/flux1-dev.safetensors")}, "ui/models");
    check_comfy(&(model_paths){.part = {[COMPONENT_DIT] = at("ui/models/unet/flux/flux1-dev.safetensors")}},
                "ui/models");
    check_comfy(&(model_paths){.model = at("ui")}, "ui/models");
    check_comfy(&(model_paths){.model = at("ui/models")}, "ui/models");
    check_comfy(&(model_paths){.model = at("ui/models/unet/")}, "ui/models");
    assert_int_equal(symlink(at("ui/models/unet/flux/flux1-dev.safetensors"), at("link")), 0);
    assert_int_equal(symlink("..", at("ui/models/clip/loop")), 0); /* the same files again */
    assert_int_equal(symlink("clip_l.safetensors", at("ui/models/clip/a-link.safetensors")), 0);
    check_comfy(&(model_paths){.model = at("link")}, "ui/models");
    assert_int_equal(chdir(at("ui/models/unet/flux/")), 0);
    check_comfy(&(model_paths){.model = "flux1-dev.safetensors"}, "ui/models");
    assert_int_equal(chdir("/"), 0);
}

static void flux1_path_is_looked_through_in_order(void **state)
{
    (void)state;
    char path[PATH_MAX];
    make_comfy("ui/models");
    make("alone/x.safetensors", &transformer);
    setenv("FLUX1_PATH", at("ui"), 1);
    check_comfy(&(model_paths){.model = at("alone/x.safetensors")}, "ui/models");
    snprintf(path, sizeof path, "%s::%s", at("nowhere"), at("ui/models"));
    setenv("FLUX1_PATH", path, 1);
    check_comfy(&(model_paths){.model = at("alone/x.safetensors")}, "ui/models");
    make("first/any name", &t5); /* by content, whatever the name */
    snprintf(path, sizeof path, "%s:%s", at("first"), at("ui/models"));
    setenv("FLUX1_PATH", path, 1);
    located l = find(&(model_paths){.model = at("alone/x.safetensors")});
    is_at(l.part[COMPONENT_T5], "first/any name");
    is_at(l.part[COMPONENT_VAE], "ui/models/vae/ae.safetensors");
    located_free(&l);
    make("alone/t5", &t5); /* what lies beside comes first */
    l = find(&(model_paths){.model = at("alone/x.safetensors")});
    is_at(l.part[COMPONENT_T5], "alone/t5");
    says(&l, "T5: ", "found beside it");
    located_free(&l);
}

static void a_file_with_more_parts_gives_them(void **state)
{
    (void)state;
    make("all.safetensors", &all);
    located l = find(&(model_paths){.part = {[COMPONENT_DIT] = at("all.safetensors")}});
    is_at(l.part[COMPONENT_T5], "all.safetensors");
    is_at(l.part[COMPONENT_VAE], "all.safetensors");
    says(&l, "CLIP: ", "which holds it too");
    located_free(&l);
    l = find(&(model_paths){.model = at("all.safetensors")});
    is_at(l.model, "all.safetensors");
    for (int c = 0; c < COMPONENTS; c++)
        assert_true(!l.part[c] && !l.missing[c]);
    assert_int_equal(l.notes.count, 0);
    located_free(&l);
}

static void broken_files_are_skipped_unless_named(void **state)
{
    (void)state;
    flux1_error err = {0};
    make("x.safetensors", &transformer);
    make("t5-cut.safetensors", &t5);
    assert_int_equal(truncate(at("t5-cut.safetensors"), 90000), 0);
    put("lfs.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    put("notes.txt", "nothing to see");
    put("pickle.ckpt", "PK\3\4 and so on, which is none of ours");
    assert_int_equal(symlink("gone", at("link.safetensors")), 0);
    located l = find(&(model_paths){.model = at("x.safetensors")});
    assert_true(l.missing[COMPONENT_T5] && l.missing[COMPONENT_CLIP] && l.missing[COMPONENT_VAE]);
    assert_false(l.missing[COMPONENT_DIT]);
    says(&l, "skipped: ", "t5-cut.safetensors");
    says(&l, "skipped: ", "a Git LFS pointer");
    says(&l, "skipped: ", "a link to a file that is not there");
    assert_false(noted(&l, "notes.txt", "") || noted(&l, "pickle", ""));
    assert_int_equal(l.notes.count, 3);
    error_set(&err, FLUX1_ERR_MODEL, "so");
    locate_advise(&l, &err);
    assert_non_null(strstr(err.message, "flux1 pull comfyanonymous/flux_text_encoders --file t5xxl_fp16.safetensors"));
    assert_non_null(strstr(err.message, "flux1 pull black-forest-labs/FLUX.1-schnell --file ae.safetensors"));
    located_free(&l);
    refused(&(model_paths){.model = at("t5-cut.safetensors")}, "t5-cut.safetensors", "fetch it again");
    refused(&(model_paths){.model = at("pickle.ckpt")}, "pickle", "");
}

/* The tiny pipeline's text encoders are 32 wide, FLUX.1's transformer takes 4096. */
static void parts_of_another_width_are_not_taken(void **state)
{
    (void)state;
    flux1_error err = {0};
    make("x.safetensors", &transformer);
    setenv("FLUX1_PATH", TEST_DATA "/pipelines/packed", 1);
    located l = find(&(model_paths){.model = at("x.safetensors")});
    assert_true(l.missing[COMPONENT_T5] && l.missing[COMPONENT_CLIP]);
    error_set(&err, FLUX1_ERR_MODEL, "so");
    locate_advise(&l, &err);
    assert_non_null(strstr(err.message, "text_encoder_2: its width is 32, this transformer needs 4096"));
    located_free(&l);
    l = find(&(model_paths){.model = TEST_DATA "/files/gguf/flux1.gguf"});
    assert_non_null(strstr(l.part[COMPONENT_CLIP], "/packed/text_encoder"));
    assert_non_null(strstr(l.part[COMPONENT_VAE], "/packed/vae"));
    assert_non_null(strstr(l.part[COMPONENT_T5], "/gguf/t5.gguf"));
    assert_non_null(strstr(l.tokenizers, "/packed"));
    located_free(&l);
}

static void tensors_of_no_part_are_told(void **state)
{
    (void)state;
    true_layout l = all;
    l.extra = "control_model.input_hint_block.0.weight";
    make("all.safetensors", &l);
    located found = find(&(model_paths){.model = at("all.safetensors")});
    says(&found, "1 tensor of no part of FLUX.1 is ignored, such as ", l.extra);
    located_free(&found);
}

/* ---- Hugging Face's cache ---- */

static void cached(const char *repository, const char *file, const char *original)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "hub/models--%s/snapshots/" COMMIT "/%s", repository, file);
    assert_int_equal(symlink(original, at(name)), 0);
    snprintf(name, sizeof name, "hub/models--%s/refs/main", repository);
    put(name, COMMIT);
}

static void cache_pipeline(const char *repository)
{
    static const char *const names[] = {"model_index.json", "transformer", "tokenizer_2", "vae/config.json"};
    char original[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(original, sizeof original, TEST_DATA "/pipelines/schnell/%s", names[i]);
        cached(repository, names[i], original);
    }
}

static void check_model(const char *named, const char *repository)
{
    located l = find(&(model_paths){.model = named});
    is_at(l.model, "hub/models--org--name/snapshots/" COMMIT);
    assert_string_equal(l.repository, repository);
    located_free(&l);
}

static void names_of_repositories_are_found_in_the_cache(void **state)
{
    (void)state;
    cache_pipeline("org--name");
    put("hub/models--org--name/refs/tags/v1", COMMIT);
    check_model("org/name", "org/name");
    check_model("org/name/", "org/name");
    check_model("org/name@main", "org/name");
    check_model("org/name@tags/v1", "org/name");
    check_model("org/name@" COMMIT, "org/name");
    check_model(at("hub"), "org/name");
    check_model(root, "org/name"); /* HF_HOME, in which hub lies */
    check_model(at("hub/models--org--name"), "org/name");
    check_model(at("hub/models--org--name/snapshots/" COMMIT), "org/name");
    assert_int_equal(unlink(at("hub/models--org--name/refs/main")), 0);
    check_model("org/name", "org/name"); /* the only snapshot */
    refused(&(model_paths){.model = "org/name@v2"}, "org/name@v2 is not in Hugging Face's cache",
            "flux1 pull org/name@v2");
    refused(&(model_paths){.model = "org/other"}, "there is no such file or folder, and org/other is not in",
            "flux1 pull org/other");
    cache_pipeline("org--second");
    refused(&(model_paths){.model = at("hub")}, "2 pipelines", "org/name, org/second");
}

static void a_folder_here_wins_over_the_cache(void **state)
{
    (void)state;
    cache_pipeline("org--name");
    put("org/name/model_index.json", "{}");
    assert_int_equal(chdir(root), 0);
    located l = find(&(model_paths){.model = "org/name"});
    assert_string_equal(l.model, "org/name");
    assert_null(l.repository);
    located_free(&l);
    assert_int_equal(chdir("/"), 0);
}

/* The error ends with the command that completes the snapshot. */
static void advises(const char *model, const char *command)
{
    located l;
    flux1_error err = {0};
    assert_int_equal(locate(&(model_paths){.model = model}, &l, &err), FLUX1_ERR_MODEL);
    located_free(&l);
    const size_t length = strlen(err.message), wanted = strlen(command);
    assert_true(length > wanted);
    assert_string_equal(err.message + length - wanted, command);
}

static void unfinished_downloads_are_named(void **state)
{
    (void)state;
    cache_pipeline("org--name");
    cached("org--name", "vae/diffusion_pytorch_model.safetensors", "../../../blobs/absent");
    refused(&(model_paths){.model = "org/name"}, "vae/diffusion_pytorch_model.safetensors is missing",
            "to complete it: flux1 pull org/name");
    refused(&(model_paths){.model = at("hub")}, "vae/diffusion_pytorch_model.safetensors is missing",
            "flux1 pull org/name");
    advises("org/name", "flux1 pull org/name");
    advises(at("hub/models--org--name/snapshots/" COMMIT), "flux1 pull org/name");
    put("hub/models--org--name/refs/v1", COMMIT);
    advises("org/name@v1", "flux1 pull org/name@v1");
    put("hub/models--org--name/refs/main", "89abcdef0123456789abcdef0123456789abcdef");
    advises(at("hub/models--org--name/snapshots/" COMMIT), "flux1 pull org/name@" COMMIT);
    put("hub/models--org--name/refs/main", COMMIT);
    cached("org--name", "README.md", "../../blobs/none"); /* nothing that a picture needs */
    make("ae.safetensors", &vae);
    located l = find(&(model_paths){.model = "org/name", .part = {[COMPONENT_VAE] = at("ae.safetensors")}});
    assert_string_equal(l.repository, "org/name");
    located_free(&l);
}

static void repositories_of_single_files_are_searched(void **state)
{
    (void)state;
    make("files/q8/x", &transformer);
    make("files/bf16/x", &(true_layout){.transformer = true, .bf16 = true, .in_channels = 64});
    make("files/t5/x", &t5);
    make("files/clip/x", &clip);
    cached("org--gguf", "flux1-Q8.safetensors", at("files/q8/x"));
    cached("org--gguf", "flux1-BF16.safetensors", at("files/bf16/x"));
    cached("comfyanonymous--flux_text_encoders", "t5xxl_fp8.safetensors", at("files/t5/x"));
    cached("comfyanonymous--flux_text_encoders", "clip_l.safetensors", at("files/clip/x"));
    located l = find(&(model_paths){.model = "org/gguf"});
    is_at(l.part[COMPONENT_DIT], "files/bf16/x");
    is_at(l.part[COMPONENT_T5], "files/t5/x");
    is_at(l.part[COMPONENT_CLIP], "files/clip/x");
    assert_true(l.missing[COMPONENT_VAE]);
    assert_string_equal(l.repository, "org/gguf");
    says(&l, "T5: ", "found in Hugging Face's cache");
    located_free(&l);
    l = find(&(model_paths){.model = "org/gguf/flux1-Q8.safetensors",
                            .part = {[COMPONENT_T5] = "comfyanonymous/flux_text_encoders"}});
    is_at(l.model, "files/q8/x");
    is_at(l.part[COMPONENT_T5], "files/t5/x");
    located_free(&l);
    refused(&(model_paths){.model = "org/gguf/flux1-Q4.safetensors"}, "flux1-Q4.safetensors is not in",
            "flux1 pull org/gguf --file flux1-Q4.safetensors");
}

/* ---- adapters ---- */

static void is_adapter(const model_source *model, const char *name, const char *file)
{
    char *path;
    flux1_error err = {0};
    if (adapter_locate(model, name, &path, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    is_at(path, file);
    free(path);
}

static void adapters_are_found_by_name(void **state)
{
    (void)state;
    static model_source model;
    flux1_error err = {0};
    char *path;
    put("ui/models/loras/flux/style.safetensors", "x");
    put("ui/models/unet/x.gguf", "x");
    put("more/other.safetensors", "x");
    snprintf(model.part[COMPONENT_DIT], FOLDER_PATH_MAX, "%s", at("ui/models/unet/x.gguf"));
    is_adapter(&model, "style", "ui/models/loras/flux/style.safetensors");
    is_adapter(&model, "style.safetensors", "ui/models/loras/flux/style.safetensors");
    is_adapter(&model, "flux/style", "ui/models/loras/flux/style.safetensors");
    setenv("FLUX1_PATH", at("more"), 1);
    is_adapter(&model, "other", "more/other.safetensors");
    cached("org--lora", "one.safetensors", at("more/other.safetensors"));
    is_adapter(&model, "org/lora", "more/other.safetensors");
    cached("org--lora", "two.safetensors", at("more/other.safetensors"));
    assert_int_equal(adapter_locate(&model, "org/lora", &path, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "name one of them: org/lora/one.safetensors, org/lora/two.safetensors"));
    is_adapter(&model, "org/lora/two.safetensors", "more/other.safetensors");
    cached("org--lora", "pytorch_lora_weights.safetensors", at("ui/models/loras/flux/style.safetensors"));
    is_adapter(&model, "org/lora", "ui/models/loras/flux/style.safetensors");
    assert_int_equal(adapter_locate(&model, "nowhere", &path, &err), FLUX1_ERR_IO);
    assert_non_null(strstr(err.message, "nowhere: there is no such adapter here, in a folder loras beside the model"));
    assert_int_equal(chdir(at("more/")), 0);
    put("more/style", "x"); /* an existing file of that name wins */
    is_adapter(&model, "style", "more/style");
    assert_int_equal(chdir("/"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(comfy_s_folders_are_known),
        TEST(flux1_path_is_looked_through_in_order),
        TEST(a_file_with_more_parts_gives_them),
        TEST(broken_files_are_skipped_unless_named),
        TEST(parts_of_another_width_are_not_taken),
        TEST(tensors_of_no_part_are_told),
        TEST(names_of_repositories_are_found_in_the_cache),
        TEST(a_folder_here_wins_over_the_cache),
        TEST(unfinished_downloads_are_named),
        TEST(adapters_are_found_by_name),
        TEST(repositories_of_single_files_are_searched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
