"""What is asked about rows that show no picture: their texts alone."""

from tarloom.format.sidecar import SKIPPED
from tarloom.process.batch import Batch
from tarloom.process.caption.worker import Asked, LanguageWorker
from tarloom.process.embed.stage import NO_TEXT


class RewriteWorker(LanguageWorker):
    """Asks about texts."""

    def asked(self, batch: Batch) -> list[Asked]:
        return [self._about(batch, row) for row in range(len(batch))]

    def _about(self, batch: Batch, row: int) -> Asked:
        known = self.known(batch, row)
        if not any(text.strip() for text in known.values()):
            return Asked(ending=(SKIPPED, NO_TEXT))
        return Asked(questions=self.questions(known))
