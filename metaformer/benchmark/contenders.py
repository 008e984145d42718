"""Who takes part, as rows of data: this library in every way it can be called, and each peer at its best.

In: a ``Trial``. Out: a call on its images that gives the scores (B, K). Every contender is checked before it is timed
at all: what it answers may differ from our eager float32 model with the same weights by what its precision allows.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..deploy.compile import compile
from ..deploy.fold import fold
from ..errors import InputError
from .engines import Answer, expect_precision, onnxruntime_call, openvino_call
from .rounds import Call
from .trial import Trial

TOLERANCE = {"fp32": 1e-3, "bf16": 0.05, "int8": 0.15}
"""How far an answer may be off: ‖answer − reference‖ / ‖reference‖ over the batch."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model of one library in one engine."""

    name: str
    library: str
    engine: str
    precision: str
    layout: str
    """Memory of the images it is given: ``nchw`` or ``channels_last``; engines arrange their own."""
    prepare: Callable[[Trial], Callable[[], Tensor]]
    """Builds the call; an ``InputError`` says why it cannot take part."""
    head: str | None = "original"
    """Which of our models has its scores: with the ``original`` head, with ``timm``'s, or none (another network)."""
    on: tuple[str, ...] = ("cpu", "cuda")
    """Devices."""


@dataclass(kw_only=True)
class Row:
    """What became of a contender."""

    name: str
    library: str
    engine: str
    precision: str
    layout: str
    state: str = "timed"
    """``timed``; ``left out`` (not installed, not on this machine), ``wrong`` (its answer), ``failed`` (it raised)."""
    note: str = ""
    """Why it is not timed, or what is to be known of it."""
    difference: float | None = None
    """Of its answer from the reference, see ``TOLERANCE``."""
    times: list[float] = field(default_factory=list)
    """Seconds of a call, a round after the other."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What follows from the times."""

    @classmethod
    def of(cls, contender: Contender) -> Row:
        """Before anything is known."""
        return cls(**{name: getattr(contender, name) for name in ("name", "library", "engine", "precision", "layout")})

    @property
    def is_timed(self) -> bool:
        """Whether its times count."""
        return self.state == "timed" and bool(self.times)

    def gives_up(self, error: Exception) -> None:
        """It raised: times that it has are no longer comparable."""
        self.state = "left out" if isinstance(error, (InputError, ImportError)) else "failed"
        told = " ".join(str(error).split())
        self.note = told if isinstance(error, InputError) else f"{type(error).__name__}: {told}"[:300]
        self.times = []


def checked(contender: Contender, trial: Trial) -> tuple[Row, Call | None]:
    """A contender's row, and its call if its first answer is right."""
    row = Row.of(contender)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # NNCF draws bars
            warnings.simplefilter("ignore")  # what matters of them is in the notes
            call = contender.prepare(trial)
            row.note = " ".join(getattr(call, "notes", ()))
            answer = call()
            if contender.head is not None:
                row.difference = difference(answer, trial.answers(contender.head))
    except Exception as error:  # whatever a library raises is that contender's result
        row.gives_up(error)
        return row, None
    limit = TOLERANCE[contender.precision]
    if row.difference is not None and not row.difference <= limit:  # neither is "not a number"
        row.state, row.note = "wrong", f"off by {row.difference:.2g}, {contender.precision} allows {limit:g}"
        return row, None
    return row, call


def difference(answer: Tensor, reference: Tensor) -> float:
    """‖answer − reference‖ / ‖reference‖; not a number where the shapes differ."""
    if answer.shape != reference.shape:
        return float("nan")
    return float((answer.float().cpu() - reference).norm() / reference.norm())


# --- ways to call a model ------------------------------------------------------------------------------------------

Choice = Callable[[Trial], nn.Module]


def _torch(choice: Choice, *, precision: str = "fp32", channels_last: bool = False, compiled: bool = False) -> Any:
    """PyTorch's own ways: numbers, memory format of weights and images, ``torch.compile``."""

    def prepare(trial: Trial) -> Answer:
        expect_precision(precision, "torch", trial.device)
        model, images = choice(trial), trial.images
        if precision == "bf16":
            model, images = copy.deepcopy(model).bfloat16(), images.bfloat16()
        if channels_last:
            model = copy.deepcopy(model).to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        return answering(with_compiler(model, trial.device) if compiled else model, images)

    return prepare


def with_compiler(model: nn.Module, device: torch.device, *, learns: bool = False) -> Any:
    """``torch.compile`` at its best for the device; a graph that breaks raises instead of falling back in silence."""
    if device.type == "cuda":
        return torch.compile(model, fullgraph=True, mode="max-autotune")
    return torch.compile(model, fullgraph=True, options={"freezing": not learns})


def answering(model: Any, images: Tensor) -> Answer:
    """The model's scores of these images, without gradients."""

    def call() -> Tensor:
        with torch.inference_mode():
            scores = model(images)
        return scores if isinstance(scores, Tensor) else scores.logits

    return call


def _ours(trial: Trial) -> nn.Module:
    return trial.ours


def _folded(trial: Trial) -> nn.Module:
    return fold(trial.ours)


def _timm(trial: Trial) -> nn.Module:
    return trial.timm


def _transformers(trial: Trial) -> nn.Module:
    return trial.transformers


def _resnet18(trial: Trial) -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=trial.spec.num_classes).eval().to(trial.device)


def _fast(backend: str, precision: str) -> Any:
    """``metaformer.compile``; a way that fell back to another is that other one, and left out here."""

    def prepare(trial: Trial) -> Answer:
        expect_precision(precision, backend, trial.device)
        compiled = compile(
            trial.ours,
            precision=precision,
            backend=backend,
            calibration=trial.calibration.split(trial.batch) if precision == "int8" else None,
            threads=trial.threads,
        )
        if (compiled.backend, compiled.precision) != (backend, precision):
            raise InputError(f"fell back to {compiled.backend} {compiled.precision}: {' '.join(compiled.notes)}")
        return answering(compiled, trial.images)

    return prepare


def _openvino(choice: Choice, precision: str) -> Any:
    return lambda trial: openvino_call(choice(trial), trial.images, precision, trial.threads, trial.calibration)


def _onnxruntime(choice: Choice) -> Any:
    return lambda trial: onnxruntime_call(choice(trial), trial.images, trial.threads)


# --- the rows -------------------------------------------------------------------------------------------------------


def _own(words: str, engine: str, precision: str, prepare: Any, layout: str = "nchw", **more: Any) -> Contender:
    return Contender(
        name=f"ours, {words}", library="metaformer", engine=engine, precision=precision, layout=layout,
        prepare=prepare, **more,
    )  # fmt: skip


def _peer(words: str, engine: str, precision: str, prepare: Any, layout: str = "nchw", **more: Any) -> Contender:
    return Contender(
        name=f"timm, {words}", library="timm", engine=engine, precision=precision, layout=layout, prepare=prepare,
        head="timm", **more,
    )  # fmt: skip


INDUCTOR = ("torch.compile", "torch")
CPU: Any = {"on": ("cpu",)}
LAST = "channels_last"
BASELINE = "timm, eager"
"""What everyone is compared with: timm as people call it. Where timm lacks the model it is ours, eager."""

OURS = (
    _own("eager", "eager", "fp32", _torch(_ours)),
    _own("eager, channels_last", "eager", "fp32", _torch(_ours, channels_last=True), LAST),
    _own("torch.compile", "torch.compile", "fp32", _torch(_ours, compiled=True)),
    _own("folded", "eager", "fp32", _torch(_folded)),
    _own("folded, torch.compile", "torch.compile", "fp32", _torch(_folded, compiled=True)),
    _own("bf16", "eager", "bf16", _torch(_ours, precision="bf16", channels_last=True), LAST),
    _own(
        "folded, torch.compile, bf16", "torch.compile", "bf16",
        _torch(_folded, precision="bf16", channels_last=True, compiled=True), LAST,
    ),
    *(
        _own(f"fast, {backend}, {precision}", backend, precision, _fast(backend, precision), **on)
        for backend, on in (("torch", {}), ("openvino", CPU), ("onnxruntime", CPU))
        for precision in ("fp32", "bf16", "int8")
    ),
)  # fmt: skip
PEERS = (
    _peer("eager", "eager", "fp32", _torch(_timm)),
    _peer("channels_last", "eager", "fp32", _torch(_timm, channels_last=True), LAST),
    _peer("channels_last, bf16", "eager", "bf16", _torch(_timm, precision="bf16", channels_last=True), LAST),
    _peer(
        "channels_last, torch.compile", "torch.compile", "fp32", _torch(_timm, channels_last=True, compiled=True), LAST
    ),
    _peer(
        "channels_last, torch.compile, bf16", "torch.compile", "bf16",
        _torch(_timm, precision="bf16", channels_last=True, compiled=True), LAST,
    ),
    *(
        _peer(f"openvino, {precision}", "openvino", precision, _openvino(_timm, precision), **CPU)
        for precision in ("fp32", "bf16", "int8")
    ),
    _peer("onnxruntime, fp32", "onnxruntime", "fp32", _onnxruntime(_timm), **CPU),
    Contender(
        name="transformers, eager", library="transformers", engine="eager", precision="fp32", layout="nchw",
        prepare=_torch(_transformers),
    ),
    Contender(
        name="torchvision's ResNet-18, channels_last", library="torchvision", engine="eager", precision="fp32",
        layout=LAST, prepare=_torch(_resnet18, channels_last=True), head=None,
    ),
    Contender(
        name="torchvision's ResNet-18, openvino, fp32", library="torchvision", engine="openvino", precision="fp32",
        layout="nchw", prepare=_openvino(_resnet18, "fp32"), head=None, **CPU,
    ),
)  # fmt: skip


def contenders(device: torch.device, *, peers: bool = True, compilers: bool = True) -> list[Contender]:
    """Who can take part on a device; ``compilers`` off leaves out what Inductor compiles, a minute each."""
    chosen = (*OURS, *(PEERS if peers else ()))
    return [one for one in chosen if device.type in one.on and (compilers or one.engine not in INDUCTOR)]
