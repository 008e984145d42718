"""Windows around mixers: what they share, how they shift, and what they refuse."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metaformer.errors import InputError, SpecError
from metaformer.model.build import build_mixer
from metaformer.model.mixers.attention import Attention
from metaformer.spec.mixer import as_mixer


def windowed(written, dim=16, grid=(8, 8), block=0, prefix_tokens=0):
    return build_mixer(as_mixer(written), dim, {"grid": grid, "prefix_tokens": prefix_tokens, "block": block})


def tokens(grid=(8, 8), dim=16, batch=2):
    return torch.randn(batch, grid[0] * grid[1], dim)


class Mean(nn.Module):
    """Every token becomes the mean of all: shows which tokens stand in one window."""

    def __init__(self, dim):
        super().__init__()

    def forward(self, x, grid, mask=None):
        return x.mean(1, keepdim=True).expand_as(x).contiguous()


def mean_in_windows(**args):
    return as_mixer({"name": "window", "mixer": lambda dim: Mean(dim), **args})


def of_map(x, grid):
    return x.unflatten(1, grid)


def test_tokens_mix_inside_their_window_only():
    x = tokens(dim=3)
    mixed = of_map(windowed(mean_in_windows(window=4), dim=3)(x, (8, 8)), (8, 8))
    expected = F.avg_pool2d(of_map(x, (8, 8)).permute(0, 3, 1, 2), 4)
    expected = expected.repeat_interleave(4, 2).repeat_interleave(4, 3).permute(0, 2, 3, 1)
    torch.testing.assert_close(mixed, expected)


def test_every_second_block_shifts_by_half_a_window_with_zeros_around():
    x = torch.ones(1, 64, 1)
    mixer = mean_in_windows(window=4, shift="pad")
    still, moved = (windowed(mixer, dim=1, block=block)(x, (8, 8)) for block in (0, 1))
    torch.testing.assert_close(still, x)
    # behind two rows and columns of zeros the corner's window has 4 tokens of 16, an edge's 8, the middle's all
    side = torch.tensor([0.5, 0.5, 1, 1, 1, 1, 0.5, 0.5])
    torch.testing.assert_close(of_map(moved, (8, 8))[0, ..., 0], torch.outer(side, side))


def test_a_roll_mixes_only_what_were_neighbors():
    grid, window = (8, 8), 4
    mixer = windowed({"name": "window", "window": window, "shift": "roll", "mixer": "attention"}, block=1, dim=32)
    x = tokens(dim=32)
    mixed = of_map(mixer(x, grid), grid)
    inner = mixer.mixer
    # the windows by hand: rows and columns cut behind 2 and 6
    cuts = [slice(0, 2), slice(2, 6), slice(6, 8)]
    for rows in cuts:
        for columns in cuts:
            part = of_map(x, grid)[:, rows, columns]
            alone = inner(part.flatten(1, 2), tuple(part.shape[1:3]))
            torch.testing.assert_close(mixed[:, rows, columns].flatten(1, 2), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", ["roll", "pad", "none"])
def test_a_side_that_one_window_covers_is_not_shifted(shift):
    written = {"name": "window", "window": 4, "shift": shift, "mixer": "attention(relative_position=True)"}
    still = windowed(written, dim=32, grid=(4, 4))
    moved = windowed(written, dim=32, grid=(4, 4), block=1)
    moved.load_state_dict(still.state_dict())
    x = tokens((4, 4), 32)
    torch.testing.assert_close(moved(x, (4, 4)), still(x, (4, 4)))
    inner = still.mixer(x, (4, 4))
    torch.testing.assert_close(still(x, (4, 4)), inner)


@pytest.mark.parametrize("shift", ["roll", "pad"])
@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("grid", [(6, 8), (9, 5), (3, 3), (10, 7), (1, 9)])
def test_any_grid_is_filled_up_with_zeros(grid, block, shift):
    mixer = windowed({"name": "window", "window": 4, "shift": shift, "mixer": "attention"}, dim=32, block=block)
    x = tokens(grid, 32).requires_grad_()
    y = mixer(x, grid)
    y.square().sum().backward()
    assert y.shape == x.shape
    assert y.is_contiguous()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_filling_up_is_what_zeros_around_the_map_would_do():
    mixer = windowed({"name": "window", "window": 4, "mixer": "attention"}, dim=32)
    x = tokens((6, 7), 32)
    larger = F.pad(of_map(x, (6, 7)), (0, 0, 0, 1, 0, 2)).flatten(1, 2)
    expected = of_map(mixer(larger, (8, 8)), (8, 8))[:, :6, :7].flatten(1, 2)
    torch.testing.assert_close(mixer(x, (6, 7)), expected)


def test_prefix_tokens_read_the_mean_of_the_mixed_map():
    mixer = windowed("window(mixer='attention', window=4)", dim=32, prefix_tokens=2)
    x = torch.randn(2, 2 + 64, 32)
    y = mixer(x, (8, 8))
    torch.testing.assert_close(y[:, 2:], mixer(x[:, 2:], (8, 8)))
    torch.testing.assert_close(y[:, 0], y[:, 2:].mean(1))


def test_the_mask_outlives_inference_mode():
    """The cached mask of a roll is made once, perhaps while predicting, and serves in training afterwards."""
    mixer = windowed("window(mixer='attention', window=4, shift='roll')", dim=32, grid=(12, 12), block=1)
    x = tokens((12, 12), 32)
    with torch.inference_mode():
        mixer(x, (12, 12))
    x.requires_grad_()
    mixer(x, (12, 12)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_window_holds_any_mixer_and_other_windows():
    for inner in ("pooling", "spatial_fc(heads=2)", "spatial_mlp", "gating_unit", "fourier", "random", "identity",
                  "depthwise_conv", "separable_conv", "reduced_attention(head_dim=8)"):  # fmt: skip
        x = tokens()
        assert windowed({"name": "window", "window": 4, "mixer": inner}, block=1)(x, (8, 8)).shape == x.shape
    nested = windowed({"name": "window", "window": 4, "mixer": "window(window=2, mixer='pooling')"})
    assert nested(tokens(), (8, 8)).shape == (2, 64, 16)


class Blind(Attention):
    reads_mask = False


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("window(mixer='attention', window=0)", r"mixer.window: expected a side of at least 1 token, got 0"),
        ("window(mixer='attention', shift='cyclic')", r"mixer.shift: expected one of roll, pad, none, got 'cyclic'"),
        ("window(mixer='pooling', shift='roll')", r"mixer.shift: 'roll' .* Pooling does not: use shift='pad'"),
        ({"name": "window", "shift": "roll", "mixer": lambda dim: Blind(dim, head_dim=8)}, r"Blind does not"),
        ("window(mixer='atention')", r"mixer.mixer: unknown mixer 'atention'. Did you mean 'attention'"),
        ("window(mixer='attention(heads=5)')", r"mixer.mixer.heads: expected a divisor of the width 16, got 5"),
        ("window(mixer='attention(head_dim=8)', window=3, padding=False)", r"mixer.window: 3 does not divide the grid"),
        ("window(mixer='attention(head_dim=8)', window=9, padding=False)", r"window: 9 does not divide the grid 8×8"),
        ("window(mixer='attention', widow=7)", r"window has no argument 'widow'. Did you mean 'window'"),
        ("window(mixer='attention', window=(4, 2))", r"mixer.window: expected an integer, got \(4, 2\)"),
        ("window(mixer=3)", r"mixer.mixer: expected a mixer's name"),
    ],
)
def test_a_window_that_cannot_be_is_refused_with_the_cure(written, message):
    with pytest.raises(SpecError, match=message):
        windowed(written)


def test_without_padding_another_size_is_refused_when_it_comes():
    mixer = windowed("window(mixer='pooling', window=4, padding=False)")
    assert mixer(tokens(), (8, 8)).shape == (2, 64, 16)
    with pytest.raises(InputError, match="a window of 4 does not divide a grid of 6×8"):
        mixer(tokens((6, 8)), (6, 8))
