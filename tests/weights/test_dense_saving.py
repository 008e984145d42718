"""Detectors and segmenters to files and folders that say what they are, and back."""

import json

import pytest
import torch
from dense_models import CLASSES, SMALL, flat_spec, lightened, pyramid_spec, random_images

from metaformer import create_detector, create_segmenter, from_pretrained, load_model, save_pretrained, save_weights
from metaformer.errors import InputError, WeightsError
from metaformer.model.dense.detector import Detector, Segmenter
from metaformer.weights.save import read_description

NAMES = ("cat", "dog", "bird")


@pytest.mark.parametrize("backbone", [pyramid_spec(), flat_spec()], ids=["pyramid", "flat"])
@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn"])
def test_a_detector_comes_back_with_its_weights(tmp_path, system, backbone):
    model = lightened(create_detector(system, backbone, **SMALL).eval())
    path = save_weights(model, tmp_path / "model.safetensors", classes=NAMES)
    again = load_model(path)
    assert isinstance(again, Detector)
    assert (again.spec, again.name, again.preprocessing) == (model.spec, model.name, model.preprocessing)
    assert read_description(path).classes == NAMES
    with torch.no_grad():
        for one, other in zip(model(images := random_images()), lightened(again)(images), strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_segmenter_comes_back_from_a_folder_with_changes(tmp_path):
    model = create_segmenter(backbone=pyramid_spec(), **SMALL).eval()
    folder = save_pretrained(model, tmp_path / "folder", classes=NAMES)
    config = json.loads((folder / "config.json").read_text())
    assert config["metaformer"]["system"] == "semantic_fpn"
    card = (folder / "README.md").read_text()
    assert "image-segmentation" in card
    assert "Semantic FPN on a MetaFormer" in card
    again = from_pretrained(folder)
    assert isinstance(again, Segmenter)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), again(images))
    other = from_pretrained(folder, num_classes=CLASSES + 2, drop_path_rate=0.2, short_side=96)
    assert other.num_classes == CLASSES + 2
    assert other.spec.backbone.drop_path_rate == 0.2
    assert other.preprocessing.size == (96, 96)
    assert torch.equal(other.head.scales[3][2].conv.weight, model.head.scales[3][2].conv.weight)
    assert other(images).shape == (1, CLASSES + 2, 64, 64)


def test_changes_that_make_no_sense_are_refused(tmp_path):
    model = create_segmenter(backbone=pyramid_spec(), **SMALL)
    path = save_weights(model, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="img_size: cannot be changed"):
        load_model(path, img_size=96)
    with pytest.raises(WeightsError, match="3 names"):
        save_weights(model, path, classes=("one",))


def test_a_mixer_tied_to_a_grid_says_for_which_square_it_was_made(tmp_path):
    model = create_segmenter(backbone=flat_spec("spatial_fc", prefix=0), num_classes=2, short_side=64, square=True)
    path = save_weights(model, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="square=True, short_side=64"):
        load_model(path, short_side=96)
