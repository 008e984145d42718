"""Published or saved weights into a model.

In: a model and a state dict, a file, a folder, a hub id, or the place where the zoo says its weights are published.
Out: the model's tensors filled, and a report of what was loaded, adapted, left fresh or left out. Either everything is
copied or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..errors import WeightsError, did_you_mean
from ..model.dense.detector import DenseModel
from ..model.timm_cnn import PREFIX, TimmClassifier, TimmFeatures
from ..zoo.catalogue import CATALOGUE
from ..zoo.published_model import PublishedModel
from .dense_layouts import background_first, dense_names, is_dense
from .download import HUB_ID, USUAL_FILES, HubOptions, fetch, fetch_id
from .identify import look_alikes
from .layouts import DERIVED, FINAL_NORM, FINAL_NORM_PLACES, recognize
from .match_tensors import TensorMatch, match_tensors
from .read_checkpoint import read_state, unwrap
from .rename import our_names
from .split_tensors import join_parts, whole_name

_log = logging.getLogger(__name__)

StateDict = Mapping[str, object]
"""Tensors by name, or what a training script saved around them."""
IN_A_FOLDER = (*USUAL_FILES, "best.safetensors", "last.safetensors")
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt", ".npz")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of a checkpoint."""

    source: str
    """Where the tensors came from."""
    layout: str
    """Which library's names and shapes they had."""
    loaded: int
    """How many tensors were copied."""
    fresh: tuple[str, ...] = ()
    """Names that keep their initial values because the checkpoint has other classes."""
    adapted: tuple[str, ...] = ()
    """Sentences about tensors that were changed to fit: channels of the image, position tables."""
    left_out: tuple[str, ...] = ()
    """Names that the model does not need."""
    missing: tuple[str, ...] = ()
    """Names that the checkpoint lacks; only where ``strict`` is off."""
    unexpected: tuple[str, ...] = ()
    """Names that the model lacks, as the checkpoint has them; only where ``strict`` is off."""

    @property
    def message(self) -> str:
        """The report as one line for a terminal."""
        parts = [f"{self.source}: {self.loaded} tensors loaded (layout: {self.layout})"]
        if self.adapted:
            parts.append(f"adapted {'; '.join(self.adapted)}")
        if self.fresh:
            parts.append(f"last layer left at its initial values for other classes ({', '.join(self.fresh)})")
        if self.left_out:
            parts.append(f"not needed: {_shortened(self.left_out)}")
        if self.missing:
            parts.append(f"missing: {_shortened(self.missing)}")
        if self.unexpected:
            parts.append(f"unexpected: {_shortened(self.unexpected)}")
        return "; ".join(parts)


def load_weights(model: nn.Module, source: StateDict | str | Path, *, strict: bool = True) -> LoadReport:
    """Fill a model with weights in any known layout, recognized by its names.

    A last layer for another number of classes is left fresh and reported. The first convolution is adapted to the
    model's channels, position tables are resampled to its grid.

    Args:
        model: the model to fill.
        source: a state dict (also inside ``{"state_dict": ...}`` and the like, the averaged one first), a file
            (.safetensors, .pth, .pth.tar, .bin, .npz), a folder (also a run's), or a hub id ``owner/name`` or
            ``owner/name:file``.
        strict: refuse names that are missing or unexpected; off, they are only reported.

    Returns:
        The report; its ``message`` is logged as well.

    Raises:
        WeightsError: truncated, unsafe, of another model, or not found. The model is then unchanged.
    """
    if isinstance(source, Mapping):
        return fill(model, unwrap(source, "the state dict"), "the state dict", strict=strict)
    if not isinstance(source, (str, Path)):
        raise WeightsError(f"expected a state dict, a path or a hub id, got {type(source).__name__}")
    return fill(model, read_state(locate(source)), str(source), strict=strict)


def load_pretrained(model: nn.Module) -> LoadReport:
    """Fill a model of the zoo with its published weights, downloaded or from the cache.

    Raises:
        WeightsError: no weights are published for it, or they could not be downloaded; the message names the files
            and says what to do.
    """
    name = getattr(model, "name", "")
    if name not in CATALOGUE:
        raise WeightsError(f"no published weights are known for {name or type(model).__name__!r}; pass weights=PATH")
    if not CATALOGUE[name].weights:
        raise WeightsError(_without_published_weights(CATALOGUE[name]))
    path, source = fetch(CATALOGUE[name].weights)
    return fill(model, read_state(path), str(source))


def _without_published_weights(row: PublishedModel) -> str:
    """The message for a model without published weights, with what to use instead."""
    sentences = [f"{row.name}: no weights of its own were published.", row.note]
    relative = row.nearest.rpartition("/")[2].partition(".")[0]
    if relative == row.name:
        sentences.append(f"The nearest that were: create_model({row.name!r}, weights={row.nearest!r})")
    elif relative:
        sentences.append(f"The nearest model with weights: create_model({relative!r}, pretrained=True)")
    else:
        sentences.append("Nor were any for a similar model: train it, or pass weights=PATH")
    return " ".join(sentence for sentence in sentences if sentence)


def locate(source: str | Path, files: tuple[str, ...] | None = None, hub: HubOptions | None = None) -> Path:
    """The file that a path, a folder (also a run's) or a hub id stands for: the first of ``files`` it has.

    Left out, ``files`` are the usual names of weights.

    Raises:
        WeightsError: there is no such file.
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
        return fetch_id(text, files or USUAL_FILES, hub)
    except WeightsError as error:
        raise WeightsError(f"{source}: no such file or folder here{_neighbors(path)}; as a hub id, {error}") from None


def _neighbors(path: Path) -> str:
    """Files with names like that of a path that does not exist, which may be mistyped."""
    there = [str(path.parent / entry.name) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = did_you_mean(str(path), there) if path.parent != Path() else ""
    return f" ({near.rstrip('?.')}?)" if near.startswith("Did you mean") else ""


def fill(model: nn.Module, state: Mapping[str, Tensor], label: str, *, strict: bool = True) -> LoadReport:
    """``load_weights`` for tensors that were read already; ``label`` names their source in messages."""
    derived = [name for name in state if DERIVED.fullmatch(name)]
    layout, ours_of = _renamed(model, {name: value for name, value in state.items() if name not in derived})
    state = background_first(state)
    found = join_parts({ours: state[theirs] for theirs, ours in ours_of.items()})
    match = match_tensors(found, model)
    # messages have the checkpoint's names: a joined tensor goes by the whole name, a part without siblings by its own
    theirs_of = {whole_name(ours): theirs for theirs, ours in ours_of.items()}
    theirs_of |= {ours: theirs for theirs, ours in ours_of.items()}
    match.unexpected = [theirs_of[name] for name in match.unexpected]
    match.left_out += derived
    if match.wrong_shape or (strict and not match.is_complete):
        raise WeightsError(_mismatch_message(model, label, layout, match, found))
    model.load_state_dict(match.tensors, strict=False)  # checked above; fresh layers are missing on purpose
    lists = {name: tuple(getattr(match, name)) for name in ("fresh", "adapted", "left_out", "missing", "unexpected")}
    report = LoadReport(source=label, layout=layout, loaded=len(match.tensors), **lists)
    _log.info(report.message)
    return report


def _renamed(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """The layout of a checkpoint, and our name for each of its names."""
    if isinstance(model, DenseModel):
        return dense_names(model, state)
    if is_dense(state):
        raise WeightsError(
            "these are the weights of a whole detector or segmenter, and the model is a classifier: expected "
            "create_detector(..., weights=...) or create_segmenter(..., weights=...) for them"
        )
    if isinstance(model, (TimmClassifier, TimmFeatures)):  # a CNN's names are timm's and in none of our tables
        ours = any(name.startswith(PREFIX) for name in state)
        return ("metaformer", {name: name for name in state}) if ours else ("timm", {n: PREFIX + n for n in state})
    layout, wanted = recognize(state), model.state_dict()
    return layout.name, {theirs: _placed(ours, wanted) for theirs, ours in our_names(layout, state).items()}


def _placed(name: str, wanted: Mapping[str, Tensor]) -> str:
    """The final norm under the name that this model has for it, before or after the readout."""
    if not name.startswith(FINAL_NORM):
        return name
    names = [place + name.removeprefix(FINAL_NORM) for place in FINAL_NORM_PLACES]
    return next((candidate for candidate in names if candidate in wanted), names[-1])


def _mismatch_message(
    model: nn.Module, label: str, layout: str, match: TensorMatch, found: Mapping[str, Tensor]
) -> str:
    name = getattr(model, "name", "") or type(model).__name__
    lines = [f"{label} (layout: {layout}) does not fit {name}:"]
    lines += [f"  another shape: {_shortened(match.wrong_shape, '; ')}"] if match.wrong_shape else []
    lines += [f"  missing in the checkpoint: {_shortened(match.missing)}"] if match.missing else []
    lines += [f"  unexpected in the checkpoint: {_shortened(match.unexpected)}"] if match.unexpected else []
    alike = look_alikes(found)
    if alike and name not in alike:  # otherwise the model was changed by its owner, and its name would not help
        lines.append(f"It looks like {' or '.join(alike)}: create_model({alike[0]!r}, weights=...) would take it.")
    elif not match.wrong_shape:
        lines.append("load_weights(..., strict=False) loads what fits and reports the rest.")
    return "\n".join(lines)


def _shortened(items: Sequence[str], separator: str = ", ", limit: int = 4) -> str:
    more = f"{separator}and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more
