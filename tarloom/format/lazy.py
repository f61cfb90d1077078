"""What an object computes when it is first asked for, and keeps."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class lazy(Generic[Value]):
    """As functools.cached_property, without its lock: before Python 3.12 that is one for all objects of a class, and
    threads that read different files would wait for each other. Where two ask one object at once, both compute."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: object, owner: type) -> Value:
        value: Value = self._compute(instance)
        vars(instance)[self._compute.__name__] = value
        return value
