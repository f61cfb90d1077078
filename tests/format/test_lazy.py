from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tarloom.format.lazy import lazy


class Reader:
    def __init__(self) -> None:
        self.made = 0

    @lazy
    def value(self) -> int:
        self.made += 1
        return self.made


def test_a_lazy_value_is_computed_once_when_it_is_asked_for():
    reader = Reader()
    assert reader.made == 0
    assert (reader.value, reader.value, reader.made) == (1, 1, 1)


def test_threads_compute_lazy_values_of_different_objects_at_once():
    both = Barrier(2, timeout=10)

    class Waiting:
        @lazy
        def value(self) -> int:
            return both.wait()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda waiting: waiting.value, [Waiting(), Waiting()])) == [0, 1]
