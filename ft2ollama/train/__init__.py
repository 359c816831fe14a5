"""Training: plan, load, train, keep. The only package that imports torch, transformers and peft."""
