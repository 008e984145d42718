"""Detectors and segmenters at work: training, finding, every family as a backbone, refusals."""

import pytest
import torch
from dense_models import CLASSES, SMALL, flat_spec, lightened, objects, pyramid_spec, random_images
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.nn import functional as F

from metaformer import DenseSpec, SpecError, TimmSpec, WeightsError, create_detector, create_segmenter
from metaformer.errors import InputError
from metaformer.model.dense.anchors import RETINANET_SCALES, Anchors
from metaformer.model.dense.image import paste_masks
from metaformer.model.dense.mask_rcnn import AlignedPool, FlooredMatcher, crop_masks
from metaformer.zoo.catalogue import CATALOGUE

BACKBONES = {"pyramid": pyramid_spec(), "flat": flat_spec(), "cnn": TimmSpec(architecture="resnet18", num_classes=0)}
FAMILIES = {row.family: row.name for row in reversed(CATALOGUE.values())}
TIED = ("RandFormer", "MLP-Mixer", "ResMLP", "gMLP")


def train(model, targets=None):
    """The losses of one step, and the names of parameters that got no gradient."""
    losses = model(random_images(), objects() if targets is None else targets)
    sum(losses.values()).backward()
    return losses, [name for name, parameter in model.named_parameters() if parameter.grad is None]


# --- one step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn"])
def test_every_parameter_of_a_detector_learns(system, backbone):
    losses, unused = train(lightened(create_detector(system, BACKBONES[backbone], **SMALL)))
    assert unused == []
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn"])
def test_every_parameter_is_in_the_graph_without_a_single_object(system):
    empty = objects()[1]
    nothing = [{**empty, "masks": torch.zeros(0, 50, 70, dtype=torch.uint8)}, empty]
    losses, unused = train(lightened(create_detector(system, pyramid_spec(), **SMALL)), nothing)
    assert unused == []
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_parameter_of_a_segmenter_learns(backbone):
    model = create_segmenter(backbone=BACKBONES[backbone], **SMALL)
    scores = model(torch.randn(2, 3, 64, 96))
    assert scores.shape == (2, CLASSES, 64, 96)
    F.cross_entropy(scores, torch.randint(CLASSES, (2, 64, 96))).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn"])
def test_a_detector_learns_to_find_its_only_image(system):
    """A few steps on one image: what is found lies on the object, with its label, in the image's own pixels."""
    model = create_detector(system, pyramid_spec(), num_classes=2, short_side=64, long_side=64)
    image = torch.zeros(3, 128, 128)
    image[:, 32:96, 16:80] = 1.0
    mask = (image[:1] > 0.5).to(torch.uint8)
    target = {"boxes": torch.tensor([[16.0, 32, 80, 96]]), "labels": torch.tensor([1]), "masks": mask}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model([image], [target]).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        (found,) = model.eval()([image])
    assert (found["scores"][:-1] >= found["scores"][1:]).all()
    assert found["labels"][0] == 1
    assert (found["boxes"][0] - target["boxes"][0]).abs().max() < 10
    if system == "mask_rcnn":
        seen = found["masks"][0] > 0.5
        assert found["masks"].shape[1:] == (128, 128)
        assert (seen & mask[0].bool()).sum() / (seen | mask[0].bool()).sum() > 0.7


@pytest.mark.parametrize("label", range(CLASSES))
@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn"])
def test_labels_begin_at_zero(system, label):
    """A head that sees one class everywhere: that class is found, inside the image and nothing else."""
    model = lightened(create_detector(system, pyramid_spec(), **SMALL)).eval()
    heads = model.net.head.classification_head if system == "retinanet" else model.net.roi_heads.box_predictor
    bias = heads.cls_logits.bias if system == "retinanet" else heads.cls_score.bias
    with torch.no_grad():
        bias.view(-1, CLASSES if system == "retinanet" else CLASSES + 1)[:, label - CLASSES] = 8.0
        found = model(random_images())
    for objects_here, image in zip(found, random_images(), strict=True):
        height, width = image.shape[1:]
        assert len(objects_here["labels"]) > 0
        assert (objects_here["labels"][objects_here["scores"] > 0.5] == label).all()
        assert (objects_here["boxes"] >= 0).all()
        assert (objects_here["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()


# --- every family ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_zoo_carries_a_segmenter(family):
    with torch.device("meta"):
        square = family in TIED
        model = create_segmenter(backbone=FAMILIES[family], num_classes=4, short_side=64, square=square).eval()
        side = (64, 64) if square else (64, 96)
        assert model(torch.empty(1, 3, *side)).shape == (1, 4, *side)
        assert model.body.strides == [4, 8, 16, 32]


@pytest.mark.parametrize("mixer", ["spatial_fc", "spatial_mlp", "gating_unit", "random"])
def test_mixers_tied_to_a_grid_ask_for_squares_and_then_work(mixer):
    spec = flat_spec(mixer, prefix=0)
    with pytest.raises(SpecError, match=r"stages\.0\.blocks\.0\.mixer: .* square=True, short_side=64"):
        create_detector("retinanet", spec, **SMALL)
    model = create_detector("retinanet", spec, num_classes=2, short_side=96, square=True).eval()
    assert model.spec.backbone.img_size == (96, 96)
    with torch.no_grad():
        assert len(model(random_images())) == 2
    segmenter = create_segmenter(backbone=spec, num_classes=2, short_side=64, square=True)
    with pytest.raises(InputError, match="expected 64 × 64 pixels"):
        segmenter(torch.randn(1, 3, 64, 96))


def test_a_window_holds_a_mixer_tied_to_the_window_alone():
    spec = flat_spec(prefix=0).with_mixers(("window", {"mixer": "spatial_fc", "window": 2}))
    assert create_segmenter(backbone=spec, **SMALL).eval()(torch.randn(1, 3, 64, 96)).shape == (1, CLASSES, 64, 96)


@pytest.mark.parametrize(("stride", "strides"), [(32, [8, 16, 32, 64]), (8, [4, 8, 16, 32]), (4, [4, 8, 16, 32])])
def test_the_simple_pyramid_stands_around_the_stride_of_the_patches(stride, strides):
    model = create_segmenter(backbone=flat_spec(stride=stride), **SMALL)
    assert model.body.strides == strides
    maps = model.body(torch.randn(1, 3, 128, 64))
    assert [tuple(one.shape) for one in maps] == [
        (1, width, 128 // step, 64 // step) for width, step in zip(model.body.channels, strides, strict=True)
    ]


def test_a_smaller_stem_makes_finer_maps_and_anchors():
    model = create_detector("retinanet", pyramid_spec(), stem_stride=2, **SMALL)
    assert model.net.anchor_generator.strides == (4, 8, 16, 32, 64)


# --- parts against their definitions -----------------------------------------------------------------------------


def test_anchors_are_exact_and_stand_at_fixed_steps():
    anchors = Anchors((8,), RETINANET_SCALES)
    images = type("Images", (), {"image_sizes": [(17, 30)]})
    (boxes,) = anchors(images, [torch.zeros(1, 1, 2, 3)])
    assert boxes.shape == (2 * 3 * 9, 4)
    sizes = boxes[:9, 2:] - boxes[:9, :2]
    expected = [
        (8 * 4 * 2 ** (k / 3) / ratio**0.5, 8 * 4 * 2 ** (k / 3) * ratio**0.5)
        for ratio in (0.5, 1.0, 2.0)
        for k in range(3)
    ]
    assert torch.allclose(sizes, torch.tensor(expected))
    centers = (boxes[::9, :2] + boxes[::9, 2:]) / 2
    places = torch.tensor([[x * 8.0, y * 8.0] for y in range(2) for x in range(3)])
    assert torch.allclose(centers, places, atol=1e-4)


def test_regions_are_pooled_from_the_map_that_suits_their_size():
    pool = AlignedPool(7, (4, 8, 16, 32))
    sides = torch.tensor([10.0, 111, 113, 223, 225, 447, 449, 2000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert pool.level_of(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_pooling_reads_the_middle_of_the_cells():
    """On a ramp, a pooled cell is the ramp at the cell's middle: aligned, pixel i of the map stands at i + 0.5."""
    ramp = (torch.arange(16.0) + 0.5).expand(1, 1, 16, 16) * 4
    pooled = AlignedPool(7, (4,))({"0": ramp}, [torch.tensor([[8.0, 8, 36, 36]])])
    assert torch.allclose(pooled[0, 0, 3], 8 + 4 * (torch.arange(7.0) + 0.5), atol=1e-4)


def test_masks_cropped_and_pasted_are_the_same():
    mask = torch.zeros(1, 40, 60)
    mask[0, 10:30, 12:40] = 1
    box = torch.tensor([[12.0, 10, 40, 30]])
    cut = crop_masks(mask, box, torch.tensor([0]), 28)
    assert cut.mean() > 0.9
    assert torch.equal(paste_masks(cut, box, (40, 60)) > 0.5, mask > 0.5)


def test_masks_partly_or_wholly_outside_the_image_do_not_fail():
    boxes = torch.tensor([[-10.0, -10, 5, 5], [100, 100, 120, 120], [3, 3, 3, 3]])
    laid = paste_masks(torch.ones(3, 28, 28), boxes, (20, 20))
    assert laid[0, :4, :4].min() > 0.9
    assert laid[1].sum() == 0


@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn"])
def test_an_image_too_thin_for_a_pixel_of_height_is_widened(system):
    """A side of 3 pixels beside 600 would come to less than one where the long side is 96."""
    model = create_detector(system, pyramid_spec(), **SMALL)
    masks = torch.zeros(1, 3, 600, dtype=torch.uint8)
    masks[:, :, :300] = 1
    target = {"boxes": torch.tensor([[0.0, 0, 300, 3]]), "labels": torch.tensor([1]), "masks": masks}
    assert all(loss.isfinite() for loss in model([torch.rand(3, 3, 600)], [target]).values())
    with torch.inference_mode():
        (found,) = model.eval()([torch.rand(3, 3, 600)])
    assert (found["boxes"][:, 3] <= 3).all()


def test_an_object_without_a_good_anchor_takes_the_best_only_above_the_floor():
    overlaps = torch.tensor([[0.1, 0.2, 0.0], [0.0, 0.0, 0.35]])
    assert FlooredMatcher(0.7, 0.3, floor=0.3)(overlaps).tolist() == [-1, -1, 1]


def test_the_proposals_keep_their_precision_in_half():
    model = create_detector("retinanet", pyramid_spec(), **SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(random_images(), objects())
    assert all(loss.dtype == torch.float32 for loss in losses.values())


# --- conventions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_layers_fall_into_groups_by_depth(backbone):
    for model in (
        create_detector("retinanet", BACKBONES[backbone], **SMALL),
        create_segmenter(backbone=BACKBONES[backbone], **SMALL),
    ):
        groups = param_groups_layer_decay(
            model, weight_decay=0.1, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
        )
        scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        named = dict(model.named_parameters())
        head = next(name for name in reversed(named) if "body" not in name)
        assert scale[id(named[f"{model.first_conv}.weight"])] < scale[id(named[head])] == 1.0


def test_positions_are_not_decayed_and_recomputed_gradients_are_the_same():
    model = create_segmenter(backbone=flat_spec(), **SMALL)
    assert model.no_weight_decay() == {
        "backbone.body.stages.0.position.table",
        "backbone.body.stages.0.prefix.tokens",
    }
    model.head.dropout.p = 0.0
    images, seen = torch.randn(1, 3, 64, 64), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images).square().mean().backward()
        seen.append(model.backbone.body.stages[0].embed.conv.weight.grad.clone())
    assert torch.allclose(*seen, atol=1e-7)


def test_specs_survive_json_and_route_what_the_backbone_has():
    spec = create_detector("mask_rcnn", pyramid_spec(), square=True, short_side=64, num_classes=2).spec
    assert DenseSpec.from_json(spec.to_json()) == spec
    changed = spec.with_changes(short_side=96, drop_path_rate=0.1)
    assert changed.backbone.img_size == (96, 96)
    assert changed.drop_path_rate == changed.backbone.drop_path_rate == 0.1
    cnn = create_segmenter(backbone="resnet18", num_classes=2).spec
    assert DenseSpec.from_json(cnn.to_json()) == cnn


# --- refusals ----------------------------------------------------------------------------------------------------


def test_wrong_names_and_arguments_are_refused():
    with pytest.raises(InputError, match="create_segmenter builds"):
        create_detector("semantic_fpn")
    with pytest.raises(InputError, match="Did you mean 'retinanet'"):
        create_detector("retinannet")
    with pytest.raises(InputError, match="multiple of 32"):
        create_detector("retinanet", pyramid_spec(), square=True, short_side=100)
    with pytest.raises(InputError, match="long_side"):
        create_detector("retinanet", pyramid_spec(), short_side=100, long_side=90)
    with pytest.raises(InputError, match="leave it out"):
        create_detector("retinanet", pyramid_spec(), square=True, short_side=64, img_size=96)
    short = pyramid_spec().with_changes(stages=pyramid_spec().stages[:2])
    with pytest.raises(SpecError, match="three strides that double"):
        create_detector("retinanet", short)
    with pytest.raises(WeightsError, match=r"detection/README\.md"):
        create_detector("retinanet", pretrained=True, short_side=64)


def test_wrong_images_and_targets_are_refused():
    model = create_detector("mask_rcnn", pyramid_spec(), **SMALL)
    first, second = objects()
    images = random_images()
    cases = {
        "at least one image": ([], []),
        "list of \\(3, height": ([torch.rand(1, 20, 20)], [first]),
        "floating-point": ([torch.zeros(3, 20, 20, dtype=torch.uint8)], [first]),
        "one for each of 2": (images, [first]),
        "expected the objects of each": (images, None),
        "got boxes, labels": (images, [{k: first[k] for k in ("boxes", "labels")}, second]),
        "targets\\[0\\].masks": (images, [{**first, "masks": first["masks"][:, :10]}, second]),
        "targets\\[0\\].boxes: expected left < right": (images, [{**first, "boxes": first["boxes"] * 0}, second]),
        "targets\\[0\\].labels: expected 0 to 2": (images, [{**first, "labels": torch.tensor([0, 3])}, second]),
    }
    for message, (given, targets) in cases.items():
        with pytest.raises(InputError, match=message):
            model(given, targets)
