"""The `lakehouse` command: thin, a function a command."""

from streaming_lakehouse.cli.main import app, main

__all__ = ["app", "main"]
