"""Published or saved weights into a model.

In: a model and a state dict, a file, a folder, a hub id, or the place its zoo row names. Out: the model's tensors
filled, and a report of what was loaded, adapted, left fresh or left out. Either everything is copied or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import WeightsError, did_you_mean
from ..model.dense.detector import DenseModel
from ..model.timm_cnn import PREFIX, TimmClassifier, TimmFeatures
from ..zoo.catalogue import CATALOGUE
from ..zoo.row import Row
from .dense_layouts import background_first, dense_names, is_dense
from .download import HUB_ID, USUAL_FILES, fetch, fetch_id
from .identify import look_alikes
from .layouts import DERIVED, FINAL_NORM, FINAL_NORM_PLACES, recognize
from .match_tensors import Fitting, fit
from .read_checkpoint import read_state, unwrap
from .rename import our_names
from .split_tensors import joined, whole_name

_log = logging.getLogger(__name__)

StateDict = Mapping[str, Any]
IN_A_FOLDER = (*USUAL_FILES, "best.safetensors", "last.safetensors")
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt", ".npz")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of a checkpoint."""

    source: str
    """Where the tensors came from."""
    layout: str
    """Whose names they had."""
    loaded: int
    """How many tensors were copied."""
    fresh: tuple[str, ...] = ()
    """Names that keep their initial values because the checkpoint has other classes."""
    adapted: tuple[str, ...] = ()
    """Sentences about tensors that were changed to fit: channels of the image, position tables."""
    left_out: tuple[str, ...] = ()
    """Names that the model has no use for."""
    missing: tuple[str, ...] = ()
    """Names that the checkpoint lacks; only where ``strict`` is off."""
    unexpected: tuple[str, ...] = ()
    """Names that the model lacks, as the checkpoint calls them; only where ``strict`` is off."""

    @property
    def message(self) -> str:
        """The report as sentences for a terminal."""
        parts = [f"{self.source}: {self.loaded} tensors loaded (layout: {self.layout})"]
        if self.adapted:
            parts.append(f"adapted {'; '.join(self.adapted)}")
        if self.fresh:
            parts.append(f"the last layer has other classes and is left fresh ({', '.join(self.fresh)})")
        if self.left_out:
            parts.append(f"{_shown(self.left_out)} not needed")
        if self.missing:
            parts.append(f"missing: {_shown(self.missing)}")
        if self.unexpected:
            parts.append(f"unexpected: {_shown(self.unexpected)}")
        return "; ".join(parts)


def load_weights(model: nn.Module, source: StateDict | str | Path, *, strict: bool = True) -> LoadReport:
    """Fill a model with weights in any layout known here, told from the names.

    A last layer for another number of classes is left fresh and reported. The first convolution is adapted to the
    model's channels, position tables are resampled to its grid.

    Args:
        model: what to fill.
        source: a state dict (also inside ``{"state_dict": ...}`` and its like, the averaged one first), a file
            (.safetensors, .pth, .pth.tar, .bin, .npz), a folder (also a run's), or a hub id ``owner/name`` or
            ``owner/name:file``.
        strict: refuse names that are missing or unexpected; off, they are only reported.

    Returns:
        The report; its ``message`` is logged as well.

    Raises:
        WeightsError: cut, unsafe, of another model, or not to be found. The model is then as it was.
    """
    state, label = _state_of(source)
    return _load(model, state, label, strict)


def load_pretrained(model: nn.Module) -> LoadReport:
    """Fill a model of the zoo with its published weights, from the network or from the cache.

    Raises:
        WeightsError: no weights are published for it, or none can be had; the message names the files and the cure.
    """
    name = getattr(model, "name", "")
    if name not in CATALOGUE:
        raise WeightsError(f"no published weights are known for {name or type(model).__name__!r}; pass weights=PATH")
    sources = CATALOGUE[name].weights
    if not sources:
        raise WeightsError(_unpublished(CATALOGUE[name]))
    path, source = fetch(sources)
    return _load(model, read_state(path), str(source), strict=True)


def _unpublished(row: Row) -> str:
    """What to say, and what to do instead, where nobody published weights for a row."""
    sentences = [f"{row.name}: no weights of its own were published.", row.note]
    relative = row.nearest.rpartition("/")[2].partition(".")[0]
    if relative == row.name:
        sentences.append(f"The nearest that were: create_model({row.name!r}, weights={row.nearest!r})")
    elif relative:
        sentences.append(f"The nearest model with weights: create_model({relative!r}, pretrained=True)")
    else:
        sentences.append("Nothing near it was published either: train it, or pass weights=PATH")
    return " ".join(sentence for sentence in sentences if sentence)


def _state_of(source: StateDict | str | Path) -> tuple[Mapping[str, Tensor], str]:
    if isinstance(source, Mapping):
        return unwrap(source, "the state dict"), "the state dict"
    if not isinstance(source, (str, Path)):
        raise WeightsError(f"expected a state dict, a path or a hub id, got {type(source).__name__}")
    path = locate(source)
    return read_state(path), str(source)


def locate(source: str | Path, files: tuple[str, ...] | None = None) -> Path:
    """The file that a path, a folder (a run's as well) or a hub id stands for: the first of ``files`` it has.

    Left out, ``files`` are the usual names of weights.

    Raises:
        WeightsError: nothing there.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        names = files or IN_A_FOLDER
        inside = next((path / name for name in names if (path / name).is_file()), None)
        if inside is None:
            raise WeightsError(f"{path}: the folder holds none of {', '.join(names)}")
        return inside
    if path.exists():
        return path
    text = str(source)
    if HUB_ID.fullmatch(text) is None or (":" not in text and text.endswith(CHECKPOINT_SUFFIXES)):
        raise WeightsError(f"{source}: no such file. Expected a file, a folder, or a hub id such as 'owner/name'")
    try:
        return fetch_id(text, files or USUAL_FILES)
    except WeightsError as error:
        raise WeightsError(f"{source}: no such file or folder here{_neighbors(path)}; as a hub id, {error}") from None


def _neighbors(path: Path) -> str:
    """What stands beside a path that does not exist, for a person who mistyped it."""
    there = [str(path.parent / entry.name) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = did_you_mean(str(path), there) if path.parent != Path() else ""
    return f" ({near.rstrip('?.')}?)" if near.startswith("Did you mean") else ""


def _load(model: nn.Module, state: Mapping[str, Tensor], label: str, strict: bool) -> LoadReport:
    derived = [name for name in state if DERIVED.fullmatch(name)]
    layout, spelled = _spelled(model, {name: value for name, value in state.items() if name not in derived})
    state = background_first(state)
    theirs_of = {whole_name(ours): theirs for theirs, ours in spelled.items()}
    theirs_of |= {ours: theirs for theirs, ours in spelled.items()}
    found = joined({ours: state[theirs] for theirs, ours in spelled.items()})
    fitting = fit(found, model)
    fitting.unexpected = [theirs_of[name] for name in fitting.unexpected]
    fitting.left_out += derived
    if fitting.misshapen or (strict and not fitting.fits):
        raise WeightsError(_explained(model, label, layout, fitting, found))
    model.load_state_dict(fitting.tensors, strict=False)
    report = LoadReport(
        source=label,
        layout=layout,
        loaded=len(fitting.tensors),
        fresh=tuple(fitting.fresh),
        adapted=tuple(fitting.adapted),
        left_out=tuple(fitting.left_out),
        missing=tuple(fitting.missing),
        unexpected=tuple(fitting.unexpected),
    )
    _log.info(report.message)
    return report


def _spelled(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """The layout of a checkpoint, and our name for each of its names."""
    if isinstance(model, DenseModel):
        return dense_names(model, state)
    if is_dense(state):
        raise WeightsError(
            "these are the weights of a whole detector or segmenter, and the model is a classifier: expected "
            "create_detector(..., weights=...) or create_segmenter(..., weights=...) for them"
        )
    if isinstance(model, (TimmClassifier, TimmFeatures)):  # only timm's names mean anything to timm's model
        ours = any(name.startswith(PREFIX) for name in state)
        return ("metaformer", {name: name for name in state}) if ours else ("timm", {n: PREFIX + n for n in state})
    layout, wanted = recognize(state), model.state_dict()
    return layout.name, {theirs: _placed(ours, wanted) for theirs, ours in our_names(layout, state).items()}


def _placed(name: str, wanted: Mapping[str, Tensor]) -> str:
    """The final norm under the name that this model has it by, before or after the readout."""
    if not name.startswith(FINAL_NORM):
        return name
    leaf = name.removeprefix(FINAL_NORM)
    names = [place + leaf for place in FINAL_NORM_PLACES]
    return next((candidate for candidate in names if candidate in wanted), names[-1])


def _explained(model: nn.Module, label: str, layout: str, fitting: Fitting, found: Mapping[str, Tensor]) -> str:
    name = getattr(model, "name", "") or type(model).__name__
    lines = [f"{label} (layout: {layout}) does not fit {name}:"]
    lines += [f"  another shape: {_shown(fitting.misshapen, '; ')}"] if fitting.misshapen else []
    lines += [f"  missing in the checkpoint: {_shown(fitting.missing)}"] if fitting.missing else []
    lines += [f"  unexpected in the checkpoint: {_shown(fitting.unexpected)}"] if fitting.unexpected else []
    alike = look_alikes(found)
    if name in alike:  # its frame is right, something in it was changed
        alike = []
    if alike:
        lines.append(f"It looks like {' or '.join(alike)}: create_model({alike[0]!r}, weights=...) would take it.")
    elif not fitting.misshapen:
        lines.append("load_weights(..., strict=False) takes what fits and reports the rest.")
    return "\n".join(lines)


def _shown(names: Any, separator: str = ", ", limit: int = 4) -> str:
    listed = list(names)
    more = f"{separator}and {len(listed) - limit} more" if len(listed) > limit else ""
    return separator.join(listed[:limit]) + more
