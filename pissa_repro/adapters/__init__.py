"""Adapter folders of PEFT, ours and other people's, from file to file: read, checked, converted, described.

No model is loaded, except to compare logits where that is asked for. What trains and merges is in model/ and training/.
"""
