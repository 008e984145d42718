"""Downloads, the cache, and the Hugging Face way of saving, against a local hub."""

import json
import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

import metaformer
from metaformer.errors import WeightsError
from metaformer.weights.download import fetch
from metaformer.weights.hub import describe_source, from_pretrained, push_to_hub, save_pretrained
from metaformer.weights.load import load_pretrained, load_weights
from metaformer.weights.translate import to_layout
from metaformer.zoo.published_model import WeightSource

from .fake_hub import FakeHub

CLASSES = ("ant", "bee", "cat", "dog", "eel")
SOON = 3.0  # seconds; the hub's client alone gives up after 23


def pickled(state: dict) -> bytes:
    buffer = BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_a_hub_id_loads_and_is_served_from_the_cache_when_the_hub_is_down(tiny, hub: FakeHub) -> None:
    model = tiny()
    hub.repos["timm/tiny"] = {"model.safetensors": save(to_layout(model, "timm"))}
    assert load_weights(tiny(), "timm/tiny").layout == "timm"
    hub.stop()
    start = time.perf_counter()
    again = tiny()
    load_weights(again, "timm/tiny")
    assert time.perf_counter() - start < SOON
    assert torch.equal(again.head.fc.weight, model.head.fc.weight)


def test_a_file_of_a_repository_is_named_behind_a_colon(tiny, hub: FakeHub) -> None:
    hub.repos["sail/dl"] = {"family/tiny.pth": pickled(to_layout(tiny(), "official"))}
    assert load_weights(tiny(), "sail/dl:family/tiny.pth").layout == "official-v1"


def test_the_older_file_name_is_found_too(tiny, hub: FakeHub) -> None:
    hub.repos["sail/tiny"] = {"pytorch_model.bin": pickled(to_layout(tiny(), "huggingface"))}
    assert load_weights(tiny(), "sail/tiny").layout == "huggingface"


def test_the_second_source_is_taken_where_the_first_lacks_it(tiny, hub: FakeHub) -> None:
    hub.repos["sail/dl"] = {"a.pth": b"content"}
    sources = (WeightSource(repo="timm/none"), WeightSource(repo="sail/dl", file="a.pth"))
    path, source = fetch(sources)
    assert path.read_bytes() == b"content"
    assert source is sources[1]


def test_a_plain_address_is_kept_too(hub: FakeHub) -> None:
    hub.repos["any/thing"] = {"a.pth.tar": b"content"}
    source = WeightSource(url=f"{hub.url}/any/thing/resolve/main/a.pth.tar")
    assert fetch([source])[0].read_bytes() == b"content"
    hub.stop()
    assert fetch([source])[0].name == "a.pth.tar"


def test_failed_downloads_are_listed_with_reasons_and_advice(hub: FakeHub) -> None:
    hub.repos["timm/there"] = {}
    sources = (
        WeightSource(repo="timm/there"),
        WeightSource(repo="timm/none", file="a.bin"),
        WeightSource(url=f"{hub.url}/none.pth"),
    )
    with pytest.raises(WeightsError) as caught:
        fetch(sources)
    message = str(caught.value)
    assert "timm/there/model.safetensors: the repository has no such file" in message
    assert "timm/none/a.bin: there is no such repository" in message
    assert "none.pth: the server answered 404" in message
    for word in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME", "weights=PATH"):
        assert word in message


def test_a_hub_that_is_down_fails_at_once(hub: FakeHub) -> None:
    hub.stop()
    with torch.device("meta"):
        model = metaformer.create_model("poolformerv2_s12")
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        load_pretrained(model)
    assert time.perf_counter() - start < SOON
    message = str(caught.value)
    assert "timm/poolformerv2_s12.sail_in1k/model.safetensors: not in the cache" in message
    assert "sail/dl/poolformerv2/poolformerv2_s12.pth: not in the cache" in message
    assert f"{hub.url} cannot be reached" in message


def test_offline_mode_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    sources = (WeightSource(repo="timm/a"), WeightSource(url=f"{hub.url}/a.pth"))
    with pytest.raises(WeightsError) as caught:
        fetch(sources)
    assert str(caught.value).count("and HF_HUB_OFFLINE=1 turns requests off") == 2
    assert hub.requests == []


def test_an_error_of_the_hub_is_quoted(hub: FakeHub) -> None:
    hub.refuses_with = 503
    with pytest.raises(WeightsError, match="answered 503"):
        fetch([WeightSource(repo="timm/a")])


def test_models_without_published_weights_say_so(tiny) -> None:
    with pytest.raises(WeightsError, match="no published weights are known for 'custom'"):
        load_pretrained(tiny())


SCRIPT = """
import sys, time
import metaformer
for name in sys.argv[1:]:
    start = time.perf_counter()
    try:
        model = metaformer.create_model(name, pretrained=True, num_classes=10)
        print(name, float(model.backbone.stages[0].embed.conv.weight.detach().sum()))
    except metaformer.WeightsError as error:
        print(name, "refused", time.perf_counter() - start)
"""


def in_a_process(hub: FakeHub, home: Path, *names: str, **environment: str) -> dict[str, list[str]]:
    """What the script printed of each model, with the hub named in the environment as a person would."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "TORCH_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}


def test_pretrained_models_come_from_the_hub_and_then_from_the_cache(tmp_path: Path) -> None:
    model = metaformer.create_model("poolformer_s12", timm_head=True)
    published = float(model.backbone.stages[0].embed.conv.weight.detach().sum())
    with FakeHub() as hub:
        hub.repos["timm/poolformer_s12.sail_in1k"] = {"model.safetensors": save(to_layout(model, "timm"))}
        online = in_a_process(hub, tmp_path, "poolformer_s12")
        assert float(online["poolformer_s12"][0]) == published
        assert "GET /timm/poolformer_s12.sail_in1k/resolve/main/model.safetensors" in " ".join(hub.requests)
    offline = in_a_process(hub, tmp_path, "poolformer_s12", "poolformerv2_s12", HF_HUB_OFFLINE="1")
    assert float(offline["poolformer_s12"][0]) == published
    refused, seconds = offline["poolformerv2_s12"]
    assert refused == "refused"
    assert float(seconds) < SOON


def test_saved_the_hugging_face_way(tiny, tmp_path: Path) -> None:
    model = tiny()
    folder = save_pretrained(model, tmp_path / "saved", classes=CLASSES)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["library_name"] == "metaformer"
    assert config["label_names"] == list(CLASSES)
    assert config["num_classes"] == 5
    assert config["task"] == "classification"
    assert metaformer.ModelSpec.from_dict(config["metaformer"]) == model.spec
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: metaformer\npipeline_tag: image-classification\n")
    assert "ant, bee, cat, dog, eel" in card
    again = from_pretrained(folder)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(images), model(images))
    assert describe_source(folder).classes == CLASSES


def test_a_given_card_is_kept(tiny, tmp_path: Path) -> None:
    ready = "---\nlicense: mit\n---\n# Mine\n"
    save_pretrained(tiny(), tmp_path, card=ready)
    assert (tmp_path / "README.md").read_text() == ready
    save_pretrained(tiny(), tmp_path, card="# Mine")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: metaformer")
    assert text.rstrip().endswith("# Mine")


def test_a_single_file_and_a_runs_folder_are_sources_too(tiny, tmp_path: Path) -> None:
    from metaformer.weights.save import save_weights

    model = tiny()
    path = save_weights(model, tmp_path / "best.safetensors")
    (tmp_path / "config.json").write_text("{}")
    for source in (path, tmp_path, str(tmp_path)):
        assert torch.equal(from_pretrained(source).head.fc.weight, model.head.fc.weight)


def test_pushed_and_pulled(tiny, hub: FakeHub) -> None:
    model = tiny()
    address = push_to_hub(model, "someone/tiny", classes=CLASSES, token="hf_secret", card="# Tiny")
    assert address.startswith(f"{hub.url}/someone/tiny/commit/")
    assert hub.tokens == {"Bearer hf_secret"}
    assert set(hub.repos["someone/tiny"]) == {"README.md", "config.json", "model.safetensors"}
    again = from_pretrained("someone/tiny", num_classes=2)
    assert torch.equal(again.head.pre_norm.weight, model.head.pre_norm.weight)
    assert again(torch.randn(1, 3, 64, 64)).shape == (1, 2)
    assert describe_source("someone/tiny").classes == CLASSES
    hub.stop()
    assert torch.equal(from_pretrained("someone/tiny").head.fc.weight, model.head.fc.weight)


def test_options_of_the_hub_are_passed_on(tiny, hub: FakeHub, tmp_path: Path) -> None:
    model = tiny()
    push_to_hub(model, "someone/tiny", classes=CLASSES)
    options = {"revision": "v1", "cache_dir": tmp_path / "mine", "token": "hf_secret"}
    with pytest.raises(WeightsError, match="local_files_only=True rules out a download"):
        from_pretrained("someone/tiny", **options, local_files_only=True)
    hub.requests.clear()
    hub.tokens.clear()
    assert torch.equal(from_pretrained("someone/tiny", **options).head.fc.weight, model.head.fc.weight)
    assert "HEAD /someone/tiny/resolve/v1/config.json" in hub.requests
    assert hub.tokens == {"Bearer hf_secret"}
    assert (tmp_path / "mine" / "models--someone--tiny").is_dir()
    hub.requests.clear()
    again = from_pretrained("someone/tiny", **options, local_files_only=True)
    assert torch.equal(again.head.fc.weight, model.head.fc.weight)
    assert hub.requests == []


def test_a_refused_upload_says_how_to_log_in(tiny, hub: FakeHub) -> None:
    hub.refuses_with = 401
    with pytest.raises(WeightsError, match=r"someone/tiny: cannot be uploaded: .* answered 401; log in"):
        push_to_hub(tiny(), "someone/tiny", token="hf_secret")


def test_a_repository_of_another_library_is_refused_with_advice(tiny, hub: FakeHub) -> None:
    files = {"config.json": b'{"architecture": "tiny"}', "model.safetensors": save(to_layout(tiny(), "timm"))}
    hub.repos["timm/tiny"] = files
    with pytest.raises(WeightsError, match=r"create_model\(NAME\)"):
        from_pretrained("timm/tiny")


def test_a_damaged_config_is_named(tiny, tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json: not valid JSON"):
        from_pretrained(tmp_path)


def test_a_config_with_entries_of_other_tools_opens_and_a_wrong_one_is_named(tiny, tmp_path: Path) -> None:
    path = save_pretrained(tiny(), tmp_path) / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"added_by": "another tool"}))
    assert from_pretrained(tmp_path).spec == tiny().spec
    path.write_text(json.dumps(config | {"metaformer": {"stages": 3}}))
    with pytest.raises(WeightsError, match=r"its config\.json cannot be read: metaformer\.stages: expected"):
        from_pretrained(tmp_path)
