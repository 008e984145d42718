"""Models of other libraries in the engines, each exported as the engine's manual says: a model in, a call on one fixed
batch out.

A finished graph is run by the same code as the graphs of ``metaformer.compile``, with the same settings and threads, so
that only the graphs differ.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..deploy.engines import onnxruntime, openvino
from ..deploy.precision import available
from ..errors import InputError, MissingExtraError

ScoresCall = Callable[[], Tensor]
"""A call on one fixed batch: scores (B, K)."""


def expect_precision(precision: str, engine: str, device: torch.device) -> None:
    """``InputError`` if the precision would be replaced by another one or emulated, which is slower than float32."""
    reason = available(precision, engine, device)[1]
    if reason is not None:
        raise InputError(reason.partition(": ")[2])


def openvino_call(model: nn.Module, images: Tensor, precision: str, threads: int, calibration: Tensor) -> ScoresCall:
    """A model traced by OpenVINO for pairs of images (or one), for int8 quantized by NNCF; run in streams like ours.

    Raises:
        MissingExtraError: OpenVINO or NNCF is not installed.
        InputError: this processor has no such precision.
    """
    expect_precision(precision, "openvino", images.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer
        example = images[: 1 if len(images) % openvino.Runner.PAIR else openvino.Runner.PAIR]
        graph = openvino.library().convert_model(model, example_input=example, input=[tuple(example.shape)])
    if precision == "int8":
        graph = _quantized(graph, calibration.split(len(example)))
    run = openvino.runner(graph, precision, threads)
    return lambda: run(images)[0]


def _quantized(graph: Any, calibration: Sequence[Tensor]) -> Any:
    openvino.without_telemetry()
    try:
        import nncf
    except ImportError:
        raise MissingExtraError("NNCF is not installed: pip install 'metaformer[openvino]'") from None
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf.quantize(graph, nncf.Dataset([part.numpy() for part in calibration]))


def onnxruntime_call(model: nn.Module, images: Tensor, threads: int) -> ScoresCall:
    """A model exported to ONNX by PyTorch, float32.

    Raises:
        MissingExtraError: ONNX Runtime or onnxscript is not installed.
    """
    onnxruntime.library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own internals
        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    assert program is not None
    run = onnxruntime.runner(program.model_proto, "fp32", threads)
    return lambda: run(images)[0]


SIDE = 2048
PRODUCT = 2 * SIDE**3
"""Operations in a product of two square matrices of side ``SIDE``, by which the machine's peak is measured."""


def product_call(precision: str, threads: int, device: torch.device) -> Callable[[], object]:
    """One plain matrix product: PyTorch's for fp32 and bf16, OpenVINO's for int8 on a CPU.

    Raises:
        MissingExtraError: int8 without OpenVINO.
    """
    if precision == "int8":
        return _int8_product(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    left, right = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _int8_product(threads: int) -> Callable[[], object]:
    """uint8 × int8, as in quantized layers. Rounding the input is included, once for each of its numbers."""
    ov = openvino.library()
    from openvino import opset13 as ops

    def quantized(value: Any, levels: int) -> Any:
        low, high = (ops.constant(np.float32(end)) for end in (-3, 3))
        return ops.fake_quantize(value, low, high, low, high, levels)

    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    left = ops.parameter([SIDE, SIDE], np.float32)
    product = ops.matmul(quantized(left, 256), quantized(ops.constant(matrix), 255), False, True)
    compiled = ov.Core().compile_model(ov.Model([product], [left]), "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    return lambda: request.infer({0: matrix}, share_inputs=True, share_outputs=True)
