"""Keeps credentials out of what is told, whoever tells it; light, since the command asks it without Spark."""

_unseen: set[str] = set()


def keep_unseen(*secrets: str) -> None:
    """From now on `redacted` takes these out of what is told."""
    _unseen.update(filter(None, secrets))


def redacted(text: str) -> str:
    """`text` without any credential that this process has come to know."""
    for secret in sorted(_unseen, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
