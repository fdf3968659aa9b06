"""What a capture says: the verdict per target, and what the traffic was like.

``run.run`` makes a whole ``document.Report`` out of an open capture; ``analysis.Analysis`` gives its parts, and every
single occurrence; ``live.LiveFindings`` looks at batches as they come. Nothing is imported here: a running proxy needs
``live`` only, not DuckDB.
"""
