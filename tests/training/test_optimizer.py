"""What is decayed, what is scaled by its depth, and which names are known."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from metaformer.errors import InputError
from metaformer.recipe import OptimizerConfig
from metaformer.training.optimizer import build_optimizer


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.table = nn.Parameter(torch.zeros(2, 4))
        self.scale = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(4, 2)

    def no_weight_decay(self) -> set[str]:
        return {"table"}

    def group_matcher(self, coarse: bool = False) -> dict:
        return {"stem": r"^stem|^table|^scale", "blocks": [(r"^blocks\.(\d+)", None)]}


def groups_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_one_dimensional_tensors_biases_and_named_ones_are_not_decayed() -> None:
    model = Deep()
    groups = groups_of(model, build_optimizer(model, OptimizerConfig(weight_decay=0.1)))
    decayed = {name for name, group in groups.items() if group["weight_decay"] == 0.1}
    assert decayed == {"stem.weight", "head.weight", *(f"blocks.{i}.weight" for i in range(3))}
    assert {group["weight_decay"] for name, group in groups.items() if name not in decayed} == {0.0}


def test_layer_decay_grows_with_the_distance_from_the_head() -> None:
    model = Deep()
    groups = groups_of(model, build_optimizer(model, OptimizerConfig(layer_decay=0.5)))
    scales = [groups[f"{name}.weight"]["lr_scale"] for name in ("stem", "blocks.0", "blocks.1", "blocks.2", "head")]
    assert scales == [0.0625, 0.125, 0.25, 0.5, 1.0]
    assert groups["table"]["weight_decay"] == 0


@pytest.mark.parametrize("name", ["adamw", "lamb", "sgd", "lion", "lookahead_adamw", "adafactor"])
def test_timm_s_optimizers_move_the_weights(name: str) -> None:
    model = Deep()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, lr=0.1, betas=(0.8, 0.9), eps=1e-7))
    before = model.head.weight.detach().clone()
    model.head(torch.ones(1, 4)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, before)


def adamw_moved(device: str, steps: int) -> tuple[Deep, torch.optim.Optimizer]:
    """A model after some updates, by the CPU's way or another device's."""
    torch.manual_seed(0)
    model, images = Deep(), torch.randn(6, 4)
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1, layer_decay=0.7), device)
    for _ in range(steps):
        optimizer.zero_grad()
        model.head(model.blocks[0](images)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def test_adamw_is_one_pass_on_the_cpu_and_moves_as_elsewhere() -> None:
    (here, fused), (there, usual) = adamw_moved("cpu", 5), adamw_moved("cuda", 5)
    assert all(group["fused"] for group in fused.param_groups)
    assert not any(group["fused"] for group in usual.param_groups)
    for mine, theirs in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_state_goes_on_in_the_way_it_was_begun() -> None:
    (model, usual), (again, fused) = adamw_moved("cuda", 3), adamw_moved("cpu", 0)
    again.load_state_dict(model.state_dict())
    fused.load_state_dict(deepcopy(usual.state_dict()))  # it would keep the tensors themselves
    for one, optimizer in ((model, usual), (again, fused)):
        optimizer.zero_grad()
        one.head(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_frozen_tensors_are_left_out() -> None:
    model = Deep()
    model.stem.requires_grad_(False)
    assert not any(name.startswith("stem") for name in groups_of(model, build_optimizer(model, OptimizerConfig())))


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'adamww'.*Did you mean.*'adamw'"):
        build_optimizer(Deep(), OptimizerConfig(name="adamww"))
    with pytest.raises(InputError, match="got 'lookahead_adamv'"):
        build_optimizer(Deep(), OptimizerConfig(name="lookahead_adamv"))


def test_everything_is_decayed_where_the_recipe_says_so() -> None:
    groups = build_optimizer(nn.Linear(3, 2), OptimizerConfig(weight_decay=0.1, decay_everything=True)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1]
    assert sum(len(group["params"]) for group in groups) == 2
