"""Times flux1 and one peer after another on the same work, interleaved, and prints medians and ratios.

usage: drive.py --flux1 PROGRAM --model DIR [--plan STAGES] [--repeats N] [--out FILE.jsonl] PEER...
STAGES: items of "dit:SIZE:TEXT", "vae:SIZE", "t5:TEXT", "clip:TOKENS", split by commas. A PEER is a command that
speaks serve.py's protocol; {model} in it is --model. CLIP's peers always compute 77 tokens, as their pipelines do; flux1
leaves out what stands behind a prompt of TOKENS: clip:77 is the same work, clip:17 what a typical prompt takes.

Each repeat of each item runs flux1 once (its own process: bench, the median of 3 in it) and the peer once; the peer
waits for its next request, asleep, while flux1 runs. A step of flux1 is the step plus a quarter of the opening
(schnell's 4 steps share it), since peers compute modulations and text projection in every step; the opening is timed
cold. Ratios are peer / flux1: above 1 flux1 is faster.
--threads 1 --clock cpu counts processor time: what is left of a comparison on a busy machine.

What a peer cannot do is told, and the rest goes on. Exit status: 1 if a peer gave no figure at all, 130 if interrupted;
each finished run is in FILE.jsonl."""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = {"transformer": "transformer", "clip": "text_encoder", "t5": "text_encoder_2", "vae": "vae"}
ROW = {"dit": "dit step", "vae": "vae decode", "t5": "t5", "clip": "clip"}


def flux1_command(o, stage, size, text):
    command = [o.flux1, "bench", "--stage", stage, "--repeats", "3", "--threads", str(o.threads),
               "--json", "-q", "-s", "4"]
    for part, folder in PARTS.items():  # not the folder as a whole: it has no tokenizers
        command += [f"--{part}", f"{o.model}/{folder}"]
    command += ["-W", str(size), "-H", str(size)] if size else []
    command += ["--clip-tokens" if stage == "clip" else "--max-sequence-length", str(text)] if text else []
    return command + shlex.split(o.flux1_options)


def flux1_once(o, stage, size, text):
    """Seconds, share of the peak, seconds of the opening, the report."""
    done = subprocess.run(flux1_command(o, stage, size, text), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"flux1 bench: {done.stderr.strip()}")
    try:
        report = json.loads(done.stdout)
        rows = {r["stage"]: r for r in report["stages"]}
    except (ValueError, TypeError, KeyError):
        raise SystemExit(f"--flux1 {o.flux1}: it answers bench with something else than flux1's report")
    key = "processor_seconds" if o.clock == "cpu" else "seconds"
    each = o.threads if o.clock == "cpu" else 1
    row = rows[ROW[stage]]
    seconds = row[key] / each
    share = row["processor_share_of_peak" if o.clock == "cpu" else "share_of_peak"]
    opening = rows["dit opening"][key] / each if stage == "dit" else None
    return seconds + (opening / 4 if opening else 0), share, opening, report


class Peer:
    """A program at the other end of serve.py's protocol. It may be missing, end or answer with nonsense: `about` and
    answers then have "error"."""

    def __init__(self, o, number, command):
        env = dict(os.environ, PEER_THREADS=str(o.threads), OMP_NUM_THREADS=str(o.threads))
        os.makedirs(o.logs, exist_ok=True)
        self.log = open(f"{o.logs}/{time.strftime('%Y%m%d-%H%M%S')}-{number}.log", "w")
        try:
            self.p = subprocess.Popen(shlex.split(command.replace("{model}", shlex.quote(o.model))), text=True,
                                      bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                      cwd=HERE, env=env)
            self.about = self.read()
        except OSError as e:
            self.p, self.about = None, {"error": f"the peer does not start: {e.filename}: {e.strerror}"}

    def runs(self):
        return self.p is not None and self.p.poll() is None

    def last_words(self):
        with open(self.log.name, errors="replace") as f:
            lines = f.read().split("\n")
        return next((f": {x.strip()}" for x in reversed(lines) if x.strip()), "")

    def read(self):
        line = self.p.stdout.readline()
        if not line:
            code = self.p.wait()
            return {"error": f"the peer ended ({code}){self.last_words()}; see {self.log.name}"}
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError):
            self.p.kill()  # nobody knows to what its next line answers
            self.p.wait()
            return {"error": f"the peer printed {line[:60]!r} where a line of JSON belongs"}

    def ask(self, **what):
        try:
            print(json.dumps(what), file=self.p.stdin)
        except BrokenPipeError:
            pass
        return self.read()

    def seconds(self, **what):
        """Of a timed run."""
        answer = self.ask(**what)
        good = isinstance(answer.get("seconds"), (int, float)) and answer["seconds"] >= 0
        return answer if good or "error" in answer else {"error": f"the peer answered without seconds: {answer}"}

    def end(self, patience):
        try:
            if self.p is not None:
                self.p.stdin.close()
                self.p.wait(patience)
        except (OSError, subprocess.TimeoutExpired):
            self.p.kill()
            self.p.wait()
        self.log.close()


def item_of(text):
    """(stage, size, tokens), 0 for what the stage has not."""
    f = text.split(":")
    want = {"dit": 3, "vae": 2, "t5": 2, "clip": 2}.get(f[0])
    if want != len(f) or not all(x.isdecimal() and int(x) for x in f[1:]):
        raise SystemExit(f'--plan: "{text}" should be dit:SIZE:TEXT, vae:SIZE, t5:TEXT or clip:TOKENS')
    n = [int(x) for x in f[1:]]
    return {"dit": lambda: ("dit", *n), "vae": lambda: ("vae", n[0], 0), "t5": lambda: ("t5", 0, n[0]),
            "clip": lambda: ("clip", 0, n[0])}[f[0]]()


def kernels(report, stage, clock, most=6):
    """The rows of the report where most of the time goes."""
    rows = [k for k in report.get("kernels", []) if k["stage"] == ROW[stage]][:most]
    share = "processor_share_of_peak" if clock == "cpu" else "share_of_peak"
    return [f"{k['kernel']} {k['shape']}: {k['share_of_stage']:.0%}"
            + (f" at {k[share]:.0%} of the peak" if k[share] else "") for k in rows]


class Run:
    """Items of one peer, beside flux1."""

    def __init__(self, o, out, number, command):
        self.o, self.out, self.peer, self.rows = o, out, Peer(o, number, command), 0
        about = self.peer.about
        self.name = about.get("peer", command)
        self.keep(about=about)
        print(f"# {self.name}: {about.get('error') or about.get('versions', about)}", flush=True)

    def keep(self, **row):
        print(json.dumps({"time": time.strftime("%FT%T"), "load": os.getloadavg()[0], "peer": self.name, **row}),
              file=self.out, flush=True)

    def fail(self, label, answer):
        self.keep(stage=label, **answer)
        print(f"{self.name:32s} {label:12s} {' '.join(answer['error'].split())}", flush=True)

    def item(self, stage, size, text):
        label = ":".join(str(x) for x in (stage, size, text) if x)
        what = dict(stage=stage, size=size, text=text)
        answer = self.peer.ask(**what)
        if "error" in answer:
            return self.fail(label, answer)
        ours, theirs, share = [], [], []
        for _ in range(self.o.repeats):
            seconds, of_peak, opening, report = flux1_once(self.o, stage, size, text)
            answer = self.peer.seconds(**what, clock=self.o.clock)
            if "error" in answer:
                return self.fail(label, answer)
            ours.append(seconds)
            share.append(of_peak)
            theirs.append(answer["seconds"])
            self.keep(stage=label, flux1=seconds, flux1_opening=opening, flux1_share_of_peak=of_peak,
                      seconds=answer["seconds"], dtype=report["dtype"])
        self.rows += 1
        self.tell(label, theirs, ours, share)
        if self.o.kernels:
            print("    " + "\n    ".join(kernels(report, stage, self.o.clock)), flush=True)

    def tell(self, label, theirs, ours, share):
        ratios = sorted(x / y for x, y in zip(theirs, ours))
        print(f"{self.name:32s} {label:12s} {statistics.median(theirs):8.3f} {statistics.median(ours):8.3f} "
              f"{statistics.median(ratios):6.2f} {ratios[0]:6.2f}..{ratios[-1]:5.2f} {statistics.median(share):7.0%} "
              f"{os.getloadavg()[0]:6.1f}", flush=True)


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'"{text}" should be a whole number above 0')
    return int(text)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--flux1", required=True)
    p.add_argument("--flux1-options", default="", help='further options of flux1 bench: "--dtype bf16"')
    p.add_argument("--model", required=True, help="a folder of make_model.py")
    p.add_argument("--plan", default="dit:256:256,dit:512:256,vae:512,t5:256,clip:77,clip:17")
    p.add_argument("--repeats", type=positive, default=3)
    p.add_argument("--threads", type=positive, default=2)
    p.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    p.add_argument("--kernels", action="store_true", help="where flux1's time goes, below each row")
    p.add_argument("--out", default="runs.jsonl", help="every run, a line of JSON")
    p.add_argument("--logs", default="logs", help="folder for what the peers print")
    p.add_argument("peers", nargs="+")
    o = p.parse_args()
    o.flux1, o.model, o.logs = (os.path.abspath(x) for x in (o.flux1, o.model, o.logs))
    if not os.path.isfile(o.flux1) or not os.access(o.flux1, os.X_OK):
        p.error(f"--flux1 {o.flux1}: there is no such program")
    for folder in PARTS.values():
        if not os.path.isdir(f"{o.model}/{folder}"):
            p.error(f"--model {o.model}: it has no folder {folder}; make_model.py makes such a model")
    for command in o.peers:
        try:
            shlex.split(command)
        except ValueError as e:
            p.error(f"{command}: not a command: {e}")
    return o


def run_peer(o, out, number, command, items):
    """How many figures it gave."""
    run, patience = Run(o, out, number, command), 0
    try:
        for item in items:
            if run.peer.runs():
                run.item(*item)
        patience = 30
    finally:
        run.peer.end(patience)
    return run.rows


def main():
    o = arguments()
    items = [item_of(x) for x in o.plan.split(",")]
    print(f"{'peer':32s} {'stage':12s} {'peer s':>8s} {'flux1 s':>8s} {'ratio':>6s} {'of runs':>13s} {'of peak':>7s} "
          f"{'load':>6s}", flush=True)
    with open(o.out, "a") as out:
        rows = [run_peer(o, out, i, command, items) for i, command in enumerate(o.peers, 1)]
    return 0 if all(rows) else 1


try:
    sys.exit(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
