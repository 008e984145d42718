"""A sweep on a Ray cluster gives what the processes of one machine give; the cluster here is this machine."""

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import events, measured, swept, written_plan

from metaformer.ablation import ray_executor
from metaformer.ablation.job import Job
from metaformer.errors import MissingExtraError

Refused = Callable[..., str]


def test_without_ray_the_extra_is_named(tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'metaformer\[ray\]'"):
        swept(tiny_plan, tmp_path / "out", ray="local")


@pytest.mark.parametrize("address", ["nonsense", "ray://127.0.0.1:10001", "127.0.0.1:http", "127.0.0.1:1", ":6379"])
def test_a_wrong_address_is_refused_at_once(tiny_plan: Path, tmp_path: Path, refused: Refused, address: str) -> None:
    pytest.importorskip("ray")
    message = refused(tiny_plan, tmp_path / "out", ray=address)
    assert message.startswith(f"--ray {address}: expected 'local', 'auto' or the HOST:PORT")


def test_another_server_is_no_cluster(
    tiny_plan: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Ray alone would ask it for minutes, and complain on the terminal."""
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_executor, "PROBE_TIMEOUT", 4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        message = refused(tiny_plan, tmp_path / "out", ray=address)
    assert message.endswith("no Ray answers there")
    assert capfd.readouterr() == ("", "")


def test_a_cluster_that_asks_for_a_token_says_so(
    tiny_plan: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    complaint = "gcs_client.cc: Failed to get cluster ID from GCS server: Unauthenticated: RPC error: InvalidAuthToken"
    monkeypatch.setattr(ray_executor, "_PROBE", f"import sys; sys.exit({complaint!r})")
    with socket.create_server(("127.0.0.1", 0)) as server:
        message = refused(tiny_plan, tmp_path / "out", ray=f"127.0.0.1:{server.getsockname()[1]}")
    assert "asks for a token. Set RAY_AUTH_MODE=token" in message


def test_capacity_of_a_cluster() -> None:
    assert ray_executor._capacity({"CPU": 7.0, "GPU": 2.0}, threads=2, gpu=False) == 3
    assert ray_executor._capacity({"CPU": 7.0, "GPU": 2.0}, threads=2, gpu=True) == 2
    assert ray_executor._capacity({"CPU": 7.0}, threads=2, gpu=True) == 0
    assert ray_executor._capacity({"GPU": 1.0}, threads=1, gpu=False) == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray of two cores, as another program would have started it."""
    pytest.importorskip("ray")
    ray = ray_executor._import_ray()
    ray_executor._connect(ray, ray_executor.LOCAL, 2, 1, False)
    yield ray
    ray.shutdown()


def test_two_workers_find_what_processes_find_and_a_death_is_got_over(
    cluster: Any, unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, out = written_plan(tmp_path, 'Change(name="once", mixers=Once), '), tmp_path / "out"
    swept(plan, out, ray=ray_executor.LOCAL)
    assert capfd.readouterr() == ("", "")  # the cluster keeps to itself what it says of the death
    assert cluster.is_initialized()  # what we did not begin we do not end
    found = [(e["event"], e.get("attempt")) for e in events(out) if e.get("run") == "once/seed-0"]
    assert found == [("started", 1), ("died", None), ("started", 2), ("finished", None)]
    started = events(out, "sweep started")[0]
    assert (started["workers"], started["where"]) == (2, "Ray")
    found, expected = measured(out), measured(unbroken)
    assert found == {"base/seed-0": expected["base/seed-0"], "once/seed-0": expected["identity/seed-0"]}


@pytest.mark.slow
def test_the_whole_table_is_the_one_of_processes(cluster: Any, unbroken: Path, tiny_plan: Path, tmp_path: Path) -> None:
    swept(tiny_plan, tmp_path / "out", ray=ray_executor.LOCAL, seeds=2)
    assert measured(tmp_path / "out") == measured(unbroken)


def test_a_run_on_another_disk_gives_its_small_files_back(unbroken: Path, tmp_path: Path) -> None:
    """There the sweep's folder is missing or another sweep's, and so is the plan's file with a mixer of its own."""
    plan, elsewhere = written_plan(tmp_path, 'Change(name="once", mixers=Once), '), tmp_path / "elsewhere"
    (tmp_path / "died").touch()
    swept(plan, tmp_path / "out", workers=1)
    job = _job(tmp_path / "out", "once").with_changes(folder=str(elsewhere / "runs" / "once" / "seed-0"))
    result, files = ray_executor._run_remotely(
        job.with_changes(plan_file=str(elsewhere / "tiny.py")).to_dict(), plan.read_text(), "the sweep's own mark"
    )
    assert result["event"] == "finished"
    assert not elsewhere.exists()
    assert set(files) == {"config.json", "metrics.csv", "evaluation.json"}
    stale = elsewhere / "runs" / "once" / "seed-0"
    shutil.copytree(tmp_path / "out" / "runs" / "base" / "seed-0", stale)  # of an attempt on this machine
    ray_executor._write_returned(files, stale)
    assert measured(elsewhere) == {"once/seed-0": measured(unbroken)["identity/seed-0"]}
    assert not (stale / "last.safetensors").exists()


def _job(out: Path, slug: str) -> Job:
    """The job of a variant with its first seed."""
    from metaformer.ablation.folder import SweepFolder

    plan = SweepFolder(out).read_plan()
    (variant,) = [variant for variant in plan.variants if variant.slug == slug]
    return Job(
        run=f"{slug}/seed-0",
        title=variant.name,
        folder="",
        spec=variant.spec,
        recipe=variant.recipe.with_changes(seed=0),
        plan_file="",
    )
