"""The serving side: what runs inside a serving image, around one SGLang engine per Ray Serve replica."""
