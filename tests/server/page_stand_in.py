"""A stand-in for flux1 serve: /api/… as docs/serve.md has it, without a model. page.py brings it into states that the
program reaches only by chance: a full queue, a connection that is lost, hundreds of old pictures, hostile names.
usage: page_stand_in.py PAGE [PORT]        serves the page until it is interrupted, to look at"""
import base64
import hashlib
import http.server
import json
import random
import re
import struct
import sys
import threading
import time
import urllib.parse
import zlib


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, seed, text=""):
    """A picture that shows its seed: two colours of it, one fading into the other."""
    dice = random.Random(seed)
    one, two = [dice.randrange(256) for _ in range(3)], [dice.randrange(256) for _ in range(3)]
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            share = (x + y) / (width + height)
            rows += bytes(int(a + (b - a) * share) for a, b in zip(one, two))
    chunks = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    if text:
        chunks += png_chunk(b"tEXt", b"parameters\0" + text.encode("latin-1", "replace"))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IDAT", zlib.compress(bytes(rows), 1)) + png_chunk(b"IEND", b"")


def parameters_of(data):
    """The text of a PNG's first chunk tEXt, as AUTOMATIC1111 writes it."""
    at = 8
    while data.startswith(b"\x89PNG") and at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"tEXt":
            return data[at + 8:at + 8 + size].partition(b"\0")[2].decode("latin-1")
        at += size + 12
    return ""


def policy(page):
    """The strictest Content-Security-Policy that the page can work under: its style and its script by their hashes."""
    def sources(tag):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        return " ".join("'sha256-" + base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() + "'" for t in found)
    return (f"default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; style-src {sources('style')}; "
            f"script-src {sources('script')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


class Refusal(Exception):
    def __init__(self, status, kind, message, param=None):
        super().__init__(message)
        self.status, self.kind, self.param = status, kind, param


class StandIn:
    """What a test may set: key, variant, loras, kept, loading, full, step_seconds, models (others by name: variant, side and steps), open_seconds (of one of them), pixels_max, refused (sentences by a model's and a LoRA's name), unexamined (LoRAs). Jobs stay over stop() and
    start(). sizes: of each file that was asked for."""

    def __init__(self, page_file, variant="schnell", key="", loras=(), kept=True, step_seconds=0.05, port=0):
        self.page = open(page_file, encoding="utf-8").read()
        self.variant, self.key, self.loras, self.kept, self.step_seconds, self.port = variant, key, list(loras), kept, step_seconds, port
        self.loading = self.full = False
        self.models, self.open_seconds, self.pixels_max, self.sizes, self.refused, self.unexamined = {}, 0, None, [], {}, set()
        self.jobs, self.when, self.files, self.previews, self.lock = [], {}, {}, {}, threading.Lock()
        self.running = False

    # ---- begin and end ----

    def start(self):
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                stand_in.answer(self)

            do_POST = do_DELETE = do_GET

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, allow_reuse_address, block_on_close = True, True, False

            def handle_error(self, *_):  # a browser that went away
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port, self.running = self.server.server_address[1], True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        threading.Thread(target=self.work, daemon=True).start()
        return f"http://127.0.0.1:{self.port}/"

    def stop(self):
        """As a server that is killed: what ran is found interrupted by the next one."""
        self.running = False
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for job in self.jobs:
                if job["state"] in ("queued", "running"):
                    job.update(state="interrupted", finished=time.time(), seconds_left=None, stage=None)

    # ---- jobs ----

    def add_job(self, body, state="queued", created=None):
        seed = int(body.get("seed", -1))
        seed = random.randrange(2**64) if seed < 0 else seed
        asked = {"width": 64, "height": 64, "steps": 4, "count": 1, "format": "png", **body, "seed": str(seed)}
        job = {"id": f"job-{random.randrange(2**48):012x}", "state": state, "created": created or time.time(), "started": None, "finished": None,
               "position": 0, "stage": None, "step": 0, "steps": asked["steps"], "image": 0, "images": asked["count"], "fraction": 0.0,
               "seconds": 0.0, "seconds_left": None, "request": asked, "pictures": [], "notes": [], "error": None}
        with self.lock:
            self.jobs.append(job)
            self.when[job["id"]] = job["created"]
            self.jobs.sort(key=lambda j: self.when[j["id"]])
        return job

    def add_done(self, body, age, created=None):
        """created: where its clock was another one then."""
        job = self.add_job(body, "done", time.time() - age)
        job["created"] = created or job["created"]
        self.add_picture(job, 0)
        job.update(finished=job["created"] + 1, fraction=1.0, seconds=1.0)
        return job

    def add_picture(self, job, i):
        asked, seed = job["request"], int(job["request"]["seed"]) + i
        name = f"{job['id']}-{i + 1}.png"
        text = f"{asked['prompt']}\nSteps: {asked['steps']}, Sampler: Euler, Seed: {seed}, Size: {asked['width']}x{asked['height']}"
        self.files[name] = png(asked["width"], asked["height"], seed, text)
        picture = {"url": "/api/files/" + name, "seed": str(seed), "width": asked["width"], "height": asked["height"],
                   "bytes": len(self.files[name]), "format": "png"}
        job["pictures"] = job["pictures"] + [picture]

    def work(self):
        while self.running:
            waiting = [j for j in self.jobs if j["state"] == "queued"]
            if not waiting:
                time.sleep(0.01)
                continue
            job = waiting[0]
            job.update(state="running", started=time.time(), stage="text encoders")
            self.run_job(job)

    def run_job(self, job):
        total = job["steps"] * job["images"]
        for done in range(total):
            time.sleep(self.step_seconds)
            if job["state"] != "running":
                return
            job.update(stage="denoise", image=done // job["steps"], step=done % job["steps"] + 1, fraction=(done + 1) / total,
                       seconds=time.time() - job["started"], seconds_left=(total - done - 1) * self.step_seconds)
            self.previews[job["id"]] = (done + 1, "data:image/png;base64," + base64.b64encode(png(16, 16, done)).decode())
            if job["step"] == job["steps"]:
                self.add_picture(job, job["image"])
        if job["state"] == "running":
            job.update(state="done", finished=time.time(), stage=None, seconds_left=None)

    def shown(self, job):
        waiting = [j for j in self.jobs if j["state"] in ("queued", "running")]
        return {**job, "position": waiting.index(job) if job["state"] == "queued" and job in waiting else 0}

    # ---- answers ----

    def answer(self, to):
        body = to.rfile.read(int(to.headers.get("Content-Length") or 0))
        if not self.running:  # a connection that was kept is as dead as its server
            to.close_connection = True
            return
        path, _, query = to.path.partition("?")
        try:
            if path == "/":
                return self.send(to, 200, self.page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy(self.page)})
            if self.loading:
                raise Refusal(503, "unavailable_error", "The model is being loaded.")
            if self.key and to.headers.get("Authorization") != "Bearer " + self.key:
                raise Refusal(401, "authentication_error", "This server needs a key.")
            self.route(to, path, dict(p.partition("=")[::2] for p in query.split("&")), body)
        except Refusal as refusal:
            error = {"message": str(refusal), "type": refusal.kind, "param": refusal.param, "code": None}
            self.send_json(to, refusal.status, {"error": error})

    def route(self, to, path, query, body):
        rest = path.removeprefix("/api/jobs/")
        if path == "/api/info":
            time.sleep(self.open_seconds if "model" in query else 0)
            self.send_json(to, 200, self.info(urllib.parse.unquote(query.get("model", ""))))
        elif path == "/api/jobs" and to.command == "POST":
            self.post_job(to, json.loads(body))
        elif path == "/api/jobs":
            self.list_jobs(to, query)
        elif path == "/api/png-info":
            self.png_info(to, body)
        elif path.startswith("/api/files/") and path.removeprefix("/api/files/") in self.files:
            self.sizes.append(query.get("size"))
            self.send(to, 200, self.files[path.removeprefix("/api/files/")], "image/png")
        elif rest != path:
            self.one_job(to, *rest.partition("/")[::2])
        else:
            raise Refusal(404, "not_found_error", "There is nothing here.")

    def info(self, name):
        waiting = sum(j["state"] == "queued" for j in self.jobs)
        models = {"stand-in": (self.variant, 64, 4), **self.models}
        if (name or "stand-in") not in models or models[name or "stand-in"] is None:
            raise Refusal(400, "invalid_request_error", f'the model "{name}" cannot be opened', "model")
        variant, side, steps = models[name or "stand-in"]
        return {"version": "1.0", "model": {"name": name or "stand-in", "variant": variant, "true_size": True}, "models": list(models),
                "defaults": {"width": side, "height": side, "steps": steps, "guidance": 3.5 if variant == "dev" else None},
                "limits": {"sizes_multiple": 16, "width_max": 2048, "height_max": 2048, "pixels_max": self.pixels_max, "steps_max": 100, "count_max": 16,
                           "prompt_bytes_max": 2000},
                "formats": ["png", "jpeg", "webp"], "loras": [{"name": n, "bytes": 1000000, "examined": n not in self.unexamined, "refused": self.refused.get((name or "stand-in", n))} for n in self.loras],
                "queue": {"waiting": waiting, "limit": 100}, "kept": self.kept, "key_needed": bool(self.key)}

    def post_job(self, to, body):
        if self.full:
            raise Refusal(429, "rate_limit_error", "The queue is full: 100 jobs are waiting.")
        if body["width"] > 1024:
            raise Refusal(400, "invalid_request_error", "1040 x 64 does not fit into memory; 1024 x 64 does.", "width")
        self.send_json(to, 202, self.shown(self.add_job(body)))

    def list_jobs(self, to, query):
        newest = self.jobs[::-1]
        if "before" in query:
            newest = newest[[j["id"] for j in newest].index(query["before"]) + 1:]
        limit = int(query.get("limit", 50))
        self.send_json(to, 200, {"jobs": [self.shown(j) for j in newest[:limit]], "more": len(newest) > limit})

    def one_job(self, to, name, rest):
        job = next((j for j in self.jobs if j["id"] == name), None)
        if job is None:
            raise Refusal(404, "not_found_error", "There is no such job.")
        if rest == "events":
            self.events(to, job)
        elif to.command == "GET":
            self.send_json(to, 200, self.shown(job))
        elif job["state"] in ("queued", "running"):
            job.update(state="cancelled", finished=time.time(), stage=None, seconds_left=None)
            self.send_json(to, 200, self.shown(job))
        else:
            self.jobs.remove(job)
            self.send(to, 204, b"", "")

    def events(self, to, job):
        to.send_response(200)
        to.send_header("Content-Type", "text/event-stream")
        to.send_header("Connection", "close")
        to.end_headers()
        to.close_connection = True

        def event(name, data):
            to.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            to.wfile.flush()
        event("job", self.shown(job))
        seen, pictures, step = None, len(job["pictures"]), 0
        while self.running and job["state"] in ("queued", "running"):
            progress = {k: v for k, v in self.shown(job).items() if k not in ("request", "pictures", "notes")}
            if progress != seen:
                event("progress", progress)
            seen = progress
            if step != self.previews.get(job["id"], (0, ""))[0]:
                step, image = self.previews[job["id"]]
                event("preview", {"step": step, "image": image})
            for picture in job["pictures"][pictures:]:
                event("picture", picture)
            pictures = len(job["pictures"])
            time.sleep(0.02)
        if self.running:
            event("end", self.shown(job))

    def png_info(self, to, body):
        if not body.startswith(b"\x89PNG\r\n\x1a\n"):
            raise Refusal(400, "invalid_request_error", "This is no PNG.")
        text, known = parameters_of(body), {}
        found = re.search(r"^(.*)\nSteps: (\d+).*Seed: (\d+), Size: (\d+)x(\d+)", text, re.S)
        if found:
            known = {"prompt": found[1], "steps": int(found[2]), "seed": found[3], "width": int(found[4]), "height": int(found[5])}
        self.send_json(to, 200, {"parameters": text, "request": known})

    def send_json(self, to, status, value):
        self.send(to, status, json.dumps(value).encode(), "application/json")

    def send(self, to, status, body, kind, headers=()):
        to.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **dict(headers)}.items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(body)


if __name__ == "__main__":
    stand_in = StandIn(sys.argv[1], variant="dev", loras=["ink", "pixel art", "soft light"], step_seconds=0.5, port=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for i, text in enumerate(["a red fox in the snow", "two cats on the beach", "a castle under a rainbow", "a paper boat"] * 3):
        stand_in.add_done({"prompt": text, "width": [64, 96, 64][i % 3], "height": [64, 64, 96][i % 3]}, 60 * i + 60)
    print(stand_in.start(), flush=True)
    threading.Event().wait()
