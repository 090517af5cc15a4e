"""Tables of a sweep and of the studies, and their captions.

Rows are gathered in results/.
"""
