"""Nodes that come with the server: those that the reference ships as C++ libraries, under the same names."""

from typing import Final

BUILTIN: Final = {
    "add_one": "tornado_ovms.nodes.builtin.add_one:AddOne",
    "east_ocr": "tornado_ovms.nodes.builtin.east_ocr:EastOcr",
    "face_blur": "tornado_ovms.nodes.builtin.face_blur:FaceBlur",
    "horizontal_ocr": "tornado_ovms.nodes.builtin.horizontal_ocr:HorizontalOcr",
    "image_transformation": "tornado_ovms.nodes.builtin.image_transformation:ImageTransformation",
    "model_zoo_intel_object_detection": "tornado_ovms.nodes.builtin.object_detection:ObjectDetection",
}
"""Classes by the reference's names; the reference's files are called ``libcustom_node_NAME.so``. As text, so that none of them is
imported before a configuration asks for it."""
