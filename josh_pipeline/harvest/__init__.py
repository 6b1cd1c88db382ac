"""What is learned from trees: labels, training rows, and the checks that stand before training."""
