"""What the benchmark makes of its figures: ratios, verdicts, tables, the picture, the page."""

from __future__ import annotations

import doctest
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tools.benchmark import options, page, picture, rows, runs, servers, tables, thresholds, workloads
from tools.benchmark.rows import Figure, Results, Row
from tools.benchmark.thresholds import THRESHOLDS, Threshold, given_cores, quotients

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
TITLES = {"ours": "tornado_ovms", "ours-2": "tornado_ovms, 2 workers", "kserve": "KServe", "mosec": "mosec"}


def row(number: int, server: str, work: str = "dummy", load: str = "8 conn.", **more: float) -> Row:
    """A run of which only what a test is about matters."""
    values = {"per_s": 100.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 1.0, **more}
    return Row(number, server, work, load, **values)  # type: ignore[arg-type]


def results(*found: Row, figures: tuple[Figure, ...] = (), **machine: str) -> Results:
    """These, and nothing else."""
    return Results(found, figures, {"date": "today", "command": "tools/bench", **machine}, TITLES)


def threshold(start: str) -> Threshold:
    """The one whose short name begins so."""
    (found,) = [each for each in THRESHOLDS if each.short.startswith(start)]
    return found


def measured(start: str, *found: Row, figures: tuple[Figure, ...] = (), **machine: str) -> tuple[float, str]:
    """Figure and note of a threshold."""
    ratio = threshold(start).measure(results(*found, figures=figures, **machine))
    assert ratio is not None
    return ratio.middle, ratio.note


def test_ratios_are_those_within_a_round() -> None:
    """A machine that is slow for a while slows both; a round in which one has not run does not count."""
    assert quotients({1: 10.0, 2: 30.0, 3: 1.0}, {1: 5.0, 2: 10.0}) == (2.0, 3.0)


def test_the_smaller_ratio_to_bare_tornado_counts() -> None:
    """Of 8 and of 32 connections, and the note has both."""
    found = [row(1, "ours", load=load, per_s=rate) for load, rate in (("8 conn.", 90), ("32 conn.", 60))]
    found += [row(1, "handler", load=load, per_s=100) for load in ("8 conn.", "32 conn.")]
    figure, note = measured("10 floats, over bare", *found)
    assert figure == 0.6
    assert "8 conn. 0.90, 32 conn. 0.60" in note


def test_the_best_peer_is_the_one_with_the_best_median() -> None:
    """One lucky round makes nobody the best, and the note tells who it is."""
    kserve = [row(number, "kserve", per_s=rate) for number, rate in ((1, 50), (2, 50), (3, 50))]
    mosec = [row(number, "mosec", per_s=rate) for number, rate in ((1, 500), (2, 40), (3, 40))]
    ours = [row(number, "ours-2", per_s=100) for number in (1, 2, 3)]
    assert measured("10 floats, over best", *kserve, *mosec, *ours) == (2.0, "tornado_ovms, 2 workers over KServe")


def test_less_cpu_is_better() -> None:
    """The best peer is the thriftiest, and of our servers the thriftiest, too."""
    found = [
        row(1, "ours", cpu_ms=2),
        row(1, "ours-2", cpu_ms=1),
        row(1, "kserve", cpu_ms=4),
        row(1, "mosec", cpu_ms=9),
    ]
    assert measured("10 floats, CPU", *found)[0] == 0.25


def test_a_large_body_is_compared_with_and_without_the_model() -> None:
    """The limit computes as well; the note leaves the inference out of both."""
    found = [
        row(1, server, "light", load, cpu_ms=ms)
        for server, load, ms in (
            ("ours", "8 conn.", 6.0),
            ("parse-infer", "8 conn.", 5.0),
            ("parse", "8 conn.", 2.0),
            ("openvino", "in process", 2.0),
        )
    ]
    assert measured("1.6 MB JSON, CPU over the limit", *found) == (
        1.2,
        "both with the inference; without it in either 2.00",
    )


@pytest.mark.parametrize(
    ("workers", "cores", "rate"),
    [(1, 2, 100.0), (2, 2, 100.0 * 2 / 1.5), (2, 8, 100.0)],
    ids=["one has its core", "two share theirs with the client", "enough for all"],
)
def test_the_load_generator_s_cores_are_given_back(workers: int, cores: int, rate: float) -> None:
    """Two workers on two cores cannot have what the client takes; one worker never wanted it."""
    assert given_cores(100.0, workers, 0.5, cores) == pytest.approx(rate)


def test_two_workers_are_told_raw_as_well() -> None:
    """Who distrusts the correction has the figure without it."""
    found = [
        row(1, "ours", load="32 conn.", per_s=100, client_cores=0.2),
        row(1, "ours-2", load="32 conn.", per_s=160, client_cores=0.4),
    ]
    figure, note = measured("two workers over one", *found, cores="2")
    assert figure == pytest.approx(2.0)
    assert note.endswith(": 1.60")


def test_memory_is_a_difference() -> None:
    """Of what the server holds to what OpenVINO cannot do without."""
    values = {
        "server PSS MiB": 150,
        "OpenVINO alone PSS MiB": 120,
        "server RSS MiB": 240,
        "OpenVINO alone RSS MiB": 200,
    }
    figures = tuple(Figure(1, name, value) for name, value in values.items())
    assert measured("memory", figures=figures) == (30, "of PSS; of RSS +40 MiB")


@pytest.mark.parametrize(
    ("start", "value", "verdict"),
    [
        ("10 floats, over bare", 0.79, "not met"),
        ("10 floats, over bare", 0.80, "met"),
        ("10 floats, over bare", 1.00, "met, and the goal too"),
        ("10 floats, CPU", 0.56, "not met"),
        ("10 floats, CPU", 0.55, "met"),
        ("10 floats, CPU", 0.33, "met, and the goal too"),
    ],
)
def test_verdicts_know_which_side_of_a_mark_is_the_right_one(start: str, value: float, verdict: str) -> None:
    """Rates have to be high, costs have to be low."""
    assert threshold(start).verdict(value) == verdict


def test_a_goal_is_harder_than_its_threshold() -> None:
    """Two numbers that change places would make every verdict a good one."""
    assert [each.short for each in THRESHOLDS if not each.reaches(each.goal, each.mark)] == []


def test_without_results_nothing_is_claimed() -> None:
    """Whatever was left out is in the table as not measured, and not in the picture."""
    table = tables.thresholds(results())
    assert table.count("not measured") == len(THRESHOLDS)
    assert "rect x" not in picture.draw(tables.measured(results()), "today")


def test_the_table_of_a_workload_has_every_server_and_its_medians() -> None:
    """In the order of the servers, and what failed is told."""
    found = [row(number, "kserve", per_s=rate) for number, rate in ((1, 10), (2, 30), (3, 20))]
    lines = tables.work(results(*found, row(1, "ours", per_s=1234.5, failed=3)), "dummy").splitlines()[2:]
    assert [line.split(" | ")[:3] for line in lines] == [
        ["| tornado_ovms", "8 conn.", "1,234"],
        ["| KServe", "8 conn.", "20"],
    ]
    assert lines[0].endswith("| 3 |")


def test_the_picture_shows_what_was_measured() -> None:
    """It is well-formed, a bar beyond its threshold is to the right of it, and one that misses it to the left."""
    good, bad = threshold("10 floats, over bare"), threshold("10 floats, CPU")
    drawn = picture.draw([(good, thresholds.Ratio((0.9,))), (bad, thresholds.Ratio((0.7,)))], "<today>")
    root = ET.fromstring(drawn)  # noqa: S314 (it is ours)
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("x")]
    (one,) = [float(line.attrib["x1"]) for line in root.iter(f"{SVG}line") if line.get("stroke") == "#333"]
    starts = [float(bar.attrib["x"]) for bar in bars]
    ends = [start + float(bar.attrib["width"]) for start, bar in zip(starts, bars, strict=True)]
    assert (starts[0], ends[1]) == pytest.approx((one, one), abs=0.2)
    assert ends[0] > one > starts[1]
    assert [bar.get("fill") for bar in bars] == [picture.COLOURS["met"], picture.COLOURS["not met"]]


def test_what_people_have_written_stays() -> None:
    """Before and behind the generated part, however often it is made anew."""
    once = page.replaced("# Performance\n\nBefore.\n", "old")
    twice = page.replaced(once + "\n## What was tried\n", "new")
    assert twice == f"# Performance\n\nBefore.\n\n{page.BEGIN}\n\nnew\n\n{page.END}\n\n## What was tried\n"
    assert page.replaced(twice, "new") == twice


def test_the_page_in_the_documents_can_be_made_anew() -> None:
    """Its marks are there, once each, and the table below them has all thresholds."""
    text = (ROOT / "docs/performance.md").read_text("utf-8")
    assert (text.count(page.BEGIN), text.count(page.END)) == (1, 1)
    assert [each.work for each in THRESHOLDS if each.work not in text] == []


def test_results_can_be_taken_up_again(tmp_path: Path) -> None:
    """A page can be written without measuring."""
    found = Results((row(1, "ours"),), (Figure(1, "start s", 0.5),), {"cores": "2"}, TITLES, ("mosec: no pip",))
    rows.write(found, tmp_path / "results.json")
    assert rows.read(tmp_path / "results.json") == found


def test_only_a_run_without_narrowing_may_write_the_documents() -> None:
    """Where things are kept narrows nothing; the command that the page names has no folder of this machine."""
    full = options.parse(["--folder", "/somewhere", "--environments", "/elsewhere"])
    assert (full.is_full, full.command) == (True, "tools/bench")
    narrow = options.parse(["--only", "dummy,light", "--rounds", "1"])
    assert (narrow.is_full, narrow.command) == (False, "tools/bench --only dummy,light --rounds 1")


@pytest.mark.parametrize("words", [["--only", "dumy"], ["--servers", "theirs"], ["--rounds", "0"], ["--round", "3"]])
def test_a_misspelt_option_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It must not start a run of half an hour that measures something else."""
    with pytest.raises(SystemExit) as refused:
        options.parse(words)
    assert refused.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_wrk_s_words_are_understood() -> None:
    """The script's line is found among what wrk says by itself; without it there is no result."""
    said = 'Running 1s test\nRESULT {"requests": 5, "failed": 0}\n'
    assert runs.wrk_result(said) == {"requests": 5, "failed": 0}
    with pytest.raises(ValueError, match="unable to connect"):
        runs.wrk_result("unable to connect")


def test_every_workload_has_a_title_and_can_be_chosen() -> None:
    """One that is added is not forgotten in the table or in the options."""
    names = {*workloads.WORKLOADS, "mixed"}
    assert names == set(tables.TITLES)
    assert names == set(options.WORK) - {"memory", "start"}


def test_every_peer_can_be_installed_and_started(tmp_path: Path) -> None:
    """There is a list of pinned libraries for each, and OpenVINO's release is in one place."""
    folder = ROOT / "tools/benchmark/requirements"
    assert {server.name for server in servers.peers(tmp_path, tmp_path)} == set(options.PEERS)
    assert {path.stem for path in folder.glob("*.txt")} == {*options.PEERS, "common"}
    for path in folder.glob("*.txt"):
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
        assert [line for line in lines if "==" not in line or "/" in line] == [], path
        assert any(line.startswith("openvino==") for line in lines) == (path.stem == "common"), path


def test_the_examples_of_the_tables_hold() -> None:
    """A reader may trust them."""
    assert doctest.testmod(tables).failed == 0


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (200, b'{"predictions":[[1.0,2.001]]}', ""),
        (200, b'{"outputs":[{"name":"y","data":[1.0,2.0]}]}', ""),
        (200, b'{"predictions":[[1.0,2.1]]}', "wrong answer: a value is off by 5.0% of the largest"),
        (200, b'{"predictions":[[1.0]]}', "wrong answer: 1 values, not 2"),
        (200, b"{}", "wrong answer: KeyError('outputs') in b'{}'"),
        (503, b"later", "503 b'later'"),
    ],
)
def test_answers_are_checked(status: int, body: bytes, fault: str) -> None:
    """In both protocols; a server that is not ready is told from one that is wrong."""
    request = workloads.Request("/", b"", {}, np.array([[1.0, 2.0]]))
    assert request.fault(status, {}, body) == fault


def test_binary_answers_are_checked() -> None:
    """They lie behind a head in JSON, whose length a header tells."""
    head = b'{"outputs":[{"name":"y"}]}'
    request = workloads.Request("/", b"", {}, np.array([[1.0, 2.0]]))
    headers = {"inference-header-content-length": str(len(head))}
    assert request.fault(200, headers, head + np.array([1, 2], np.float32).tobytes()) == ""
