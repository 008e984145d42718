"""What a person names as images: files, folders, patterns, images in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metaformer.data.decode import UnreadableImage
from metaformer.errors import DataError
from metaformer.inference.inputs import batches, expand, read, sources

RED = Image.new("RGB", (6, 4), (255, 0, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    (root / "below" / ".hidden").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "below/c.PNG", ".d.png", "below/.hidden/e.png"):
        RED.save(root / name, format="PNG")
    (root / "notes.txt").write_text("no image")
    (root / "empty").mkdir()
    return root


def names(found: list[Path]) -> list[str]:
    return [path.name for path in found]


def test_a_folder_is_all_visible_images_below_it_in_order(folder: Path) -> None:
    assert names(expand([folder])) == ["a.jpg", "b.png", "c.PNG"]


def test_patterns_and_files_come_in_the_order_given_each_once(folder: Path) -> None:
    assert names(expand([folder / "b.png", f"{folder}/*.jpg", folder, f"{folder}/**/*.PNG"])) == [
        "b.png", "a.jpg", "c.PNG"
    ]  # fmt: skip
    assert names(expand([folder / "notes.txt"])) == ["notes.txt"], "a file that is named is taken at its word"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("b.pgn", r"b\.pgn: no such file or folder\. Did you mean 'b\.png'"),
        ("nowhere/a.png", r"There is no folder .*nowhere either"),
        ("empty", "no images in this folder"),
        ("*.bmp", "no image matches"),
        ("*.txt", "no image matches"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        expand([folder / path])
    with pytest.raises(DataError, match="no images given"):
        expand([])


def test_one_or_many_of_any_kind(folder: Path) -> None:
    array = np.asarray(RED)
    assert sources(RED) == [RED]
    assert names(sources(str(folder))) == names(sources([folder])) == ["a.jpg", "b.png", "c.PNG"]  # type: ignore[arg-type]
    mixed = sources(one for one in (folder / "b.png", RED, array, array[..., 0], array[..., :1]))
    assert mixed[:2] == [folder / "b.png", RED]
    assert [image.mode for image in mixed[2:]] == ["RGB", "L", "L"]  # type: ignore[union-attr]
    assert (np.asarray(mixed[2]) == array).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 6, 3), dtype=np.float32), r"of uint8, got float32 \(4, 6, 3\)"),
        (np.zeros((3, 4, 6), dtype=np.uint8), r"channels last in RGB, got \(3, 4, 6\)"),
        (np.zeros((2, 4, 6, 3), dtype=np.uint8), r"got uint8 \(2, 4, 6, 3\)"),
        (3, "got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, message: str) -> None:
    for images in (image, [image]):
        with pytest.raises(DataError, match=message):
            sources(images)
    with pytest.raises(DataError, match="no images given"):
        sources([])


def turned(folder: Path) -> Path:
    """A file whose EXIF says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = folder / "turned.jpg"
    RED.save(path, exif=exif)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_in_memory_is_read_as_its_file_is(tmp_path: Path, mode: Any) -> None:
    path = turned(tmp_path)
    with Image.open(path) as opened:
        for image in (read(path, mode), read(opened, mode)):
            assert (image.size, image.mode) == ((4, 6), mode)
    assert read(RED.convert("RGBA"), mode).tobytes() == RED.convert(mode).tobytes()


def test_a_truncated_image_is_unreadable_from_a_file_and_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "truncated.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UnreadableImage, match=r"truncated\.png is not a readable image"):
        read(path, "RGB")
    with Image.open(path) as opened, pytest.raises(UnreadableImage, match=r"truncated\.png is not a readable image"):
        read(opened, "RGB")


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_batches_are_the_whole_in_order(size: int) -> None:
    parts = list(batches([RED] * 5, size))
    assert [len(part) for part in parts][:-1] == [size] * (len(parts) - 1)
    assert sum(map(len, parts)) == 5
