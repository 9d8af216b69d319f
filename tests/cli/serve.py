"""flux1 serve as its clients see it: status codes, answers, events, hang-ups, restarts. usage: serve.py FLUX1 MODEL ADAPTER FOLDER"""
import atexit, base64, gzip, http.client, json, os, re, select, shutil, signal, socket, sqlite3, struct, subprocess, sys, threading, time, zlib

from jsonl_schema import resolve
from openapi_fits import Description

program, model, adapter, folder = sys.argv[1:5]
os.makedirs(folder)
failures = []


def check(good, what):
    if not good:
        failures.append(what)
        print("FAILED:", what)


class Server:
    """Starts one and waits until it is ready; `stop` ends it and gives its exit status."""

    def __init__(self, *options, host=None, wait=True, model=model):
        self.errors = os.path.join(folder, "stderr%d" % time.monotonic_ns())
        self.process = subprocess.Popen([program, "serve", "--model", model, "--threads", "2", *options], stdout=subprocess.DEVNULL, stderr=open(self.errors, "w"))
        self.description = None
        atexit.register(self.process.kill)  # whatever becomes of the tests
        if wait:
            self.ready()

    def said(self, pattern, seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(pattern, open(self.errors).read())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        sys.exit("the server does not say %r but: %s" % (pattern, open(self.errors).read()))

    def ready(self):
        self.address = self.said(r"ready: (\S+)").group(1)
        self.port = int(self.address.rsplit(":", 1)[1]) if self.address.startswith("http") else None

    def call(self, method, path, body=None, headers=None, raw=False):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        data = json.dumps(body) if body is not None and not isinstance(body, (str, bytes)) else body
        c.request(method, path, data, headers or {})
        answer = c.getresponse()
        content = answer.read()
        c.close()
        self.headers = answer.headers
        value = content if raw else (json.loads(content) if content else None)
        self.compare(method, path, answer, content)
        return answer.status, value

    def compare(self, method, path, answer, content):
        """The answer is as /openapi.json says (of a server without keys)."""
        kind = answer.headers["Content-Type"]
        if self.description:
            unfit = self.description.unfit(method, path, answer.status, kind, json.loads(content) if kind == "application/json" else None)
            check(not unfit, "/openapi.json: %s" % unfit)

    def peak(self):
        return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/%d/status" % self.process.pid).read()).group(1))

    def connect(self, text):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        s.sendall(text if isinstance(text, bytes) else text.encode())
        return s

    def job(self, job_id):
        return self.call("GET", "/api/jobs/" + job_id)[1]

    def until(self, job_id, states, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            j = self.job(job_id)
            if j["state"] in states:
                return j
            time.sleep(0.02)
        check(False, "job is %s, expected %s" % (j["state"], states))
        return j

    def events(self, job_id, handle=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        c.request("GET", "/api/jobs/%s/events" % job_id)
        events = parse_events(c.getresponse().read().decode())
        for name, value in events if self.description else []:
            schema = {"job": "Job", "end": "Job", "picture": "Picture"}.get(name)
            check(not schema or not self.description.unfit_of(schema, value), "the event %s is no %s: %s" % (name, schema, value))
        return events

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(120)


def parse_events(text):
    return [(e.split("\n")[0].split(": ", 1)[1], json.loads(e.split("\n")[1].split(": ", 1)[1])) for e in text.split("\n\n") if e.startswith("event")]


def post(body, path="/api/jobs"):
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data


def pixels(png):
    """The unfiltered bytes of a PNG's picture (whatever texts it has)."""
    at, data, size = 8, b"", None
    while at < len(png):
        n, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            data += png[at + 8 : at + 8 + n]
        if kind == b"IHDR":
            size = struct.unpack(">II", png[at + 8 : at + 16])
        at += 12 + n
    return size, zlib.decompress(data)


LONG = {"prompt": "a long one", "width": 64, "height": 64, "steps": 10000}
SHORT = {"prompt": "a red fox", "width": 64, "height": 48, "steps": 2, "seed": 7}


def error_of(answer, status, kind, words):
    code, body = answer
    e = (body or {}).get("error", {})
    check(os.path.dirname(folder) not in e.get("message", ""), "a client is told where the server's files lie: %s" % body)
    known = {400: "invalid_value", 404: "model_not_found", 422: "invalid_value"}.get(status) if e.get("param") else {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
    check(code == status and e.get("type") == kind and e.get("code", 0) == known and re.search(words, e.get("message", "")),
          "%d %s /%s/ expected, got %s %s" % (status, kind, words, code, body))


def described(s):
    """/openapi.json: from here on each answer is compared with it."""
    root = s.call("GET", "/openapi.json")[1]
    check(root["openapi"] == "3.1.0", "OpenAPI 3.1")
    fields = root["components"]["schemas"]["JobRequest"]["properties"]
    check(fields["steps"]["maximum"] == s.call("GET", "/api/info")[1]["limits"]["steps_max"] and "png" in fields["format"]["enum"], "the fields of jobs: %s" % fields)
    operations = [o for p in root["paths"].values() for o in p.values()]
    check(all(o["security"] == [] for o in operations) and all(o["requestBody"]["required"] for o in operations if "requestBody" in o), "no key is asked for")
    check(all(o["summary"] for o in operations) and len({o["operationId"] for o in operations}) == len(operations), "operations have names of their own")
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(root)):
        resolve(root, reference)
    s.description = Description(root)
    check(s.description.unfit("GET", "/health", 200, "application/json", {"status": "ok", "x": 1}), "a member too many is noticed")
    check(s.description.unfit("GET", "/health", 201, "application/json", {"status": "ok"}), "another status is noticed")


def all_was_described(s):
    for path in ("openapi.json", "sdapi/v1/refresh-loras", "sdapi/v1/refresh-checkpoints", "v1/images/variations"):
        s.call("GET" if path == "openapi.json" else "POST", "/" + path, None if path == "openapi.json" else {})
    left = {(m.upper(), p) for p, o in s.description.root["paths"].items() for m in o} - s.description.seen
    check(left == {("GET", "/api/jobs/{name}/events")},  # which Server.events compares
          "operations of which no answer was compared: %s" % left)


def basics(s):
    check(s.call("GET", "/health") == (200, {"status": "ok"}), "/health")
    status, page = s.call("GET", "/", raw=True)
    check(status == 200 and b"<html" in page and "text/html" in s.headers["Content-Type"], "the page")
    info = s.call("GET", "/api/info")[1]
    check(info["defaults"]["width"] == 64 and info["defaults"]["guidance"] is None and info["formats"] == info["formats"]
          and info["queue"] == {"waiting": 0, "limit": 3} and info["kept"] and not info["key_needed"], "/api/info: %s" % info)
    error_of(s.call("GET", "/nowhere"), 404, "not_found_error", "nothing at /nowhere")
    error_of(s.call("PUT", "/api/jobs"), 405, "invalid_request_error", "PUT is not for /api/jobs; it has GET, POST")
    check(s.headers["Allow"] == "GET, POST", "Allow: %s" % s.headers["Allow"])
    error_of(s.call("DELETE", "/sdapi/v1/txt2img"), 405, "invalid_request_error", "it has POST$")
    error_of(s.call("GET", "/api/jobs/0123456789abcdef"), 404, "not_found_error", "no job")
    error_of(s.call("DELETE", "/api/jobs/0123456789abcdef"), 404, "not_found_error", "no job")
    for name in ("..%2f..%2fjobs.sqlite", "%2e%2e", "jobs.sqlite", "0123456789abcdef-1.png", "0123456789abcdef-..%2f1.png", "a" * 300):
        check(s.call("GET", "/api/files/" + name)[0] == 404, "/api/files/" + name)
    for limit in ("0", "501", "4294967297", "", "+5", "5x"):
        error_of(s.call("GET", "/api/jobs?limit=" + limit), 400, "invalid_request_error", "limit")
    error_of(s.call("GET", "/api/jobs?before=zz"), 400, "invalid_request_error", "no job")


def bad_requests(s):
    for body, words in (
        ("", "empty"), ("{", "cut short"), ("[1]", "JSON object"), ("nonsense", "the body:1:1"), ("[" * 100 + "]" * 100, "."), ({}, '"prompt" is missing'),
        ({"prompt": 3}, "string"), ({"prompt": " \n"}, "empty"), ({"prompt": "x" * 70000}, "70000 bytes"), ('{"prompt":"a","width":NaN}', "."),
        ('{"prompt":"a\\u0000b"}', "."), ({"prompt": "a", "width": 0}, "width"), ({"prompt": "a", "width": 64.5}, "width"), ({"prompt": "a", "height": "abc"}, "height"),
        ({"prompt": "a", "steps": 1e30}, "steps"), ({"prompt": "a", "count": 101}, "count"), ({"prompt": "a", "seed": -2}, "seed"), ({"prompt": "a", "seed": "1e5"}, "seed"),
        ({"prompt": "a", "seed": "18446744073709551615", "count": 2}, "beyond"), ({"prompt": "a", "format": "gif"}, "png"), ({"prompt": "a", "quality": 0}, "quality"),
        ({"prompt": "a", "lora": [{"name": "x"}]}, "no folder of adapters"), ({"prompt": "a", "lora": [3]}, "lora"), ({"prompt": "a", "step_cache": "zz"}, "step_cache"),
        ({"prompt": "a", "width": 60000, "height": 60000}, "would fit"), ({"prompt": "a", "max_sequence_length": 5000}, "max_sequence_length"), ({"prompt": "a", "width": 8}, "at least 16"),
    ):
        error_of(s.call("POST", "/api/jobs", body), 400, "invalid_request_error", words)
    error_of(s.call("POST", "/api/jobs", "x" * (1 << 20) + "x"), 413, "invalid_request_error", "at most 1048576")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a"}, {"Content-Type": "multipart/form-data; boundary=x"}), 415, "invalid_request_error", "JSON")
    # a body without a length, too large: it is read and thrown away
    c = s.connect("POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
    for _ in range(20):
        c.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    c.sendall(b"0\r\n\r\n")
    check(b" 413 " in c.recv(4096), "a chunked body beyond the limit")
    for headers, status in (({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "localhost:1"}, 200),
                            ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "cross-site", "Origin": "https://my.proxy"}, 200), ({"Sec-Fetch-Site": "same-origin"}, 200),
                            ({"Host": "[::1]:80"}, 200), ({"Host": "my.proxy"}, 200), ({"Origin": "https://my.proxy"}, 200),
                            ({"Origin": "http://127.0.0.1:%d" % s.port}, 200)):
        check(s.call("GET", "/api/info", headers=headers)[0] == status, "%s: %d expected" % (headers, status))


def odd_requests(s):
    """Requests that are HTTP, and that no usual client sends; and some that are not."""

    def answer(data, end=True):
        """All that comes behind these bytes, and the end of them."""
        c = s.connect(data)
        if end:
            c.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: c.recv(65536), b"")).decode(errors="replace")

    head = lambda line, *headers: "\r\n".join((line + " HTTP/1.1", "Host: localhost", "Connection: close", *headers)) + "\r\n\r\n"
    body = lambda data, *headers: head("POST /api/jobs", "Content-Length: %d" % len(data), *headers).encode() + data
    for data, words in ((b'{"prompt": "a", "prompt": "b"}', "."), (b'{"prompt": "\xff"}', "."), (b'{"prompt": "a", "steps": 1e999}', "too large"), (b'{"prompt": "a", "lora": ' + b'[' * 60 + b']' * 60 + b'}', "lora"),
                        (b'{"prompt": "a", "seed": 1' + b'0' * 5000 + b'}', "5001 characters"), (b'{"prompt": "\\ud800"}', "."), (b'\xef\xbb\xbf{}', "."), (b'\0', "."), (b'{"prompt": "a"} x', ".")):
        error_of(s.call("POST", "/api/jobs", data), 400, "invalid_request_error", words)
    # what a client says of the length, and of what it expects
    check(" 400 " in answer(body(b"{", "Expect: 100-continue"), end=False) and "100 Continue" in answer(body(b"{", "Expect: 100-continue"), end=False), "Expect: 100-continue")
    check(answer(head("POST /api/jobs", "Content-Length: 100") + "{") == "", "a body that is cut short has no answer")
    for length, allowed in (("-1", "400"), ("x", "400"), ("9999999999", "413"), ("99999999999999999999999", "400|413")):
        said = answer(head("POST /api/jobs", "Content-Length: " + length) + "{}", end=False)
        check(re.match("HTTP/1.1 (%s) " % allowed, said), "Content-Length: %s: %s" % (length, said))
    check(" 413 " in answer(head("GET /api/info", "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n", end=False), "a body where there is none")
    # a body of many values would take fifty times its size
    before = s.peak()
    error_of(s.call("POST", "/sdapi/v1/png-info", b'{"image": [' + b"1," * (8 << 20) + b"1]}"), 400, "invalid_request_error", "more than 1048576 commas")
    check(s.peak() - before < 64 << 10, "so many values are not read: %d kB" % (s.peak() - before))
    # methods
    whole, headers = (answer(head(method + " /api/info"), end=False) for method in ("GET", "HEAD"))
    check(headers.startswith("HTTP/1.1 200 ") and headers.endswith("\r\n\r\n") and headers.split("Content-Length")[1] and whole.split("\r\n\r\n", 1)[1], "HEAD is GET without a body: %s" % headers)
    allowed = answer(head("OPTIONS /api/jobs", "Origin: http://localhost", "Access-Control-Request-Method: POST"), end=False)
    check(" 405 " in allowed and "Allow: GET, POST" in allowed and "Access-Control" not in allowed, "OPTIONS: %s" % allowed)
    # paths and queries that are no text
    for path in ("/%ff%fe", "/api/jobs/%ff%00", "/api/files/%00", "/" + "a" * 4000, "/api/jobs/" + "%41" * 200, "/%00", "/%00x", "/health%00", "/metrics%00x", "/v1/models/schnell%00", "/%", "/%4", "/%4g", "/health%"):
        check(" 404 " in answer(head("GET " + path), end=False).split("\r\n")[0], "GET " + path[:30])
    check(all(" 200 " in answer(head("GET " + path), end=False) for path in ("/%68%65alth", "/v1/models/%53chnell", "/%76%31/models", "/openapi%2Ejson", "/openapi%2ejson")), "paths with codes")
    check(all(" %d " % status in answer(head("GET " + target), end=False).split("\r\n")[0] for target, status in
              (("http://localhost/health", 200), ("HTTP://localhost:7860", 200), ("https://localhost/none", 404), ("httpx://localhost/health", 404))), "targets in absolute form")
    for query, status in (("before=%ff", 400), ("before=%00x", 400), ("limit=%00", 400), ("limit=5%00", 400), ("limit=%35", 200), ("limit", 200)):
        check(" %d " % status in answer(head("GET /api/jobs?" + query), end=False).split("\r\n")[0], "GET /api/jobs?" + query)
    # where a request ends, or for whom it is, a proxy in front may see otherwise: nothing behind it is read
    for headers, words in ((("Content-Length: 2", "Content-Length: 43"), "more than once"), (("Content-Length: 43", "Content-Length: 2"), "more than once"), (("Content-Length: 2", "content-length: 2"), "more than once"),
                           (("Content-Length: 2", "Transfer-Encoding: chunked"), "more than once"), (("Transfer-Encoding: chunked", "Content-Length: 2"), "more than once"),
                           (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "more than once"), (("Transfer-Encoding: gzip, chunked",), "must be chunked"), (("Transfer-Encoding: identity",), "must be chunked"),
                           (("Content-Length : 2",), "white space"), (("Host: other", "Content-Length: 2"), "2 Host headers")):
        sent = "\r\n".join(("POST /api/jobs HTTP/1.1", "Host: localhost", *headers)) + "\r\n\r\n"
        said = answer(sent + "{}GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", end=False)
        check(re.match("HTTP/1.1 400 ", said) and said.count("HTTP/1.1") == 1 and "Connection: close" in said and words in said, "%s: %s" % (headers, said))
    # a client that closes its side of the connection with its request has said all, and gets its answer (not of pictures, which take long)
    for _ in range(20):
        for request in (head("GET /api/jobs"), head("GET /api/info"), body(b"{}"), head("POST /api/png-info", "Content-Length: 1") + "x"):
            said = answer(request)
            check(re.match("HTTP/1.1 (200|400) ", said), "a half-closed connection: %s: %s" % (request[:20], said[:20]))
    check(s.call("GET", "/health")[0] == 200, "it goes on")


def other_pages(s):
    """What a browser does for a page of another host that is allowed, and for one that is not."""
    page = {"Origin": "https://my.proxy:3000"}
    check(s.call("POST", "/v1/images/generations", dict(SHORT, response_format="url"), page)[0] == 200 and s.headers["Access-Control-Allow-Origin"] == page["Origin"]
          and s.headers["Vary"] == "Origin", "an answer for another page: %s" % s.headers)
    check(s.call("GET", "/nowhere", headers=page)[0] == 404 and s.headers["Access-Control-Allow-Origin"], "so is an error")
    check(s.call("GET", "/api/info")[0] == 200 and s.headers["Vary"] == "Origin" and "Access-Control-Allow-Origin" not in s.headers, "nothing is shared with nobody")
    s.call("GET", "/api/info", headers={"Origin": s.address})
    check("Access-Control-Allow-Origin" not in s.headers, "the server's own page needs nothing")
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    check(s.call("OPTIONS", "/v1/images/generations", headers=dict(page, **asks)) == (204, None) and s.headers["Access-Control-Allow-Methods"] == "POST"
          and s.headers["Access-Control-Allow-Headers"] == "authorization,content-type" and s.headers["Access-Control-Allow-Origin"] == page["Origin"], "a preflight: %s" % s.headers)
    check(s.call("OPTIONS", "/api/jobs/0123456789abcdef", headers=dict(page, **asks))[0] == 204 and s.headers["Access-Control-Allow-Methods"] == "GET, DELETE", "a preflight of a job")
    error_of(s.call("OPTIONS", "/nowhere", headers=dict(page, **asks)), 404, "not_found_error", "nothing at")
    for origin in ("http://evil.example", "null"):
        error_of(s.call("OPTIONS", "/v1/images/generations", headers=dict(asks, Origin=origin)), 403, "invalid_request_error", "may not use this server: allow it with --allow-host")
        check("Access-Control-Allow-Origin" not in s.headers, "nothing is shared with %s" % origin)


def proxies(s):
    """An address of a picture is the one that the client can reach."""
    def address(**headers):
        answer = s.call("POST", "/v1/images/generations", dict(SHORT, response_format="url"), {k.replace("_", "-"): v for k, v in headers.items()})[1]
        return re.sub("/api/files/[0-9a-f]+-1.png$", "", answer["data"][0]["url"])
    here = "127.0.0.1:%d" % s.port
    for headers, expected in (({"X_Forwarded_Proto": "https"}, "https://" + here), ({"X_Forwarded_Proto": "https, http"}, "https://" + here), ({"X_Forwarded_Proto": "ftp"}, "http://" + here),
                              ({"X_Forwarded_Host": "my.proxy:8443", "X_Forwarded_Proto": "https"}, "https://my.proxy:8443"), ({"X_Forwarded_Host": "a.b, c.d"}, "http://a.b"),
                              ({"X_Forwarded_Host": "a/b"}, "http://" + here), ({"X_Forwarded_Prefix": "/flux"}, "http://" + here + "/flux"), ({"X_Forwarded_Prefix": "/my/flux/"}, "http://" + here + "/my/flux"),
                              ({"X_Forwarded_Prefix": "/"}, "http://" + here), ({"X_Forwarded_Prefix": "flux"}, "http://" + here), ({"X_Forwarded_Prefix": "/a\"b"}, "http://" + here)):
        told = address(**headers)
        check(told == expected, "%s: %s" % (headers, told))


def wrong_addresses(s):
    """A base URL with a part too much or too little: what was probably meant is told."""
    for method, path, meant in (("POST", "/images/generations", "/v1/images/generations"), ("POST", "/v1/v1/images/generations", "/v1/images/generations"), ("GET", "//sdapi/v1/options", "/sdapi/v1/options"),
                                ("GET", "/v1/models/", "/v1/models"), ("GET", "/flux/sdapi/v1/samplers", "/sdapi/v1/samplers"), ("POST", "/txt2img", "/sdapi/v1/txt2img"), ("GET", "/flux/v1/models/a", "/v1/models/a")):
        error_of(s.call(method, path, {} if method == "POST" else None), 404, "not_found_error", "there is nothing at %s; did you mean %s\\?$" % (path, meant))
    for path in ("/v1/chat/completions", "/favicon.ico", "/s", "/api/jobs/0/events/0", "/" + "v1/" * 90 + "models", "/x/"):
        check("did you mean" not in s.call("GET", path)[1]["error"]["message"], "nothing is near %s" % path[:30])


def compressed(s):
    """A body that is compressed is not read, and the client hears why."""
    body = gzip.compress(json.dumps(SHORT).encode())
    for path, kind in (("/v1/images/generations", "application/json"), ("/sdapi/v1/txt2img", "application/json"), ("/api/png-info", "image/png")):
        error_of(s.call("POST", path, body, {"Content-Type": kind, "Content-Encoding": "gzip"}), 415, "invalid_request_error", "compressed .Content-Encoding: gzip.: send it as it is")
    status, job = s.call("POST", "/api/jobs", SHORT, {"Content-Encoding": "identity"})
    check(status == 202 and s.until(job["id"], ["done"]), "identity is no coding")


def own_jobs(s):
    status, j = s.call("POST", "/api/jobs", dict(SHORT, height=50, count=2, preview_every=1, guidance=3, odd=1))
    check(status == 202 and j["state"] in ("queued", "running") and j["request"]["height"] == 48 and j["request"]["seed"] == "7"
          and j["request"]["guidance"] is None and len(j["notes"]) == 3, "POST /api/jobs: %s" % j)
    events = s.events(j["id"])
    names = [e[0] for e in events]
    check(names[0] == "job" and names[-1] == "end" and names.count("end") == 1, "events: %s" % names)
    end = events[-1][1]
    check(end["state"] == "done" and len(end["pictures"]) == 2 and end["pictures"][1]["seed"] == "8" and end["fraction"] == 1, "the end: %s" % end)
    check(all("request" not in e for n, e in events if n == "progress"), "progress is short")
    check(s.job(end["id"]) == end, "the history has what the end told")
    status, png = s.call("GET", end["pictures"][0]["url"], raw=True)
    check(status == 200 and len(png) == end["pictures"][0]["bytes"] and s.headers["Content-Type"] == "image/png", "the picture")
    subprocess.run([program, "generate", "-q", "--model", model, "--threads", "2", "-p", SHORT["prompt"], "-W", "64", "-H", "48", "-s", "2", "-S", "7", "-o", folder + "/cli.png"], check=True, stdout=subprocess.DEVNULL)
    check(pixels(png) == pixels(open(folder + "/cli.png", "rb").read()), "the picture is the command line's")
    facts = s.call("POST", "/api/png-info", png)[1]
    check(facts["parameters"].startswith("a red fox\nSteps: 2,") and facts["request"]["seed"] == "7" and facts["request"]["width"] == 64, "png-info: %s" % facts)
    again = s.call("POST", "/api/jobs", facts["request"])[1]
    check(again["request"]["seed"] == "7" and s.until(again["id"], ["done"])["state"] == "done", "png-info's request is one")
    damaged = open(os.path.dirname(os.path.abspath(__file__)) + "/../fuzz/corpus/picture/lost_itxt.png", "rb").read()
    facts = s.call("POST", "/api/png-info", damaged)[1]
    check(facts["problem"].startswith('its text "flux1" is damaged') and not facts["request"], "png-info of a damaged text: %s" % facts)
    error_of(s.call("POST", "/api/png-info", b"GIF89a no picture"), 400, "invalid_request_error", "the picture: ")
    first = s.call("GET", "/api/jobs?limit=1")[1]
    rest = s.call("GET", "/api/jobs?limit=9&before=" + first["jobs"][0]["id"])[1]
    check(first["more"] and first["jobs"][0]["id"] == again["id"] and rest["jobs"][0]["id"] == end["id"] and not rest["more"], "pages of jobs")
    check([e[0] for e in s.events(end["id"])] == ["job", "end"], "events of an ended job")
    check(s.call("DELETE", "/api/jobs/" + end["id"]) == (204, None), "DELETE of an ended job")
    check(s.call("GET", end["pictures"][0]["url"])[0] == 404 and s.call("GET", "/api/jobs/" + end["id"])[0] == 404, "it is forgotten")


def queue_and_cancel(s):
    running = s.call("POST", "/api/jobs", LONG)[1]["id"]
    s.until(running, ["running"])
    waiting = [s.call("POST", "/api/jobs", SHORT)[1] for _ in range(3)]
    check([w["position"] for w in waiting] == [1, 2, 3], "positions: %s" % [w["position"] for w in waiting])
    error_of(s.call("POST", "/api/jobs", SHORT), 429, "rate_limit_error", "3 jobs are waiting")
    check(s.headers["Retry-After"] is not None, "Retry-After")
    status, j = s.call("DELETE", "/api/jobs/" + waiting[0]["id"])
    check(status == 200 and j["state"] == "cancelled" and s.job(waiting[1]["id"])["position"] == 1, "cancel of a waiting job: %s" % j)
    began = time.monotonic()
    s.call("DELETE", "/api/jobs/" + running)
    check(s.until(running, ["cancelled"])["state"] == "cancelled" and time.monotonic() - began < 5, "cancel of the running job")
    for w in waiting[1:]:
        check(s.until(w["id"], ["done"])["state"] == "done", "the queue goes on")


def hang_ups(s):
    for stream in (False, True):
        c = s.connect(post(dict(LONG, stream=stream), "/v1/images/generations"))
        until = time.monotonic() + 30
        while time.monotonic() < until:
            now = s.call("GET", "/api/jobs?limit=1")[1]["jobs"][0]
            if now["state"] == "running":
                break
            time.sleep(0.02)
        c.close()
        check(s.until(now["id"], ["cancelled"], 10)["state"] == "cancelled", "a client that hangs up cancels its job (stream %s)" % stream)
    # one that closes only its own side of the connection hears of it
    c = s.connect(post(LONG, "/v1/images/generations"))
    c.shutdown(socket.SHUT_WR)
    said = b"".join(iter(lambda: c.recv(65536), b""))
    check(b" 503 " in said and b"the job was cancelled, as the client has closed its side" in said, "a client that half-closes: %s" % said)
    # watching is not asking: the job goes on
    job_id = s.call("POST", "/api/jobs", dict(LONG, steps=150))[1]["id"]
    c = s.connect("GET /api/jobs/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % job_id)
    c.recv(100)
    c.close()
    check(s.until(job_id, ["done"])["state"] == "done", "a client that watches may leave")


def openai(s):
    status, a = s.call("POST", "/v1/images/generations", {"model": "gpt-image-1", "prompt": "a red fox", "n": 2, "size": "64x48", "seed": 7, "steps": 2, "style": "vivid"})
    png = base64.b64decode(a["data"][0]["b64_json"])
    check(status == 200 and len(a["data"]) == 2 and pixels(png) == pixels(open(folder + "/cli.png", "rb").read()), "generations")
    check(a["usage"]["output_tokens"] == 2 * 4 * 3 and a["usage"]["total_tokens"] == 256 + 2 * 4 * 3, "of two pictures of 64x48: %s" % a["usage"])
    check(any("gpt-image-1" in n for n in a["flux1"]["notes"]) and any("style" in n for n in a["flux1"]["notes"]), "what was used is told: %s" % a["flux1"]["notes"])
    status, a = s.call("POST", "/v1/images/generations", {"prompt": "x", "size": "auto", "response_format": "url", "output_format": "jpeg", "output_compression": 0})
    url = a["data"][0]["url"]
    status, jpeg = s.call("GET", url.split(str(s.port), 1)[1], raw=True)
    check(url.startswith("http://127.0.0.1:%d/" % s.port) and jpeg[:2] == b"\xff\xd8", "url: %s" % url)
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=120)
    c.request("POST", "/v1/images/generations", json.dumps({"prompt": "x", "size": "64x64", "steps": 4, "stream": True, "partial_images": 3}))
    events = parse_events(c.getresponse().read().decode())
    partial = [e for n, e in events if n == "image_generation.partial_image"]
    check(events[-1][0] == "image_generation.completed" and events[-1][1]["type"] == events[-1][0] and all(0 <= p["partial_image_index"] < 3 for p in partial)
          and pixels(base64.b64decode(events[-1][1]["b64_json"]))[0] == (64, 64), "stream: %s" % [e[0] for e in events])
    usage = {"input_tokens": 256, "input_tokens_details": {"text_tokens": 256, "image_tokens": 0}, "output_tokens": 16, "total_tokens": 272}
    check(events[-1][1]["usage"] == usage, "64x64 are 4 times 4 tokens, and the model's text has 256: %s" % events[-1][1]["usage"])
    models = s.call("GET", "/v1/models")[1]
    check(models["data"][0]["id"] == "schnell" and s.call("GET", "/v1/models/schnell")[0] == 200 and s.call("GET", "/v1/models/x")[0] == 404, "models")
    for body, words in (({"prompt": "x", "model": "sdxl"}, "schnell"), ({"prompt": "x", "size": "big"}, "size"), ({"prompt": "x", "size": " +64x 64"}, "size"), ({"prompt": "x", "size": "64x64x"}, "size"),
                        ({"prompt": "x", "size": "4294967360x64"}, "size"), ({"prompt": "x", "n": 11}, "n"),
                        ({"prompt": "x", "response_format": 3}, "response_format"), ({"prompt": "x", "stream": "yes"}, "stream")):
        error_of(s.call("POST", "/v1/images/generations", body), 400, "invalid_request_error", words)
    before = s.peak()
    error_of(s.call("POST", "/v1/images/edits", bytes(60 << 20)), 400, "invalid_request_error", "^/v1/images/edits is not served: .*from text alone .POST /v1/images/generations")
    check(s.peak() - before < 20 << 10, "a body that nobody reads is not held: %d kB" % (s.peak() - before))
    error_of(s.call("POST", "/v1/images/edits", b"--x", {"Content-Type": "multipart/form-data; boundary=x"}), 400, "invalid_request_error", "from text alone")


def lost_pictures(s, jobs):
    """A picture that is gone when the answer is made is an error, and one that cannot be opened is not "there is none"."""
    for path, body in (("/v1/images/generations", {"n": 2}), ("/sdapi/v1/txt2img", {"batch_size": 2})):
        answers, before = [], set(os.listdir(jobs + "/pictures"))
        thread = threading.Thread(target=lambda: answers.append(s.call("POST", path, dict(LONG, steps=150, **body))))
        thread.start()
        while not (new := [n for n in set(os.listdir(jobs + "/pictures")) - before if n.endswith("-1.png")]):
            time.sleep(0.005)
        os.unlink(jobs + "/pictures/" + new[0])  # the second one is being made
        thread.join()
        error_of(answers[0], 500, "server_error", "cannot be read")
    name = s.until(s.call("POST", "/api/jobs", SHORT)[1]["id"], ["done"])["pictures"][0]["url"]
    path = jobs + "/pictures/" + name.rsplit("/", 1)[1]
    os.rename(path, path + ".kept")
    os.mkdir(path)
    error_of(s.call("GET", name), 503, "unavailable_error", "cannot be opened")
    check(path in open(s.errors).read(), "the operator hears which")
    os.rmdir(path)
    error_of(s.call("GET", name), 404, "not_found_error", "no picture")
    os.rename(path + ".kept", path)


def unkept_pictures(s, jobs):
    """A picture that cannot be written is given to who waits for it, with those before it, and why there are no more."""
    def ask(path, body, parse=True):
        answers, before = [], set(os.listdir(jobs + "/pictures"))
        thread = threading.Thread(target=lambda: answers.append(s.call("POST", path, dict(LONG, steps=150, seed=7, **body), raw=not parse)))
        thread.start()
        while not (new := [n for n in set(os.listdir(jobs + "/pictures")) - before if n.endswith("-1.png")]):
            time.sleep(0.005)
        second = jobs + "/pictures/" + new[0].replace("-1.png", "-2.png")
        os.mkdir(second)
        thread.join()
        os.rmdir(second)
        return answers[0], s.job(new[0][:-6])
    def is_second(text):
        return b"Seed: 8, Size: 64x64" in base64.b64decode(text)
    (status, a), job = ask("/v1/images/generations", {"n": 4})
    check(status == 200 and len(a["data"]) == 2 and is_second(a["data"][1]["b64_json"]), "OpenAI's answer has both: %d" % status)
    why = re.compile("picture 2 of 4 cannot be kept: is a folder")
    check(why.match(a["flux1"]["error"]["message"]) and a["flux1"]["error"]["type"] == "server_error" and len(a["flux1"]["pictures"]) == 1, "and says why there are no more: %s" % a["flux1"])
    check(job["state"] == "failed" and why.match(job["error"]["message"]) and len(job["pictures"]) == 1, "the job has failed: %s" % job)
    (status, a), _ = ask("/v1/images/generations", {"n": 4, "response_format": "url"})
    check(status == 200 and len(a["data"]) == 1 and s.call("GET", "/" + a["data"][0]["url"].split("/", 3)[3], raw=True)[0] == 200, "one without a file has no address: %s" % a)
    (status, a), _ = ask("/sdapi/v1/txt2img", {"n_iter": 4})
    info = json.loads(a["info"])
    check(status == 200 and len(a["images"]) == 2 and is_second(a["images"][1]) and info["all_seeds"] == [7, 8] and why.match(info["error"]["message"]), "AUTOMATIC1111's: %d %s" % (status, info))
    (status, text), _ = ask("/v1/images/generations", {"n": 4, "stream": True}, parse=False)
    events = [(name, e) for name, e in parse_events(text.decode()) if name != "image_generation.partial_image"]
    check([name for name, _ in events] == ["image_generation.completed"] * 2 + ["error"] and is_second(events[1][1]["b64_json"]) and why.match(events[2][1]["error"]["message"]), "a stream: %s" % [n for n, _ in events])


def webui(s):
    """AUTOMATIC1111's interface, with what its clients always send."""
    sent = {"prompt": "a red fox", "negative_prompt": "", "seed": 7, "steps": 2, "width": 64, "height": 48, "cfg_scale": 7, "sampler_name": "Euler a", "scheduler": "Automatic",
            "batch_size": 1, "n_iter": 2, "restore_faces": False, "enable_hr": False, "override_settings": {"sd_model_checkpoint": "schnell [0123]"}, "alwayson_scripts": {}}
    status, a = s.call("POST", "/sdapi/v1/txt2img", sent)
    check(status == 200 and len(a["images"]) == 2 and pixels(base64.b64decode(a["images"][0])) == pixels(open(folder + "/cli.png", "rb").read()), "txt2img: %d" % status)
    for method, path in (("POST", "interrogate"), ("POST", "unload-checkpoint"), ("GET", "nothing"), ("DELETE", "nothing")):
        error_of(s.call(method, "/sdapi/v1/" + path, {} if method == "POST" else None), 404, "not_found_error", "there is nothing at /sdapi/v1/" + path)
    error_of(s.call("POST", "/sdapi/v1/samplers", {}), 405, "invalid_request_error", "it has GET")
    status, marked = s.call("POST", "/sdapi/v1/txt2img", b"\xef\xbb\xbf" + json.dumps(dict(sent, n_iter=1)).encode())
    check(status == 200 and marked["images"] == a["images"][:1], "a body with a byte order mark: %s" % (status,))
    ram = s.call("GET", "/sdapi/v1/memory")[1]["ram"]
    check(1 << 20 < ram["used"] <= s.peak() << 10 and ram["free"] > 0 and ram["total"] == ram["used"] + ram["free"], "memory: %s" % ram)
    answer = s.call("POST", "/sdapi/v1/png-info", {"image": ""})
    error_of(answer, 400, "invalid_request_error", "no picture: it is empty")
    check(answer[1]["detail"] == answer[1]["error"]["message"] and "detail" not in s.call("GET", "/nowhere")[1], "an error of AUTOMATIC1111's interface has a detail: %s" % answer[1])
    info = json.loads(a["info"])
    check(info["seed"] == 7 and info["all_seeds"] == [7, 8] and (info["width"], info["height"]) == (64, 48), "info: %s" % info)
    # the rule by which its clients read the last line (spec.md): pairs of key and value
    pairs = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', info["infotexts"][1].split("\n")[-1]))
    check(info["infotexts"][1].startswith("a red fox\n") and pairs["Seed"] == "8" and pairs["Steps"] == "2" and pairs["Size"] == "64x48", "infotexts: %s" % info["infotexts"])
    check(any("Euler a" in n for n in info["notes"]) and any("cfg_scale" in n for n in info["notes"]), "what was ignored: %s" % info["notes"])
    check(not any("not known" in n for n in info["notes"]), "what is always sent: %s" % info["notes"])
    # an empty negative prompt counts where guidance with it is asked for
    made = lambda **more: s.call("POST", "/sdapi/v1/txt2img", dict(sent, n_iter=1, **more))[1]
    guided = made(true_cfg_scale=4, odd=1)
    subprocess.run([program, "generate", "-q", "--model", model, "--threads", "2", "-p", "a red fox", "--negative-prompt", "", "--true-cfg-scale", "4", "-W", "64", "-H", "48",
                    "-s", "2", "-S", "7", "-o", folder + "/guided.png"], check=True, stdout=subprocess.DEVNULL)
    check(pixels(base64.b64decode(guided["images"][0])) == pixels(open(folder + "/guided.png", "rb").read()) != pixels(base64.b64decode(a["images"][0])), "an empty negative prompt")
    check(any('"odd" is not known' in n for n in json.loads(guided["info"])["notes"]), "an unknown field of txt2img is told")
    facts = s.call("POST", "/sdapi/v1/png-info", {"image": "data:image/png;base64," + a["images"][0]})[1]
    check(facts["info"] == info["infotexts"][0] and facts["items"]["parameters"] == facts["info"], "png-info: %s" % facts)
    names = {p: s.call("GET", "/sdapi/v1/" + p) for p in ("options", "sd-models", "samplers", "schedulers", "loras", "upscalers", "latent-upscale-modes", "sd-vae", "sd-modules", "scripts", "progress")}
    check(all(status == 200 for status, _ in names.values()) and names["sd-models"][1][0]["title"] == names["options"][1]["sd_model_checkpoint"] == "schnell"
          and names["samplers"][1][0]["name"] == "Euler" and names["progress"][1]["current_image"] is None, "lists: %s" % names)
    check(s.call("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "schnell", "other": 1})[0] == 200, "options")
    error_of(s.call("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "sdxl"}), 400, "invalid_request_error", "there is schnell")
    error_of(s.call("POST", "/sdapi/v1/options", {"sd_model_checkpoint": {}}), 400, "invalid_request_error", "must be a string")
    error_of(s.call("POST", "/sdapi/v1/txt2img", dict(sent, override_settings={"sd_model_checkpoint": 3})), 400, "invalid_request_error", "must be a string")
    check(not any("scheduler" in n or "tiling" in n for n in info["notes"]), "what is off is not told: %s" % info["notes"])
    notes = json.loads(made(scheduler="Karras", tiling=True, restore_faces=True, subseed=5, subseed_strength=0.3, alwayson_scripts={"ControlNet": {"args": []}}, override_settings={"eta_noise_seed_delta": 1})["info"])["notes"]
    check(all(any(word in n for n in notes) for word in ('scheduler "Karras"', "tiling", "restore_faces", "subseed_strength", '"ControlNet"', "eta_noise_seed_delta")), "what was ignored is told: %s" % notes)
    for body, word in (({"script_name": "x/y/z plot"}, '"x/y/z plot"'), ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True}]}}}, '"ControlNet"')):
        error_of(s.call("POST", "/sdapi/v1/txt2img", dict(sent, **body)), 422, "invalid_request_error", word)
    for body, words in (({"prompt": "a <lora:x:0.5>"}, "no folder of adapters"), ({"prompt": "a <lora:x:y>"}, "NAME:SCALE"), ({"prompt": "a", "batch_size": 50, "n_iter": 50}, "at most"),
                        ({"prompt": "a", "override_settings": {"sd_model_checkpoint": "sdxl"}}, "there is schnell")):
        error_of(s.call("POST", "/sdapi/v1/txt2img", body), 400, "invalid_request_error", words)
    error_of(s.call("POST", "/sdapi/v1/img2img", {}), 400, "invalid_request_error", "^/sdapi/v1/img2img is not served: .*from text alone .POST /sdapi/v1/txt2img")
    error_of(s.call("POST", "/sdapi/v1/png-info", {"image": "***"}), 400, "invalid_request_error", "base64")
    error_of(s.call("GET", "/sdapi/v1/nothing"), 404, "not_found_error", "nothing")
    status, kept = s.call("POST", "/sdapi/v1/txt2img", dict(sent, send_images=False, save_images=True))
    kept_info = json.loads(kept["info"])
    check(status == 200 and kept["images"] == [] and kept_info["infotexts"] == info["infotexts"] and [p["seed"] for p in s.job(kept_info["job"])["pictures"]] == ["7", "8"],
          "an answer without pictures: %s" % kept)
    # progress with a picture, and the interrupt
    answers = []
    thread = threading.Thread(target=lambda: answers.append(s.call("POST", "/sdapi/v1/txt2img", dict(sent, steps=10000))))
    thread.start()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        now = s.call("GET", "/sdapi/v1/progress")[1]
        if now["current_image"]:
            break
        time.sleep(0.02)
    check(now["state"]["sampling_steps"] == 10000 and now["state"]["job_count"] == 2 and 0 < now["progress"] < 1, "progress: %s" % now["state"])
    check(all(s.call("GET", "/sdapi/v1/progress?skip_current_image=" + yes)[1]["current_image"] is None for yes in ("true", "True", "1")), "skip_current_image")
    s.call("POST", "/sdapi/v1/interrupt")
    thread.join()
    error_of(answers[0], 503, "unavailable_error", "cancelled")
    webui_ends(s, sent)


def webui_ends(s, sent):
    """The interrupt ends a job, which gives what is finished; the skip ends a picture, and the job goes on."""
    state = lambda: s.call("GET", "/sdapi/v1/progress")[1]["state"]

    def end(name, when, **more):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(s.call("POST", "/sdapi/v1/txt2img", dict(sent, **more))))
        thread.start()
        until = time.monotonic() + 60
        while not when(state()) and time.monotonic() < until:
            time.sleep(0.005)
        check(s.call("POST", "/sdapi/v1/" + name, {}) == (200, {}), name)
        after = state()
        thread.join()
        return answers[0], after

    (status, a), after = end("interrupt", lambda now: now["job_no"] == 1, steps=600, n_iter=6)
    info = json.loads(a["info"]) if status == 200 else {}
    count = len(a.get("images", []))  # 1, unless the machine has kept us from asking in time
    check(status == 200 and 1 <= count < 6 and len(info["infotexts"]) == count and info["all_seeds"] == list(range(7, 7 + count))
          and "cancelled when %d of 6 pictures were finished" % count in info["notes"],
          "an interrupt gives what is finished: %d %s" % (status, info))
    check(after["interrupted"] and state()["interrupted"] and not state()["skipped"], "progress tells of the interrupt: %s" % after)
    (status, a), after = end("skip", lambda now: now["sampling_step"] > 0 and now["sampling_steps"] == 300, steps=300, n_iter=3)
    info = json.loads(a["info"])
    skipped = [int(n.split()[1]) for n in info["notes"] if n.endswith("of 3 was skipped")]  # the first, unless the machine has kept us from asking in time
    check(status == 200 and len(skipped) == 1 and info["all_seeds"] == [seed for seed in (7, 8, 9) if seed != 6 + skipped[0]] and len(a["images"]) == 2, "a skip: %s" % info)
    check(info["seed"] == info["all_seeds"][0], "the seed is the first picture's: %s" % info)
    alone = s.call("POST", "/sdapi/v1/txt2img", dict(sent, steps=300, n_iter=1, seed=info["all_seeds"][-1]))[1]
    check(pixels(base64.b64decode(a["images"][-1])) == pixels(base64.b64decode(alone["images"][0])), "a picture beside a skipped one")
    answer, _ = end("skip", lambda now: now["sampling_step"] > 0 and now["sampling_steps"] == 10000, steps=10000, n_iter=1)
    error_of(answer, 503, "unavailable_error", "skipped")
    s.call("POST", "/sdapi/v1/skip", {})
    check(not state()["skipped"] and s.call("POST", "/sdapi/v1/txt2img", dict(sent, n_iter=1))[0] == 200, "a skip where nothing runs is none")


def info_when_examined(s, model=""):
    """/api/info, when the server knows of each LoRA whether the model can have it."""
    while True:
        info = s.call("GET", "/api/info?model=" + model)[1]
        check(all(l["examined"] or l["refused"] is None for l in info["loras"]), "nothing is said of what is not known: %s" % info["loras"])
        if all(l["examined"] for l in info["loras"]):
            return info
        time.sleep(0.01)


def loras():
    names, models = folder + "/loras", folder + "/beside_loras"
    os.makedirs(names)
    os.makedirs(models)
    s = Server("--port", "0", "--loras", names + "/", "--models", models, "--allow-host", "a_b-c.example,*")
    check(s.call("GET", "/health", headers={"Host": "any.example"})[0] == 200, "--allow-host with *")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "lora": "one"}), 400, "invalid_request_error", "there is none at all")
    os.symlink(adapter, names + "/one.safetensors")  # while it runs
    open(names + "/broken.safetensors", "w").write("x")
    listed = lambda: [(l["name"], l["refused"]) for l in info_when_examined(s)["loras"]]
    (broken, why), one = listed()
    check(broken == "broken" and why.startswith("broken.safetensors: ") and one == ("one", None), "the folder is read again, and who is refused is told why: %s" % why)
    check([l["name"] for l in s.call("GET", "/sdapi/v1/loras")[1]] == ["one"], "web UI's loras")
    for name in ("two", "../loras/one", "/etc/passwd", "one/", "", "..", "."):
        error_of(s.call("POST", "/api/jobs", {"prompt": "a", "lora": [{"name": name}]}), 400, "invalid_request_error", "lora")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "lora": "broken:0.5"}), 400, "invalid_request_error", "broken")
    plain = s.call("POST", "/v1/images/generations", SHORT)[1]["data"][0]["b64_json"]
    with_lora = [s.call("POST", path, body)[1] for path, body in (("/v1/images/generations", dict(SHORT, lora=[{"name": "one", "scale": 2}])),
                                                                  ("/sdapi/v1/txt2img", dict(SHORT, prompt="<lora:one:2>a red fox")))]
    check(all(folder.encode() not in base64.b64decode(p) for p in (with_lora[0]["data"][0]["b64_json"], with_lora[1]["images"][0])), "a picture tells no folder of the server's")
    facts = s.call("POST", "/api/png-info", base64.b64decode(with_lora[0]["data"][0]["b64_json"]))[1]["request"]
    check(facts["lora"] == [{"name": "one", "scale": 2}], "a picture tells which adapter it has: %s" % facts)
    told = json.loads(with_lora[1]["info"])
    check(told["prompt"] == told["all_prompts"][0] == "<lora:one:2>a red fox" and told["infotexts"][0].startswith("<lora:one:2>a red fox\nSteps: 2,"), "the prompt is told with its tags: %s" % told)
    info = s.call("POST", "/sdapi/v1/png-info", {"image": with_lora[1]["images"][0]})[1]
    check(info["info"] == told["infotexts"][0] and info["parameters"]["prompt"] == "a red fox" and info["parameters"]["lora"] == [{"name": "one", "scale": 2}], "the picture has its tags: %s" % info)
    info = s.call("POST", "/sdapi/v1/png-info", {"image": with_lora[0]["data"][0]["b64_json"]})[1]["info"]
    check(info.startswith("a red fox <lora:one:2>\nSteps: 2,"), "the picture of another interface has a tag, too: %s" % info)
    pictures = [pixels(base64.b64decode(p)) for p in (plain, with_lora[0]["data"][0]["b64_json"], with_lora[1]["images"][0])]
    os.unlink(names + "/one.safetensors")
    open(names + "/one.safetensors", "w").write("x")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "lora": "one"}), 400, "invalid_request_error", "one")
    check(listed()[1][1], "a file that has changed is looked at again")
    check(pictures[0] != pictures[1] and pictures[1] == pictures[2], "an adapter changes the picture, however it is named")
    os.rename(names, names + ".away")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "lora": "one"}), 503, "unavailable_error", "adapters of this server cannot be listed now")
    check(s.call("GET", "/sdapi/v1/loras")[1] == [], "no adapter can be listed")
    os.rmdir(models)
    for _ in range(3):
        s.call("GET", "/api/info")
    told = [open(s.errors).read().count("can be used: %s: cannot list" % path) for path in (names + "/", models)]
    check(told == [1, 1], "the operator is told of each folder, once a minute: %s" % open(s.errors).read())
    s.stop()


def value_of(s, name):
    return int(re.search("^flux1_%s (\\d+)$" % name, s.call("GET", "/metrics", raw=True)[1].decode(), re.M).group(1))


def other_models():
    """--models: pipelines of a folder by their names, in all interfaces; one of them is open at a time."""
    pipelines, names = os.path.dirname(os.path.abspath(model)), folder + "/models"
    os.makedirs(names + "/empty")
    os.symlink(pipelines + "/dev", names + "/dev")
    os.symlink(pipelines + "/schnell", names + "/other")
    os.makedirs(names + "/broken")
    open(names + "/broken/model_index.json", "w").write("{")
    open(names + "/file", "w").write("x")
    s = Server("--port", "0", "--models", names, "--loras", os.path.dirname(os.path.abspath(adapter)))
    s.description = Description(s.call("GET", "/openapi.json")[1])
    every = ["schnell", "broken", "dev", "other"]
    check([m["id"] for m in s.call("GET", "/v1/models")[1]["data"]] == every == s.call("GET", "/api/info")[1]["models"], "models are listed")
    check([m["title"] for m in s.call("GET", "/sdapi/v1/sd-models")[1]] == every and s.call("GET", "/v1/models/DEV")[1]["id"] == "dev", "checkpoints are listed")
    os.makedirs(names + "/gone")
    open(names + "/gone/model_index.json", "w").write(open(model + "/model_index.json").read())
    os.symlink(names + "/nowhere", names + "/gone/transformer")
    status, refused_model = s.call("POST", "/api/jobs", {"prompt": "a", "model": "gone"})
    check(status in (400, 503) and re.fullmatch('the model "gone" cannot be opened: [a-z ]+', refused_model["error"]["message"]) and names + "/gone" in open(s.errors).read(), "a link that leads nowhere: %s" % refused_model)
    shutil.rmtree(names + "/gone")
    info = info_when_examined(s, "Dev")
    check(info["model"]["name"] == "dev" and info["model"]["variant"] == "dev" and info["defaults"]["guidance"] == 3.5 and info["models"] == every, "what another model is: %s" % info)
    refused = lambda facts: {l["name"]: l["refused"] for l in facts["loras"]}
    of_schnell = refused(info_when_examined(s))
    check(refused(info)["kohya"].endswith("the LoRA was made for another model") and of_schnell["kohya"] is None, "adapters by model: %s, %s" % (refused(info), of_schnell))
    check("kohya" in [l["name"] for l in s.call("GET", "/sdapi/v1/loras")[1]], "web UI's loras of the usual model")
    error_of(s.call("GET", "/api/info?model=broken"), 400, "invalid_request_error", '"broken" cannot be opened')
    error_of(s.call("GET", "/api/info?model=../dev"), 400, "invalid_request_error", "there is schnell, broken, dev, other")
    def made(model, **more):
        status, a = s.call("POST", "/v1/images/generations", dict(SHORT, model=model, **more))
        check(status == 200 and a["flux1"]["model"] == a["flux1"]["request"]["model"], "%s: %s" % (model, a))
        return pixels(base64.b64decode(a["data"][0]["b64_json"])), a["flux1"]["request"]
    def alone(model):
        path = "%s/alone-%s.png" % (folder, model)
        subprocess.run([program, "generate", "--model", pipelines + "/" + model, "--prompt", SHORT["prompt"], "--width", "64", "--height", "48", "--steps", "2", "--seed", "7", "-o", path],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        return pixels(open(path, "rb").read())
    schnell, (dev, used) = made("schnell")[0], made("dev")
    check(dev == alone("dev") and schnell == alone("schnell") == made("Other")[0] == made("gpt-image-1")[0] and used["guidance"] is not None, "each makes its own picture, by its own defaults")
    maps = open("/proc/%d/maps" % s.process.pid).read()
    check(pipelines + "/dev/" not in maps, "the one before is closed")
    # in a queue of several, with an adapter that is opened for each of them
    bodies = [dict(SHORT, model=m, lora=l) for m, l in (("dev", None), ("other", None), ("other", "kohya:2"), (None, None), ("schnell", "kohya:2"), ("dev", None), ("other", None))]
    s.call("POST", "/api/jobs", dict(SHORT, steps=100))
    ids = [s.call("POST", "/api/jobs", b)[1]["id"] for b in bodies]
    s.call("DELETE", "/api/jobs/" + ids[-1])
    jobs = [s.until(i, ["done", "cancelled"]) for i in ids]
    check([j["request"]["model"] for j in jobs] == ["dev", "other", "other", "schnell", "schnell", "dev", "other"] and jobs[-1]["state"] == "cancelled", "jobs name their models")
    shown = [pixels(s.call("GET", j["pictures"][0]["url"], raw=True)[1]) for j in jobs[:6]]
    check(shown[0] == shown[5] == dev and shown[1] == shown[3] == schnell and shown[2] == shown[4] != schnell, "pictures of a queue of several models")
    # AUTOMATIC1111's clients: for one request, or for all that follow
    sent = {"prompt": SHORT["prompt"], "steps": 2, "width": 64, "height": 48, "seed": 7}
    webui_pixels = lambda body: pixels(base64.b64decode(s.call("POST", "/sdapi/v1/txt2img", body)[1]["images"][0]))
    check(webui_pixels(dict(sent, override_settings={"sd_model_checkpoint": "dev [0123]"})) == dev and webui_pixels(sent) == schnell, "override_settings")
    refuses = lambda name: s.call("POST", "/api/jobs", {"prompt": "a", "model": "dev", "lora": name})[0] == 400
    check(all(refuses(name) == bool(why) for name, why in refused(info).items()), "what is said to be refused is refused, and nothing else: %s" % refused(info))
    info_when_examined(s, "dev")
    check(s.call("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "DEV"})[0] == 200 and "kohya" not in [l["name"] for l in s.call("GET", "/sdapi/v1/loras")[1]] and s.call("GET", "/sdapi/v1/options")[1]["sd_model_checkpoint"] == "dev"
          and webui_pixels(sent) == dev, "options choose")
    for name in ("nothing", "..", ".", "../models/dev", "dev/", pipelines + "/dev", "empty", "file", "de"):
        error_of(s.call("POST", "/api/jobs", {"prompt": "a", "model": name}), 400, "invalid_request_error", "there is schnell, broken, dev, other")
        error_of(s.call("POST", "/v1/images/generations", {"prompt": "a", "model": name}), 400, "invalid_request_error", "there is schnell, broken, dev, other")
    error_of(s.call("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "sdxl"}), 400, "invalid_request_error", "there is schnell, broken, dev, other")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "model": "dev", "lora": "kohya"}), 400, "invalid_request_error", "made for another model")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "model": 3}), 400, "invalid_request_error", "model")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "model": "broken"}), 400, "invalid_request_error", '"broken" cannot be opened')
    os.rename(names, names + ".away")
    error_of(s.call("POST", "/api/jobs", {"prompt": "a", "model": "dev"}), 503, "unavailable_error", "models of this server cannot be listed now")
    error_of(s.call("GET", "/v1/models/dev"), 503, "unavailable_error", "cannot be listed")
    check([m["id"] for m in s.call("GET", "/v1/models")[1]["data"]] == ["schnell"] and "no model of --models can be used: %s: cannot list" % names in open(s.errors).read(), "the operator is told of the folder")
    os.rename(names + ".away", names)
    check(s.stop() == 0, "a stop with a model of the folder open")


def named_in_cache():
    """A model of Hugging Face's cache is told, and asked for, by a name with a slash."""
    snapshot = folder + "/hub/models--org--tiny/snapshots/0123456789abcdef0123456789abcdef01234567"
    os.makedirs(os.path.dirname(snapshot))
    os.makedirs(folder + "/hub/models--org--tiny/refs")
    open(folder + "/hub/models--org--tiny/refs/main", "w").write(os.path.basename(snapshot))
    os.symlink(os.path.abspath(model), snapshot)
    os.environ["HF_HUB_CACHE"] = folder + "/hub"
    s = Server("--port", "0", model="org/tiny")
    del os.environ["HF_HUB_CACHE"]
    check([m["id"] for m in s.call("GET", "/v1/models")[1]["data"]] == ["org/tiny"], "the name in the cache")
    for path in ("org/tiny", "org%2Ftiny", "tiny"):
        check(s.call("GET", "/v1/models/" + path)[1].get("id") == "org/tiny", "/v1/models/" + path)
    error_of(s.call("GET", "/v1/models/other/tiny"), 404, "not_found_error", "there is no model \"other/tiny\"")
    check(s.call("POST", "/v1/images/generations", dict(SHORT, model="org/tiny"))[0] == 200, "a picture by that name")
    s.stop()


def cut_files():
    """A file of weights that becomes shorter while it is served fails the job that needs it, and nothing else; when it is whole again, so is the model."""
    copy = folder + "/cut"
    shutil.copytree(model, copy)
    file = copy + "/transformer/diffusion_pytorch_model.safetensors"
    whole = open(file, "rb").read()
    os.symlink(copy, folder + "/models/cut-too")
    s = Server("--port", "0", "--queue", "8", "--models", folder + "/models", "--loras", os.path.dirname(os.path.abspath(adapter)), model=copy)
    draw = lambda name: s.call("POST", "/v1/images/generations", dict(SHORT, model=name))
    expected = draw("other")[1]["data"][0]["b64_json"]

    def cut(name):
        os.truncate(file, len(whole) // 2)
        error_of(draw(name), 500, "server_error", 'no picture can be made with the model "%s": .*became shorter' % name)
        check(file in open(s.errors).read(), "the operator hears which file")
        check(s.call("GET", "/health")[0] == 200 and s.call("GET", "/api/info")[0] == 200, "the server goes on")
        error_of(draw(name), *((503, "unavailable_error") if name == "cut" else (400, "invalid_request_error")), '"%s" cannot be opened' % name)
        check(draw("other")[0] == 200 and s.call("GET", "/api/info")[0] == 200, "other models do not mind, nor what the server says of itself")

    def behind_a_failure(name, whole_again):
        """Jobs that wait when another one finds the model unreadable: they get it as it is opened anew."""
        first, second = (dict(SHORT, model=name, prompt=text, width=size) for text, size in (("fails", 64), ("a red fox", 64)))
        job = lambda body: s.call("POST", "/api/jobs", body)[1]["id"]
        blocker, fails, between = job(dict(LONG, model="other")), job(first), job(dict(LONG, model="other", width=80))
        waiting = [job(body) for body in (second, dict(second, lora="kohya:2"), dict(second, lora="kohya:2", seed=8))]
        os.truncate(file, len(whole) // 2)
        s.call("DELETE", "/api/jobs/" + blocker)
        check(s.until(fails, ["failed", "done"])["state"] == "failed", "the one that finds it fails")
        if whole_again:
            open(file, "r+b").write(whole)
        s.until(between, ["running"])
        s.call("DELETE", "/api/jobs/" + between)
        return [s.until(i, ["done", "failed"]) for i in waiting]

    try:
        again = behind_a_failure("cut", True)
        check([j["state"] for j in again] == ["done"] * 3, "jobs that waited for a model that is whole again: %s" % [j["error"] for j in again])
        if again[1]["state"] == "done":
            shown = [pixels(s.call("GET", j["pictures"][0]["url"], raw=True)[1]) for j in again]
            status, answer = s.call("POST", "/v1/images/generations", dict(SHORT, model="other", lora="kohya:2"))
            check(shown[0] == pixels(base64.b64decode(expected)) != shown[1] == pixels(base64.b64decode(answer["data"][0]["b64_json"])), "their pictures, adapters included")
        failed = behind_a_failure("cut-too", False)
        check([(j["state"], j["error"]["type"]) for j in failed] == [("failed", "server_error")] * 3 and all('"cut-too" cannot be opened' in j["error"]["message"] for j in failed), "the model still cannot be read: %s" % failed)
        open(file, "r+b").write(whole)
        for name in ("cut", "cut-too", "cut"):  # the served one; one of the folder; the served one that was opened anew
            check(draw(name)[0] == 200, "a model is opened")
            cut(name)
            open(file, "r+b").write(whole)
            status, answer = draw(name)
            check(status == 200 and pixels(base64.b64decode(answer["data"][0]["b64_json"])) == pixels(base64.b64decode(expected)), "%s is whole again: %d %s" % (name, status, answer if status != 200 else ""))
    except OSError as e:
        check(False, "no answer (%s), exit status %s" % (e, s.process.wait(60)))
        return
    check(s.stop() == 0, "a stop with a model that was opened anew")


def ahead():
    """With a device for the encoders, the next job's prompt is encoded while one is denoised."""
    names = folder + "/ahead_loras"
    os.makedirs(names)
    os.symlink(adapter, names + "/one.safetensors")
    s = Server("--port", "0", "--encoder-device", "host", "--loras", names, "--batch", "4")
    def behind(*bodies):
        first = s.call("POST", "/api/jobs", dict(LONG, steps=150))[1]["id"]
        s.until(first, ["running"])
        rest = [s.call("POST", "/api/jobs", b)[1]["id"] for b in bodies]
        return first, rest
    with_lora = dict(SHORT, lora="one:2", negative_prompt="a dog", true_cfg_scale=2)
    alone = [s.until(s.call("POST", "/api/jobs", b)[1]["id"], ["done"])["pictures"][0]["url"] for b in (SHORT, with_lora)]
    check(value_of(s, "prompts_encoded_ahead_total") == 0, "nothing waited")
    for count, body in enumerate((SHORT, with_lora)):
        _, (second,) = behind(body)
        url = s.until(second, ["done"])["pictures"][0]["url"]
        check(value_of(s, "prompts_encoded_ahead_total") == count + 1, "a prompt was encoded ahead")
        check(pixels(s.call("GET", url, raw=True)[1]) == pixels(s.call("GET", alone[count], raw=True)[1]), "the picture is the same")
    # the first of those that run together has the text that was encoded ahead, the others their own
    count = value_of(s, "prompts_encoded_ahead_total")
    bodies = [dict(SHORT, prompt=text) for text in ("a green car", "two cats", "a castle")]
    first, waiting = behind(*bodies)
    together = [s.until(i, ["done"])["pictures"][0]["url"] for i in waiting]
    one_by_one = [s.until(s.call("POST", "/api/jobs", b)[1]["id"], ["done"])["pictures"][0]["url"] for b in bodies]
    check([pixels(s.call("GET", url, raw=True)[1]) for url in together] == [pixels(s.call("GET", url, raw=True)[1]) for url in one_by_one]
          and value_of(s, "prompts_encoded_ahead_total") == count + 1 and value_of(s, "jobs_together_total") == 3, "encoded ahead, and together: %s, %s" % (value_of(s, "prompts_encoded_ahead_total") - count, value_of(s, "jobs_together_total")))
    # the job whose prompt is encoded is cancelled; the one behind it is not its heir
    first, (second, third) = behind(dict(with_lora, prompt="a blue bird"), SHORT)
    time.sleep(0.1)
    s.call("DELETE", "/api/jobs/" + second)
    s.call("DELETE", "/api/jobs/" + first)
    url = s.until(third, ["done"])["pictures"][0]["url"]
    check(pixels(s.call("GET", url, raw=True)[1]) == pixels(s.call("GET", alone[0], raw=True)[1]), "another job's text is not used")
    check(s.job(second)["state"] == "cancelled", "the cancelled one")
    behind(with_lora)
    check(s.stop() == 0, "a stop while one is encoded ahead")


def workers():
    """A job each at a time on several devices; what else waits goes to the one that is done first."""
    s = Server("--port", "0", "--workers", "cpu,cpu", "--max-pixels", "5000", "--drain", "0")
    one = s.call("POST", "/v1/images/generations", dict(SHORT, seed=7))[1]["data"][0]["b64_json"]
    long = [s.call("POST", "/api/jobs", dict(LONG, prompt="number %d" % i))[1]["id"] for i in range(2)]
    for job_id in long:
        s.until(job_id, ["running"])
    check(value_of(s, "jobs_running") == 2, "two jobs run")
    waiting = s.call("POST", "/api/jobs", SHORT)[1]
    check(waiting["position"] == 1 and s.job(waiting["id"])["state"] == "queued", "the third waits: %s" % waiting)
    s.call("DELETE", "/api/jobs/" + long[1])
    check(s.until(waiting["id"], ["done"])["pictures"][0]["seed"] == "7", "it goes to the one that is free")
    check(s.until(long[1], ["cancelled"])["state"] == "cancelled" and s.job(long[0])["state"] == "running", "the other one goes on")
    picture = s.call("GET", s.job(waiting["id"])["pictures"][0]["url"], raw=True)[1]
    check(pixels(picture) == pixels(base64.b64decode(one)), "both draw the same picture")
    error_of(s.call("POST", "/api/jobs", dict(SHORT, width=80, height=64)), 400, "invalid_request_error", "80x64 has 5120 pixels.*--max-pixels")
    again = s.call("POST", "/api/jobs", LONG)[1]["id"]
    s.until(again, ["running"])
    began = time.monotonic()
    check(s.stop() == 0 and time.monotonic() - began < 10, "--drain 0 ends both")
    s = Server("--port", "0", "--workers", "cpu,cpu", "--max-memory", "120M")
    refusal = s.call("POST", "/api/jobs", dict(SHORT, width=4096, height=4096))
    error_of(refusal, 400, "invalid_request_error", "max_memory")
    text = refusal[1]["error"]["message"]
    limit = re.search(r"more than the ([0-9.]+) MiB", text)
    check("program" not in text and "opened model" not in text, "what the process has is in no worker's share: %s" % text)
    check(limit and float(limit.group(1)) < 60 - 2, "it is taken off the limit once: %s" % text)
    check(s.stop() == 0, "a server with a limit stops")
    for names, words in (("cpu,,cpu", "a name is missing"), ("cpu,nothing", 'device "nothing".*\(--workers\)'),
                         ("ttnn:wh-n300,ttnn:wh-n300", "--workers: .* beside .*one mesh"), ("ttnn:wh-n300,ttnn:wh-1x4", "--workers: .* beside .*one mesh")):
        r = subprocess.run([program, "serve", "--model", model, "--port", "0", "--workers", names], stderr=subprocess.PIPE, text=True, timeout=60)
        check(r.returncode in (1, 2) and re.search(words, r.stderr), "--workers %s: %d %s" % (names, r.returncode, r.stderr))


def together(jobs):
    """Waiting jobs of one kind are computed together; each is still its own."""
    s = Server("--port", "0", "--queue", "30", "--batch", "6", "--jobs", jobs)
    made = {}
    for seed in range(6):
        path = "%s/alone%d.png" % (folder, seed)
        subprocess.run([program, "generate", "-q", "--model", model, "--threads", "2", "-p", "number %d" % seed, "-W", "64", "-H", "48", "-s", "60", "-S", str(seed), "-o", path],
                       check=True, stdout=subprocess.DEVNULL)
        made[seed] = pixels(open(path, "rb").read())
    body = lambda seed, **more: dict({"prompt": "number %d" % seed, "width": 64, "height": 48, "steps": 60, "seed": seed}, **more)
    file_of = lambda j, i=0: s.call("GET", j["pictures"][i]["url"], raw=True)[1]

    def while_one_runs(*bodies, also=lambda ids: None):
        """All of them wait when the worker becomes free."""
        blocker = s.call("POST", "/api/jobs", LONG)[1]["id"]
        s.until(blocker, ["running"])
        ids = [s.call("POST", "/api/jobs", b)[1]["id"] for b in bodies]
        also(ids)
        s.call("DELETE", "/api/jobs/" + blocker)
        return ids

    watched = []
    watch = lambda job_id: watched.append(s.events(job_id))
    threads = []

    def begin_to_watch(ids):
        threads.append(threading.Thread(target=watch, args=(ids[1],)))
        threads[0].start()
        time.sleep(0.2)

    # six pictures of five jobs; the seventh picture and the other size wait, what is behind them is no longer of the batch
    ids = while_one_runs(body(0), body(1, count=2, preview_every=15), body(3, format="jpeg"), dict(SHORT), body(4), body(5), body(0), also=begin_to_watch)
    threads[0].join()
    events = watched[0]
    ended = [s.until(i, ["done"]) for i in ids]
    check(all(j["state"] == "done" for j in ended) and value_of(s, "jobs_together_total") == 5, "five ran together, not %s" % value_of(s, "jobs_together_total"))
    check(file_of(ended[0]) and [pixels(file_of(ended[i])) for i in (0, 1, 4, 5, 6)] == [made[i] for i in (0, 1, 4, 5, 0)], "the pictures are those made alone")
    check([p["seed"] for p in ended[1]["pictures"]] == ["1", "2"] and file_of(ended[2])[:2] == b"\xff\xd8", "count and format are each job's own")
    check("preview" in [n for n, _ in events] and events[-1][0] == "end", "previews are the job's that asked for them: %s" % [n for n, _ in events])
    check(ended[3]["started"] >= max(ended[i]["started"] for i in (0, 1, 2, 4, 5)) and ended[0]["finished"] <= ended[5]["finished"], "their order")
    facts = s.call("POST", "/api/png-info", file_of(ended[4]))[1]["request"]
    check((facts["prompt"], facts["seed"]) == ("number 4", "4"), "what a picture says of itself: %s" % facts)
    # one is cancelled, one client hangs up, one's picture cannot be kept: the others are made
    clients, newest = [], lambda: s.call("GET", "/api/jobs?limit=1")[1]["jobs"][0]["id"]

    def one_more(ids):
        os.mkdir("%s/pictures/%s-1.png" % (jobs, ids[2]))
        clients.append(s.connect(post(body(4, steps=300, size="64x48"), "/v1/images/generations")))
        while newest() == ids[3]:
            time.sleep(0.02)

    ids = while_one_runs(*(body(i, steps=300) for i in range(4)), also=one_more)
    asked = newest()
    s.until(ids[0], ["running"])
    s.call("DELETE", "/api/jobs/" + ids[1])
    check(s.until(ids[1], ["cancelled"], 5)["state"] == "cancelled" and s.job(ids[0])["state"] == "running", "a cancelled one ends at once")
    clients[0].close()
    check(s.until(asked, ["cancelled"], 5)["request"]["seed"] == "4", "so does that of a client that hangs up")
    check([s.until(i, ["done", "failed"])["state"] for i in (ids[0], ids[2], ids[3])] == ["done", "failed", "done"], "what becomes of the others")
    check(s.job(ids[2])["error"]["type"] == "server_error" and len(s.job(ids[3])["pictures"]) == 1, "who failed says so: %s" % s.job(ids[2]))
    # all are cancelled: the worker is free at once
    ids = while_one_runs(*(body(i, steps=10000) for i in range(3)))
    s.until(ids[2], ["running"])
    s.call("POST", "/sdapi/v1/interrupt", {})
    check([s.until(i, ["cancelled"], 10)["state"] for i in ids] == ["cancelled"] * 3, "interrupt ends all of them")
    # a skip ends the picture of each that is being made; who has others goes on with them
    ids = while_one_runs(body(0, steps=600, count=2), body(1, steps=600))
    while not s.job(ids[1])["step"]:
        time.sleep(0.005)
    s.call("POST", "/sdapi/v1/skip", {})
    ended = [s.until(i, ["done", "cancelled"]) for i in ids]
    check([(j["state"], [p["seed"] for p in j["pictures"]]) for j in ended] == [("done", ["1"]), ("cancelled", [])], "a skip of several: %s" % [(j["state"], j["pictures"]) for j in ended])
    # a second skip concerns the one that goes on alone with its second picture, and not the one that waits behind it
    ids = while_one_runs(body(0, steps=600, count=2), body(1, steps=600, count=2))
    while not s.job(ids[1])["step"]:
        time.sleep(0.005)
    s.call("POST", "/sdapi/v1/skip", {})
    while not (now := s.job(ids[0]))["image"]:
        time.sleep(0.005)
    check(now["image"] == 1 and 0.5 <= now["fraction"] < 1, "a picture that was skipped counts as done: %s" % now)
    s.call("POST", "/sdapi/v1/skip", {})
    ended = [s.until(i, ["done", "cancelled"]) for i in ids]
    check([(j["state"], [p["seed"] for p in j["pictures"]], sum("skipped" in n for n in j["notes"])) for j in ended] == [("cancelled", [], 2), ("done", ["2"], 1)], "two skips of several: %s" % [(j["state"], j["notes"]) for j in ended])
    # a stop marks all that ran
    ids = while_one_runs(*(body(i, steps=10000) for i in range(3)))
    s.until(ids[2], ["running"])
    s.stop(signal.SIGKILL)
    s = Server("--port", "0", "--jobs", jobs, "--drain", "0", "--batch", "6")
    check([s.job(i)["state"] for i in ids] == ["interrupted"] * 3, "after kill -9")
    ids = while_one_runs(*(body(i, steps=10000) for i in range(3)))
    s.until(ids[2], ["running"])
    check(s.stop() == 0, "a stop with several in work")
    s = Server("--port", "0", "--jobs", jobs, "--batch", "1")
    check([s.job(i)["state"] for i in ids] == ["interrupted"] * 3, "after SIGTERM: %s" % [s.job(i)["state"] for i in ids])
    ids = while_one_runs(body(0), body(1))
    check(all(s.until(i, ["done"])["state"] == "done" for i in ids) and value_of(s, "jobs_together_total") == 0, "--batch 1: each alone")
    check(s.stop() == 0, "exit status")


def metrics(s):
    status, text = s.call("GET", "/metrics", raw=True)
    lines = [l for l in text.decode().splitlines() if not l.startswith("#")]
    check(status == 200 and all(re.fullmatch(r'flux1_[a-z_]+(\{[a-z]+="[a-z0-9]+"\})? [0-9.e+-]+', l) for l in lines), "metrics")
    values = dict(l.rsplit(" ", 1) for l in lines)
    check(values["flux1_prompts_encoded_ahead_total"] == "0", "on one device nothing is encoded ahead")
    check(int(values["flux1_pictures_total"]) >= 8 and int(values["flux1_requests_refused_total"]) == 1 and int(values['flux1_jobs_total{state="cancelled"}']) == 5, "metrics' numbers: %s" % values)


def large_texts(s):
    """Pictures whose texts are small and inflate to much are refused one after the other, and jobs do not wait for them."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    text = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(7000000), 9))
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + 60 * text
    picture += chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")
    sent = b"POST /api/png-info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture
    connections = [s.connect(sent) for _ in range(4)]
    answered = lambda: select.select(connections, [], [], 60)[0]
    check(len(answered()) < len(connections), "not all are read at once")
    job_id = s.call("POST", "/api/jobs", SHORT)[1]["id"]
    check(len(answered()) < len(connections), "a job is accepted before all of them are read")
    check(s.until(job_id, ["done"])["state"] == "done", "and made")
    for c in connections:
        answer = b"".join(iter(lambda: c.recv(65536), b""))
        check(b" 400 " in answer[:20] and b"beside the pixels take more than 64 MiB" in answer, "large texts: %s" % answer)
        c.close()


def aborted_uploads(s):
    """A client that goes away behind a part of its body: its connection and what came of the body go too, and not after a minute."""
    descriptors = lambda: len(os.listdir("/proc/%d/fd" % s.process.pid))
    before = descriptors()
    for _ in range(5):
        c = s.connect("POST /api/png-info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n")
        c.sendall(bytes(100000))
        c.close()
    until = time.monotonic() + 20
    while descriptors() > before and time.monotonic() < until:
        time.sleep(0.02)
    check(descriptors() <= before, "connections of uploads that were aborted: %d of %d descriptors" % (descriptors(), before))


def crowd(s):
    """More connections than threads, some of them silent, while requests are served."""
    silent = [s.connect("POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Le") for _ in range(100)]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(s.call("POST", "/v1/images/generations", dict(SHORT))[0])) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(len(answers) == 12 and set(answers) <= {200, 429} and answers.count(200) >= 3, "a crowd: %s" % answers)
    for c in silent:
        c.close()


def restarts(jobs):
    s = Server("--port", "0", "--jobs", jobs)
    done = s.call("POST", "/api/jobs", SHORT)[1]["id"]
    s.until(done, ["done"])
    refused = subprocess.run([program, "serve", "--model", model, "--port", "0", "--jobs", jobs], stderr=subprocess.PIPE, text=True, timeout=60)
    check(refused.returncode == 2 and "another flux1 serve uses this folder" in refused.stderr, "two servers in one folder: %s" % refused.stderr)
    left = [s.call("POST", "/api/jobs", LONG)[1]["id"] for _ in range(2)]
    s.until(left[0], ["running"])
    s.stop(signal.SIGKILL)
    s = Server("--port", "0", "--jobs", jobs, "--drain", "200")
    states = {j["id"]: j["state"] for j in s.call("GET", "/api/jobs")[1]["jobs"]}
    check(states[done] == "done" and states[left[0]] == states[left[1]] == "interrupted", "after kill -9: %s" % states)
    check(s.call("GET", s.job(done)["pictures"][0]["url"], raw=True)[0] == 200, "the picture is still there")
    # an orderly stop: the running job is finished, what waits is given up, a client that waits gets an answer
    first = s.call("POST", "/api/jobs", dict(LONG, steps=300))[1]["id"]
    s.until(first, ["running"])
    waiter = s.connect(post(SHORT, "/v1/images/generations"))
    while not any(j["state"] == "queued" for j in s.call("GET", "/api/jobs?limit=1")[1]["jobs"]):
        time.sleep(0.02)
    check(s.stop() == 0, "exit status of an orderly stop")
    check(b" 503 " in waiter.recv(4096), "who waits is told")
    s = Server("--port", "0", "--jobs", jobs, "--drain", "0")
    states = [j["state"] for j in s.call("GET", "/api/jobs?limit=2")[1]["jobs"]]
    check(states == ["interrupted", "done"], "after SIGTERM: %s" % states)
    last = s.call("POST", "/api/jobs", LONG)[1]["id"]
    s.until(last, ["running"])
    began = time.monotonic()
    check(s.stop() == 0 and time.monotonic() - began < 10, "--drain 0 ends at once")
    row = sqlite3.connect(jobs + "/jobs.sqlite").execute("SELECT job FROM jobs WHERE id=?", (last,)).fetchone()
    check(json.loads(row[0])["state"] == "interrupted", "the running job is marked")


def while_it_drains(jobs, body, method, path):
    """The job as it is in the history behind a request that is made while the server waits for it to end."""
    s = Server("--port", "0", "--jobs", jobs, "--drain", "200")
    check(os.stat(jobs).st_mode & 0o777 == os.stat(jobs + "/pictures").st_mode & 0o777 == 0o700, "the folders are their owner's alone")
    one = s.call("POST", "/api/jobs", body)[1]["id"]
    while not s.job(one)["step"]:
        time.sleep(0.005)
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
    c.request("GET", "/health")
    c.getresponse().read()  # a connection that is there already is served on
    s.process.send_signal(signal.SIGTERM)
    s.said("stopping")
    c.request(method, path.replace("ID", one))
    check(c.getresponse().status == 200 and s.process.wait(60) == 0, "%s %s while it stops" % (method, path))
    return json.loads(sqlite3.connect(jobs + "/jobs.sqlite").execute("SELECT job FROM jobs WHERE id=?", (one,)).fetchone()[0])


def while_draining(jobs):
    """What a client cancels or skips is so, also while the server stops; streams of jobs that end then do not hold it up."""
    j = while_it_drains(jobs, LONG, "DELETE", "/api/jobs/ID")
    check(j["state"] == "cancelled", "a job cancelled while the server stops: %s" % j)
    j = while_it_drains(jobs, dict(LONG, steps=300, count=2, seed=7), "POST", "/sdapi/v1/skip")
    check((j["state"], [p["seed"] for p in j["pictures"]]) == ("done", ["8"]), "a picture skipped while the server stops: %s" % j)
    j = while_it_drains(jobs, LONG, "POST", "/sdapi/v1/skip")
    check((j["state"], j["error"]) == ("cancelled", None), "the only picture skipped while the server stops: %s" % j)
    s = Server("--port", "0", "--queue", "30", "--drain", "0")
    streams = [s.connect(post(dict(LONG, stream=True), "/v1/images/generations")) for _ in range(24)]
    while json.loads(s.call("GET", "/api/info", raw=True)[1])["queue"]["waiting"] < 23:
        time.sleep(0.02)
    check(s.stop() == 0, "a stop with many streams")
    check(all(b"event: error" in b"".join(iter(lambda: c.recv(65536), b"")) for c in streams), "each stream is told")


def told_when_stored(jobs):
    """A client hears of a picture when the history names it; while the database is held, lists are answered all the same."""
    s = Server("--port", "0", "--jobs", jobs)
    for _ in range(5):  # a busy machine may hold the database for longer than a job waits for it, or only when its first picture is stored; or tell of both pictures at once
        late, told, pictures, early, names, end = watch_held(s, jobs)
        apart = names[-3:] != ["picture", "picture", "end"]
        if not late and "locked" not in str(end["error"]) and apart:
            break
    check(not late, "no try began in time")
    check(apart, "the first picture is told of while the second is made: %s" % names)
    check(told == ("running", [], []) and len(pictures) == 2 and not early and names[-1] == "end", "pictures are told of when they are stored: %s, too early %s; %s" % (told, early, end))
    s.stop()


def watch_held(s, jobs):
    """A job of two pictures, of which the first cannot be stored for a moment: whether it was stored before; what is told meanwhile, its pictures as they are told of, those that are not
    stored then, its events, and its end."""
    before = set(os.listdir(jobs + "/pictures"))
    job_id = s.call("POST", "/api/jobs", dict(LONG, steps=150, count=2))[1]["id"]
    holder = sqlite3.connect(jobs + "/jobs.sqlite", isolation_level=None)
    stored = lambda: json.loads(sqlite3.connect(jobs + "/jobs.sqlite").execute("SELECT job FROM jobs WHERE id=?", (job_id,)).fetchone()[0])["pictures"]
    while not s.job(job_id)["step"]:  # its start is stored
        time.sleep(0.005)
    holder.execute("BEGIN IMMEDIATE")
    late = bool(stored())
    pictures, early, names = [], [], []

    def listen():
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=120)
        c.request("GET", "/api/jobs/%s/events" % job_id)
        for line in c.getresponse():
            names.extend([line.decode().split(": ")[1].strip()] if line.startswith(b"event: ") else [])
            if line.startswith(b"data: ") and names[-1] == "picture":
                picture = json.loads(line[6:])
                pictures.append(picture)
                early.extend([picture] if picture not in stored() else [])

    listener = threading.Thread(target=listen)
    listener.start()
    while set(os.listdir(jobs + "/pictures")) == before:
        time.sleep(0.005)
    time.sleep(0.3)  # for the client to hear of it
    listed = s.call("GET", "/api/jobs")[1]["jobs"][0]
    told = (listed["state"], listed["pictures"], s.job(job_id)["pictures"])
    holder.execute("COMMIT")
    listener.join()
    return late, told, pictures, early, names, s.job(job_id)


WRITERS = 24  # if the threads for HTTP waited for the disk, each of them would have one


def slow_disk(jobs):
    """Requests that write wait for the disk, many more of them than there are threads for HTTP, and all others are answered meanwhile; what was answered survives a kill."""
    s = Server("--port", "0", "--jobs", jobs, "--queue", "200")
    blocker = s.call("POST", "/api/jobs", LONG)[1]["id"]
    s.until(blocker, ["running"])
    for _ in range(3):  # a busy machine may hold the database for longer than a request waits for it
        reads, early, answers, left = hold_writers(s, jobs)
        if all(a[0] < 500 for a in answers):
            break
    check(reads == [200] * 12 and not early and [a[0] for a in answers] == [202] * WRITERS + [200, 204], "a slow disk: reads %s, too early %s, answers %s" % (reads, early, answers))
    check(answers[WRITERS][1]["state"] == s.until(left, ["cancelled"])["state"] == "cancelled", "what was cancelled meanwhile: %s" % answers[WRITERS][1])
    s.stop(signal.SIGKILL)
    s = Server("--port", "0", "--jobs", jobs)
    states = [s.job(a[1]["id"])["state"] for a in answers[:WRITERS + 1]] + [s.job(left)["state"]]
    check(states == ["interrupted"] * WRITERS + ["cancelled"] * 2, "what was answered is in the history: %s" % states)
    s.stop()


def hold_writers(s, jobs):
    """While another connection holds the database: the statuses of requests that read, who of those that write was answered, and how those are answered then; the job of a client that
    hangs up meanwhile."""
    job = lambda: s.call("POST", "/api/jobs", SHORT)[1]["id"]
    ended, waiting = job(), job()
    s.call("DELETE", "/api/jobs/" + ended)
    client = s.connect(post(SHORT, "/v1/images/generations"))
    while (left := s.call("GET", "/api/jobs?limit=1")[1]["jobs"][0]["id"]) == waiting:
        time.sleep(0.005)
    requests = [("POST", "/api/jobs", SHORT)] * WRITERS + [("DELETE", "/api/jobs/" + waiting), ("DELETE", "/api/jobs/" + ended)]
    answers = [None] * len(requests)

    def ask(i):
        answers[i] = s.call(*requests[i])

    holder = sqlite3.connect(jobs + "/jobs.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(requests))]
    for t in threads:
        t.start()
    client.close()
    time.sleep(0.3)  # for all of them to come
    reads = [s.call("GET", path)[0] for path in ("/health", "/api/jobs", "/api/info") * 4]
    early = [a for a in answers if a]
    holder.execute("COMMIT")
    for t in threads:
        t.join()
    return reads, early, answers, left


def thumbnails(jobs):
    """Large pictures have a small one beside them, as long as they are there."""
    s = Server("--port", "0", "--jobs", jobs, "--max-pixels", "200000")
    check("refused" not in open(s.errors).read() and s.call("GET", "/api/info")[1]["limits"]["pixels_max"] == 200000, "the default size is no larger")
    job_id = s.call("POST", "/api/jobs", dict(SHORT, width=512, height=64, steps=1, count=2))[1]["id"]
    small_id = s.call("POST", "/api/jobs", SHORT)[1]["id"]
    job, little = s.until(job_id, ["done"]), s.until(small_id, ["done"])
    url = job["pictures"][0]["url"]
    status, jpeg = s.call("GET", url + "?size=small", raw=True)
    check(status == 200 and jpeg[:2] == b"\xff\xd8" and s.headers["Content-Type"] == "image/jpeg" and b"\x00\x30\x01\x80" in jpeg, "a JPEG of 384x48")
    check('-1.jpg"' in s.headers["Content-Disposition"], "its name is a JPEG's: %s" % s.headers["Content-Disposition"])
    check(s.call("GET", url, raw=True)[1][:4] == b"\x89PNG" == s.call("GET", url + "?size=large", raw=True)[1][:4], "the picture itself")
    check(s.call("GET", little["pictures"][0]["url"] + "?size=small", raw=True)[1][:4] == b"\x89PNG", "a small picture is its own")
    names = sorted(os.listdir(jobs + "/thumbnails"))
    check(names == sorted(p["url"].rsplit("/", 1)[1] for p in job["pictures"]), "files: %s" % names)
    row = sqlite3.connect(jobs + "/jobs.sqlite").execute("SELECT bytes, LENGTH(CAST(job AS BLOB)) FROM jobs WHERE id=?", (job_id,)).fetchone()
    check(row[0] - row[1] == sum(p["bytes"] for p in job["pictures"]) + sum(os.path.getsize(jobs + "/thumbnails/" + n) for n in names), "they count: %s" % (row,))
    os.unlink(jobs + "/thumbnails/" + names[1])
    check(s.call("GET", job["pictures"][1]["url"] + "?size=small", raw=True)[1][:4] == b"\x89PNG", "one that is gone is shown whole")
    s.call("DELETE", "/api/jobs/" + job_id)
    check(os.listdir(jobs + "/thumbnails") == [] and s.call("GET", url + "?size=small")[0] == 404, "they go with their job")
    open(jobs + "/thumbnails/0123456789abcdef-1.png", "w").write("left")
    s.stop(signal.SIGKILL)
    s = Server("--port", "0", "--jobs", jobs, "--max-pixels", "4000")
    check(os.listdir(jobs + "/thumbnails") == [], "what a kill left is removed")
    check("--max-pixels 4000: the default picture of 64x64 has more" in open(s.errors).read(), "a default size that is refused is told")
    s.stop()


def others_wait_for_no_list(s):
    """Clients that ask for long lists, many at a time, keep nobody waiting but each other: how many are made while another client is answered."""
    askers = [s.connect(b"HEAD /api/jobs?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100) for _ in range(12)]
    def made():
        ready = select.select(askers, [], [], 0)[0]
        return sum(c.recv(1 << 20).count(b"HTTP/1.1 200") for c in ready)
    def meanwhile():
        made()
        s.call("GET", "/health")
        return made()
    counts = sorted(meanwhile() for _ in range(9))
    check(counts[4] <= 1, "lists that are made while another client waits: %s" % counts)
    for c in askers:
        c.close()


def long_texts(jobs):
    """A history of long prompts: a page of it has a limit in bytes, they count for --jobs-size, and the file shrinks."""
    s = Server("--port", "0", "--jobs", jobs)
    s.until(s.call("POST", "/api/jobs", dict(SHORT, prompt="x" * 60000))[1]["id"], ["done"])
    s.stop()
    db = sqlite3.connect(jobs + "/jobs.sqlite")
    (size, text), = db.execute("SELECT bytes, job FROM jobs").fetchall()
    check(size == len(text) + sum(p["bytes"] for p in json.loads(text)["pictures"]), "what a job takes: %d" % size)
    with db:
        db.executemany("INSERT INTO jobs(id, ended, bytes, job) VALUES(?, 1, ?, ?)", [("%016x" % i, len(text), text) for i in range(300)])
    db.close()
    s = Server("--port", "0", "--jobs", jobs, "--jobs-size", "1M")
    page = s.call("GET", "/api/jobs?limit=500", raw=True)[1]
    check(8 << 20 < len(page) < 9 << 20 and json.loads(page)["more"] and len(json.loads(page)["jobs"]) < 300, "a page of %d bytes" % len(page))
    others_wait_for_no_list(s)
    s.call("POST", "/v1/images/generations", SHORT)
    until = time.monotonic() + 10
    while len(s.call("GET", "/api/jobs?limit=500")[1]["jobs"]) > 20 and time.monotonic() < until:
        time.sleep(0.02)
    kept = len(s.call("GET", "/api/jobs?limit=500")[1]["jobs"])
    check(10 < kept <= 20 and s.stop() == 0 and os.path.getsize(jobs + "/jobs.sqlite") < 2 << 20, "%d jobs are kept, and a file of %d bytes" % (kept, os.path.getsize(jobs + "/jobs.sqlite")))


def room(jobs):
    s = Server("--port", "0", "--jobs", jobs, "--jobs-size", "20K")
    ids = [s.call("POST", "/v1/images/generations", dict(SHORT))[1]["flux1"]["job"] for _ in range(5)]
    until = time.monotonic() + 10
    while True:  # the answer may come before the room is made
        kept = [j["id"] for j in s.call("GET", "/api/jobs")[1]["jobs"]]
        sizes = sum(os.path.getsize(jobs + "/pictures/" + f) for f in os.listdir(jobs + "/pictures"))
        if sizes <= 20480 or time.monotonic() > until:
            break
        time.sleep(0.02)
    check(ids[-1] in kept and ids[0] not in kept and sizes <= 20480, "--jobs-size: %d of %d jobs, %d bytes" % (len(kept), len(ids), sizes))
    s.stop()


def bad_databases(jobs):
    """A history that is no database, or is damaged, or one of a later version: what to do about it is told."""
    s = Server("--port", "0", "--jobs", jobs + "0")
    s.until(s.call("POST", "/api/jobs", dict(SHORT, prompt="x" * 20000))[1]["id"], ["done"])
    s.stop()
    good = open(jobs + "0/jobs.sqlite", "rb").read()
    damaged = good[:4096] + b"\xff" * (len(good) - 4096)
    for i, (content, words) in enumerate(((b"no database " * 400, "move it away"), (damaged, "move it away"), (good[:60] + b"\0\0\0\7" + good[64:], "of a later flux1; name another folder with --jobs")), 1):
        os.makedirs(jobs + str(i))
        open(jobs + "%d/jobs.sqlite" % i, "wb").write(content)
        r = subprocess.run([program, "serve", "--model", model, "--port", "0", "--jobs", jobs + str(i)], stderr=subprocess.PIPE, text=True, timeout=60)
        check(r.returncode == 1 and re.search(r"jobs\.sqlite: .*%s.*--jobs" % words.replace(" with --jobs", ""), r.stderr), "a bad history: %d %s" % (r.returncode, r.stderr))
        check(i == 2 or open(jobs + "%d/jobs.sqlite" % i, "rb").read() == content, "the history %d is left as it is" % i)  # SQLite itself writes into a damaged one


def keys():
    path = folder + "/keys"
    open(path, "w").write("# keys\r\n\n\t second \t\r\n")
    s = Server("--port", "0", "--api-key", "first", "--api-key-file", path)
    check(s.call("GET", "/health")[0] == 200 and s.call("GET", "/", raw=True)[0] == 200, "page and /health are open")
    error_of(s.call("GET", "/api/info"), 401, "authentication_error", "needs a key")
    for value, status in (("Bearer first", 200), ("bearer second", 200), ("Bearer firs", 401), ("Bearer firstfirst", 401), ("Bearer ", 401), ("Bearer # keys", 401), ("first", 401), ("Basic !!", 401),
                          ("Basic " + base64.b64encode(b"anyone:second").decode(), 200), ("Basic " + base64.b64encode(b"first:").decode(), 401)):
        check(s.call("GET", "/api/info", headers={"Authorization": value})[0] == status, "%r: %d expected" % (value, status))
    check([s.call("GET", "/api/info", headers={"api-key": k})[0] for k in ("first", "firs")] == [200, 401], "Azure's header")
    check(s.call("POST", "/api/jobs", SHORT)[0] == 401 and s.call("GET", "/metrics")[0] == 401 and s.call("GET", "/nowhere")[0] == 401, "everything else needs the key")
    paths = s.call("GET", "/openapi.json", headers={"Authorization": "Bearer first"})[1]["paths"]
    check({p for p, ops in paths.items() for o in ops.values() if o["security"] == []} == {"/", "/health"}, "which paths need no key: %s" % paths)
    second = subprocess.run([program, "serve", "--model", model, "--port", str(s.port)], stderr=subprocess.PIPE, text=True, timeout=60)
    check(second.returncode == 1 and re.search("another program listens there; .*--port", second.stderr), "a second server at the port: %s" % second.stderr)
    check(s.stop(signal.SIGINT) == 0, "SIGINT is an orderly stop")


def defaults():
    """What a request does not say is as the options have it, else as the model has it."""
    dev = os.path.dirname(os.path.abspath(model)) + "/dev"
    for options, expected, tokens, limit in (((), (128, 128, 28, 3.5), 512, 16),
                                             (("--width", "48", "--height", "80", "--steps", "3", "--guidance", "2", "--max-sequence-length", "21", "--queue", "5"), (48, 80, 3, 2), 21, 5)):
        s = Server("--port", "0", *options, model=dev)
        info = s.call("GET", "/api/info")[1]
        check(tuple(info["defaults"][k] for k in ("width", "height", "steps", "guidance")) == expected and info["queue"]["limit"] == limit, "defaults with %s: %s" % (options, info))
        job = s.call("POST", "/api/jobs", {"prompt": "a"})[1]
        made = tuple(job["request"][k] for k in ("width", "height", "steps", "guidance"))
        check(made == expected and job["request"]["max_sequence_length"] == tokens, "a request with %s: %s" % (options, job["request"]))
        s.stop()


def unix_socket():
    path = folder + "/socket"
    for _ in range(2):  # the second one finds the first one's socket, which was killed
        s = Server("--socket", path)
        c = socket.socket(socket.AF_UNIX)
        c.connect(path)
        c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        check(b'{"status": "ok"}' in c.recv(4096) + c.recv(4096), "the Unix socket")
        second = subprocess.run([program, "serve", "--model", model, "--socket", path], stderr=subprocess.PIPE, text=True, timeout=60)
        check(second.returncode == 1 and "another program listens on this socket" in second.stderr, "a second server at the socket: %s" % second.stderr)
        s.stop(signal.SIGKILL if _ == 0 else signal.SIGTERM)
    check(not os.path.exists(path), "the socket is removed")


s = Server("--port", "0", "--queue", "3", "--jobs", folder + "/jobs", "--allow-host", "other,my.proxy", "--access-log", folder + "/log")
for part in (described, basics, bad_requests, odd_requests, own_jobs, queue_and_cancel, hang_ups, openai, metrics, webui, other_pages, proxies, wrong_addresses, compressed, lambda s: lost_pictures(s, folder + "/jobs"), lambda s: unkept_pictures(s, folder + "/jobs"), large_texts, aborted_uploads, crowd, all_was_described):
    part(s)
check(s.stop() == 0, "exit status")
check(all(json.loads(line)["status"] for line in open(folder + "/log")), "the access log")
restarts(folder + "/again")
while_draining(folder + "/drain")
told_when_stored(folder + "/stored")
slow_disk(folder + "/slow")
thumbnails(folder + "/thumbnails")
long_texts(folder + "/texts")
room(folder + "/room")
bad_databases(folder + "/bad")
keys()
defaults()
loras()
other_models()
named_in_cache()
cut_files()
ahead()
workers()
together(folder + "/together")
unix_socket()
temporary = Server("--port", "0")
check(not temporary.call("GET", "/api/info")[1]["kept"], "without --jobs nothing is kept")
temporary.stop()
sys.exit(1 if failures else 0)
