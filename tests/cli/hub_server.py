"""A Hugging Face hub for tests, on 127.0.0.1: the listing, resolve addresses, and a second server for the bytes of large
files ("the CDN"), as the real one has them. What goes wrong is said in a file of words, read at every request.

usage: hub_server.py REPOSITORIES MODE LOG PORTS
  REPOSITORIES  folder with org/name/…: each a repository whose only branch is main; and a tag v1
  MODE          file with the words below; may be missing
  LOG           file: a line a request: server, method, path, range, authorization
  PORTS         file that gets "HUB CDN", the two ports

words (N: this many times since the word was written; without =N: always)
  noranges      Range is ignored                  drop=N     a reply ends after 100000 bytes
  flip=N        a byte of each large file differs fail=N     HTTP 500
  busy=N        HTTP 429, Retry-After: 1          stall=N    a reply stops after 100000 bytes
  slow          8 MB/s each connection            gated      401 without a token, 403 for another than "good"
  long, short   Content-Length of the largest file is 10 more, less
                                                  expired=N  the CDN answers 403
  hostile       the listing has names that lead out of the folder, twice a name, and an empty one
  many          the listing has 100000 more names nolisting  it is no JSON
  nocommit, badetag, othercommit                  headers of metadata are missing or wrong
  direct        no redirect to the CDN            loop       redirects in a circle
  renamed       a relative redirect first         downgrade  the redirect leads to ftp
  missing=NAME  that file is 404                  norevision 404s say nothing of their cause
  etag=X        etags end in X                    bare       no X-Linked headers on a redirect but the ETag
  huge          files have 10^18 bytes, it is said late       HEAD is answered, GET is sent on to the CDN
The hub is also a proxy for any http address: it answers as itself.
"""
import functools, hashlib, http.server, json, os, re, sys, threading, time, urllib.parse

root, mode_path, log_path, ports_path = sys.argv[1:5]
lock = threading.Lock()
counts, counted_mode = {}, None
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 5000


def words():
    try:
        return dict((w.split("=", 1) + [""])[:2] for w in open(mode_path).read().split())
    except OSError:
        return {}


def now(word):
    """Whether the word is in force for this request; counts it."""
    global counts, counted_mode
    with lock:
        mode = words()
        if mode != counted_mode:
            counts, counted_mode = {}, mode
        if word not in mode:
            return False
        if mode[word] == "":
            return True
        counts[word] = counts.get(word, 0) + 1
        return counts[word] <= int(mode[word])


@functools.lru_cache
def content(path):
    return open(path, "rb").read()


@functools.lru_cache
def sha256(path):
    return hashlib.sha256(content(path)).hexdigest()


def etag_of(path):
    data = content(path)
    end = words().get("etag", "")
    if len(data) >= LARGE:
        return sha256(path) + end
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() + end


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self):
        with lock, open(log_path, "a") as f:
            print(self.server.title, self.command, self.path, self.headers.get("Range", "-"),
                  self.headers.get("Authorization", "-"), file=f)

    def reply(self, code, data=b"", **headers):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def trouble(self):
        """The same for both servers; True: answered."""
        if now("fail"):
            self.reply(500)
        elif now("busy"):
            self.reply(429, Retry_After=1)
        else:
            return False
        return True

    def send_file(self, data, **headers):
        if len(data) >= LARGE and now("flip"):
            data = bytes([data[0] ^ 1]) + data[1:]
        code, begin, end = 200, 0, len(data)
        wanted = self.headers.get("Range")
        if wanted and not now("noranges"):
            first, last = wanted.removeprefix("bytes=").split("-")
            begin, end, code = int(first), min(int(last) + 1 if last else end, end), 206
            if begin >= len(data):
                self.reply(416, Content_Range="bytes */%d" % len(data))
                return
            headers["Content_Range"] = "bytes %d-%d/%d" % (begin, end - 1, len(data))
        size = end - begin
        lie = 0 if self.command == "HEAD" or len(data) < 1000000 else 10 if now("long") else -10 if now("short") else 0
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(size + lie))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = 100000 if size > 100000 and len(data) >= LARGE else size
        if stop < size and now("drop"):
            end = begin + stop
        elif stop < size and now("stall"):
            self.wfile.write(data[begin:begin + stop])
            self.wfile.flush()
            time.sleep(60)
            end = begin
        pause = now("slow")
        for at in range(begin, end, 1 << 18):
            self.wfile.write(data[at:min(at + (1 << 18), end)])
            if pause:
                time.sleep((1 << 18) / 8e6)
        if end - begin < size + lie:
            self.close_connection = True

    def do_HEAD(self):
        self.do_GET()


class Hub(Handler):
    def parse_request(self):
        good = super().parse_request()
        self.path = re.sub("^http://[^/]*", "", getattr(self, "path", ""))
        return good

    def listing(self, folder):
        names = [os.path.relpath(os.path.join(d, f), folder) for d, _, files in os.walk(folder) for f in files]
        if now("hostile"):
            names += ["../evil", "/etc/evil", "vae/../../evil", "a//b", "", ".", "vae/x\x01y", "model_index.json", "x" * 2000]
        if now("many"):
            names += ["images/%06d.png" % i for i in range(100000)]
        text = json.dumps({"id": "x", "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode()
        self.reply(200, b"<html>" if now("nolisting") else text, Content_Type="application/json")

    def tree(self, folder):
        """The listing as huggingface_hub asks for it since 2.0."""
        entries = []
        for at, _, files in os.walk(folder):
            for path in (os.path.join(at, f) for f in files):
                data = content(path)
                entry = {"type": "file", "path": os.path.relpath(path, folder), "size": len(data),
                         "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
                if len(data) >= LARGE:
                    entry["lfs"] = {"oid": sha256(path), "size": len(data), "pointerSize": 130}
                entries.append(entry)
        self.reply(200, json.dumps(entries).encode(), Content_Type="application/json")

    def missing(self, code):
        self.reply(404, b"{}", **({} if now("norevision") else {"X_Error_Code": code}))

    def resolve(self, folder, path):
        full = os.path.join(folder, path)
        if not os.path.isfile(full) or words().get("missing") == path:
            return self.missing("EntryNotFound")
        data = content(full)
        headers = {"X_Repo_Commit": "f" * 40 if now("othercommit") else COMMIT}
        if now("nocommit"):
            headers = {}
        etag = '"%s"' % ("../../x" if now("badetag") else etag_of(full))
        if now("loop"):
            return self.reply(302, Location=self.path)
        if now("renamed") and not self.path.startswith("/renamed"):
            return self.reply(307, Location="/renamed" + self.path)
        if len(data) < LARGE or now("direct") or (now("late") and self.command == "HEAD"):
            return self.send_file(data, ETag=etag, **headers)
        where = "ftp://127.0.0.1" if now("downgrade") else "http://127.0.0.1:%d" % cdn.server_port
        headers["X_Linked_Etag"] = etag
        if not now("bare"):
            headers["X_Linked_Size"] = 10**18 if now("huge") else len(data)
        self.reply(302, b"Found", ETag='"redirect"', Location="%s/%s?signature=s" % (where, urllib.parse.quote(os.path.relpath(full, root))),
                   **headers)

    def do_GET(self):
        self.note()
        if self.trouble():
            return
        parts = urllib.parse.unquote(self.path).removeprefix("/renamed").strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        folder = os.path.join(root, *parts[:2])
        token = self.headers.get("Authorization")
        if now("gated") and token != "Bearer good" and not api:
            return self.reply(403 if token else 401, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access to model x is restricted")
        if len(parts) < 2 or not os.path.isdir(folder):
            return self.missing("RepoNotFound")
        if api and len(parts) == 2:
            return self.listing(folder)
        revision = urllib.parse.unquote(self.path.removeprefix("/renamed").split("?")[0].strip("/").split("/")[5 if api else 3])
        if revision not in ("main", "v1", COMMIT):
            return self.missing("RevisionNotFound")
        if api and parts[2] == "tree":
            return self.tree(folder)
        self.listing(folder) if api else self.resolve(folder, "/".join(parts[4:]))


class Cdn(Handler):
    def do_GET(self):
        self.note()
        if self.headers.get("Authorization"):
            return self.reply(400)
        if self.trouble():
            return
        if now("expired"):
            return self.reply(403)
        self.send_file(content(os.path.join(root, urllib.parse.unquote(self.path.split("?")[0][1:]))), ETag='"cdn"')


hub, cdn = Server(("127.0.0.1", 0), Hub), Server(("127.0.0.1", 0), Cdn)
hub.title, cdn.title = "hub", "cdn"
with open(ports_path + ".tmp", "w") as f:
    f.write("%d %d" % (hub.server_port, cdn.server_port))
os.rename(ports_path + ".tmp", ports_path)
threading.Thread(target=cdn.serve_forever, daemon=True).start()
hub.serve_forever()
