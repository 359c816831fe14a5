"""The loop: what people ask and say of the answers -> data -> a better model, again and again.

`tables` and `ledger` keep every exchange, verdict and deployment; `proxy` and `importers` fill
them; `curate` makes data of them; `cycle`, `gate` and `swap` make and judge the next model.
"""
