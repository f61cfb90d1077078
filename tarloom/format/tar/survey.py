"""What a tar holds beside plain samples, by name: what readers refuse or never see, and what mends it."""

from collections.abc import Iterator

from tarloom.format.tar.headers import Link, Member
from tarloom.format.tar.walk import split_name

_REPAIR = "make a copy that is sound with: tarloom repair"
_APART = "samples go on behind other samples"
_TWICE = "members come a second time in their sample"
_LINKS = "members are links, which readers leave out"
_NO_SAMPLE = "files belong to no sample, and readers leave them out"


class Survey:
    """Sees all that is in a tar, in order."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._seen: set[str] = set()
        self._extensions: set[str] = set()
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, found: Member | Link) -> None:
        """Look at the next file or link."""
        parts = split_name(found.name)
        if isinstance(found, Link):
            if parts is not None:
                self._note(_LINKS, f"{found.name!r} to {found.target!r}")
        elif parts is None:
            self._note(_NO_SAMPLE, repr(found.name))
        else:
            self._add_member(*parts, found)

    @property
    def joins(self) -> bool:
        """Whether all members so far can be read: each once, those of a sample side by side."""
        return not {_APART, _TWICE} & self._counts.keys()

    def problems(self) -> Iterator[str]:
        """What readers refuse, or what samples lack."""
        for what in (_APART, _TWICE, _LINKS):
            if what in self._counts:
                yield f"{self._told(what)}; {_REPAIR}"

    def oddities(self) -> Iterator[str]:
        """What is untidy, though no sample is lost by it."""
        if _NO_SAMPLE in self._counts:
            yield self._told(_NO_SAMPLE)

    def _add_member(self, key: str, extension: str, member: Member) -> None:
        if key != self._key:
            if key in self._seen:
                self._note(_APART, f"{key!r} at byte {member.offset}")
            self._seen.add(key)
            self._key, self._extensions = key, set()
        if extension in self._extensions:
            self._note(_TWICE, f"{member.name!r} at byte {member.offset}")
        self._extensions.add(extension)

    def _note(self, what: str, name: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1
        self._first.setdefault(what, name)

    def _told(self, what: str) -> str:
        return f"{self._counts[what]} {what} (first: {self._first[what]})"
