"""When a flow or a request is valid, and what of a request is personal and goes no further."""

from __future__ import annotations

import os
from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.pipeline import expect_not_ahead, expect_or_quarantine

# A flow is stamped with its start and logged at its end. Zeek ends a TCP flow after 5 minutes without a packet
# (tcp_inactivity_timeout), so that 10 minutes hold all but long sessions.
FLOWS_WATERMARK = timedelta(minutes=10)
# A request is logged when its response ends, which web servers wait for about a minute.
REQUESTS_WATERMARK = timedelta(minutes=2)

SALT_VARIABLE = "LAKEHOUSE_NETWORK_SALT"
DEVELOPMENT_SALT = "network-development-salt"  # for synthetic data; a deployment sets the variable from a secret scope

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = f"({_OCTET}[.]){{3}}{_OCTET}"
_GROUP = "[0-9a-f]{1,4}"
_GROUPS = f"({_GROUP}(:{_GROUP})*)?"
_IPV6 = f"({_GROUP}:){{7}}{_GROUP}|(?!:*({_GROUP}:+){{7}}{_GROUP}){_GROUPS}::{_GROUPS}"
# In lower case, as RFC 5952 wants and Zeek writes it: an address with two spellings would be two sources.
# \z at the end: $ would let a line feed follow.
ADDRESS = rf"^({_IPV4}|{_IPV6}|::ffff:{_IPV4})\z"

PROTOCOLS = ("tcp", "udp", "icmp", "unknown_transport")
# Zeek's conn_state, base/protocols/conn/main.zeek.
CONNECTION_STATES = ("S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")

_CONNECTION = (
    expect_or_quarantine("source_ip_is_address", f"source_ip RLIKE r'{ADDRESS}'"),
    expect_or_quarantine("destination_ip_is_address", f"destination_ip RLIKE r'{ADDRESS}'"),
    # Zeek has an ICMP message's type and code in a port's stead, from 0 as a port is.
    expect_or_quarantine("source_port_in_range", "source_port BETWEEN 0 AND 65535"),
    expect_or_quarantine("destination_port_in_range", "destination_port BETWEEN 0 AND 65535"),
    expect_not_ahead(),
)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


FLOW_EXPECTATIONS = (
    *_CONNECTION,
    expect_or_quarantine("protocol_is_known", _one_of("protocol", PROTOCOLS)),
    expect_or_quarantine(
        "connection_state_is_known", f"connection_state IS NULL OR {_one_of('connection_state', CONNECTION_STATES)}"
    ),
    expect_or_quarantine("duration_in_range", "duration_s IS NULL OR duration_s >= 0"),
    expect_or_quarantine("bytes_in_range", "coalesce(least(source_bytes, destination_bytes), 0) >= 0"),
    expect_or_quarantine("packets_in_range", "coalesce(least(source_packets, destination_packets), 0) >= 0"),
)
REQUEST_EXPECTATIONS = (
    *_CONNECTION,
    expect_or_quarantine("transaction_depth_in_range", "transaction_depth >= 0"),
    expect_or_quarantine("status_code_in_range", "status_code IS NULL OR status_code BETWEEN 100 AND 599"),
    expect_or_quarantine("bytes_in_range", "coalesce(least(request_bytes, response_bytes), 0) >= 0"),
)

# Of the OWASP Core Rule Set 4: the files of rules 930120 and 930130 that scanners ask for most, and rule 930100's and
# 930110's two dots, plain and encoded. Judged before the query is dropped, where they often are.
RESTRICTED_FILES = r"(?i)/[.](env|git|svn|aws|ssh|htpasswd)\b|/wp-config[.]php|/etc/(passwd|shadow)\b"
PATH_TRAVERSAL = r"(?i)(^|[/\\\\=]|%2f|%5c)([.]|%2e){2}([/\\\\]|%2f|%5c)"


def mask_requests(requests: DataFrame) -> DataFrame:
    """Requests without what is personal: no password, no referrer, no query, the user's name as a salted hash.

    Columns in: those of events.REQUEST. Out: those of `masked_schema`. `host` is in lower case without a port, or the
    server's address where there was none. Addresses stay: they are what a network is defended by (GDPR, recital 49).
    """
    salt = os.environ.get(SALT_VARIABLE) or DEVELOPMENT_SALT
    host = F.regexp_replace(F.lower("host"), r":[0-9]+\z", "")
    masked = {
        "attack_signature": _attack_signature(F.col("path")),
        "host": F.coalesce(F.nullif(host, F.lit("")), F.col("destination_ip")),
        "has_query": F.coalesce(F.col("path").contains("?"), F.lit(False)),
        "path": F.substring_index("path", "?", 1),
        "user_hash": F.sha2(F.concat(F.lit(salt), F.col("username")), 256),
    }
    return requests.withColumns(masked).drop("username", "password", "referrer")


def _attack_signature(uri: Column) -> Column:
    return F.when(uri.rlike(PATH_TRAVERSAL), "path_traversal").when(uri.rlike(RESTRICTED_FILES), "restricted_file")


def masked_schema(schema: T.StructType) -> T.StructType:
    """The columns of `mask_requests`, given those of the record."""
    dropped = ("username", "password", "referrer")
    fields = [T.StructField(field.name, field.dataType) for field in schema if field.name not in dropped]
    added = [
        T.StructField("attack_signature", T.StringType()),
        T.StructField("has_query", T.BooleanType()),
        T.StructField("user_hash", T.StringType()),
    ]
    return T.StructType([*fields, *added])
