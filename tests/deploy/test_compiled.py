"""Every engine returns what the original does, for every mixer, batch and size; fallbacks are reported."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from dense_models import SMALL, lightened, objects, pyramid_spec
from dense_models import random_images as dense_images
from PIL import Image
from small_models import ATTENTION, FAMILIES, FREE, MAPS, SIDE, TIED, apart, model_of, named, random_images, spec_of
from torch import Tensor, nn

import metaformer
from metaformer.data.transforms.image import evaluation_transform
from metaformer.deploy import compile as compiled
from metaformer.deploy import precision, quantization
from metaformer.deploy.compile import CompiledModel, FellBackWarning
from metaformer.deploy.engines import onnxruntime, openvino
from metaformer.deploy.engines import torch as eager
from metaformer.deploy.engines.core import whole
from metaformer.errors import InputError, MissingExtraError, WeightsError
from metaformer.model.dense import mask_rcnn, neck
from metaformer.spec.model import ModelSpec

FP32 = 1e-4


@pytest.fixture(autouse=True)
def _no_machine_code() -> Iterator[None]:
    """Inductor takes ten seconds per model, and these tests are about the code around it."""
    with patch.object(eager, "compiled", lambda module: module):
        yield


@cache
def compiled_family(family: str, backend: str) -> tuple[Any, CompiledModel]:
    """A model and its compiled twin, which tests must not change."""
    model = model_of(FAMILIES[family])
    return model, metaformer.compile(model, backend=backend, threads=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_every_mixer_through_every_engine(family: str, backend: str) -> None:
    model, fast = compiled_family(family, backend)
    assert (fast.backend, fast.precision, fast.notes) == (backend, "fp32", ())
    sizes = [(1,), (3,)]
    if family in FREE:
        sizes += [(2, 224, 224), (1, 256, 192), (1, 230, 301)]
    for shape in sizes:
        images = random_images(*shape)
        with torch.no_grad():
            assert apart(fast(images), model(images)) < FP32
    if family == "maps":
        accepts_all_images(model, fast)


def accepts_all_images(model: Any, fast: CompiledModel) -> None:
    """Of every type and memory layout, also none at all; and copies work too."""
    images = random_images(2)
    with torch.no_grad():
        expected = model(images)
    for given in (images.double(), images.clone().requires_grad_(), images.to(memory_format=torch.channels_last)):
        assert apart(fast(given), expected) < FP32
    assert apart(fast(images.bfloat16()), expected) < 0.1, "images rounded to 8 bits"
    assert fast(images[:0]).shape == (0, 5)
    assert apart(copy.deepcopy(fast)(images), expected) < FP32


def test_a_compiled_model_has_the_attributes_of_its_model() -> None:
    model, fast = compiled_family("maps", "torch")
    assert isinstance(fast, CompiledModel)
    assert (fast.name, fast.spec, fast.preprocessing) == (model.name, model.spec, model.preprocessing)
    assert fast.num_classes == 5
    assert fast.folded, "the group norm before the channel MLP"


def test_the_original_is_not_changed() -> None:
    model = model_of(MAPS).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    metaformer.compile(model, backend="torch")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batch_norm_uses_running_statistics() -> None:
    model = model_of(spec_of(named("depthwise_conv"), norm="batch"))
    model.train()
    with torch.no_grad():
        model(random_images(8))
    fast = metaformer.compile(model, backend="torch")
    images = random_images(2)
    with torch.no_grad():
        assert apart(fast(images), model.eval()(images)) < FP32


@pytest.mark.parametrize(("able", "int8"), [(("FP32", "INT8"), "f32"), (("FP32", "BF16", "INT8"), "bf16")])
def test_precision_is_always_set(able: tuple[str, ...], int8: str) -> None:
    """By default OpenVINO silently uses bf16 on a CPU that has it. Between the integers of int8 that is intended."""
    properties: list[dict[str, Any]] = []
    core = openvino.library().Core

    class Watched:
        def compile_model(self, model: Any, device: str, chosen: dict[str, Any]) -> Any:
            properties.append(chosen)
            return core().compile_model(model, device, {**chosen, "INFERENCE_PRECISION_HINT": "f32"})

    _, graph = pooling_graph()
    with patch.object(openvino.library(), "Core", Watched), patch.object(openvino, "capabilities", lambda: able):
        openvino.runner(graph, "fp32", 1)
        openvino.runner(graph, "bf16")
        openvino.runner(graph, "int8")
    assert [one["INFERENCE_PRECISION_HINT"] for one in properties] == ["f32", "bf16", int8]
    assert [one.get("INFERENCE_NUM_THREADS") for one in properties] == [1, None, None]


@cache
def pooling_graph() -> tuple[Any, Any]:
    """A model and its OpenVINO graph, which tests must not change."""
    model = model_of(spec_of(named("pooling")))
    return model, compiled.graph_of(compiled.prepared(model, "maps"), "openvino", "fp32", [])


# --- int8 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_int8_is_close(backend: str) -> None:
    model = model_of(spec_of(named("pooling"), named("separable_conv", kernel=3)))
    seen = [random_images(4) for _ in range(4)]
    fast = metaformer.compile(model, precision="int8", backend=backend, calibration=seen, threads=1)
    assert (fast.backend, fast.precision, fast.notes) == (backend, "int8", ())
    with torch.no_grad():
        theirs = model(seen[0])
    mine = fast(seen[0])
    assert 1e-5 < apart(mine, theirs) < 0.2, "rounded to 256 steps"
    assert fast(seen[0][:1]).shape == (1, 5)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "needs calibration images"),
        ([], "at least one image"),
        ([torch.zeros(2, 3, 32, 40)], rf"\(3, {SIDE}, {SIDE}\).*\(3, 32, 40\)"),
        ([torch.zeros(2, 1, SIDE, SIDE)], rf"\(3, {SIDE}, {SIDE}\).*\(1, {SIDE}, {SIDE}\)"),
        (["image.png"], "expected batches"),
        (3, "expected batches.*got int"),
        ({"a": 1}, "expected batches.*got dict"),
        (torch.zeros(3, 32, 40), r"\(3, 32, 40\)"),
        ("/no/such/folder", "not a folder with images"),
    ],
)
def test_unsuitable_calibration_images_are_refused(calibration: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        metaformer.compile(model_of(MAPS), precision="int8", calibration=calibration)


def test_calibration_reads_a_folder_as_the_model_sees_it(tmp_path: Path) -> None:
    model = model_of(MAPS)
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "one.png")
    (seen,) = quantization.calibration_images(model, tmp_path)
    image = Image.open(tmp_path / "one.png")
    assert torch.equal(seen[0], evaluation_transform(model.preprocessing)(image))


def test_calibration_takes_batches_with_labels() -> None:
    batches = [(random_images(2), torch.zeros(2)), (random_images(1), torch.zeros(1))]
    assert len(quantization.calibration_images(model_of(MAPS), batches)) == 3


# --- fallbacks and refusals ------------------------------------------------------------------------------------------


def test_bf16_falls_back_with_a_warning() -> None:
    model = model_of(spec_of(named("identity")))
    with (
        patch.object(openvino, "capabilities", lambda: ("FP32", "INT8")),
        pytest.warns(FellBackWarning, match="bf16 was requested and fp32 is used: this CPU has no bf16"),
    ):
        fast = metaformer.compile(model, precision="bf16", backend="openvino")
    assert fast.precision == "fp32"
    assert "bf16" in fast.notes[0]


def test_bf16_in_torch_where_the_cpu_has_it() -> None:
    """PyTorch emulates missing instructions, so the arithmetic is the same on every CPU."""
    model = model_of(MAPS)
    with patch.object(precision, "cpu_has_bf16", lambda: True):
        fast = metaformer.compile(model, precision="bf16", backend="torch")
    images = random_images(2)
    assert (fast.precision, fast.notes) == ("bf16", ())
    with torch.no_grad():
        assert 1e-4 < apart(fast(images), model(images)) < 0.1
    assert fast(images).dtype == torch.float32


@pytest.mark.parametrize(("backend", "asked"), [("onnxruntime", "bf16"), ("torch", "int8")])
def test_precisions_that_an_engine_lacks(backend: str, asked: str) -> None:
    used, reason = precision.available(asked, backend)
    assert used == "fp32"
    assert asked in str(reason)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"backend": "openvin"}, "openvino"), ({"precision": "fp61"}, "fp32, int8|fp32")],
)
def test_unknown_names(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        metaformer.compile(model_of(MAPS), **options)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two"])
def test_threads_are_a_number(threads: Any) -> None:
    with pytest.raises(InputError, match="threads: expected an integer"):
        metaformer.compile(model_of(MAPS), threads=threads)


def test_a_compiled_model_is_exported_and_not_pickled(tmp_path: Path) -> None:
    fast = metaformer.compile(model_of(MAPS), backend="torch")
    with pytest.raises(InputError, match="load_exported"):
        torch.save(fast, tmp_path / "it.pt")
    for derived in (fast, metaformer.fold(model_of(MAPS))):
        with pytest.raises(WeightsError, match="Save the model it was made from"):
            metaformer.save_weights(derived, tmp_path / "it.safetensors")
    assert not (tmp_path / "it.safetensors").exists()


def test_other_modules_are_refused() -> None:
    with pytest.raises(InputError, match="Linear"):
        metaformer.compile(nn.Linear(2, 2))


@pytest.mark.parametrize(("backend", "extra"), [("openvino", "openvino"), ("onnxruntime", "export")])
def test_an_engine_that_is_not_installed_names_its_extra(backend: str, extra: str) -> None:
    with (
        patch.dict(sys.modules, {backend: None}),
        pytest.raises(MissingExtraError, match=rf"metaformer\[{extra}\]"),
    ):
        metaformer.compile(model_of(MAPS), backend=backend)


def test_auto_uses_what_is_installed() -> None:
    def found(*there: str) -> str:
        with patch.object(compiled.importlib.util, "find_spec", lambda name: name in there or None):
            return compiled.chosen_backend("auto")

    assert [found("openvino", "onnxruntime"), found("onnxruntime"), found()] == ["openvino", "onnxruntime", "torch"]
    assert compiled.chosen_backend("auto", "cuda") == "torch"


def test_a_wrong_engine_is_not_used() -> None:
    model, images = model_of(MAPS), random_images(2)

    def wrong(*_: Any) -> Any:
        return lambda given: (torch.zeros(len(given), 5),)

    with (
        patch.object(openvino, "runner", wrong),
        pytest.warns(FellBackWarning, match="differ from the original's by 1.0e\\+00.*PyTorch runs it unchanged"),
    ):
        fast = metaformer.compile(model, backend="openvino")
    assert fast.backend == "torch"
    with torch.no_grad():
        assert apart(fast(images), model(images)) == 0


def test_nan_is_wrong() -> None:
    assert precision.difference(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")
    assert precision.difference(torch.ones(2), torch.ones(1)) == float("inf")
    assert precision.difference(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0])) == 1


def test_a_compiler_that_fails_leaves_pytorch() -> None:
    def broken(module: nn.Module) -> Any:
        raise RuntimeError("no compiler here\nand more")

    model, images = model_of(MAPS), random_images(2)
    with (
        patch.object(eager, "compiled", lambda module: broken),
        pytest.warns(FellBackWarning, match="torch.compile failed .*no compiler here"),
    ):
        fast = metaformer.compile(model, backend="torch")
    with torch.no_grad():
        assert apart(fast(images), model(images)) < FP32


class Branching(nn.Module):
    """A mixer whose control flow depends on values, which no graph can express."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, grid: Any, mask: Any = None) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


class Inverse(nn.Module):
    """A mixer with an operation that OpenVINO lacks."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, grid: Any, mask: Any = None) -> Tensor:
        square = torch.matmul(x.transpose(1, 2), x) + torch.eye(x.shape[2])
        return torch.matmul(x, torch.linalg.pinv(square))


class ByBatch(nn.Module):
    """A mixer that depends on the batch size: a graph keeps one branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, grid: Any, mask: Any = None) -> Tensor:
        return x * 2 if len(x) > 4 else x


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_mixer_that_depends_on_the_batch_size_is_not_compiled(backend: str) -> None:
    model, images = model_of(spec_of(named("identity"), ByBatch)), random_images(5)
    with pytest.warns(FellBackWarning, match=r"some sizes of batch only.*\(ByBatch\)"):
        fast = metaformer.compile(model, backend=backend)
    with torch.no_grad():
        assert apart(fast(images), model(images)) == 0


def test_a_mixer_that_cannot_be_traced_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    model = model_of(spec_of(named("identity"), Branching))
    with pytest.warns(FellBackWarning, match=r"stages\.1\.blocks\.0\.mixer \(Branching\)"):
        fast = metaformer.compile(model, backend="openvino")
    assert "def forward" not in "".join(capfd.readouterr()), "PyTorch prints the graph when it fails"
    images = random_images(2)
    with torch.no_grad():
        assert apart(fast(images), model(images)) == 0


def test_an_operation_that_cannot_be_converted_is_named() -> None:
    model = model_of(spec_of(Inverse))
    ready = compiled.prepared(model, "maps")
    with pytest.raises(InputError, match=r"aten\.linalg_pinv.*stages\.0\.blocks\.0\.mixer \(Inverse\)"):
        compiled.graph_of(ready, "openvino", "fp32", [])


def test_a_model_tied_to_its_grid_refuses_other_sizes() -> None:
    model = model_of(TIED)
    fast = whole(lambda images: (images,), model.spec, compiled.sizes_of(model), None)
    with pytest.raises(InputError, match=rf"expected {SIDE} × {SIDE} pixels, got 64 × {SIDE}.*tied to the grid"):
        fast(random_images(1, 64, SIDE))
    with pytest.raises(InputError, match="expected \\(batch, 3"):
        fast(torch.zeros(1, 1, SIDE, SIDE))


def test_images_too_small_for_a_free_graph() -> None:
    _, fast = compiled_family("maps", "torch")
    with pytest.raises(InputError, match="no token"):
        fast(random_images(1, 4, 4))


def test_telemetry_is_off() -> None:
    openvino.library()
    onnxruntime.library()
    assert sys.modules.get("openvino_telemetry") is None


# --- objects and pixels -----------------------------------------------------------------------------------------------


@pytest.fixture
def _narrow() -> Iterator[None]:
    with patch.object(neck, "WIDTH", 16), patch.object(mask_rcnn, "WIDTH", 16), patch.object(mask_rcnn, "HIDDEN", 32):
        yield


def with_detections(model: Any) -> Any:
    """Untrained heads find no object with a high score, and then there would be nothing to compare."""
    torch.manual_seed(1)
    for name, parameter in model.net.named_parameters():
        if "head" in name and parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
        if name.endswith("cls_logits.bias"):
            nn.init.zeros_(parameter)
    return model.eval()


def backbone() -> ModelSpec:
    return pyramid_spec("identity", norm="layer")


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize(
    ("system", "square"),
    [
        ("retinanet", True),
        pytest.param("retinanet", False, marks=pytest.mark.slow),  # symbolic sizes take a minute
        ("mask_rcnn", False),
    ],
)
def test_a_compiled_detector_returns_the_same_objects(system: str, square: bool) -> None:
    model = with_detections(metaformer.create_detector(system, backbone(), square=square, **SMALL))
    model = lightened(model) if system == "mask_rcnn" else model
    fast = metaformer.compile(model, backend="openvino", threads=1)
    assert (fast.backend, fast.notes) == ("openvino", ())
    seen = dense_images()
    assert len(objects()) == len(seen)
    with torch.no_grad():
        theirs = model(seen)
    for mine, wanted in zip(fast(seen), theirs, strict=True):
        assert mine.keys() == wanted.keys()
        assert len(wanted["labels"]) > 0
        assert torch.equal(mine["labels"], wanted["labels"])
        assert torch.allclose(mine["boxes"], wanted["boxes"], atol=1e-2)
        assert torch.allclose(mine["scores"], wanted["scores"], atol=1e-4)


@pytest.mark.usefixtures("_narrow")
def test_a_segmenter_is_computed_whole_at_multiples_of_32() -> None:
    model = metaformer.create_segmenter("semantic_fpn", backbone(), **SMALL).eval()
    fast = metaformer.compile(model, backend="openvino", threads=1)
    assert (fast.backend, fast.notes) == ("openvino", ())
    for shape in ((1, 64, 96), (2, 128, 64)):
        images = random_images(*shape)
        with torch.no_grad():
            assert apart(fast(images), model(images)) < FP32
    with pytest.raises(InputError, match="multiples of 32"):
        fast(random_images(1, 64, 70))


def test_differences_are_measured_against_all_images() -> None:
    """A single image whose scores are near zero would make a large share of a small difference."""

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return (images + 0.5,)

    images = [torch.zeros(1), torch.full((1,), 5.0)]
    assert compiled.largest_difference(run, nn.Identity(), images) == pytest.approx(0.1)


def test_attention_takes_any_size() -> None:
    assert compiled.sizes_of(model_of(ATTENTION)).fixed is None


def test_a_size_that_comes_again_gets_a_graph_of_its_own() -> None:
    """With the same outputs: one image or a pair per request, for every batch size, and for further sizes."""
    model, graph = pooling_graph()
    run = openvino.runner(graph, "fp32", 2)
    sides = [(SIDE + 8 * i, SIDE) for i in range(openvino.Runner.OWN + 2)]
    for height, width in sides:
        for count in (3, 1, 2, 5, 4):
            images = random_images(count, height, width)
            with torch.no_grad():
                assert apart(run(images)[0], model(images)) < FP32
    assert run._own == set(sides[: openvino.Runner.OWN]), "the first that came again"
    assert {key[1:] for key in run._streams} == {(1, 1), (2, 1), (2, 2)}, "streams, and images per request"
    assert copy.deepcopy(run) is run


@pytest.mark.parametrize("count", [1, 2])
def test_a_graph_for_a_fixed_batch_takes_multiples_of_it(count: int) -> None:
    model, graph = pooling_graph()
    graph = graph.clone()
    graph.reshape([count, 3, SIDE, SIDE])
    run, images = openvino.runner(graph, "fp32", 2), random_images(4)
    with torch.no_grad():
        assert apart(run(images)[0], model(images)) < FP32
        assert apart(run(images[:count])[0], model(images[:count])) < FP32


def test_int8_products_of_onnx_are_integer_products() -> None:
    """Without quantized outputs ONNX Runtime would compute products in float32, and more slowly."""
    model = model_of(spec_of(named("pooling")))
    ready = compiled.prepared(model, compiled.form_for("onnxruntime", "int8"))
    graph = compiled.graph_of(ready, "onnxruntime", "int8", list(random_images(4).split(1)))
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("MatMul") == 2, "the channel MLP, as products"
    assert kinds.count("Conv") == 1, "the stem"
    assert "Where" not in kinds
    assert "Erf" not in kinds
