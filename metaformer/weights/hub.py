"""Models to and from folders and repositories, the Hugging Face way: config.json, model.safetensors, README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, Self, Unpack

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ..errors import InputError, WeightsError
from ..files import read_json, replace_file, write_json
from ..model.dense.build import AnyModel
from ..records import Record
from ..spec.dense import DenseSpec
from ..spec.model import AnySpec
from ..types import Preprocessing
from ..version import __version__
from .description import Description, SpecChanges, describe
from .download import HubOptions
from .load import fill, locate
from .model_card import LIBRARY, CardFacts, model_card
from .read_checkpoint import read_state
from .save import read_description, read_metrics, save_weights

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


@dataclass(frozen=True, kw_only=True)
class HubConfig(Record):
    """The config.json of a folder or repository for the hub. A run's file of that name has no ``library_name``."""

    error: ClassVar[type[InputError]] = WeightsError

    library_name: Literal["metaformer"] = "metaformer"
    """The field by which the hub, too, finds out whose file it is."""
    architecture: str
    """The model's name."""
    task: str = ""
    """What it was trained for; that of its spec in files of version 0.1.0."""
    num_classes: int
    label_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing
    version: str = __version__
    """The version of this library that wrote it."""
    metaformer: AnySpec | DenseSpec
    """The spec."""

    @classmethod
    def of(cls, description: Description) -> Self:
        """A model's description in the hub's terms."""
        return cls(
            architecture=description.name,
            task=description.task,
            num_classes=description.spec.num_classes,
            label_names=description.classes,
            preprocessing=description.preprocessing,
            version=description.version,
            metaformer=description.spec,
        )

    @classmethod
    def read(cls, content: Mapping[str, Any], label: str) -> Self:
        """The record of a JSON object; entries that other tools added are left out.

        Raises:
            WeightsError: a field is missing or wrong; ``label`` names the source.
        """
        known = {field.name for field in fields(cls)}
        try:
            return cls.from_dict({key: value for key, value in content.items() if key in known})
        except InputError as error:
            raise WeightsError(f"{label}: its {CONFIG} cannot be read: {error}") from None

    @property
    def description(self) -> Description:
        """What it says of the model."""
        return Description(
            name=self.architecture,
            task=self.task,
            spec=self.metaformer,
            preprocessing=self.preprocessing,
            classes=self.label_names,
            version=self.version,
        )


def save_pretrained(
    model: AnyModel | str | Path,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    task: str = "",
    metrics: Mapping[str, float] | None = None,
    dataset: str = "",
    base_model: str | None = None,
    card: str | None = None,
) -> Path:
    """Write a model to a folder that ``from_pretrained`` and the hub understand.

    Args:
        model: the model; or its run folder or weights file, from which classes, task and metrics are then taken.
        folder: created where it is missing.
        classes: names of its scores, in order.
        task: what it was trained for; what its spec is usually for where left out.
        metrics: for the card: what was measured, by name.
        dataset: for the card: what it was measured on.
        base_model: for the card: hub id of the model whose weights it started from.
        card: text of README.md; with front matter (``---``) it is taken as it is. A short one where left out.

    Returns:
        The folder.
    """
    facts = CardFacts(metrics=metrics or {}, dataset=dataset, base_model=base_model)
    return _save(model, Path(folder), classes, task, facts, card)


def _save(
    model: AnyModel | str | Path,
    folder: Path,
    classes: Sequence[str] | None,
    task: str,
    facts: CardFacts,
    card: str | None,
) -> Path:
    if isinstance(model, (str, Path)):
        # the card shows what was measured with these very weights, unless the caller knows better
        saved, facts = describe_source(model), replace(facts, metrics=facts.metrics or read_metrics(locate(model)))
        classes, task, model = classes or saved.classes, task or saved.task, from_pretrained(model)
    folder.mkdir(parents=True, exist_ok=True)
    description = describe(model, classes, task)
    save_weights(model, folder / WEIGHTS, classes=classes, task=task)
    write_json(folder / CONFIG, HubConfig.of(description).to_dict())
    replace_file(folder / CARD, model_card(description, facts, card).encode())
    return folder


def from_pretrained(
    source: str | Path,
    *,
    mixers: object = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    **changes: Unpack[SpecChanges],
) -> AnyModel:
    """The model that ``save_pretrained`` or ``push_to_hub`` wrote, with its weights, in evaluation mode.

    Args:
        source: a folder, a hub id ``owner/name``, or a weights file.
        mixers: the token mixers, where they were Python objects: one for all stages or one for each.
        revision: branch, tag or commit of a hub repository.
        cache_dir: where downloads are kept, in place of the hub's cache.
        token: access token; that of ``hf auth login`` or HF_TOKEN where left out, none where False.
        local_files_only: do not download; look in the cache only.
        changes: fields of ``SpecChanges``, as far as the spec has them: ``num_classes`` (the last layer is then
            fresh), ``img_size``, ``drop_path_rate``; for a detector or a segmenter ``short_side`` and the like.

    Returns:
        The kind of model that was saved: a classifier, ``Detector`` or ``Segmenter``.

    Raises:
        WeightsError: not found, or not written by this library.
    """
    hub = HubOptions(revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    model = describe_source(source, hub).build(mixers, **changes)
    fill(model, read_state(locate(source, hub=hub)), str(source))
    return model.eval()


def describe_source(source: str | Path, hub: HubOptions | None = None) -> Description:
    """What a folder, a hub id or a weights file says of its model: name, task, spec, preprocessing and class names.

    A config.json for the hub says it. In a run's folder, whose config.json is another, the weights file does.

    Raises:
        WeightsError: not found, or not written by this library.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return read_description(path)
    try:
        config = locate(source, (CONFIG,), hub)
    except WeightsError:  # a folder of weights alone
        return read_description(locate(source, hub=hub))
    content = read_json(config, WeightsError)
    if content.get("library_name") == LIBRARY:
        return HubConfig.read(content, str(source)).description
    return read_description(locate(source, hub=hub))


def push_to_hub(
    model: AnyModel | str | Path,
    repo_id: str,
    *,
    classes: Sequence[str] | None = None,
    task: str = "",
    metrics: Mapping[str, float] | None = None,
    dataset: str = "",
    base_model: str | None = None,
    card: str | None = None,
    token: str | None = None,
    private: bool | None = None,
    message: str = "Upload a metaformer model",
) -> str:
    """Upload a model to a hub repository, created where it is missing; returns the address of the commit.

    Args:
        model: as in ``save_pretrained``, like ``classes`` to ``card``.
        repo_id: ``owner/name``.
        classes: names of its scores, in order.
        task: what it was trained for.
        metrics: for the card: what was measured, by name.
        dataset: for the card: what it was measured on.
        base_model: for the card: hub id of the model whose weights it started from.
        card: text of README.md.
        token: access token; that of ``hf auth login`` or HF_TOKEN where left out.
        private: whether a repository that is created now is private.
        message: of the commit.

    Raises:
        WeightsError: the hub refuses or cannot be reached.
    """
    api = HfApi(token=token)
    facts = CardFacts(metrics=metrics or {}, dataset=dataset, base_model=base_model, repo_id=repo_id)
    with TemporaryDirectory() as folder:
        _save(model, Path(folder), classes, task, facts, card)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
        except Exception as error:  # the client lets the errors of its HTTP library through, whichever library that is
            raise WeightsError(f"{repo_id}: cannot be uploaded: {_upload_problem(api, error)}") from None
    return str(commit.commit_url)


def _upload_problem(api: HfApi, error: Exception) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status in (401, 403):
        return f"{api.endpoint} answered {status}; log in with `hf auth login`, or pass a token with write access"
    return f"{api.endpoint}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
