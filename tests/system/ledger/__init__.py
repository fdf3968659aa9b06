"""The job ledger: a real Sidekiq under load writes down what it pushes and runs; an auditor says what became of it.

``load`` runs Sidekiq, ``entries`` reads what it wrote, ``remains`` what is left in Redis, ``auditor`` compares both.
``history`` (what Redis did, from its append-only file) and ``crash`` (what a kill -9 explains) are for losses.
"""
