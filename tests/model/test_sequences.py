"""Laws of models over sequences of token ids: padding changes no real token, whatever mixes them."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from random_twins import randomized
from torch import Tensor, nn
from torch.nn import functional as F

from metaformer.errors import InputError, SpecError
from metaformer.model.build import MIXERS, build, build_mixer
from metaformer.model.complexity import count_macs
from metaformer.model.heads import FirstReadout, MeanReadout
from metaformer.model.layers import BatchNorm, GroupNorm
from metaformer.model.mixers.convolution import OnMap
from metaformer.model.mixers.fourier import Fourier
from metaformer.model.mixers.pooling import Pooling
from metaformer.model.mixers.spatial import RandomMixing
from metaformer.spec.dense import DenseSpec
from metaformer.spec.input import ImageInput, TokenInput
from metaformer.spec.mixer import Mixer, MixerSpec, as_mixer
from metaformer.spec.model import EmbeddingSpec, HeadSpec, ModelSpec, NormSpec, StageSpec, TimmSpec

LENGTH, WIDTH = 24, 32
LOOKUP = EmbeddingSpec(kind="token", norm=NormSpec(eps=1e-12))
IN_WINDOWS = [
    f"window(mixer={inner!r}, window=4, shift={shift!r})"
    for inner, shift in (("attention", "roll"), ("attention", "pad"), ("pooling", "pad"), ("spatial_fc", "none"))
]
OBEDIENT = [
    *(name for name in MIXERS if name not in ("fourier", "window", "reduced_attention")),
    "pooling(kernel=7, subtract=False)",
    "attention(relative_position=True)",
    "spatial_fc(bias=True, heads=4)",
    "reduced_attention(ratio=1, head_dim=16)",
    "reduced_attention(ratio=2, head_dim=16)",
    "reduced_attention(ratio=5, head_dim=16)",
    *IN_WINDOWS,
]
"""Mixers that can leave padding out."""


def line_mixer(written: str, prefix: int = 0, block: int = 1) -> nn.Module:
    built = build_mixer(as_mixer(written), WIDTH, {"grid": (LENGTH,), "prefix_tokens": prefix, "block": block})
    return built if isinstance(built, RandomMixing) else randomized(built)


def real(batch: int, length: int, lengths: list[int]) -> Tensor:
    """The mask of sequences of so many tokens, padded behind."""
    return torch.arange(length).expand(batch, -1) < torch.tensor(lengths)[:, None]


def text_spec(mixer: Mixer = MixerSpec(name="pooling"), **changes: object) -> ModelSpec:  # noqa: B008
    """Two blocks over sequences of up to 24 of 50 tokens."""
    parts = {"depth": 2, "width": WIDTH, "embedding": LOOKUP, "mixer": mixer, "position": True} | changes
    head = parts.pop("head", HeadSpec())
    tokens = TokenInput(vocab_size=50, length=LENGTH)
    return ModelSpec(stages=(StageSpec(**parts),), head=head, num_classes=3, tokens=tokens)  # type: ignore[arg-type]


# --- mixers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("mixer", OBEDIENT)
def test_padding_changes_no_real_token(mixer: str, prefix: int) -> None:
    if prefix and ("relative" in mixer or "ratio=2" in mixer or "ratio=5" in mixer):
        pytest.skip("it refuses prefix tokens")
    built, lengths = line_mixer(mixer, prefix), [9, 13, 1]
    for block, longest in product((0, 1), (13, 17, LENGTH)):
        built = line_mixer(mixer, prefix, block) if mixer in IN_WINDOWS else built
        x = torch.randn(3, prefix + longest, WIDTH)
        mask = F.pad(real(3, longest, lengths), (prefix, 0), value=True)
        mixed = built(x, (longest,), mask)
        other = built(torch.where(mask[..., None], x, 100.0), (longest,), mask)
        torch.testing.assert_close(other[mask], mixed[mask])
        for i, length in enumerate(lengths):
            alone = built(x[i : i + 1, : prefix + length], (length,))
            torch.testing.assert_close(mixed[i : i + 1, : prefix + length], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixer", [*OBEDIENT, "fourier"])
def test_a_mask_without_padding_is_as_good_as_none(mixer: str) -> None:
    built, x = line_mixer(mixer), torch.randn(2, LENGTH, WIDTH)
    whole = torch.ones(2, LENGTH, dtype=torch.bool)
    torch.testing.assert_close(built(x, (LENGTH,), whole), built(x, (LENGTH,)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixer", OBEDIENT)
def test_padding_has_no_gradient_and_a_sequence_of_padding_is_finite(mixer: str) -> None:
    built, x = line_mixer(mixer), torch.randn(2, LENGTH, WIDTH, requires_grad=True)
    mask = real(2, LENGTH, [7, 0])
    mixed = built(x, (LENGTH,), mask)
    assert mixed.isfinite().all()
    mixed[mask].square().sum().backward()
    assert x.grad is not None
    assert not x.grad[~mask].any()
    assert x.grad[0, :7].isfinite().all()


def test_fourier_refuses_padding_unless_it_may_read_it() -> None:
    x, mask = torch.randn(2, LENGTH, WIDTH), real(2, LENGTH, [7, LENGTH])
    with pytest.raises(InputError, match=r"mask: Fourier mixes every token, padding too.*choose another mixer"):
        Fourier(WIDTH)(x, (LENGTH,), mask)
    torch.testing.assert_close(
        Fourier(WIDTH, read_padding=True)(x, (LENGTH,), mask), Fourier(WIDTH)(x, (LENGTH,)), rtol=0, atol=0
    )


def test_a_map_module_of_several_layers_refuses_padding() -> None:
    module = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, (1, 3), padding=(0, 1)))
    x, mask = torch.randn(2, LENGTH, WIDTH), real(2, LENGTH, [7, LENGTH])
    assert OnMap(module)(x, (LENGTH,), mask | True).shape == x.shape
    with pytest.raises(InputError, match=r"mask: OnMap\(Sequential\) mixes every token"):
        OnMap(module)(x, (LENGTH,), mask)


@pytest.mark.parametrize(
    "mixer", ["spatial_fc", "spatial_mlp", "gating_unit", "random", "attention(relative_position=True)"]
)
def test_mixers_over_positions_name_both_lengths(mixer: str) -> None:
    with pytest.raises(InputError, match=r"a sequence of 25 tokens is longer than \w+, built for 24: truncate it"):
        line_mixer(mixer)(torch.randn(1, 25, WIDTH), (25,))


@pytest.mark.parametrize("mixer", ["identity", "pooling", "attention", "fourier"])
def test_a_line_is_a_map_of_one_row(mixer: str) -> None:
    x = torch.randn(2, LENGTH, WIDTH)
    built = line_mixer(mixer)
    torch.testing.assert_close(built(x, (LENGTH,)), built(x, (1, LENGTH)))


def test_convolutions_of_a_line_have_kernels_of_a_line() -> None:
    depthwise, x = line_mixer("depthwise_conv(kernel=5)"), torch.randn(2, LENGTH, WIDTH)
    weight = depthwise.get_parameter("conv.weight")
    assert weight.shape == (WIDTH, 1, 1, 5)
    expected = F.conv1d(x.mT, weight[:, :, 0], depthwise.get_parameter("conv.bias"), padding=2, groups=WIDTH)
    torch.testing.assert_close(depthwise(x, (LENGTH,)), expected.mT)
    assert line_mixer("separable_conv").get_parameter("dwconv.weight").shape == (2 * WIDTH, 1, 1, 7)


def test_random_mixing_stays_a_mean_over_real_tokens() -> None:
    mixer = RandomMixing(8, grid=(LENGTH,))
    constant = torch.full((2, 10, 8), 1.5)
    torch.testing.assert_close(mixer(constant, (10,)), constant)
    torch.testing.assert_close(mixer(constant, (10,), real(2, 10, [4, 10])), constant)


def test_masked_pooling_counts_real_neighbors_alone() -> None:
    x = torch.arange(1.0, 6.0).view(1, 5, 1)
    mixed = Pooling(1, subtract=False)(x, (5,), torch.tensor([[True, True, True, False, False]]))
    torch.testing.assert_close(mixed[0, :3, 0], torch.tensor([1.5, 2.0, 2.5]))


# --- norms, readouts, inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [GroupNorm(WIDTH), GroupNorm(WIDTH, bias=False), BatchNorm(WIDTH)])
def test_statistics_over_tokens_are_of_real_ones(norm: nn.Module) -> None:
    norm = randomized(norm).train()
    x, mask = torch.randn(2, 9, WIDTH) * 3 + 1, real(2, 9, [5, 9])
    y = norm(x, mask)
    torch.testing.assert_close(norm(torch.where(mask[..., None], x, 50.0), mask)[mask], y[mask])
    if isinstance(norm, GroupNorm):
        torch.testing.assert_close(y[:1, :5], norm(x[:1, :5]))
    else:
        fresh = randomized(BatchNorm(WIDTH)).train()
        fresh.load_state_dict(norm.state_dict())
        torch.testing.assert_close(y[mask], fresh(x[mask][None])[0])
    assert norm(x, mask & False).isfinite().all() or isinstance(norm, BatchNorm)


def test_readouts_leave_padding_out() -> None:
    x, mask = torch.randn(2, 6, 4), torch.tensor([[False, False, True, True, True, False], [True] * 6])
    mean, first = MeanReadout()(x, (6,), mask), FirstReadout()(x, (6,), mask)
    torch.testing.assert_close(mean, torch.stack([x[0, 2:5].mean(0), x[1].mean(0)]))
    torch.testing.assert_close(first, torch.stack([x[0, 2], x[1, 0]]))  # padding on the left is left out, too
    assert MeanReadout()(x, (6,), mask & False).eq(0).all()


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(2, 5), None, "ids: expected int64 or int32, got torch.float32"),
        (
            torch.zeros(5, dtype=torch.long),
            None,
            r"ids: expected \(batch, length\) with at least one token, got \(5,\)",
        ),
        (torch.full((2, 5), 50), None, "ids: expected 0 to 49, got 50 to 50: the tokenizer has another vocabulary"),
        (torch.zeros(2, 25, dtype=torch.long), None, "25 tokens is longer than the position table, built for 24"),
        (torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 4), r"mask: expected \(2, 5\), one entry .* got \(2, 4\)"),
        (torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5), "mask: expected booleans.*got torch.float32"),
    ],
)
def test_a_wrong_input_is_named(ids: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(text_spec())(ids, mask)


# --- models -------------------------------------------------------------------------------------------------------


def pyramid(kind: str, norm: str) -> ModelSpec:
    """Three stages, each of half as many tokens."""
    steps = {
        "conv": EmbeddingSpec(kernel=3, stride=2, padding=1, norm=NormSpec(kind="group"), norm_position="before"),
        "patches": EmbeddingSpec(kernel=2, stride=2, padding=0),
        "merge": EmbeddingSpec(kind="merge", norm=NormSpec()),
    }
    inner = NormSpec(kind=norm)  # type: ignore[arg-type]
    stages = tuple(
        StageSpec(depth=1, width=WIDTH, embedding=steps[kind] if i else LOOKUP, norm=inner, position=not i)
        for i in range(3)
    )
    tokens = TokenInput(vocab_size=50, length=LENGTH)
    return ModelSpec(stages=stages, head=HeadSpec(norm=inner), num_classes=3, tokens=tokens)


SYSTEMS = {
    "pyramid of convolutions": pyramid("conv", "group"),
    "pyramid of patches": pyramid("patches", "layer"),
    "pyramid of pairs": pyramid("merge", "group"),
    "group norm": text_spec(norm=NormSpec(kind="group")),
    "attention, first token": text_spec(as_mixer("attention"), head=HeadSpec(readout="token")),
    "prefix token": text_spec(as_mixer("attention"), prefix_tokens=1, head=HeadSpec(readout="token")),
    "gates, no channel MLP": text_spec(as_mixer("gating_unit"), mlp=None, norm=NormSpec(kind="group")),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_sequence_has_the_scores_it_has_alone(name: str) -> None:
    model = randomized(build(SYSTEMS[name])).eval()
    lengths = [12, 20, 7]
    ids, mask = torch.randint(1, 50, (3, LENGTH)), real(3, LENGTH, lengths)
    together = model(ids.where(mask, 0), mask)
    for i, length in enumerate(lengths):
        torch.testing.assert_close(together[i], model(ids[i : i + 1, :length])[0], rtol=1e-4, atol=1e-5)
    shorter = model(ids[:, :21].where(mask[:, :21], 7), mask[:, :21].long())
    torch.testing.assert_close(shorter, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixer", ["pooling", "separable_conv", "window(mixer='attention', window=4, shift='roll')"])
def test_masked_pixels_of_an_image_are_not_read(mixer: str) -> None:
    stages = (
        StageSpec(depth=2, width=WIDTH, mixer=as_mixer(mixer), norm=NormSpec(kind="group")),
        StageSpec(depth=1, width=WIDTH, embedding=EmbeddingSpec(kind="merge")),
    )
    model = randomized(build(ModelSpec(stages=stages, num_classes=3, img_size=(24, 24)))).eval()
    images, mask = torch.randn(2, 3, 24, 24), torch.ones(2, 24, 24, dtype=torch.bool)
    mask[:, 16:] = False
    mask[0, :, 11:] = False
    torch.testing.assert_close(model(images, mask), model(images.where(mask[:, None], 100.0), mask))
    torch.testing.assert_close(model(images, mask | True), model(images), rtol=1e-4, atol=1e-5)


def test_features_and_head_take_the_mask_too() -> None:
    model = randomized(build(text_spec(norm=NormSpec(kind="group"), prefix_tokens=1))).eval()
    ids, mask = torch.randint(0, 50, (2, 10)), real(2, 10, [4, 10])
    features = model.forward_features(ids, mask)
    assert features.shape == (2, 11, WIDTH)
    torch.testing.assert_close(model.forward_head(features, mask=mask), model(ids, mask))
    last, maps = model.forward_intermediates(ids, mask=mask, norm=True)
    assert [tuple(m.shape) for m in maps] == [(2, WIDTH, 10)] * 2
    torch.testing.assert_close(last, features)
    assert model.forward_intermediates(ids, output_fmt="NLC", intermediates_only=True)[1].shape == (2, 10, WIDTH)


def test_recomputed_activations_know_the_mask() -> None:
    model = randomized(build(text_spec(norm=NormSpec(kind="batch")))).train()
    ids, mask = torch.randint(0, 50, (3, 10)), real(3, 10, [4, 10, 6])
    gradients = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        model.zero_grad()
        model(ids, mask).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mixer", ["pooling", "attention", "fourier(orthonormal=True)", "spatial_fc"])
def test_a_text_classifier_learns(mixer: str) -> None:
    """Which of three words occurs in the text, at any place?"""
    torch.manual_seed(0)
    model = build(text_spec(as_mixer(mixer))).train()
    ids, labels = torch.randint(4, 50, (48, 12)), torch.arange(48) % 3
    ids[torch.arange(48), torch.randint(0, 12, (48,))] = labels + 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(ids), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_identity_reads_a_bag_of_words_or_one_word() -> None:
    spec = text_spec(as_mixer("identity"), position=False)
    ids, order = torch.randint(0, 50, (2, 12)), torch.randperm(12)
    mean = randomized(build(spec)).eval()
    torch.testing.assert_close(mean(ids), mean(ids[:, order]), rtol=1e-4, atol=1e-5)
    ids[:, 0] = 1  # [CLS]
    first = randomized(build(text_spec(as_mixer("identity"), head=HeadSpec(readout="token")))).eval()
    torch.testing.assert_close(first(ids)[0], first(ids)[1])


def test_macs_of_a_sequence_grow_with_its_length() -> None:
    model = build(text_spec())
    linear = sum(m.weight.numel() for m in model.backbone.modules() if isinstance(m, nn.Linear))
    head = WIDTH * 3
    assert count_macs(model) == LENGTH * linear + head
    assert count_macs(model, (10,)) == 10 * linear + head
    with pytest.raises(InputError, match=r"size: expected \(length,\), got \(10, 10\)"):
        count_macs(model, (10, 10))


def test_batch_and_length_stay_free_in_an_exported_graph() -> None:
    model = randomized(build(text_spec(norm=NormSpec(kind="group")))).eval()
    free = {0: torch.export.Dim("batch", max=8), 1: torch.export.Dim("length", min=2, max=LENGTH)}
    example = torch.randint(0, 50, (2, 10)), real(2, 10, [4, 10])
    graph = torch.export.export(model, example, dynamic_shapes=(free, free)).module()
    ids, mask = torch.randint(0, 50, (3, LENGTH)), real(3, LENGTH, [4, LENGTH, 1])
    torch.testing.assert_close(graph(ids, mask), model(ids, mask))


# --- specs --------------------------------------------------------------------------------------------------------


def test_a_spec_says_what_goes_in_and_what_it_is_for() -> None:
    text, image, cnn = text_spec(), ModelSpec(stages=(StageSpec(depth=1, width=8),)), TimmSpec(architecture="resnet18")
    dense = DenseSpec(system="retinanet", backbone=cnn, num_classes=3)
    assert text.input == TokenInput(vocab_size=50, length=LENGTH)
    assert image.input == cnn.input == ImageInput(in_chans=3, img_size=(224, 224))
    assert dense.input == ImageInput(img_size=(800, 800))
    assert [(s.task, s.pipeline_tag) for s in (text, image, cnn, dense, dense.with_changes(system="semantic_fpn"))] == [
        ("text_classification", "text-classification"),
        ("classification", "image-classification"),
        ("classification", "image-classification"),
        ("detection", "object-detection"),
        ("segmentation", "image-segmentation"),
    ]


@pytest.mark.parametrize("spec", [text_spec(), pyramid("conv", "group")])
def test_specs_of_text_survive_json(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.to_dict()["tokens"] == {"kind": "tokens", "vocab_size": 50, "length": LENGTH, "pad_id": 0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenInput(vocab_size=10, pad_id=10), "pad_id: expected 0 to 9, got 10"),
        (lambda: text_spec(embedding=EmbeddingSpec()), r"stages\[0\].embedding.kind: expected 'token', which looks up"),
        (lambda: text_spec().with_changes(tokens=None), r"stages\[0\].embedding.kind: expected 'conv', 'merge' or"),
        (lambda: text_spec().with_changes(img_size=(32, 32)), "tokens: a model of tokens has no image"),
        (lambda: pyramid("patches", "layer").with_changes(tokens=TokenInput(vocab_size=50, length=3)),
         r"tokens.length: 3 leaves no token at stages\[2\]"),
        (lambda: EmbeddingSpec(kind="token", norm_position="before"), "norm_position: expected 'after'"),
        (lambda: DenseSpec(system="retinanet", backbone=text_spec(), num_classes=3), "backbone: expected a model of"),
    ],
)  # fmt: skip
def test_impossible_specs_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpecError, match=message):
        make()
