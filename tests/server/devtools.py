"""Chromium over its DevTools protocol, with python's standard library: a browser, its pages, their keys and pictures."""
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time


class Socket:
    """A WebSocket client (RFC 6455), as far as DevTools needs one: text, of any length, in any number of frames."""

    def __init__(self, port, path):
        self.peer = socket.create_connection(("127.0.0.1", port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.peer.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.peer.recv(4096)
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = bytes([128 | len(data)]) if len(data) < 126 else struct.pack(">BH", 254, len(data)) if len(data) < 65536 else struct.pack(">BQ", 255, len(data))
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        self.peer.sendall(b"\x81" + size + mask + masked)

    def take(self, n):
        while len(self.rest) < n:
            block = self.peer.recv(1 << 20)
            if not block:
                raise ConnectionError("the browser is gone")
            self.rest += block
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def receive(self):
        text = b""
        while True:
            first, size = self.take(2)
            size &= 127
            if size == 126:
                size, = struct.unpack(">H", self.take(2))
            elif size == 127:
                size, = struct.unpack(">Q", self.take(8))
            data = self.take(size)
            if first & 15 <= 2:
                text += data
            if first & 128 and first & 15 <= 2:
                return json.loads(text)


class Browser:
    def __init__(self, program):
        self.folder = tempfile.mkdtemp(prefix="flux1-chromium-")
        self.process = subprocess.Popen([program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                                         "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--mute-audio",
                                         "--remote-debugging-port=0", "--user-data-dir=" + self.folder, "about:blank"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, path = self.address()
        self.socket = Socket(port, path)
        self.number, self.events = 0, []

    def address(self):
        file = os.path.join(self.folder, "DevToolsActivePort")
        for _ in range(300):
            if self.process.poll() is not None:
                break
            if os.path.exists(file) and open(file).read().count("\n"):
                port, path = open(file).read().split("\n")[:2]
                return int(port), path
            time.sleep(0.1)
        raise RuntimeError("chromium did not start")

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self.socket.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
        raise RuntimeError(f"{method} {parameters}: no answer within a minute")

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), "Delete": (46, ""), "ArrowLeft": (37, ""), "ArrowUp": (38, ""),
        "ArrowRight": (39, ""), "ArrowDown": (40, ""), "Home": (36, ""), "End": (35, ""), " ": (32, " ")}
CONTROL, SHIFT = 2, 8


class Page:
    def __init__(self, browser, width=1280, height=800, touch=False):
        self.browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.target, self.context = target, context
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'", "the page is there")

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def js(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression, what, seconds=15):
        end = time.monotonic() + seconds
        while not self.js(f"!!({expression})"):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}")
            time.sleep(0.03)

    def press(self, name, modifiers=0):
        code, text = KEYS.get(name, (0, name))
        common = {"key": name, "code": name if len(name) > 1 else "", "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text and not modifiers & CONTROL else "rawKeyDown", text="" if modifiers & CONTROL else text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def replace(self, text):
        """Writes over what the focused field holds."""
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", key="a", code="KeyA", windowsVirtualKeyCode=65, modifiers=CONTROL, commands=["selectAll"])
        self.type(text)

    def tab_to(self, name, backwards=False):
        """Presses Tab until the element of that id has the focus: it fails where no keyboard reaches it."""
        for _ in range(120):
            if self.js(f"document.activeElement && document.activeElement.id === {json.dumps(name)}"):
                return
            self.press("Tab", SHIFT if backwards else 0)
        raise AssertionError(f"Tab does not reach {name}")

    def drop(self, files):
        data = {"items": [], "files": files, "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=180, y=300, data=data)

    def shot(self, file, **options):
        data = self.call("Page.captureScreenshot", **options)["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))

    def complaints(self):
        """What the console says: exceptions, violations of the Content-Security-Policy, requests to elsewhere."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            what, data = event["method"], event["params"]
            if what == "Runtime.exceptionThrown":
                found.append(data["exceptionDetails"].get("exception", {}).get("description", str(data["exceptionDetails"])))
            elif what == "Log.entryAdded" and data["entry"]["source"] in ("security", "javascript"):
                found.append(data["entry"]["text"])
            elif what == "Network.requestWillBeSent" and not data["request"]["url"].startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")):
                found.append("a request to " + data["request"]["url"])
        return found
