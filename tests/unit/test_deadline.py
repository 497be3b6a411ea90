"""The end of a process whose threads do not end."""

from __future__ import annotations

import re
import subprocess
import sys

STUCK = """
import logging, threading
from concurrent.futures import ThreadPoolExecutor
from tornado_ovms import logs
from tornado_ovms.deadline import Deadline

logs.configure("INFO", None)
deadline = Deadline()
deadline.set(3600, 1)
with logs.in_background(), ThreadPoolExecutor() as pool:
    pool.submit(threading.Event().wait)
    for number in range(LINES):
        logging.getLogger("serving").info("line %d", number)
    deadline.set(0, 7)
"""

FREE = """
from tornado_ovms.deadline import Deadline

Deadline().set(3600, 7)
"""


def test_it_ends_and_the_log_is_whole() -> None:
    """With the exit code that was set last."""
    command = [sys.executable, "-c", STUCK.replace("LINES", "100")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = [f"line {number}" for number in range(100)]
    assert re.findall(r"\[info\]\[.*?\] (.*)", done.stdout) == lines
    (told,) = re.findall(r"\[warning\]\[.*?\] (.*)", done.stdout)
    assert told == "Some threads do not end: the process ends without them"
    assert (done.returncode, done.stderr) == (7, "")


def test_a_log_that_nobody_reads_does_not_hold_it() -> None:
    """A pipe that is full, and stays so."""
    command = [sys.executable, "-c", STUCK.replace("LINES", "9000")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.wait(60) == 7


def test_who_ends_before_is_not_held() -> None:
    """Nor is the exit code another one."""
    assert subprocess.run([sys.executable, "-c", FREE], check=False, timeout=60).returncode == 0
