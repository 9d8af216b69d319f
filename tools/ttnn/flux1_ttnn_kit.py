"""flux1_ttnn.py kit: what people with Tenstorrent's cards run to learn, and to tell, whether the cards compute what flux1
computes. Standard library only; flux1 does everything, in processes of its own, each of which may hang or die.

Operations, exchanges and blocks are small recordings (flux1_ttnn_cases.py) that `flux1 trial` makes on ops/ref and on the
cards, without and with a trace; then come pictures. The report, as text and as JSON, is written after each of them.
"""
import array
import collections
import contextlib
import json
import math
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import flux1_ttnn_cases as cases

TIMES = 9  # of each operation, timed
GENTLE = 120  # seconds in which the library closes the cards
LOST_MOST = 3  # processes of a row that hang or die before the rest is left out
PROMPT, SEED = "a red fox beside a blue house", 5
MINI = ("--mesh", "1x1", "--max-sequence-length", "64")  # of flux1's own mini model: three heads, and rows of the prompt that fill tiles
VERDICTS = ("failed", "off", "ok", "made", "left out", "not made")  # the worst first
OWN = "flux1's own model"
HANGS = "has said nothing for"  # flux1 of its worker
MOCK = "mock mode: numbers mean nothing"


class Trouble(Exception):
    """One sentence: why a part has no result."""


# ---- values --------------------------------------------------------------------------------------------------------------


def tensors(path):
    """The float32 tensors of a safetensors file, as flat arrays."""
    out = {}
    with open(path, "rb") as f:
        about = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        begin = f.tell()
        for name, t in about.items():
            if name != "__metadata__" and t["dtype"] == "F32":
                f.seek(begin + t["data_offsets"][0])
                out[name] = array.array("f", f.read(t["data_offsets"][1] - t["data_offsets"][0]))
    return out


def relative(got, truth):
    """Relative L2."""
    if len(got) != len(truth):
        raise Trouble(f"{len(got)} values where {len(truth)} are wanted")
    return math.dist(got, truth) / (math.dist(truth, array.array("f", bytes(4 * len(truth)))) or 1)


def compared(path, truth):
    """Errors of a file's tensors, in the truth's order."""
    got = tensors(path)
    return {key: relative(got[key], truth[key]) for key in truth if key in got and key not in ("sigmas", "noise")}


def without_serials(devices):
    """Boards may be told, but not which of them."""
    for card in devices.get("Tenstorrent cards", []):
        card.pop("serial", None)
    return devices


def name_of(model):
    """Of a model in a folder the folder's own name; of another what flux1 calls it."""
    return os.path.basename(os.path.abspath(model)) if os.path.exists(model) else model


def without_folders(option):
    """--lora=/data/secret/l.safetensors as --lora=l.safetensors."""
    return re.sub(r"^([^=]*=)?.*/", r"\1", option, flags=re.DOTALL)


# ---- processes -----------------------------------------------------------------------------------------------------------


def started(command, **more):
    """In a group of its own, which ends as a whole."""
    try:
        return subprocess.Popen(command, start_new_session=True, **more)
    except OSError as e:
        raise Trouble(f"flux1 does not start: {e.strerror} (--flux1)") from None


def ended(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def told(process, log):
    """Why a process has ended, from what it said last."""
    log.seek(0)
    said = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip() and "warning: " not in line]
    status = process.wait()
    why = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return said[-1].removeprefix("flux1: ") if said and status > 0 else f"flux1 was {why}" if status < 0 else f"flux1 {why}"


class Trials:
    """A `flux1 trial` that is asked line by line."""

    def __init__(self, command, environment):
        self.log, self.rest = tempfile.TemporaryFile(), b""
        self.process = started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment)

    def ask(self, question, limit):
        until = time.monotonic() + limit
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise Trouble(told(self.process, self.log)) from None
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                ended(self.process)
                raise Trouble(f"nothing came of it within {limit} s (--limit)")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                raise Trouble(told(self.process, self.log))
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def library(self):
        """The version of ttnn, as flux1 has told it; None: it has not."""
        self.log.seek(0)
        found = re.search(r" with ttnn ([^;\n]+);", self.log.read().decode("utf-8", "replace"))
        return found and found[1]

    def close(self, gently=False):
        """gently: flux1 ends by itself, and closes the cards."""
        if gently:
            try:
                self.process.stdin.close()
                self.process.wait(GENTLE)
            except (OSError, subprocess.TimeoutExpired):
                pass
        ended(self.process)
        for f in (self.process.stdin, self.process.stdout, self.log):
            try:
                f.close()
            except OSError:
                pass


# ---- the kit ---------------------------------------------------------------------------------------------------------------


class Kit:
    def __init__(self, options, mock):
        self.o, self.mock, self.folder = options, mock, os.path.abspath(options.recording)
        self.flux1 = os.path.abspath(options.flux1) if os.sep in options.flux1 else options.flux1
        self.report = {}

    def output(self, *arguments):
        """What a short run of flux1 prints."""
        try:
            done = subprocess.run([self.flux1, *arguments], capture_output=True, text=True, timeout=600)
        except OSError as e:
            raise Trouble(f"{self.o.flux1} does not start: {e.strerror}; --flux1 names the program") from None
        except subprocess.TimeoutExpired:
            return f"flux1 {arguments[0]} does not end"
        return (done.stdout if done.returncode == 0 else done.stderr).strip()

    def make_folder(self):
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as e:
            raise Trouble(f"{self.folder} cannot be made: {e.strerror}; name another folder") from None

    def begin(self):
        devices = self.output("info", "--devices", "--json")
        self.report = {
            "flux1": self.output("version"), "ttnn": None, "device": self.o.device, "python of the kit": sys.version.split()[0], "when": time.strftime("%Y-%m-%d %H:%M"),
            "command": shlex.join(["flux1_ttnn.py", "kit", *self.given()]), "state": "begun", "mock": self.mock, "steps of each operation": cases.STEPS,
            "timed calls": TIMES, "seeds": "of an operation's values: crc32 of its name and the value's; of pictures: %d" % SEED, "prompt": PROMPT,
            "bounds": {name: {"relative L2": bound, "because": why} for name, (bound, why) in cases.BOUNDS.items()},
            "devices": without_serials(json.loads(devices)) if devices.startswith("{") else devices, "operations": [], "models": []}
        shape = re.match(r"ttnn:(.+)", self.o.device)
        machine = self.output("plan", "--machine", shape[1], "--variant", "dev", "--describe") if shape else ""
        self.room = json.loads(machine)["mesh"] if machine.startswith("{") else None

    def given(self):
        o = self.o
        more = [("--device", o.device)] + [("--model", name_of(m)) for m in o.model] + ([("--only", o.only)] if o.only else [])
        return [self.place("report"), *(word for pair in more for word in pair), *(f"--with-option={without_folders(w)}" for w in o.with_option),
                *(["--weights", o.weights] if o.weights != "bfloat16" else [])]

    def place(self, name):
        return name

    def wanted(self, name):
        return re.search(self.o.only or "", name)

    # -- operations --

    def chosen(self):
        return [(kind, case) for kind, make in cases.KINDS.items() for case in make() if self.wanted(f"{kind} {case.name}")]

    def operations(self):
        chosen = self.chosen()
        for mesh in dict.fromkeys(case.mesh for _, case in chosen):
            rows = [(self.entry(kind, case), case) for kind, case in chosen if case.mesh == mesh]
            with tempfile.TemporaryDirectory(prefix="flux1-kit-") as room:
                self.on_mesh(mesh, rows, room)

    def entry(self, kind, case):
        bound, why = cases.BOUNDS[case.bound]
        row = {"kind": kind, "name": case.name, "mesh": case.mesh, "bound": bound, "because": case.bound}
        self.report["operations"].append(row)
        return row

    def on_mesh(self, mesh, rows, room):
        shape = [int(n) for n in mesh[:3].split("x")]
        if self.room and any(wanted > there for wanted, there in zip(shape, self.room)):
            for row, _ in rows:
                row["left out"] = "the machine has %dx%d devices" % tuple(self.room)
            return self.write()
        for number, (_, case) in enumerate(rows):
            with open(os.path.join(room, f"{number}.rec"), "w", encoding="utf-8") as f:
                f.write(case.recording())
            with open(os.path.join(room, f"{number}.values"), "wb") as f:
                f.write(case.file())
        truths = {} if self.mock else self.truths(mesh, rows, room)
        for capture in ("no",) if self.mock else ("no", "yes"):
            command = [self.flux1, "trial", "--device", self.o.device, "--mesh", mesh, "--capture", capture, *self.rounded()]
            with contextlib.closing(self.answers(command, room, "cards", len(rows), TIMES)) as answers:
                for number, answer in answers:
                    rows[number][0]["trace " + capture] = self.judged(rows[number][0]["bound"], answer, truths.get(number), os.path.join(room, f"{number}.cards"))
                    self.write()

    def rounded(self):
        return ["--round-weights", "bfp8"] if self.o.weights == "bfloat8_b" else []

    def truths(self, mesh, rows, room):
        """What ops/ref gives; the sentence where it gives nothing."""
        out = {}
        with contextlib.closing(self.answers([self.flux1, "trial", "--device", "ref", "--mesh", mesh], room, "truth", len(rows), 0)) as answers:
            for number, answer in answers:
                out[number] = answer.get("message") or tensors(os.path.join(room, f"{number}.truth"))
        return out

    def answers(self, command, room, name, count, times):
        """(number, answer) of each recording; a process that is lost is started again for the next, a few times, and so does
        flux1 with a worker that hangs."""
        trials, lost = None, 0
        environment = {**os.environ, "TMPDIR": room, "FLUX1_TTNN_TIMEOUT": os.environ.get("FLUX1_TTNN_TIMEOUT", str(min(600, self.o.limit)))}
        try:
            for number in range(count):
                path = lambda ending: os.path.join(room, f"{number}.{ending}")
                if lost == LOST_MOST:
                    yield number, {"message": f"left out: {LOST_MOST} before it were lost one behind the other"}
                    continue
                try:
                    trials = trials or Trials(command, environment)
                    answer = trials.ask({"recording": path("rec"), "values": path("values"), "out": path(name), "times": times}, self.o.limit)
                    lost = lost + 1 if HANGS in (answer.get("message") or "") else 0
                    self.report["ttnn"] = trials.library() or self.report["ttnn"]
                except Trouble as e:
                    if trials:
                        trials.close()
                    trials, lost, answer = None, lost + 1, {"message": str(e)}
                yield number, answer
        finally:
            if trials:
                trials.close(gently=sys.exc_info()[0] is None)

    def judged(self, bound, answer, truth, path):
        if answer.get("message"):
            return {"verdict": "failed", "failed": answer["message"]}
        if self.mock:
            return {"verdict": "made", "note": MOCK}
        out = {"seconds": answer["seconds"]} if answer["seconds"] else {}
        if not isinstance(truth, dict):
            return out | {"verdict": "failed", "failed": f"ops/ref: {truth}"}
        out["errors"] = compared(path, truth)
        good = out["errors"].keys() == truth.keys() and all(e <= bound for e in out["errors"].values())
        return out | {"verdict": "ok" if good else "off"}

    # -- pictures --

    def generated(self, path, name, *more):
        """One run of flux1: its report, or the sentence with which it failed."""
        place, profile = os.path.join(self.folder, name), os.path.join(self.folder, name + ".profile")
        of = ["--model", path, *self.o.with_option] if path else MINI
        command = [self.flux1, "generate", *of, "--prompt", PROMPT, "--seed", str(SEED), "--json", "--quiet", "--output", place + ".png",
                   "--dump", place + ".safetensors", *more, *self.rounded()]
        with tempfile.TemporaryFile() as log:
            try:
                process = started(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "FLUX1_TTNN_PROFILE": profile})
            except Trouble as e:
                return {"failed": str(e)}
            try:
                said, _ = process.communicate(timeout=self.o.limit)
                out = json.loads(said) if process.returncode == 0 else {"failed": told(process, log)}
            except subprocess.TimeoutExpired:
                out = {"failed": f"nothing came of it within {self.o.limit} s (--limit)"}
            finally:
                ended(process)
        if os.path.exists(profile):
            with open(profile, encoding="utf-8") as f:
                told_ = json.load(f)
            out["cards"], self.report["ttnn"] = told_["stages"], told_["ttnn"]
            os.unlink(profile)
        return out

    def model(self, path, number):
        """path None: the model that flux1 takes where none is named."""
        name = lambda what: f"{number}-{what}"
        entry = {"model": name_of(path) if path else OWN, "runs": {}}
        self.report["models"].append(entry)
        truth = None
        if not self.mock:
            entry["runs"]["cpu"] = cpu = self.generated(path, name("cpu"), "--dtype", "f32")
            self.write()
            if "failed" not in cpu:
                truth = tensors(os.path.join(self.folder, name("cpu") + ".safetensors"))
        for capture in ("no",) if self.mock else ("no", "yes"):
            here = name("trace-" + capture)
            run = self.generated(path, here, "--dtype", "f32", "--device", self.o.device, "--capture", capture)
            if self.mock and "failed" not in run:
                run = {"note": MOCK}
            elif truth and "failed" not in run:
                run["errors"] = compared(os.path.join(self.folder, here + ".safetensors"), truth)
            entry["runs"]["trace " + capture] = run
            self.write()

    # -- the report --

    def failed(self):
        runs = [run for row in self.report["operations"] for run in (row.get("trace no"), row.get("trace yes")) if run]
        return any(run["verdict"] in ("off", "failed") for run in runs) or any("failed" in run for m in self.report["models"] for run in m["runs"].values())

    def public(self, text):
        """Without the paths of this machine, also those that are told as they were given."""
        given = [m for m in self.o.model if os.path.exists(m)] + [w.partition("=")[2] or w for w in self.o.with_option]
        folders = {os.path.dirname(path.rstrip("/")) for path in given} - {""}
        known = {os.path.abspath(folder) for folder in folders} | {self.folder, os.path.dirname(self.folder), os.getcwd(), tempfile.gettempdir()}
        if os.sep in self.flux1:
            known.add(os.path.dirname(self.flux1))
        for path in sorted(known - {"/"}, key=len, reverse=True):
            text = text.replace(path, "…")
        for folder in sorted(folders, key=len, reverse=True):
            text = re.sub(r"(?<![\w./-])" + re.escape(folder) + "/", "…/", text)
        text = text.replace(os.path.expanduser("~"), "~") if os.path.expanduser("~") != "/" else text
        return re.sub(r"/(home|Users)/[^/\s\"]+", "~", text)

    def write(self):
        """As text, which is returned, and as JSON; what there is so far."""
        content = json.loads(self.public(json.dumps(self.report, ensure_ascii=False)))
        text = as_text(content)
        for name, what in (("report.json", json.dumps(content, indent=1, ensure_ascii=False)), ("report.txt", text)):
            path = os.path.join(self.folder, name)
            with open(path + ".part", "w", encoding="utf-8") as f:
                f.write(what)
            os.replace(path + ".part", path)
        return text


# ---- as text -----------------------------------------------------------------------------------------------------------------


def made(run):
    """One half of a line: an operation without a trace, or with one."""
    if run is None:
        return "not made"
    if "failed" in run:
        return "failed: " + run["failed"]
    worst = f"{max(run['errors'].values()):.1e}" if run.get("errors") else run.get("note", "")
    return worst + (f", {1e3 * run['seconds']:.3f} ms" if "seconds" in run else "")


def operation_lines(rows):
    kind = None
    for row in rows:
        if (row["kind"], row["mesh"]) != kind:
            kind = row["kind"], row["mesh"]
            yield from ("", f"{row['kind']} on {row['mesh'][:3]} (sp on axis {row['mesh'][5]}, tp on axis {row['mesh'][8]})")
        runs = [row[key] for key in ("trace no", "trace yes") if key in row]
        verdicts = {run["verdict"] for run in runs} or {"left out" if "left out" in row else "not made"}
        verdict = next(v for v in VERDICTS if v in verdicts)
        told_ = row.get("left out") or f"{made(row.get('trace no'))}" + (f"; traced {made(row['trace yes'])}" if "trace yes" in row else "")
        yield f"  {verdict.upper() if verdict in ('off', 'failed') else verdict:8} {row['name']:46} bound {row['bound']:.0e} ({row['because']}): {told_}"


def stage_lines(stages):
    """Of a picture on the cards: each time that a stage was made, and the calls of the step whose calls were timed."""
    for name, runs in stages.items():
        yield f"    {name}: " + ", ".join(f"{run['seconds']:.4f}" + (" (call by call)" if "calls" in run else "") for run in runs) + " s"
        for run in runs:
            calls = sorted(run.get("calls", {}).items(), key=lambda item: -item[1][1])
            if calls:
                yield "      " + ", ".join(f"{call} {count} in {1e3 * seconds:.2f} ms" for call, (count, seconds) in calls)


def model_lines(model):
    yield from ("", f"picture of {model['model']}")
    for name, run in model["runs"].items():
        if "failed" in run:
            yield f"  {name}: failed: {run['failed']}"
        else:
            yield f"  {name}: " + (run.get("note") or ", ".join(f"{k} {v:.3f} s" for k, v in run["seconds"].items()))
        yield from (f"    {k}: relative L2 {v:.2e}" for k, v in run.get("errors", {}).items())
        yield from (f"    warning: {w}" for w in run.get("warnings", []))
        yield from stage_lines(run.get("cards", {}))


def device_lines(devices):
    """Boards, firmware, driver, library: whatever flux1 knows of Tenstorrent."""
    if isinstance(devices, str):
        return [devices]
    return [f"{key}: " + json.dumps(value, ensure_ascii=False) for key, value in devices.items() if key != "devices"]


def as_text(report):
    lines = [f"{report['flux1']}, ttnn {report['ttnn'] or 'not started'}, device {report['device']}, Python of the kit {report['python of the kit']}, {report['when']}", f"command: {report['command']}",
             f"seeds: {report['seeds']}; prompt of pictures: {report['prompt']}", *device_lines(report["devices"]), f"state: {report['state']}"]
    if report["mock"]:
        lines.append(MOCK + "; nothing is compared, and no times are told")
    lines += ["", f"An operation's error is the largest of {report['steps of each operation']} calls, relative L2 against ops/ref; its time the median of "
              f"{report['timed calls']} calls, each until all devices have come to an end. Traced: recorded at the second call, and played. "
              "The first time of a picture's stage has the compilation of its programs in it."]
    lines += [f"  {name}: {bound['relative L2']:.0e}: {bound['because']}" for name, bound in report["bounds"].items()]
    lines += operation_lines(report["operations"])
    for model in report["models"]:
        lines += model_lines(model)
    counts = collections.Counter(run["verdict"] for row in report["operations"] for run in (row.get("trace no"), row.get("trace yes")) if run)
    counts["left out"] = sum("left out" in row for row in report["operations"])
    lines += ["", "operations, without and with a trace: " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v] or v == "ok")]
    return "\n".join(lines) + "\n"


def run(options, mock):
    """Returns the exit status: 0 only if nothing failed and nothing was off."""
    kit = Kit(options, mock)
    pictures = [(kit.model, m, i) for i, m in enumerate([None, *options.model]) if kit.wanted(f"picture {m or OWN}")]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not pictures and not kit.chosen():
            raise Trouble(f"--only {options.only} matches nothing")
        kit.make_folder()
        try:
            kit.begin()
            kit.write()
            for part in [(kit.operations,), *pictures]:
                try:
                    part[0](*part[1:])
                except (Trouble, OSError, ValueError, LookupError) as e:
                    kit.report.setdefault("trouble", []).append(f"{type(e).__name__}: {e}")
            kit.report["state"] = "complete" if "trouble" not in kit.report else "not complete: " + "; ".join(kit.report["trouble"])
        except KeyboardInterrupt:
            kit.report["state"] = "interrupted"
        print(kit.write(), end="")
    except (Trouble, OSError) as e:
        print(f"flux1_ttnn: {e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else f"flux1_ttnn: {e}", file=sys.stderr)
        return 1
    if kit.report["state"] == "interrupted":
        return 130
    return int(kit.failed() or "trouble" in kit.report)
