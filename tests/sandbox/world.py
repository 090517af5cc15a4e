"""What a program in a sandbox must not change, and what tests of sandboxes share."""

import secrets
import time
from dataclasses import replace
from pathlib import Path

from pissa_repro.grading.sandbox import Limits
from pissa_repro.plan.config import ROOT

# In the checkout and at home, where git does not look: a record that is made meanwhile would say "dirty".
CANARIES = [ROOT / ".pytest_cache" / "canaries", Path.home() / ".cache" / "pissa-repro-canaries"]
SMALL = Limits(memory_mib=256, processes=4, scratch_mib=4, scratch_files=64)
QUICK = replace(SMALL, cpu_seconds=1)  # for what would go on for ever
IGNORES_SIGNALS = """
import signal
for number in range(1, 65):
    try: signal.signal(number, lambda *_: None)
    except (OSError, ValueError): pass
while True: pass
"""


class World:
    """What must not change: a file in the temporary folder, one in the checkout and one at home, and their folders."""

    def __init__(self, folder: Path):
        self.mark = f"canary-{secrets.token_hex(4)}"  # also a process name: 15 characters at most
        self.folder = folder / "world"
        self.folder.mkdir()
        self.files = [folder / self.mark for folder in (self.folder, *CANARIES)]
        for file in self.files:
            file.write_text(self.mark, encoding="utf-8")

    def changes(self) -> list[str]:
        lost = [
            f"{file} changed"
            for file in self.files
            if not file.is_file() or file.read_text(encoding="utf-8") != self.mark
        ]
        folders = {file.parent for file in self.files} | {ROOT, Path.home()}
        new = [str(path) for folder in folders for path in folder.glob(f"*{self.mark}-*")]
        return lost + new

    def survivors(self) -> list[str]:
        """Processes of this machine that a program has named after the mark."""
        names = Path("/proc").glob("[0-9]*/comm")
        return [str(name) for name in names if self.mark in _read(name)]

    def program(self, text: str) -> str:
        """The program, with PATHS (of the files) and MARK (written to /proc/self/comm too, for `survivors`)."""
        head = f"PATHS = {[str(file) for file in self.files]!r}\nMARK = {self.mark!r}\n"
        return head + "open('/proc/self/comm', 'w').write(MARK)\n" + text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # it has just ended
        return ""


def eventually(condition):
    """Whether it holds within a minute."""
    end = time.monotonic() + 60
    while not (held := bool(condition())) and time.monotonic() < end:
        time.sleep(0.05)
    return held
