"""Creation beside img2dataset 1.47: images per CPU-second and per second, both sides in turn over the same web server.

    python -m benchmarks.create_vs_img2dataset                     3000 pictures, 3 rounds, about three minutes
    python -m benchmarks.create_vs_img2dataset --json              ends with one line of JSON

nginx serves photo-like JPEGs (benchmarks/photos.py) on loopback. Each round runs both programs with two processes, once
with resizing (256 pixels, keep_ratio, q95) and once without re-encoding, and our codec alone in a loop over the same
files. Both sides keep EXIF tags and sha256. The CPU is of the whole tree of processes, start-up included, the web
server's left out and reported apart. A run of a few pictures is nearly all start-up: "beyond it" is what each further
picture takes, and so the ratio that a list of millions sees. Both sides run from bytecode, which a small run writes
where there is none: pip compiles what it installs, a checkout and some other installers do not. The figures are
medians. Exit code 1 where one is not as wanted.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.creation_sides import PROCESSES, SIDES, commands, peer_program
from benchmarks.photos import make_photos
from benchmarks.process_tree import Cost, run_tree
from benchmarks.web_server import WebServer
from tarloom.create.config import ImageOptions

FEW = 8
"""Pictures of a run that is nearly all start-up."""
ROOT = Path(__file__).resolve().parents[1]
WORKS = ("resizing", "as they come")
WANTED_CPU = {"resizing": 2.5, "as they come": 3.0}
WANTED_WALL = 2.5
WANTED_CODEC = 1.35


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Medians of one side at one kind of work, per picture: milliseconds of CPU, and of the web server's."""

    cpu: float
    further: float
    """Beyond start-up."""
    system: float
    server: float
    per_second: float
    """Pictures per second of wall time."""

    @property
    def per_cpu_second(self) -> float:
        return 1000 / self.cpu


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _parse()
    peer = peer_program()
    photos = make_photos(options.photos, options.count)
    found: dict[tuple[str, str], list[tuple[Cost, float]]] = defaultdict(list)
    start_up: dict[str, list[float]] = defaultdict(list)
    codec: list[float] = []
    with WebServer(options.photos) as server, tempfile.TemporaryDirectory(prefix="tarloom-create-") as folder:
        urls = _url_list(Path(folder, "urls.txt"), server, photos)
        few = commands(peer, _url_list(Path(folder, "few.txt"), server, photos[:FEW]), options)
        _write_bytecode(few, server, Path(folder))
        for _ in range(options.rounds):
            for side, command in few.items():
                start_up[side].append(_run(side, command, Path(folder), server, FEW)[0].cpu)
                _tell(f"{side}, start-up: {start_up[side][-1]:.1f} s of CPU")
            codec.append(_codec_alone(photos))
            _tell(f"codec alone: {codec[-1]:.2f} ms")
            for work in WORKS:
                for side, command in commands(peer, urls, options, as_they_come=work != "resizing").items():
                    cost, serving = _run(side, command, Path(folder), server, len(photos))
                    found[side, work].append((cost, serving))
                    _tell(f"{side}, {work}: {cost.cpu:.1f} s of CPU, {cost.wall:.1f} s")
    measured = {
        (side, work): _median(costs, len(photos), start_up=statistics.median(start_up[side]))
        for (side, work), costs in found.items()
    }
    facts = _facts(options, photos)
    checks = list(_checks(measured, statistics.median(codec)))
    _print(facts, measured, statistics.median(codec), checks)
    if options.json:
        print(json.dumps(_as_json(facts, measured, statistics.median(codec), checks)))
    return 0 if all(check.ok for check in checks) else 1


def _parse() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="pictures (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--photos", type=Path, default=cache / "tarloom/photos", help="where pictures are made, and kept"
    )
    parser.add_argument("--threads", type=int, default=64, help="downloads at once per process, of both sides")
    parser.add_argument("--rows", type=int, default=750, help="per shard, of both sides")
    parser.add_argument("--json", action="store_true", help="end stdout with one line of JSON")
    return parser.parse_args()


def _url_list(file: Path, server: WebServer, photos: list[Path]) -> Path:
    file.write_text("".join(f"{server.url}/{path.name}\n" for path in photos))
    return file


def _write_bytecode(few: dict[str, list[str]], server: WebServer, folder: Path) -> None:
    """Run each side once, free to write it. Whoever's environment forbids that would time our compiler."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for side, command in few.items():
        _run(side, command, folder, server, FEW)


def _run(side: str, command: list[str], folder: Path, server: WebServer, count: int) -> tuple[Cost, float]:
    """One run into a new folder, and the web server's CPU meanwhile. All rows must be successes."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        place = f"--{'output' if side == 'tarloom' else 'output_folder'}={output}/shards"
        before = server.cpu
        cost = run_tree([*command, place], folder=ROOT)
        serving = server.cpu - before
        stats = [json.loads(path.read_text()) for path in Path(output, "shards").glob("*_stats.json")]
    if cost.exit_code or sum(each["successes"] for each in stats) != count:
        sys.exit(f"{side} did not make all {count} samples (exit code {cost.exit_code}):\n{cost.output}")
    return cost, serving


def _codec_alone(photos: list[Path]) -> float:
    """Milliseconds of CPU that our codec takes for a picture: decode, resize, encode, and nothing else."""
    from tarloom.create.pictures.images import process_picture

    options = ImageOptions(resize_mode="keep_ratio")
    used = 0.0
    for path in photos:
        data = path.read_bytes()
        begun = time.thread_time()
        process_picture(data, options)
        used += time.thread_time() - begun
    return 1000 * used / len(photos)


def _median(costs: list[tuple[Cost, float]], count: int, *, start_up: float) -> Measured:
    """start_up: seconds of CPU for the first few pictures."""
    cpu = statistics.median(cost.cpu for cost, _ in costs)
    return Measured(
        cpu=1000 * cpu / count,
        further=1000 * (cpu - start_up) / (count - FEW),
        system=statistics.median(1000 * cost.system / count for cost, _ in costs),
        server=statistics.median(1000 * serving / count for _, serving in costs),
        per_second=statistics.median(count / cost.wall for cost, _ in costs),
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """A ratio, and what it must at least or at most be."""

    what: str
    ratio: float
    wanted: float
    at_most: bool = False

    @property
    def ok(self) -> bool:
        return self.ratio <= self.wanted if self.at_most else self.ratio >= self.wanted


def _checks(measured: dict[tuple[str, str], Measured], codec: float) -> Iterator[Check]:
    for work in WORKS:
        ours, theirs = (measured[side, work] for side in SIDES)
        yield Check(what=f"{work}: images per CPU-second", ratio=theirs.cpu / ours.cpu, wanted=WANTED_CPU[work])
        yield Check(what=f"{work}: images per second", ratio=ours.per_second / theirs.per_second, wanted=WANTED_WALL)
    ratio = measured["tarloom", "resizing"].cpu / codec
    yield Check(what="CPU per image, whole to codec", ratio=ratio, wanted=WANTED_CODEC, at_most=True)


def _facts(options: argparse.Namespace, photos: list[Path]) -> dict[str, object]:
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "pictures": len(photos),
        "mean_kilobytes": round(sum(path.stat().st_size for path in photos) / len(photos) / 1000),
        "rounds": options.rounds,
        "processes": PROCESSES,
        "thread_count": options.threads,
        "number_sample_per_shard": options.rows,
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _print(
    facts: dict[str, object], measured: dict[tuple[str, str], Measured], codec: float, checks: list[Check]
) -> None:
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    titles = "ms CPU/image beyond start of it system  img/CPU-s    img/s  nginx ms"
    print(f"{'':28} {titles}")
    for (side, work), found in measured.items():
        figures = f"{found.cpu:12.2f} {found.further:12.2f} {found.system:12.2f} {found.per_cpu_second:10,.0f}"
        print(f"{side + ', ' + work:28} {figures} {found.per_second:8,.0f} {found.server:9.2f}")
    print(f"{'our codec alone':28} {codec:12.2f}")
    for work in WORKS:
        ours, theirs = (measured[side, work].further for side in SIDES)
        print(f"{work + ': images per CPU-second, beyond start-up':51} {theirs / ours:5.2f} x")
    for check in checks:
        bound = f"wanted at {'most' if check.at_most else 'least'} {check.wanted:.2f}"
        print(f"{check.what:51} {check.ratio:5.2f} x   {bound}   {'ok' if check.ok else 'NOT REACHED'}")


def _as_json(
    facts: dict[str, object], measured: dict[tuple[str, str], Measured], codec: float, checks: list[Check]
) -> dict[str, object]:
    sides = {
        f"{side}, {work}": {**vars(found), "per_cpu_second": found.per_cpu_second}
        for (side, work), found in measured.items()
    }
    return {**facts, "codec_ms": codec, "sides": sides, "checks": [{**vars(check), "ok": check.ok} for check in checks]}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
