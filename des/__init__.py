"""DES: very many small files in few large containers, each read back with one ranged read."""

__version__ = "0.1.0"
