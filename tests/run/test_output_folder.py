"""A command's folder: what may be in it before, and that only files of metaformer are ever removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import contents

from metaformer.errors import RunError
from metaformer.run.folder import RUN_FOLDER, class_difference
from metaformer.run.output_folder import OutputFolder, listed

EXPORT = OutputFolder(kind="export", mark="export.json", written=("export.json", "model.*"), resumable=False)


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize("names", [(), (".DS_Store",)])
def test_a_new_or_empty_folder_is_taken(tmp_path: Path, names: tuple[str, ...]) -> None:
    RUN_FOLDER.check(filled(tmp_path, *names))
    RUN_FOLDER.check(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {"resume": True}, r"no run to resume, the folder is empty or missing.*--resume"),
        (("x.txt",), {"resume": True}, r"no run to resume, it contains x\.txt"),
        (("best.safetensors",), {"resume": True}, r"no run to resume, its config\.json is missing"),
        (("config.json",), {}, r"already contains a run\. Resume it with --resume, replace it with --overwrite"),
        (("best.safetensors",), {}, r"already contains a run"),
        (("x.txt",), {}, r"did not create: x\.txt\. Nothing was changed"),
        (("x.txt",), {"overwrite": True}, r"did not create: x\.txt"),
        (("config.json", "x.txt"), {"overwrite": True}, r"did not create: x\.txt"),
        (("config.json", "x.txt"), {}, r"already contains a run"),
        (("config.json",), {"resume": True, "overwrite": True}, r"pass one of them"),
        (tuple(f"{i}.txt" for i in range(8)), {}, r"0\.txt, 1\.txt, 2\.txt, 3\.txt, 4\.txt and 3 more"),
    ],
)
def test_a_folder_that_cannot_be_taken_is_refused_untouched(
    tmp_path: Path, names: tuple[str, ...], options: dict[str, bool], message: str
) -> None:
    before = contents(filled(tmp_path, *names))
    with pytest.raises(RunError, match=message):
        RUN_FOLDER.check(tmp_path, **options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_is_taken_with_resume_or_overwrite(tmp_path: Path, resume: bool) -> None:
    names = ("config.json", "events.out.tfevents.1", ".best.safetensors.partial")
    RUN_FOLDER.check(filled(tmp_path, *names), resume=resume, overwrite=not resume)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a file; expected a folder for the run"):
        RUN_FOLDER.check(filled(tmp_path, "file") / "file")


def test_what_cannot_be_resumed_is_not_said_to_be(tmp_path: Path) -> None:
    filled(tmp_path, "model.onnx", "export.json")
    with pytest.raises(RunError, match=r"already contains an export\. Replace it with --overwrite"):
        EXPORT.check(tmp_path)
    EXPORT.check(tmp_path, overwrite=True)


def test_clearing_removes_the_outputs_files_and_no_others(tmp_path: Path) -> None:
    filled(tmp_path, "model.onnx", "export.json", ".model.onnx.partial", "mine.txt", ".hidden")
    (tmp_path / "model.folder").mkdir()
    EXPORT.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", ".hidden", "model.folder"}
    EXPORT.clear(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    with pytest.raises(RunError, match="cannot be written"):
        EXPORT.clear(tmp_path / "mine.txt")


def test_differences_of_classes_are_put_in_words() -> None:
    assert class_difference(("a", "b"), ("a",)) == "the model has 2 classes, the dataset has 1"
    assert "another order: number 0 is 'a' in the model, 'b' in the dataset" in class_difference(("a", "b"), ("b", "a"))
    assert class_difference(("a", "b"), ("a", "c")) == (
        "the classes differ: b only in the model, c only in the dataset"
    )
    assert listed(["x"]) == "x"
