"""Fine-tuning on a user's own audio, as `attacca train` does: from a folder of songs to a bundle like any other."""
