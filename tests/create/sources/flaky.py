"""A web server whose troubles pass: /503/0001.jpg, /404/..., /page/... until `recover` is told that name."""

import threading
import time

from tests.create.helpers import PICTURES
from tests.create.sources.small_server import Reply, SmallServer

OUTAGE = Reply(status=503)
TROUBLES = {"503": OUTAGE, "404": Reply(status=404), "page": Reply(b"<!DOCTYPE html><title>Sign in</title>")}


class FlakyServer(SmallServer):
    """Pictures at /0001.jpg, and behind each of TROUBLES."""

    def __init__(self) -> None:
        self.troubles = set(TROUBLES)
        self.seconds = 0.0
        """What every answer takes."""
        self.held: set[str] = set()
        """Paths that are not answered while the gate is shut."""
        self.gate = threading.Event()
        super().__init__(self._answer)

    def recover(self, *troubles: str) -> None:
        self.troubles -= set(troubles)

    def _answer(self, path: str) -> Reply:
        time.sleep(self.seconds)
        if path in self.held:
            self.gate.wait()
        trouble = path.split("/")[1]
        if trouble in self.troubles:
            return TROUBLES[trouble]
        return Reply((PICTURES / path.rpartition("/")[2]).read_bytes())

    def urls(self, count: int) -> list[str]:
        """Every fifth row meets a 503, others a 404 or a page that is no picture; the last ten are all well."""
        kinds = ["", "/503", "", "/404", "", "", "/page", "", "", "/503"]
        names = [path.name for path in sorted(PICTURES.glob("*.jpg"))[:count]]
        return [self.url(f"{kinds[n % 10] if n < count - 10 else ''}/{name}") for n, name in enumerate(names)]
