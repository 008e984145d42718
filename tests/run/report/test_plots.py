"""Learning curves of any history are drawn, each metric in its unit and in its direction."""

from __future__ import annotations

from pathlib import Path

import fabricated as fake
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metaformer.metrics import LOSS, MetricDef
from metaformer.render.style import save_png
from metaformer.run.report.files import read_metrics
from metaformer.run.report.plots import learning_curves
from metaformer.tasks.classification.metrics import METRICS, TOP1


def drawn(folder: Path, primary: MetricDef = TOP1) -> Figure:
    return learning_curves(read_metrics(folder / "metrics.csv"), METRICS, primary)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("primary", [TOP1, LOSS], ids=["higher", "lower"])
@pytest.mark.parametrize("top1", [(), (0.5,), ("nan",), (0.1, "nan", 0.3), (1.0, 1.0), (0.0, 0.0)])
def test_learning_curves_of_any_history(tmp_path: Path, top1: tuple[object, ...], primary: MetricDef) -> None:
    fake.write_metrics(tmp_path, top1=top1)
    with Image.open(save_png(drawn(tmp_path, primary), tmp_path / "curves.png")) as image:
        image.verify()


@pytest.mark.parametrize("fixed", fake.UNMEASURED.values(), ids=fake.UNMEASURED)
def test_what_was_not_measured_is_not_drawn(tmp_path: Path, fixed: dict[str, str]) -> None:
    fake.write_metrics(tmp_path, **fixed)
    save_png(drawn(tmp_path), tmp_path / "curves.png")


def test_shares_are_drawn_in_percent_with_the_best_epoch(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path)
    figure = drawn(tmp_path)
    panel = figure.axes[1]
    assert panel.get_title(loc="left") == "Top-1 (%)"
    assert any(np.allclose(line.get_ydata(), 100 * np.array(fake.TOP1)) for line in panel.lines)
    assert texts(figure) == ["87.50 %\nepoch 3"]


def test_a_metric_whose_lower_value_is_better_marks_its_lowest(tmp_path: Path) -> None:
    """Its own unit, and the text above the point: there is room, for the others are higher."""
    fake.write_metrics(tmp_path, ema_loss=0.7)
    figure = drawn(tmp_path, LOSS)
    panel = figure.axes[1]
    assert panel.get_title(loc="left") == "Loss"
    assert any(np.allclose(line.get_ydata(), [2.0, 1.0, 2 / 3, 0.5]) for line in panel.lines)
    assert texts(figure) == ["0.5\nepoch 4"]
    (label,) = panel.texts
    assert label.get_va() == "bottom"
