"""What answer rules are made of: text and formula equality, a sandbox for model programs, the judge of MT-Bench.

The rules themselves, one benchmark a file, are in tasks/.
"""
