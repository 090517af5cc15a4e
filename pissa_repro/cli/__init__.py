"""What people run by hand, as `python -m pissa_repro.cli.<command>`.

What the workflow runs is in stages/; neither imports the other.
"""
