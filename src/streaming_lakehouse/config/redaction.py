"""Redacts known secrets from all output. Imports nothing, so that the CLI can use it without loading Spark."""

_secrets: set[str] = set()


def register_secret(*secrets: str) -> None:
    """Adds secrets that `redact` will replace."""
    _secrets.update(filter(None, secrets))


def redact(text: str) -> str:
    """`text` with every registered secret replaced by `***`."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
