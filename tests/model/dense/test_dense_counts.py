"""The first paper's detectors and segmenters (sections 4.2, 4.3): exact counts, or as printed for the others."""

import pytest
import torch

from metaformer import count_parameters, create_detector, create_segmenter

RETINANET = {"poolformer_s12": 21_653_044, "poolformer_s24": 31_126_836, "poolformer_s36": 40_600_628}
MASK_RCNN = {"poolformer_s12": 31_570_608, "poolformer_s24": 41_044_400, "poolformer_s36": 50_518_192}
SEMANTIC_FPN = {
    "poolformer_s12": 15_669_846,
    "poolformer_s24": 25_143_638,
    "poolformer_s36": 34_617_430,
    "poolformer_m36": 59_778_006,
    "poolformer_m48": 77_078_934,
}
# millions, as printed
RESNETS = {"resnet18": (21.3, 31.2), "resnet50": (37.7, 44.2), "resnet101": (56.7, 63.2)}
OTHERS = {
    "resnet50": 28.5,
    "resnet101": 47.5,
    "resnext101_32x4d": 47.1,
    "resnext101_64x4d": 86.4,
    "pvt_tiny": 17.0,
    "pvt_small": 28.2,
    "pvt_medium": 48.0,
    "pvt_large": 65.1,
}


@pytest.fixture(autouse=True)
def _only_shapes():
    with torch.device("meta"):
        yield


def millions(count: int) -> float:
    return round(count / 1e6, 1)


@pytest.mark.parametrize("backbone", RETINANET)
def test_retinanet_and_mask_rcnn_have_the_exact_counts(backbone):
    assert count_parameters(create_detector("retinanet", backbone)) == RETINANET[backbone]
    assert count_parameters(create_detector("mask_rcnn", backbone)) == MASK_RCNN[backbone]


@pytest.mark.parametrize("backbone", SEMANTIC_FPN)
def test_semantic_fpn_has_the_exact_count(backbone):
    assert count_parameters(create_segmenter("semantic_fpn", backbone)) == SEMANTIC_FPN[backbone]


@pytest.mark.parametrize("backbone", OTHERS)
def test_semantic_fpn_on_other_systems_has_the_printed_count(backbone):
    assert millions(count_parameters(create_segmenter(backbone=backbone))) == OTHERS[backbone]


def test_semantic_fpn_on_resnet18_differs_by_the_stem_of_three_convolutions():
    """The table's 15.5 M are of a variant with a deeper stem; timm's ResNet-18 has the plain one."""
    ours = count_parameters(create_segmenter(backbone="resnet18"))
    deep = 27 * 32 + 32 * 32 * 9 + 32 * 64 * 9 + 2 * (32 + 32 + 64)
    plain = 49 * 3 * 64 + 2 * 64
    assert ours == 15_426_774
    assert 15.4 < (ours - plain + deep) / 1e6 < 15.5


@pytest.mark.parametrize("backbone", RESNETS)
def test_detectors_on_resnets_have_the_printed_count_of_trained_parameters(backbone):
    """The table leaves out what was frozen there: the stem and the first stage."""
    for system, printed in zip(("retinanet", "mask_rcnn"), RESNETS[backbone], strict=True):
        model = create_detector(system, backbone)
        cnn = model.body.cnn
        frozen = sum(count_parameters(part) for part in (cnn.conv1, cnn.bn1, cnn.layer1))
        assert millions(count_parameters(model) - frozen) == printed


def test_retinanet_takes_no_map_of_the_first_stage():
    model = create_detector("retinanet")
    assert model.body.channels == [128, 320, 512]
    assert model.neck.strides == [8, 16, 32, 64, 128]
    assert list(model.body.norms) == ["1", "2", "3"]
    assert model.neck.fpn.extra_blocks.p6.in_channels == 512
