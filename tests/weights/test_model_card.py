"""A model's README.md for the hub: what the hub reads in it, and that names cannot break it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from dense_models import SMALL, pyramid_spec
from PIL import Image

import metaformer
from metaformer.weights.description import describe
from metaformer.weights.model_card import CardFacts, model_card
from metaformer.weights.save import save_weights

from .conftest import text_spec

CLASSES = ("ant", "bee", "cat", "dog", "eel")


def front_matter(card: str) -> dict[str, Any]:
    """The part between the first two lines of three hyphens."""
    return yaml.safe_load(card.split("---\n", 2)[1])


def card_of(model: torch.nn.Module, classes: tuple[str, ...] | None = None, **facts: Any) -> str:
    return model_card(describe(model, classes), CardFacts(**facts))


def test_metrics_and_base_model_are_in_the_front_matter(tiny) -> None:
    card = card_of(
        tiny(), CLASSES, metrics={"top1": 0.95, "loss": 0.2}, dataset="digits", base_model="timm/a", repo_id="me/tiny"
    )
    matter = front_matter(card)
    assert (matter["library_name"], matter["pipeline_tag"]) == ("metaformer", "image-classification")
    assert matter["base_model"] == "timm/a"
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"]["name"] == "digits"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"top1": 0.95, "loss": 0.2}
    for text in ('from_pretrained("me/tiny")'.replace('"', "'"), "| Metric on digits | Value |", "| top1 | 0.9500 |"):
        assert text in card


def test_the_example_runs(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    folder = metaformer.save_pretrained(model, tmp_path / "tiny", classes=CLASSES)
    Image.new("RGB", (70, 80), "red").save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    card = model_card(describe(model, CLASSES), CardFacts(repo_id=str(folder)))
    names: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    assert names["results"][0].to_dict()
    assert torch.equal(names["model"].head.fc.weight, model.head.fc.weight)


def test_without_metrics_there_are_no_results(tiny) -> None:
    card = card_of(tiny())
    assert front_matter(card).keys() == {"library_name", "pipeline_tag", "tags"}
    assert "Metric" not in card


@pytest.mark.parametrize(
    ("create", "tag"),
    [
        (lambda: metaformer.create_detector("retinanet", pyramid_spec(), **SMALL), "object-detection"),
        (lambda: metaformer.create_segmenter(backbone=pyramid_spec(), **SMALL), "image-segmentation"),
    ],
)
def test_the_pipeline_tag_follows_the_task(create, tag: str) -> None:
    with torch.device("meta"):
        card = card_of(create())
    assert front_matter(card)["pipeline_tag"] == tag
    assert tag in front_matter(card)["tags"]


def test_a_model_of_text_says_what_goes_in() -> None:
    card = card_of(metaformer.build(text_spec(24)))
    assert front_matter(card)["pipeline_tag"] == "text-classification"
    assert "for sequences of up to 24 tokens; 3 classes." in card


def test_names_cannot_break_a_card(tiny) -> None:
    model = tiny()
    model.name = "<b>mine</b>\n# head"
    names = ("<script>", "a | b\nc", "--- \n# head", "`code` [link](x)", "bell\x07 and \u202eturned")
    card = card_of(model, names, metrics={"a|b": 0.5})
    assert front_matter(card)["model-index"][0]["name"] == "<b>mine</b> # head"
    body = card.split("---\n", 2)[2]
    assert "<" not in body
    assert "# &lt;b&gt;mine&lt;/b&gt; # head\n" in body
    assert "a \\| b c" in body
    assert "| a\\|b | 0.5000 |" in body
    assert "\\`code\\` \\[link\\](x)" in body
    assert all(mark not in card for mark in ("\x07", "\u202e"))
    assert not any(line.startswith(("# head", "---")) for line in body.splitlines())


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("/home/me/secret/flowers/", "flowers"),
        ("C:\\secret\\flowers", "flowers"),
        ("~/flowers", "flowers"),
        ("me/set", "me/set"),
    ],
)
def test_a_card_names_no_folders_of_this_machine(tiny, dataset: str, name: str) -> None:
    card = card_of(tiny(), metrics={"top1": 1.0}, dataset=dataset)
    assert "secret" not in card
    assert front_matter(card)["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_a_weights_file_gives_its_classes_and_metrics(tiny, tmp_path: Path) -> None:
    noted = {"metrics": '{"lr": 0.1, "train_loss": 1.0, "top1": 0.5, "ema_top1": 0.75, "ema_loss": NaN}'}
    model = tiny()
    for averaged, top1 in (("true", 0.75), ("false", 0.5)):
        file = save_weights(
            model, tmp_path / "best.safetensors", classes=CLASSES, extra={**noted, "averaged": averaged}
        )
        folder = metaformer.save_pretrained(file, tmp_path / averaged)
        card = (folder / "README.md").read_text()
        (result,) = front_matter(card)["model-index"][0]["results"]
        assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"top1": top1}
        assert "ant, bee, cat, dog, eel" in card
        assert torch.equal(metaformer.from_pretrained(folder).head.fc.weight, model.head.fc.weight)
