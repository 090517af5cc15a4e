"""What the workflow runs, as `python -m pissa_repro.stages.<stage>`: options, and a main that calls the rooms below.

No stage imports another; what two of them need is in a room below, or an option in options.py.
"""
