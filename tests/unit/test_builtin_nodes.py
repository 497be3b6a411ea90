"""The built-in nodes for numbers, whole pictures and upright boxes: what comes in, what goes out, worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tornado_ovms.nodes.base import Tensor
from tornado_ovms.nodes.builtin.add_one import AddOne
from tornado_ovms.nodes.builtin.face_blur import FaceBlur
from tornado_ovms.nodes.builtin.horizontal_ocr import HorizontalOcr
from tornado_ovms.nodes.builtin.image_transformation import ImageTransformation
from tornado_ovms.nodes.builtin.object_detection import ObjectDetection, find_boxes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornado_ovms.nodes.base import CustomNode

HEIGHT, WIDTH = 20, 40
SIZES = {
    "original_image_width": str(WIDTH),
    "original_image_height": str(HEIGHT),
    "target_image_width": "10",
    "target_image_height": "5",
}


def run(node: CustomNode, **inputs: np.ndarray) -> Mapping[str, np.ndarray]:
    """The outputs, which have to be of the shapes and dtypes that the node tells, and the inputs still as they were."""
    for name, array in inputs.items():
        assert fits(array, node.inputs[name]), name
    before = {name: array.copy() for name, array in inputs.items()}
    outputs = node.execute(inputs)
    assert not hasattr(outputs, "__await__")
    assert outputs.keys() == node.outputs.keys()
    assert [name for name, array in outputs.items() if not fits(array, node.outputs[name])] == []
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])
    return outputs


def fits(array: np.ndarray, tensor: Tensor) -> bool:
    """Whether an array is what a node says."""
    sizes = zip(array.shape, tensor.shape, strict=True)
    return array.dtype == tensor.dtype and all(size in (-1, found) for found, size in sizes)


def picture(height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> np.ndarray:
    """Pixels [h,w,c] that differ everywhere, in steps of a quarter so that sums are exact."""
    return (np.arange(height * width * channels, dtype=np.float32) / 4).reshape(height, width, channels)


def tensor(pixels: np.ndarray, layout: str = "NCHW") -> np.ndarray:
    """A picture as a batch of one."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if layout == "NCHW" else pixels)[np.newaxis]


# ---------------------------------------------------------------------- add_one


@pytest.mark.parametrize(
    ("params", "difference"),
    [
        ({}, 1),
        ({"add_number": "5"}, 5),
        ({"sub_number": "3"}, -2),
        ({"add_number": "0", "sub_number": "2"}, -2),
        ({"add_number": "many"}, 1),
        ({"add_number": "7.9"}, 7),
        ({"output_queue_size": "3", "info_queue_size": "9"}, 1),
    ],
)
def test_something_is_added(params: Mapping[str, str], difference: float) -> None:
    """To ten numbers, which stay f32."""
    numbers = np.arange(10, dtype=np.float32).reshape(1, 10)
    np.testing.assert_array_equal(
        run(AddOne(params), input_numbers=numbers)["output_numbers"], numbers + np.float32(difference)
    )


def test_a_shape_that_was_not_declared_is_refused() -> None:
    """A model with open dimensions may give it, and the pipeline cannot know beforehand."""
    with pytest.raises(ValueError, match=r"input input_numbers - Expected: \[1, 10\]; Actual: \[1, 9\]"):
        AddOne({}).execute({"input_numbers": np.zeros((1, 9), np.float32)})


# ---------------------------------------------------------------------- image_transformation


def transform(pixels: np.ndarray, layout: str = "NHWC", **params: str) -> np.ndarray:
    """What becomes of a picture [h,w,c]."""
    node = ImageTransformation({"original_image_layout": layout, **params})
    return run(node, image=tensor(pixels, layout))["image"]


PIXEL = np.array([[[10, 20, 30]]], np.float32)
GREY_OF_BGR = 0.114 * 10 + 0.587 * 20 + 0.299 * 30
GREY_OF_RGB = 0.299 * 10 + 0.587 * 20 + 0.114 * 30


@pytest.mark.parametrize(
    ("pixels", "params", "expected"),
    [
        (PIXEL, {}, [10, 20, 30]),
        (PIXEL, {"target_image_color_order": "RGB"}, [30, 20, 10]),
        (PIXEL, {"original_image_color_order": "RGB", "target_image_color_order": "BGR"}, [30, 20, 10]),
        (PIXEL, {"target_image_color_order": "GRAY"}, [GREY_OF_BGR]),
        (PIXEL, {"original_image_color_order": "RGB", "target_image_color_order": "GRAY"}, [GREY_OF_RGB]),
        (PIXEL[..., :1], {"original_image_color_order": "GRAY"}, [10]),
        (PIXEL[..., :1], {"original_image_color_order": "GRAY", "target_image_color_order": "BGR"}, [10, 10, 10]),
        (PIXEL[..., :1], {"original_image_color_order": "GRAY", "target_image_color_order": "RGB"}, [10, 10, 10]),
        (PIXEL, {"scale": "2"}, [5, 10, 15]),
        (PIXEL, {"scale": "two"}, [10, 20, 30]),
        (PIXEL, {"mean_values": "[1,2,3]"}, [9, 18, 27]),
        (PIXEL, {"mean_values": "1,2,3"}, [10, 20, 30]),
        (PIXEL, {"scale_values": "[10,5,2]"}, [1, 4, 15]),
        (PIXEL, {"scale_values": "[10,5,2]", "scale": "100"}, [1, 4, 15]),
        (PIXEL, {"mean_values": "[1,2,3]", "scale": "9"}, [1, 2, 3]),
        (PIXEL, {"target_image_color_order": "RGB", "mean_values": "[30,0,0]", "scale_values": "[1,2,1]"}, [0, 10, 10]),
        (PIXEL, {"target_image_color_order": "GRAY", "mean_values": "[10]", "scale": "-1"}, [10 - GREY_OF_BGR]),
    ],
)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_pixel_is_transformed(
    pixels: np.ndarray, params: Mapping[str, str], expected: Sequence[float], layout: str
) -> None:
    """Colours first, then mean and scale in the target's colours; the layout makes no difference to a pixel."""
    np.testing.assert_allclose(transform(pixels, layout, **params).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("source", ["NHWC", "NCHW"])
@pytest.mark.parametrize("target", ["NHWC", "NCHW", ""])
def test_the_layout_is_changed(source: str, target: str) -> None:
    """And the numbers stay: all four ways, and without a target."""
    pixels = picture(2, 3)
    found = transform(pixels, source, **({"target_image_layout": target} if target else {}))
    np.testing.assert_array_equal(found, tensor(pixels, target or source))


@pytest.mark.parametrize(
    ("params", "shape", "declared"),
    [
        ({}, (1, 3, 20, 40), (1, 3, -1, -1)),
        ({"target_image_width": "8"}, (1, 3, 20, 8), (1, 3, -1, 8)),
        ({"target_image_height": "7"}, (1, 3, 7, 40), (1, 3, 7, -1)),
        ({"target_image_height": "7", "target_image_width": "-1"}, (1, 3, 7, 40), (1, 3, 7, -1)),
        ({"target_image_height": "30", "target_image_color_order": "GRAY"}, (1, 1, 30, 40), (1, 1, 30, -1)),
        ({"target_image_width": "8", "target_image_layout": "NHWC"}, (1, 20, 8, 3), (1, -1, 8, 3)),
    ],
)
def test_the_size_is_changed(params: Mapping[str, str], shape: tuple[int, ...], declared: tuple[int, ...]) -> None:
    """One side alone, or both; what is not asked for is told as any."""
    node = ImageTransformation({"original_image_layout": "NCHW", **params})
    assert node.inputs["image"] == Tensor("float32", (1, -1, -1, -1))
    assert node.outputs["image"] == Tensor("float32", declared)
    assert run(node, image=tensor(picture()))["image"].shape == shape


def test_interpolation_is_bilinear() -> None:
    """Half the width is the mean of two neighbours."""
    found = transform(
        np.array([[[0], [2], [4], [8]]], np.float32), original_image_color_order="GRAY", target_image_width="2"
    )
    assert found.ravel().tolist() == [1, 6]


@given(
    npst.arrays(np.float32, (4, 6, 3), elements=st.floats(0, 255, width=32)),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_scaling_before_and_after_resizing_are_the_same(pixels: np.ndarray, height: int, width: int) -> None:
    """Whichever is done first, for it costs less on the smaller picture."""
    sizes = {"target_image_height": str(height), "target_image_width": str(width)}
    found = transform(pixels, **sizes, mean_values="[1,2,3]", scale="4")
    expected = (transform(pixels, **sizes) - np.float32([1, 2, 3])) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "params", "message"),
    [
        ((1, 1, 4, 4), {}, r"input image - Expected: \[1, 3, -1, -1\]; Actual: \[1, 1, 4, 4\]"),
        ((1, 3, 4, 4), {"original_image_color_order": "GRAY"}, r"Expected: \[1, 1, -1, -1\]; Actual: \[1, 3, 4, 4\]"),
        ((2, 3, 4, 4), {}, r"Expected: \[1, 3, -1, -1\]; Actual: \[2, 3, 4, 4\]"),
        ((1, 3, 0, 4), {}, "input image - Expected: at least one pixel; Actual: 4 x 0"),
    ],
)
def test_another_picture_than_promised_is_refused(
    shape: tuple[int, ...], params: Mapping[str, str], message: str
) -> None:
    """Channels that are not those of the colours, a batch, and no pixels at all."""
    node = ImageTransformation({"original_image_layout": "NCHW", **params})
    with pytest.raises(ValueError, match=message):
        node.execute({"image": np.zeros(shape, np.float32)})


# ---------------------------------------------------------------------- model_zoo_intel_object_detection


def detect(
    rows: Sequence[Sequence[float]], pixels: np.ndarray | None = None, **params: str
) -> Mapping[str, np.ndarray]:
    """What is cut out of a picture."""
    node = ObjectDetection({**SIZES, "confidence_threshold": "0.5", **params})
    layout = params.get("original_image_layout", "NCHW")
    detection = np.array(rows, np.float32).reshape(1, 1, -1, 7)
    return run(node, image=tensor(picture() if pixels is None else pixels, layout), detection=detection)


LEFT = [0, 1, 0.9, 0, 0, 0.25, 0.25]  # 10 x 5 pixels, which is the target's size
RIGHT = [0, 2, 0.8, 0.75, 0.75, 1, 1]


def test_objects_are_cut_out() -> None:
    """Pieces of the target's size are the picture's own pixels."""
    found = detect([LEFT, RIGHT])
    assert found["images"].shape == (2, 1, 3, 5, 10)
    np.testing.assert_array_equal(found["images"][0], tensor(picture()[:5, :10]))
    np.testing.assert_array_equal(found["images"][1], tensor(picture()[15:, 30:]))
    np.testing.assert_array_equal(found["coordinates"][:, 0], np.float32([LEFT, RIGHT])[:, 3:])
    np.testing.assert_array_equal(found["confidences"][:, 0, 0], np.float32([0.9, 0.8]))
    assert found["label_ids"].tolist() == [[[1]], [[2]]]


@pytest.mark.parametrize("source", ["NCHW", "NHWC"])
@pytest.mark.parametrize("target", ["NCHW", "NHWC"])
@pytest.mark.parametrize("grey", ["true", "false"])
def test_pieces_have_the_target_s_layout_and_colours(source: str, target: str, grey: str) -> None:
    """In each combination they are what OpenCV makes of the piece."""
    params = {"original_image_layout": source, "target_image_layout": target, "convert_to_gray_scale": grey}
    found = detect([[0, 1, 0.9, 0.25, 0.25, 0.75, 0.75]], **params)
    expected = cv2.resize(np.ascontiguousarray(picture()[5:15, 10:30]), (10, 5))
    if grey == "true":
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)[..., np.newaxis]
    np.testing.assert_array_equal(found["images"][0], tensor(expected, target))


@pytest.mark.parametrize(
    ("row", "is_taken"),
    [
        ([0, 1, 0.5, 0, 0, 1, 1], True),
        ([0, 1, 0.49, 0, 0, 1, 1], False),
        ([1, 1, 0.9, 0, 0, 1, 1], False),
        ([-1, 0, 0, 0, 0, 0, 0], False),
        ([0, 1, np.nan, 0, 0, 1, 1], False),
        ([0, 1, 0.9, np.nan, 0, 1, 1], False),
        ([0, 1, 0.9, 0, 0, np.inf, 1], False),
        ([0, 1, 0.9, 0.5, 0.5, 0.5, 0.9], False),
        ([0, 1, 0.9, 0.5, 0.5, 0.51, 0.9], False),
        ([0, 1, 0.9, 1, 0, 1.5, 1], False),
        ([0, 1, 0.9, -2, 0, -1, 1], True),
        ([0, 1, 0.9, 1, 1, 0, 0], True),
    ],
)
def test_which_objects_are_taken(row: Sequence[float], is_taken: bool) -> None:  # noqa: FBT001
    """Those of image 0 that are sure enough, and have a pixel once their box is where it belongs."""
    assert len(detect([row])["images"]) == is_taken


def test_only_one_label_is_taken() -> None:
    """If one is asked for."""
    assert detect([LEFT, RIGHT], filter_label_id="2")["label_ids"].tolist() == [[[2]]]
    assert len(detect([LEFT, RIGHT], filter_label_id="3")["images"]) == 0


def test_all_outputs_are_cut_to_the_largest_batch() -> None:
    """In the reference two of the four are not, and the pipeline fails."""
    found = detect([LEFT, RIGHT, LEFT], max_output_batch="2")
    assert {name: len(array) for name, array in found.items()} == dict.fromkeys(found, 2)
    assert found["label_ids"].ravel().tolist() == [1, 2]


def test_a_hundred_objects_by_default() -> None:
    """No more."""
    assert len(detect([LEFT] * 101)["images"]) == 100


@pytest.mark.parametrize("rows", [[], [[0, 1, 0.1, 0, 0, 1, 1]]])
def test_no_object_is_no_row(rows: Sequence[Sequence[float]]) -> None:
    """For the demultiplexer, which then ends the request."""
    assert [array.shape for array in detect(rows).values()] == [(0, 1, 3, 5, 10), (0, 1, 4), (0, 1, 1), (0, 1, 1)]


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ([0.1, 0.1, 0.5, 0.5], [4, 2, 20, 10]),
        ([0.12, 0.14, 0.52, 0.54], [4, 2, 20, 10]),  # 4.8, 2.8, 20.8, 10.8
        ([-0.1, -0.1, 0.2, 0.2], [0, 0, 12, 6]),  # moved, not cut
        ([0.9, 0.9, 1.5, 1.5], [36, 18, 40, 20]),
        ([-1, -1, 2, 2], [0, 0, 40, 20]),
        ([0.5, 0.5, 0.1, 0.1], [4, 2, 20, 10]),
    ],
)
def test_where_a_box_is(corners: Sequence[float], box: Sequence[int]) -> None:
    """Truncated to pixels, moved to the edge where it begins outside, cut where it ends outside."""
    assert find_boxes(np.float32([corners]), WIDTH, HEIGHT).tolist() == [box]


@given(npst.arrays(np.float32, (4, 7), elements=st.floats(width=32)))
def test_any_detection_is_an_answer(rows: np.ndarray) -> None:
    """Whatever a model finds, boxes are inside the picture and all outputs have the same rows."""
    found = detect(rows.tolist(), confidence_threshold="0")
    assert len({len(array) for array in found.values()}) == 1
    assert np.isfinite(found["coordinates"]).all()


def test_a_picture_of_another_size_is_refused() -> None:
    """The parameters say how large it is."""
    node = ObjectDetection({**SIZES, "confidence_threshold": "0.5"})
    with pytest.raises(ValueError, match=r"input image - Expected: \[1, 3, 20, 40\]; Actual: \[1, 3, 20, 39\]"):
        node.execute({"image": tensor(picture(20, 39)), "detection": np.zeros((1, 1, 1, 7), np.float32)})


# ---------------------------------------------------------------------- horizontal_ocr


def find_text(rows: Sequence[Sequence[float]], **params: str) -> Mapping[str, np.ndarray]:
    """What is cut out of a picture."""
    node = HorizontalOcr({**SIZES, "confidence_threshold": "0.5", **params})
    layout = params.get("original_image_layout", "NCHW")
    return run(node, image=tensor(picture(), layout), boxes=np.array(rows, np.float32).reshape(-1, 5))


def test_text_is_cut_out() -> None:
    """With left, top, width and height, each truncated."""
    found = find_text([[10.75, 5.75, 20.75, 10.75, 0.7], [0, 0, 40, 20, 0.5], [0, 0, 9, 9, 0.4]])
    assert found["text_coordinates"].tolist() == [[[10, 5, 10, 5]], [[0, 0, 40, 20]]]
    np.testing.assert_array_equal(found["text_images"][0], tensor(picture()[5:10, 10:20]))
    np.testing.assert_array_equal(found["text_images"][1], tensor(cv2.resize(picture(), (10, 5))))
    np.testing.assert_array_equal(found["confidence_levels"].ravel(), np.float32([0.7, 0.5]))


def test_text_in_grey() -> None:
    """One channel, in the layout asked for."""
    params = {"convert_to_gray_scale": "true", "target_image_layout": "NHWC", "original_image_layout": "NHWC"}
    found = find_text([[10, 5, 20, 10, 0.7]], **params)["text_images"]
    piece = np.ascontiguousarray(picture()[5:10, 10:20])
    np.testing.assert_array_equal(found[0, 0, ..., 0], cv2.cvtColor(piece, cv2.COLOR_BGR2GRAY))


def test_text_is_cut_to_the_largest_batch() -> None:
    """All three outputs, in the order of the boxes; what is cut away may lie outside."""
    found = find_text([[0, 0, 9, 9, 0.6], [1, 1, 9, 9, 0.9], [99, 99, 200, 200, 0.9]], max_output_batch="2")
    assert {name: len(array) for name, array in found.items()} == dict.fromkeys(found, 2)
    assert found["text_coordinates"][:, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("rows", [[], [[0, 0, 0, 0, 0]]])
def test_no_text_is_no_row(rows: Sequence[Sequence[float]]) -> None:
    """Rows without confidence need no area."""
    assert [array.shape for array in find_text(rows).values()] == [(0, 1, 3, 5, 10), (0, 1, 4), (0, 1, 1)]


NO_AREA, OUTSIDE = "a width and a height of at least one pixel", "a box inside 40 x 20 pixels"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([5, 5, 5, 9], NO_AREA),
        ([5, 5, 4, 9], NO_AREA),
        ([5, 5, 9, 5.5], NO_AREA),
        ([np.nan, 5, 9, 9], NO_AREA),
        ([-1, 5, 9, 9], OUTSIDE),
        ([5, 5, 41, 9], OUTSIDE),
        ([5, 5, 9, 21], OUTSIDE),
        ([0, 0, np.inf, 9], OUTSIDE),
    ],
)
def test_a_box_that_cannot_be_cut_out_fails(box: Sequence[float], expected: str) -> None:
    """As in the reference; the message says which box."""
    with pytest.raises(ValueError, match=r"^input boxes\[1\] - Expected: ") as caught:
        find_text([[0, 0, 9, 9, 0.9], [*box, 0.9]])
    assert expected in str(caught.value)


# ---------------------------------------------------------------------- face_blur


def blur(rows: Sequence[Sequence[float]], pixels: np.ndarray | None = None, **params: str) -> np.ndarray:
    """The picture afterwards; of its own size if no other is asked for."""
    sizes = {**SIZES, "target_image_width": str(WIDTH), "target_image_height": str(HEIGHT)}
    node = FaceBlur({**sizes, "confidence_threshold": "0.5", "gaussian_blur_kernel_size": "5", **params})
    detection = np.zeros((1, 1, 200, 7), np.float32)
    detection[0, 0, :, 0] = -1
    if rows:
        detection[0, 0, : len(rows)] = rows
    layout = params.get("original_image_layout", "NCHW")
    return run(node, image=tensor(noise() if pixels is None else pixels, layout), detection=detection)["image"]


def noise() -> np.ndarray:
    """Pixels that a blur changes."""
    return np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32) * 255


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ([0.25, 0.25, 0.5, 0.75], np.s_[5:15, 10:20]),
        ([0, 0, 0.25, 0.25], np.s_[:5, :10]),
        ([0.75, 0.75, 1.25, 1.25], np.s_[15:, 30:]),
        ([-1, -1, 2, 2], np.s_[:, :]),
        ([0.5, 0.5, 0.53, 0.56], np.s_[10:11, 20:21]),
    ],
)
@pytest.mark.parametrize("kernel", [1, 3, 5, 41])
def test_a_face_is_blurred_and_nothing_else(corners: Sequence[float], box: tuple[slice, slice], kernel: int) -> None:
    """In the box as in a picture that is blurred as a whole; around it as it was."""
    expected = noise()
    expected[box] = cv2.GaussianBlur(noise(), (kernel, kernel), 0)[box]
    found = blur([[0, 1, 0.5, *corners]], gaussian_blur_kernel_size=str(kernel))
    np.testing.assert_allclose(found, tensor(expected), atol=1e-3)


@pytest.mark.parametrize(
    "row",
    [[0, 1, 0.4, 0, 0, 1, 1], [1, 1, 0.9, 0, 0, 1, 1], [0, 1, 0.9, 1.1, 0, 2, 1], [0, 1, 0.9, np.nan, 0, 1, 1]],
)
def test_what_is_no_face_stays(row: Sequence[float]) -> None:
    """Unsure, of another image, outside, or nowhere."""
    np.testing.assert_array_equal(blur([row]), tensor(noise()))


@pytest.mark.parametrize("source", ["NCHW", "NHWC"])
@pytest.mark.parametrize("target", ["NCHW", "NHWC"])
def test_a_blurred_picture_is_resized(source: str, target: str) -> None:
    """Blurred first, then resized, in the layout asked for."""
    params = {"original_image_layout": source, "target_image_layout": target}
    found = blur([[0, 1, 0.9, 0, 0, 1, 1]], target_image_width="20", target_image_height="7", **params)
    expected = cv2.resize(cv2.GaussianBlur(noise(), (5, 5), 0), (20, 7))
    np.testing.assert_allclose(found, tensor(expected, target), atol=1e-3)


def test_a_face_within_a_face_is_blurred_twice() -> None:
    """One box after the other."""
    expected = noise()
    for box in (np.s_[:, :], np.s_[5:15, 10:20]):
        expected[box] = cv2.GaussianBlur(expected, (5, 5), 0)[box]
    found = blur([[0, 1, 0.9, 0, 0, 1, 1], [0, 1, 0.9, 0.25, 0.25, 0.5, 0.75]])
    np.testing.assert_allclose(found, tensor(expected), atol=1e-3)
