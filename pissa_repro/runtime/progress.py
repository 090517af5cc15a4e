"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")
EVERY = 10.0  # seconds between two plain lines
LEFT = re.compile(r"about (\d+) s left$")  # in a plain line


class Plain:
    """Counts steps and says from time to time how far they are and how long the rest takes."""

    def __init__(self, label: str, total: int, done: int = 0):
        self.label, self.total, self.done, self.first = label, total, done, done
        self.started = self.said = time.monotonic()

    def step(self, note: str = "") -> None:
        """One more is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.said < EVERY and self.done < self.total:
            return
        self.said = now
        spent = now - self.started
        left = spent / (self.done - self.first) * (self.total - self.done)
        log.info("%s %d/%d %s%.0f s, about %.0f s left", self.label, self.done, self.total, note, spent, left)


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items, showing progress on standard error."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, label, total)
        return
    plain = Plain(label, total)
    for item in items:
        yield item
        plain.step()
