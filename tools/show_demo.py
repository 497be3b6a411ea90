"""Starts the demo, asks it to read a handwritten digit and shows the answer; called by ``tools/demo``.

    python tools/show_demo.py [--once]

Needs an environment in which the project is installed.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import cv2

from tornado_ovms import demo

HOST = "127.0.0.1"
PORT = 8000
READY_S = 60
STOP_S = 15
SHADES = " .:-=+*#%@"


def free_port() -> int:
    """The usual port, or if that is taken, which is told, one that the system chooses."""
    for port in (PORT, 0):
        if not port:
            print(
                f"Port {PORT} is taken, by another demo perhaps: the examples of the README would ask that one.",
                flush=True,
            )
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    sys.exit("demo: no port can be opened on 127.0.0.1; is the loopback interface up?")


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    """One request; the status and the body of its answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_ready(port: int) -> bool:
    """Whether the server answers and has loaded its models."""
    try:
        return ask(port, "GET", "/v2/health/ready")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> str:
    """Print a dot each half second until the server is ready; returns what went wrong, or nothing."""
    print(f"Starting the server on port {port} ", end="", flush=True)
    begun = time.monotonic()
    while time.monotonic() - begun < READY_S:
        if server.poll() is not None:
            print()
            return f"the server stopped with exit code {server.returncode}"
        if is_ready(port):
            print(f" ready after {time.monotonic() - begun:.1f} s.", flush=True)
            return ""
        print(".", end="", flush=True)
        time.sleep(0.5)
    print()
    return f"the server was not ready after {READY_S} s"


def drawn() -> str:
    """The picture in characters, two rows of pixels to a line as characters are twice as high as wide."""
    picture = cv2.imread(str(demo.PICTURE), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        sys.exit(f"demo: {demo.PICTURE} cannot be read; is the checkout complete?")
    rows = picture.reshape(14, 2, 28).mean(axis=1) * (len(SHADES) - 1) / 255
    return "\n".join("    " + "".join(SHADES[round(value)] for value in row).rstrip() for row in rows)


def predict(port: int) -> str:
    """Send the picture and print the answer; returns what went wrong, or nothing."""
    instances = [{"b64": base64.b64encode(demo.PICTURE.read_bytes()).decode()}]
    begun = time.monotonic()
    status, body = ask(port, "POST", "/v1/models/digits:predict", json.dumps({"instances": instances}))
    took_ms = (time.monotonic() - begun) * 1000
    if status != http.client.OK:
        return f"the server answered {status}: {body.decode(errors='replace')}"
    prediction = json.loads(body)["predictions"][0]
    label = prediction["label"]
    probability = prediction["probabilities"][label]
    print(f"\n{drawn()}\n")
    print(f"The model reads: {label} (probability {probability:.5f}, answered in {took_ms:.1f} ms)", flush=True)
    return "" if label == demo.LABEL else f"the model reads {label}, and should read {demo.LABEL}"


def stop(server: subprocess.Popen[bytes]) -> int:
    """End the server; returns its exit code."""
    server.terminate()
    try:
        return server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def run(*, once: bool) -> str:
    """Serve the demo, either for one prediction or until Ctrl-C; returns what went wrong, or nothing."""
    port = free_port()
    command = [sys.executable, "-m", "tornado_ovms", "--demo", "--rest_port", str(port), "--rest_bind_address", HOST]
    with tempfile.TemporaryFile() as log:
        # For a single prediction the server's own words are of interest only if it fails.
        server = subprocess.Popen(command, stdout=log if once else None, stderr=log if once else None)
        try:
            trouble = wait_until_ready(server, port) or predict(port)
            if not trouble and not once and (code := server.wait()):
                trouble = f"the server stopped with exit code {code}"
        except KeyboardInterrupt:
            trouble = ""
        finally:
            stop(server)
        if trouble and once:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
    return trouble


def main() -> int:
    """The exit code: 0 if the prediction was right."""
    arguments = sys.argv[1:]
    if arguments not in ([], ["--once"]):
        print(__doc__, file=sys.stderr)
        return os.EX_USAGE
    # Whatever ends this ends the server, too: a closed terminal means nothing to that.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if trouble := run(once=bool(arguments)):
        print(f"demo: {trouble}; the server's own words are above.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
