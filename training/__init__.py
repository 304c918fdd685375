"""Training: composes and renders its own music, trains codec and decoder, and writes a bundle."""
