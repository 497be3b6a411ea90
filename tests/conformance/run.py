#!/usr/bin/env python3
"""Plays conformance cases (see FORMAT.md) against a server and says which ones it fails.

    python run.py --server "python -m some_server" [--jobs N] [--filter REGEX] [--verbose] [--junit FILE] CASES.json ...
    python run.py --list [--filter REGEX] CASES.json ...

One line per failed step, and at last 'N passed, N failed'. Exits with 0 only if no case failed.
"""

import argparse
import base64
import gzip
import http.client
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

START_SECONDS = 60     # for the server to be ready, or (a case with `exits`) to have given up
STOP_SECONDS = 15      # between SIGTERM and SIGKILL
REQUEST_SECONDS = 20   # for one answer
CASE_SECONDS = 90      # for all steps of a case; then its server is killed

HERE = Path(__file__).resolve().parent
CUSTOM_NODES = HERE / "custom_nodes"
COMPILER = shutil.which("gcc") or shutil.which("cc")
PORTS = itertools.cycle(random.sample(range(20000, 32000), 12000))  # below those that the system lends to clients


# --- comparing -----------------------------------------------------------------------------------

def short(value, limit=160):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else text[:limit] + f"... ({len(text)} characters)"


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same_number(expected, actual, tol):
    if not tol or isinstance(expected, int) and isinstance(actual, int):
        return expected == actual
    return abs(expected - actual) <= tol * max(1, abs(expected))


def differences(expected, actual, tol, subset, where=""):
    """What is wrong with `actual`, at most one remark per place."""
    if is_number(expected) and is_number(actual):
        same = same_number(expected, actual, tol)
        return [] if same else [f"{where or 'value'}: expected {expected}, got {actual}"]
    if isinstance(expected, dict) and isinstance(actual, dict):
        found = [f"{where}/{key}: missing" for key in expected if key not in actual]
        if not subset:
            found += [f"{where}/{key}: unexpected" for key in actual if key not in expected]
        for key in expected.keys() & actual.keys():
            found += differences(expected[key], actual[key], tol, subset, f"{where}/{key}")
        return found
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{where or 'list'}: expected {len(expected)} items, got {len(actual)}: {short(actual)}"]
        pairs = enumerate(zip(expected, actual))
        return [remark for i, (e, a) in pairs for remark in differences(e, a, tol, subset, f"{where}/{i}")]
    if type(expected) is type(actual) and expected == actual:
        return []
    return [f"{where or 'value'}: expected {short(expected)}, got {short(actual)}"]


def is_error(document, sentences):
    """Whether the answer is {"error": S}, S being one of the sentences, or one with details behind ' - '."""
    if not isinstance(document, dict) or list(document) != ["error"] or not isinstance(document["error"], str):
        return False
    said = document["error"]
    return any(said == sentence or said.startswith(sentence + " - ") for sentence in sentences)


def holds(document, path):
    """Whether the JSON document has the key (or the list of keys, one inside the other)."""
    for key in [path] if isinstance(path, str) else path:
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True


def as_list(value):
    return value if isinstance(value, list) else [value]


def refuse(literal):
    raise ValueError(f"{literal} is not JSON")


def check(expect, status, headers, body):
    """Compares an answer with a step's `expect`; returns the remarks."""
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    text = body.decode("utf-8", "replace")
    found = []
    if status not in as_list(expect.get("status", status)):
        found.append(f"status: expected {expect['status']}, got {status} with {short(text)}")
    if "text" in expect and text != expect["text"]:
        found.append(f"text: expected {expect['text']!r}, got {short(repr(text), 400)}")
    for pattern in as_list(expect.get("text_regex", [])):
        if not re.search(pattern, text):
            found.append(f"text: expected a match of {pattern!r}, got {short(repr(text), 400)}")
    for name, pattern in expect.get("headers", {}).items():
        if not re.search(pattern, headers.get(name.lower(), "")):
            found.append(f"header {name}: expected a match of {pattern!r}, got {headers.get(name.lower())!r}")
    if expect.keys() & {"json", "contains", "absent", "error"}:
        try:
            document = json.loads(text, parse_constant=refuse)
        except ValueError as error:
            return found + [f"body: expected JSON, got {short(repr(text))} ({error})"]
        tol = expect.get("tol", 1e-5)
        if "json" in expect:
            found += differences(expect["json"], document, tol, subset=False)
        if "contains" in expect:
            found += differences(expect["contains"], document, tol, subset=True)
        if "error" in expect and not is_error(document, as_list(expect["error"])):
            found.append(f"error: expected {expect['error']!r} (and ' - ' with details), got {short(repr(text), 400)}")
        found += [f"{path}: should not be there" for path in expect.get("absent", []) if holds(document, path)]
    return found


# --- models and libraries ------------------------------------------------------------------------

class Store:
    """The models and custom node libraries that the cases need, built once and copied from there."""

    def __init__(self, folder, python, cases):
        self.folder = Path(folder)
        steps = [step for case in cases for step in case.get("steps", [])]
        versions = [versions for case in cases for versions in case.get("models", {}).values()]
        builders = {name for names in versions for name in names.values()}
        builders |= {step["builder"] for step in steps if "builder" in step}
        self.run(python, HERE / "models.py", folder, *sorted(builders))
        for name in sorted({name for case in cases for name in case.get("custom_nodes", [])}):
            self.run(COMPILER, "-std=c11", "-O1", "-shared", "-fPIC", "-w", CUSTOM_NODES / f"{name}.c",
                     "-o", self.folder / f"lib{name}.so", "-lpthread")

    @staticmethod
    def run(*command):
        if subprocess.run(command, stdout=sys.stderr).returncode:
            sys.exit(f"this failed: {shlex.join(map(str, command))}")

    def copy_model(self, builder, target):
        shutil.copytree(self.folder / builder, target, copy_function=shutil.copyfile)  # as new as any new file

    def copy_library(self, name, target):
        target.mkdir(exist_ok=True)
        shutil.copy(self.folder / f"lib{name}.so", target)


# --- the server ----------------------------------------------------------------------------------

def free_port():
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """One server process with its scratch folder, laid out as the case says."""

    def __init__(self, command, store, case):
        self.command, self.store, self.case = command, store, case
        self.folder = Path(tempfile.mkdtemp(prefix="case-"))
        self.models = self.folder / "models"
        self.config = self.folder / "config.json"
        self.log = self.folder / "server.log"
        self.process = None
        self.counter = itertools.count()

    def lay_out(self):
        """Puts models, libraries, files and configuration in place."""
        self.models.mkdir()
        for model, versions in self.case.get("models", {}).items():
            (self.models / model).mkdir()
            for version, builder in versions.items():
                self.store.copy_model(builder, self.models / model / version)
        for name in self.case.get("custom_nodes", []):
            self.store.copy_library(name, self.folder / "custom_nodes")
        for path, text in self.case.get("files", {}).items():
            self.write(self.models / path, text)
        if self.case.get("config") is not None:
            self.write_config(self.case["config"])

    def fill(self, value):
        """Puts the folders in place of {models} and {dir}, anywhere in the value."""
        if isinstance(value, str):
            return value.replace("{models}", str(self.models)).replace("{dir}", str(self.folder))
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def write(self, path, text):
        """Writes a file so that no one sees half of it."""
        fresh = self.folder / f"fresh-{next(self.counter)}"
        fresh.write_text(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(fresh, path)

    def write_config(self, config):
        self.write(self.config, self.fill(config if isinstance(config, str) else json.dumps(config)))

    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        self.port = free_port()
        args = ["--rest_port", str(self.port), "--rest_bind_address", "127.0.0.1"]
        if self.config.exists():
            args += ["--config_path", str(self.config)]
        args += self.fill(self.case.get("args") or [])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(shlex.split(self.command) + args, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True)

    def bring_up(self):
        """Starts it and waits until it is ready; returns what went wrong, or None.

        It is ready when GET /v2/health/ready answers 200; one that has no such route is judged by its models.
        """
        self.start()
        deadline, first = time.monotonic() + START_SECONDS, None
        while time.monotonic() < deadline:
            if not self.running():
                return f"the server exited with {self.process.returncode}: {self.log_tail(400)}"
            try:
                if self.get("/v2/health/ready")[0] == 200:
                    return None
                first = first or time.monotonic()
                waited = time.monotonic() - first
                # One that cannot load a model may never list it: after 10 s the requests begin all the same.
                if waited > 5 and self.settled() or waited > 10:
                    return None
            except (OSError, http.client.HTTPException):
                pass  # not listening yet
            time.sleep(0.05)
        self.stop()
        return f"the server is not ready after {START_SECONDS} s: {self.log_tail(400)}"

    def settled(self):
        """Whether GET /v1/config lists every model of the case and none that is still being loaded."""
        config = self.case.get("config")
        listed = config.get("model_config_list", []) if isinstance(config, dict) else []
        names = [entry["config"]["name"] for entry in listed if "name" in entry.get("config", {})]
        try:
            statuses = json.loads(self.get("/v1/config")[2])
            versions = [v for model in statuses.values() for v in model["model_version_status"]]
            moving = [v for v in versions if v["state"] in ("START", "LOADING") and v["status"]["error_code"] == "OK"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return False  # not an answer that a ready server gives
        return all(name in statuses for name in names) and bool(statuses or not self.case.get("models")) and not moving

    def get(self, path):
        return self.request({"method": "GET", "path": path}, seconds=5)

    def request(self, step, seconds=REQUEST_SECONDS):
        """The answer's status, headers (names in lower case) and body."""
        headers = dict(step.get("headers", {}))
        body = None
        if "json" in step:
            body = json.dumps(self.fill(step["json"])).encode()
        elif "text" in step:
            body = self.fill(step["text"]).encode()
        elif "b64" in step:
            body = base64.b64decode(step["b64"])
        if body is not None and "content-type" not in map(str.lower, headers):
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(step["method"], self.fill(step["path"]), body, headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def signal(self, number):
        """To the server and its children: they have a session of their own."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        if self.running():
            self.signal(signal.SIGKILL)

    def stop(self):
        if self.running():
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            self.signal(signal.SIGKILL)  # whatever is left, children too
            self.process.wait()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, size=2000):
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""


# --- playing -------------------------------------------------------------------------------------

def change_disk(server, step):
    op = step["op"]
    version = server.models / step.get("model", "") / str(step.get("version", ""))
    aside = server.folder / f"aside-{next(server.counter)}"
    if op == "write_config":
        server.write_config(step["config"])
    elif op == "add_version":
        server.store.copy_model(step["builder"], aside)
        version.parent.mkdir(exist_ok=True)
        aside.rename(version)
    elif op == "remove_version":
        version.rename(aside)
        shutil.rmtree(aside)
    elif op == "remove_file":
        path = Path(server.fill(step["path"]))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif op == "write_file":
        server.write(Path(server.fill(step["path"])), step["text"])
    elif op == "sleep":
        time.sleep(step["seconds"])
    else:
        raise ValueError(f"unknown op {op!r}")


def ask(server, step):
    """Sends a request; returns the remarks about the answer."""
    expect = server.fill(step.get("expect", {}))
    started = time.monotonic()
    try:
        answer = server.request(step)
        seconds = time.monotonic() - started
        remarks = check(expect, *answer)
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        return [f"no answer: {error!r}"]
    if seconds > expect.get("within", seconds):
        remarks.append(f"it took {seconds:.1f} s, expected {expect['within']} at most")
    return remarks


def play_step(server, step):
    """Plays one step; returns the remarks."""
    if step.get("op") == "until":
        deadline = time.monotonic() + step["seconds"]
        while (remarks := ask(server, step["request"])) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [f"after {step['seconds']} s, {remark}" for remark in remarks]
    if "op" in step:
        change_disk(server, step)
        return []
    for _ in range(step.get("repeat", 1)):
        if remarks := ask(server, step):
            return remarks
    return []


def label(step):
    request = step.get("request", step)
    return step["op"] if "method" not in request else f"{request['method']} {request['path']}"


def play_exit(server, case):
    """A case whose server must refuse to start; returns the remarks."""
    server.start()
    try:
        code = server.process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        return ["the server still runs"]
    remarks = [] if code else ["the server exited with 0"]
    if not re.search(case["exits"], server.log_tail(1 << 20)):
        remarks.append(f"expected a match of {case['exits']!r} in {server.log_tail(400)!r}")
    return remarks


def play_steps(server, case):
    """Plays the steps, within CASE_SECONDS; returns the remarks."""
    found, late = [], threading.Event()
    watch = threading.Timer(CASE_SECONDS, lambda: (late.set(), server.kill()))
    watch.start()
    for number, step in enumerate(case["steps"], 1):
        try:
            remarks = play_step(server, step)
        except (OSError, ValueError) as error:
            remarks = [repr(error)]
        if late.is_set():
            remarks = [f"the case took more than {CASE_SECONDS} s"]
        if remarks:
            found.append(f"step {number} ({label(step)}): {'; '.join(remarks[:4])}")
        if late.is_set():
            break
    watch.cancel()
    if any("no answer" in remark for remark in found) or late.is_set():
        server.stop()  # the next case gets a new one
    return found


def play_group(command, store, cases):
    """Plays cases that can share a server; returns a list of (case, remarks, seconds, the server's log)."""
    server, results, obstacle = Server(command, store, cases[0]), [], None
    try:
        server.lay_out()
        for case in cases:
            started = time.monotonic()
            if "steps" in case and not server.running():
                obstacle = obstacle or server.bring_up()
            if obstacle:
                remarks = [obstacle]
            elif "exits" in case:
                remarks = play_exit(server, case)
            else:
                remarks = play_steps(server, case)
            remarks = [remark.replace("\n", "\\n") for remark in remarks]
            results.append((case, remarks, time.monotonic() - started, server.log_tail()))
    finally:
        server.stop()
        server.remove()
    return results


def shareable(case):
    """Whether the case leaves its server as it was, and does not see what others have asked."""
    return not case.keys() & {"exits", "alone"} and not any(
        step.get("op", "until") not in ("until", "sleep") or step.get("path", "").startswith("/metrics")
        for step in case["steps"])


def grouped(cases):
    """The cases in groups that can share a server, whatever file they come from."""
    groups = {}
    for case in cases:
        layout = [case.get(key) for key in ("models", "files", "custom_nodes", "config", "args")]
        groups.setdefault(json.dumps(layout) if shareable(case) else case["id"], []).append(case)
    return list(groups.values())


def write_junit(path, results):
    failures = sum(bool(remarks) for _, remarks, _, _ in results)
    suite = ET.Element("testsuite", name="conformance", tests=str(len(results)), failures=str(failures))
    for case, remarks, seconds, log in results:
        element = ET.SubElement(suite, "testcase", classname="conformance", name=case["id"], time=f"{seconds:.3f}")
        if remarks:
            for tag, text in (("failure", "\n".join(remarks)), ("system-out", log)):
                ET.SubElement(element, tag).text = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "?", text)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="the command that starts the server, without its arguments")
    parser.add_argument("--python", default=sys.executable, help="the Python that builds the models (needs openvino)")
    parser.add_argument("--filter", default="", help="only the cases whose id matches this regular expression")
    parser.add_argument("--jobs", type=int, default=1, help="how many servers to run at a time")
    parser.add_argument("--list", action="store_true", help="print the ids and play nothing")
    parser.add_argument("--verbose", action="store_true", help="name every case, and show the log behind a failure")
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML, too")
    parser.add_argument("files", nargs="+", metavar="CASES.json")
    options = parser.parse_args()

    cases = [case for name in options.files for case in json.loads(Path(name).read_text(encoding="utf-8"))]
    ids = [case["id"] for case in cases]
    if twice := {i for i in ids if ids.count(i) > 1}:
        sys.exit(f"ids used twice: {', '.join(sorted(twice))}")
    cases = [case for case in cases if re.search(options.filter, case["id"])]
    if options.list:
        print(*(case["id"] for case in cases), sep="\n")
        return
    if not options.server:
        parser.error("--server is missing")
    for case in [case for case in cases if "custom_nodes" in case and not COMPILER]:
        print(f"skipped {case['id']}: there is no C compiler")
        cases.remove(case)

    results = []
    with tempfile.TemporaryDirectory(prefix="models-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        store = Store(folder, options.python, cases)
        for group in pool.map(lambda group: play_group(options.server, store, group), grouped(cases)):
            for case, remarks, seconds, log in group:
                for remark in remarks:
                    print(f"FAIL {case['id']}: {remark}", flush=True)
                if options.verbose:
                    print(f"{'failed' if remarks else 'passed'} {case['id']} ({seconds:.1f} s)", flush=True)
                    if remarks:
                        print("".join(f"  | {line}\n" for line in log.splitlines()[-20:]), end="", flush=True)
            results += group
    if options.junit:
        write_junit(options.junit, results)
    failed = sum(bool(remarks) for _, remarks, _, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
