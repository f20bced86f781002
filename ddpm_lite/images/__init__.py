"""Real images, and what a model of them needs: data, training, checkpoints, evaluation."""
