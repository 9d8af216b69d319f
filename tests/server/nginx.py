"""flux1 serve behind nginx, with packaging/nginx.conf. usage: nginx.py FLUX1 MODEL CONFIG"""
import json, os, shutil, socket, ssl, subprocess, sys, time, http.client
from serving import Server, check, finish, free_port, scratch, skip

program, model, config = sys.argv[1:4]
path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
nginx, openssl = shutil.which("nginx", path=path), shutil.which("openssl", path=path)
if not nginx or not openssl:
    skip("no nginx, or no openssl for a certificate")
folder = scratch()
subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pictures.example.org", "-keyout", folder + "/privkey.pem",
                "-out", folder + "/fullchain.pem"], check=True, stderr=subprocess.DEVNULL)
server = Server(program, model, folder + "/log", "--port", "0", "--allow-host", "pictures.example.org")
port = free_port()
text = open(config).read()
for old, new in (("listen 443", "listen 127.0.0.1:%d" % port), ("127.0.0.1:8080", "127.0.0.1:%d" % server.port), ("/etc/ssl/pictures", folder)):
    check(old in text, "the configuration has %s" % old)
    text = text.replace(old, new)
places = "".join("%s_temp_path %s/%s;\n" % (name, folder, name) for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
open(folder + "/nginx.conf", "w").write("daemon off; pid %s/pid; error_log %s/error.log; events {}\nhttp {\naccess_log off;\n%s%s}\n" % (folder, folder, places, text))
proxy = subprocess.Popen([nginx, "-p", folder, "-c", folder + "/nginx.conf", "-e", folder + "/error.log"])
trust = ssl.create_default_context()
trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE


def ask(method, where, body=None, headers=None):
    c = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=120)
    c.request(method, where, json.dumps(body) if body else None, dict({"Host": "pictures.example.org"}, **(headers or {})))
    return c, c.getresponse()


try:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    check(ask("GET", "/health")[1].status == 200, "health")
    check(ask("GET", "/api/info", headers={"Origin": "https://pictures.example.org"})[1].status == 200, "the page's own requests")
    check(ask("GET", "/api/info", headers={"Origin": "https://evil.example"})[1].status == 403, "another page's")
    a = json.loads(ask("POST", "/v1/images/generations", {"prompt": "a", "size": "64x64", "steps": 1, "response_format": "url"})[1].read())
    check(a["data"][0]["url"].startswith("https://pictures.example.org/api/files/"), "addresses begin with https: %s" % a["data"])
    # events come while the picture is made
    c, answer = ask("POST", "/v1/images/generations", {"prompt": "a", "size": "64x64", "steps": 400, "stream": True, "partial_images": 3})
    first = answer.readline()
    came = time.monotonic()
    rest = answer.read()
    check(first == b"event: image_generation.partial_image\n" and b"event: image_generation.completed" in rest and time.monotonic() - came > 0.1, "events are not held back")
    # who hangs up cancels, through nginx too
    c, answer = ask("POST", "/v1/images/generations", {"prompt": "a", "size": "64x64", "steps": 10000, "stream": True, "partial_images": 3})
    answer.readline()
    answer.close()
    c.close()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        state = server.call("GET", "/api/jobs?limit=1")[1]["jobs"][0]["state"]
        if state == "cancelled":
            break
        time.sleep(0.05)
    check(state == "cancelled", "who hangs up cancels: %s" % state)
finally:
    proxy.terminate()
    proxy.wait()
check(server.stop() == 0, "exit status")
finish()
