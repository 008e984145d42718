"""The README.md of a model on the Hugging Face hub: front matter that the hub reads, and Markdown for people.

In: the description of a model, and metrics where they are known. Out: the text. Class names and titles are a user's and
may hold anything, so they are escaped; of a path on this machine only the last part is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from huggingface_hub import EvalResult, ModelCardData

from ..spec.input import TokenInput
from .description import Description

LIBRARY = "metaformer"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says beside the description of its model."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured, by name."""
    dataset: str = ""
    """What it was measured on; of a path the card has the last part only."""
    base_model: str | None = None
    """Hub id of the model whose weights it started from."""
    repo_id: str = "OWNER/NAME"
    """The repository that the example loads."""


def model_card(description: Description, facts: CardFacts, text: str | None = None) -> str:
    """The card of a model; ``text`` replaces its body, or all of it where it has front matter (``---``) of its own."""
    if text is not None and text.startswith("---"):
        return text
    dataset = _one_line(_last_part(facts.dataset))
    return f"---\n{_front_matter(description, facts, dataset)}\n---\n\n{text or _body(description, facts, dataset)}"


def _front_matter(description: Description, facts: CardFacts, dataset: str) -> str:
    purpose = description.spec.pipeline_tag
    results = [
        EvalResult(
            task_type=purpose,
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "unknown",
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in facts.metrics.items()
    ]
    return ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=purpose,
        tags=[purpose, LIBRARY],
        base_model=facts.base_model,
        model_name=(_one_line(description.name) or LIBRARY) if results else None,  # the hub refuses one without results
        eval_results=results or None,
    ).to_yaml()


def _body(description: Description, facts: CardFacts, dataset: str) -> str:
    spec, (inputs, example) = description.spec, _inputs(description)
    lines = [
        f"# {_escaped(description.name)}",
        "",
        f"{spec.summary[0].upper()}{spec.summary[1:]} for {inputs}; {spec.num_classes} classes. Saved by the Python "
        "library metaformer.",
        "",
        "```python",
        "import metaformer",
        "",
        f"model = metaformer.from_pretrained({facts.repo_id!r})  # a folder works too",
        f'results = metaformer.Predictor({facts.repo_id!r})(["{example}"])',
        "```",
    ]
    if facts.metrics:
        lines += ["", f"| Metric{f' on {_escaped(dataset)}' if dataset else ''} | Value |", "|---|---|"]
        lines += [f"| {_escaped(name)} | {value:.4f} |" for name, value in facts.metrics.items()]
    if description.classes:
        lines += ["", f"Classes: {', '.join(map(_escaped, description.classes))}."]
    return "\n".join(lines) + "\n"


def _inputs(description: Description) -> tuple[str, str]:
    """What goes in, in words, and an example."""
    spec = description.spec
    if isinstance(spec.input, TokenInput):
        return f"sequences of up to {spec.input.length} tokens", "a sentence"
    height, width = spec.input.img_size
    size = f"{height}×{width} pixels" if getattr(spec, "square", True) else f"a short side of {height} pixels"
    return f"images of {size} with {spec.input.in_chans} channels", "image.jpg"


def _escaped(text: str) -> str:
    """``text`` in one line that Markdown shows as it is, with no HTML, markup or table cells in it."""
    html = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*\[\]~])", r"\\\1", html)


def _one_line(text: str) -> str:
    """``text`` without line breaks, control characters and marks that reverse the direction of writing."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _last_part(source: str) -> str:
    """A folder or file by its last part; a name, and a hub id such as ``owner/name``, stay whole."""
    text = source.replace("\\", "/").rstrip("/")
    is_path = text.startswith(("/", ".", "~")) or text[1:2] == ":" or text.count("/") > 1
    return text.rsplit("/", 1)[-1] if is_path else text
