"""`python -m pissa_repro` is the command `pissa` (cli/main.py)."""

from pissa_repro.cli.main import main

main()
