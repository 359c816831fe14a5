"""Files and services in which questions and answers lie already -> rows of the ledger.

One file for each source; `detect` knows them all, `run` writes what they read.
"""
