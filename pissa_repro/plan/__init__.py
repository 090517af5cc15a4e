"""What is to be run: the config, the sweep, batches of cells, and the studies with their tables and figures.

Snakemake reads this room for every dry run: nothing here imports torch or matplotlib.
"""
