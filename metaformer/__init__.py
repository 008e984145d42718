"""One MetaFormer skeleton with the token mixer as an argument. This file is the table of contents."""

from .complexity import count_macs, count_parameters
from .errors import DataError, InputError, RunError, SpecError, WeightsError
from .factory import create_model
from .model.build import MIXERS, build
from .model.mixers.convolution import OnMap
from .spec import EmbeddingSpec, HeadSpec, MixerSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from .zoo.catalogue import find, list_models

__version__ = "0.1.0"
