"""`--device ttnn` from the command line, with the vendor's library in numpy (stand_in): pictures equal the CPU's on meshes, and a worker that dies, hangs or lies
ends as a sentence and leaves nothing.

usage: device.py FLUX1 PIPELINE        exit 77: this Python has no numpy
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib

sys.dont_write_bytecode = True
try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here]
from same_numbers import relative, safetensors

SAME = 2e-5  # relative L2 of latents, whose products are of bf16 weights on both sides
SMALL = ("--width", "128", "--height", "128", "--max-sequence-length", "64")
UNEVEN = ("--width", "120", "--height", "136", "--max-sequence-length", "40")  # 20 tokens of the prompt on a device; others do not divide
LARGE = ("--width", "256", "--height", "128", "--max-sequence-length", "128")
REQUEST = ("--prompt", "a red fox", "--seed", "5", "--steps", "3")

LIAR = '''#!%s
import os, sys
if sys.argv[1] == "-c":
    print("3.12.1\\n0.81.1\\n/none")
    sys.exit(0)
into, out = os.fdopen(os.dup(3)), os.fdopen(3, "wb", buffering=0)
good = b"flux1-ttnn 1 library=0.81.1 mock=0 stages=clip,t5,dit.open,dit.step,dit.latent,vae\\n"
lies = eval(os.environ["FLUX1_LIES"])
for lie in lies:
    out.write(good if lie == "greet" else b"done\\n" if lie == "done" else lie)
    order = into.readline()
    if not order:
        break
'''

# What a worker says to the greeting, open, recording, run; and what flux1 makes of it. Sizes are of the first weights.
LIES = (
    ((b"flux1-ttnn 2 library=1 mock=0 stages=t5\n",), "no greeting of version 1"),
    ((b"flux1-ttnn 1 library=1 stages=t5\n",), "no greeting"),
    ((b"flux1-ttnn 1 mock=7 stages=t5\n",), "no greeting"),
    ((b"flux1-ttnn 1 library=1 mock=0 stages=t5\n",), "does not make stage clip"),
    ((b"refused there is no card\n",), "the worker says: there is no card"),
    ((b"\xff\xfe\n",), "said what is no text"),
    ((b"a\x00b\n",), "said what is no text"),
    ((b"x" * 5000,), "said a line of more than"),
    (("greet", b"nonsense\n"), "which is no answer"),
    (("greet", b"weight w=1 bias=0 form=bfloat8_b.tile rows=1 cols=1\n"), "which is no answer"),  # nothing is asked for here
    (("greet", b"cancelled\n"), "which is no answer"),
    (("greet", "done", b""), "has said nothing for 2 s"),
    (("greet", "done", "done", b"weight\n"), "asks for \"\""),
    (("greet", "done", "done", b"weight w=99999 bias=0 form=bfloat16.tile rows=32 cols=32\n"), "asks for"),
    (("greet", "done", "done", b"weight w=0 bias=0 form=bfloat16.tile rows=1 cols=1\n"), "asks for"),
    (("greet", "done", "done", b"weight w=0 bias=0 form=bfloat4_b.tile rows=1 cols=1\n"), "asks for"),
    (("greet", "done", "done", b"weight w=-1 bias=0 form=bfloat16.tile rows=1 cols=1\n"), "asks for"),
    (("greet", "done", "done", b"weight w=0 bias=0 form=bfloat16.row rows=999999999999999 cols=999999999999999\n"), "asks for"),
    (("greet", "done", "done", b"weight w=0 bias=2 form=bfloat16.row rows=1 cols=1\n"), "asks for"),
    (("greet", "done", "done", b"input name=the.moon\n"), "asks for"),
    (("greet", "done", "done", b"input\n"), "asks for"),
    (("greet", "done", "done", "done"), "was wanted"),
    (("greet", "done", "done", b"done rows=1 cols=1\n"), "was wanted"),
    (("greet", "done", "done", b"done rows=64 cols=\n"), "was wanted"),
    (("greet", "done", "done", b"at 1\nat 2\nwarning it is late\nrefused \n"), "the worker says: "),
)

DEATHS = {
    "exit@5": "stage dit.step: the worker ended with status 3 (it said: the card is on fire)", "kill@5": "stage dit.step: the worker was ended by signal 9",
    "raise@5": "stage dit.step: the worker says: ttnn refused: TT_FATAL: a planted exception", "hang@5": "stage dit.step: the worker has said nothing for 5 s",
    "exit@1": "stage clip: the worker ended with status 3", "exit@3": "stage t5: the worker ended with status 3", "nan@5": "stage dit.latent: NaN or infinity in what the cards gave",
}


class Test:
    def __init__(self, flux1, pipeline, room):
        self.flux1, self.room, self.tmp, self.request = flux1, room, os.path.join(room, "tmp"), REQUEST
        os.mkdir(self.tmp)
        self.env = dict(os.environ, TMPDIR=self.tmp, FLUX1_TTNN_PYTHON=sys.executable, PYTHONPATH=os.path.join(here, "stand_in"), PYTHONDONTWRITEBYTECODE="1")
        self.env.pop("TT_METAL_MOCK_CLUSTER_DESC_PATH", None)
        self.model = ["--model", pipeline]
        for part, option in (("transformer", "--transformer"), ("text_encoder_2", "--t5"), ("text_encoder", "--clip"), ("vae", "--vae")):
            path = os.path.join(room, part + ".safetensors")
            subprocess.run([flux1, "convert", os.path.join(pipeline, part), path, "--type", "bf16", "--quiet"], check=True, stdout=subprocess.DEVNULL)
            self.model += [option, path]

    def path(self, name):
        return os.path.join(self.room, name)

    def command(self, *more):
        return [self.flux1, "generate", *self.model, *self.request, *more]

    def run(self, *more, fails=False, command=None, **env):
        done = subprocess.run(command or self.command(*more), env=self.env | env, capture_output=True, text=True, timeout=120)
        if (done.returncode != 0) != fails:
            sys.exit(f"FAILED: status {done.returncode} of {more} {env}: {done.stderr}")
        self.nothing_left()
        return done

    def nothing_left(self):
        left = os.listdir(self.tmp)
        workers = [p for p in os.listdir("/proc") if p.isdigit() and self.tmp in command_line(p)]
        if left or workers:
            sys.exit(f"FAILED: left behind: {left} {workers}")


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def pixels(path):
    """Of a PNG of flux1: rows of 8-bit RGB."""
    with open(path, "rb") as f:
        data = f.read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        packed += body if kind == b"IDAT" else b""
        at += size + 12
    rows, above = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 3 * width + 1), [0] * (3 * width)
    out = []
    for line in rows:
        kind, *row = line.tolist()
        for i in range(3 * width) if kind else ():
            left, up, corner = row[i - 3] if i >= 3 else 0, above[i], above[i - 3] if i >= 3 else 0
            if kind == 4:
                a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
                guess = left if a <= b and a <= c else up if b <= c else corner
            else:
                guess = (0, left, up, (left + up) // 2)[kind]
            row[i] = (row[i] + guess) % 256
        above = row
        out.append(row)
    return np.array(out)


def close(what, a, b, most):
    worst = int(np.abs(pixels(a) - pixels(b)).max())
    print(f"{what}: at most {worst} of 255 apart")
    if worst > most:
        sys.exit(f"FAILED: {what} is {worst} of 255 off")


def pictures_are_the_same(t):
    for size, meshes in ((SMALL, ("1x1", "1x2", "2x1")), (LARGE, ("2x2sp1tp0",)), (UNEVEN, ("2x2",))):
        t.run(*size, "--dtype", "f32", "--dump", t.path("cpu.st"), "--output", t.path("cpu.png"))
        want = safetensors(t.path("cpu.st"))
        for mesh in meshes:
            t.run(*size, "--dtype", "f32", "--device", "ttnn:wh-t3k", "--mesh", mesh, "--dump", t.path("cards.st"), "--output", t.path("cards.png"))
            got = safetensors(t.path("cards.st"))
            for name in ("prompt_embeds", "pooled_prompt_embeds", "latents.1", "latents.3", "decoded"):
                error = relative(got[name], want[name])
                print(f"{mesh} {name}: {error:.1e}")
                if not error < SAME:
                    sys.exit(f"FAILED: {mesh} {name} is off by {error:.2e}")
            close(mesh, t.path("cpu.png"), t.path("cards.png"), 1)


def true_cfg_is_the_same(t):
    """Two passes a step, by calls and by a recorded step; behind it a picture of another negative prompt and scale, and one of none."""
    wanted, plain = {}, {"prompt": "a red fox", "seed": 5, "steps": 2, "width": 128, "height": 128, "max_sequence_length": 64}
    t.request = (*REQUEST[:4], "--steps", "2")
    for name, negative, scale in (("none", None, 1), ("hill", "a green hill", 3), ("lamp", "a lamp", 1.5)):
        options = ("--negative-prompt", negative, "--true-cfg-scale", str(scale)) if negative else ()
        t.run(*SMALL, "--dtype", "f32", *options, "--dump", t.path("cfg.st"), "--output", t.path(f"cfg-{name}.png"))
        wanted[name] = safetensors(t.path("cfg.st"))["latents.2"], options, {"negative_prompt": negative, "true_cfg_scale": scale} if negative else {}
    latents, options, _ = wanted["hill"]
    t.run(*SMALL, "--dtype", "f32", *options, "--device", "ttnn:wh-t3k", "--mesh", "2x1", "--dump", t.path("cfg.st"), "--output", t.path("cards.png"))
    near, far = relative(safetensors(t.path("cfg.st"))["latents.2"], latents), relative(wanted["lamp"][0], latents)
    print(f"true CFG: {near:.1e}, and {far:.1e} between negative prompts")
    assert near < SAME < 50 * SAME < far
    requests = ("hill", "lamp", "none")
    done = subprocess.run([t.flux1, "generate", *t.model, "--jsonl", "--device", "ttnn:wh-t3k", "--mesh", "1x2"], text=True, timeout=120, capture_output=True, env=t.env,
                          input="".join(json.dumps(plain | wanted[name][2] | {"output": t.path(f"own-{name}.png")}) + "\n" for name in requests))
    t.nothing_left()
    t.request = REQUEST
    assert done.returncode == 0 and done.stderr.count("no card has run this yet") == 1, done.stderr
    for name in requests:
        close(f"true CFG, {name}", t.path(f"own-{name}.png"), t.path(f"cfg-{name}.png"), 1)


def weights_are_bfp8(t):
    """An n300's matrices have the values of --round-weights bfp8; groups of 16 begin elsewhere where this small model's fused matrices do."""
    latents = {}
    for name, options in (("plain", ()), ("rounded", ("--round-weights", "bfp8")), ("cards", ("--device", "ttnn:wh-n300", "--mesh", "1x1"))):
        t.run(*SMALL, "--dtype", "f32", *options, "--dump", t.path("a.st"), "--output", t.path("a.png"))
        latents[name] = safetensors(t.path("a.st"))["latents.3"]
    far, near = relative(latents["cards"], latents["plain"]), relative(latents["cards"], latents["rounded"])
    print(f"bfp8: {far:.1e} from bf16, {near:.1e} from rounded weights")
    if not near < far / 8:
        sys.exit("FAILED: the cards' weights are not those of --round-weights bfp8")


def a_recording_runs(t):
    t.run(*SMALL, "--device", "ttnn:wh-t3k", "--mesh", "1x2", "--output", t.path("made.png"))
    plan = [t.flux1, "plan", *t.model[:2], "--machine", "wh-t3k", "--mesh", "1x2sp0tp1", *SMALL, "--steps", "3", "--record", t.path("rec")]
    subprocess.run(plan, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.run(command=[t.flux1, "run-plan", t.path("rec"), *t.model, *REQUEST[:4], "--device", "ttnn:wh-t3k", "--output", t.path("played.png")])
    close("run-plan", t.path("made.png"), t.path("played.png"), 0)
    with open(t.path("rec"), encoding="utf-8") as f:
        lines = f.read()
    with open(t.path("rec"), "w", encoding="utf-8") as f:
        f.write(lines.replace("euler x=", "euler x=a9999 v=a1 dsigma=a1\neuler x=", 1))
    done = t.run(command=[t.flux1, "run-plan", t.path("rec"), *t.model, *REQUEST[:4], "--device", "ttnn:wh-t3k", "--output", t.path("b.png")], fails=True)
    assert "a9999" in done.stderr and "line " in done.stderr, done.stderr
    head, rest = lines.split("stage t5\n")
    with open(t.path("rec"), "w", encoding="utf-8") as f:
        f.write(head + "stage t5\n" + rest[rest.index("stage dit.open\n"):])
    done = t.run(command=[t.flux1, "run-plan", t.path("rec"), *t.model, *REQUEST[:4], "--device", "ttnn:wh-t3k", "--output", t.path("b.png")], fails=True)
    assert "stage t5 has no calls" in done.stderr, done.stderr


def what_is_refused_ends_no_worker(t):
    """A prompt that the devices do not share evenly is refused by the worker, which then makes the next picture."""
    lines = [{"prompt": "a red fox", "seed": 5, "steps": 1, "output": t.path(f"refused-{i}.png"), "width": 128, "height": 128, "max_sequence_length": n}
             for i, n in enumerate((64, 33, 64))]
    done = subprocess.run([t.flux1, "generate", *t.model, "--jsonl", "--device", "ttnn:wh-t3k", "--mesh", "2x1"], text=True, timeout=120, env=t.env,
                          input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True)
    t.nothing_left()
    assert done.returncode != 0 and done.stderr.count("no card has run this yet") == 1 and "the worker says: " in done.stderr + done.stdout, (done.stderr, done.stdout)
    assert "choose a prompt length that 2 devices share evenly (--max-sequence-length)" in done.stderr + done.stdout, (done.stderr, done.stdout)
    assert [os.path.exists(t.path(f"refused-{i}.png")) for i in range(3)] == [True, False, True]


def seconds_are_the_stages_own(t):
    """The library is slow in T5's attention and behind it: two calls of half a second there, two a step that is not played, and one in the VAE."""
    done = t.run(*SMALL, "--device", "ttnn:wh-t3k", "--mesh", "1x1", "--json", "--output", t.path("slow.png"), FLUX1_STAND_IN="slow@3")
    seconds = json.loads(done.stdout)["seconds"]
    assert seconds["text"] > 1 and seconds["denoise"] > 1 and seconds["decode"] > 0.5, seconds


def a_value_is_no_row(t):
    """A trial's input of one number, which the worker asks for as it asks for rows: euler's one step of 0.5."""
    sys.path.append(os.path.join(here, "../../tools/ttnn"))
    from flux1_ttnn_cases import Case
    case = Case("euler of one step", "rounded")
    x, v, dsigma = case.given("residual", 64, image=32, name="noise"), case.given("residual", 64, image=32), case.act("table", 1, image=1)
    case.fill(dsigma, 1, 1, "dsigma")
    case.do(f"euler x={x} v={v} dsigma={dsigma}")
    case.result(x, 32, 64)
    case.values["dsigma"] = "F32", (1, 1), np.float32([0.5]).tobytes()
    with open(t.path("euler.rec"), "w") as f:
        f.write(case.recording().replace("steps=3", "steps=1").replace("sigmas 1 1 1 0", "sigmas 1 0"))
    with open(t.path("euler.values"), "wb") as f:
        f.write(case.file())
    after = []
    for device in (("ref",), ("ttnn:wh-t3k", "--mesh", "1x1")):
        line = json.dumps({"recording": t.path("euler.rec"), "values": t.path("euler.values"), "out": t.path("euler.out")})
        done = subprocess.run([t.flux1, "trial", "--device", *device], env=t.env, input=line, text=True, capture_output=True)
        assert done.returncode == 0, (done.stdout, done.stderr)
        after.append(safetensors(t.path("euler.out"))["after.1"])
    assert relative(after[1], after[0]) < 1e-6


def the_host_need_not_hold_it(t):
    """This machine's memory bounds no stage that the cards make, the encoders and the VAE among them."""
    options = (*LARGE, "--dtype", "f32", "--max-memory", "16M", "--output", t.path("small.png"))
    assert "more than the 16.0 MiB" in t.run(*options, "--device", "cpu", fails=True).stderr
    t.run(*options, "--device", "ttnn:wh-t3k", "--mesh", "1x1")


def one_worker_makes_them_all(t):
    """Requests of two prompts and two sizes: one worker, weights go to the cards once, a size's step is recorded once and played from then on; pictures are those of
    steps that are made call by call."""
    def run(name, *options):
        lines = [{"prompt": prompt, "seed": 5, "steps": 4, "output": t.path(f"{name}-{i}.png"), "width": width, "height": 128, "max_sequence_length": 64}
                 for i, (prompt, width) in enumerate((("a red fox", 128), ("two ducks", 128), ("a red fox", 256), ("a red fox", 128)))]
        done = subprocess.run([t.flux1, "generate", *t.model, "--jsonl", "--verbose", "--device", "ttnn:wh-t3k", "--mesh", "1x2", *options], text=True, timeout=120,
                              env=t.env | {"FLUX1_STAND_IN_TRACES": t.path(name)}, input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True)
        assert done.returncode == 0, done.stderr
        t.nothing_left()
        return done.stderr
    said = run("traced")
    assert said.count("no card has run this yet") == 1, said
    assert said.count("of weights for dit.open") == 1 and said.count("of weights for t5") == 1, said
    with open(t.path("traced"), encoding="utf-8") as f:
        # what is recorded goes when weights come (the VAE's first ones, and its filters for another size of planes) and when the size changes
        assert f.read().split() == 4 * (["taken"] + 3 * ["played"] + ["dropped"])
    run("called", "--capture", "no")
    assert not os.path.exists(t.path("called"))
    for i in range(4):
        close(f"request {i}", t.path(f"traced-{i}.png"), t.path(f"called-{i}.png"), 0)


def previews_are_expected_pictures(t):
    for device in ("cpu", "ttnn:wh-t3k"):
        command = [t.flux1, "generate", *t.model, *REQUEST[:4], *SMALL, "--steps", "4", "--dtype", "f32", "--device", device, "--preview", t.path(device[:3] + ".png"),
                   "--preview-every", "3", "--output", t.path("a.png")] + ([] if device == "cpu" else ["--mesh", "1x1"])
        t.run(command=command)
    close("preview", t.path("cpu.png"), t.path("ttn.png"), 2)


def deaths_are_sentences(t):
    for what, sentence in DEATHS.items():
        output = t.path("dead.png")
        began = time.monotonic()
        done = t.run(*SMALL, "--device", "ttnn:wh-n300", "--output", output, fails=True, FLUX1_STAND_IN=what, FLUX1_TTNN_TIMEOUT="5" if "hang" in what else "60")
        assert sentence in done.stderr and not os.path.exists(output), (what, done.stderr)
        assert time.monotonic() - began < 100, what


def lies_are_sentences(t):
    liar = t.path("liar")
    with open(liar, "w", encoding="utf-8") as f:
        f.write(LIAR % sys.executable)
    os.chmod(liar, 0o755)
    for lies, sentence in LIES:
        done = t.run(*SMALL, "--device", "ttnn:wh-n300", "--output", t.path("lie.png"), fails=True, FLUX1_TTNN_PYTHON=liar, FLUX1_LIES=repr(lies), FLUX1_TTNN_TIMEOUT="2" if b"" in lies else "60")
        assert sentence in done.stderr and "device ttnn" in done.stderr, (lies, done.stderr)


def begin(t, what):
    """flux1 with a worker that hangs or is slow, once it is."""
    child = subprocess.Popen(t.command(*SMALL, "--device", "ttnn:wh-n300", "--output", t.path("x.png")), env=t.env | {"FLUX1_STAND_IN": what}, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not any(t.tmp in command_line(p) for p in os.listdir("/proc") if p.isdigit()):
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1.5)
    return child


def a_step_is_the_last_one(t):
    """Cancelled in the midst of a step: flux1 waits for its end, and the worker goes with it."""
    child = begin(t, "slow@2")
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    assert b"interrupted" in child.stderr.read()
    t.nothing_left()
    assert not os.path.exists(t.path("x.png"))


def the_worker_ends_with_flux1(t):
    child = begin(t, "hang@3")
    child.kill()
    child.wait()
    until = time.monotonic() + 60  # of a busy machine
    while any(t.tmp in command_line(p) for p in os.listdir("/proc") if p.isdigit()):
        assert time.monotonic() < until, "a worker outlives flux1"
        time.sleep(0.05)
    subprocess.run(["rm", "-rf", t.tmp], check=True)  # its folder: nobody is there to remove it
    os.mkdir(t.tmp)


def an_interrupt_ends_it(t):
    child = begin(t, "hang@3")
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGINT)
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    until = time.monotonic() + 60  # of a busy machine
    while any(t.tmp in command_line(p) for p in os.listdir("/proc") if p.isdigit()):
        assert time.monotonic() < until, "a worker outlives flux1"
        time.sleep(0.05)


def main():
    with tempfile.TemporaryDirectory() as room:
        t = Test(sys.argv[1], os.path.abspath(sys.argv[2]), room)
        for test in (pictures_are_the_same, true_cfg_is_the_same, weights_are_bfp8, a_recording_runs, what_is_refused_ends_no_worker, seconds_are_the_stages_own, a_value_is_no_row, the_host_need_not_hold_it, one_worker_makes_them_all, previews_are_expected_pictures, deaths_are_sentences,
                     lies_are_sentences, a_step_is_the_last_one, the_worker_ends_with_flux1, an_interrupt_ends_it):
            began = time.monotonic()
            test(t)
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
