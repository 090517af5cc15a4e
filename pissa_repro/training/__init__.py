"""Training of one cell: examples in tokens, the trainer, and what is recorded.

The stage that runs it is stages/train.py; initial factors are made in starts/.
"""
