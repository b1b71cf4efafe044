"""The science: energies, logic, samplers and inference on tensors; no files, no terminal."""
