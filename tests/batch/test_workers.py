"""Promise: tasks end whatever becomes of the processes that work, and each has a GPU of its own."""

import pytest
import tasks

from pymasr.batch import Crew, Workers
from pymasr.batch import workers as module
from pymasr.batch.workers import environment, visible_gpus
from pymasr.errors import InputError


def test_gpus_are_dealt_out(monkeypatch):
    assert visible_gpus("cpu") == [] and environment(3, []) == {}
    monkeypatch.setattr("pymasr.runtime.choose_device", lambda device: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus("auto") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [environment(number, visible_gpus("auto"))["CUDA_VISIBLE_DEVICES"] for number in range(3)] == ["4", "6", "4"]


def test_each_worker_sees_its_gpu(monkeypatch):
    """By default there is a worker for each GPU. The tasks wait for each other, so that neither does both."""
    monkeypatch.setattr(module, "visible_gpus", lambda device: ["4", "6"])
    with Crew(Workers()) as crew:
        crew.start()
        done = dict(crew.run(tasks.variable, {f"{k}": "CUDA_VISIBLE_DEVICES" for k in range(12)}))
    assert {outcome.value for outcome in done.values()} <= {"4", "6"} and len(done) == 12


def test_deaths_and_errors(tmp_path):
    retried = []
    with Crew(Workers(1, 1, tries=2, device="cpu")) as crew:
        crew.start()
        assert crew.threads == 1
        done = dict(crew.run(tasks.die_once, {"once": str(tmp_path / "begun")}, retried=retried.append))
        assert done["once"].value == "alive" and retried == ["once"]
        done = dict(crew.run(tasks.die, {"always": None}, retried=retried.append))
        assert done["always"].died and retried == ["once", "always"]
        done = dict(crew.run(tasks.fail, {"wrong": "no such thing"}))
        assert isinstance(done["wrong"].error, ValueError) and not done["wrong"].died


def test_a_cluster_of_the_users_own():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as own, \
            Crew(Workers(scheduler=own.scheduler_address, device="cpu")) as crew:
        crew.start()
        done = dict(crew.run(tasks.variable, {"a": "HOME", "b": "HOME"}))
        assert [done[name].value for name in "ab"] == [tasks.variable("HOME")] * 2
        assert crew.threads is None


def test_workers_that_make_no_sense(monkeypatch):
    with pytest.raises(InputError, match="count must be a whole number"):
        Workers(0)
    with pytest.raises(InputError, match="either their number or its address"):
        Workers(2, scheduler="tcp://host:8786")
    monkeypatch.setattr(module, "REACH", 0.5)
    with Crew(Workers(scheduler="tcp://127.0.0.1:9")) as crew, pytest.raises(InputError, match="no Dask scheduler at"):
        crew.start()
