"""Figures of a sweep and of the studies, and the style that they share.

What they are drawn from is read in results/.
"""
