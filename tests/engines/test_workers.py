"""How many workers, and which GPUs are whose."""

import os

import pytest

from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.local import LocalEngine
from tarloom.engines.workers import Workers, parse_workers, share_of, visible_gpus
from tarloom.errors import UsageError
from tests.engines.workers import TellsItsGpus


@pytest.mark.parametrize(
    ("said", "least", "most"), [(1, 1, 1), (16, 16, 16), ("3", 3, 3), ("1,8", 1, 8), ("2, 2", 2, 2)]
)
def test_a_number_or_a_range(said, least, most):
    assert parse_workers(said) == Workers(least=least, most=most)


@pytest.mark.parametrize("said", ["many", "", "1,2,3", "1.5", "1,", "0", "-1,2", "8,1"])
def test_anything_else_is_a_usage_error(said):
    with pytest.raises(UsageError, match="workers"):
        parse_workers(said)


@pytest.mark.parametrize(
    ("engine", "said", "message"),
    [
        ("local", "1,2", "a single number"),
        ("spark", "1,2", "a single number"),
        ("ray", "gpus", "is for the local engine"),
    ],
)
def test_words_that_an_engine_would_not_heed_are_refused(engine, said, message):
    with pytest.raises(UsageError, match=message):
        open_engine(EngineConfig(engine=engine, num_workers=said))


@pytest.mark.parametrize(("given", "gpus"), [("0,1", ["0", "1"]), ("", []), ("-1", []), ("GPU-7f, 3", ["GPU-7f", "3"])])
def test_the_users_gpus_are_those_that_the_environment_names(monkeypatch, given, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == gpus
    assert parse_workers("gpus").most == max(1, len(gpus))


def test_else_those_that_the_machine_has(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("tarloom.engines.workers._DEVICES", tmp_path)
    for name in ("nvidia3", "nvidia5", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_gpus() == ["0", "1"]  # CUDA numbers those that are visible


@pytest.mark.parametrize(("devices", "gpus"), [(["dxg", "null"], ["0"]), (["null"], [])])
def test_a_gpu_that_windows_lends_is_one(monkeypatch, tmp_path, devices, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("tarloom.engines.workers._DEVICES", tmp_path)
    for name in devices:
        (tmp_path / name).touch()
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("gpus", "workers", "shares"),
    [
        ("0123", 4, ["0", "1", "2", "3"]),
        ("0123", 2, ["01", "23"]),
        ("0123", 3, ["0", "1", "2"]),
        ("01", 5, ["0", "1", "0", "1", "0"]),
        ("", 2, ["", ""]),
    ],
)
def test_gpus_are_shared_out_evenly(gpus, workers, shares):
    assert ["".join(share_of(list(gpus), worker=n, workers=workers)) for n in range(workers)] == shares


def test_every_worker_process_sees_gpus_of_its_own_and_so_does_who_replaces_it(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    outcomes = list(LocalEngine(2).map(TellsItsGpus(str(tmp_path)), range(12)))
    assert {outcome.result for outcome in outcomes} == {"4", "7"}
    opened = [path.name.split("-")[0] for path in tmp_path.glob("*-opened-*")]
    assert len(opened) == 3
    assert set(opened) == {"4", "7"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
