"""cnnmath against PyTorch, where PyTorch is installed: its own samples, generated shapes, training."""
