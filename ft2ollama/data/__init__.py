"""Training data: files -> conversations -> token ids with a loss mask. No torch in here."""
