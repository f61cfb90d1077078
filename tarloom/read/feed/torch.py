"""The feed for torch: tensors where the feed has numpy arrays, alone or in a DataLoader.

    feed = ds.to_torch(256, seed=1, decode=RandomCrop(224))
    for batch in feed: ...                                   # threads of this process read and decode
    for batch in feed.loader(num_workers=2): ...             # for a transform that takes long; resumes exactly, too
    DataLoader(feed, batch_size=None, num_workers=2)         # torch's own, or torchdata's StatefulDataLoader

Workers of a loader take steps in turn, so that a loader hands them on in their order.
"""

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np

from tarloom.engines.local import interrupts_end_here
from tarloom.engines.main_program import check_sendable
from tarloom.errors import UsageError, missing_extra
from tarloom.format.cpus import take_part_of_share
from tarloom.read.feed.batches.assemble import KEPT, Batch
from tarloom.read.feed.batches.room import Room
from tarloom.read.feed.batches.shared import Blocks, SharedRoom, blocks_for
from tarloom.read.feed.feed import Feed, StepStride
from tarloom.read.feed.state import given_state
from tarloom.read.feed.torch_blocks import send_in
from tarloom.read.ledger import Ledger
from tarloom.read.torch_workers import with_plain_errors

try:
    import torch
    import torch.distributed
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError as error:
    raise missing_extra("torch", error) from error


class TorchFeed(IterableDataset[Any]):  # type: ignore[misc]
    """A feed whose batches hold tensors. transform: from a batch to what is yielded, in the process that read it."""

    def __init__(self, feed: Feed, *, transform: Callable[[Batch], Any] | None = None) -> None:
        super().__init__()
        if transform is not None and not callable(transform):
            raise UsageError(f"transform is a function from a batch to what is yielded, not {transform!r:.80}")
        self.feed = feed
        self._transform = transform
        # What this process last told its workers, some of which live on from epoch to epoch: the number of the message,
        # that of the last one by which they were to begin at a place, and the place: an epoch, and samples of it.
        self._message = torch.zeros(4, dtype=torch.int64).share_memory_()
        self._heard = 0
        self._told_always = False
        """Whether workers that have this feed are told a place for every iteration: those of our own Loader are."""
        self._blocks: Blocks | None = None
        """Memory for pictures that the workers of our own Loader share with it."""
        self._room: Room | None = None
        self._loaded = False
        """Whether this process, a worker, begins where a state of its own says, whatever it was told."""

    def __len__(self) -> int:
        """Steps of an epoch, the same for every rank."""
        return len(self.feed)

    @property
    def epoch(self) -> int:
        """The one that the next iteration is of, or goes on with."""
        return self.feed.epoch

    @property
    def ledger(self) -> Ledger:
        """See Feed: a loader's workers count for themselves."""
        return self.feed.ledger

    @property
    def left_out(self) -> Mapping[str, int]:
        """See Feed."""
        return self.feed.left_out

    def shuffle_quality(self, batch: int | None = None) -> float:
        """See Feed."""
        return self.feed.shuffle_quality(batch)

    def set_epoch(self, epoch: int) -> None:
        """See Feed. Workers of DataLoaders hear it where their next iteration begins."""
        self.feed.set_epoch(epoch)
        self._tell(placed=int(self._message[1]))

    def state_dict(self) -> dict[str, Any]:
        """See Feed. A DataLoader's worker has a state of its own: that of the steps whose turn is its."""
        return self.feed.state_dict() | self._worker()

    def load_state_dict(self, facts: Mapping[str, Any]) -> None:
        """See Feed. Raises UsageError for a worker's state where there is no such worker."""
        own, saved = self._worker(), {name: of for name, of in given_state(facts).items() if name == "worker"}
        if own != saved:
            raise UsageError(
                f"the state is of {_described(saved)}, and this is {_described(own)}: a DataLoader's state goes on "
                "with as many workers and as large batches; that of feed.loader() with any"
            )
        self.feed.load_state_dict({name: facts[name] for name in facts if name != "worker"})
        if own:  # its own next step begins there; the iteration, so many steps before
            number, _, size = own["worker"]
            self.feed.go(self.feed.epoch, self.feed.steps().start - number * size)
            self._loaded = True
        else:
            self._tell_place()

    def loader(
        self,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int | None = None,
    ) -> "Loader":
        """A DataLoader whose state is exact: see Loader. The options are torch's."""
        return Loader(self, num_workers=num_workers, pin_memory=pin_memory, prefetch_factor=prefetch_factor)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        if info is not None:
            self._hear()
            take_part_of_share(info.num_workers)  # so many threads for it to decode in
        steps = self.feed.steps(StepStride() if info is None else StepStride(first=info.id, every=info.num_workers))
        made = self._made(self.feed.batches(steps, self._room_of(info)))
        if info is not None and self._told_always:
            made = _sendable(made)
        # Workers stay in their epoch until they are told: the next iteration may begin before they have ended this one.
        return self.feed.counting(steps, made, all_steps=info is None)

    def _made(self, batches: Iterator[Batch]) -> Iterator[Any]:
        for batch in batches:
            tensors = {name: _tensor(value) for name, value in batch.items()}
            yield tensors if self._transform is None else self._transform(tensors)

    def _room_of(self, info: Any) -> Room | None:
        """What a worker of our own Loader makes pictures in, from epoch to epoch."""
        if self._room is None and self._blocks is not None and info is not None:
            own = self._blocks.count // info.num_workers
            self._room = SharedRoom(self._blocks, range(info.id * own, (info.id + 1) * own), kept=KEPT)
            send_in(self._blocks)
        return self._room

    def _worker(self) -> dict[str, list[int]]:
        """What a state says beside the feed's: which worker of how many, and the samples of a step."""
        info = get_worker_info()
        return {} if info is None else {"worker": [info.id, info.num_workers, self.feed.step_samples]}

    def _for_loader(self) -> "TorchFeed":
        """This feed, for a Loader's workers."""
        feed = copy.copy(self)
        feed._told_always = True
        return feed

    def _tell_place(self) -> None:
        """Workers begin their next iteration where this feed stands."""
        self._tell(placed=self._heard + 1)

    def _tell(self, *, placed: int) -> None:
        self._heard += 1
        self._message[:] = torch.tensor([self._heard, placed, self.feed.epoch, self.feed.steps().start])

    def _hear(self) -> None:
        if self._loaded:  # what was told before this process began is heard where its next iteration begins
            self._loaded, self._heard = False, 0
            return
        number, placed, epoch, samples = self._message.tolist()
        # A Loader's worker may be late, and hear this in an iteration that was broken off.
        if self._told_always or placed > self._heard:
            self.feed.go(epoch, samples)
        elif number != self._heard:  # who has begun at the place already begins its epoch anew
            self.feed.set_epoch(epoch)
        self._heard = number


class Loader:
    """A DataLoader over a feed. Its state is that of what was taken from it, not of what workers have prepared.

    So the state is the feed's, and goes on with any number of workers, or with none. Workers live on from epoch to
    epoch. They are spawned, as a fork would copy the locks of threads that run here, but not the threads: the program's
    own lines belong below `if __name__ == "__main__":`.
    """

    def __init__(self, feed: TorchFeed, *, num_workers: int, **options: Any) -> None:
        self._feed = feed
        self._workers = num_workers
        sent = feed._for_loader()
        self._loader = DataLoader(
            sent,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context="spawn" if num_workers else None,
            **options,
        )
        waiting = self._loader.prefetch_factor or 0
        sent._blocks = blocks_for(feed.feed.array_bytes, workers=num_workers, waiting=waiting)

    def __len__(self) -> int:
        return len(self._feed)

    @property
    def epoch(self) -> int:
        """See TorchFeed."""
        return self._feed.epoch

    def set_epoch(self, epoch: int) -> None:
        """See Feed."""
        self._feed.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """See Feed."""
        return self._feed.state_dict()

    def load_state_dict(self, facts: Mapping[str, Any]) -> None:
        """See Feed."""
        self._feed.load_state_dict(facts)

    def __iter__(self) -> Iterator[Any]:
        if not self._workers:
            return iter(self._loader)
        self._feed._tell_place()
        batches = self._begun()
        return self._feed.feed.counting(self._feed.feed.steps(), with_plain_errors(batches))

    def _begun(self) -> Iterator[Any]:
        """The loader's iterator, with its workers. Raises UsageError for a transform that cannot be sent to them."""
        try:
            check_sendable((self._feed.feed, self._feed._transform), "give num_workers=0")
            with interrupts_end_here(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Got pickle error")  # torch's: it advises to fork
                return iter(self._loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                f"the feed cannot be sent to its workers: {error}; give a transform that is a function of a module, or "
                "num_workers=0"
            ) from error


def place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Given, or torch.distributed's, or the only one. Raises UsageError for half a place."""
    if (rank is None) != (world_size is None):
        raise UsageError("give both rank and world_size, or none of them")
    if rank is None or world_size is None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    return rank, world_size


def _described(worker: Mapping[str, list[int]]) -> str:
    if not worker:
        return "no worker of a DataLoader"
    number, workers, samples = worker["worker"]
    return f"worker {number} of {workers}, whose steps have {samples} samples"


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _sendable(made: Iterator[Any]) -> Iterator[Any]:
    """The same, from a worker. Raises UsageError where the first cannot be sent: a loader would wait for it forever."""
    for first in islice(made, 1):
        try:
            pickle.Pickler(BytesIO()).dump(first)  # as torch will, in a thread that nobody hears of
        except Exception as error:  # whatever an object raises that is not made to be sent
            raise UsageError(
                f"a worker cannot send what transform returns: {error}; let it return tensors, arrays, lists, texts "
                "and the like, or give num_workers=0"
            ) from error
        yield first
    yield from made


def _unchanged(batch: Batch) -> Batch:
    """Without a function of one's own, a DataLoader makes tensors of arrays."""
    return batch
