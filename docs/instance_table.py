"""Write the table of families into architecture.md from the specs of the zoo, between the two markers.

One line per family, one column per axis. If the models of a family differ on an axis, all values are listed. Sizes
(depth, width, heads) are left out.

python docs/instance_table.py
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, ModelSpec, NormSpec, StageSpec
from metaformer.zoo.catalogue import CATALOGUE

PAGE = Path(__file__).resolve().parent / "architecture.md"
START, END = "<!-- instances: written by docs/instance_table.py -->", "<!-- end of instances -->"

ACTIVATIONS = {
    "gelu": "GELU", "gelu_tanh": "tanh GELU", "relu": "ReLU", "silu": "SiLU", "squared_relu": "squared ReLU",
    "star_relu": "StarReLU",
}  # fmt: skip
SHIFTS = {"roll": "rolled", "pad": "padded", "none": "not shifted"}


def along(texts: Iterable[str], stages: int) -> str:
    """Values of the stages, first to last: equal neighbors are counted, a value that all share is written once."""
    runs = [(text, len(list(run))) for text, run in groupby(texts)]
    if len(runs) == 1 or stages == 1:
        return runs[0][0]
    return "; ".join(f"{count} × {text}" if count > 1 else text for text, count in runs)


def number(value: float) -> str:
    """``4``, ``0.1``, ``1e-5``."""
    return f"{value:g}".replace("e-0", "e-")


def norm(spec: NormSpec | None) -> str:
    """Kind, eps, and whether the bias is missing."""
    if spec is None:
        return "none"
    eps = "" if spec.kind in ("affine", "none") else f" {number(spec.eps)}"
    return f"{spec.kind}{eps}{'' if spec.bias else ' without bias'}"


def embedding(spec: EmbeddingSpec) -> str:
    """Kernel and stride of a convolution, or patch merging, and its norm."""
    kind = f"conv {spec.kernel}/{spec.stride}" if spec.kind == "conv" else {"merge": "merge 2 × 2"}.get(spec.kind, "–")
    return kind if spec.norm is None else f"{kind}, norm {spec.norm_position}"


def mixer(spec: MixerSpec, width: int) -> str:
    """A mixer in words, with the arguments that define it."""
    args: dict[str, Any] = dict(spec.args)
    match spec.name:
        case "window":
            inner = mixer(MixerSpec.from_dict(args["mixer"]), width)
            return f"{inner} in windows of {args['window']}, {SHIFTS[args['shift']]}"
        case "reduced_attention":
            return f"attention, keys ÷ {args['ratio']}"
        case "attention":
            return "attention with relative positions" if args.get("relative_position") else "attention"
        case "spatial_fc":
            return f"spatial FC{' per head' if args.get('heads', 1) > 1 else ''}"
        case "spatial_mlp":
            return f"spatial MLP, {number(args['hidden'] / width)} C hidden"
        case "fourier":
            return "Fourier"
        case name:
            return name.replace("_", " ")


def channel_mlp(stage: StageSpec) -> str:
    """Ratio and activation."""
    if stage.mlp is None:
        return "none"
    return f"{number(stage.mlp.ratio)} C, {ACTIVATIONS[stage.mlp.activation]}{'' if stage.mlp.bias else ', no bias'}"


def residual(stage: StageSpec) -> str:
    """Norm position, and the scales of branch and shortcut."""
    spec = stage.residual
    words = ["pre-norm" if spec.norm_position == "before" else "post-norm"]
    words += [f"LayerScale {number(spec.layer_scale)}"] if spec.layer_scale is not None else []
    words += ["ResScale"] if spec.skip_scale is not None else []
    return ", ".join(words)


def readout(spec: ModelSpec) -> str:
    """Readout, position of the final norm, and the kind of head."""
    head = spec.head
    words = ["token" if head.readout == "token" else head.readout]
    words += [f"norm {head.norm_position}"] if head.norm is not None else ["no norm"]
    return ", ".join(words + ([] if head.kind == "linear" else [f"{head.kind} head"]))


def axes(spec: ModelSpec) -> dict[str, str]:
    """A model's nine axes in words."""
    stages, several = spec.stages, len(spec.stages)
    positions = [i for i, stage in enumerate(stages, start=1) if stage.position]
    prefix = [(stage.prefix_tokens, i) for i, stage in enumerate(stages, start=1) if stage.prefix_tokens]
    everywhere = "table" if several == 1 else "table in every stage"
    return {
        "embedding": along((embedding(stage.embedding) for stage in stages), several),
        "position": ("none" if not positions else everywhere if len(positions) == several
                     else f"table at stage {', '.join(map(str, positions))}"),
        "prefix tokens": ", ".join(f"{n} at stage {i}" if several > 1 else str(n) for n, i in prefix) or "none",
        "norm": along((norm(stage.norm) for stage in stages), several),
        "mixer": along((mixer(stage.mixer, stage.width) for stage in stages), several),  # type: ignore[arg-type]
        "channel MLP": along((channel_mlp(stage) for stage in stages), several),
        "residual": along((residual(stage) for stage in stages), several),
        "readout": readout(spec),
        "initial values": spec.init,
    }  # fmt: skip


def line(family: str) -> str:
    """The family's line; different values of an axis are joined by "or"."""
    specs = [row.spec for row in CATALOGUE.values() if row.family == family]
    found = [axes(spec) for spec in specs]
    cells = [" *or* ".join(dict.fromkeys(one[axis] for one in found)) for axis in found[0]]
    return f"| {' | '.join((f'**{family}**', *cells))} |"


def section() -> str:
    """The whole table with its markers; timm's CNNs have no axes."""
    rows = [row for row in CATALOGUE.values() if isinstance(row.spec, ModelSpec)]
    heads = ["family", *axes(rows[0].spec)]
    lines = [line(family) for family in dict.fromkeys(row.family for row in rows)]
    return "\n".join([START, "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *lines, "", END])


def written(page: str) -> str:
    """The page with the table replaced."""
    before, rest = page.split(START)
    return before + section() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.name}: written")
