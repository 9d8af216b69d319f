"""The kit for people with a card, with the vendor's library in numpy (stand_in): it finds planted errors of single functions, tells what hangs and dies and goes on, and
leaves a report whatever happens.

usage: kit.py FLUX1 PIPELINE        exit 77: this Python has no numpy
"""
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest.mock

sys.dont_write_bytecode = True
try:
    import numpy  # noqa: F401: the worker's Python is this one
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "../../tools/ttnn")]
import flux1_ttnn as worker
import flux1_ttnn_cases as cases
import flux1_ttnn_kit as kit

PROGRAM = os.path.join(here, "../../tools/ttnn/flux1_ttnn.py")
SAME = 1e-6  # relative L2, where nobody rounds: values are of bf16
OTHER_GELU = {"linear gelu": 3e-4}  # numpy_ttnn's is by tanh always

# Functions that are wrong (stand_in has how), what is made, and the witness of each: an operation that calls no other function of its run that is wrong.
PLANTED = (
    ({"embedding": "embed", "conv2d": "conv 3x3, 16x16, 32 to 3 channels", "rms_norm": "rms_norm 64x512", "alt_complex_rotate90": "qkv_norm_rope",
      "scaled_dot_product_attention": "attention 77 tokens, causal", "silu": "linear silu", "sigmoid": "linear quick_gelu", "mean": "group_stats and group_apply"},
     ["linear with gate and residual", "layer_norm modulated 77x96", "cast"]),
    ({"minimal_matmul": "linear 96x320 to 192", "layer_norm": "layer_norm with weights 77x768", "gelu": "activate gelu_tanh with mul", "add": "add in place", "slice": "copy_rows",
      "upsample": "upsample_conv 8x12, 32 channels"}, ["rms_norm 64x512", "attention 96 tokens, 2 heads of 128", "conv 3x3, 16x24, 32 to 64 channels"]),
    ({"dit_rms_norm_unary_fused": "single_products", "multiply": "linear with mul", "all_gather_async": "gather_columns of tp, 2x2"},
     ["linear with addend", "rms_norm 64x512"]),
    ({"copy": "add with gate", "reduce_scatter_minimal_async": "reduce_rows of all, 1x2, 32 rows each", "mesh_partition": "conv 3x3 with neighbours' rows, 1x2",
      "ring_joint_scaled_dot_product_attention": "ring attention of the image's queries"}, ["gather_rows of all, 1x2, 16 rows each", "attention of a plane's rows on two devices"]),
)


class Test:
    def __init__(self, flux1, pipeline, room):
        self.flux1, self.pipeline, self.room, self.tmp = flux1, pipeline, room, os.path.join(room, "tmp")
        os.mkdir(self.tmp)
        self.env = dict(os.environ, TMPDIR=self.tmp, FLUX1_TTNN_PYTHON=sys.executable, PYTHONPATH=os.path.join(here, "stand_in"), PYTHONDONTWRITEBYTECODE="1",
                        OPENBLAS_NUM_THREADS="1")
        self.env.pop("TT_METAL_MOCK_CLUSTER_DESC_PATH", None)

    def command(self, *more, only=None, device="ttnn:wh-t3k"):
        return [sys.executable, "-B", PROGRAM, "kit", os.path.join(self.room, "report"), "--flux1", self.flux1, "--device", device, *(["--only", only] if only is not None else []), *more]

    def report(self):
        with open(os.path.join(self.room, "report", "report.json"), encoding="utf-8") as f:
            self.json = json.load(f)
        with open(os.path.join(self.room, "report", "report.txt"), encoding="utf-8") as f:
            self.text = f.read()
        return {row["name"]: row for row in self.json["operations"]}

    def run(self, *more, status=0, only=None, device="ttnn:wh-t3k", **env):
        done = subprocess.run(self.command(*more, only=only, device=device), env=self.env | env, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, (done.returncode, done.stdout[-4000:], done.stderr)
        assert not os.listdir(self.tmp), os.listdir(self.tmp)
        rows = self.report()
        assert done.stdout == self.text
        return rows


def exactly(names):
    return "|".join(f"^[a-z]+ {re.escape(name)}$" for name in names)


def every_call_has_a_case(t):
    """All calls that the worker makes are in some operation."""
    made = {line.split()[1 if line.startswith("@") else 0] for make in cases.KINDS.values() for case in make() for line in case.recording().splitlines()}
    missing = worker.CALLS - made - worker.UNTIMED
    assert not missing, missing


def nothing_private_is_told(t):
    """Neither serial numbers nor folders: of the user, of the model, of the report, of the program."""
    devices = {"Tenstorrent cards": [{"board": "n300", "serial": "0100014511"}], "devices": []}
    assert kit.without_serials(devices) == {"Tenstorrent cards": [{"board": "n300"}], "devices": []} and kit.without_serials({}) == {}
    model = os.path.join(t.room, "secret", "model")
    os.makedirs(model)
    options = types.SimpleNamespace(recording="/data/me/report", flux1="/opt/mine/flux1", model=[model], with_option=[])
    told = kit.Kit(options, False).public(f"{model}/a {model} /data/me/report/b /data/me/c /opt/mine/flux1 /home/anna/x \"/Users/anna\" {os.path.expanduser('~')}/y /usr/lib")
    assert told == f"…/model/a …/model …/b …/c …/flux1 ~/x \"~\" {'~/y' if os.path.expanduser('~') != '/' else '//y'} /usr/lib", told
    os.makedirs("private/x/m")
    options = types.SimpleNamespace(recording="report", flux1="flux1", device="ttnn", only=None, weights="bfloat16", model=["private/x/m", "./private/x/m/", "org/name"],
                                    with_option=["--steps=4", "--lora=/data/secret/l.safetensors:0.8", "--lora=own/deep/l", "private/x/other", "--lora=/data/two words/l"])
    one = kit.Kit(options, False)
    assert one.given() == ["report", "--device", "ttnn", "--model", "m", "--model", "m", "--model", "org/name", "--with-option=--steps=4", "--with-option=--lora=l.safetensors:0.8",
                           "--with-option=--lora=l", "--with-option=other", "--with-option=--lora=l"], one.given()
    told = one.public(f"private/x/m/a: \"private/x/m\" ./private/x/m {os.getcwd()}/private/x/m /data/secret/l.safetensors: own/deep/l (own/deep/l) my-own/deep/l /data/two words/l")
    assert told == "…/m/a: \"…/m\" …/m …/m …/l.safetensors: …/l (…/l) my-own/deep/l …/l", told


def all_is_well(t):
    rows = t.run(only="^(operations|exchanges|blocks)")
    assert len(rows) == sum(1 for make in cases.KINDS.values() for _ in make())
    for name, row in rows.items():
        for key in ("trace no", "trace yes"):
            errors = row[key]["errors"]
            assert row[key]["verdict"] == "ok" and len(errors) in (1, cases.STEPS) and all(e <= OTHER_GELU.get(name, SAME) for e in errors.values()), (name, row)
            assert row[key].get("seconds", 0) > 0 or len(errors) == 1, (name, row)
    assert t.json["state"] == "complete" and t.json["ttnn"] == "of unknown version" and t.room not in t.text and t.room not in json.dumps(t.json)


def planted_errors_are_found(t):
    for planted, well in PLANTED:
        rows = t.run(only=exactly([*planted.values(), *well]), status=1, FLUX1_STAND_IN_WRONG=",".join(planted))
        off = {name for name, row in rows.items() if "off" in (row["trace no"]["verdict"], row["trace yes"]["verdict"])}
        assert off == set(planted.values()), (off ^ set(planted.values()), planted)
        if "copy" in planted:  # which brings a step's rows of tables to where a trace reads them
            row = rows[planted["copy"]]
            assert (row["trace no"]["verdict"], row["trace yes"]["verdict"]) == ("ok", "off"), row
        assert t.text.count("\n  OFF ") == len(planted)


def a_trace_is_what_is_compared(t):
    """Also of an operation that reads no table: recorded at the second call, played there, at the third and when it is timed."""
    noted = os.path.join(t.room, "traces")
    t.run(only=exactly(["rms_norm 64x512"]), FLUX1_STAND_IN_TRACES=noted)
    with open(noted, encoding="utf-8") as f:
        assert f.read().split() == ["taken"] + (cases.STEPS - 1 + kit.TIMES) * ["played"] + ["dropped"]


def what_is_lost_is_told(t):
    """Each part by itself: behind one that dies come the others."""
    hanging = "attention 64 of 96 tokens"
    rows = t.run(only=exactly([hanging, "cast"]), status=1, FLUX1_STAND_IN="kill@1")
    for key in ("trace no", "trace yes"):
        assert "ended by signal 9" in rows[hanging][key]["failed"] and rows["cast"][key]["verdict"] == "ok", rows
    rows = t.run(only="^operations attention", status=1, FLUX1_STAND_IN="hang@1", FLUX1_TTNN_TIMEOUT="3")
    assert [row["trace yes"]["failed"].count("has said nothing for 3 s") for row in rows.values()] == [1, 1, 1, 0], rows
    assert "left out: 3 before it were lost" in [*rows.values()][3]["trace yes"]["failed"], rows
    rows = t.run("--limit", "2", only=exactly([hanging]), status=1, FLUX1_STAND_IN="hang@1", FLUX1_TTNN_TIMEOUT="60")
    assert "within 2 s" in rows[hanging]["trace no"]["failed"], rows
    done = subprocess.run([sys.executable, "-B", PROGRAM, "kit", os.path.join(t.room, "none"), "--flux1", "/nowhere/flux1"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "flux1_ttnn: /nowhere/flux1 does not start: No such file or directory; --flux1 names the program\n"), done
    rows = t.run(only="^operations linear", status=1, FLUX1_TTNN_PYTHON="/nowhere/python")
    assert all("/nowhere/python" in row["trace no"]["failed"] for row in rows.values()), rows


def what_cannot_begin_or_end_is_one_sentence(t):
    """A pattern of nothing, a folder that is a file, a report that cannot be written at the end; and the kit's own folder stays as it was."""
    taken, tools = os.path.join(t.room, "taken"), os.path.join(t.room, "tools")
    with open(taken, "w", encoding="utf-8"):
        pass
    os.mkdir(tools)
    for name in ("flux1_ttnn.py", "flux1_ttnn_kit.py", "flux1_ttnn_cases.py"):
        shutil.copy(os.path.join(os.path.dirname(PROGRAM), name), tools)
    env = {name: value for name, value in t.env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for folder, more, said in ((os.path.join(t.room, "none"), ("--only", "nothing"), "--only nothing matches nothing"), (taken, (), taken + " cannot be made: File exists; name another folder")):
        done = subprocess.run([sys.executable, os.path.join(tools, "flux1_ttnn.py"), "kit", folder, "--flux1", t.flux1, *more], env=env, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1) and said in done.stderr, done
    assert not os.path.exists(os.path.join(t.room, "none")) and len(os.listdir(tools)) == 3, os.listdir(tools)
    options = types.SimpleNamespace(recording=os.path.join(t.room, "full"), flux1=t.flux1, device="ttnn:wh-n300", only="^operations cast", weights="bfloat16", model=[], with_option=[])
    whole = unittest.mock.patch.object(kit.Kit, "operations", lambda self: shutil.rmtree(self.folder))
    with whole, contextlib.redirect_stderr(io.StringIO()) as said:
        assert kit.run(options, False) == 1
    assert "report.json.part: No such file or directory\n" in said.getvalue() and said.getvalue().count("\n") == 1, said.getvalue()


def what_a_machine_lacks_is_left_out(t):
    rows = t.run(only=exactly(["gather_columns of tp, 2x2", "gather_columns of all, 1x2"]), device="ttnn:wh-n300")
    assert rows["gather_columns of tp, 2x2"]["left out"] == "the machine has 1x2 devices" and rows["gather_columns of all, 1x2"]["trace no"]["verdict"] == "ok", rows


def an_interrupt_leaves_a_report(t):
    child = subprocess.Popen(t.command(only=exactly(["add in place", "attention with a bias", "linear silu"])), env=t.env | {"FLUX1_STAND_IN": "hang@1"},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 120  # of a busy machine
    while not (os.path.exists(os.path.join(t.room, "report", "report.json")) and "trace no" in t.report().get("linear silu", {})):
        assert time.monotonic() < until
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(120) == 130
    rows = t.report()
    assert t.json["state"] == "interrupted" and rows["linear silu"]["trace no"]["verdict"] == "ok" and "trace no" not in rows["attention with a bias"], rows
    assert "state: interrupted" in t.text and not os.listdir(t.tmp), os.listdir(t.tmp)


def pictures_are_told(t):
    """Errors and seconds of each stage, with and without a trace, the calls of a step; a model that is not there is told (flux1's own here), and the rest goes on."""
    model = os.path.join(t.room, "private", "fine")
    os.makedirs(os.path.dirname(model))
    os.symlink(t.pipeline, model)
    options = [f"--with-option=--{o}" for o in ("width=128", "height=128", "max-sequence-length=64", "steps=3", "mesh=1x1")]
    t.run("--model", model, *options, only="^picture", status=1, FLUX1_MODEL=os.path.join(t.room, "private", "none"))
    assert t.json["ttnn"] == "of unknown version", t.json["ttnn"]  # no operation has told it
    own, there = t.json["models"]
    assert own["model"] == "flux1's own model" and "no such file" in own["runs"]["cpu"]["failed"], own
    assert there["model"] == "fine"
    for name in ("trace no", "trace yes"):
        run = there["runs"][name]
        assert 0 < run["errors"]["latents.3"] < 0.01 and run["errors"]["prompt_embeds"] < 0.02 and run["seconds"]["denoise"] > 0, run
        assert run["cards"].keys() == set(worker.STAGES) and len(run["cards"]["dit.step"]) == 3, run["cards"]
    called, traced = (there["runs"][name]["cards"]["dit.step"] for name in ("trace no", "trace yes"))
    assert [("calls" in step) for step in called] == [False, True, False] and not any("calls" in step for step in traced)
    assert {"linear", "attention", "qkv_norm_rope", "euler"} <= called[1]["calls"].keys() and sum(s for _, s in called[1]["calls"].values()) < called[1]["seconds"]
    assert "latents.3: relative L2" in t.text and "none: no such file" in t.text and t.room not in t.text and t.room not in json.dumps(t.json)


def in_mock_mode_nothing_is_compared(t):
    """As far as the kit goes, which looks at the library's variable; tests/ttnn/mock.sh has the library."""
    t.run("--model", t.pipeline, only=exactly(["add in place"]), TT_METAL_MOCK_CLUSTER_DESC_PATH="/none", FLUX1_STAND_IN_WRONG="add")
    row, = t.json["operations"]
    assert row["trace no"] == {"verdict": "made", "note": "mock mode: numbers mean nothing"} and "trace yes" not in row, row
    assert "mock mode: numbers mean nothing; nothing is compared" in t.text


def main():
    flux1, pipeline = (os.path.abspath(path) for path in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as room:
        for test in (every_call_has_a_case, nothing_private_is_told, all_is_well, planted_errors_are_found, a_trace_is_what_is_compared, what_is_lost_is_told, what_cannot_begin_or_end_is_one_sentence, what_a_machine_lacks_is_left_out, an_interrupt_leaves_a_report,
                     in_mock_mode_nothing_is_compared, pictures_are_told):
            began = time.monotonic()
            with tempfile.TemporaryDirectory(dir=room) as one:
                os.chdir(one)
                test(Test(flux1, pipeline, one))
                os.chdir(room)
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
