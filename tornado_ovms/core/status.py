"""What can go wrong: one code, one table, one exception.

``Code`` names every outcome that a client or an operator can see, ``TABLE`` gives its HTTP status and its sentence, and
``Failure`` is the only exception that parsers, services and engines raise on purpose. Sentences are the wire contract
of OpenVINO Model Server (``src/status.cpp`` and ``src/http_server.cpp`` of its release 2025.4) unless marked as ours.

Any thread may use this module.
"""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Code(Enum):
    """An outcome. The members carry no meaning of their own: ``TABLE`` does."""

    # routes and documents
    INVALID_URL = auto()
    PATH_INVALID = auto()
    UNSUPPORTED_METHOD = auto()
    RESOURCE_NOT_FOUND = auto()
    JSON_INVALID = auto()
    JSON_TOO_DEEP = auto()
    CONTENT_ENCODING_INVALID = auto()
    UNAUTHORIZED = auto()
    BODY_TOO_LARGE = auto()
    CLIENT_TOO_SLOW = auto()
    TIMEOUT_INVALID = auto()
    TOO_MANY_REQUESTS = auto()
    TOO_MANY_BYTES = auto()
    QUEUE_FULL = auto()
    TOO_MANY_CONNECTIONS = auto()
    # the TensorFlow Serving request
    BODY_NOT_AN_OBJECT = auto()
    UNKNOWN_ORDER = auto()
    INSTANCES_NOT_AN_ARRAY = auto()
    NAMED_INSTANCE_NOT_AN_OBJECT = auto()
    NO_INSTANCES = auto()
    INSTANCES_OF_UNKNOWN_KIND = auto()
    INSTANCE_UNREADABLE = auto()
    INSTANCES_BATCH_SIZE_DIFFER = auto()
    INPUTS_NOT_AN_OBJECT = auto()
    NO_INPUTS = auto()
    INPUT_UNREADABLE = auto()
    INPUTS_NEED_NAMES = auto()
    # the KServe v2 request
    OUTPUT_UNREADABLE = auto()
    PARAMETERS_UNREADABLE = auto()
    DATATYPE_UNKNOWN = auto()
    BINARY_SIZE_INVALID = auto()
    BINARY_DATA_TOO_SHORT = auto()
    DATA_TWICE = auto()
    HEADER_LENGTH_INVALID = auto()
    HEADER_LENGTH_TOO_LARGE = auto()
    # the request against the model
    VALUE_COUNT = auto()
    CONTENT_SIZE = auto()
    NUMBER_OF_INPUTS = auto()
    INPUTS_MIXED = auto()
    MISSING_INPUT = auto()
    NUMBER_OF_DIMENSIONS = auto()
    BATCH_SIZE = auto()
    SHAPE = auto()
    PRECISION = auto()
    ENCODED_VALUE_NOT_IMPLEMENTED = auto()
    STRINGS_TOO_LARGE = auto()
    # images
    IMAGE_LAYOUT = auto()
    IMAGE_EMPTY = auto()
    IMAGE_UNREADABLE = auto()
    IMAGE_TOO_LARGE = auto()
    IMAGE_CHANNELS = auto()
    IMAGE_RESOLUTION = auto()
    # servables
    MODEL_MISSING = auto()
    VERSION_MISSING = auto()
    VERSION_NOT_LOADED_YET = auto()
    VERSION_RETIRED = auto()
    # pipelines, while they are checked
    PIPELINE_NAME_OCCUPIED = auto()
    PIPELINE_LIBRARY = auto()
    PIPELINE_NODE_NAME_DUPLICATE = auto()
    PIPELINE_MISSING_MODEL = auto()
    PIPELINE_STRING_DEMULTIPLY = auto()
    PIPELINE_TOO_FEW_DIMENSIONS = auto()
    PIPELINE_DEMULTIPLY_COUNT = auto()
    PIPELINE_GATHER_FROM_MISSING_NODE = auto()
    PIPELINE_GATHER_FROM_PLAIN_NODE = auto()
    PIPELINE_MISSING_NODE = auto()
    PIPELINE_RESPONSE_AS_SOURCE = auto()
    PIPELINE_MISSING_INPUT = auto()
    PIPELINE_INPUT_TWICE = auto()
    PIPELINE_MISSING_ITEM = auto()
    PIPELINE_MISSING_OUTPUT = auto()
    PIPELINE_OPEN_INPUT = auto()
    PIPELINE_CYCLE = auto()
    PIPELINE_UNCONNECTED = auto()
    PIPELINE_GATHER_ORDER = auto()
    PIPELINE_AMBIGUOUS_INPUT = auto()
    NOT_IMPLEMENTED = auto()
    # pipelines, while they run
    PIPELINE_NOT_LOADED_YET = auto()
    PIPELINE_RETIRED = auto()
    PIPELINE_TOO_MANY_SHARDS = auto()
    PIPELINE_SHARD_DIMENSIONS = auto()
    PIPELINE_SHARD_COUNT = auto()
    PIPELINE_NO_CONTENT = auto()
    PIPELINE_SHARDS_DIFFER = auto()
    PIPELINE_OUTPUT_TWICE = auto()
    NODE_INITIALIZE = auto()
    NODE_METADATA = auto()
    NODE_EXECUTE = auto()
    NODE_OUTPUTS = auto()
    NODE_OUTPUT_COUNT = auto()
    NODE_OUTPUT_NAME = auto()
    NODE_OUTPUT_PRECISION = auto()
    NODE_OUTPUT_SIZE = auto()
    NODE_OUTPUT_MISSING = auto()
    # sequences of stateful models
    SEQUENCE_MISSING = auto()
    SEQUENCE_EXISTS = auto()
    SEQUENCE_ENDING = auto()
    SEQUENCE_ID_MISSING = auto()
    SEQUENCE_ID_TYPE = auto()
    SEQUENCE_CONTROL_TYPE = auto()
    SEQUENCE_CONTROL_VALUE = auto()
    SEQUENCE_INPUT_WITHOUT_SHAPE = auto()
    TOO_MANY_SEQUENCES = auto()
    # inference and its answer
    UNSUPPORTED_INPUT_PRECISION = auto()
    UNSUPPORTED_OUTPUT_PRECISION = auto()
    INFERENCE = auto()
    DEADLINE_EXCEEDED = auto()
    RESPONSE_UNWRITABLE = auto()
    NON_FINITE = auto()
    SERVER_NOT_READY = auto()
    INTERNAL = auto()
    # configuration and loading
    CONFIG_UNREADABLE = auto()
    CONFIG_FILE_MISSING = auto()
    CONFIG_RELOAD = auto()
    VERSIONS_RELOAD = auto()
    MODEL_CONFIG_INVALID = auto()
    MODEL_NAME_OCCUPIED = auto()
    STATEFUL_WITH_AUTO = auto()
    PLUGIN_CONFIG_FORMAT = auto()
    VERSION_POLICY_FORMAT = auto()
    VERSION_POLICY_KEY = auto()
    SHAPE_FORMAT = auto()
    LAYOUT_FORMAT = auto()
    MODEL_TYPE_CHANGED = auto()
    METRICS_FAMILY = auto()
    METRICS_TWICE = auto()
    METRICS_WITHOUT_REST_PORT = auto()
    MODEL_FILES_MISSING = auto()
    MODEL_UNREADABLE = auto()
    SHAPE_NAME_UNKNOWN = auto()
    SHAPE_NAME_MAPPED = auto()
    LAYOUT_NAME_UNKNOWN = auto()
    LAYOUT_NAME_MAPPED = auto()
    ANONYMOUS_SHAPE = auto()
    ANONYMOUS_LAYOUT = auto()
    LAYOUT_INCOMPATIBLE = auto()
    RESHAPE = auto()
    MODEL_LOAD = auto()
    BATCH_AUTO_OF_SCALAR = auto()
    COMPILE = auto()
    NIREQ_TOO_HIGH = auto()
    BATCHING = auto()
    WARMUP = auto()
    REPOSITORY = auto()
    NOT_SUPPORTED_HERE = auto()


class Answer(NamedTuple):
    """How a code shows on the wire."""

    http: int
    text: str


TABLE: Mapping[Code, Answer] = MappingProxyType({
    Code.INVALID_URL: Answer(400, "Invalid request URL"),
    Code.PATH_INVALID: Answer(400, "The provided base path is invalid or doesn't exists"),
    Code.UNSUPPORTED_METHOD: Answer(406, "Unsupported method"),
    Code.RESOURCE_NOT_FOUND: Answer(404, "Requested REST resource not found"),
    Code.JSON_INVALID: Answer(412, "The file is not valid json"),
    Code.JSON_TOO_DEEP: Answer(500, "JSON nesting depth exceeds the allowed limit"),
    Code.CONTENT_ENCODING_INVALID: Answer(400, "Request body does not match its Content-Encoding"),  # ours
    Code.UNAUTHORIZED: Answer(401, "API key is missing or wrong"),  # ours
    Code.BODY_TOO_LARGE: Answer(413, "Request body too large"),  # ours
    Code.CLIENT_TOO_SLOW: Answer(408, "The request did not come in time"),  # ours
    Code.TIMEOUT_INVALID: Answer(400, "Invalid X-Request-Timeout-Ms header"),  # ours
    Code.TOO_MANY_REQUESTS: Answer(429, "Too many requests in flight"),  # ours
    Code.TOO_MANY_BYTES: Answer(429, "Too many bytes of requests in flight"),  # ours
    Code.QUEUE_FULL: Answer(429, "Too many requests wait for this model"),  # ours
    Code.TOO_MANY_CONNECTIONS: Answer(503, "Too many connections"),  # ours
    Code.BODY_NOT_AN_OBJECT: Answer(400, "Request body should be JSON object"),
    Code.UNKNOWN_ORDER: Answer(400, "Invalid JSON structure. Could not detect row or column format"),
    Code.INSTANCES_NOT_AN_ARRAY: Answer(400, "Invalid JSON structure. Nonamed instance is not an array."),
    Code.NAMED_INSTANCE_NOT_AN_OBJECT: Answer(
        400, "Invalid JSON structure. One of named instances is not a JSON object."
    ),
    Code.NO_INSTANCES: Answer(400, "Invalid JSON structure. Missing instances in row format"),
    Code.INSTANCES_OF_UNKNOWN_KIND: Answer(400, "Could not detect neither named or nonamed format"),
    Code.INSTANCE_UNREADABLE: Answer(400, "Could not parse instance content. Not valid ndarray detected"),
    Code.INSTANCES_BATCH_SIZE_DIFFER: Answer(400, "Invalid JSON structure. Request inputs have different batch sizes"),
    Code.INPUTS_NOT_AN_OBJECT: Answer(400, "Invalid JSON structure. One of inputs is not a JSON object."),
    Code.NO_INPUTS: Answer(400, "Invalid JSON structure, missing inputs"),
    Code.INPUT_UNREADABLE: Answer(400, "Could not parse input content. Not valid ndarray detected"),
    Code.INPUTS_NEED_NAMES: Answer(400, "Inputs inside buffer does not match expected format."),
    Code.OUTPUT_UNREADABLE: Answer(400, "Could not parse output content."),
    Code.PARAMETERS_UNREADABLE: Answer(400, "Could not parse request parameters"),
    Code.DATATYPE_UNKNOWN: Answer(400, "Could not parse input content. Unsupported data precision detected"),
    Code.BINARY_SIZE_INVALID: Answer(400, "binary_data_size parameter is invalid and cannot be parsed"),
    Code.BINARY_DATA_TOO_SHORT: Answer(
        400, "Received buffer size is smaller than binary_data_size parameter indicates"
    ),
    Code.DATA_TWICE: Answer(500, "Request contains values both in binary data and in content value"),
    Code.HEADER_LENGTH_INVALID: Answer(500, "Inference-Header-Content-Length header is invalid and couldn't be parsed"),
    Code.HEADER_LENGTH_TOO_LARGE: Answer(500, "Inference-Header-Content-Length header exceeds actual payload length"),
    Code.VALUE_COUNT: Answer(400, "Invalid number of values in tensor proto container"),
    Code.CONTENT_SIZE: Answer(400, "Invalid content size of tensor proto"),
    Code.NUMBER_OF_INPUTS: Answer(400, "Invalid number of inputs"),
    Code.INPUTS_MIXED: Answer(
        400,
        "Passing buffers both in ModelInferRequest::InferInputTensor::contents and in ModelInferRequest::raw_input_contents"
        " is not allowed",
    ),
    Code.MISSING_INPUT: Answer(400, "Missing input with specific name"),
    Code.NUMBER_OF_DIMENSIONS: Answer(400, "Invalid number of shape dimensions"),
    Code.BATCH_SIZE: Answer(400, "Invalid input batch size"),
    Code.SHAPE: Answer(400, "Invalid input shape"),
    Code.PRECISION: Answer(400, "Invalid input precision"),
    Code.ENCODED_VALUE_NOT_IMPLEMENTED: Answer(500, "Functionality not implemented"),
    Code.STRINGS_TOO_LARGE: Answer(500, "Maximum 2D array after string conversion exceeded 1GB"),
    Code.IMAGE_LAYOUT: Answer(400, "Received binary image input but resource not configured to accept NHWC layout"),
    Code.IMAGE_EMPTY: Answer(400, "String val is empty"),
    Code.IMAGE_UNREADABLE: Answer(500, "Image parsing failed"),
    Code.IMAGE_TOO_LARGE: Answer(400, "Image has too many pixels"),  # ours
    Code.IMAGE_CHANNELS: Answer(400, "Invalid number of channels in binary input"),
    Code.IMAGE_RESOLUTION: Answer(
        400, "Binary input images for this endpoint are required to have the same resolution"
    ),
    Code.MODEL_MISSING: Answer(404, "Model with requested name is not found"),
    Code.VERSION_MISSING: Answer(404, "Model with requested version is not found"),
    Code.VERSION_NOT_LOADED_YET: Answer(404, "Model with requested version is not loaded yet"),
    Code.VERSION_RETIRED: Answer(404, "Model with requested version is retired"),
    Code.PIPELINE_NAME_OCCUPIED: Answer(500, "Pipeline has the same name as model"),
    Code.PIPELINE_LIBRARY: Answer(500, "Pipeline refers to incorrect library"),
    Code.PIPELINE_NODE_NAME_DUPLICATE: Answer(500, "Pipeline definition has multiple nodes with the same name"),
    Code.PIPELINE_MISSING_MODEL: Answer(500, "Pipeline definition has reference to missing model"),
    Code.PIPELINE_STRING_DEMULTIPLY: Answer(500, "Demultiplication is not supported for string precision"),
    Code.PIPELINE_TOO_FEW_DIMENSIONS: Answer(500, "Pipeline has not enough shape dimensions to demultiply"),
    Code.PIPELINE_DEMULTIPLY_COUNT: Answer(500, "Demultiplication count does not match tensor first dimension"),
    Code.PIPELINE_GATHER_FROM_MISSING_NODE: Answer(500, "Gather node refers to not existing node"),
    Code.PIPELINE_GATHER_FROM_PLAIN_NODE: Answer(500, "Gather node refers to node that isn't demultiplexer"),
    Code.PIPELINE_MISSING_NODE: Answer(500, "Pipeline definition has reference to missing node"),
    Code.PIPELINE_RESPONSE_AS_SOURCE: Answer(500, "Pipeline definition has response node used as dependency node"),
    Code.PIPELINE_MISSING_INPUT: Answer(500, "Pipeline definition has connection to non existing model input"),
    Code.PIPELINE_INPUT_TWICE: Answer(
        500, "Pipeline definition has multiple connections to the same input of underlying model"
    ),
    Code.PIPELINE_MISSING_ITEM: Answer(500, "Pipeline definition has reference to missing data source"),
    Code.PIPELINE_MISSING_OUTPUT: Answer(500, "Pipeline definition has reference to missing model output"),
    Code.PIPELINE_OPEN_INPUT: Answer(
        500, "Pipeline definition does not have connections for all inputs of underlying models"
    ),
    Code.PIPELINE_CYCLE: Answer(500, "Pipeline definition contains a cycle"),
    Code.PIPELINE_UNCONNECTED: Answer(500, "Pipeline definition has unconnected nodes"),
    Code.PIPELINE_GATHER_ORDER: Answer(500, "Demultiplexer and gather nodes are not in LIFO order"),
    Code.PIPELINE_AMBIGUOUS_INPUT: Answer(
        500, "Multiple nodes connected to the same pipeline input require different tensor metadata"
    ),
    Code.NOT_IMPLEMENTED: Answer(500, "Functionality not implemented"),
    Code.PIPELINE_NOT_LOADED_YET: Answer(404, "Pipeline is not loaded yet"),
    Code.PIPELINE_RETIRED: Answer(404, "Pipeline is retired"),
    Code.PIPELINE_TOO_MANY_SHARDS: Answer(500, "Too large dynamic demultiplication requested."),
    Code.PIPELINE_SHARD_DIMENSIONS: Answer(500, "Wrong number of dimensions in a tensor to be sharded"),
    Code.PIPELINE_SHARD_COUNT: Answer(500, "Wrong dimension size. Should match demultiply count"),
    Code.PIPELINE_NO_CONTENT: Answer(204, "Pipeline execution aborted due to no content from custom node"),
    Code.PIPELINE_SHARDS_DIFFER: Answer(500, "Gathered tensor shards dimensions are different"),
    Code.PIPELINE_OUTPUT_TWICE: Answer(500, "Tried to set the same input twice for node input handler"),
    Code.NODE_INITIALIZE: Answer(500, "Failure during custom node library initialization"),
    Code.NODE_METADATA: Answer(500, "Custom node failed on metadata call"),
    Code.NODE_EXECUTE: Answer(500, "Custom node failed during execution"),
    Code.NODE_OUTPUTS: Answer(500, "Custom node library has returned corrupted outputs handle"),
    Code.NODE_OUTPUT_COUNT: Answer(500, "Custom node library has produced corrupted number of outputs"),
    Code.NODE_OUTPUT_NAME: Answer(500, "Custom node output is missing name"),
    Code.NODE_OUTPUT_PRECISION: Answer(500, "Custom node has produced tensor with unspecified precision"),
    Code.NODE_OUTPUT_SIZE: Answer(500, "Custom node output has invalid content size"),
    Code.NODE_OUTPUT_MISSING: Answer(500, "Custom node output is missing"),
    Code.SEQUENCE_MISSING: Answer(404, "Sequence with provided ID does not exist"),
    Code.SEQUENCE_EXISTS: Answer(409, "Sequence with provided ID already exists"),
    Code.SEQUENCE_ENDING: Answer(412, "Sequence last request is being processed and it's not available anymore"),
    Code.SEQUENCE_ID_MISSING: Answer(400, "Sequence ID has not been provided in request inputs"),
    Code.SEQUENCE_ID_TYPE: Answer(400, "Could not find sequence id in expected tensor proto field uint64_val"),
    Code.SEQUENCE_CONTROL_TYPE: Answer(
        400, "Could not find sequence control input in expected tensor proto field uint32_val"
    ),
    Code.SEQUENCE_CONTROL_VALUE: Answer(400, "Unexpected value of sequence control input"),
    Code.SEQUENCE_INPUT_WITHOUT_SHAPE: Answer(400, "Special input proto does not contain tensor shape information"),
    Code.TOO_MANY_SEQUENCES: Answer(503, "Max sequence number has been reached. Could not create new sequence."),
    Code.UNSUPPORTED_INPUT_PRECISION: Answer(500, "Unsupported deserialization precision"),
    Code.UNSUPPORTED_OUTPUT_PRECISION: Answer(500, "Unsupported serialization precision"),
    Code.INFERENCE: Answer(500, "Internal inference error"),
    Code.DEADLINE_EXCEEDED: Answer(504, "Inference did not finish in time"),  # ours
    Code.RESPONSE_UNWRITABLE: Answer(500, "Response parsing to JSON error"),
    Code.NON_FINITE: Answer(500, "Output holds values that are not finite"),  # ours
    Code.SERVER_NOT_READY: Answer(503, "Server is not ready"),  # ours
    Code.INTERNAL: Answer(500, "Internal server error"),
    Code.CONFIG_UNREADABLE: Answer(500, "Configuration file not found or cannot open"),
    Code.CONFIG_FILE_MISSING: Answer(500, "Config file not found or cannot open."),
    Code.CONFIG_RELOAD: Answer(500, "Reloading config file failed. Check server logs for more info."),
    Code.VERSIONS_RELOAD: Answer(500, "Reloading models versions failed. Check server logs for more info."),
    Code.MODEL_CONFIG_INVALID: Answer(500, "Model config is invalid"),
    Code.MODEL_NAME_OCCUPIED: Answer(500, "Given model name is already occupied"),
    Code.STATEFUL_WITH_AUTO: Answer(500, "Dynamic shape and dynamic batch size are not supported for stateful models"),
    Code.PLUGIN_CONFIG_FORMAT: Answer(500, "Plugin config is in wrong format"),
    Code.VERSION_POLICY_FORMAT: Answer(500, "Model version policy is in wrong format"),
    Code.VERSION_POLICY_KEY: Answer(500, "Model version policy contains unsupported key"),
    Code.SHAPE_FORMAT: Answer(500, "The provided shape is in wrong format"),
    Code.LAYOUT_FORMAT: Answer(500, "The provided layout is in wrong format"),
    Code.MODEL_TYPE_CHANGED: Answer(500, "Model type cannot be changed after it is loaded"),
    Code.METRICS_FAMILY: Answer(500, "Invalid name in metrics_list"),
    Code.METRICS_TWICE: Answer(500, "Metrics configuration duplicated in configuration file and CLI parameters"),
    Code.METRICS_WITHOUT_REST_PORT: Answer(500, "Missing rest_port parameter in server CLI"),
    Code.MODEL_FILES_MISSING: Answer(500, "File not found or cannot open"),
    Code.MODEL_UNREADABLE: Answer(500, "Internal server error"),
    Code.SHAPE_NAME_UNKNOWN: Answer(500, "Shape from config not found in model"),
    Code.SHAPE_NAME_MAPPED: Answer(500, "Shape from config has real name. Use mapped name instead"),
    Code.LAYOUT_NAME_UNKNOWN: Answer(500, "Layout from config not found in model"),
    Code.LAYOUT_NAME_MAPPED: Answer(500, "Layout from config has real name. Use mapped name instead"),
    Code.ANONYMOUS_SHAPE: Answer(500, "Anonymous fixed shape is invalid for models with multiple inputs"),
    Code.ANONYMOUS_LAYOUT: Answer(500, "Anonymous fixed layout is invalid for models with multiple inputs"),
    Code.LAYOUT_INCOMPATIBLE: Answer(500, "Layout incompatible with given shape"),
    Code.RESHAPE: Answer(412, "Model could not be reshaped with requested shape"),
    Code.MODEL_LOAD: Answer(500, "Error while loading a model"),
    Code.BATCH_AUTO_OF_SCALAR: Answer(500, "Batching set to AUTO but model contains scalar tensor"),
    Code.COMPILE: Answer(412, "Cannot compile model into target device"),
    Code.NIREQ_TOO_HIGH: Answer(500, "Nireq parameter too high"),
    Code.BATCHING: Answer(500, "Requests for this model cannot be joined"),  # ours
    Code.WARMUP: Answer(500, "Warm-up failed"),  # ours
    Code.REPOSITORY: Answer(500, "Model repository cannot be read"),  # ours
    Code.NOT_SUPPORTED_HERE: Answer(500, "Not supported by tornado_ovms"),  # ours
})


class Failure(Exception):
    """An outcome that the caller has to hear about.

    ``detail`` says what was expected and what was found; it follows the code's sentence after `` - ``, as in the
    reference.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    @property
    def http(self) -> int:
        """The HTTP status of the code."""
        return TABLE[self.code].http

    @property
    def text(self) -> str:
        """The code's sentence, with the detail if there is one."""
        sentence = TABLE[self.code].text
        return f"{sentence} - {self.detail}" if self.detail else sentence

    def __str__(self) -> str:
        return self.text
