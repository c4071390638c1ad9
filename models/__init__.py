"""The face model (basis, fitting, topology), its training, and the store that finds, fetches and checks model files."""
