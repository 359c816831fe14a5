"""Rows of the ledger -> a data set to train on, and a verdict with its reason for every row.

`rows` reads the ledger; `rules`, `grounding`, `pii`, `copies` and `contamination` judge;
`splits`, `samples` and `mix` build; `pipeline.curate` is the whole as a pure function of rows,
config and seed; `dataset` writes files, `store` the verdicts.
"""
