"""How much memory does a call need? Allocations counted, not guessed from the process.

On a GPU PyTorch keeps the peak itself. On the CPU the profiler sees every allocation and every release of PyTorch's
allocator; the highest sum on the way is the peak, the same to the byte in every run. What oneDNN takes as scratch space
passes it by.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it is read once, by the first profile; its notes are not for people


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call takes at most beyond what stood before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = call()
    del kept
    return highest_sum(_allocations(seen))


def highest_sum(changes: Iterable[int]) -> int:
    """The most that stands at a time, of what is taken (above 0) and given back (below 0)."""
    standing = most = 0
    for change in changes:
        standing += change
        most = max(most, standing)
    return most


def _allocations(seen: profile) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]" and event["args"]["Device Type"] == 0]
    return [event["args"]["Bytes"] for event in sorted(changes, key=lambda event: event["args"]["Ev Idx"])]


def standing_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of weights and of an optimizer's state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
