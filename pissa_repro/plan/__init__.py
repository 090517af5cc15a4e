"""What is to be run: the config, the sweep, batches of cells, the points of the studies, and what decides a rerun.

Snakemake reads this room for every dry run: nothing here imports torch or matplotlib.
"""
