"""Unsafe, damaged and other files are refused with the reason, and no code in them is ever run."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch

from metaformer.errors import WeightsError
from metaformer.weights.load import load_weights
from metaformer.weights.read_checkpoint import read_state
from metaformer.weights.save import save_weights


class RunsACommand:
    """Unpickled by a reader that trusts it, it runs a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"echo was here > '{self.mark}'",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 5"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tiny, tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "poolformer_s12.pth.tar"
    evil = {"state_dict": {"a": torch.zeros(1)}, "extra": RunsACommand(mark)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(RunsACommand(mark), protocol=int(form[-1])))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
    reason = "plain pickle" if form == "pickle 5" else r"names (posix|nt|os)\.system, which is code"
    with pytest.raises(WeightsError, match=f"refused.*{reason}"):
        load_weights(tiny(), path)
    assert not mark.exists()
    # the file is a real attack: a reader that trusts it does run the command
    with path.open("rb") as file:
        pickle.load(file) if form.startswith("pickle") else torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_whole_pickled_model_is_refused_with_the_way_out(tiny, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"refused.*torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        load_weights(tiny(), path)


@pytest.mark.parametrize("form", [True, False])
def test_published_files_of_both_pickle_forms_load(tiny, tmp_path: Path, form: bool) -> None:
    model, path = tiny(), tmp_path / "model.pth.tar"
    content = {"epoch": 3, "state_dict": model.state_dict(), "args": argparse.Namespace(lr=0.1)}
    torch.save(content, path, _use_new_zipfile_serialization=form)
    assert load_weights(tiny(), path).loaded == len(model.state_dict())


PNG = b"\x89PNG\r\n\x1a\n"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", PNG, b"<!DOCTYPE html><html>404</html>", b'{"error": "not found"}', LFS_POINTER, bytes(range(200))]
)
def test_other_files_are_refused_with_their_first_bytes(tiny, tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"poolformer_s12{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a checkpoint") as caught:
        load_weights(tiny(), path)
    for word in (str(path), f"{len(content)} bytes", repr(content[:20]), "git lfs pull"):
        assert word in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".legacy.pth"])
def test_a_truncated_file_says_so_wherever_it_ends(tiny, tmp_path: Path, suffix: str, share: float) -> None:
    model, path = tiny(), tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_weights(model, path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=suffix == ".pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(len(whole) * share))])
    with pytest.raises(WeightsError, match=r"truncated|damaged"):
        load_weights(tiny(), path)


def test_what_kind_of_file_it_is_does_not_follow_from_its_name(tiny, tmp_path: Path) -> None:
    model, path = tiny(), tmp_path / "model.pth"
    save_weights(model, path)
    assert read_state(path).keys() == model.state_dict().keys()


@pytest.mark.parametrize("source", ["missing.pth", "/nowhere/model.safetensors", "no such/file/here"])
def test_a_missing_file_is_named(tiny, source: str) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tiny(), source)


def test_an_empty_folder_is_named(tiny, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds none of model\.safetensors"):
        load_weights(tiny(), tmp_path)


def test_the_state_of_a_run_points_to_the_weights_beside_it(tiny, tmp_path: Path) -> None:
    from metaformer.training.checkpoint import write_tree

    path = tmp_path / "checkpoint.safetensors"
    write_tree(path, {"model": {"a": torch.zeros(1)}})
    with pytest.raises(WeightsError, match=r"best\.safetensors"):
        load_weights(tiny(), path)
