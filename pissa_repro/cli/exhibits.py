"""List the tables and figures, and which of them can be made.

    pissa exhibits
    pissa exhibits --configfile config/paper_embedded.yaml

They are targets of snakemake; `snakemake paper` makes all that the paper numbers and the config can carry. Without
--configfile it is config/config.yaml. The paper's names are those of its version 4. `pissa plan` says what one of
them takes.
"""

from pissa_repro.cli._configs import Files, swept
from pissa_repro.cli._table import show


def exhibits(configfile: Files = None) -> None:
    """Target, the paper's name, whether this config can make it, and what it shows."""
    from pissa_repro.exhibits import outputs

    known = sorted(outputs(swept(configfile)), key=lambda output: str(output.target))
    rows = [(str(o.target), o.exhibit.PAPER or "ours", "yes" if o.possible else "no", o.about) for o in known]
    show(("target", "paper", "possible", "what it shows"), rows)
    if without := [output for output in known if not output.possible]:
        print("\nWhat the others need:")
        for output in without:
            print(f"  {output.target}: {output.exhibit.NEEDS}")
