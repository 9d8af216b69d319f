"""A running flux1 serve for tests of it: started, asked, stopped. Python's standard library alone."""
import atexit, http.client, json, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time, zlib

failures = []


def check(good, what):
    if not good:
        failures.append(what)
        print("FAILED:", what, flush=True)


def finish():
    """The script's end: its exit status tells whether everything was as expected."""
    sys.exit(1 if failures else 0)


def scratch():
    """A folder that is gone at the script's end."""
    folder = tempfile.mkdtemp(prefix="flux1-server-")
    atexit.register(shutil.rmtree, folder, True)
    return folder


def skip(why):
    print("skipped:", why, flush=True)
    sys.exit(77)


class Server:
    """One process. Without wait the model may not be open yet."""

    def __init__(self, program, model, log, *options, wait=True, environment=None):
        self.log = log
        self.program = program
        with open(log, "w") as errors:
            self.process = subprocess.Popen([program, "serve", "--model", model, "--threads", "2", *options], stderr=errors,
                                            env=dict(os.environ, **(environment or {})))
        atexit.register(self.kill)
        self.address = self.port = None
        if wait:
            self.ready()

    def ready(self, seconds=120):
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            found = re.search(r"ready: (\S+)", open(self.log).read())
            if found:
                self.address = found.group(1)
                self.port = int(self.address.rsplit(":", 1)[1]) if self.address.startswith("http") else None
                return
            time.sleep(0.02)
        sys.exit("the server is not ready; it said: %s" % open(self.log).read())

    def call(self, method, path, body=None, headers=None, raw=False):
        return call(self.port, method, path, body, headers, raw)

    def status(self, field):
        """Bytes of a line of /proc/PID/status such as VmRSS."""
        return int(re.search(field + r":\s+(\d+) kB", open("/proc/%d/status" % self.process.pid).read()).group(1)) * 1024

    def seconds(self):
        """Processor time that it has used."""
        fields = open("/proc/%d/stat" % self.process.pid).read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(120)


def call(port, method, path, body=None, headers=None, raw=False, timeout=300):
    """The status and the answer, parsed unless raw."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        connection.request(method, path, data, dict({"Content-Type": "application/json"} if data else {}, **(headers or {})))
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, content if raw else (json.loads(content) if content else None)
    finally:
        connection.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def chunks(png):
    """(kind, bytes) of a PNG's chunks. ValueError: it is cut or damaged."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG")
    at, found = 8, []
    while at < len(png):
        if at + 12 > len(png):
            raise ValueError("cut")
        n, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + n]
        if len(png) < at + 12 + n or zlib.crc32(kind + data) != struct.unpack(">I", png[at + 8 + n : at + 12 + n])[0]:
            raise ValueError("damaged")
        found.append((kind, data))
        at += 12 + n
    if not found or found[-1][0] != b"IEND":
        raise ValueError("no end")
    return found


def pixels(png):
    """Width, height and the filtered bytes of a picture, whatever texts its file has."""
    parts = chunks(png)
    return struct.unpack(">II", parts[0][1][:8]), zlib.decompress(b"".join(data for kind, data in parts if kind == b"IDAT"))


def command_line_picture(program, model, folder, prompt, width, height, steps, seed):
    """The picture that flux1 generate makes."""
    path = os.path.join(folder, "cli-%s.png" % seed)
    subprocess.run([program, "generate", "-q", "--model", model, "--threads", "2", "-p", prompt, "-W", str(width), "-H", str(height), "-s", str(steps),
                    "-S", str(seed), "-o", path], check=True, stdout=subprocess.DEVNULL)
    with open(path, "rb") as f:
        return f.read()
