"""tornado_ovms: OpenVINO models behind the TensorFlow Serving REST API.

This module holds the version and imports nothing, so that ``tornado-ovms --version`` is quick.
"""

__version__ = "0.1.0"
