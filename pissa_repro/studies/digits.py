"""Handwritten digits for the toy: MNIST from its published files, or the 8 x 8 ones that come with scikit-learn."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy
import torch

from pissa_repro.linalg.spectrum import exact
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.study_specs import ToySpec, ToyVariant

MAGIC = {"images": 2051, "labels": 2049}  # the first number of a file


@dataclass(frozen=True)
class Digits:
    """Pixels (n, p) as they are stored, float32, and what they show (n,), int64, 0 to 9."""

    pixels: torch.Tensor
    labels: torch.Tensor

    @cached_property
    def sha256(self) -> str:
        """The hash of the content, however it is packed."""
        return hashlib.sha256(self.pixels.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()

    def drawn(self, odd: bool, most: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """At most so many of the odd or the even digits, in a random order, and their labels halved: 0 to 4."""
        rows = (self.labels % 2 == int(odd)).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)[:most]]
        return self.pixels[rows], self.labels[rows] // 2


@dataclass(frozen=True)
class Task:
    """Inputs float32 (n, d) and classes int64 (n,), 0 to 4, of the two tasks."""

    odd: tuple[torch.Tensor, torch.Tensor]
    even: tuple[torch.Tensor, torch.Tensor]


def read(files: Sequence[Path]) -> Digits:
    """The digits in MNIST's two files, images and labels; of none, scikit-learn's. Raises UserError for other files."""
    if not files:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    else:
        images, labels = (_idx(path, kind) for path, kind in zip(files, MAGIC, strict=True))
        pixels = images.reshape(len(images), -1)
        if len(pixels) != len(labels) or not len(labels) or labels.max() > 9:
            raise UserError(f"{files[0]}: {len(pixels)} images for {len(labels)} labels, which must be 0 to 9.")
    return Digits(torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))


def _idx(path: Path, kind: str) -> numpy.ndarray:
    """The numbers in a file of MNIST's format: a magic number, the sizes (both big-endian), then bytes."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
    start = 4 + 4 * (MAGIC[kind] & 255)  # its last byte is the number of sizes
    sound = int.from_bytes(raw[:4]) == MAGIC[kind] and len(raw) >= start
    sizes = numpy.frombuffer(raw[4:start], ">u4").tolist() if sound else []
    if not sizes or math.prod(sizes) != len(raw) - start:
        raise UserError(f"{path}: not whole, or not a file of MNIST's {kind} (idx format, first number {MAGIC[kind]}).")
    return numpy.frombuffer(raw, numpy.uint8, offset=start).reshape(sizes)


def task(digits: Digits, spec: ToySpec, variant: ToyVariant, generator: torch.Generator) -> Task:
    """The two tasks of a variant, from rows drawn by the generator. Both are seen by one PCA, or one scale."""
    (odd, y_odd), (even, y_even) = (
        digits.drawn(odd, spec["odd" if odd else "even"], generator) for odd in (True, False)
    )
    if not len(odd) or not len(even):
        raise UserError(f"the toy: {len(odd)} odd and {len(even)} even digits; it needs both.")
    pooled = _inputs(torch.cat([odd, even]), variant)
    return Task((pooled[: len(odd)], y_odd), (pooled[len(odd) :], y_even))


def _inputs(pixels: torch.Tensor, variant: ToyVariant) -> torch.Tensor:
    """What the network sees of pixels (n, p)."""
    if variant["pixels"] == "standardised":
        pixels = (pixels - pixels.mean()) / pixels.std()
    if variant["components"] is None:
        return pixels
    found = exact(pixels - pixels.mean(0), 0, variant["components"])
    return found.U * found.S
