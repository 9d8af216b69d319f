"""terminal.py COLUMNS SECONDS COMMAND…: runs the command on a terminal of that width; Ctrl-C after SECONDS (0: none).
Prints the exit status, then every line or redrawn line that was written."""
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

columns, seconds = int(sys.argv[1]), float(sys.argv[2])
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[3], sys.argv[3:])
text, began = b"", time.monotonic()
while True:
    if seconds and time.monotonic() - began > seconds:
        os.write(terminal, b"\x03")
        seconds = 0
    if select.select([terminal], [], [], 0.1)[0]:
        try:
            block = os.read(terminal, 65536)
        except OSError:  # the last writer is gone
            break
        if not block:
            break
        text += block
    if time.monotonic() - began > 60:
        os.kill(child, 9)
        break
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print("\n".join(line for line in re.split("[\r\n]|\x1b\\[K", text.decode()) if line))
