"""pissa-repro: a benchmark and reproduction harness for PiSSA (arXiv 2404.02948)."""

__version__ = "0.1.0"
