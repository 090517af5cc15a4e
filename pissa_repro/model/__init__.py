"""Models: their files and names, factors of their weights, the frozen base, the adapter on it, merging, calibration.

Nothing here trains or scores; the mathematics of one matrix is in linalg/.
"""
