"""Contenders with wrong scores are not timed, others have a note, and all libraries have the same weights."""

import pytest
import torch
from toys import CPU, PACE, eager, fabricated, toy_trial

from metaformer.benchmark.contenders import (
    BASELINE,
    INDUCTOR,
    OURS,
    PEERS,
    TOLERANCE,
    checked,
    contenders,
    difference,
)
from metaformer.benchmark.inference import compare
from metaformer.benchmark.trial import Trial
from metaformer.errors import InputError, MissingExtraError
from metaformer.zoo.catalogue import find


def test_right_scores_are_timed() -> None:
    row, call = checked(eager(), toy_trial())
    assert (row.state, row.difference) == ("timed", 0.0)
    assert call is not None


@pytest.mark.parametrize(
    "scores",
    [
        lambda right: 1.01 * right,
        lambda right: right.flip(0),
        lambda right: right[:2],
        lambda right: right * torch.nan,
        torch.zeros_like,
    ],
    ids=["off by a hundredth", "another image's", "another shape", "NaN", "zeros"],
)
def test_wrong_scores_are_not_timed(scores: object) -> None:
    row, call = checked(fabricated(scores), toy_trial())
    assert (row.state, call) == ("wrong", None)
    assert "off by" in row.note


@pytest.mark.parametrize(
    ("precision", "error", "state"),
    [("fp32", 0.01, "wrong"), ("bf16", 0.01, "timed"), ("bf16", 0.1, "wrong"), ("int8", 0.1, "timed")],
)
def test_a_precision_has_its_own_bound(precision: str, error: float, state: str) -> None:
    row, _ = checked(fabricated(lambda right: (1 + error) * right, precision=precision), toy_trial())
    assert row.state == state
    assert row.difference == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("name", ["poolformer_s12", "caformer_s18"])
def test_no_tolerance_confuses_two_images(name: str) -> None:
    """Scores of two images differ by much more than any tolerance."""
    trial = Trial(name, find(name).spec, batch=2, size=96, threads=1, device=CPU)
    right = trial.expected_scores("original")
    assert difference(right.roll(1, 0), right) > 3 * max(TOLERANCE.values())


@pytest.mark.parametrize(
    ("error", "state", "note"),
    [
        (MissingExtraError("X is not installed: pip install 'metaformer[x]'"), "left out", "metaformer[x]"),
        (InputError("no bf16 here"), "left out", "no bf16 here"),
        (RuntimeError("out of luck"), "failed", "RuntimeError: out of luck"),
    ],
)
def test_a_contender_that_raises_has_a_row_with_the_reason(error: Exception, state: str, note: str) -> None:
    row, call = checked(fabricated(error), toy_trial())
    assert (row.state, call) == (state, None)
    assert note in row.note


def test_a_contender_that_fails_later_has_no_times_and_the_others_continue() -> None:
    count = iter(range(100))

    def scores(right: torch.Tensor) -> torch.Tensor:
        if next(count) > 2:  # after the check, the warm-up and the first round
            raise RuntimeError("later")
        return right

    last = list(compare(toy_trial(), [eager(), fabricated(scores)], PACE, lambda doing: None))[-1]
    ours, theirs = last.rows
    assert (len(ours.times), ours.state) == (2, "timed")
    assert (theirs.times, theirs.state) == ([], "failed")


def test_a_comparison_has_ratios_to_its_baseline_and_shares_of_the_peak() -> None:
    comparison = list(compare(toy_trial(), [eager(), fabricated(lambda right: right)], PACE, lambda doing: None))[-1]
    ours, theirs = comparison.rows
    comparison.peaks = {"fp32": [0.5, 0.25]}
    ours.times, theirs.times = [0.5, 0.5], [0.25, 0.125]
    comparison.macs = 2048**3  # an image is half a product
    found = comparison.to_dict()
    assert found["baseline"] == "ours, eager"  # timm has no such model
    assert found["peak_gflops"]["fp32"] == round(2 * 2048**3 / 0.375 / 1e9, 1)
    assert found["rows"][1]["metrics"]["ratio"] == 3.0
    assert found["rows"][1]["metrics"]["images_per_second"] == 16.0
    assert found["rows"][0]["metrics"]["share_of_peak"] == pytest.approx((3 + 1.5) / 2, rel=1e-3)


def test_names_are_unique() -> None:
    names = [one.name for one in (*OURS, *PEERS)]
    assert len(names) == len(set(names))
    assert BASELINE in names


def test_reference_models_can_be_traced_and_trained() -> None:
    trial = toy_trial()
    trial.expected_scores("original")
    assert not any(parameter.is_inference() for parameter in trial.ours.parameters())


def test_contenders_of_a_device() -> None:
    assert all(one.library == "metaformer" for one in contenders(CPU, peers=False))
    assert all(one.engine not in INDUCTOR for one in contenders(CPU, compilers=False))
    on_gpu = {one.engine for one in contenders(torch.device("cuda"))}
    assert not on_gpu & {"openvino", "onnxruntime"}


def test_libraries_without_the_model_are_left_out() -> None:
    trial = Trial("identityformer_s12", find("identityformer_s12").spec, batch=1, size=32, threads=1, device=CPU)
    some = ("timm, eager", "transformers, eager")
    states = {one.name: checked(one, trial)[0] for one in PEERS if one.name in some}
    assert states["timm, eager"].state == "left out"
    assert "timm has no model identityformer_s12" in states["timm, eager"].note
    assert states["transformers, eager"].state == "left out"


def test_every_library_has_the_same_weights() -> None:
    """PoolFormer-S12 in PyTorch's ways: ours folded or not, timm's with its own head, transformers'."""
    trial = Trial("poolformer_s12", find("poolformer_s12").spec, batch=2, size=64, threads=1, device=CPU)
    eagers = [one for one in contenders(CPU) if one.engine == "eager" and one.precision == "fp32"]
    rows = {one.name: checked(one, trial)[0] for one in eagers}
    assert {name: row.state for name, row in rows.items()} == dict.fromkeys(rows, "timed")
    compared = [row.difference for row in rows.values() if row.library != "torchvision"]
    assert len(compared) == 6
    assert max(compared) < 1e-5
    assert (
        difference(trial.expected_scores("timm"), trial.expected_scores("original")) > 1e-3
    )  # the two heads do differ


@pytest.mark.slow
def test_other_libraries_have_the_right_scores_in_engines() -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    trial = Trial("poolformer_s12", find("poolformer_s12").spec, batch=2, size=32, threads=1, device=CPU)
    exported = [one for one in PEERS if one.engine in ("openvino", "onnxruntime") and one.precision != "bf16"]
    rows = {one.name: checked(one, trial)[0] for one in exported}
    assert {name: (row.state, row.note) for name, row in rows.items()} == dict.fromkeys(rows, ("timed", ""))
