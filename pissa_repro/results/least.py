"""How few rows a comparison needs. A file of its own: dry runs read it, and load no numpy."""

FEWEST = 4  # methods on a base: of fewer, the table of differences to the reference shows all
