"""Published files from the hub or an address to this machine, once; afterwards from the cache.

In: where a file is published. Out: its path here. Whether the network is there is asked first and once, because the
hub's own client asks again and again for 20 seconds before it gives up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import HFValidationError

from ..errors import WeightsError
from ..zoo.row import WeightSource

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<file>[\w./-]+))?")
"""``owner/name`` or ``owner/name:file``."""
USUAL_FILES = ("model.safetensors", "pytorch_model.bin")
PROBE_SECONDS = 10.0

CURE = (
    "With a network, run it once and the file stays in the cache (HF_HOME says where; HF_ENDPOINT names another hub, "
    "HF_HUB_OFFLINE=1 keeps it from asking). Without one, download the file by hand and pass its path: weights=PATH, "
    "or load_weights(model, PATH)."
)


class _Unavailable(Exception):
    """One place where the file could not be had; the message is the reason."""


class _Unreachable(Exception):
    """The hub did not answer as a hub; the message is the reason."""


def fetch(sources: Sequence[WeightSource]) -> tuple[Path, WeightSource]:
    """The first of the sources that can be had, from the network or from the cache, and which it was.

    Raises:
        WeightsError: none of them; the message names each file, why it could not be had, and the cure.
    """
    reasons = []
    hub_problem: str | None = None
    for source in sources:
        try:
            if source.url:
                return _from_url(source.url), source
            return _from_hub(source.repo or "", source.file, hub_problem), source
        except _Unavailable as error:
            reasons.append(f"  {source}: {error}")
        except _Unreachable as error:  # asked once: the other files of the same hub are only looked for in the cache
            hub_problem = str(error)
            reasons.append(f"  {source}: not in the cache ({constants.HF_HUB_CACHE}), and {error}")
    raise WeightsError("the published weights cannot be had:\n" + "\n".join(reasons) + f"\n{CURE}")


def fetch_id(hub_id: str, files: Sequence[str] = USUAL_FILES) -> Path:
    """The file of a hub id ``owner/name`` (the first of ``files`` it has) or ``owner/name:file``."""
    match = HUB_ID.fullmatch(hub_id)
    if match is None:
        raise WeightsError(f"expected a hub id such as 'owner/name' or 'owner/name:file', got {hub_id!r}")
    chosen = (match["file"],) if match["file"] else files
    return fetch([WeightSource(repo=match["repo"], file=file) for file in chosen])[0]


def _from_hub(repo: str, file: str, problem: str | None) -> Path:
    """A file of a repository; with a known ``problem`` of the network, from the cache only."""
    try:
        if problem is not None:
            raise _Unreachable(problem)
        get_hf_file_metadata(hf_hub_url(repo, file), timeout=PROBE_SECONDS)
        return Path(hf_hub_download(repo, file))
    except (GatedRepoError, EntryNotFoundError, RevisionNotFoundError, RepositoryNotFoundError, HFValidationError) as e:
        raise _Unavailable(_absence(e)) from None
    except Exception as error:  # the client lets its HTTP library's errors through, whichever library that is
        cached = try_to_load_from_cache(repo, file)
        if isinstance(cached, str):
            return Path(cached)
        raise _Unreachable(problem or _network(error)) from None


def _absence(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "the repository wants a login and an agreement; ask for access on its page, then set HF_TOKEN"
    if isinstance(error, EntryNotFoundError):
        return "the repository has no such file"
    if isinstance(error, HFValidationError):
        return f"not a repository's name ({str(error).splitlines()[0]})"
    return "there is no such repository, or it is private and HF_TOKEN is not set"


def _network(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 keeps it from asking the hub"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return f"{constants.ENDPOINT} answered {error.response.status_code}"
    return f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}: {_first_line(error)})"


def _from_url(url: str) -> Path:
    """A plain address, kept where ``torch.hub`` keeps its checkpoints."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.exists():
        return path
    if constants.is_offline_mode():
        raise _Unavailable(f"not in the cache ({path.parent}), and HF_HUB_OFFLINE=1 keeps it from asking")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path))
    except HTTPError as error:
        raise _Unavailable(f"the server answered {error.code} {error.reason}") from None
    except (URLError, TimeoutError, OSError) as error:
        raise _Unavailable(f"not in the cache ({path.parent}), and {_first_line(error)}") from None
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
