"""from_keras on JAX, run by test_from_keras.py in a process of its own."""

import keras
from backbone_networks import errors, every_operation, picture, shake

assert keras.backend.backend() == "jax"
model = every_operation()
shake(model, picture((64, 96)))
names = {f"c{i}": f"tap{i}" for i in range(1, 6)}
worst = errors(model, names, 8, [picture((65, 70))])
assert max(worst.values()) <= 1e-5, worst
