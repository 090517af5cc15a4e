"""What is checked before the first costly job: a model, its tokenizer, and every row that it will see.

No weights are read, so that what cannot work is said in seconds, not after a decomposition or a training.
"""
