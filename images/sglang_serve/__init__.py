"""The serving side: what runs inside a serving image, around one SGLang engine per Ray Serve replica."""

__version__ = "0.1.0"  # as in pyproject.toml: an image has the code without its package's metadata
