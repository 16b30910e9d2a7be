"""Front doors over the engine, each a protocol that somebody else's clients speak."""
