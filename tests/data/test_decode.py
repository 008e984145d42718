"""Images of every kind become upright L or RGB; corrupt ones are refused by name, or skipped and counted."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import noise

from metaformer.data.decode import UnreadableImage, as_mode, read_image, read_size
from metaformer.data.loading.loader import BadImageWarning, Loader
from metaformer.data.loading.schedule import BatchSchedule
from metaformer.data.sources import open_labeled
from metaformer.data.transforms.image import OnInput, evaluation_transform
from metaformer.errors import DataError
from metaformer.recipe import DataConfig
from metaformer.types import Preprocessing

Write = Callable[..., Path]


def truncated(suffix: str = "JPEG", size: int = 64, keep: float = 0.6) -> bytes:
    buffer = io.BytesIO()
    noise(1, size, size).save(buffer, suffix)
    return buffer.getvalue()[: int(len(buffer.getvalue()) * keep)]


BROKEN = {
    "cut.jpg": (truncated(), "truncated"),
    "cut.png": (truncated("PNG"), "truncated"),
    "text.jpg": (b"hello, I am a text", "no image format"),
    "empty.jpeg": (b"", "the file is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_of_a_corrupt_file_has_its_path_and_the_reason(tmp_path: Path, name: str) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as raised:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="No such file"):
        read_image(tmp_path / "absent.png")


def spoiled(write_folder: Write) -> Path:
    root = write_folder({"train/a": 4, "train/b": 3, "val/a": 2, "val/b": 2})
    for name, (content, _) in BROKEN.items():
        (root / "train" / "a" / name).write_bytes(content)
    (root / "val" / "b" / "zz.jpg").write_bytes(truncated())
    noise(3).save(root / "train" / "stray.png")
    return root


def test_refusing_lists_the_files_and_what_to_do(write_folder: Write) -> None:
    root = spoiled(write_folder)
    with pytest.raises(DataError) as raised:
        open_labeled(DataConfig(source=str(root)))
    message = str(raised.value)
    assert message.startswith("6 of 17 image files cannot be used")
    assert "its class is not known" in message
    for name in (*(f"train/a/{name}" for name in BROKEN), "val/b/zz.jpg", "train/stray.png"):
        assert str(root / name) in message
    assert "--data.on-bad-image skip" in message


def test_skipping_leaves_files_out_and_lists_them(write_folder: Write) -> None:
    root = spoiled(write_folder)
    sets = open_labeled(DataConfig(source=str(root), on_bad_image="skip"))
    assert (len(sets.train), len(sets.val)) == (7, 4)
    assert {Path(bad.path).name for bad in sets.skipped} == {*BROKEN, "zz.jpg", "stray.png"}
    assert all(bad.reason for bad in sets.skipped)
    for images in (sets.train, sets.val):
        assert all(images.load(i).input.mode == "RGB" for i in range(len(images)))


def test_headers_alone_do_not_show_truncated_files(write_folder: Write) -> None:
    root = spoiled(write_folder)
    sets = open_labeled(DataConfig(source=str(root), on_bad_image="skip", verify="header"))
    assert {Path(bad.path).name for bad in sets.skipped} == {"text.jpg", "empty.jpeg", "stray.png"}
    assert sets.native_size is None


def test_a_class_without_a_readable_image_is_named(write_folder: Write) -> None:
    root = write_folder({"a": 3, "b": 1})
    (root / "b" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'b' in .*no readable image is left"):
        open_labeled(DataConfig(source=str(root), on_bad_image="skip"))


def loader(root: Path, workers: int, **choice: object) -> Loader:
    sets = open_labeled(DataConfig(source=str(root), **choice))
    transform = OnInput(evaluation_transform(Preprocessing(size=(8, 8), crop=1.0)))
    return Loader(sets.train, transform, BatchSchedule(len(sets.train), 4), workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_becomes_unreadable_is_refused_by_its_path(write_folder: Write, workers: int) -> None:
    root = write_folder({"train/a": 4, "train/b": 4, "val/a": 1, "val/b": 1})
    bad = root / "train" / "b" / "001.png"
    bad.write_bytes(truncated("PNG"))
    reader = loader(root, workers, verify="none")
    batches = reader.batches(0)
    assert len(next(batches)) == 4
    with pytest.raises(DataError) as raised:
        next(batches)
    reader.close()
    assert str(raised.value).startswith(f"{bad} is not a readable image: ")
    assert "--data.on-bad-image skip" in str(raised.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_becomes_unreadable_is_replaced_with_one_warning(write_folder: Write, workers: int) -> None:
    root = write_folder({"train/a": 4, "train/b": 4, "val/a": 1, "val/b": 1})
    good = [batch.inputs for batch in loader(root, 0).batches(0)]
    for name in ("002.png", "003.png"):
        (root / "train" / "a" / name).write_bytes(truncated("PNG"))
    reader = loader(root, workers, verify="none", on_bad_image="skip")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        epochs = [list(reader.batches(epoch)) for epoch in range(2)]
    reader.close()
    first = epochs[0][0]
    assert torch.equal(first.inputs, torch.cat([good[0][:2], good[1][:1], good[1][:1]]))
    assert first.targets.tolist() == [0, 0, 1, 1]
    warned = [str(w.message) for w in caught if w.category is BadImageWarning]
    assert len(warned) == 2
    assert "002.png" in warned[0]


def test_a_dataset_without_a_readable_image_is_refused(write_folder: Write) -> None:
    root = write_folder({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1})
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image of the dataset is readable"):
        list(loader(root, 0, verify="none", on_bad_image="skip").batches(0))


def test_gray_palette_cmyk_and_deep_images_become_eight_bits() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gray = Image.fromarray(ramp)
    assert np.array_equal(as_mode(gray, "RGB"), np.stack([ramp] * 3, -1))
    assert np.array_equal(as_mode(gray.convert("P"), "L"), ramp)
    assert np.array_equal(as_mode(Image.fromarray(ramp.astype(np.uint16) * 257), "L"), ramp)
    assert np.array_equal(as_mode(Image.fromarray(ramp.astype(np.int32) * 257), "L"), ramp)
    assert np.array_equal(as_mode(Image.fromarray(ramp.astype(np.float32) / 255), "L"), ramp)
    assert as_mode(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "RGB").getpixel((0, 0)) == (255, 0, 0)
    assert as_mode(Image.new("1", (2, 2), 1), "RGB").getpixel((0, 0)) == (255, 255, 255)


def test_transparent_parts_become_white() -> None:
    for mode, color in (("RGBA", (10, 20, 30, 0)), ("LA", (10, 0))):
        assert as_mode(Image.new(mode, (2, 2), color), "RGB").getpixel((0, 0)) == (255, 255, 255)
    assert as_mode(Image.new("RGBA", (2, 2), (10, 20, 30, 255)), "RGB").getpixel((0, 0)) == (10, 20, 30)


def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path) -> None:
    upright = noise(5, height=6, width=9)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: show it turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "lying.png"), upright)
    assert read_size(tmp_path / "lying.png") == (6, 9)
