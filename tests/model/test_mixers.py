"""Laws of the token mixers, and the contract that all of them keep."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metaformer.errors import InputError, SpecError
from metaformer.model.build import MIXERS, build_mixer
from metaformer.model.mixers.attention import Attention, ReducedAttention, RelativePosition
from metaformer.model.mixers.convolution import DepthwiseConv, OnMap, SeparableConv
from metaformer.model.mixers.fourier import Fourier
from metaformer.model.mixers.gating import GatingUnit
from metaformer.model.mixers.pooling import Pooling
from metaformer.model.mixers.spatial import RandomMixing, SpatialFC, SpatialMLP
from metaformer.model.tokens import on_map, to_map, to_tokens
from metaformer.spec.mixer import MixerSpec, as_mixer

GRID = (5, 7)
PLACE = {"grid": GRID, "prefix_tokens": 0, "block": 0}
FIXED_GRID = ("spatial_fc", "spatial_mlp", "gating_unit", "random")
ROWS_AND_COLUMNS = ("reduced_attention", "window")


def tokens(batch=2, grid=GRID, dim=64):
    return torch.randn(batch, grid[0] * grid[1], dim)


# --- the contract, asked of every mixer -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("prefix", [0, 1])
def test_every_mixer_keeps_shape_and_passes_gradients(name, prefix):
    if (name, prefix) == ("reduced_attention", 1):
        pytest.skip("it refuses prefix tokens, see below")
    mixer = build_mixer(MixerSpec(name=name), 64, {**PLACE, "prefix_tokens": prefix})
    x = torch.randn(2, prefix + 35, 64, requires_grad=True)
    y = mixer(x, GRID)
    y.square().sum().backward()
    assert y.shape == x.shape
    assert y.is_contiguous()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None for p in mixer.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_treats_images_apart(name):
    mixer = build_mixer(MixerSpec(name=name), 64, PLACE)
    x = tokens(3)
    torch.testing.assert_close(mixer(x, GRID)[1:2], mixer(x[1:2], GRID), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_runs_in_bfloat16(name):
    mixer = build_mixer(MixerSpec(name=name), 64, PLACE).bfloat16()
    assert mixer(tokens().bfloat16(), GRID).dtype == torch.bfloat16


@pytest.mark.parametrize("name", [n for n in MIXERS if n not in FIXED_GRID])
def test_mixers_without_a_fixed_grid_take_any_grid(name):
    mixer = build_mixer(MixerSpec(name=name), 64, PLACE)
    assert mixer(tokens(grid=(3, 11)), (3, 11)).shape == (2, 33, 64)
    if name in ROWS_AND_COLUMNS:
        with pytest.raises(InputError, match=r"rows and columns|smaller than the reduction"):
            mixer(torch.randn(2, 9, 64), (9,))
    else:
        assert mixer(torch.randn(2, 9, 64), (9,)).shape == (2, 9, 64)


@pytest.mark.parametrize("mixer_class", [SpatialFC, SpatialMLP, GatingUnit, RandomMixing])
def test_mixers_with_a_fixed_grid_name_both_sizes_and_the_cure(mixer_class):
    with pytest.raises(InputError, match=r"built for 5×7 tokens and got 7×5.*img_size"):
        mixer_class(64, grid=GRID)(tokens(grid=(7, 5)), (7, 5))


# --- tokens and maps --------------------------------------------------------------------------------------------


def test_tokens_and_maps_are_views_of_each_other():
    x = tokens()
    as_map = to_map(x, GRID)
    assert as_map.is_contiguous(memory_format=torch.channels_last)
    assert as_map.data_ptr() == x.data_ptr()
    assert to_tokens(as_map).data_ptr() == x.data_ptr()
    torch.testing.assert_close(to_tokens(as_map), x)


def test_prefix_tokens_read_the_mean_of_the_mixed_map():
    x = torch.randn(2, 2 + 35, 4)
    y = on_map(x, GRID, lambda m: m * 3)
    torch.testing.assert_close(y[:, 2:], x[:, 2:] * 3)
    torch.testing.assert_close(y[:, 0], x[:, 2:].mean(1) * 3)
    torch.testing.assert_close(y[:, 0], y[:, 1])


# --- pooling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
def test_pooling_of_a_constant_is_that_constant_at_the_borders_too(kernel):
    constant = torch.full((1, 35, 8), 2.5)
    torch.testing.assert_close(Pooling(8, kernel=kernel, subtract=False)(constant, GRID), constant)
    torch.testing.assert_close(Pooling(8, kernel=kernel)(constant, GRID), torch.zeros_like(constant))


def test_pooling_counts_4_at_a_corner_6_at_an_edge_9_inside():
    impulse = torch.zeros(1, 35, 1)
    impulse[0, 0] = 36.0
    mixed = to_map(Pooling(1, subtract=False)(impulse, GRID), GRID)[0, 0]
    assert mixed[0, 0] == 9.0
    assert mixed[0, 1] == mixed[1, 0] == 6.0
    assert mixed[1, 1] == 4.0
    assert mixed[2].abs().sum() == 0


def test_pooling_of_a_line_is_one_dimensional():
    x = torch.randn(2, 9, 4)
    expected = F.avg_pool1d(x.transpose(1, 2), 3, 1, 1, count_include_pad=False).transpose(1, 2) - x
    torch.testing.assert_close(Pooling(4)(x, (9,)), expected)


def test_pooling_refuses_an_even_window():
    with pytest.raises(SpecError, match=r"kernel: expected an odd window.*got 4"):
        Pooling(8, kernel=4)


# --- convolutions -----------------------------------------------------------------------------------------------


def test_depthwise_convolution_with_a_fixed_kernel_is_pooling_inside():
    conv = DepthwiseConv(8, bias=False)
    nn.init.constant_(conv.conv.weight, 1 / 9)
    x = tokens(dim=8)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(
        to_map(conv(x, GRID), GRID)[inside], to_map(Pooling(8, subtract=False)(x, GRID), GRID)[inside]
    )


def test_separable_convolution_is_pointwise_depthwise_pointwise():
    mixer = SeparableConv(8)
    assert [name for name, _ in mixer.named_parameters()] == [
        "pwconv1.weight",
        "act.scale",
        "act.bias",
        "dwconv.weight",
        "pwconv2.weight",
    ]
    x = tokens(dim=8)
    hidden = F.relu(to_map(x, GRID).permute(0, 2, 3, 1) @ mixer.pwconv1.weight.T).square()
    hidden = F.conv2d(hidden.permute(0, 3, 1, 2), mixer.dwconv.weight, padding=3, groups=16)
    expected = hidden.permute(0, 2, 3, 1) @ mixer.pwconv2.weight.T
    torch.testing.assert_close(mixer(x, GRID), expected.flatten(1, 2), rtol=1e-4, atol=1e-5)


def test_any_module_of_maps_is_a_mixer():
    module = nn.Conv2d(8, 8, 5, padding=2)
    x = tokens(dim=8)
    torch.testing.assert_close(OnMap(module)(x, GRID), to_tokens(module(to_map(x, GRID))))


# --- attention --------------------------------------------------------------------------------------------------


def test_attention_is_softmax_of_scaled_products():
    mixer = Attention(64, head_dim=16)
    x = tokens()
    q, k, v = (part.unflatten(-1, (4, 16)).transpose(1, 2) for part in mixer.qkv(x).chunk(3, -1))
    weights = (q @ k.transpose(-2, -1) / 4.0).softmax(-1)
    expected = mixer.proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x, GRID), expected, rtol=1e-4, atol=1e-5)


def test_attention_does_not_know_where_a_token_stands():
    mixer, x, order = Attention(64), tokens(), torch.randperm(35)
    torch.testing.assert_close(mixer(x[:, order], GRID), mixer(x, GRID)[:, order], rtol=1e-4, atol=1e-5)


def test_attention_does_not_look_at_masked_tokens():
    mixer, x = Attention(64), tokens()
    mask = torch.ones(2, 35, dtype=torch.bool)
    mask[:, 20:] = False
    changed = x.clone()
    changed[:, 20:] = 100.0
    torch.testing.assert_close(mixer(x, GRID, mask)[:, :20], mixer(changed, GRID, mask)[:, :20])


@pytest.mark.parametrize(("args", "message"), [({"head_dim": 48}, "head_dim"), ({"heads": 5}, "heads")])
def test_attention_refuses_heads_that_do_not_divide_the_width(args, message):
    with pytest.raises(SpecError, match=rf"{message}: expected a divisor of the width 64"):
        Attention(64, **args)


def test_a_mask_of_pairs_says_who_looks_at_whom():
    mixer, x = Attention(64), tokens()
    halves = torch.arange(35) < 20
    apart = (halves[:, None] == halves[None, :]).unsqueeze(0)
    mixed = mixer(x, GRID, apart)
    for part in (halves, ~halves):
        alone = mixer(x[:, part], (int(part.sum()),))
        torch.testing.assert_close(mixed[:, part], alone, rtol=1e-4, atol=1e-5)


def test_relative_positions_read_one_number_for_each_offset():
    bias = RelativePosition(3, grid=(2, 3))
    with torch.no_grad():
        bias.table.copy_(torch.arange(15.0)[:, None].expand(15, 3))
    got = bias((2, 3))[0, 0]
    places = [(row, column) for row in range(2) for column in range(3)]
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            assert got[i, j] == 5 * (row - other_row + 1) + column - other_column + 2


def test_relative_positions_know_where_a_token_stands_and_keep_to_their_grid():
    mixer = Attention(64, grid=GRID, relative_position=True)
    x, order = tokens(), torch.randperm(35)
    assert (mixer(x[:, order], GRID) - mixer(x, GRID)[:, order]).abs().max() > 1e-5
    with pytest.raises(InputError, match="built for 5×7 tokens and got 7×5"):
        mixer(x, (7, 5))
    with pytest.raises(SpecError, match=r"relative_position: expected no prefix tokens, got 1"):
        Attention(64, grid=GRID, prefix_tokens=1, relative_position=True)


def test_reduced_attention_without_reduction_is_attention():
    whole, reduced, x = Attention(64, head_dim=16, qkv_bias=True), ReducedAttention(64, grid=GRID, ratio=1), tokens()
    reduced.heads = whole.heads
    with torch.no_grad():
        for kind in ("weight", "bias"):
            q, kv = getattr(whole.qkv, kind)[:64], getattr(whole.qkv, kind)[64:]
            getattr(reduced.q, kind).copy_(q)
            getattr(reduced.kv, kind).copy_(kv)
    reduced.proj.load_state_dict(whole.proj.state_dict())
    torch.testing.assert_close(reduced(x, GRID), whole(x, GRID), rtol=1e-4, atol=1e-5)


def test_reduced_attention_looks_at_a_shrunk_map():
    mixer, x = ReducedAttention(64, grid=(6, 8), ratio=2), tokens(grid=(6, 8))
    source = mixer.reduction.norm(to_tokens(mixer.reduction.conv(to_map(x, (6, 8)))))
    assert source.shape == (2, 12, 64)
    k, v = mixer.kv(source).chunk(2, -1)
    weights = (mixer.q(x) @ k.transpose(1, 2) / 8.0).softmax(-1)
    torch.testing.assert_close(mixer(x, (6, 8)), mixer.proj(weights @ v), rtol=1e-4, atol=1e-5)


def test_reduced_attention_does_not_look_at_wholly_masked_windows():
    mixer, x = ReducedAttention(64, grid=(4, 4), ratio=2), tokens(grid=(4, 4))
    mask = (torch.arange(16) < 8).expand(2, -1)
    changed = x.clone()
    changed[:, 8:] = 100.0
    torch.testing.assert_close(mixer(x, (4, 4), mask)[:, :8], mixer(changed, (4, 4), mask)[:, :8])


def test_reduced_attention_refuses_prefix_tokens_and_a_ratio_beyond_the_grid():
    with pytest.raises(
        SpecError, match=r"ratio: expected 1 where prefix tokens run along \(1 here\), got 2.*later stage"
    ):
        ReducedAttention(64, grid=GRID, prefix_tokens=1)
    with pytest.raises(SpecError, match=r"ratio: expected 1 to 5, the shorter side of the grid \(5, 7\), got 8"):
        ReducedAttention(64, grid=GRID, ratio=8)


# --- matrices over positions ------------------------------------------------------------------------------------


def test_spatial_fc_with_the_unit_matrix_is_identity_and_has_no_bias():
    mixer, x = SpatialFC(64, grid=GRID), tokens()
    nn.init.eye_(mixer.fc.weight)
    torch.testing.assert_close(mixer(x, GRID), x)
    assert mixer.fc.bias is None


def test_spatial_fc_has_a_bias_for_each_position():
    mixer, x = SpatialFC(64, grid=GRID, bias=True), tokens()
    torch.testing.assert_close(mixer(x, GRID), mixer.fc(x.transpose(1, 2)).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_the_heads_of_a_spatial_fc_are_a_grouped_convolution():
    mixer, x = SpatialFC(64, grid=GRID, bias=True, heads=4), tokens()
    grouped = x.unflatten(-1, (4, 16)).permute(0, 2, 1, 3).flatten(1, 2)
    mixed = F.conv1d(grouped, mixer.fc.weight.unsqueeze(-1), mixer.fc.bias, groups=4)
    expected = mixed.unflatten(1, (4, 35)).permute(0, 2, 1, 3).flatten(2)
    torch.testing.assert_close(mixer(x, GRID), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(SpecError, match="heads: expected a divisor of the width 64, got 5"):
        SpatialFC(64, grid=GRID, heads=5)


def test_spatial_mlp_is_two_layers_along_the_positions():
    mixer, x = SpatialMLP(64, grid=GRID), tokens()
    assert mixer.fc1.out_features == 32  # half the channels, whatever the number of positions is
    expected = mixer.fc2(F.gelu(mixer.fc1(x.transpose(1, 2)))).transpose(1, 2)
    torch.testing.assert_close(mixer(x, GRID), expected, rtol=1e-4, atol=1e-5)


def test_gating_unit_is_u_times_mixed_v():
    mixer, x = GatingUnit(64, grid=GRID), tokens()
    u, v = F.gelu(mixer.fc1(x)).chunk(2, -1)
    gate = mixer.fc(mixer.norm(v).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(mixer(x, GRID), mixer.fc2(u * gate), rtol=1e-4, atol=1e-5)
    assert mixer.norm.eps == 1e-5


def test_gating_unit_starts_as_a_channel_mlp():
    mixer, x = GatingUnit(64, grid=GRID), tokens()
    mixer.initialize()
    plain = mixer.fc2(F.gelu(mixer.fc1(x))[..., :192])
    torch.testing.assert_close(mixer(x, GRID), plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("orthonormal", [False, True])
def test_fourier_mixing_is_cosines_minus_sines(orthonormal):
    x = tokens(dim=6).double()
    count, dim = 35, 6
    of_tokens = 2 * torch.pi * torch.outer(torch.arange(count), torch.arange(count)).double() / count
    of_channels = 2 * torch.pi * torch.outer(torch.arange(dim), torch.arange(dim)).double() / dim
    expected = of_tokens.cos() @ x @ of_channels.cos() - of_tokens.sin() @ x @ of_channels.sin()
    expected = expected / (count * dim) ** 0.5 if orthonormal else expected
    mixed = Fourier(dim, orthonormal=orthonormal)(x, GRID)
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fourier_mixing_computes_in_float32_whatever_comes(dtype):
    x = tokens()
    with torch.autocast("cpu", dtype=dtype):
        assert Fourier(64)(x, GRID).dtype == torch.float32
    mixed = Fourier(64)(x.to(dtype), GRID)
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed, Fourier(64)(x.to(dtype).float(), GRID).to(dtype))


def test_random_mixing_is_frozen_saved_and_averages():
    mixer = RandomMixing(8, grid=GRID)
    assert "matrix" in mixer.state_dict()
    assert not any(p.requires_grad for p in mixer.parameters())
    torch.testing.assert_close(mixer.matrix.sum(1), torch.ones(35))
    constant = torch.full((1, 35, 8), 1.5)
    torch.testing.assert_close(mixer(constant, GRID), constant)


# --- how mixers are named and built -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "pooling(kernel=5, subtract=False)",
        ("pooling", {"kernel": 5, "subtract": False}),
        {"name": "pooling", "kernel": 5, "subtract": False},
        MixerSpec(name="pooling", args={"kernel": 5, "subtract": False}),
        lambda dim: Pooling(dim, kernel=5, subtract=False),
    ],
)
def test_a_mixer_can_be_written_in_many_ways(written):
    mixer = build_mixer(as_mixer(written), 8, PLACE)
    assert isinstance(mixer, Pooling)
    assert (mixer.kernel, mixer.subtract) == (5, False)


class Roll(nn.Module):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x, grid, mask=None):
        return x.roll(1, dims=1)


def test_a_mixer_gets_the_places_its_signature_names():
    seen = {}

    def factory(dim, grid, block):
        seen.update(dim=dim, grid=grid, block=block)
        return Roll(dim)

    build_mixer(factory, 8, {**PLACE, "block": 3})
    assert seen == {"dim": 8, "grid": GRID, "block": 3}


class Halves(Roll):
    def forward(self, x, grid, mask=None):
        return x[..., ::2]


class Breaks(Roll):
    def forward(self, x, grid, mask=None):
        return x @ torch.ones(3, 3)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("poling", r"unknown mixer 'poling'. Did you mean 'pooling'"),
        ("pooling(kernal=3)", r"pooling has no argument 'kernal'. Did you mean 'kernel'"),
        ("identity(kernel=3)", r"identity has no argument 'kernel'. It takes none"),
        ("pooling(kernel='a')", r"mixer.kernel: expected an integer, got 'a'"),
        ("attention(heads=2.5)", r"mixer.heads: expected an integer or null, got 2.5"),
        ("window(mixer=attention)", r"strings in quotes.*got .window\(mixer=attention\)"),
        (lambda: nn.Identity(), r"cannot be built for the width 8.*0 positional arguments"),
        ("pooling(3)", r"expected arguments as name=value"),
        ("pooling(kernel=__import__('os'))", r"expected arguments as name=value"),
        ("pool ing", r"expected a mixer such as"),
        (nn.Identity(), r"got the module Identity.*pass its class"),
        (17, r"expected a mixer's name"),
        (lambda dim: dim, r"to build a torch module, got int"),
        (Halves, r"Halves must keep the shape.*\(2, 35, 8\), got \(2, 35, 4\)"),
        (Breaks, r"Breaks failed on tokens \(2, 35, 8\) with grid \(5, 7\)"),
        (lambda dim: nn.Conv2d(dim, dim, 1), r"Conv2d failed.*OnMap"),
    ],
)
def test_a_mixer_that_cannot_be_used_is_explained(written, message):
    with pytest.raises(SpecError, match=message):
        build_mixer(as_mixer(written), 8, PLACE)
