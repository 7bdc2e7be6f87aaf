"""What a trained model has learned, in numbers beside chance."""
