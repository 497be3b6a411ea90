"""The words of a command line, read as the reference's library reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.arguments import HINT, Arguments, UsageError, parse
from tornado_ovms.core.options import OPTIONS, TABLE, TASK_OPTIONS, Kind, Option

WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from([
        "--",
        "-",
        "-h",
        "--help",
        "--task",
        "text_generation",
        "--rest_port",
        "0x10",
        "--metrics_enable",
    ]),
    st.builds("--{}={}".format, st.sampled_from([*OPTIONS, *TASK_OPTIONS]), st.text(max_size=4)),
)


def refusal(*words: str) -> list[str]:
    """The lines of the complaint about words."""
    with pytest.raises(UsageError) as caught:
        parse(words)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {}),
        (["--model_name", "m"], {"model_name": "m"}),
        (["--model_name=m"], {"model_name": "m"}),
        (["--model_name=a=b"], {"model_name": "a=b"}),
        (["--model-name", "m", "--rest-port=1"], {"model_name": "m", "rest_port": 1}),
        (["--weight-format", "int4"], {"weight_format": "int4"}),
        (["--weight_format", "int4"], {"weight_format": "int4"}),
        (["--model_name", "--rest_port", "--model_path", "-h"], {"model_name": "--rest_port", "model_path": "-h"}),
        (["--model_name", "--"], {"model_name": "--"}),
        (["--model_name", "a", "--model_name", "b"], {"model_name": "b"}),
        (["--stateful", "--stateful=false"], {"stateful": False}),
        (["--shape="], {"shape": ""}),
        (["--shape=a\nb"], {"shape": "a\nb"}),
        (["-h"], {"help": True}),
        (["-hh"], {"help": True}),
        (["--help", "--version"], {"help": True, "version": True}),
    ],
)
def test_options_are_read(words: list[str], given: dict[str, object]) -> None:
    """A value is behind an equals sign or is the next word, whatever that looks like; the last of two counts."""
    assert parse(words).given == given


@pytest.mark.parametrize(
    ("text", "value"),
    [(each, True) for each in ("true", "True", "t", "T", "1")]
    + [(each, False) for each in ("false", "False", "f", "F", "0")],
)
def test_flags_are_read(text: str, value: bool) -> None:  # noqa: FBT001
    """Behind an equals sign in these spellings; alone a flag is true."""
    assert parse([f"--metrics_enable={text}"]).given == {"metrics_enable": value}
    assert parse(["--metrics_enable"]).given == {"metrics_enable": True}


@pytest.mark.parametrize("text", ["TRUE", "yes", "on", "2", "", "truex", "no"])
def test_other_spellings_are_no_flag(text: str) -> None:
    """The hint says that the equals sign is needed."""
    sentence, hint = refusal(f"--stateful={text}")
    assert sentence == f"error parsing options: Argument ‘{text}’ failed to parse"
    assert hint == f"--stateful takes true or false, behind an equals sign; {HINT}"


def test_the_word_behind_a_flag_is_stray() -> None:
    """It is not the flag's value."""
    assert refusal("--metrics_enable", "true") == [
        "error parsing options - unmatched arguments: true, ",
        f"the value of a flag follows an equals sign, as in --metrics_enable=true. {HINT}",
    ]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rest_port", "0", 0),
        ("rest_port", "0080", 80),
        ("rest_port", "0x1F90", 8080),
        ("rest_port", "4294967295", 2**32 - 1),
        ("max_body_bytes", "18446744073709551615", 2**64 - 1),
        ("max_body_bytes", "0xffffffffffffffff", 2**64 - 1),
    ],
)
def test_numbers_are_read(name: str, text: str, value: int) -> None:
    """Decimal or hexadecimal, up to the largest of their type."""
    assert parse([f"--{name}", text]).given == parse([f"--{name}={text}"]).given == {name: value}


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", "1e3", "many", "", " 1", "1 ", "1_0", "0x", "0X10", "٣", "\u0661"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """Signs, points, blanks, other digits and words."""
    assert refusal("--nireq", text)[0] == f"error parsing options: Argument ‘{text}’ failed to parse"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rest_port", "4294967296"),
        ("rest_port", "0x100000000"),
        ("max_body_bytes", "18446744073709551616"),
        ("max_body_bytes", "1" * 5000),
    ],
)
def test_numbers_have_to_fit_their_type(name: str, text: str) -> None:
    """Also one of more digits than Python reads; the hint gives the largest."""
    sentence, hint = refusal(f"--{name}", text)
    assert sentence == f"error parsing options: Argument ‘{text}’ failed to parse"
    assert f"a number from 0 to {2**32 - 1 if name == 'rest_port' else 2**64 - 1}, decimal or 0x…" in hint


@pytest.mark.parametrize("name", ["rest_port", "model_name", "weight-format"])
def test_a_value_is_missing_at_the_end(name: str) -> None:
    """A flag may end the line, another option may not."""
    assert refusal(f"--{name}")[0] == f"error parsing options: Option ‘{name}’ is missing an argument"


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (["--bad_option"], "--bad_option, "),
        (["--rest_worker", "4"], "--rest_worker, 4, "),
        (["grpc_workers", "2"], "grpc_workers, 2, "),
        (["--bad=1", "x"], "--bad=1, x, "),
        (["-p", "9000"], "-p, 9000, "),
        (["-hp"], "-p, "),
        (["-1"], "-1, "),
        (["-", "--"], "-, "),
        (["--", "--rest_port", "1"], "--rest_port, 1, "),
        (["---rest_port=1"], "---rest_port=1, "),
        (["--r"], "--r, "),
        (["--max_num_seqs", "4"], "--max_num_seqs, 4, "),
        (["--trace_path", "x"], "--trace_path, x, "),
    ],
)
def test_unknown_words_are_collected(words: list[str], listed: str) -> None:
    """All of them, in their order, each with a comma and a blank; names are never shortened."""
    sentence, hint = refusal(*words)
    assert sentence == f"error parsing options - unmatched arguments: {listed}"
    assert hint.endswith(HINT)


def test_a_mistyped_name_is_recognised() -> None:
    """Each once, however it is written; a value is no name."""
    hint = refusal("--rest-worker=4", "--rest_worker", "4", "--modelname=m")[1]
    assert hint == f"did you mean --rest_workers, --model_name? {HINT}"


def test_a_value_is_complained_about_before_unknown_words() -> None:
    """The reference's library reads values while it collects."""
    assert "failed to parse" in refusal("--bad", "--nireq", "x")[0]


def test_options_of_a_task_are_known_beside_it() -> None:
    """Wherever they stand; other words stay unknown."""
    arguments = parse(["--max_num_seqs", "4", "--task", "text_generation", "--normalize=true"])
    assert arguments.given == {"task": "text_generation", "max_num_seqs": "4", "normalize": "true"}
    assert refusal("--task", "embeddings", "--pooling", "CLS", "--bad")[0].endswith("arguments: --bad, ")
    assert refusal("--task", "embeddings", "-h", "-x", "--pooling")[0].endswith(
        "Option ‘pooling’ is missing an argument"
    )


@pytest.mark.parametrize(
    ("words", "has"),
    [
        ([], False),
        (["--nireq", "0"], True),
        (["--nireq", "2"], True),
    ],
)
def test_a_zero_is_given(words: list[str], has: bool) -> None:  # noqa: FBT001
    """Absence and 0 are told apart."""
    assert parse(words).has("nireq") is has


def test_an_empty_text_is_absent() -> None:
    """A false flag is not."""
    assert not parse(["--shape="]).has("shape")
    assert parse(["--stateful=false"]).has("stateful")


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_what_is_not_given_has_its_default(option: Option) -> None:
    """An option without one is an empty text, 0 or false."""
    name, arguments = option.name.replace("-", "_"), Arguments({})
    read = {
        Kind.FLAG: arguments.flag,
        Kind.TEXT: arguments.text,
        Kind.U32: arguments.number,
        Kind.U64: arguments.number,
    }
    empty = {Kind.FLAG: False, Kind.TEXT: "", Kind.U32: 0, Kind.U64: 0}
    value = read[option.kind](name)
    assert value == (empty[option.kind] if option.default is None else option.default)
    assert type(value) is type(empty[option.kind])


def test_an_empty_text_is_no_default() -> None:
    """allowed_origins may be switched off that way."""
    assert parse(["--allowed_origins="]).text("allowed_origins") == ""
    assert parse([]).text("allowed_origins") == "*"


def test_the_table_has_each_name_once() -> None:
    """Also beside a task; a name can be written on a command line, and a default is of its option's kind."""
    names = [option.name for options in TABLE.values() for option in options]
    assert len(set(names)) == len(names)
    assert not OPTIONS.keys() & TASK_OPTIONS.keys()
    for option in OPTIONS.values():
        expected = {Kind.FLAG: bool, Kind.TEXT: str}.get(option.kind, int)
        assert option.default is None or type(option.default) is expected
        assert not option.choices or option.default is None or option.default in option.choices


REFERENCE = {
    "text": """rest_bind_address grpc_bind_address grpc_channel_arguments config_path cache_dir cpu_extension metrics_list
        log_level log_path allowed_origins allowed_methods allowed_headers api_key_file allowed_local_media_path
        model_name model_path batch_size shape layout model_version_policy target_device plugin_config
        model_repository_path source_model gguf_filename task weight-format extra_quantization_params vocoder""",
    "u32": """rest_port rest_workers port grpc_workers grpc_max_threads file_system_poll_wait_seconds
        sequence_cleaner_poll_wait_minutes custom_node_resources_cleaner_interval_seconds nireq max_sequence_number""",
    "u64": "grpc_memory_quota",
    "flag": """help version metrics_enable allow_credentials stateful idle_sequence_cleanup low_latency_transformation
        list_models add_to_config remove_from_config pull overwrite_models""",
}
"""The options of the reference by type: its documents' parameters."""

DEFAULTS = {
    "rest_port": 0,
    "rest_bind_address": "0.0.0.0",  # noqa: S104
    "port": 0,
    "grpc_bind_address": "0.0.0.0",  # noqa: S104
    "grpc_workers": 1,
    "grpc_memory_quota": 2147483648,
    "file_system_poll_wait_seconds": 1,
    "sequence_cleaner_poll_wait_minutes": 5,
    "custom_node_resources_cleaner_interval_seconds": 300,
    "log_level": "INFO",
    "allowed_origins": "*",
    "allowed_methods": "*",
    "allowed_headers": "*",
    "nireq": 0,
    "target_device": "CPU",
    "idle_sequence_cleanup": True,
    "max_sequence_number": 500,
    "weight-format": "int8",
}


def test_the_options_are_the_reference_s() -> None:
    """With names, types and defaults, so that its command lines work; the others stand under a heading of their own."""
    ours = {
        "access_log", "client_timeout", "demo", "drain_delay", "drain_timeout", "healthcheck", "inference_keys",
        "log_format", "manage", "management_keys",
        "max_body_bytes", "max_connections", "max_image_pixels", "max_json_depth", "max_open_bytes",
        "max_open_requests", "max_queue", "non_finite", "print_config_schema", "ready_when", "request_timeout",
        "server_timing", "tls_certificate", "tls_client_ca", "tls_key", "tls_min_version", "unix_socket", "warmup", "workers",
    }  # fmt: skip
    found = {option.name: option for option in OPTIONS.values() if option.name not in ours}
    assert {name: option.kind.value for name, option in found.items()} == {
        name: kind for kind, names in REFERENCE.items() for name in names.split()
    }
    assert {name: option.default for name, option in found.items() if option.default} == {
        name: default for name, default in DEFAULTS.items() if default
    }


@given(st.lists(WORDS, max_size=6))
def test_any_words_are_options_or_refused(words: list[str]) -> None:
    """Nothing but UsageError comes out, and what is read is of its option's kind."""
    try:
        arguments = parse(words)
    except UsageError:
        return
    for name, value in arguments.given.items():
        kind = {**TASK_OPTIONS, **OPTIONS}[name].kind
        assert type(value) is {Kind.FLAG: bool, Kind.TEXT: str}.get(kind, int)


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    """Behind an equals sign and as the next word alike."""
    assert parse(["--model_name", text]) == parse([f"--model_name={text}"]) == Arguments({"model_name": text})
