"""Peers' graphs in the engines, each as its own manual has it: model in, a call on one fixed batch out.

What this library puts into the same engines is ``metaformer.fast.compile``'s; nothing of that is used here, so that a
peer is what its user would have. Engines are optional, and imported when a contender asks for one.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, MissingExtraError

Answer = Callable[[], Tensor]
"""One call on the batch it was made for: scores (B, K)."""


def openvino_call(model: nn.Module, images: Tensor, precision: str, threads: int, calibration: Tensor) -> Answer:
    """A model traced by OpenVINO, quantised by NNCF for int8, compiled for latency.

    Raises:
        MissingExtraError: OpenVINO or NNCF is not installed.
        InputError: this processor has no such precision.
    """
    ov = _openvino()
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise InputError("OpenVINO computes no bf16 on this processor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracing
        graph = ov.convert_model(model, example_input=images, input=[tuple(images.shape)])
    if precision == "int8":
        graph = _quantised(graph, calibration, len(images))
    hint = "bf16" if precision == "bf16" else "f32"
    compiled = core.compile_model(
        graph,
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"},
    )
    request, array = compiled.create_infer_request(), images.numpy()
    return lambda: torch.from_numpy(request.infer({0: array}, share_inputs=True, share_outputs=True)[0])


def _quantised(graph: Any, calibration: Tensor, batch: int) -> Any:
    try:
        import nncf
    except ImportError:
        raise MissingExtraError("NNCF is not installed: pip install 'metaformer[openvino]'") from None
    logging.getLogger("nncf").setLevel(logging.ERROR)
    whole = calibration[torch.arange(-(-len(calibration) // batch) * batch) % len(calibration)]
    return nncf.quantize(graph, nncf.Dataset([part.numpy() for part in whole.split(batch)]))


def onnxruntime_call(model: nn.Module, images: Tensor, threads: int) -> Answer:
    """A model exported to ONNX by PyTorch, float32.

    Raises:
        MissingExtraError: ONNX Runtime or what writes ONNX files is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError:
        raise MissingExtraError("ONNX Runtime is not installed: pip install 'metaformer[export]'") from None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.onnx"
        torch.onnx.export(model, (images,), str(file), dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: images.numpy()}
    return lambda: torch.from_numpy(session.run(None, given)[0])


SIDE = 2048
PRODUCT = 2 * SIDE**3
"""Operations in a product of two square matrices of ``SIDE``: what a machine's peak is measured by."""


def product_call(precision: str, threads: int, device: torch.device) -> Callable[[], object]:
    """One plain matrix product: PyTorch's for fp32 and bf16, OpenVINO's for int8 on a processor.

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
    """uint8 × int8: what quantised layers compute; the input is rounded on the way in, once for each of its numbers."""
    ov = _openvino()
    from openvino import opset13 as ops

    def rounded(value: Any, levels: int) -> Any:
        low, high = (ops.constant(np.float32(end)) for end in (-3, 3))
        return ops.fake_quantize(value, low, high, low, high, levels)

    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    left = ops.parameter([SIDE, SIDE], np.float32)
    product = ops.matmul(rounded(left, 256), rounded(ops.constant(matrix), 255), False, True)
    compiled = ov.Core().compile_model(ov.Model([product], [left]), "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    return lambda: request.infer({0: matrix}, share_inputs=True, share_outputs=True)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("OpenVINO is not installed: pip install 'metaformer[openvino]'") from None
    return openvino
