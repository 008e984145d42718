"""What all comparisons with another library share: random twins of a model, and how near two results must be."""

import timm
import torch
from torch import Tensor, nn

import metaformer

TOLERANCE = 1e-4


def randomized(module: nn.Module) -> nn.Module:
    """Every parameter anew: matrices keep the size of the signal, scales stand near 1, shifts near 0."""
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.ndim >= 2:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(mean=0.0 if name.endswith("bias") else 1.0, std=0.1)
    return module.eval()


def unfilled(make, *args, **kwargs) -> nn.Module:
    """A model whose initial values are not worth computing."""
    with torch.device("meta"):
        module = make(*args, **kwargs)
    return module.to_empty(device="cpu").eval()


def of_timm(name: str, **kwargs) -> nn.Module:
    return randomized(unfilled(timm.create_model, name, **kwargs))


def ours(name: str, **kwargs) -> nn.Module:
    return unfilled(metaformer.create_model, name, **kwargs)


def random_images(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side + 32)


def assert_close(mine: Tensor, theirs: Tensor) -> None:
    difference = ((mine - theirs).abs().max() / theirs.abs().max()).item()
    print(f"relative difference {difference:.1e}")
    assert mine.shape == theirs.shape
    assert difference < TOLERANCE
