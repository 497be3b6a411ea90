"""The options of the command line, as one table.

Names, kinds and defaults are those of OpenVINO Model Server (``src/cli_parser.cpp`` of its release 2025.4), so that its
command lines work here; ``Group.OURS`` has the others. What may stand beside what is in ``checks``.

Imports next to nothing: ``--help`` reads this table and has to be quick. Any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value = str | int | bool


class Kind(Enum):
    """What a value is: true or false, any text, or a whole number from 0 up to 32 or 64 bits."""

    FLAG = "flag"
    TEXT = "text"
    U32 = "u32"
    U64 = "u64"


class Group(Enum):
    """A heading of the help."""

    GENERAL = "General"
    SOURCE = "What to serve"
    MODEL = "Settings of a single model (--model_name, --model_path)"
    REST = "REST server"
    CHANGES = "Changes and caches"
    METRICS = "Metrics"
    LOG = "Log"
    OURS = "Options that OpenVINO Model Server does not have"
    MANAGE = "Managing a configuration file (the process does one thing and ends)"
    GRPC = "gRPC (accepted, without effect)"
    GENERATION = "Generation and MediaPipe (accepted beside a model or a configuration file, without effect)"


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    ``default`` is what counts if it is not given: None is an empty text, 0 or false. ``shown`` says the default in
    words where it is computed. ``choices`` are the only texts allowed, if there are any.
    """

    name: str
    kind: Kind
    help: str
    default: Value | None = None
    shown: str = ""
    choices: tuple[str, ...] = ()


ALL_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 - the reference's default: containers need it

LOG_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")

TASKS: Final = ("text_generation", "embeddings", "rerank", "image_generation", "text2speech", "speech2text")
"""What ``--task`` may say."""

WARMUP: Final = "none, zeros, or the name of a file beside the model"


def is_warmup(text: str) -> bool:
    """Whether ``warmup`` may say so: one of the words, or the name of a file in the version folder."""
    return text not in {"", ".", ".."} and "/" not in text


TABLE: Final[Mapping[Group, tuple[Option, ...]]] = MappingProxyType({
    Group.GENERAL: (
        Option("help", Kind.FLAG, "Show this help and exit. Short: -h."),
        Option("version", Kind.FLAG, "Show the version and exit."),
    ),
    Group.SOURCE: (
        Option("config_path", Kind.TEXT, "Configuration file (JSON) that lists the models."),
        Option("model_name", Kind.TEXT, "Name of a single model."),
        Option("model_path", Kind.TEXT, "Folder of a single model: it holds the version folders."),
    ),
    Group.MODEL: (
        Option("batch_size", Kind.TEXT, 'A number, -1 (any), a range "2:5", or "auto".', shown="the model's"),
        Option("shape", Kind.TEXT, '"(1,3,224,224)", "auto", or a JSON object by input.', shown="the model's"),
        Option("layout", Kind.TEXT, '"NHWC:NCHW" (clients:model), or a JSON object.', shown="the model's"),
        Option(
            "model_version_policy",
            Kind.TEXT,
            'One of {"latest": {"num_versions": 2}}, {"specific": {"versions": [1, 3]}}, {"all": {}}.',
            shown="the latest version",
        ),
        Option("nireq", Kind.U32, "Inference requests that run at once; 0: as many as OpenVINO advises.", 0),
        Option("target_device", Kind.TEXT, "OpenVINO device, such as CPU, GPU.1 or AUTO:GPU,CPU.", "CPU"),
        Option("plugin_config", Kind.TEXT, 'Properties of the device, as JSON: {"NUM_STREAMS": "2"}.'),
        Option("stateful", Kind.FLAG, "The model keeps a state for each sequence of requests.", False),
        Option("idle_sequence_cleanup", Kind.FLAG, "Remove sequences that nobody uses.", True),
        Option("low_latency_transformation", Kind.FLAG, "Turn the model's loops into states.", False),
        Option("max_sequence_number", Kind.U32, "Sequences that may be open at once.", 500),
    ),
    Group.REST: (
        Option("rest_port", Kind.U32, "Port of the REST API.", 0, shown="none; 8000 with --demo"),
        Option("rest_bind_address", Kind.TEXT, "Addresses to listen on, separated by commas.", ALL_ADDRESSES),
        Option("rest_workers", Kind.U32, "Threads that decode large bodies, 2 to 10000.", shown="number of CPUs"),
        Option("allow_credentials", Kind.FLAG, "Send Access-Control-Allow-Credentials.", False),
        Option("allowed_origins", Kind.TEXT, "Text of Access-Control-Allow-Origin.", "*"),
        Option("allowed_methods", Kind.TEXT, "Text of Access-Control-Allow-Methods.", "*"),
        Option("allowed_headers", Kind.TEXT, "Text of Access-Control-Allow-Headers.", "*"),
    ),
    Group.CHANGES: (
        Option(
            "file_system_poll_wait_seconds",
            Kind.U32,
            "Pause between two looks at the configuration file and the version folders; 0: look only when asked to.",
            1,
        ),
        Option(
            "sequence_cleaner_poll_wait_minutes",
            Kind.U32,
            "Pause between two removals of unused sequences; 0: never.",
            5,
        ),
        Option(
            "custom_node_resources_cleaner_interval_seconds",
            Kind.U32,
            "Pause between two removals of what custom nodes left. Without effect: it is given back at once.",
            300,
        ),
        Option("cache_dir", Kind.TEXT, "Folder for compiled models.", shown="/opt/cache if it exists"),
        Option("cpu_extension", Kind.TEXT, "Library with more layers for the CPU."),
    ),
    Group.METRICS: (
        Option("metrics_enable", Kind.FLAG, "Serve /metrics on the REST port.", False),
        Option("metrics_list", Kind.TEXT, "Only these families, separated by commas.", shown="the default families"),
    ),
    Group.LOG: (
        Option("log_level", Kind.TEXT, "The lowest level that is logged.", "INFO", choices=LOG_LEVELS),
        Option("log_path", Kind.TEXT, "Log into this file, too."),
    ),
    Group.OURS: (
        Option("demo", Kind.FLAG, "Serve the two models that come with the package."),
        Option(
            "workers",
            Kind.U32,
            "Processes that serve on the one port, 1 to 64; each has the models in memory.",
            shown="one for each 8 CPUs",
        ),
        Option(
            "drain_delay",
            Kind.U32,
            "Seconds after SIGTERM in which requests are still accepted while /v2/health/ready already says no: as long as "
            "load balancers need to notice.",
            0,
        ),
        Option("drain_timeout", Kind.U32, "Seconds after that in which requests may end.", 10),
        Option(
            "non_finite",
            Kind.TEXT,
            "How NaN and the infinities are written in answers.",
            "null",
            choices=("null", "literal", "string", "error"),
        ),
        Option(
            "manage",
            Kind.FLAG,
            "Let clients list, load and unload the models of the configuration (/v2/repository).",
            False,
        ),
        Option(
            "ready_when",
            Kind.TEXT,
            "When /v2/health/ready says yes: once the first loading has ended, whatever came of it (started); while a "
            "version of any model serves (any); while one of each model does (all).",
            "started",
            choices=("started", "any", "all"),
        ),
        Option("server_timing", Kind.FLAG, "Tell in the header Server-Timing how long each stage took.", False),
        Option(
            "access_log",
            Kind.U32,
            "Log one of so many requests, and each that fails with 500 or more; 0: none.",
            0,
        ),
        Option("log_format", Kind.TEXT, "How log lines are written.", "text", choices=("text", "json")),
        Option(
            "healthcheck",
            Kind.FLAG,
            "Ask the server on --rest_port, or on that of process 1, whether it is ready, and exit with 0 if it is.",
        ),
        Option(
            "warmup",
            Kind.TEXT,
            "What each version infers before it takes requests: none, zeros, or the name of a file beside the model "
            "with the body of a predict request. A model's key warmup in the configuration file counts more.",
            "none",
        ),
        Option("unix_socket", Kind.TEXT, "Path of a Unix socket to listen on, besides rest_port."),
        Option(
            "tls_certificate",
            Kind.TEXT,
            "File with the certificate (PEM) for HTTPS, and those up to its authority.",
        ),
        Option("tls_key", Kind.TEXT, "File with the key of the certificate.", shown="the file of the certificate"),
        Option("tls_min_version", Kind.TEXT, "Oldest TLS that clients may use.", "1.2", choices=("1.2", "1.3")),
        Option("tls_client_ca", Kind.TEXT, "File with the authorities of which clients need a certificate."),
        Option(
            "inference_keys", Kind.TEXT, "File with API keys, one in a line, of which those who use models need one."
        ),
        Option("management_keys", Kind.TEXT, "The same for those who manage the server, and for /metrics."),
        Option(
            "max_open_requests", Kind.U32, "Predictions and inferences received or answered at once; 0: any number.", 0
        ),
        Option("max_open_bytes", Kind.U64, "Bytes of the bodies of these, also unpacked; 0: any number.", 4 << 30),
        Option("max_queue", Kind.U32, "Those of one model beyond what its infer requests work on; 0: any number.", 0),
        Option("max_connections", Kind.U32, "Connections open at once; 0: any number.", 0),
        Option(
            "request_timeout",
            Kind.U32,
            "Seconds in which a prediction or inference is answered, or refused with 504; 0: no limit. A client may shorten "
            "that by the header X-Request-Timeout-Ms.",
            0,
        ),
        Option(
            "client_timeout",
            Kind.U32,
            "Seconds in which a client has to send the head of a request that it has begun, and to send or take at least "
            "4096 bytes (of a large body a sixteenth); 0: no limit. Idle connections stay open.",
            60,
        ),
        Option("max_body_bytes", Kind.U64, "Largest request body, also when unpacked.", 1 << 30),
        Option("max_json_depth", Kind.U32, "Deepest nesting of a request's JSON, 1 to 1000.", 100),
        Option("max_image_pixels", Kind.U64, "Largest picture, width times height.", 64 << 20),
        Option("print_config_schema", Kind.FLAG, "Print the JSON Schema of the configuration file and exit."),
    ),
    Group.MANAGE: (
        Option("list_models", Kind.FLAG, "List the models below --model_repository_path."),
        Option(
            "add_to_config",
            Kind.FLAG,
            "Add --model_name with --model_path, or below --model_repository_path, to --config_path.",
        ),
        Option("remove_from_config", Kind.FLAG, "Take --model_name out of --config_path."),
        Option("model_repository_path", Kind.TEXT, "Folder of model folders.", shown="$OVMS_MODEL_REPOSITORY_PATH"),
    ),
    Group.GRPC: (
        Option("port", Kind.U32, "Port of the gRPC API.", 0),
        Option("grpc_bind_address", Kind.TEXT, "Addresses to listen on.", ALL_ADDRESSES),
        Option("grpc_workers", Kind.U32, "gRPC servers, 1 to the number of cores.", 1),
        Option("grpc_max_threads", Kind.U32, "Threads.", shown="8 for each core"),
        Option("grpc_memory_quota", Kind.U64, "Bytes for buffers.", 2 << 30),
        Option("grpc_channel_arguments", Kind.TEXT, "Arguments for the gRPC library."),
    ),
    Group.GENERATION: (
        Option("api_key_file", Kind.TEXT, "File with the key for /v3; it must be readable."),
        Option("allowed_local_media_path", Kind.TEXT, "Folder of media files for language models."),
        Option("pull", Kind.FLAG, "Download a model and exit; refused here."),
        Option("source_model", Kind.TEXT, "Model to download."),
        Option("gguf_filename", Kind.TEXT, "File of that model."),
        Option("overwrite_models", Kind.FLAG, "Download it again.", False),
        Option("task", Kind.TEXT, "What a generative model does. Its own options are known beside it.", choices=TASKS),
        Option("weight-format", Kind.TEXT, "Precision to convert weights to.", "int8"),
        Option("extra_quantization_params", Kind.TEXT, "Parameters of that conversion."),
        Option("vocoder", Kind.TEXT, "Model that turns spectra into sound."),
    ),
})

_TASK_NAMES: Final = """
    cache_size default_num_inference_steps default_resolution draft_source_model dynamic_split_fuse
    enable_prefix_caching enable_tool_guided_generation guidance_scale kv_cache_precision max_allowed_chunks
    max_num_batched_tokens max_num_images_per_prompt max_num_inference_steps max_num_seqs max_prompt_len
    max_resolution model_distribution_policy normalize num_images_per_prompt num_streams pipeline_type pooling
    reasoning_parser resolution tool_parser truncate
"""


def _by_name(options: Iterable[Option]) -> Mapping[str, Option]:
    return MappingProxyType({option.name.replace("-", "_"): option for option in options})


OPTIONS: Final = _by_name(option for options in TABLE.values() for option in options)
"""Every option that is always known, by its name with underscores."""

TASK_OPTIONS: Final = _by_name(Option(name, Kind.TEXT, "") for name in _TASK_NAMES.split())
"""Options that are known beside ``--task`` only; none has an effect."""
