"""A small model for benches, and fabricated contenders."""

import torch
from dense_models import pyramid_spec
from torch import Tensor

from metaformer.benchmark.contenders import OURS, Contender
from metaformer.benchmark.rounds import Pace
from metaformer.benchmark.trial import Trial

CPU = torch.device("cpu")
PACE = Pace(rounds=2, warm_up=1, min_seconds=0.0, pause=0.0)


def toy_trial() -> Trial:
    return Trial("toy", pyramid_spec(), batch=3, size=32, threads=1, device=CPU)


def eager() -> Contender:
    return next(one for one in OURS if one.name == "ours, eager")


def fabricated(scores: object, name: str = "fabricated", precision: str = "fp32") -> Contender:
    """A contender whose scores are a function of the right scores, or which raises an exception."""

    def prepare(trial: Trial) -> object:
        def call() -> Tensor:
            if isinstance(scores, Exception):
                raise scores
            return scores(trial.expected_scores("original"))  # type: ignore[operator]

        return call

    return Contender(name=name, library="toys", engine="none", precision=precision, layout="nchw", prepare=prepare)  # type: ignore[arg-type]
