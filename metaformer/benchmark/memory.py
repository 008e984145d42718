"""Peak memory of a call, from the allocator and not from the size of the process.

On a GPU PyTorch records the peak itself. On the CPU the profiler records every allocation and release of PyTorch's
allocator; the highest running sum is the peak, the same to the byte in every run. Scratch memory of oneDNN is not
included, because it does not come from this allocator.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences the profiler; read once, when the first profile starts


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The peak of a call in bytes, beyond the memory in use before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = call()  # the result must still be alive when the profile ends
    del kept
    return highest_sum(_allocations(recorded))


def highest_sum(changes: Iterable[int]) -> int:
    """The highest running sum of allocations (above 0) and releases (below 0); at least 0."""
    return max(accumulate(changes, initial=0))


def _allocations(recorded: profile) -> list[int]:
    """Bytes of each allocation and release, in order. The profiler gives them in its exported trace only."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]" and event["args"]["Device Type"] == 0]
    return [event["args"]["Bytes"] for event in sorted(changes, key=lambda event: event["args"]["Ev Idx"])]


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of weights and of an optimizer's state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
