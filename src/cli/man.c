/* The man page: commands and options from their tables, the rest from the texts below. */
#include "cli/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PAGE_DATE "2026-11-27" /* when the texts below last changed */
#define LINE_WIDTH 78
#define CHOICES_MAX 60 /* characters behind an option */

/* ---- roff ---- */

/* One character as roff wants it: hyphens, quotes and tildes that can be copied. Returns its width in the source. */
static int put(char c)
{
    static const struct {
        char c;
        const char *text;
    } escapes[] = {{'\\', "\\e"}, {'-', "\\-"}, {'\'', "\\(aq"}, {'~', "\\(ti"}, {'^', "\\(ha"}, {'`', "\\(ga"}};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        if (c == escapes[i].c)
            return printf("%s", escapes[i].text);
    putchar(c);
    return 1;
}

static int put_bytes(const char *text, size_t n)
{
    int width = 0;
    for (size_t i = 0; i < n; i++) {
        width += put(text[i]);
        if (text[i] == '|') /* a list of choices may be broken here */
            width += printf("\\:");
    }
    return width;
}

/* No text at the beginning of a line is a request. */
static void guard(char first)
{
    if (first == '.' || first == '\'')
        fputs("\\&", stdout);
}

/* Text between blanks, in lines of the source that are no longer than LINE_WIDTH; a new one behind a sentence. */
static void put_filled(const char *text, size_t length, const char *end)
{
    const char *const stop = text + length;
    int at = 0;
    while (text < stop) {
        const size_t n = strcspn(text, " \n") < (size_t)(stop - text) ? strcspn(text, " \n") : (size_t)(stop - text);
        const bool sentence = at > 0 && text[-2] == '.' && isupper((unsigned char)*text);
        if (at > 0) {
            const bool full = sentence || at + 2 * (int)n > LINE_WIDTH;
            putchar(full ? '\n' : ' ');
            at = full ? 0 : at + 1;
        }
        if (at == 0)
            guard(*text);
        at += put_bytes(text, n);
        text += n + (text + n < stop);
    }
    puts(end);
}

/* ---- commands and options ---- */

/* Choices that are too many to stand behind their option: one a line of the source. */
static void put_choices(const char *choices)
{
    fputs("one of", stdout);
    for (size_t n; *choices; choices += n + (choices[n] == '|')) {
        n = strcspn(choices, "|");
        putchar('\n');
        put_bytes(choices, n);
        putchar(choices[n] ? ',' : ':');
    }
    putchar('\n');
}

/* In brackets, in lines no longer than LINE_WIDTH. */
static void put_commands_of(const option_row *o)
{
    const char *const all = o->in == IN_HELPED  ? "all commands"
                            : o->in == IN_EVERY ? "all commands but serve and trial"
                                                : NULL;
    const char *between = "";
    int column = 1;
    putchar('(');
    for (int c = 0; c < COMMAND_COUNT && !all; c++)
        if (o->in & 1u << c) {
            const bool full = column + (int)strlen(command_rows[c].name) + 2 > LINE_WIDTH;
            const int n = printf("%s%s", full ? ",\n" : between, command_rows[c].name);
            column = full ? n : column + n;
            between = ", ";
        }
    printf("%s)\n", all ? all : "");
}

static void put_option(const option_row *o)
{
    fputs(".TP\n\\fB", stdout);
    if (o->letter)
        printf("\\-%c\\fR, \\fB", o->letter);
    put_bytes("--", 2);
    put_bytes(o->name, strlen(o->name));
    fputs("\\fR", stdout);
    const bool is_list = o->argument && strlen(o->argument) > CHOICES_MAX;
    if (o->argument) {
        fputs(" \\fI", stdout);
        for (const char *c = o->name; is_list && *c; c++)
            putchar(toupper((unsigned char)*c));
        put_bytes(o->argument, is_list ? 0 : strlen(o->argument));
        fputs("\\fR", stdout);
    }
    putchar('\n');
    if (is_list)
        put_choices(o->argument);
    put_filled(o->help, strlen(o->help), ".");
    put_commands_of(o);
}

static void put_synopsis(void)
{
    puts(".SH SYNOPSIS");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        const char *operand = command_rows[c].operand;
        printf(".B flux1 %s\n[\\fIoptions\\fR]", command_rows[c].name);
        if (operand) {
            putchar(' ');
            put_bytes(operand, strlen(operand));
        }
        puts("\n.br");
    }
    puts(".B flux1 help\n[\\fIcommand\\fR]\n.br\n.B flux1 completion\nbash|zsh|fish\n.br\n.B flux1 version");
}

static void put_commands_and_options(void)
{
    puts(".SH COMMANDS");
    for (int c = 0; c < COMMAND_COUNT; c++) {
        printf(".TP\n\\fBflux1 %s\\fR\n", command_rows[c].name);
        put_filled(command_rows[c].help, strlen(command_rows[c].help), ".");
    }
    puts(".SH OPTIONS\nIn brackets: the commands that have the option.\nOptions are not abbreviated.\n"
         "A value that is itself an option is written\n\\fB\\-\\-prompt=\\fIVALUE\\fR.");
    for (int i = 0; i < OPTION_COUNT; i++)
        put_option(&option_rows[i]);
}

/* ---- sections ---- */

/* A line that begins with '@' is a term, what follows describes it; four blanks: an example, kept as it is; an empty
 * line begins a paragraph. Everything else is prose. */
typedef struct section {
    const char *title, *text;
} section;

static const section before[] = {
    {"DESCRIPTION",
     "Makes pictures from text with FLUX.1 models (schnell, dev). A model is a pipeline folder in diffusers' layout, a "
     "file of weights (safetensors, GGUF) whose other parts are found or named, or a repository in Hugging Face's "
     "cache. Without one the mini model that comes with flux1 draws.\n"
     "\n"
     "Results (names of files, or JSON) go to standard output; progress, notes and errors to standard error. Width and "
     "height are rounded down to a multiple of what the model's autoencoder needs, usually 16. A file flux1.json "
     "beside model_index.json can say which sizes a model was trained for, in pixels of a side: {\"sizes\": {\"min\": "
     "256, \"max\": 1536, \"multiple\": 16}}; for a size that is more than a quarter outside, or not a multiple, there "
     "is "
     "a warning."}};

static const section after[] = {
    {"JSON",
     "With --json a command's result is one JSON object on standard output. That of generate has images (file, seed, "
     "width and height of each), seconds for each stage and peak_rss_bytes.\n"
     "\n"
     "With --jsonl each line of standard input is a request, and each but a blank one is answered by one line on "
     "standard output, in the order of the lines. Options of the command line hold where a line does not say "
     "otherwise. null is the same as a key that is not given; true and false are yes and no.\n"
     "    {\"prompt\": \"a red fox\", \"seed\": 7, \"output\": \"fox.png\", \"id\": 1}\n"
     "    {\"id\": 1, \"line\": 1, \"status\": \"FLUX1_OK\", \"message\": null,\n"
     "     \"images\": [{\"file\": \"fox.png\", \"seed\": 7, \"width\": 1024, \"height\": 1024}],\n"
     "     \"seconds\": {\"load\": 1.2, \"text\": 0.9, \"denoise\": 40.1, \"decode\": 3.0,\n"
     "                 \"write\": 0.1, \"total\": 45.3},\n"
     "     \"peak_rss_bytes\": 24696061952}\n"
     "@id\n"
     "the request's, whatever it is, or null; a number of more than 64 bits is rounded\n"
     "@line\n"
     "its number in the input, from 1\n"
     "@status\n"
     "FLUX1_OK or the name of an error, such as FLUX1_ERR_ARGUMENT (the line is wrong), FLUX1_ERR_FORMAT (it is not "
     "JSON) or FLUX1_ERR_IO; message then says what went wrong\n"
     "@images\n"
     "what was written, also by a request that failed later\n"
     "@warnings\n"
     "what was ignored, rounded or is doubtful; not there if there is nothing\n"
     "@latents\n"
     "files of pictures that could not be decoded, which flux1 decode finishes; not there if there are none\n"
     "@seconds\n"
     "for each stage; null for a line that became no request\n"
     "\n"
     "A line that fails does not stop the rest. An interrupt ends the run: lines behind the current one are not "
     "answered. The JSON schema of requests and answers is jsonl.schema.json, among the documentation. tokenize "
     "answers a line with clip and t5, or with id, line, status and message if it is wrong."},
    {"NAMES",
     "Without --output a name is made from the first 48 letters and digits of the prompt, of any script, and the seed: "
     "a-red-fox_seed7.png, or a-red-fox_seed7-2.png if that is taken. Such a name is taken exclusively, so that "
     "programs that run at once never write over each other's pictures.\n"
     "\n"
     "With --output FILE an existing file is replaced, and its ending says the format: .png, .jpg, .jpeg or .webp. Of "
     "several pictures the first is FILE-1.png. %d or %03d in FILE is the picture's number instead. "
     "A file that an earlier line of --jsonl wrote is not replaced, nor is one that the run reads, but that --output "
     "may name the picture of --from. --output - writes one picture to standard output.\n"
     "\n"
     "--output-dir DIR is the folder of every name that does not begin with /, and is created if it does not exist.\n"
     "\n"
     "A picture is written under a temporary name beside its own and renamed when it is complete, so that it is never "
     "seen half written. Where a file cannot be renamed over, it is written in place. A target that cannot be written "
     "is refused before anything is computed. Each picture is written as soon as it is decoded; an interrupt or a "
     "failure leaves those that are finished and lists them."},
    {"METADATA",
     "Each picture contains how it was made: the line \"parameters\" as AUTOMATIC1111's web UI writes it, a JSON "
     "object with the request, and IPTC's mark of generated pictures (DigitalSourceType trainedAlgorithmicMedia). PNG "
     "has the first two as text chunks, JPEG and WebP in EXIF and XMP; the mark is XMP in each. A JPEG has room for 64 "
     "KiB of each text, and one that takes more is left out with a warning. The request has "
     "prompt, negative prompt, size, steps, guidance, seed, rng, whether it began with --latents, text length, step "
     "cache, the names of the model and of the adapters, dtype, device, mesh and flux1's version; what had no effect "
     "is left out. --no-metadata leaves all of it out. A file of latents that a failed run leaves has the two texts "
     "and the paths of the model's files even so: decode needs them.\n"
     "\n"
     "flux1 info PICTURE prints it, with --json as JSON. generate --from PICTURE repeats a picture; any option given "
     "beside it overrides. Both read pictures of AUTOMATIC1111 and Forge too, and ComfyUI's PNGs where the graph has "
     "one sampler; what cannot be repeated, such as another sampler, is named in a note. The model is not taken from "
     "the "
     "picture: --model names it."},
    {"SEVERAL HOSTS",
     "The ranks of --mesh can be processes on several hosts that have Open MPI, flux1 and the model at the same paths, "
     "and reach each other by ssh without a password:\n"
     "    printf 'alpha slots=4\\nbeta slots=4\\n' > hosts\n"
     "    flux1 generate -p \"a red fox\" --mesh 2x4 --hostfile hosts\n"
     "    mpirun --hostfile hosts -n 8 flux1 generate -p \"a red fox\" --mesh 2x4\n"
     "The last two do the same, but mpirun alone may not end when a host is gone. A process that is killed is noticed "
     "at once, a host that is silent after 20 seconds; hosts have 60 seconds to start."},
    {"ENVIRONMENT",
     "@FLUX1_MODEL\n"
     "model to use where none is named\n"
     "@FLUX1_MODELS\n"
     "folder in which the mini model lies, empty for none (default: ../models or ../share/flux1/models beside the "
     "program, or models in the source tree)\n"
     "@FLUX1_PATH\n"
     "folders, separated by colons, that are searched for adapters, and for parts of a model that do not lie beside "
     "it; also ComfyUI's folder, or the models in it\n"
     "@FLUX1_CACHE_DIR, FLUX1_CACHE_SIZE\n"
     "folder for prepared weights where --cache names none, and the most that it may hold, such as 80G\n"
     "@FLUX1_CPU_ISA\n"
     "kernels to use instead of the machine's best: portable; avx2, avxvnni, avx512, avx512vnni, avx512bf16 or "
     "avx512amx of x86; neon, neondot or neonbf16 of arm64\n"
     "@FLUX1_CUDA_LIBRARIES\n"
     "folders, separated by colons, where cuBLASLt, cuDNN, NCCL or the driver are looked for first. Otherwise the "
     "loader's path, /usr/local/cuda/lib64, and what pip and conda have installed under VIRTUAL_ENV, CONDA_PREFIX, the "
     "python3 on PATH and ~/.local. flux1 info --devices prints what was found\n"
     "@FLUX1_TTNN_PYTHON\n"
     "Python that has ttnn, Tenstorrent's library: a path, or a name on PATH (default: the first python3, python3.12 "
     "or python3.10 on PATH that has it)\n"
     "@FLUX1_TTNN_BLOCKINGS\n"
     "table of the fastest blockings of products on Tenstorrent's cards, which `flux1_ttnn.py search` writes "
     "(docs/tenstorrent.md; default: flux1/ttnn-blockings.json in XDG_CACHE_HOME or ~/.cache)\n"
     "@FLUX1_TTNN_PROFILE\n"
     "file for the seconds of each stage on Tenstorrent's cards and, where --capture is no, of the second step's calls "
     "(JSON)\n"
     "@FLUX1_TTNN_TIMEOUT\n"
     "seconds in which an operation on Tenstorrent's cards may give no sign of life before it is given up (default: "
     "600)\n"
     "@FLUX1_PLUGINS\n"
     "folders, separated by colons, where libflux1-mpi.so is looked for first (default: beside the program and the "
     "library)\n"
     "@HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME\n"
     "Hugging Face's cache, or the folder in which it is hub (default: huggingface/hub in XDG_CACHE_HOME, else in "
     "~/.cache)\n"
     "@HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH\n"
     "token for the hub (pull), or the file with it (default: token in HF_HOME, which \"hf auth login\" writes). None "
     "is sent if HF_HUB_DISABLE_IMPLICIT_TOKEN is 1\n"
     "@HF_ENDPOINT\n"
     "the hub's address (default: https://huggingface.co)\n"
     "@HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE\n"
     "1, on, yes or true: pull fetches nothing\n"
     "@HF_HUB_DOWNLOAD_TIMEOUT\n"
     "seconds without data after which a connection is given up and made again (default: 10)\n"
     "@REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE\n"
     "file of certificates that pull trusts. Proxies are libcurl's: https_proxy, no_proxy and so on\n"
     "@XDG_CACHE_HOME, HOME\n"
     "where the folders below lie\n"
     "@TMPDIR\n"
     "where serve makes its temporary folder, without --jobs, and the worker for Tenstorrent's cards its own: an "
     "absolute path (default: /tmp)\n"
     "@TERM\n"
     "dumb: no progress that moves\n"
     "\n"
     "A program that mpirun or Slurm has started several times knows it by OMPI_COMM_WORLD_RANK, PMI_RANK or PMIX_RANK "
     "and SLURM_PROCID, and the variables of the same launcher that give the number of processes. FLUX1_LAUNCHED is "
     "set by --launch for its own processes."},
    {"FILES", "@~/.cache/huggingface/hub\n"
              "models from the hub, in the layout that Hugging Face's own tools share\n"
              "@~/.cache/flux1\n"
              "small files that are made again if they are removed: results of measurements, and digests of files\n"
              "@the folder of --cache\n"
              "prepared weights; flux1 cache lists and removes them\n"
              "@share/flux1/models\n"
              "the mini models"},
    {"EXIT STATUS", "@0\n"
                    "done\n"
                    "@1\n"
                    "failed; with --jsonl and --prompts: a line failed\n"
                    "@2\n"
                    "wrong usage, or a request that the model cannot take\n"
                    "@130\n"
                    "interrupted"},
    {"EXAMPLES", "    flux1 generate -p \"two yellow ducks on a beach\" -o ducks.png\n"
                 "    flux1 pull black-forest-labs/FLUX.1-schnell\n"
                 "    flux1 generate -m black-forest-labs/FLUX.1-schnell -p \"a red fox\" -o fox.png\n"
                 "    flux1 generate -m flux1-dev-Q4_0.gguf -p \"a red fox\" -n 4 -o 'fox%02d.webp'\n"
                 "    flux1 info fox.png\n"
                 "    flux1 generate -m flux1-dev-Q4_0.gguf --from fox01.webp -s 40 -o again.png\n"
                 "    echo '{\"prompt\": \"a red fox\"}' | flux1 generate --jsonl\n"
                 "    flux1 convert flux1-dev.safetensors flux1-dev-q8_0.gguf --type q8_0"}};

static bool is_example(const char *line) { return strncmp(line, "    ", 4) == 0; }

static void put_section(const section *s)
{
    bool open = false, paragraph = false;
    printf(".SH %s\n", s->title);
    for (const char *line = s->text; *line;) {
        const size_t n = strcspn(line, "\n");
        if (is_example(line) != open) {
            puts(open ? ".fi\n.RE" : ".RS 4\n.nf");
            open = !open;
            paragraph = false;
        }
        if (paragraph && n > 0 && *line != '@')
            puts(".PP");
        paragraph = n == 0;
        if (open) {
            guard(line[4]);
            put_bytes(line + 4, n - 4);
            putchar('\n');
        } else if (*line == '@') {
            fputs(".TP\n.B ", stdout);
            put_bytes(line + 1, n - 1);
            putchar('\n');
        } else if (n > 0)
            put_filled(line, n, line[n - 1] == '.' || line[n - 1] == ':' ? "" : ".");
        line += n + (line[n] == '\n');
    }
    if (open)
        puts(".fi\n.RE");
}

void help_man_page(void)
{
    printf(".TH FLUX1 1 \"" PAGE_DATE "\" \"flux1 %s\" \"User commands\"\n.SH NAME\nflux1 \\- FLUX.1 text to image\n",
           flux1_version());
    put_synopsis();
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        put_section(&before[i]);
    put_commands_and_options();
    for (size_t i = 0; i < sizeof after / sizeof *after; i++)
        put_section(&after[i]);
}
