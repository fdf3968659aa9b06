"""Filter expressions: ``cmd:BRPOP and key:queue:* and latency>10ms`` says which rows of a capture are read.

``expression`` reads the text, ``fields`` is the table of what can be asked, ``values`` turns values into predicates,
``answer`` is a condition that may be in doubt, ``filtered`` applies a filter to a capture, ``page`` prints the table.
"""
