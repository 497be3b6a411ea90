"""Starts the benchmark."""

from __future__ import annotations

import sys

from tools.benchmark import command, options

if __name__ == "__main__":
    sys.exit(command.main(options.parse()))
