"""The table and the findings of a sweep say what its runs say, however few there are, and depend on no clock."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import fabricated_sweep as fake
import pytest
from rich.console import Console

from metaformer.ablation.report.findings import findings
from metaformer.ablation.report.results import SweepResults, parts_missing, read_results
from metaformer.ablation.report.table import sweep_csv, sweep_json, sweep_markdown, terminal_table
from metaformer.zoo.catalogue import find


def sweep_of(folder: Path, *args: Any, **more: Any) -> SweepResults:
    return read_results(fake.sweep_folder(folder, *args, **more))


def row_of(sweep: SweepResults, name: str) -> Any:
    return next(row for row in sweep.rows if row.name == name)


def one_seed(folder: Path) -> SweepResults:
    return sweep_of(folder, results={name: found[:1] for name, found in fake.RESULTS.items()}, seeds=(7,))


def test_a_row_by_hand(tmp_path: Path) -> None:
    row = row_of(sweep_of(tmp_path), "identity")
    assert (row.summary.mean, row.summary.deviation) == pytest.approx((93.6, 0.6))
    assert row.difference.mean == pytest.approx(-2.9)
    assert row.published_difference == pytest.approx(-2.9)
    assert (row.parameters, row.macs) == (11_411_402, 412_331_008)
    assert row.training_speed == 513.0
    assert row.inference_speed is None


def test_a_diverged_run_counts_as_chance_and_is_marked(tmp_path: Path) -> None:
    row = row_of(sweep_of(tmp_path), "no residual")
    assert row.summary.mean == pytest.approx((10 + 20 + 10) / 3)
    assert row.notes == ["2 of 3 diverged"]


def test_the_measured_order_is_the_published_one(tmp_path: Path) -> None:
    ranks = sweep_of(tmp_path).ranks
    assert ranks is not None
    assert (ranks.rho, ranks.number) == (pytest.approx(1.0), 6)


def test_holm_counts_every_tested_change(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    tested = sorted(row.difference.p for row in sweep.changes)
    smallest = min(sweep.changes, key=lambda row: row.difference.p)
    assert smallest.difference.p_holm == pytest.approx(5 * tested[0])


def test_what_a_change_is_follows_from_its_spec(tmp_path: Path) -> None:
    kinds = {row.name: (row.kind, row.without) for row in sweep_of(tmp_path).rows}
    assert kinds == {
        "PoolFormer": ("base", ()),
        "identity": ("mixer", ()),
        "attention": ("mixer", ()),
        "BatchNorm": ("other", ()),
        "no residual": ("without", ("residual connections",)),
        "no channel MLP": ("without", ("channel MLP",)),
    }
    without_norm, base = fake.spec(norm="none"), fake.spec(norm="layer")
    assert parts_missing(without_norm, base) == ("norm",)
    assert parts_missing(without_norm, without_norm) == ()
    assert parts_missing(find("resnet18").spec, base) == ()  # timm's CNNs have no parts that a plan could remove


def test_results_depend_on_no_clock(tmp_path: Path) -> None:
    quick, slow = sweep_of(tmp_path / "quick"), sweep_of(tmp_path / "slow", pace=3.0)
    assert json.dumps(quick.to_dict()) == json.dumps(slow.to_dict())
    assert json.loads(sweep_json(quick))["results"] == quick.to_dict()
    assert sweep_json(quick) != sweep_json(slow)
    other = sweep_of(tmp_path / "other", results=fake.RESULTS | {"identity": (0.93, 0.942, 0.937)})
    assert other.to_dict() != quick.to_dict()


def test_overhead_is_what_went_into_no_epoch(tmp_path: Path) -> None:
    """16 runs of 4 epochs and 2 of one, 30 s each, by 2 workers in 1,125 s."""
    cost = sweep_of(tmp_path).cost
    assert (cost.epochs, cost.offered) == (66 * 30.0, 2 * 1125.0)
    assert cost.overhead == pytest.approx(1 - 1980 / 2250)
    assert cost.worker == 16 * 125.0 + 2 * 40.0


def test_csv_has_every_digit(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    rows = list(csv.DictReader(io.StringIO(sweep_csv(sweep))))
    assert [row["variant"] for row in rows] == [row.name for row in sweep.rows]
    assert float(rows[2]["top1_percent"]) == sweep.rows[2].summary.mean
    assert float(rows[1]["difference_low"]) == row_of(sweep, "identity").difference.interval[0]
    assert rows[0]["difference"] == rows[0]["inference_samples_per_second"] == ""
    assert rows[4]["notes"] == "2 of 3 diverged"


def test_json_has_the_setting_and_every_run(tmp_path: Path) -> None:
    document = json.loads(sweep_json(sweep_of(tmp_path)))
    assert document["setting"]["commits"] == ["0123abc"]
    assert document["setting"]["command"] == "metaformer ablate paper --seeds 3"
    assert document["setting"]["recipe"]["optimizer"]["name"] == "adamw"
    assert document["cost"]["sessions"] == [{"workers": 2, "where": "this machine", "seconds": 1125.0}]
    assert len(document["runs"]) == 18
    assert document["runs"][12] == {
        "variant": "no residual", "seed": 0, "folder": "runs/no-residual/seed-0", "state": "diverged",
        "top1_percent": 10.0, "reason": "the loss is inf in epoch 1, update 3 of 40",
    }  # fmt: skip


def test_markdown_and_terminal_say_the_same(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    out = io.StringIO()
    Console(file=out, width=100).print(terminal_table(sweep))
    terminal, markdown = out.getvalue().replace("\u00a0", " "), sweep_markdown(sweep)
    for text in (terminal, markdown):
        for expected in ("93.60 ± 0.60", "2 of 3 diverged", "chance (10 %)", "ρ", "412 M", "0.002", "74.3"):
            assert expected in text
    assert "−2.90 ± 0.25" in terminal  # half of the interval's width
    assert "**−2.90 [−3.15 to −2.65]**" in markdown
    assert "**+0.37" not in markdown


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminals_numbers_are_never_cut(tmp_path: Path, width: int) -> None:
    long = [one.with_changes(name=f"{one.name} in every second stage") for one in fake.VARIANTS]
    found = {f"{name} in every second stage": values for name, values in fake.RESULTS.items()}
    out = io.StringIO()
    Console(file=out, width=width).print(terminal_table(sweep_of(tmp_path, long, found)))
    assert "…" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= width


def test_findings_follow_the_numbers(tmp_path: Path) -> None:
    sentences = findings(sweep_of(tmp_path))
    assert sentences[0] == "Top-1 of the base, PoolFormer, is 96.50 ± 0.50 % over 3 seeds."
    assert sentences[1] == (
        "3 of 5 changes make a significant difference after Holm's correction. "
        "Worse: no residual (−83.17); no channel MLP (−44.17); identity (−2.90)."
    )
    assert sentences[2] == "Within the spread of the seeds: attention (+0.37); BatchNorm (−0.20)."
    assert "top-1 changes by −2.90 (identity) to +0.37 points (attention)" in sentences[3]
    assert "−83.17 without residual connections and −44.17 without channel MLP" in sentences[3]
    assert sentences[4] == (
        "Training diverged for no residual (2 of 3); "
        "such a run counts as chance (10 %) in means, differences and ranks."
    )
    assert sentences[5].startswith("Against the order of the published numbers, Spearman's ρ is 1.00 (")


def test_findings_turn_with_the_numbers(tmp_path: Path) -> None:
    """A clear gain is called better, and a difference that the correction takes back stands apart."""
    found = fake.RESULTS | {"attention": (0.97, 0.981, 0.976), "BatchNorm": (0.94, 0.957, 0.95)}
    sentences = " ".join(findings(sweep_of(tmp_path, results=found)))
    assert "Better: attention (+1.07)." in sentences
    assert "Significant alone (the 95 % interval excludes zero) but not after the correction" not in sentences
    noisier = fake.RESULTS | {"BatchNorm": (0.945, 0.962, 0.948)}
    sentences = " ".join(findings(sweep_of(tmp_path / "noisier", results=noisier)))
    assert "but not after the correction: BatchNorm (−1.33)." in sentences


def test_one_seed_makes_no_claims(tmp_path: Path) -> None:
    sweep = one_seed(tmp_path)
    row = row_of(sweep, "identity")
    assert (row.summary.deviation, row.difference.interval, row.difference.p_holm) == (None, None, None)
    sentences = " ".join(findings(sweep))
    assert "One seed: there is no deviation, no interval and no test" in sentences
    assert "Holm" not in sentences
    assert "One seed: no deviation, no interval, no test." in sweep_markdown(sweep)
    assert "NaN" not in sweep_json(sweep)


def test_equal_differences_are_not_tested(tmp_path: Path) -> None:
    same = {name: (0.9, 0.92, 0.94) if name == "attention" else (0.8, 0.82, 0.84) for name in fake.RESULTS}
    sweep = sweep_of(tmp_path, results=same)
    assert row_of(sweep, "attention").difference.p is None
    assert "so that no test is possible: attention (+10.00)" in " ".join(findings(sweep))
    assert "NaN" not in sweep_json(sweep)


def test_unfinished_sweeps_are_computed_from_what_is_there(tmp_path: Path) -> None:
    found = fake.RESULTS | {"identity": (0.93, None, 0.936), "attention": (None, None, None)}
    sweep = sweep_of(tmp_path / "some", results=found)
    assert row_of(sweep, "identity").difference.pairs == 2
    assert row_of(sweep, "identity").notes == ["2 of 3 runs"]
    assert row_of(sweep, "attention").notes == ["no result yet"]
    assert sweep.ranks is not None
    assert sweep.ranks.number == 5
    assert "**Not finished: 14 of 18 runs.**" in sweep_markdown(sweep)
    none = sweep_of(tmp_path / "none", results=dict.fromkeys(fake.RESULTS, (None,) * 3))
    assert "has no result yet" in findings(none)[0]
    assert json.loads(sweep_json(none))["results"]["runs"] == {"finished": 0, "planned": 18}


# --- other metrics ------------------------------------------------------------------------------------------------

LOSSES = {
    "PoolFormer": (0.40, 0.41, 0.405),
    "identity": (0.90, 0.92, 0.915),
    "attention": (0.20, 0.212, 0.208),
    "BatchNorm": (0.41, 0.4, 0.415),
    "no residual": ("the loss is inf", 2.3, "the loss is inf"),
    "no channel MLP": ("the loss is inf",) * 3,
}


@pytest.fixture
def by_loss(tmp_path: Path) -> SweepResults:
    """A sweep whose metric is better when it is lower, and has no value of guessing."""
    return sweep_of(tmp_path / "loss", results=LOSSES, metric=fake.LOSS, chance=None)


def test_a_lower_loss_is_better(by_loss: SweepResults) -> None:
    identity, attention = row_of(by_loss, "identity"), row_of(by_loss, "attention")
    assert (identity.difference.mean > 0, identity.is_better, identity.is_significant) == (True, False, True)
    assert (attention.difference.mean < 0, attention.is_better, attention.is_significant) == (True, True, True)
    sentences = findings(by_loss)
    assert sentences[0] == "Loss of the base, PoolFormer, is 0.405 ± 0.005 over 3 seeds."
    assert "Worse: identity (+0.507). Better: attention (−0.198)." in sentences[1]


def test_without_a_chance_value_diverged_runs_are_counted_and_have_no_part_in_means(by_loss: SweepResults) -> None:
    some, none = row_of(by_loss, "no residual"), row_of(by_loss, "no channel MLP")
    assert (some.summary.mean, some.summary.number, some.notes) == (2.3, 1, ["2 of 3 diverged"])
    assert (none.summary.mean, none.difference, none.notes) == (None, None, ["3 of 3 diverged"])
    assert by_loss.done == (18, 18)
    sentences = " ".join(findings(by_loss))
    assert "no residual (2 of 3) and no channel MLP (3 of 3); such a run has no part in means" in sentences
    assert "counts as chance" not in sweep_markdown(by_loss)


def test_columns_are_named_after_the_metric(by_loss: SweepResults, tmp_path: Path) -> None:
    names = csv.DictReader(io.StringIO(sweep_csv(by_loss))).fieldnames
    assert names is not None
    assert {"loss", "loss_deviation", "published"} <= set(names)
    shares = csv.DictReader(io.StringIO(sweep_csv(sweep_of(tmp_path / "shares")))).fieldnames
    assert shares is not None
    assert {"top1_percent", "top1_deviation", "published_percent"} <= set(shares)
    assert json.loads(sweep_json(by_loss))["results"]["metric"]["better"] == "lower"
    assert "| loss ± sd |" in sweep_markdown(by_loss)
