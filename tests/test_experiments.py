"""The shipped recipes: their values against the published ones, and two updates of each on tiny images."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_run import narrow
from drawn_sets import ade20k_folder, coco_folder
from PIL import Image
from rich.console import Console

from metaformer.errors import InputError
from metaformer.factory.dense import create_detector, create_segmenter
from metaformer.model.complexity import count_parameters
from metaformer.recipe import Augmentation, Dense, Recipe
from metaformer.run.recipes import shipped_recipes
from metaformer.run.train import train
from metaformer.spec.model import ModelSpec
from metaformer.zoo.catalogue import CATALOGUE, find

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
ABLATIONS = EXPERIMENTS / "ablations"  # plans, no recipes: tests/ablation/test_plan_files.py
FILES = {
    path.relative_to(EXPERIMENTS).with_suffix("").as_posix(): path
    for path in sorted(EXPERIMENTS.rglob("*.py"))
    if path.parent != ABLATIONS
}

# model: epochs with cool-down, batch, optimizer, peak rate, warm-up, drop path, head dropout
# "MetaFormer Is Actually What You Need for Vision", appendix; "MetaFormer Baselines for Vision" and its scripts
PUBLISHED: dict[str, dict[str, tuple[int, int, str, float, int, float, float]]] = {
    "imagenet/poolformer": {
        "poolformer_s12": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "poolformer_s24": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "poolformer_s36": (310, 4096, "adamw", 4e-3, 5, 0.2, 0),
        "poolformer_m36": (310, 4096, "adamw", 4e-3, 5, 0.3, 0),
        "poolformer_m48": (310, 4096, "adamw", 4e-3, 5, 0.4, 0),
    },
    "imagenet/hybrids": {
        "metaformer_id_s12": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "metaformer_pppa_s12_224": (310, 1024, "adamw", 1e-3, 5, 0.1, 0),
        "metaformer_ppaa_s12_224": (310, 1024, "adamw", 1e-3, 5, 0.1, 0),
        "metaformer_pppf_s12_224": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "metaformer_ppff_s12_224": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
    },
    "imagenet/identityformer": {
        "identityformer_s12": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "identityformer_s24": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "identityformer_s36": (310, 4096, "adamw", 4e-3, 5, 0.2, 0),
        "identityformer_m36": (310, 4096, "adamw", 4e-3, 5, 0.3, 0),
        "identityformer_m48": (310, 4096, "adamw", 4e-3, 5, 0.4, 0),
    },
    "imagenet/randformer": {
        "randformer_s12": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "randformer_s24": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "randformer_s36": (310, 4096, "adamw", 4e-3, 5, 0.2, 0),
        "randformer_m36": (310, 4096, "adamw", 4e-3, 5, 0.3, 0),
        "randformer_m48": (310, 4096, "adamw", 4e-3, 5, 0.3, 0),
    },
    "imagenet/poolformerv2": {
        "poolformerv2_s12": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "poolformerv2_s24": (310, 4096, "adamw", 4e-3, 5, 0.1, 0),
        "poolformerv2_s36": (310, 4096, "adamw", 4e-3, 5, 0.2, 0),
        "poolformerv2_m36": (310, 4096, "adamw", 4e-3, 5, 0.3, 0),
        "poolformerv2_m48": (310, 4096, "adamw", 4e-3, 5, 0.4, 0),
    },
    "imagenet/convformer": {
        "convformer_s18": (310, 4096, "adamw", 4e-3, 20, 0.2, 0),
        "convformer_s36": (310, 4096, "adamw", 4e-3, 20, 0.3, 0),
        "convformer_m36": (310, 4096, "adamw", 4e-3, 20, 0.4, 0),
        "convformer_b36": (310, 4096, "adamw", 4e-3, 20, 0.6, 0),
    },
    "imagenet/caformer": {
        "caformer_s18": (310, 4096, "lamb", 8e-3, 20, 0.15, 0),
        "caformer_s36": (310, 4096, "lamb", 8e-3, 20, 0.3, 0.4),
        "caformer_m36": (310, 4096, "lamb", 8e-3, 20, 0.4, 0.4),
        "caformer_b36": (310, 4096, "lamb", 8e-3, 20, 0.6, 0.5),
    },
    "imagenet/convformer_384": {
        "convformer_s18_384": (30, 1024, "adamw", 5e-5, 0, 0.3, 0.4),
        "convformer_s36_384": (30, 1024, "adamw", 5e-5, 0, 0.5, 0.4),
        "convformer_m36_384": (30, 1024, "adamw", 5e-5, 0, 0.8, 0.5),
        "convformer_b36_384": (30, 1024, "adamw", 5e-5, 0, 0.8, 0.5),
    },
    "imagenet/caformer_384": {
        "caformer_s18_384": (30, 1024, "lamb", 1e-4, 0, 0.3, 0.4),
        "caformer_s36_384": (30, 1024, "lamb", 1e-4, 0, 0.5, 0.4),
        "caformer_m36_384": (30, 1024, "lamb", 1e-4, 0, 0.7, 0.4),
        "caformer_b36_384": (30, 1024, "lamb", 1e-4, 0, 0.8, 0.5),
    },
}
# model: average precision of boxes and of masks, or mean IoU, in percent ("MetaFormer", tables 3 and 4), and parameters
PUBLISHED_DENSE: dict[str, dict[str, tuple[tuple[float, ...], int]]] = {
    "coco/retinanet": {
        "poolformer_s12": ((36.2,), 21_653_044),
        "poolformer_s24": ((38.9,), 31_126_836),
        "poolformer_s36": ((39.5,), 40_600_628),
    },
    "coco/mask_rcnn": {
        "poolformer_s12": ((37.3, 34.6), 31_570_608),
        "poolformer_s24": ((40.1, 37.0), 41_044_400),
        "poolformer_s36": ((41.0, 37.7), 50_518_192),
    },
    "ade20k/fpn": {
        "poolformer_s12": ((37.2,), 15_669_846),
        "poolformer_s24": ((40.3,), 25_143_638),
        "poolformer_s36": ((42.0,), 34_617_430),
        "poolformer_m36": ((42.4,), 59_778_006),
        "poolformer_m48": ((42.7,), 77_078_934),
    },
}
MODELS = [(file, model) for file, models in PUBLISHED.items() for model in models]


def maker(file: str) -> Callable[..., Recipe]:
    """The ``recipe`` function of an experiment, which is a file and not a module."""
    spec = importlib.util.spec_from_file_location("experiment", FILES[file])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.recipe


def test_every_experiment_is_checked_here() -> None:
    own = {"detection", "finetune", "segmentation", "short", "small"}
    assert set(FILES) == {*PUBLISHED, *PUBLISHED_DENSE, *own}
    assert shipped_recipes() == FILES


def test_every_model_that_the_two_papers_trained_on_imagenet_1k_has_its_recipe() -> None:
    theirs = {name for name, row in CATALOGUE.items() if row.paper in ("2111.11418", "2210.13452")}
    assert {model for _, model in MODELS} == {n for n in theirs if not n.endswith(("_in21k", "_in21ft1k"))}


@pytest.mark.parametrize(("file", "model"), MODELS)
def test_recipe_is_the_published_one(file: str, model: str) -> None:
    made = maker(file)(model)
    epochs, batch, optimizer, peak, warmup, drop_path, dropout = PUBLISHED[file][model]
    moves = made.optimizer
    assert (moves.total_epochs, moves.batch_size, moves.name) == (epochs, batch, optimizer)
    assert moves.peak_lr == pytest.approx(peak)
    assert (moves.warmup_epochs, moves.weight_decay, moves.label_smoothing) == (warmup, 0.05, 0.1)
    assert (made.model.name, made.model.drop_path_rate, made.model.drop_rate or 0) == (model, drop_path, dropout)
    assert (made.seed, moves.clip_grad, made.model.mixers) == (42, None, None)


@pytest.mark.parametrize("file", PUBLISHED)
def test_augmentation_is_the_published_one(file: str) -> None:
    fine = file.endswith("_384")
    assert maker(file)().augmentation == Augmentation(
        policy="imagenet",
        scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="random",
        erase=0.25,
        mixup=0.0 if fine else 0.8,
        cutmix=0.0 if fine else 1.0,
        mix_probability=1.0,
        mix_switch=0.5,
        crop=None,
    )


@pytest.mark.parametrize("file", PUBLISHED)
def test_schedule_is_the_published_one(file: str) -> None:
    moves = maker(file)().optimizer
    if file.endswith("_384"):
        assert (moves.schedule, moves.epochs, moves.ema_decay) == ("constant", 30, 0.9999)
    else:
        assert (moves.schedule, moves.epochs, moves.ema_decay) == ("cosine", 300, None)
        assert (moves.warmup_lr, moves.min_lr) == (1e-6, 1e-5)


@pytest.mark.parametrize(("file", "peak"), [("coco/retinanet", 1e-4), ("coco/mask_rcnn", 2e-4)])
def test_detection_is_the_published_one(file: str, peak: float) -> None:
    made = maker(file)()
    moves = made.optimizer
    assert (made.task, made.dense.system) == ("detection", file.removeprefix("coco/"))
    assert (moves.epochs, moves.updates, moves.total_epochs, moves.batch_size) == (12, None, 12, 16)
    assert (moves.name, moves.peak_lr, moves.weight_decay, moves.decay_everything) == ("adamw", peak, 1e-4, True)
    assert (moves.schedule, moves.step_epochs) == ("step", (8, 11))
    assert moves.warmup_updates == 500
    assert moves.warmup_lr == pytest.approx(peak / 1000)
    assert made.augmentation == Augmentation(policy="none", hflip=0.5)
    assert made.dense == Dense(system=made.dense.system, short_side=800, long_side=1333)


def test_segmentation_is_the_published_one() -> None:
    made = maker("ade20k/fpn")()
    moves = made.optimizer
    assert (made.task, moves.updates, moves.batch_size, moves.accumulation) == ("segmentation", 40_000, 32, 1)
    assert (moves.name, moves.peak_lr, moves.weight_decay, moves.decay_everything) == ("adamw", 2e-4, 1e-4, True)
    assert (moves.schedule, moves.power, moves.min_lr) == ("poly", 0.9, 0)
    assert (moves.warmup_updates, moves.warmup_epochs) == (None, 0)
    assert made.data.reduce_zero_label
    assert made.augmentation == Augmentation(policy="none", hflip=0.5)
    assert made.dense == Dense(
        system="semantic_fpn",
        short_side=512,
        long_side=2048,
        scale=(0.5, 2.0),
        crop=512,
        class_share=0.75,
        photometric=True,
    )


@pytest.mark.parametrize("file", PUBLISHED_DENSE)
def test_dense_recipes_train_whole_precision_from_imagenet_without_drop_path(file: str) -> None:
    for model in PUBLISHED_DENSE[file]:
        made = maker(file)(model)
        assert (made.model.name, made.model.pretrained, made.model.drop_path_rate) == (model, True, 0)
        assert (made.machine.precision, made.optimizer.clip_grad, made.optimizer.ema_decay) == (
            "fp32",
            None,
            None,
        )


@pytest.mark.parametrize("model", ["convformer_m36_384", "caformer_s18_384"])
def test_fine_tuning_starts_from_the_weights_of_224(model: str) -> None:
    family = model.split("_")[0]
    base = find(model.removesuffix("_384"))
    assert maker(f"imagenet/{family}_384")(model).model.weights in {source.repo for source in base.weights}


@pytest.mark.parametrize("file", PUBLISHED)
def test_another_family_is_refused_with_the_choices(file: str) -> None:
    with pytest.raises(InputError, match=next(reversed(PUBLISHED[file]))):
        maker(file)("resnet50")


@pytest.mark.parametrize("file", FILES)
def test_recipe_survives_json(file: str) -> None:
    made = maker(file)()
    assert Recipe.from_json(made.to_json()) == made


@pytest.mark.parametrize("file", FILES)
def test_docstring_gives_the_command_that_runs_it(file: str) -> None:
    text = FILES[file].read_text(encoding="utf-8")
    command = re.search(r"^    metaformer train --recipe (\S+) --model (\S+) --data \S+$", text, re.MULTILINE)
    assert command, "the docstring shows no command"
    assert command[1] == file
    assert maker(file)(command[2]) == maker(file)(), "the command trains another model than the default"


@pytest.mark.parametrize("file", PUBLISHED)
def test_docstring_gives_accuracy_and_cost_of_every_model(file: str) -> None:
    rows = re.findall(r"^    (\w+) +(\d+\.\d) +(\d+\.\d)$", FILES[file].read_text(encoding="utf-8"), re.MULTILINE)
    assert [row[0] for row in rows] == list(PUBLISHED[file])
    for model, top1, cost in rows:
        assert float(top1) == find(model).top1
        passes = maker(file)(model).optimizer.total_epochs
        assert float(cost) == pytest.approx(6 * find(model).macs * 1_281_167 * passes / 1e9, abs=0.05)


@pytest.mark.parametrize("file", PUBLISHED_DENSE)
def test_docstring_gives_the_published_figures_and_counts(file: str) -> None:
    figures = r"^    (\w+)((?: +\d+\.\d)+) +([\d,]+)$"
    rows = re.findall(figures, FILES[file].read_text(encoding="utf-8"), re.MULTILINE)
    printed = {model: (tuple(map(float, row.split())), int(count.replace(",", ""))) for model, row, count in rows}
    assert printed == PUBLISHED_DENSE[file]
    for model, (_, parameters) in printed.items():
        system = maker(file)(model).dense.system
        with torch.device("meta"):
            built = create_segmenter(system, model) if file == "ade20k/fpn" else create_detector(system, model)
        assert count_parameters(built) == parameters


# --- two updates of each --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training images and four others: bright tops and bright bottoms."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 2)):
        for label, rows in (("bottom", slice(20, 40)), ("top", slice(0, 20))):
            (folder / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 100, (40, 48, 3), dtype=np.uint8)
                pixels[rows] += 120
                Image.fromarray(pixels).save(folder / part / label / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def folders(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small set for each task."""
    root = tmp_path_factory.mktemp("annotated")
    return {
        "classification": images,
        "detection": coco_folder(root / "coco"),
        "segmentation": ade20k_folder(root / "ade20k"),
    }


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def for_two_updates(shipped: Recipe, folder: Path) -> Recipe:
    """A shipped recipe made small: two updates of small images, nothing downloaded."""
    moves = shipped.optimizer
    choice = shipped.model.with_changes(pretrained=False, weights=None)
    made = shipped.with_changes(
        data=shipped.data.with_changes(source=str(folder), workers=0),
        optimizer=moves.with_changes(
            epochs=1,
            updates=moves.updates and 2,
            cooldown_epochs=0,
            warmup_epochs=min(moves.warmup_epochs, 0.5),
            batch_size=8 if shipped.task == "classification" else 4,
        ),
    )
    if shipped.task == "classification":
        return made.with_changes(model=choice.with_changes(img_size=32, stem_stride=4))
    crop = shipped.dense.crop and 64
    return made.with_changes(model=choice, dense=shipped.dense.with_changes(short_side=64, long_side=128, crop=crop))


def shallow(name: str) -> ModelSpec:
    """A model of the zoo with one block in each stage: every part of it is still there."""
    spec = find(name).spec
    return spec.with_changes(stages=tuple(stage.with_changes(depth=1) for stage in spec.stages))


FIGURES = {"classification": "top1", "detection": "box_ap", "segmentation": "miou"}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("file", FILES)
def test_recipe_runs_for_two_updates(file: str, folders: dict[str, Path], tmp_path: Path) -> None:
    shipped = maker(file)()
    recipe = for_two_updates(shipped, folders[shipped.task])
    spec = shallow(recipe.model.name)
    with narrow():
        result = train(recipe, tmp_path / "run", spec=spec, console=Console(file=io.StringIO()))
    assert result is not None
    with (tmp_path / "run" / "metrics.csv").open(newline="") as lines:
        (epoch,) = csv.DictReader(lines)
    assert int(epoch["update"]) == 2
    assert 0 < float(epoch["train_loss"]) < (3 if recipe.task == "classification" else 6)
    figure = FIGURES[recipe.task]
    assert (epoch[f"ema_{figure}"] != "") == (recipe.optimizer.ema_decay is not None)
    assert 0 <= result.metrics[figure] <= 1
