"""Records that are there: read and checked, gathered into rows and curves, paired, and their statistics.

Nothing here computes a model; the words and pictures are in report/.
"""
