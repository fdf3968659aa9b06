"""Another Redis that gets the effects of what clients do here, and answers their reads beside the source.

``docs/mirror.md`` says what it promises: it is for rehearsal, warm-up and comparison, never the data path of a cutover.
"""
