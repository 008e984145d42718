"""A weights file is complete or not there, and reading one never runs code."""

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from metaformer.errors import RunError, WeightsError
from metaformer.files import replace_file
from metaformer.weights.safetensors_io import read_metadata, read_tensors, write_tensors


def test_tensors_and_header_are_read_back_unchanged(tmp_path: Path) -> None:
    tensors = {
        "weight": torch.randn(3, 4),
        "half": torch.randn(5).bfloat16(),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "none of it": torch.empty(0, 3),
    }
    write_tensors(tmp_path / "w.safetensors", tensors, {"metaformer": "{}"})
    back, metadata = read_tensors(tmp_path / "w.safetensors")
    assert metadata == read_metadata(tmp_path / "w.safetensors") == {"metaformer": "{}"}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_tied_transposed_and_trained_tensors_can_be_written(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    write_tensors(tmp_path / "w.safetensors", {"a": weight, "b": weight, "t": weight.t(), "row": weight[1]})
    back, _ = read_tensors(tmp_path / "w.safetensors")
    assert torch.equal(back["a"], weight)
    assert torch.equal(back["b"], weight)
    assert torch.equal(back["t"], weight.t())
    assert torch.equal(back["row"], weight[1])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "short.safetensors"
    write_tensors(path, {"weight": torch.randn(100, 10)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (read_tensors, read_metadata):
        with pytest.raises(WeightsError, match=r"short\.safetensors: not a safetensors file, or a truncated one"):
            read(path)


class _Boom:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("code from a file was run",))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps({"weight": _Boom()}))
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_tensors(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_tensors(tmp_path / "missing.safetensors")
    with pytest.raises(WeightsError, match="got a folder"):
        read_tensors(tmp_path)


def test_the_previous_content_can_be_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "f", tmp_path / "f.previous"
    for content in (b"one", b"two", b"three"):
        replace_file(path, content, previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"three", b"two")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f", "f.previous"]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file or directory"):
        replace_file(tmp_path / "no" / "f", b"x")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_full_disk_leaves_the_earlier_file_and_no_partial_one(tmp_path: Path) -> None:
    """The size limit of a process makes a write fail half way, as a full disk does."""
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from metaformer.errors import RunError
        from metaformer.files import replace_file
        path = Path(sys.argv[1])
        replace_file(path, b"good")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        try:
            replace_file(path, b"x" * 100_000, path.with_suffix(".previous"))
        except RunError as error:
            print(error)
    """)
    path = tmp_path / "state"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "cannot be written (File too large)" in done.stdout
    assert path.read_bytes() == b"good"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
