"""Two instances behind HAProxy, with packaging/haproxy.cfg: one is killed under load, then stopped in order; no request is lost. usage: balancer.py FLUX1 MODEL CONFIG"""
import base64, csv, http.client, io, json, os, shutil, signal, socket, subprocess, sys, threading, time
from serving import Server, call, check, command_line_picture, finish, free_port, pixels, scratch, skip

program, model, config = sys.argv[1:4]
haproxy = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
if not haproxy:
    skip("no haproxy")
folder = scratch()
CLIENTS, SECONDS, SEEDS = 12, float(os.environ.get("BALANCER_SECONDS", "8")), 4
ports = {"8000": free_port(), "8081": free_port(), "8082": free_port()}
front = ports["8000"]
text = open(config).read()
for name, port in ports.items():
    check("127.0.0.1:" + name in text, "the configuration has port " + name)
    text = text.replace("127.0.0.1:" + name, "127.0.0.1:%d" % port)
text = text.replace("maxconn 2000\n", "maxconn 2000\n    stats socket %s/stats\n" % folder)
open(folder + "/haproxy.cfg", "w").write(text)


def statistics():
    """HAProxy's counters of a server of backend any."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(folder + "/stats")
        s.sendall(b"show stat\n")
        data = b""
        while part := s.recv(65536):
            data += part
    return {(row["# pxname"], row["svname"]): row for row in csv.DictReader(io.StringIO(data.decode()))}


def start(name):
    return Server(program, model, "%s/%s%d.log" % (folder, name, time.monotonic_ns()), "--port", str(ports[name]), "--queue", "16", "--jobs", folder + "/" + name, "--drain", "5")


def until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    check(False, what)


def is_up(name, state):
    """For both backends, each of which asks for itself."""
    rows = statistics()
    return all(rows[(backend, name)]["status"].startswith(state) for backend in ("any", "one"))


expected = {seed: pixels(command_line_picture(program, model, folder, "a red fox", 64, 64, 3, seed)) for seed in range(SEEDS)}
counts, stop = {"made": 0}, threading.Event()


def client(number):
    """One that repeats nothing itself: whatever is not a right picture is a lost request."""
    for i in range(10**6):
        if stop.is_set():
            return
        seed = (number + i) % SEEDS
        try:
            status, text = call(front, "POST", "/v1/images/generations", {"prompt": "a red fox", "size": "64x64", "steps": 3, "seed": seed}, raw=True)
            good = status == 200 and pixels(base64.b64decode(json.loads(text)["data"][0]["b64_json"])) == expected[seed]
            check(good, "a request was lost: %s %s" % (status, text[:300] if status != 200 else "(another picture)"))
            counts["made"] += good
        except (OSError, ValueError, http.client.HTTPException) as e:
            check(False, "a request was lost: %s: %s" % (type(e).__name__, e))


instances = {name: start(name) for name in ("8081", "8082")}
proxy = subprocess.Popen([haproxy, "-db", "-f", folder + "/haproxy.cfg"], stdout=subprocess.DEVNULL, stderr=open(folder + "/haproxy.log", "w"))
try:
    until(lambda: os.path.exists(folder + "/stats") and is_up("a", "UP") and is_up("b", "UP"), "both instances are up")
    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    time.sleep(SECONDS / 4)
    before = counts["made"]
    check(int(statistics()[("any", "a")]["scur"]) > 0, "the instance has requests when it is killed")
    instances["8081"].stop(signal.SIGKILL)
    until(lambda: is_up("a", "DOWN"), "the dead instance is found")
    time.sleep(SECONDS / 4)
    killed = statistics()[("any", "a")]
    check(counts["made"] > before, "the other instance goes on")
    instances["8081"] = start("8081")
    until(lambda: is_up("a", "UP"), "the instance is back")
    states = [j["state"] for j in call(ports["8081"], "GET", "/api/jobs?limit=100")[1]["jobs"]]
    check("interrupted" in states, "what was in work is marked: %s" % set(states))
    time.sleep(SECONDS / 4)
    check(instances["8082"].stop(signal.SIGTERM) == 0, "an orderly stop")
    time.sleep(SECONDS / 4)
    instances["8082"] = start("8082")
    until(lambda: is_up("b", "UP"), "the other instance is back")
    stop.set()
    for t in threads:
        t.join()
    # a picture by its address, whichever instance made it
    for seed in range(4):
        address = call(front, "POST", "/v1/images/generations", {"prompt": "a red fox", "size": "64x64", "steps": 3, "seed": seed, "response_format": "url"})[1]["data"][0]["url"]
        path = address.split(str(front), 1)[1]
        for _ in range(3):
            status, png = call(front, "GET", path, raw=True)
            check(status == 200 and pixels(png) == expected[seed], "a picture by its address: %d" % status)
    rows = statistics()
    print("%d pictures by %d clients; repeated by the balancer: %s of instance a when it was killed, %s of b in all" %
          (counts["made"], CLIENTS, killed["wretr"], rows[("any", "b")]["wretr"]))
    check(int(killed["wretr"]) > 0, "requests of the killed instance were repeated")
finally:
    stop.set()
    proxy.terminate()
    proxy.wait()
    for s in instances.values():
        s.stop()
finish()
