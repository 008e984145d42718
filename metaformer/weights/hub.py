"""Models to and from folders and repositories, the Hugging Face way: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError

from ..errors import WeightsError
from ..files import replace_file
from ..spec.dense import DenseSpec
from ..spec.model import AnySpec
from .description import AnyModel, Description, describe, described_by
from .load import load_weights, locate
from .save import read_description, save_weights

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
LIBRARY = "metaformer"


def save_pretrained(
    model: AnyModel,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    card: str | None = None,
) -> Path:
    """Write a model to a folder that ``from_pretrained`` and the hub understand.

    Args:
        model: the model.
        folder: made where it is missing.
        classes: names of its scores, in order.
        card: text of README.md; with front matter (``---``) it is taken as it is. A short one where left out.

    Returns:
        The folder.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    description = describe(model, classes)
    save_weights(model, target / WEIGHTS, classes=classes)
    replace_file(target / CONFIG, (json.dumps(_config(description), indent=2) + "\n").encode())
    replace_file(target / CARD, _card(description, card).encode())
    return target


def from_pretrained(source: str | Path, *, mixers: object = None, **changes: Any) -> Any:
    """The model that ``save_pretrained`` or ``push_to_hub`` wrote, with its weights, in evaluation mode.

    Args:
        source: a folder, a hub id ``owner/name``, or a weights file.
        mixers: the token mixers, where they were Python objects: one for all stages or one for each.
        changes: fields of the spec to change: ``num_classes`` (the last layer is then fresh), ``img_size``,
            ``drop_path_rate``; for a detector or a segmenter ``num_classes``, ``short_side``, ``long_side``,
            ``square``, ``drop_path_rate``.

    Returns:
        The kind of model that was saved: a classifier, ``Detector`` or ``Segmenter``.

    Raises:
        WeightsError: nothing there, or not written by this library.
    """
    model = describe_source(source).build(mixers, **changes)
    load_weights(model, source)
    return model.eval()


def describe_source(source: str | Path) -> Description:
    """What a folder, a hub id or a weights file says of its model: name, spec, preprocessing and class names."""
    if Path(source).expanduser().is_file():
        return read_description(Path(source).expanduser())
    try:
        config = locate(source, (CONFIG,))
    except WeightsError:
        return read_description(locate(source))
    content = _json(config)
    if LIBRARY not in content:
        return read_description(locate(source))
    entries = {
        "name": content.get("architecture"),
        "spec": content[LIBRARY],
        "preprocessing": content.get("preprocessing"),
        "classes": content.get("label_names"),
    }
    entries |= {key: content[key] for key in ("task", "version") if key in content}
    return described_by({LIBRARY: json.dumps(entries)}, str(source))


def push_to_hub(
    model: AnyModel,
    repo_id: str,
    *,
    classes: Sequence[str] | None = None,
    card: str | None = None,
    token: str | None = None,
    private: bool | None = None,
    message: str = "Upload a metaformer model",
) -> str:
    """Upload a model to a hub repository, made where it is missing; returns the commit's address.

    Args:
        model: the model.
        repo_id: ``owner/name``.
        classes: names of its scores, in order.
        card: text of README.md, as in ``save_pretrained``.
        token: access token; the one of ``hf auth login`` or HF_TOKEN where left out.
        private: for a repository that is made now.
        message: of the commit.

    Raises:
        WeightsError: the hub refuses or cannot be reached.
    """
    api = HfApi(token=token)
    with TemporaryDirectory() as folder:
        save_pretrained(model, folder, classes=classes, card=card)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
        except Exception as error:  # the client lets its HTTP library's errors through, whichever library that is
            raise WeightsError(f"{repo_id}: cannot be uploaded: {_reason(api, error)}") from None
    return str(commit.commit_url)


def _reason(api: HfApi, error: Exception) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status in (401, 403):
        return f"{api.endpoint} answered {status}; log in with `hf auth login`, or pass a token that may write"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{api.endpoint}: {first}"


def _config(description: Description) -> dict[str, Any]:
    plain = description.to_dict()
    return {
        "library_name": LIBRARY,
        "architecture": description.name,
        "num_classes": description.spec.num_classes,
        "label_names": plain["classes"],
        "preprocessing": plain["preprocessing"],
        "task": description.task,
        "version": description.version,
        LIBRARY: plain["spec"],
    }


def _card(description: Description, text: str | None) -> str:
    if text is not None and text.startswith("---"):
        return text
    purpose = _purpose(description)
    data = ModelCardData(library_name=LIBRARY, pipeline_tag=purpose, tags=[purpose, LIBRARY])
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text or _short_card(description)}"))


def _purpose(description: Description) -> str:
    """What the model is for, in the hub's words."""
    if not isinstance(description.spec, DenseSpec):
        return "image-classification"
    return "object-detection" if description.spec.finds_objects else "image-segmentation"


def _use(spec: AnySpec | DenseSpec) -> str:
    """A line of Python that asks the model."""
    if isinstance(spec, DenseSpec) and spec.finds_objects:
        return "found = model([image])  # (C, H, W) each, in [0, 1]; boxes, labels and scores for each image"
    if isinstance(spec, DenseSpec):
        return "scores = model(images)  # (B, C, H, W) prepared as model.preprocessing says, to (B, K, H, W)"
    return "scores = model(images)  # (B, C, H, W) prepared as model.preprocessing says"


def _short_card(description: Description) -> str:
    spec = description.spec
    height, width = spec.img_size
    pixels = f"of {height}×{width} pixels"
    if isinstance(spec, DenseSpec) and not spec.square:
        pixels = f"with a short side of {spec.short_side} pixels"
    lines = [
        f"# {description.name}",
        "",
        f"{spec.summary[0].upper()}{spec.summary[1:]} for images {pixels}, {spec.in_chans} "
        f"channels and {spec.num_classes} classes, saved by the Python library metaformer.",
        "",
        "```python",
        "import metaformer",
        "",
        'model = metaformer.from_pretrained("OWNER/NAME")  # a folder works too',
        _use(spec),
        "```",
    ]
    if description.classes:
        lines += ["", f"Classes: {', '.join(description.classes)}."]
    return "\n".join(lines) + "\n"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable JSON file ({error})") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    return content
