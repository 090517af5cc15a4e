"""The published numbers, and whether ours agree with them.

The numbers themselves are data, in reference/.
"""
