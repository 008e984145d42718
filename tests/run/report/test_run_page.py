"""The page of a run is one safe file whose every number comes from the run's files, whatever of them is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fabricated as fake
import pytest
from pages import assert_self_contained, read, undrawn  # noqa: F401 a fixture
from PIL import Image

from metaformer.errors import RunError
from metaformer.run.report.page import write_run_page

WRITTEN = Path(__file__).resolve().parents[2] / "version_0_1_0"


def test_a_whole_run_gives_a_page_and_three_images(tmp_path: Path) -> None:
    page = write_run_page(fake.run_folder(tmp_path))
    assert page == tmp_path / "report.html"
    assert_self_contained(page)
    for name in ("curves.png", "confusion.png", "predictions.png"):
        with Image.open(tmp_path / name) as image:
            image.verify()
            assert min(image.size) > 200


@pytest.mark.usefixtures("undrawn")
def test_every_number_comes_from_the_files(tmp_path: Path) -> None:
    text = read(write_run_page(fake.run_folder(tmp_path))).text
    for words in (
        "Best validation top-1 87.50 % after epoch 3 of 4; 11.41 M parameters and 412 M multiply-adds per image.",
        "poolformer_s12 on digits", "2 min 00 s", "512", "0.4321", "95.00 %", "1,437", "360", "An Old Abacus",
        "metaformer train --optimizer.epochs 4", "cat/broken.jpg", "image file is truncated", "pooling(kernel=5)",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.usefixtures("undrawn")
def test_another_run_has_other_numbers(tmp_path: Path) -> None:
    fake.run_folder(tmp_path)
    fake.write_metrics(tmp_path, top1=(0.1, 0.2), ema_top1=0.4375)
    fake.write_config(tmp_path, parameters=5, macs=7_000)
    text = read(write_run_page(tmp_path)).text
    assert "Best validation top-1 43.75 % after epoch 1 of 4 (2 done), with averaged weights (EMA)" in text
    assert "5 parameters and 7.00 k multiply-adds" in text
    assert "87.50 %" not in text


@pytest.mark.usefixtures("undrawn")
def test_settings_that_differ_from_the_defaults_stand_out(tmp_path: Path) -> None:
    html = write_run_page(fake.run_folder(tmp_path)).read_text()
    bold = re.findall(r'class="n changed">([^<]*)<', html)
    assert bold == ["4", "0.0023"]


@pytest.mark.parametrize("missing", ["config.json", "metrics.csv", "evaluation.json"])
def test_a_missing_file_is_named_and_the_rest_is_shown(tmp_path: Path, missing: str) -> None:
    fake.run_folder(tmp_path)
    (tmp_path / missing).unlink()
    page = write_run_page(tmp_path)
    assert missing in read(page).text
    assert_self_contained(page)
    assert (tmp_path / "curves.png").exists() == (missing != "metrics.csv")
    assert (tmp_path / "confusion.png").exists() == (missing != "evaluation.json")


def test_an_empty_folder_still_gives_a_page(tmp_path: Path) -> None:
    text = read(write_run_page(tmp_path)).text
    assert "No top-1 was measured yet" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("fixed", fake.UNMEASURED.values(), ids=fake.UNMEASURED)
def test_metrics_that_were_not_measured_are_left_out(tmp_path: Path, fixed: dict[str, str]) -> None:
    fake.run_folder(tmp_path)
    fake.write_metrics(tmp_path, **fixed)
    assert_self_contained(write_run_page(tmp_path))


def test_a_single_epoch_and_a_lost_one_are_drawn(tmp_path: Path) -> None:
    fake.run_folder(tmp_path)
    fake.write_metrics(tmp_path, top1=(0.5,))
    assert "epoch 1 of 4 (1 done)" in read(write_run_page(tmp_path)).text
    fake.write_metrics(tmp_path, top1=(0.5, "nan", 0.25))
    assert "50.00 % after epoch 1" in read(write_run_page(tmp_path)).text


def test_names_are_text_never_markup(tmp_path: Path) -> None:
    nasty = ("<script>alert(1)</script>", "a\"b' & $x_1$ {{ 7*7 }}")
    fake.run_folder(tmp_path, nasty)
    fake.write_config(tmp_path, nasty, name="<img src=x>", command='echo "</pre><script>"')
    page = write_run_page(tmp_path)
    assert_self_contained(page)
    text = read(page).text
    assert "<script>alert(1)</script>" in text
    assert "$x_1$ {{ 7*7 }}" in text


@pytest.mark.parametrize(
    "names",
    [
        ("an extraordinarily long name of a class that does not end " * 4, "dog"),
        tuple(f"a shared beginning of names {i} and a shared end of names" for i in range(12)),
        ("猫", "собака"),
        ("twin", "twin"),
        ("", " "),
    ],
    ids=["long", "alike", "other scripts", "the same", "empty"],
)
def test_odd_class_names_work(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert_self_contained(write_run_page(fake.run_folder(tmp_path, names)))


@pytest.mark.usefixtures("undrawn")
def test_samples_put_the_surest_mistake_first(tmp_path: Path) -> None:
    html = write_run_page(fake.run_folder(tmp_path)).read_text()
    shown = re.findall(r'<article class="sample (\w+)" title="([^"]*)"', html)
    assert shown[:2] == [("wrong", "digits/3"), ("wrong", "digits/0")]
    assert {kind for kind, _ in shown[2:]} == {"right"}


def test_a_sample_that_is_no_image_is_replaced_by_words(tmp_path: Path) -> None:
    fake.run_folder(tmp_path)
    samples = [{"name": "x", "label": 7, "top": [], "thumbnail": '"><script>'}]
    fake.write_evaluation(tmp_path, samples=samples)
    page = write_run_page(tmp_path)
    assert "no image" in read(page).text
    assert "class 7" in read(page).text
    assert_self_contained(page)


@pytest.mark.usefixtures("undrawn")
def test_without_a_matrix_the_number_of_images_and_the_weights_are_still_there(tmp_path: Path) -> None:
    fake.run_folder(tmp_path)
    fake.write_evaluation(tmp_path, confusion=[], images=50_000, weights="best.safetensors")
    text = read(write_run_page(tmp_path)).text
    assert "Images50,000 Weightsbest.safetensors" in text  # cells of a table, a line a row
    assert "Confusion matrix" not in text


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: no such run folder"):
        write_run_page(tmp_path / "nowhere")
    fake.run_folder(tmp_path)
    fake.write_evaluation(tmp_path, confusion=[[1, 2, 3]])
    with pytest.raises(RunError, match=r"evaluation\.json.*2 × 2 integers, got 1 × 3"):
        write_run_page(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"metrics": ')
    with pytest.raises(RunError, match=r"evaluation\.json: not valid JSON"):
        write_run_page(tmp_path)


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    first = write_run_page(fake.run_folder(tmp_path)).read_text()
    assert write_run_page(tmp_path).read_text() == first


def test_the_runs_of_0_1_0_get_their_pages_without_torch(tmp_path: Path) -> None:
    """PyTorch takes seconds to import, and whoever reads reports may not have it."""
    for name in ("digits", "mask_rcnn", "semantic_fpn"):
        shutil.copytree(WRITTEN / "runs" / name, tmp_path / "runs" / name)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from metaformer.run.report.page import write_run_page\n"
        "for folder in Path(sys.argv[1]).iterdir():\n"
        "    write_run_page(folder)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "runs")], check=True, timeout=120)
    pins = json.loads((WRITTEN / "pins.json").read_text())
    for page in (tmp_path / "runs").glob("*/report.html"):
        pin = pins[page.parent.name]
        assert_self_contained(page)
        assert f"{100 * pin['best']:.2f} % after epoch {pin['best_epoch']} of 2" in read(page).text


@pytest.mark.usefixtures("undrawn")
def test_a_primary_metric_whose_lower_value_is_better_is_written_in_its_unit(tmp_path: Path) -> None:
    fake.run_folder(tmp_path)
    fake.write_config(tmp_path, primary="loss")
    text = read(write_run_page(tmp_path)).text
    assert "Best validation loss 0.5 after epoch 4 of 4; 11.41 M parameters" in text
    assert "Best loss0.5 Best epoch4" in text  # tiles, a name above its value
    assert "The dotted line marks the epoch with the best validation loss." in text
    assert "Best epoch (4)" in text
