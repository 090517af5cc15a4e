"""Where things lie below results/ and scratch/."""

from pathlib import Path

RESULTS = Path("results")
DECOMPOSED = Path("scratch") / "spectrum"  # kept decompositions; may be deleted
