"""Listing models and editing the configuration file, on real folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tornado_ovms.manage import add_to_config, list_models, remove_from_config

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]

EMPTY = {"model_config_list": []}


def entry(name: str, base_path: str = "/x", **more: object) -> dict[str, object]:
    """An entry of the list of models."""
    return {"config": {"name": name, "base_path": base_path, **more}}


def write(path: Path, document: object) -> str:
    """Write a configuration file; its path."""
    path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return str(path)


def make(root: Path, *files: str) -> None:
    """Empty files, with their folders."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def listed(root: Path, capsys: Capture) -> list[str]:
    """The models that are listed below a folder."""
    assert list_models(str(root)) == 0
    out, err = capsys.readouterr()
    first, second, *models = out.splitlines()
    assert (first, second, err) == ("Listing models in repository...", f"Model repository path: {root}", "")
    return models


def test_models_are_listed(tmp_path: Path, capsys: Capture) -> None:
    """A version folder with files of a model, or a graph, makes a folder one; paths count from the repository."""
    make(
        tmp_path,
        "ir/1/model.xml", "ir/1/model.bin", "onnx/3/m.onnx", "paddle/2/a.pdmodel", "paddle/2/a.pdiparams",
        "deep/er/tf/10/saved_model.pb", "graph/graph.pbtxt", "lite/1/m.tflite", "mixed/x/y", "mixed/4/m.ONNX",
    )  # fmt: skip
    assert listed(tmp_path, capsys) == ["deep/er/tf", "graph", "ir", "lite", "mixed", "onnx", "paddle"]


@pytest.mark.parametrize(
    "files",
    [
        ("m/01/m.onnx",),
        ("m/0/m.onnx",),
        ("m/-1/m.onnx",),
        ("m/1x/m.onnx",),
        ("m/1/model.xml",),
        ("m/1/a.pdmodel",),
        ("m/1/readme.txt",),
        ("m/m.onnx",),
        ("m/1/deeper/m.onnx",),
        ("m/1/m.onnx/file",),
        ("1/m.onnx",),
        ("graph.pbtxt",),
        ("m/graph.pbtxt/file",),
    ],
)
def test_what_is_no_model_is_not_listed(files: tuple[str, ...], tmp_path: Path, capsys: Capture) -> None:
    """Other names of folders, incomplete files, files one level too high or too low, the repository itself."""
    make(tmp_path, *files)
    assert listed(tmp_path, capsys) == []


def test_nothing_is_looked_for_inside_of_a_model(tmp_path: Path, capsys: Capture) -> None:
    """The search goes down until it finds one."""
    make(tmp_path, "m/1/m.onnx", "m/inner/1/m.onnx", "group/a/1/m.onnx", "group/b/graph.pbtxt")
    assert listed(tmp_path, capsys) == ["group/a", "group/b", "m"]


def test_links_are_followed_and_rings_end(tmp_path: Path, capsys: Capture) -> None:
    """Also a link to itself, which hides none of its neighbours."""
    make(tmp_path, "real/1/m.onnx", "group/m/1/m.onnx")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "group" / "up").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    assert listed(tmp_path, capsys) == ["group/m", "link", "real"]


def test_a_repository_may_be_empty(tmp_path: Path, capsys: Capture) -> None:
    """That is no fault."""
    assert listed(tmp_path, capsys) == []


def test_a_repository_that_is_no_folder(tmp_path: Path, capsys: Capture) -> None:
    """An error is told, and the exit code is 0 all the same."""
    make(tmp_path, "file")
    for name in ("none", "file"):
        assert list_models(str(tmp_path / name)) == 0
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 2
        assert err == f"{tmp_path / name} is not a folder\n"


def test_a_model_is_added_to_a_new_file(tmp_path: Path, capsys: Capture) -> None:
    """The path is written as given, whether there is a model or not."""
    path = tmp_path / "config.json"
    assert add_to_config(str(path), "m/ü", "models/../m") == 0
    assert capsys.readouterr() == (f"Config updated: {path}\n", "")
    assert path.read_text("utf-8") == (
        '{\n    "model_config_list": [\n        {\n            "config": {\n'
        '                "name": "m/ü",\n                "base_path": "models/../m"\n'
        "            }\n        }\n    ]\n}\n"
    )


def test_a_model_is_added_behind_the_others(tmp_path: Path) -> None:
    """Everything else is kept, in its order."""
    before = {
        "monitoring": {"metrics": {"enable": True}},
        "model_config_list": [entry("a", nireq=2, plugin_config={"B": 1.5, "A": True})],
        "pipeline_config_list": [],
    }
    path = write(tmp_path / "config.json", before)
    assert add_to_config(path, "b", "/b") == 0
    after = json.loads((tmp_path / "config.json").read_text("utf-8"))
    before["model_config_list"] = [*before["model_config_list"], entry("b", "/b")]  # type: ignore[misc]
    assert json.dumps(after) == json.dumps(before)


def test_the_first_entry_of_a_name_is_removed(tmp_path: Path, capsys: Capture) -> None:
    """The others stay; the file is written with four blanks a level."""
    path = write(tmp_path / "config.json", {"model_config_list": [entry("a"), entry("b", "/1"), entry("b", "/2")]})
    assert remove_from_config(path, "b") == 0
    text = (tmp_path / "config.json").read_text("utf-8")
    assert json.loads(text) == {"model_config_list": [entry("a"), entry("b", "/2")]}
    assert text.startswith('{\n    "model_config_list": [\n        {\n')
    assert text.endswith("\n}\n")
    assert capsys.readouterr().out == f"Config updated: {path}\n"


def test_what_was_added_can_be_removed(tmp_path: Path) -> None:
    """The list is empty again, and there."""
    path = str(tmp_path / "config.json")
    assert add_to_config(path, "m", "/m") == remove_from_config(path, "m") == 0
    assert json.loads((tmp_path / "config.json").read_text("utf-8")) == EMPTY


@pytest.mark.parametrize(
    ("document", "mode", "reason"),
    [
        (None, "remove", "The provided base path is invalid or doesn't exists"),
        (EMPTY, "remove", "Model with requested name is not found"),
        ({"model_config_list": [entry("M")]}, "remove", "Model with requested name is not found"),
        ({}, "remove", "Model with requested name is not found"),
        ({"model_config_list": [entry("m")]}, "add", "Given model name is already occupied"),
        *(("", mode, "The file is not valid json - ") for mode in ("add", "remove")),
        *(("{,}", mode, "The file is not valid json - ") for mode in ("add", "remove")),
        ("{} // comment", "add", "The file is not valid json - "),
        ([], "add", "The file is not valid json - expected an object with the list model_config_list"),
        ({"model_config_list": {}}, "add", "The file is not valid json - expected an object with the list"),
    ],
)
def test_edits_that_fail(document: object, mode: str, reason: str, tmp_path: Path, capsys: Capture) -> None:
    """The reason is told in the reference's words, the exit code is 1, and the file stays as it was."""
    file = tmp_path / "config.json"
    path = str(file) if document is None else write(file, document)
    before = file.read_bytes() if file.exists() else None
    assert (add_to_config(path, "m", "/m") if mode == "add" else remove_from_config(path, "m")) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{path} error on config update : {reason}")
    assert (len(out.splitlines()), err) == (1, "")
    assert (file.read_bytes() if file.exists() else None) == before


def test_folders_are_not_made(tmp_path: Path, capsys: Capture) -> None:
    """Nor is a folder edited."""
    path = str(tmp_path / "none" / "config.json")
    assert add_to_config(path, "m", "/m") == 1
    assert capsys.readouterr().out == f"{path} error on config update : No such file or directory\n"
    assert add_to_config(str(tmp_path), "m", "/m") == 1
    assert capsys.readouterr().out == f"{tmp_path} error on config update : Is a directory\n"


def test_a_name_that_is_no_text_is_not_written(tmp_path: Path, capsys: Capture) -> None:
    """JSON is UTF-8; the file stays as it was."""
    path = write(tmp_path / "config.json", EMPTY)
    assert add_to_config(path, "\udcff", "/m") == 1
    assert "is not UTF-8" in capsys.readouterr().out
    assert json.loads((tmp_path / "config.json").read_text("utf-8")) == EMPTY


def test_a_file_against_the_schema_is_edited_with_a_complaint(tmp_path: Path, capsys: Capture) -> None:
    """Whoever edits it may be repairing it; odd entries are left alone."""
    path = write(tmp_path / "config.json", {"model_config_list": [7, {"config": 1}, entry("a", nireq="x")], "x": 1})
    assert add_to_config(path, "m", "/m") == 0
    out, err = capsys.readouterr()
    assert out == f"Config updated: {path}\n"
    places = [line.removeprefix(f"{path} cannot be served as it is: ").split(":")[0] for line in err.splitlines()]
    assert set(places) == {
        "/model_config_list/0", "/model_config_list/1/config", "/model_config_list/2/config/nireq", "/x",
    }  # fmt: skip
    assert len(json.loads((tmp_path / "config.json").read_text("utf-8"))["model_config_list"]) == 4


def test_the_file_is_changed_in_place(tmp_path: Path) -> None:
    """It may be mounted by itself, or be a link."""
    write(tmp_path / "real.json", EMPTY)
    (tmp_path / "config.json").symlink_to(tmp_path / "real.json")
    inode = (tmp_path / "real.json").stat().st_ino
    assert add_to_config(str(tmp_path / "config.json"), "m", "/m") == 0
    assert (tmp_path / "config.json").is_symlink()
    assert (tmp_path / "real.json").stat().st_ino == inode
    assert json.loads((tmp_path / "real.json").read_text("utf-8")) == {"model_config_list": [entry("m", "/m")]}
