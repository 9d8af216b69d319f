"""flux1 serve under load: many clients for a while; killed, with a full disk, and stopped in order in the middle of it. usage: load.py FLUX1 MODEL SECONDS"""
import base64, http.client, itertools, json, os, random, re, signal, subprocess, sys, threading, time
from serving import Server, call, check, chunks, command_line_picture, finish, pixels, scratch

program, model, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
folder = scratch()
CLIENTS, SEEDS, QUEUE = 100, 4, 32
PROMPT = "a red fox"
expected = {seed: pixels(command_line_picture(program, model, folder, PROMPT, 64, 64, 2, seed)) for seed in range(SEEDS)}


def start(jobs, *options):
    return Server(program, model, "%s/log%d" % (folder, time.monotonic_ns()), "--port", "0", "--queue", str(QUEUE), "--jobs", jobs, *options)


# ---- what clients ask for: each returns the status, and whether a picture is right ----


def ask_openai(port, seed):
    status, a = call(port, "POST", "/v1/images/generations", {"prompt": PROMPT, "size": "64x64", "steps": 2, "seed": seed})
    return status, status != 200 or pixels(base64.b64decode(a["data"][0]["b64_json"])) == expected[seed]


def ask_webui(port, seed):
    status, a = call(port, "POST", "/sdapi/v1/txt2img", {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2, "seed": seed, "cfg_scale": 7})
    return status, status != 200 or pixels(base64.b64decode(a["images"][0])) == expected[seed]


def ask_own(port, seed):
    """A job, its events to the end, its file."""
    status, job = call(port, "POST", "/api/jobs", {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2, "seed": seed, "preview_every": 1})
    if status != 202:
        return status, True
    events = call(port, "GET", "/api/jobs/%s/events" % job["id"], raw=True)[1].decode().rstrip("\n").split("\n\n")
    end = json.loads(events[-1].split("data: ", 1)[1])
    if end["state"] != "done":
        return 503 if end["state"] == "interrupted" else 500, True
    status, png = call(port, "GET", end["pictures"][0]["url"], raw=True)
    return status, status == 200 and pixels(png) == expected[seed]


def ask_lists(port, seed):
    return max(call(port, "GET", path)[0] for path in ("/api/jobs?limit=5", "/sdapi/v1/progress", "/api/info", "/health")), True


class Crowd:
    """Clients that ask until they are told to stop; which answers came, how long the good ones took."""

    def __init__(self, port, clients, ends=()):
        self.port, self.ends = port, ends  # what may happen when the server ends: statuses, or a broken connection (None)
        self.ending = threading.Event()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.answers, self.times, self.wrong = {}, {}, []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]
        for t in self.threads:
            t.start()

    def run(self, number):
        chance = random.Random(number)
        while not self.stopping.is_set():
            ask = chance.choice((ask_openai, ask_openai, ask_webui, ask_own, ask_lists))
            began = time.monotonic()
            try:
                status, good = ask(self.port, chance.randrange(SEEDS))
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as e:
                status, good = None, self.ending.is_set()
                text = "%s: %s" % (type(e).__name__, e)
            else:
                text = "%s by %s" % (status, ask.__name__)
            with self.lock:
                self.answers[status] = self.answers.get(status, 0) + 1
                allowed = status in (200, 429) or (self.ending.is_set() and status in (None, *self.ends))
                if not allowed or not good:
                    self.wrong.append(text)
                if status == 200:
                    self.times.setdefault(ask.__name__[4:], []).append(time.monotonic() - began)
            if status == 429:
                time.sleep(0.2 + chance.random() * 0.3)
            if status is None and self.ending.is_set():
                return

    def end(self):
        self.stopping.set()
        for t in self.threads:
            t.join()
        check(not self.wrong, "%d wrong answers, such as: %s" % (len(self.wrong), self.wrong[:3]))


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


# ---- parts ----


def many_clients():
    jobs = folder + "/load"
    server = start(jobs, "--jobs-size", "2M")  # so that room is made too
    began, sizes = time.monotonic(), []
    crowd = Crowd(server.port, CLIENTS)
    while time.monotonic() - began < seconds or not sizes:
        time.sleep(0.5)
        sizes.append((time.monotonic() - began, server.status("VmRSS")))
    crowd.end()
    took = time.monotonic() - began
    # after a first part nothing grows: 2 percent, and 2 MB for what many connections at once may hold
    first = max(size for at, size in sizes[: 1 + len(sizes) // 3] if at <= 60 or len(sizes) < 60)
    last = max(size for at, size in sizes[-max(2, len(sizes) // 10):])
    check(last <= first * 1.02 + (2 << 20), "memory grows: %.1f MB, then %.1f MB" % (first / 1e6, last / 1e6))
    metrics = dict(line.rsplit(" ", 1) for line in server.call("GET", "/metrics", raw=True)[1].decode().splitlines() if not line.startswith("#"))
    check(crowd.answers.get(200, 0) > 0 and int(metrics["flux1_requests_refused_total"]) == crowd.answers.get(429, 0), "429: %s, %s" % (metrics["flux1_requests_refused_total"], crowd.answers))
    check(sum(os.path.getsize(jobs + "/pictures/" + f) for f in os.listdir(jobs + "/pictures")) <= (2 << 20) + 65536, "--jobs-size holds under load")
    print("%d clients, %.0f s: %s pictures, answers %s; memory %.1f MB after the first part, %.1f MB at the end; %.1f s of processor time; load %.1f" %
          (CLIENTS, took, metrics["flux1_pictures_total"], crowd.answers, first / 1e6, last / 1e6, server.seconds(), os.getloadavg()[0]))
    for name, times in sorted(crowd.times.items()):
        print("    %-8s %6d   p50 %.3f s   p99 %.3f s" % (name, len(times), quantile(times, 0.5), quantile(times, 0.99)))
    check(server.stop() == 0, "exit status")


def look_at(server, jobs, done):
    """What a folder must be after any end: every finished picture whole and named by a job, nothing else there; `done` are jobs that clients were told of."""
    listed, before = {}, ""
    while True:
        page = server.call("GET", "/api/jobs?limit=100" + before)[1]
        listed.update((j["id"], j) for j in page["jobs"])
        if not page["more"]:
            break
        before = "&before=" + page["jobs"][-1]["id"]
    check(set(done) <= set(i for i, j in listed.items() if j["state"] == "done"), "a finished job is lost")
    check(all(j["state"] in ("done", "interrupted", "cancelled", "failed") for j in listed.values()), "no job is left running: %s" % set(j["state"] for j in listed.values()))
    named = set(p["url"].rsplit("/", 1)[1] for j in listed.values() for p in j["pictures"])
    there = set(os.listdir(jobs + "/pictures"))
    check(named == there, "files and jobs differ: %s without a file, %s without a job" % (sorted(named - there)[:3], sorted(there - named)[:3]))
    for name in there:
        try:
            with open(jobs + "/pictures/" + name, "rb") as f:
                chunks(f.read())
        except ValueError as e:
            check(False, "%s is half written: %s" % (name, e))
    return listed


def done_jobs(port, into, ending):
    """A client that notes the jobs of which it was told that they are done."""
    for seed in itertools.cycle(range(SEEDS)):
        try:
            status, a = call(port, "POST", "/v1/images/generations", {"prompt": PROMPT, "size": "64x64", "steps": 2, "seed": seed, "n": 2})
            if status == 200:
                into.append(a["flux1"]["job"])
        except (OSError, http.client.HTTPException, ValueError):
            return
        if ending.is_set() and status != 200:
            return


def ended_by(number, jobs, times):
    """The server is ended by a signal under load, and started again."""
    for _ in range(times):
        server, done, ending = start(jobs, "--drain", "20"), [], threading.Event()
        crowd = Crowd(server.port, 6, ends=(503,))
        notes = [threading.Thread(target=done_jobs, args=(server.port, done, ending)) for _ in range(2)]
        for t in notes:
            t.start()
        long = server.call("POST", "/api/jobs", {"prompt": PROMPT, "width": 64, "height": 64, "steps": 100})[1].get("id")
        until = time.monotonic() + 30
        while len(done) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        crowd.ending.set()
        ending.set()
        status = server.stop(number)
        crowd.end()
        for t in notes:
            t.join()
        check(status == (0 if number == signal.SIGTERM else -number), "exit status %d" % status)
        litter = [jobs + "/pictures/flux1-0123456789abcdef.tmp", jobs + "/pictures/0123456789abcdef-1.png", "%s/pictures/%s-9.png" % (jobs, done[0] if done else "0" * 16), jobs + "/0123456789abcdef"]
        for path in litter:  # what a kill at the wrong moment leaves
            open(path, "w").write("half")
        open(jobs + "/notes", "w").write("somebody's own")
        server = start(jobs)
        listed = look_at(server, jobs, done)
        check(not any(map(os.path.exists, litter)) and os.path.exists(jobs + "/notes"), "what is left is removed, and nothing else")
        check(done and (long is None or long in listed), "the load was one")
        check(server.call("POST", "/v1/images/generations", {"prompt": PROMPT, "size": "64x64", "steps": 2})[0] == 200, "it serves again")
        check(server.stop() == 0, "exit status")


def full_disk():
    jobs = folder + "/small"
    os.makedirs(jobs)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", jobs], stderr=subprocess.DEVNULL).returncode != 0:
        print("full disk: left out (it takes root, and leave to mount)")
        return
    try:
        server = start(jobs)
        ask = lambda: server.call("POST", "/v1/images/generations", {"prompt": PROMPT, "size": "128x128", "steps": 1, "n": 10})
        for made in range(100):
            status, a = ask()
            if status != 200:
                break
        check(status == 507 and a["error"]["type"] == "server_error" and "the server's disk is full" in a["error"]["message"], "a full disk is told: %s %s" % (status, a))
        check(server.call("GET", "/health")[0] == 200 and made > 0, "it goes on")
        check(not [f for f in os.listdir(jobs + "/pictures") if f.endswith(".tmp")], "nothing half-written is left")
        check(jobs not in json.dumps(a) and re.search(re.escape(jobs) + "/.*(disk|No space)", open(server.log).read()), "the operator hears where, and clients do not: %s" % a)
        listed = server.call("GET", "/api/jobs?limit=100")[1]["jobs"]
        for j in listed[: len(listed) // 2]:
            server.call("DELETE", "/api/jobs/" + j["id"])
        check(ask()[0] == 200, "with room it works again")
        check(server.stop() == 0, "exit status")
        server = start(jobs)
        look_at(server, jobs, [])
        check(server.stop() == 0, "exit status")
    finally:
        subprocess.run(["umount", jobs])


many_clients()
for number, times in ((signal.SIGKILL, 10), (signal.SIGTERM, 3)):
    began = time.monotonic()
    ended_by(number, "%s/ended%d" % (folder, number), times if seconds >= 60 else 1)
    print("ended by %s under load, and started again: %.1f s" % (number.name, time.monotonic() - began))
began = time.monotonic()
full_disk()
print("full disk: %.1f s" % (time.monotonic() - began))
finish()
