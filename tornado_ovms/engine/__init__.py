"""What runs a model: the protocols, the bridge to the event loop, and OpenVINO behind them."""

import sys

# OpenVINO reports to a server of Google's that it was imported, if this library is there, and its wheel brings it along. With
# None in its place an import of it fails, and OpenVINO goes on without. Nothing imports OpenVINO before this package.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # see importlib: None stands for "not found"
