"""Laws of the checkpoint: any tree comes back, and at every instant a whole one is on the disk."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from same_run import same

from metaformer.errors import RunError, WeightsError
from metaformer.training.checkpoint import Checkpoints, read_tree, write_tree
from metaformer.weights.safetensors_io import write_tensors

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_keys = _texts | st.integers() | st.sampled_from(["a", "a/b", "b", "__metadata__", "tensor", "dict"])
_dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
_tensors = st.builds(
    lambda shape, dtype: torch.randn(shape).to(dtype), st.lists(st.integers(0, 3), max_size=3), _dtypes
)
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | _texts | _tensors
_trees = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(tree=_trees)
def test_any_tree_comes_back(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.safetensors"
    write_tree(path, tree)
    assert same(read_tree(path), tree)


def test_an_optimizer_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    def moved(weight: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        weight.grad = torch.arange(3.0)
        optimizer.step()
        return weight.detach().clone()

    one = torch.nn.Parameter(torch.ones(3))
    first = torch.optim.AdamW([one], lr=0.1)
    moved(one, first)
    write_tree(tmp_path / "o", first.state_dict())
    two = torch.nn.Parameter(one.detach().clone())
    second = torch.optim.AdamW([two], lr=0.7)
    second.load_state_dict(read_tree(tmp_path / "o"))
    assert torch.equal(moved(one, first), moved(two, second))


def test_what_is_not_plain_data_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a/0: .* got object"):
        write_tree(tmp_path / "t", {"a": [object()]})


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write_tree(path, {"weight": torch.randn(20), "update": 3})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(WeightsError):
            read_tree(path)


def test_weights_are_not_mistaken_for_a_state(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w", {"a": torch.ones(1)}, {"format": "pt"})
    with pytest.raises(WeightsError, match="another safetensors file"):
        read_tree(tmp_path / "w")


def test_the_newest_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for update in range(3):
        checkpoints.save({"update": update})
    assert Checkpoints(tmp_path).load() == {"update": 2}
    assert read_tree(checkpoints.previous) == {"update": 1}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_one_is_skipped_with_a_warning(tmp_path: Path, share: float) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"update": 1, "w": torch.ones(50)})
    checkpoints.save({"update": 2, "w": torch.ones(50)})
    whole = checkpoints.path.read_bytes()
    checkpoints.path.write_bytes(whole[: int(share * len(whole))])
    again = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match=r"checkpoint\.safetensors: .*truncated.*\n.*checkpoint\.previous"):
        assert again.load()["update"] == 1
    # the damaged one must not push the good one out
    again.save({"update": 5})
    assert read_tree(again.previous)["update"] == 1
    assert Checkpoints(tmp_path).load() == {"update": 5}


def test_both_damaged_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (tmp_path / name).write_bytes(b"rubbish" * 10)
    with pytest.raises(RunError, match=r"cannot be resumed(.|\n)*previous(.|\n)*--overwrite"):
        Checkpoints(tmp_path).load()


def test_a_kill_between_any_two_steps_leaves_a_whole_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that changes the folder is the last one once; what is then on the disk must load."""

    class Killed(BaseException):
        pass

    calls = {"count": 0, "limit": 10**6}

    def dying(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if calls["count"] == calls["limit"]:
                raise Killed
            calls["count"] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(os, "fsync", dying(os.fsync))
    for limit in range(6):
        folder = tmp_path / str(limit)
        folder.mkdir()
        calls.update(count=0, limit=10**6)
        checkpoints = Checkpoints(folder)
        checkpoints.save({"update": 1})
        checkpoints.save({"update": 2})
        calls.update(count=0, limit=limit)
        try:
            checkpoints.save({"update": 3})
            finished = True
        except Killed:
            finished = False
        calls.update(count=0, limit=10**6)
        loaded = Checkpoints(folder).load()
        assert loaded["update"] in ({3} if finished else {2, 3})
    assert finished


def test_a_new_run_never_falls_back_to_an_older_one(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save({"update": 1})
    Checkpoints(tmp_path).clear()
    assert Checkpoints(tmp_path).load() is None
