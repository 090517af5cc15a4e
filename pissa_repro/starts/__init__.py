"""Initial factors of a model: made, measured, estimated before the work, and the decompositions kept between them.

What a method does with one weight is in methods/.
"""
