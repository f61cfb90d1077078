"""One suite that every engine inherits."""

import itertools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tarloom.engines.base import NOT_YET, Engine
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.local import LocalEngine
from tarloom.engines.workers import Workers
from tarloom.errors import EngineError, UsageError
from tests.engines.piped import PipingEngine, Unreadable
from tests.engines.workers import CannotOpen, Collects, Squares, Stumbles
from tests.processes import are_gone, wait_for


class EngineSuite:
    """What holds for every engine."""

    workers = 2

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        raise NotImplementedError

    def test_every_item_ends_in_one_outcome(self, engine, tmp_path):
        outcomes = list(engine.map(Squares(str(tmp_path)), range(20)))
        assert sorted((o.item, o.result, o.error) for o in outcomes) == [(i, i * i, None) for i in range(20)]

    def test_a_worker_opens_once_and_no_more_open_than_asked_for(self, engine, tmp_path):
        list(engine.map(Squares(str(tmp_path)), range(20)))
        assert 1 <= len(list(tmp_path.iterdir())) <= self.workers

    def test_no_items_is_no_work(self, engine, tmp_path):
        assert list(engine.map(Squares(str(tmp_path)), [])) == []
        assert list(tmp_path.iterdir()) == []

    def test_items_are_taken_lazily(self, engine, tmp_path):
        taken = []
        endless = (taken.append(i) or i for i in itertools.count())
        outcomes = engine.map(Squares(str(tmp_path)), endless)
        for _ in range(5):
            next(outcomes)
        outcomes.close()
        assert len(taken) <= 5 + 3 * self.workers

    def test_what_is_there_is_done_while_a_source_has_no_more_yet(self, engine, tmp_path):
        done = []

        def source():
            """The next number comes only when the one before it is through."""
            for number in range(4):
                while len(done) < number:
                    yield NOT_YET
                yield number

        for outcome in engine.map(Squares(str(tmp_path)), source()):
            done.append(outcome.result)
        assert done == [0, 1, 4, 9]

    @pytest.mark.parametrize("manner", ["error", "broken"])
    def test_a_failed_try_is_repeated(self, engine, tmp_path, manner):
        outcomes = list(engine.map(Stumbles(str(tmp_path), manner, times=2), range(6), retries=2))
        assert sorted((o.item, o.result, o.error) for o in outcomes) == [(i, i, None) for i in range(6)]

    @pytest.mark.parametrize("manner", ["error", "broken"])
    def test_an_item_that_outlasts_its_retries_is_an_outcome_with_an_error(self, engine, tmp_path, manner):
        outcomes = {o.item: o for o in engine.map(Stumbles(str(tmp_path), manner, times=9), range(6), retries=1)}
        assert sorted(outcomes) == list(range(6))
        assert [o.item for o in outcomes.values() if o.error] == [3]
        assert len(outcomes[3].error.splitlines()) == 1
        assert len(list(tmp_path.glob("try-3-*"))) == 2

    @pytest.mark.parametrize(("manner", "kind"), [("usage", UsageError), ("engine", EngineError)])
    def test_errors_that_end_a_run_come_out_as_themselves(self, engine, tmp_path, manner, kind):
        with pytest.raises(kind, match=r"no such model|the disk is gone") as raised:
            list(engine.map(Stumbles(str(tmp_path), manner, times=9), range(6)))
        assert raised.type is kind

    @pytest.mark.parametrize(("manner", "kind"), [("usage", UsageError), ("error", EngineError)])
    def test_a_worker_that_cannot_open_ends_the_run(self, engine, manner, kind):
        with pytest.raises(kind):
            list(engine.map(CannotOpen(manner), range(6)))


class MortalSuite(EngineSuite):
    """What holds besides where workers live in processes of their own, which may die."""

    def test_the_item_of_a_worker_that_dies_is_tried_by_another(self, engine, tmp_path):
        outcomes = list(engine.map(Stumbles(str(tmp_path), "killed", times=2), range(6), retries=2))
        assert sorted((o.item, o.result, o.error) for o in outcomes) == [(i, i, None) for i in range(6)]

    def test_an_item_that_kills_its_workers_is_an_outcome_with_an_error(self, engine, tmp_path):
        outcomes = {o.item: o for o in engine.map(Stumbles(str(tmp_path), "killed", times=9), range(6), retries=1)}
        assert [o.item for o in outcomes.values() if o.error] == [3]
        assert len(outcomes) == 6

    def test_workers_that_die_while_opening_end_the_run(self, engine):
        with pytest.raises(EngineError, match="workers in a row died"):
            list(engine.map(CannotOpen("killed"), range(6)))


class TestInline(EngineSuite):
    workers = 1

    @pytest.fixture
    def engine(self):
        return LocalEngine()


class TestProcesses(MortalSuite):
    @pytest.fixture
    def engine(self):
        return LocalEngine(2)


class TestRay(MortalSuite):
    @pytest.fixture
    def engine(self, ray_session):
        engine = open_engine(EngineConfig(engine="ray", num_workers=2))
        yield engine
        engine.close()

    def test_a_worker_that_fits_nowhere_is_refused(self, ray_session):
        with pytest.raises(UsageError, match=r"no node .* 64 GPUs"):
            open_engine(EngineConfig(engine="ray", gpus_per_worker=64))

    def test_a_worker_that_ray_ends_for_lack_of_memory_has_died_like_any_other(self, engine, tmp_path, monkeypatch):
        import ray
        from ray.exceptions import OutOfMemoryError

        get, asked = ray.get, itertools.count()

        def get_but_once(reference):
            if next(asked) == 2 * self.workers:
                raise OutOfMemoryError("the node ran low on memory")
            return get(reference)

        monkeypatch.setattr(ray, "get", get_but_once)
        outcomes = list(engine.map(Squares(str(tmp_path)), range(20)))
        assert sorted((o.item, o.result, o.error) for o in outcomes) == [(i, i * i, None) for i in range(20)]
        assert next(asked) > 2 * self.workers  # it was ended

    def test_a_session_of_the_caller_is_left_alone(self, engine):
        import ray

        engine.close()
        assert ray.is_initialized()


@pytest.mark.long  # tests/process/test_engines.py has the quick ones
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context")  # Ray copies its own settings
class TestRayData(MortalSuite):
    """Every item is one portion of bytes here."""

    test_items_are_taken_lazily = None  # Ray Data is given all that there are

    @pytest.fixture
    def engine(self, ray_session):
        config = EngineConfig(engine="ray-data", num_workers="1,2", cpus_per_worker=0.5)
        engine = PipingEngine(open_engine(config))
        yield engine
        engine.close()

    def test_a_pool_that_leaves_no_cpu_for_reading_is_refused(self, ray_session):
        with pytest.raises(UsageError, match=r"2 CPUs .* reading beside them need 3"):
            open_engine(EngineConfig(engine="ray-data", num_workers=2))

    def test_what_cannot_be_split_is_refused(self, ray_session):
        engine = open_engine(EngineConfig(engine="ray-data"))
        with pytest.raises(UsageError, match="give --engine ray"):
            next(engine.map(Squares(""), range(3)))


def test_workers_that_fit_on_no_node_of_a_cluster_are_refused_for_ray_data_too(ray_session, monkeypatch):
    import ray

    from tarloom.engines.ray_data import RayDataEngine

    nodes = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}] * 2
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 2.0})
    RayDataEngine(Workers(least=2, most=2), gpus_per_worker=1).close()
    with pytest.raises(UsageError, match="no node of the Ray cluster has 1 CPUs and 2 GPUs for one worker"):
        RayDataEngine(Workers(least=1, most=1), gpus_per_worker=2)


def test_reading_that_fails_before_its_first_portion_is_a_failed_try_of_ray_data():
    import ray

    from tarloom.engines.ray_data import _read
    from tarloom.engines.ray_rows import rows_of

    ((row,),) = [list(rows_of(table)) for table in _read(Unreadable(Collects()), 7, ray.cloudpickle.dumps(3))]
    assert (row["number"], row["portions"]) == (7, 0)
    assert "OSError: no such tar: 3" in ray.cloudpickle.loads(row["reply"]).error


def test_what_ray_data_leaves_out_is_told_with_its_cause_and_by_us_alone(caplog):
    """As Ray logs it. A whole run that loses something takes long."""
    from ray.data._internal.execution import streaming_executor_state as ray_executor

    from tarloom.engines.ray_data import _lost
    from tarloom.engines.ray_datasets import left_out, quiet_data

    with quiet_data(logging.CRITICAL, known=()), left_out() as errors:
        assert _lost(errors) == "a worker died that had a part of it"
        for message in ("no module named yours", "no module named mine"):
            ray_executor.logger.error("An exception was raised from a task", exc_info=ImportError(message))
        assert _lost(errors) == "a part of it was lost; Ray's last word: ImportError: no module named mine"
    assert caplog.records == []


class TestSpark(MortalSuite):
    @pytest.fixture
    def engine(self, spark_session):
        engine = open_engine(EngineConfig(engine="spark", num_workers=2))
        yield engine
        engine.close()

    def test_a_session_of_the_caller_is_left_alone(self, engine, spark_session, tmp_path):
        engine.close()
        assert spark_session.range(3).count() == 3

    def test_a_session_of_another_thread_is_left_alone_too(self, spark_session):
        def run():
            with closing(open_engine(EngineConfig(engine="spark", num_workers=7))):
                return spark_session.conf.get("spark.sql.shuffle.partitions")

        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(run).result() == "2"
        assert spark_session.range(3).count() == 3

    def test_a_session_that_is_started_here_shuffles_into_as_many_parts_as_it_works_on(self, spark_session):
        assert spark_session.conf.get("spark.sql.shuffle.partitions") == "2"


DRIVER = """
import signal, sys
from tarloom.engines.choose import EngineConfig, open_engine
from tests.engines.piped import PipingEngine
from tests.engines.workers import Sleeps
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    engine = open_engine(EngineConfig(engine=sys.argv[1], num_workers=2))
    try:
        list(engine.map(Sleeps(sys.argv[2]), range(9)))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        engine.close()
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("engine", "how"),
    [
        *itertools.product(["local", "ray"], [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]),
        pytest.param("spark", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("spark", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("spark", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_a_driver_that_is_stopped(tmp_path, engine, how):
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    pids = tmp_path / "pids"
    pids.mkdir()
    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": root}
    process = subprocess.Popen(
        [sys.executable, str(driver), engine, str(pids)],
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or len(list(pids.iterdir())) == 2, seconds=200)
        if how == signal.SIGINT and process.poll() is None:
            os.killpg(process.pid, how)  # as a terminal does: the whole group hears it
        else:
            process.send_signal(how)
        _, said = process.communicate(timeout=120)
        assert process.returncode == (-how if how == signal.SIGKILL else 130), said
        assert "Traceback" not in said
        workers = [int(path.name.removeprefix("pid-")) for path in pids.iterdir()]
        assert len(workers) == 2
        wait_for(lambda: are_gone(workers), seconds=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_address_where_no_cluster_answers_is_a_usage_error(tmp_path):
    program = (
        "from tarloom.engines.choose import EngineConfig, open_engine\n"
        "open_engine(EngineConfig(engine='ray', ray_address='127.0.0.1:1'))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "UsageError: no Ray cluster at 127.0.0.1:1" in run.stderr.splitlines()[-1]


def test_a_ray_that_does_not_start_is_one_error_that_says_so(monkeypatch):
    import ray

    def init(**options):
        raise Exception("The current node timed out during startup.\nThis could happen because")  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(EngineError, match=r"^Ray did not start on this machine: The current node .*; run the same"):
        open_engine(EngineConfig(engine="ray"))


@pytest.mark.parametrize("engine", ["local", "ray", "spark"])
def test_a_number_of_workers_below_one_is_refused(engine):
    with pytest.raises(UsageError, match="at least 1"):
        open_engine(EngineConfig(engine=engine, num_workers=0))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"cpus_per_worker": -1.0}, "cpus_per_worker must be at least 0, not -1.0"),
        ({"cpus_per_worker": float("nan")}, "cpus_per_worker must be at least 0, not nan"),
        ({"gpus_per_worker": -0.5}, "gpus_per_worker must be at least 0, not -0.5"),
        ({"gpus_per_worker": 1.5}, "gpus_per_worker 1.5: more than one GPU can only be whole ones"),
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", ["ray", "ray-data"])
def test_what_no_worker_can_be_given_is_refused(engine, option, said):
    with pytest.raises(UsageError, match=said):
        open_engine(EngineConfig(engine=engine, **option))


@pytest.mark.parametrize("engine", ["local", "spark"])
@pytest.mark.parametrize("option", [{"gpus_per_worker": 1}, {"cpus_per_worker": 2}, {"ray_address": "auto"}], ids=str)
def test_options_that_an_engine_would_not_heed_are_refused(engine, option):
    with pytest.raises(UsageError, match="is for Ray"):
        open_engine(EngineConfig(engine=engine, **option))


def test_garbage_is_collected_in_worker_processes():
    """Not in the server that they are forked from."""
    assert [outcome.result for outcome in LocalEngine(2).map(Collects(), range(2))] == [True, True]


def test_workers_that_the_system_lets_nobody_start_are_one_error_that_says_what_to_check(tmp_path):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    program = "from tarloom.engines.local import LocalEngine\nlist(LocalEngine(2).map(list, [1]))"
    command, environment = [sys.executable, "-c", program], os.environ | {"TMPDIR": str(long)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert "EngineError: no worker process can be started: AF_UNIX path too long; check that TMPDIR" in run.stderr
