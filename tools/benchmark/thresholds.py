"""What has to hold: the ratios, computed within each round, and the marks they have to reach."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from tools.benchmark.options import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tools.benchmark.rows import Results

ONE, TWO = "ours", "ours-2"
EIGHT, MANY = "8 conn.", "32 conn."


class Ratio(NamedTuple):
    """A figure by rounds, and what it is made of."""

    values: tuple[float, ...]
    note: str = ""

    @property
    def middle(self) -> float:
        """The figure that counts."""
        return median(self.values)


@dataclass(frozen=True)
class Threshold:
    """A figure and its marks."""

    work: str
    short: str
    mark: float
    goal: float
    measure: Callable[[Results], Ratio | None]
    is_ceiling: bool = False  # less is better
    unit: str = ""

    def reaches(self, value: float, mark: float) -> bool:
        """Whether a value is on the right side of a mark."""
        return value <= mark if self.is_ceiling else value >= mark

    def verdict(self, value: float) -> str:
        """In words."""
        if self.reaches(value, self.goal):
            return "met, and the goal too"
        return "met" if self.reaches(value, self.mark) else "not met"


def quotients(above: Mapping[int, float], below: Mapping[int, float]) -> tuple[float, ...]:
    """Ratios within each round that has both."""
    return tuple(above[number] / below[number] for number in sorted(above.keys() & below.keys()) if below[number])


def _ratio(above: Mapping[int, float], below: Mapping[int, float], note: str = "") -> Ratio | None:
    values = quotients(above, below)
    return Ratio(values, note) if values else None


def _best(
    results: Results, servers: tuple[str, ...], work: str, load: str, quantity: str
) -> tuple[str, Mapping[int, float]] | None:
    """The server whose median is best, of those that have run."""
    there = [name for name in servers if results.middle(name, work, load, quantity) is not None]
    if not there:
        return None
    pick = min if quantity == "cpu_ms" else max
    name = pick(there, key=lambda server: median(results.values(server, work, load, quantity).values()))
    return name, results.values(name, work, load, quantity)


def _compare(
    results: Results,
    ours: tuple[str, ...],
    theirs: tuple[str, ...],
    work: str,
    load: str,
    quantity: str = "per_s",
    *,
    theirs_over_ours: bool = False,
) -> Ratio | None:
    """Our best over theirs."""
    we, they = (_best(results, who, work, load, quantity) for who in (ours, theirs))
    if we is None or they is None:
        return None
    note = f"{results.titles.get(we[0], we[0])} over {results.titles.get(they[0], they[0])}"
    return _ratio(they[1], we[1], note) if theirs_over_ours else _ratio(we[1], they[1], note)


def _worse(ratios: list[Ratio | None], *, of_ceiling: bool) -> Ratio | None:
    """The least favourable of those that were measured."""
    there = [ratio for ratio in ratios if ratio is not None]
    if not there:
        return None
    pick = max if of_ceiling else min
    return pick(there, key=lambda ratio: ratio.middle)


def _bare_tornado(results: Results) -> Ratio | None:
    loads = (EIGHT, MANY)
    found = [(load, _compare(results, (ONE,), ("handler",), "dummy", load)) for load in loads]
    worse = _worse([ratio for _, ratio in found], of_ceiling=False)
    said = ", ".join(f"{load} {ratio.middle:.2f}" for load, ratio in found if ratio)
    delegate = _compare(results, (ONE,), ("delegate",), "dummy", EIGHT)
    more = f"; over a bare delegate {delegate.middle:.2f}" if delegate else ""
    return worse and Ratio(worse.values, f"the smaller of {said}{more}")


def _cpu_of_small(results: Results) -> Ratio | None:
    loads = (EIGHT, MANY)
    found = [(load, _compare(results, (ONE, TWO), PEERS, "dummy", load, "cpu_ms")) for load in loads]
    worse = _worse([ratio for _, ratio in found], of_ceiling=True)
    said = ", ".join(f"{load} {ratio.middle:.2f}" for load, ratio in found if ratio)
    return worse and Ratio(worse.values, f"the larger of {said}; {worse.note}")


def _cpu_of_large(results: Results) -> Ratio | None:
    """With the model's time in both; the note has the ratio with it in neither."""
    ours = results.values(ONE, "light", EIGHT, "cpu_ms")
    ratio = _ratio(ours, results.values("parse-infer", "light", EIGHT, "cpu_ms"))
    model = results.values("openvino", "light", "in process", "cpu_ms")
    without = quotients(
        {number: ours[number] - model[number] for number in ours.keys() & model.keys()},
        results.values("parse", "light", EIGHT, "cpu_ms"),
    )
    note = f"both with the inference; without it in either {median(without):.2f}" if without else ""
    return ratio and Ratio(ratio.values, note)


def given_cores(rate: float, workers: int, client_cores: float, cores: int) -> float:
    """The rate that so many workers would reach if the load generator did not take of their cores."""
    left = max(cores - client_cores, 0.1)
    return rate * workers / min(workers, left)


def _two_workers(results: Results) -> Ratio | None:
    cores = int(results.machine.get("cores", "2"))
    rates: dict[int, dict[int, float]] = {}
    for workers, name in ((1, ONE), (2, TWO)):
        found = results.values(name, "dummy", MANY, "per_s")
        client = results.values(name, "dummy", MANY, "client_cores")
        rates[workers] = {number: given_cores(found[number], workers, client[number], cores) for number in found}
    raw = _compare(results, (TWO,), (ONE,), "dummy", MANY)
    note = f"{MANY}; as measured, with the load generator on the same cores: {raw.middle:.2f}" if raw else ""
    return _ratio(rates[2], rates[1], note)


def _memory(results: Results) -> Ratio | None:
    extra = {}
    for kind in ("PSS", "RSS"):
        ours, alone = (results.figure(f"{who} {kind} MiB") for who in ("server", "OpenVINO alone"))
        extra[kind] = tuple(ours[number] - alone[number] for number in sorted(ours.keys() & alone.keys()))
    if not extra["PSS"]:
        return None
    return Ratio(extra["PSS"], f"of PSS; of RSS {median(extra['RSS']):+.0f} MiB")


def _beside(results: Results) -> Ratio | None:
    return _ratio(
        results.values(ONE, "mixed", "beside", "p99_ms"), results.values(ONE, "mixed", "alone", "p99_ms"), "one process"
    )


def _long_model(results: Results) -> Ratio | None:
    """With a model that takes a number: JSON of 1.6 MB beside the inference is told in the note."""
    ratio, large = (
        _ratio(results.values(ONE, work, EIGHT, "per_s"), results.values("openvino", work, "in process", "per_s"))
        for work in ("long", "resnet")
    )
    more = f"; with 1.6 MB of JSON to read on the same cores {large.middle:.2f}" if large else ""
    return ratio and Ratio(ratio.values, f"a number in, a number out{more}")


def _batching(results: Results) -> Ratio | None:
    return _compare(results, ("ours-batched",), (ONE,), "batching", MANY)


THRESHOLDS: Final = (
    Threshold(
        "10 floats, one process, 8 to 32 connections: requests/s over the bare Tornado handler's",
        "10 floats, over bare Tornado",
        0.80,
        1.00,
        _bare_tornado,
    ),
    Threshold(
        "the same: CPU a request over the best Python peer's",
        "10 floats, CPU over best peer",
        0.55,
        0.33,
        _cpu_of_small,
        is_ceiling=True,
    ),
    Threshold(
        "10 floats, two workers, 8 connections: requests/s over the best Python peer's",
        "10 floats, over best peer",
        1.5,
        2.5,
        lambda results: _compare(results, (TWO,), PEERS, "dummy", EIGHT),
    ),
    Threshold(
        "1x3x224x224 floats in JSON (1.6 MB), 8 connections: CPU a request over bare Tornado + simdjson + one copy",
        "1.6 MB JSON, CPU over the limit",
        1.4,
        1.15,
        _cpu_of_large,
        is_ceiling=True,
    ),
    Threshold(
        "the same body, light model: requests/s over the C++ RapidJSON limit's",
        "1.6 MB JSON, over C++",
        1.0,
        1.35,
        lambda results: _compare(results, (ONE, TWO), ("cpp",), "light", EIGHT),
    ),
    Threshold(
        "the same: the C++ limit's CPU a request over ours",
        "1.6 MB JSON, CPU of C++ over ours",
        1.0,
        1.35,
        lambda results: _compare(results, (ONE, TWO), ("cpp",), "light", EIGHT, "cpu_ms", theirs_over_ours=True),
    ),
    Threshold(
        "the same: requests/s over the best Python peer's",
        "1.6 MB JSON, over best peer",
        1.3,
        1.8,
        lambda results: _compare(results, (ONE, TWO), PEERS, "light", EIGHT),
    ),
    Threshold(
        "binary tensor, light model, 8 connections: requests/s over pytriton's binary",
        "binary tensor, over pytriton",
        1.5,
        2.5,
        lambda results: _compare(results, (ONE, TWO), ("pytriton",), "binary", EIGHT),
    ),
    Threshold(
        "JPEG in base64, 8 connections: requests/s over the best Python peer's",
        "JPEG, over best peer",
        1.2,
        1.6,
        lambda results: _compare(results, (ONE, TWO), PEERS, "image", EIGHT),
    ),
    Threshold(
        "model of more than 30 ms, 8 connections: requests/s over AsyncInferQueue's in its own process",
        "long model, over AsyncInferQueue",
        0.97,
        0.99,
        _long_model,
    ),
    Threshold(
        "two workers over one on two cores, 10 floats, the load generator's CPU taken into account",
        "two workers over one",
        1.5,
        1.8,
        _two_workers,
    ),
    Threshold(
        "p99 of small requests while bodies of 2 MB arrive beside them, over p99 alone",
        "p99 beside 2 MB over alone",
        4,
        2,
        _beside,
        is_ceiling=True,
    ),
    Threshold(
        "micro-batching, small dense model, 32 connections: requests/s over those without",
        "micro-batching over none",
        1.5,
        3,
        _batching,
    ),
    Threshold(
        "resident memory with one model, beyond that of OpenVINO + numpy + the model alone",
        "memory beyond OpenVINO",
        60,
        30,
        _memory,
        is_ceiling=True,
        unit=" MiB",
    ),
)
