"""GGML tensor types: `types` the table, `layout` floats <-> bytes, `mix` the choice per tensor."""
