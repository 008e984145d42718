"""Published files from the hub or a plain address to this machine, once; afterwards from the cache.

In: where a file is published. Out: its path here. One request first finds out whether the hub can be reached, because
the hub's own client retries for 20 seconds before it gives up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import WeightsError
from ..zoo.published_model import WeightSource

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<file>[\w./-]+))?")
"""``owner/name`` or ``owner/name:file``."""
USUAL_FILES = ("model.safetensors", "pytorch_model.bin")
PROBE_SECONDS = 10.0

ADVICE = (
    "With network access, run it once: the file is then cached (HF_HOME sets the cache, HF_ENDPOINT another hub, "
    "HF_HUB_OFFLINE=1 turns requests off). Without, download the file by hand and pass its path: weights=PATH, "
    "or load_weights(model, PATH)."
)


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """What huggingface_hub takes for a download, with its own defaults."""

    revision: str | None = None
    """Branch, tag or commit; the main branch where left out."""
    cache_dir: str | Path | None = None
    """In place of the cache that HF_HOME names."""
    token: str | bool | None = None
    """Access token; that of ``hf auth login`` or HF_TOKEN where left out, none where False."""
    local_files_only: bool = False
    """Look in the cache only."""


class _UnavailableError(Exception):
    """One source lacks the file; the message is the reason."""


class _UnreachableError(Exception):
    """The hub could not be asked; the message is the reason."""


def fetch(sources: Sequence[WeightSource], hub: HubOptions | None = None) -> tuple[Path, WeightSource]:
    """The first file that can be downloaded or is in the cache, and the source it is from.

    Raises:
        WeightsError: none of them; the message names each file with the reason, and what to do.
    """
    reasons = []
    hub_problem: str | None = None
    for source in sources:
        try:
            if source.url:
                return _from_url(source.url), source
            return _from_hub(source.repo or "", source.file, hub or HubOptions(), hub_problem), source
        except _UnavailableError as error:
            reasons.append(f"  {source}: {error}")
        except _UnreachableError as error:  # asked once: further files of the hub are only looked for in the cache
            hub_problem = str(error)
            reasons.append(f"  {source}: not in the cache ({constants.HF_HUB_CACHE}), and {error}")
    raise WeightsError("could not download the pretrained weights:\n" + "\n".join(reasons) + f"\n{ADVICE}")


def fetch_id(hub_id: str, files: Sequence[str] = USUAL_FILES, hub: HubOptions | None = None) -> Path:
    """The file of a hub id ``owner/name`` (the first of ``files`` it has) or ``owner/name:file``."""
    match = HUB_ID.fullmatch(hub_id)
    if match is None:
        raise WeightsError(f"expected a hub id such as 'owner/name' or 'owner/name:file', got {hub_id!r}")
    chosen = (match["file"],) if match["file"] else files
    return fetch([WeightSource(repo=match["repo"], file=file) for file in chosen], hub)[0]


def _from_hub(repo: str, file: str, hub: HubOptions, problem: str | None) -> Path:
    """A file of a repository; with a known ``problem`` of the network, from the cache only."""
    if hub.local_files_only:
        problem = "local_files_only=True rules out a download"
    try:
        if problem is not None:
            raise _UnreachableError(problem)
        url = hf_hub_url(repo, file, revision=hub.revision)
        get_hf_file_metadata(url, timeout=PROBE_SECONDS, token=hub.token)
        return Path(hf_hub_download(repo, file, revision=hub.revision, cache_dir=hub.cache_dir, token=hub.token))
    except GatedRepoError:  # before RepositoryNotFoundError, of which it is a kind
        reason = "the repository needs a login and an agreement; request access on its page, then set HF_TOKEN"
    except EntryNotFoundError:
        reason = "the repository has no such file"
    except HFValidationError as error:
        reason = f"not a repository name ({_first_line(error)})"
    except RevisionNotFoundError:
        reason = f"the repository has no revision {hub.revision or 'main'}"
    except RepositoryNotFoundError:
        reason = "there is no such repository, or it is private and HF_TOKEN is not set"
    except Exception as error:  # the client lets the errors of its HTTP library through, whichever library that is
        cached = try_to_load_from_cache(repo, file, cache_dir=hub.cache_dir, revision=hub.revision)
        if isinstance(cached, str):
            return Path(cached)
        raise _UnreachableError(problem or _network_problem(error)) from None
    raise _UnavailableError(reason)


def _network_problem(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 turns requests off"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return f"{constants.ENDPOINT} answered {error.response.status_code}"
    return f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}: {_first_line(error)})"


def _from_url(url: str) -> Path:
    """A plain address, kept where ``torch.hub`` keeps its checkpoints."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.exists():
        return path
    if constants.is_offline_mode():
        raise _UnavailableError(f"not in the cache ({path.parent}), and HF_HUB_OFFLINE=1 turns requests off")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path))
    except HTTPError as error:
        raise _UnavailableError(f"the server answered {error.code} {error.reason}") from None
    except OSError as error:  # URLError and TimeoutError are kinds of it
        raise _UnavailableError(f"not in the cache ({path.parent}), and {_first_line(error)}") from None
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
