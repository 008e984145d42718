"""The command line. ``metaformer --help`` must not wait for PyTorch: heavy imports stand inside the commands."""

from .app import main
