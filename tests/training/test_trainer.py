"""Laws of the loop: how a batch is divided does not matter, a resumed run is the unbroken one, NaN stops it."""

import json
import platform
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CLASSES, Losses, TinyLoader, TinyNet, same_bits, tiny_trainer, weights_of
from torch import Tensor

from metaformer.errors import DivergedError, RunError
from metaformer.metrics import MetricDef
from metaformer.model.block import Block
from metaformer.model.build import build
from metaformer.model.lean.blocks import LeanBlock
from metaformer.recipe import Machine, Recipe
from metaformer.run.report.files import read_metrics
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, ModelSpec, NormSpec, StageSpec
from metaformer.tasks.classification.objective import ClassificationObjective
from metaformer.training.checkpoint import read_tree
from metaformer.training.journal import MetricsFile
from metaformer.training.observer import Observer, StepRecord
from metaformer.training.trainer import BEST, LAST, TIMING, Trainer
from metaformer.types import Batch
from metaformer.weights.safetensors_io import read_tensors


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("accumulation", [2, 3, 12])
@pytest.mark.parametrize("images", [36, 40])
def test_accumulation_leaves_the_updates_as_they_were(tmp_path: Path, accumulation: int, images: int) -> None:
    """With 40 images the epoch's last window is short and its last micro-batch smaller than the others."""
    whole, parts = Losses(), Losses()
    one = tiny_trainer(tmp_path / "a", images=images, name="sgd", observers=[whole])
    two = tiny_trainer(tmp_path / "b", images=images, name="sgd", accumulation=accumulation, observers=[parts])
    one.fit()
    two.fit()
    assert one.total_updates == two.total_updates == len(parts.steps)
    assert [s.loss for s in whole.steps] == pytest.approx([s.loss for s in parts.steps], rel=1e-6)
    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], tensor, rtol=1e-6, atol=1e-6)


def test_it_learns_and_observers_see_it(tmp_path: Path) -> None:
    seen = Losses()
    result = tiny_trainer(tmp_path, epochs=8, lr=3e-2, ema_decay=0.9, observers=[seen]).fit()
    assert result.best > 0.9
    assert result.metrics["ema_top1"] > 0.9
    assert seen.steps[-1].loss < 0.7 * seen.steps[0].loss
    assert seen.epochs[result.best_epoch - 1].metrics["top1"] <= result.best
    assert [epoch.epoch for epoch in seen.epochs] == list(range(1, 9))
    assert seen.calls[0] == "started"
    assert seen.calls[-1] == "finished"
    assert {LAST, BEST, "checkpoint.safetensors"} <= set(seen.calls)
    last = seen.steps[-1]
    assert (last.epoch, last.update, last.updates_per_epoch, last.total_updates) == (8, 24, 3, 24)


class Killed(BaseException):
    """Stands for a kill: no handler of errors catches it."""


class KillAt(Losses):
    def __init__(self, update: int) -> None:
        super().__init__()
        self.update = update

    def stepped(self, step: Any) -> None:
        if step.update == self.update:
            raise Killed


@pytest.mark.parametrize(
    ("optimizer", "update"), [("adamw", 1), ("adamw", 4), ("adamw", 7), ("lamb", 6), ("lookahead_adamw", 5)]
)
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path: Path, optimizer: str, update: int) -> None:
    """Dropout, drop path, batch statistics, averaging, clipping, warm-up and accumulation, stopped anywhere."""
    settings: dict[str, Any] = {
        "name": optimizer,
        "accumulation": 2,
        "ema_decay": 0.8,
        "clip_grad": 1.0,
        "warmup_epochs": 1,
        "images": 40,
    }
    machine = Machine(device="cpu", save_minutes=60, save_steps=2)

    def trainer(folder: Path, **more: Any) -> Trainer:
        return tiny_trainer(folder, model=TinyNet(drop=0.3, norm=True), machine=machine, **settings, **more)

    torch.manual_seed(0)
    unbroken = trainer(tmp_path / "a")
    first = unbroken.model.state_dict()
    first = {name: tensor.clone() for name, tensor in first.items()}
    unbroken.fit()
    killed = trainer(tmp_path / "b", observers=[KillAt(update)])
    killed.model.load_state_dict(first)
    with pytest.raises(Killed):
        killed.fit()
    torch.manual_seed(1234)  # whatever generators hold must not matter
    resumed = trainer(tmp_path / "b")
    resumed.model.load_state_dict(first)
    torch.manual_seed(99)
    result = resumed.fit(resume=True)
    assert resumed.state.update == unbroken.state.update
    assert same_bits(weights_of(resumed), weights_of(unbroken))
    before = {name: value for name, value in unbroken.state.metrics.items() if name not in TIMING}
    assert {name: value for name, value in result.metrics.items() if name not in TIMING} == before


class Denormals(Losses):
    """Whether a number below 1e-38 is more than 0 when an update ends."""

    def stepped(self, step: Any) -> None:
        self.steps.append(denormals_count())


def denormals_count() -> bool:
    return bool(torch.full((1,), 1e-38).mul(0.01) > 0)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="PyTorch promises the switch on x86 alone")
@pytest.mark.parametrize(("threads", "count"), [(1, False), (2, True)])
def test_denormals_count_as_nothing_while_one_thread_trains(tmp_path: Path, threads: int, count: bool) -> None:
    """On several threads they count, because those that are alive already would not learn of it."""
    seen = Denormals()
    tiny_trainer(tmp_path, observers=[seen], machine=Machine(device="cpu", threads=threads)).fit()
    assert set(seen.steps) == {count}
    assert denormals_count()


def test_resuming_a_complete_run_changes_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, ema_decay=0.9)
    result = trainer.fit()
    again = tiny_trainer(tmp_path, ema_decay=0.9, observers=[seen := Losses()])
    assert again.fit(resume=True) == result
    assert seen.steps == []
    assert same_bits(weights_of(trainer), weights_of(again))


def test_a_fresh_run_forgets_the_state_in_its_folder(tmp_path: Path) -> None:
    tiny_trainer(tmp_path).fit()
    seen = Losses()
    tiny_trainer(tmp_path, observers=[seen]).fit()
    assert len(seen.steps) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accumulation": 3}, "accumulation 1, got 3"),
        ({"images": 60}, "batches_per_epoch 3, got 5"),
        ({"ema_decay": 0.9}, "another model, optimizer or moving average"),
        ({"model": TinyNet(norm=True)}, "another model"),
    ],
)
def test_the_state_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tiny_trainer(tmp_path).fit()
    with pytest.raises(RunError, match=message):
        tiny_trainer(tmp_path, **change).fit(resume=True)


def test_weights_files_have_the_better_weights_and_the_metadata(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, epochs=3, ema_decay=0.5)
    trainer.metadata = {"format": "pt", "metaformer": json.dumps({"name": "tiny"})}
    result = trainer.fit()
    last, header = read_tensors(tmp_path / LAST)
    assert same_bits(last, {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
    assert json.loads(header["metaformer"]) == {"name": "tiny"}
    assert (header["format"], header["epoch"], header["averaged"]) == ("pt", "3", "false")
    best, header = read_tensors(tmp_path / BEST)
    model = TinyNet()
    model.load_state_dict(best)
    metric = ClassificationObjective(CLASSES).metric()
    for batch in trainer.val_loader.batches(0):
        metric.update(model.eval()(batch.inputs), batch)
    assert metric.compute([metric.part])["top1"] == pytest.approx(result.best)
    assert int(header["epoch"]) == result.best_epoch


# ---- the best epoch --------------------------------------------------------------------------------------------------

HIGHER = MetricDef(name="quality", label="quality", shown=True)
LOWER = MetricDef(name="error", label="error", unit="nats", better="lower", shown=True)
SERIES = [
    # trained and averaged weights of each epoch; then, if higher and if lower is better: value, epoch, averaged
    ([(0.5, 0.4), (0.7, 0.6), (0.2, 0.9)], (0.9, 3, True), (0.2, 3, False)),
    ([(0.5, 0.5), (0.5, 0.5)], (0.5, 1, False), (0.5, 1, False)),
    ([(nan, 0.3), (0.2, nan), (nan, nan)], (0.3, 1, True), (0.2, 2, False)),
    ([(0.3, nan), (0.3, 0.3), (-0.1, 0.3)], (0.3, 1, False), (-0.1, 3, False)),
    ([(nan, nan), (nan, nan)], (None, 0, None), (None, 0, None)),
]


class Scripted(ClassificationObjective):
    """Its primary metric takes the values of a series; a part of it may be missing, as NaN is here."""

    def __init__(self, primary: MetricDef, values: list[float], leaves_out_nan: bool) -> None:
        super().__init__(CLASSES)
        self.primary, self.metrics = primary, (*ClassificationObjective.metrics, primary)
        self.values, self.leaves_out_nan = iter(values), leaves_out_nan

    def metric(self) -> Any:
        metric, value = super().metric(), next(self.values)
        compute = metric.compute
        extra = {} if isnan(value) and self.leaves_out_nan else {self.primary.name: value}
        metric.compute = lambda parts: compute(parts) | extra  # type: ignore[method-assign]
        return metric


@pytest.mark.parametrize("leaves_out_nan", [True, False])
@pytest.mark.parametrize("primary", [HIGHER, LOWER], ids=["higher", "lower"])
@pytest.mark.parametrize(("values", "higher", "lower"), SERIES)
def test_the_best_epoch_is_that_of_the_primary_metric_in_its_direction(
    tmp_path: Path, values: Any, higher: Any, lower: Any, primary: MetricDef, leaves_out_nan: bool
) -> None:
    best, epoch, averaged = higher if primary is HIGHER else lower
    objective = Scripted(primary, [value for pair in values for value in pair], leaves_out_nan)
    trainer = tiny_trainer(tmp_path, epochs=len(values), ema_decay=0.5, objective=objective, observers=[MetricsFile()])
    result = trainer.fit()
    assert (result.best, result.best_epoch) == (best, epoch)
    assert (tmp_path / LAST).is_file()
    assert (tmp_path / BEST).is_file() == (best is not None)
    reported = read_metrics(tmp_path / "metrics.csv").best(primary)
    if best is None:
        assert reported is None
        return
    header = read_tensors(tmp_path / BEST)[1]
    assert (int(header["epoch"]), json.loads(header["averaged"])) == (epoch, averaged)
    assert reported is not None
    assert (reported.value, reported.epoch, reported.averaged) == (pytest.approx(best), epoch, averaged)


class BreaksAt(TinyNet):
    """Its outputs are NaN from a certain call on."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.left = call

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.left -= 1
        return super().forward(images) * (float("nan") if self.left < 0 else 1.0)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    machine = Machine(device="cpu", save_steps=1)
    with pytest.raises(
        DivergedError, match=r"loss is nan in epoch 2, update 5 of 6, learning rate .*\n?.*checkpoint is .*lower lr"
    ):
        tiny_trainer(tmp_path, model=BreaksAt(4), machine=machine).fit()
    state = read_tree(tmp_path / "checkpoint.safetensors")
    assert state["state"]["update"] == 4
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A gradient may overflow while the loss is still a number."""
    machine = Machine(device="cpu", save_steps=1)
    trainer = tiny_trainer(tmp_path, machine=machine)
    spoiled = Losses()

    def spoil(step: Any) -> None:
        if step.update == 2:
            with torch.no_grad():
                trainer.model.head.bias[0] = float("inf")

    spoiled.stepped = spoil  # type: ignore[method-assign]
    trainer.observers = (spoiled,)
    with pytest.raises(DivergedError, match="a weight is not finite"):
        trainer.fit()
    assert read_tree(tmp_path / "checkpoint.safetensors")["state"]["update"] == 1


def test_mixing_is_for_training_only_and_leaves_top1_out(tmp_path: Path) -> None:
    seen: list[int] = []

    def mixing(batch: Batch) -> Batch:
        seen.append(len(batch))
        return Batch(batch.inputs.flip(0), torch.nn.functional.one_hot(batch.targets.flip(0), CLASSES).float())

    trainer = tiny_trainer(tmp_path, epochs=1)
    trainer.mixing = mixing
    result = trainer.fit()
    assert seen == [12, 12, 12]
    assert "train_top1" not in result.metrics
    assert "top1" in result.metrics


def test_the_schedule_and_the_layer_scale_reach_the_optimizer(tmp_path: Path) -> None:
    seen = Losses()
    trainer = tiny_trainer(tmp_path, epochs=2, warmup_epochs=1, warmup_lr=1e-4, layer_decay=0.5, observers=[seen])
    trainer.fit()
    rates = [step.lr for step in seen.steps]
    assert rates[0] == 1e-4
    assert max(rates) == rates[3] == pytest.approx(1e-2)
    groups = trainer.engine.optimizer.param_groups
    assert {group["lr"] for group in groups} == {rates[-1] * group["lr_scale"] for group in groups}


def test_precisions_follow_each_other_in_one_process(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16", "fp32"):
        seen = Losses()
        machine = Machine(device="cpu", precision=precision)  # type: ignore[arg-type]
        trainer = tiny_trainer(tmp_path / precision, machine=machine, ema_decay=0.9, observers=[seen])
        trainer.fit()
        assert trainer.model(torch.zeros(1, 1, 8, 8)).dtype == torch.float32
        assert all(tensor.dtype == torch.float32 for tensor in trainer.model.parameters())
        if precision in losses:
            assert losses[precision] == seen.steps[-1].loss
        losses[precision] = seen.steps[-1].loss
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_the_model_comes_back_plain_and_can_be_trained_again(tmp_path: Path) -> None:
    model = TinyNet()
    before = set(vars(model))
    machine = Machine(device="cpu", precision="bf16")
    for _ in range(2):
        trainer = tiny_trainer(tmp_path, model=model, machine=machine, ema_decay=0.9)
        trainer.fit()
        assert set(vars(model)) == before
        assert trainer.average is not None
        assert set(vars(trainer.average.module)) == before


def test_lean_blocks_learn_the_same_and_come_out_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pool = StageSpec(
        depth=2,
        width=8,
        embedding=EmbeddingSpec(kernel=2, stride=2, padding=0),
        mixer=MixerSpec(name="pooling"),
        norm=NormSpec(kind="group"),
    )
    spec = ModelSpec(stages=(pool,), num_classes=CLASSES, in_chans=1, img_size=(8, 8))
    weights = []
    for lean in (False, True):
        torch.manual_seed(1)
        model = build(spec)
        inside: list[type] = []
        hook = model.backbone.register_forward_pre_hook(
            lambda backbone, _, inside=inside: inside.append(type(backbone.stages[0].blocks[0]))
        )
        machine = Machine(device="cpu", lean_blocks=lean)
        trainer = tiny_trainer(tmp_path / str(lean), model=model, machine=machine, name="sgd", ema_decay=0.9)
        trainer.fit()
        hook.remove()
        assert {issubclass(kind, LeanBlock) for kind in inside} == {lean}
        assert trainer.average is not None
        for module in (model, trainer.average.module):
            assert {type(part) for part in module.modules() if isinstance(part, Block)} == {Block}
        weights.append(weights_of(trainer))
    for name, plain in weights[0].items():
        assert torch.allclose(weights[1][name], plain, atol=1e-4), name
    tiny_trainer(tmp_path / "none", machine=Machine(device="cpu", lean_blocks=True)).fit()
    assert "no block of this model has pooling and group norm" in caplog.text


def test_what_the_machine_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected 'fp32' or 'bf16' on the CPU"):
        tiny_trainer(tmp_path, machine=Machine(device="cpu", precision="fp16")).fit()
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match=r"device: expected a device of this machine .*got 'cuda'"):
            tiny_trainer(tmp_path, machine=Machine(device="cuda")).fit()


def test_a_set_smaller_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least one batch"):
        Trainer(TinyNet(), ClassificationObjective(CLASSES), Recipe(), TinyLoader(0, 4), TinyLoader(4, 4), tmp_path)


def test_states_are_saved_by_the_clock(tmp_path: Path) -> None:
    seen = Losses()
    tiny_trainer(tmp_path, epochs=1, machine=Machine(device="cpu", save_minutes=0), observers=[seen]).fit()
    assert seen.calls.count("checkpoint.safetensors") == 4  # after each of 3 updates and after the epoch


def test_a_run_counted_in_updates_ends_in_the_middle_of_an_epoch_and_resumes_there(tmp_path: Path) -> None:
    class Counted(Observer):
        def __init__(self) -> None:
            self.steps: list[tuple[int, int]] = []

        def stepped(self, step: StepRecord) -> None:
            self.steps.append((step.epoch, step.update))

    seen = Counted()
    trainer = tiny_trainer(tmp_path / "whole", updates=5, observers=[seen])  # three an epoch
    result = trainer.fit()
    assert seen.steps == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert trainer.total_epochs == trainer.state.epoch == 2
    assert result.metrics["update"] == 5
    again = tiny_trainer(tmp_path / "whole", updates=5)
    again.fit(resume=True)  # no update is left
    assert again.state.update == 5
    assert same_bits(weights_of(trainer), weights_of(again))
