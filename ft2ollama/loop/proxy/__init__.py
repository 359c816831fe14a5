"""A transparent proxy in front of Ollama: what people ask and get goes into the ledger.

`app` puts it together, `relay` passes bytes on, `capture` hears them, `ends` knows when an answer
is complete, `assemble` makes a record of the bytes, `store` writes it (or `spool` keeps it), and
`serve` runs the whole until Ctrl-C.
"""
