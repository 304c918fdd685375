"""Fine-tuning on a user's own audio: what `attacca train` does, from a folder of songs to a bundle like any other."""
