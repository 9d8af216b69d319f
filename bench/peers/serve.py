"""What the peers share: a line of JSON in ({"stage", "size", "text"}), one timed run of that stage, a line of JSON out.
drive.py is at the other end. PEER_THREADS says how many threads a peer has (2)."""
import json
import os
import sys
import time
import traceback

THREADS = int(os.environ.get("PEER_THREADS", "2"))


def answer(work, clock):
    """Seconds of a run; of processor time, a thread's."""
    read = time.process_time if clock == "cpu" else time.perf_counter
    begin = read()
    work()
    return (read() - begin) / (THREADS if clock == "cpu" else 1)


def serve(prepare, **about):
    """prepare(stage, size, text) gives a function without arguments that does the work once. The first request of a
    kind prepares it and runs it once without counting; each further one is a timed run. What fails is an answer too: the
    runner goes on without that stage."""
    wire = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    print(json.dumps({"ready": True, **about}), file=wire)
    key, work = None, None  # one at a time: graphs of big pictures hold much memory
    for line in sys.stdin:
        ask = json.loads(line)
        wanted = (ask["stage"], ask.get("size", 0), ask.get("text", 0))
        try:
            if wanted != key:
                key, work = wanted, None
                begin = time.perf_counter()
                work = prepare(*wanted)
                work()
                print(json.dumps({"warm": True, "seconds": time.perf_counter() - begin}), file=wire)
            else:
                print(json.dumps({"seconds": answer(work, ask.get("clock"))}), file=wire)
        except Exception as e:
            traceback.print_exc()
            print(json.dumps({"error": f"{type(e).__name__}: {str(e)[:300]}"}), file=wire)
