"""The command `pissa` in this process, as its users type it."""

from pissa_repro.cli import main


def pissa(*words) -> None:
    """Run a command. Errors are raised, not shown."""
    main.group().main([str(word) for word in words], prog_name="pissa", standalone_mode=False)
