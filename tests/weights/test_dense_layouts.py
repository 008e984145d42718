"""Whole detectors and segmenters in mmdet's and mmseg's layout: every tensor lands where it belongs."""

import re

import pytest
import torch
from dense_models import SMALL, flat_spec, pyramid_spec
from torch.nn import functional as F

from metaformer import WeightsError, create_detector, create_model, create_segmenter, load_weights

K = 3
DEPTHS = {"s12": (2, 2, 6, 2)}
WIDTHS = (64, 128, 320, 512)


def conv(name, out, inside, kernel, bias=True):
    tensors = {f"{name}.weight": torch.randn(out, inside, kernel, kernel)}
    return {**tensors, f"{name}.bias": torch.randn(out)} if bias else tensors


def linear(name, out, inside):
    return {f"{name}.weight": torch.randn(out, inside), f"{name}.bias": torch.randn(out)}


def norm(name, width):
    return {f"{name}.weight": torch.randn(width), f"{name}.bias": torch.randn(width)}


def poolformer(norms):
    """The stages of PoolFormer-S12 as the original's detectors and segmenters name them."""
    state = conv("backbone.patch_embed.proj", 64, 3, 7)
    for i, (depth, width) in enumerate(zip(DEPTHS["s12"], WIDTHS, strict=True)):
        if i:
            state |= conv(f"backbone.network.{2 * i - 1}.proj", width, WIDTHS[i - 1], 3)
        for j in range(depth):
            block = f"backbone.network.{2 * i}.{j}"
            state |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
            state |= conv(f"{block}.mlp.fc1", 4 * width, width, 1) | conv(f"{block}.mlp.fc2", width, 4 * width, 1)
            state |= {f"{block}.layer_scale_{k}": torch.randn(width) for k in (1, 2)}
        if i in norms:
            state |= norm(f"backbone.norm{2 * i}", width)
    return state


def neck(widths, extra):
    state = {}
    for i, width in enumerate(widths):
        state |= conv(f"neck.lateral_convs.{i}.conv", 256, width, 1)
        state |= conv(f"neck.fpn_convs.{i}.conv", 256, 256, 3)
    for k in range(extra):
        state |= conv(f"neck.fpn_convs.{len(widths) + k}.conv", 256, 256 if k else widths[-1], 3)
    return state


def retinanet():
    state = poolformer((1, 2, 3)) | neck(WIDTHS[1:], 2)
    for branch in ("cls_convs", "reg_convs"):
        for i in range(4):
            state |= conv(f"bbox_head.{branch}.{i}.conv", 256, 256, 3)
    return state | conv("bbox_head.retina_cls", 9 * K, 256, 3) | conv("bbox_head.retina_reg", 36, 256, 3)


def mask_rcnn():
    state = poolformer(range(4)) | neck(WIDTHS, 0) | conv("rpn_head.rpn_conv", 256, 256, 3)
    state |= conv("rpn_head.rpn_cls", 3, 256, 1) | conv("rpn_head.rpn_reg", 12, 256, 1)
    box, mask = "roi_head.bbox_head", "roi_head.mask_head"
    state |= linear(f"{box}.shared_fcs.0", 1024, 256 * 49) | linear(f"{box}.shared_fcs.1", 1024, 1024)
    state |= linear(f"{box}.fc_cls", K + 1, 1024) | linear(f"{box}.fc_reg", 4 * K, 1024)
    for i in range(4):
        state |= conv(f"{mask}.convs.{i}.conv", 256, 256, 3)
    state |= {f"{mask}.upsample.weight": torch.randn(256, 256, 2, 2), f"{mask}.upsample.bias": torch.randn(256)}
    return state | conv(f"{mask}.conv_logits", K, 256, 1)


def semantic_fpn():
    state = poolformer(range(4)) | neck(WIDTHS, 0)
    for i, places in enumerate(((0,), (0,), (0, 2), (0, 2, 4))):
        for j in places:
            block = f"decode_head.scale_heads.{i}.{j}"
            state |= conv(f"{block}.conv", 128, 128 if j else 256, 3, bias=False) | norm(f"{block}.bn", 128)
            state |= {f"{block}.bn.running_mean": torch.randn(128), f"{block}.bn.running_var": torch.rand(128) + 0.5}
            state |= {f"{block}.bn.num_batches_tracked": torch.tensor(7)}
    return state | conv("decode_head.conv_seg", K, 128, 1)


def same(model, state, pairs):
    tensors = model.state_dict()
    for ours, theirs in pairs.items():
        assert torch.equal(tensors[ours].flatten(), state[theirs].flatten()), ours


BODY = {
    "stages.0.embed.conv.weight": "backbone.patch_embed.proj.weight",
    "stages.2.embed.conv.bias": "backbone.network.3.proj.bias",
    "stages.3.blocks.1.mlp.fc1.weight": "backbone.network.6.1.mlp.fc1.weight",
    "stages.1.blocks.0.branch2.layer_scale.scale": "backbone.network.2.0.layer_scale_2",
    "norms.2.weight": "backbone.norm4.weight",
    "norms.3.bias": "backbone.norm6.bias",
}


def in_body(prefix):
    return {prefix + ours: theirs for ours, theirs in BODY.items()}


def test_retinanet_of_mmdet_lands_in_its_places():
    model, state = create_detector("retinanet", num_classes=K), retinanet()
    report = load_weights(model, {"meta": {"epoch": 12}, "state_dict": state})
    assert report.layout == "mmdet"
    assert report.loaded == len(state) == len(model.state_dict())
    head = {
        "classification_head": ("cls_convs", "cls_logits", "cls"),
        "regression_head": ("reg_convs", "bbox_reg", "reg"),
    }
    pairs = {
        "net.backbone.fpn.inner_blocks.0.0.weight": "neck.lateral_convs.0.conv.weight",
        "net.backbone.fpn.layer_blocks.2.0.bias": "neck.fpn_convs.2.conv.bias",
        "net.backbone.fpn.extra_blocks.p6.weight": "neck.fpn_convs.3.conv.weight",
        "net.backbone.fpn.extra_blocks.p7.weight": "neck.fpn_convs.4.conv.weight",
    }
    for ours, (convs, last, theirs) in head.items():
        pairs[f"net.head.{ours}.conv.3.0.weight"] = f"bbox_head.{convs}.3.conv.weight"
        pairs[f"net.head.{ours}.{last}.weight"] = f"bbox_head.retina_{theirs}.weight"
    same(model, state, in_body("net.backbone.body.") | pairs)


def test_retinanet_scores_mean_what_they_mean_in_mmdet():
    """Channel a·K + k of a place is class k of anchor a, in both; so are box codes, 4 to an anchor."""
    model, state = create_detector("retinanet", pyramid_spec(), **SMALL).eval(), retinanet()
    maps = [torch.randn(1, 256, 2, 3)]
    head = model.net.head
    theirs = {name: tensor for name, tensor in state.items() if name.startswith("bbox_head.")}
    ours = {}
    for name, tensor in theirs.items():
        name = re.sub(r"bbox_head\.cls_convs\.(\d)\.conv", r"classification_head.conv.\1.0", name)
        name = re.sub(r"bbox_head\.reg_convs\.(\d)\.conv", r"regression_head.conv.\1.0", name)
        name = name.replace("bbox_head.retina_cls", "classification_head.cls_logits")
        ours[name.replace("bbox_head.retina_reg", "regression_head.bbox_reg")] = tensor * 0.02
    head.load_state_dict(ours)
    x = y = maps[0]
    for i in range(4):
        cls, reg = (f"bbox_head.{branch}_convs.{i}.conv" for branch in ("cls", "reg"))
        x = F.conv2d(x, 0.02 * state[f"{cls}.weight"], 0.02 * state[f"{cls}.bias"], padding=1).relu()
        y = F.conv2d(y, 0.02 * state[f"{reg}.weight"], 0.02 * state[f"{reg}.bias"], padding=1).relu()
    scores, codes = (
        F.conv2d(z, 0.02 * state[f"bbox_head.retina_{n}.weight"], 0.02 * state[f"bbox_head.retina_{n}.bias"], padding=1)
        for z, n in ((x, "cls"), (y, "reg"))
    )
    with torch.no_grad():
        found = head(maps)
    assert torch.allclose(found["cls_logits"], scores.permute(0, 2, 3, 1).reshape(1, -1, K), atol=1e-4)
    assert torch.allclose(found["bbox_regression"], codes.permute(0, 2, 3, 1).reshape(1, -1, 4), atol=1e-4)


def test_mask_rcnn_of_mmdet_lands_in_its_places_with_background_in_front():
    model, state = create_detector("mask_rcnn", num_classes=K), mask_rcnn()
    report = load_weights(model, state)
    assert (report.layout, report.loaded) == ("mmdet", len(model.state_dict()))
    heads = "net.roi_heads"
    pairs = {
        "net.backbone.body.norms.0.weight": "backbone.norm0.weight",
        "net.backbone.fpn.layer_blocks.3.0.weight": "neck.fpn_convs.3.conv.weight",
        "net.rpn.head.conv.0.0.weight": "rpn_head.rpn_conv.weight",
        "net.rpn.head.cls_logits.weight": "rpn_head.rpn_cls.weight",
        "net.rpn.head.bbox_pred.bias": "rpn_head.rpn_reg.bias",
        f"{heads}.box_head.fc6.weight": "roi_head.bbox_head.shared_fcs.0.weight",
        f"{heads}.box_head.fc7.bias": "roi_head.bbox_head.shared_fcs.1.bias",
        f"{heads}.box_predictor.bbox_pred.weight": "roi_head.bbox_head.fc_reg.weight",
        f"{heads}.mask_head.2.0.weight": "roi_head.mask_head.convs.2.conv.weight",
        f"{heads}.mask_predictor.conv5_mask.weight": "roi_head.mask_head.upsample.weight",
        f"{heads}.mask_predictor.mask_fcn_logits.weight": "roi_head.mask_head.conv_logits.weight",
    }
    same(model, state, in_body("net.backbone.body.") | pairs)
    ours, theirs = model.net.roi_heads.box_predictor.cls_score, state["roi_head.bbox_head.fc_cls.weight"]
    assert torch.equal(ours.weight[0], theirs[K])
    assert torch.equal(ours.weight[1:], theirs[:K])
    assert torch.equal(ours.bias[0], state["roi_head.bbox_head.fc_cls.bias"][K])


def test_semantic_fpn_of_mmseg_gives_the_numbers_of_its_definition():
    """The neck and the head written down once more, straight from the checkpoint's names."""
    model, state = create_segmenter(num_classes=K).eval(), semantic_fpn()
    state = {name: tensor * 0.03 if tensor.ndim == 4 else tensor for name, tensor in state.items()}
    report = load_weights(model, {"state_dict": state})
    assert (report.layout, report.loaded) == ("mmseg", len(model.state_dict()))
    same(model, state, in_body("backbone.body."))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = segmented(state, model.body(images))
        expected = F.interpolate(expected, size=(64, 96), mode="bilinear", align_corners=False)
        assert torch.allclose(model(images), expected, atol=1e-4 * float(expected.abs().max()))


def segmented(state, maps):
    def convolved(x, name, padding):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)

    levels = [convolved(x, f"neck.lateral_convs.{i}.conv", 0) for i, x in enumerate(maps)]
    for i in (3, 2, 1):
        levels[i - 1] = levels[i - 1] + F.interpolate(levels[i], size=levels[i - 1].shape[2:], mode="nearest")
    total = 0
    for i, level in enumerate(levels):
        x = convolved(level, f"neck.fpn_convs.{i}.conv", 1)
        for j in range(max(i, 1)):
            block = f"decode_head.scale_heads.{i}.{2 * j}"
            x = convolved(x, f"{block}.conv", 1)
            mean, var = (state[f"{block}.bn.running_{part}"][:, None, None] for part in ("mean", "var"))
            weight, bias = (state[f"{block}.bn.{part}"][:, None, None] for part in ("weight", "bias"))
            x = ((x - mean) / (var + 1e-5).sqrt() * weight + bias).relu()
            if i:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + F.interpolate(x, size=levels[0].shape[2:], mode="bilinear", align_corners=False)
    return convolved(total, "decode_head.conv_seg", 0)


def test_other_classes_leave_all_of_their_layers_fresh():
    model = create_detector("mask_rcnn", num_classes=K + 2)
    report = load_weights(model, mask_rcnn())
    names = ("cls_score", "bbox_pred", "mask_fcn_logits")
    assert {name.split(".")[-2] for name in report.fresh} == set(names)
    assert len(report.fresh) == 6
    assert model.net.roi_heads.box_predictor.cls_score.weight.std() < 0.05


def test_files_of_another_kind_say_where_they_belong():
    classifier = create_model(pyramid_spec())
    with pytest.raises(WeightsError, match="backbone_weights="):
        load_weights(create_segmenter(backbone=pyramid_spec(), **SMALL), classifier.state_dict())
    for state in (semantic_fpn(), create_segmenter(backbone=pyramid_spec(), **SMALL).state_dict()):
        with pytest.raises(WeightsError, match=r"create_detector\(\.\.\., weights="):
            load_weights(classifier, state)
    model = create_detector("retinanet", num_classes=K)
    with pytest.raises(WeightsError, match="weights of a mask_rcnn, and the model is a retinanet"):
        load_weights(model, mask_rcnn())
    ours = create_segmenter(backbone=pyramid_spec(), **SMALL)
    with pytest.raises(WeightsError, match="weights of a semantic_fpn, and the model is a retinanet"):
        load_weights(model, ours.state_dict())


# --- a classifier's weights into the backbone ---------------------------------------------------------------------


def randomized(spec):
    model = create_model(spec)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("system", ["retinanet", "mask_rcnn", "semantic_fpn"])
def test_a_classifiers_stages_become_the_backbone_and_its_norm_does_not(system):
    classifier = randomized(pyramid_spec())
    create = create_segmenter if system == "semantic_fpn" else create_detector
    model = create(system, pyramid_spec(), backbone_weights=classifier.state_dict(), **SMALL)
    ours = {name.removeprefix(model.body_name): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in classifier.backbone.state_dict().items():
        assert torch.equal(ours[name], tensor), name
    assert torch.equal(ours["norms.3.weight"], torch.ones(20))


def test_an_isotropic_classifier_gives_its_final_norm_too(tmp_path):
    classifier = randomized(flat_spec())
    torch.save({"model": classifier.state_dict()}, tmp_path / "classifier.pth")
    model = create_segmenter(backbone=flat_spec(), backbone_weights=tmp_path / "classifier.pth", **SMALL)
    assert torch.equal(model.body.norm.weight, classifier.head.pre_norm.weight)
    position = classifier.backbone.stages[0].position.table
    assert torch.equal(model.body.stages[0].position.table, position)


def test_position_tables_are_resampled_for_a_square_model():
    classifier = randomized(flat_spec())
    model = create_segmenter(
        backbone=flat_spec(), backbone_weights=classifier.state_dict(), num_classes=2, short_side=96, square=True
    )
    assert model.body.stages[0].position.table.shape == (1, 1 + 36, 16)


def test_cnns_take_timms_names():
    classifier = create_model("resnet18", num_classes=7)
    theirs = {name.removeprefix("cnn."): tensor for name, tensor in classifier.state_dict().items()}
    model = create_detector("retinanet", "resnet18", backbone_weights=theirs, **SMALL)
    assert torch.equal(model.body.cnn.layer4[1].conv2.weight, classifier.cnn.layer4[1].conv2.weight)
