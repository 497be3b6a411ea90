"""The pipeline of ``etc/pipelines/ocr`` with its real models: a photo in one request, its text in the answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests.functional import ocr
from tests.functional.real_models import in_base64, needs_downloads
from tests.functional.servers import Server
from tests.functional.test_right_answers import LINES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs_downloads

PATH = "/v1/models/ocr"


@pytest.fixture(scope="module")
def server(real_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves a copy of the example, from its own configuration."""
    folder = tmp_path_factory.mktemp("ocr")
    with Server(*ocr.lay_out(folder / "ocr", real_models), log=folder / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def by_hand(real_models: Path) -> ocr.ByHand:
    """The same models in this process."""
    return ocr.ByHand(real_models)


@pytest.fixture(scope="module")
def page(real_models: Path) -> bytes:
    """A grey PNG of seven lines."""
    return (real_models / "data" / "page.png").read_bytes()


def read(server: Server, content: bytes) -> list[ocr.Line]:
    """What the server reads."""
    answer = server.post(f"{PATH}:predict", {"inputs": {"image": [in_base64(content)]}})
    assert answer.status == 200, answer.body
    outputs = answer.json["outputs"]
    assert outputs.keys() == {"lines_string", "boxes"}
    return [ocr.Line(text, tuple(box)) for text, box in zip(outputs["lines_string"], outputs["boxes"], strict=True)]


def drawn(extension: str, *lines: str, height: int = 200) -> bytes:
    """A picture in colours of some lines."""
    picture = np.full((height, 500, 3), (200, 250, 230), np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(picture, line, (20, 50 + 60 * number), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (90, 20, 10), 2, cv2.LINE_AA)
    done, content = cv2.imencode(extension, picture)
    assert done
    return content.tobytes()


def test_a_page_is_read(server: Server, page: bytes) -> None:
    """Its seven lines, in one request."""
    assert tuple(line.text for line in read(server, page)) == LINES


def test_a_page_is_read_in_row_form(server: Server, page: bytes) -> None:
    """An object for each line."""
    answer = server.post(f"{PATH}:predict", {"instances": [in_base64(page)]})
    assert answer.status == 200, answer.body
    assert tuple(row["lines_string"] for row in answer.json["predictions"]) == LINES
    assert all(len(row["boxes"]) == 4 for row in answer.json["predictions"])


def test_the_answer_is_that_of_the_models(server: Server, by_hand: ocr.ByHand, page: bytes) -> None:
    """Texts and boxes are those of calling OpenVINO by hand, for pictures of several sizes and formats."""
    pictures = [page, drawn(".png", "Hello world", "second line"), drawn(".jpg", "JPEG 1234", height=90)]
    for content in pictures:
        expected = by_hand.read(content)
        assert expected
        assert read(server, content) == expected


def test_drawn_text_is_read(server: Server) -> None:
    """Colours and JPEG do no harm."""
    assert [line.text for line in read(server, drawn(".jpg", "Hello world", "second line"))] == [
        "Hello world",
        "second line",
    ]


def test_a_picture_with_transparency_is_read(server: Server) -> None:
    """Four channels in one and the same pipeline."""
    picture = cv2.imdecode(np.frombuffer(drawn(".png", "Hello"), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    done, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA))
    assert done
    assert [line.text for line in read(server, content.tobytes())] == ["Hello"]


def test_pages_at_the_same_time_are_not_mixed(server: Server) -> None:
    """Each client gets the lines of its own picture."""
    pictures = {f"page {number}": drawn(".png", f"page {number}", height=90) for number in range(6)}
    with ThreadPoolExecutor(len(pictures)) as pool:
        found = list(pool.map(lambda content: read(server, content), pictures.values()))
    assert [[line.text for line in lines] for lines in found] == [[text] for text in pictures]


def test_an_empty_page_has_no_content(server: Server) -> None:
    """No line: no shard, which the reference answers with 204."""
    answer = server.post(f"{PATH}:predict", {"inputs": {"image": [in_base64(drawn(".png"))]}})
    assert (answer.status, answer.body) == (204, b"")


def test_what_the_pipeline_takes_and_gives(server: Server) -> None:
    """As clients see it."""
    document: Any = server.get(f"{PATH}/metadata").json
    signature = document["metadata"]["signature_def"]["signatureDef"]["serving_default"]

    def shapes(which: str) -> dict[str, list[int]]:
        return {
            name: [int(dim["size"]) for dim in tensor["tensorShape"]["dim"]]
            for name, tensor in signature[which].items()
        }

    assert shapes("inputs") == {"image": [1, -1, -1, -1]}
    assert shapes("outputs") == {"lines_string": [-1, -1], "boxes": [-1, 4]}
