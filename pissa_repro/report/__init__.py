"""Tables and figures: style, captions and drawing.

Numbers come from results/ and paper/; nothing is measured here.
"""
