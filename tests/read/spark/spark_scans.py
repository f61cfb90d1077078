"""A program for spark-submit that scans what it is told to: requests and answers are lines of JSON on a Unix socket."""

import dataclasses
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import tarloom
from tarloom.engines.spark_session import start
from tarloom.errors import TarloomError
from tarloom.read.readers import ScanJob
from tarloom.read.scan import ScanConfig, Tallier, Tally
from tarloom.read.spark import frames as spark


def scan(config: dict[str, Any], cut: str | None, kill: bool) -> dict[str, Any]:
    """A scan's summary, or the name and message of its error. cut: a tar to damage when the scan has been planned."""
    try:
        if kill:
            doomed = KillingTallier(members=(), digest=False, show=0)
            return {"seen": list(spark.scan(tarloom.open(config["path"]), ScanConfig(**config), doomed))}
        job = ScanJob("spark", ScanConfig(**config))
        job.prepare()
        if cut is not None:
            os.truncate(cut, 20_000)
        seen = sum(tally.rows for tally in job)
    except TarloomError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"seen": seen, "total": job.total, "summary": dataclasses.asdict(job.summary())}


class KillingTallier(Tallier):
    """Its executor dies where it counts: the JVM above the daemon above this process."""

    def of_batch(self, batch: Any) -> Tally:
        daemon = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
        os.kill(int(daemon[1]), signal.SIGKILL)
        time.sleep(60)
        raise AssertionError("still there")


def whereabouts(task: int) -> tuple[str, str]:
    """Of a Python process on an executor: its folder, and the library that it has loaded."""
    time.sleep(0.5)
    return os.getcwd(), tarloom.__file__


def main(address: str) -> None:
    session = start(1, {})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        with connection.makefile("rw") as lines:
            places = session.sparkContext.parallelize(range(4), 4).map(whereabouts).collect()
            print(json.dumps([session.sparkContext.applicationId, places]), file=lines, flush=True)
            for line in lines:
                print(json.dumps(scan(**json.loads(line))), file=lines, flush=True)
    session.stop()


if __name__ == "__main__":
    main(sys.argv[1])
