"""The kinds of compute that a run may use."""

from enum import StrEnum


class Compute(StrEnum):
    """What a run computes on."""

    LOCAL = "local"
    CONNECT = "connect"
    CLASSIC = "classic"
    SERVERLESS = "serverless"
