"""When a payment is valid, and how its account becomes a pseudonym."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.domains.payments.messages import SCHEMA
from streaming_lakehouse.pipeline import expect_not_ahead, expect_or_quarantine

# A payment is judged once the watermark has passed it, so this is also how long an alert takes. Switches deliver
# within seconds; what terminals collected while offline is late.
WATERMARK = timedelta(minutes=15)

SALT_VARIABLE = "LAKEHOUSE_PAYMENTS_SALT"
DEVELOPMENT_SALT = "development only: accounts can be guessed from their hashes"

# ISO 4217, list one, as of 2026: national currencies, without funds, metals and test codes.
_CURRENCIES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP "
    "CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD "
    "MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB "
    "RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD "
    "UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG"
)
_KNOWN_CURRENCIES = re.sub(r"(\w+) ?", r"'\1',", _CURRENCIES).rstrip(",")

# ISO 8583 DE 22: how the card number was read. These four need the card itself: 02, 90 stripe, 05 chip, 07 contactless;
# 80 is a stripe because the chip failed, 91 contactless as a stripe.
CARD_PRESENT_MODES = ("02", "05", "07", "80", "90", "91")
_ENTRY_MODES = ", ".join(f"'{mode}'" for mode in ("00", "01", "10", "81", *CARD_PRESENT_MODES))

# Patterns end with \z: $ would let a line feed follow.
EXPECTATIONS = (
    expect_or_quarantine("account_is_present", "account <> ''"),
    expect_or_quarantine("card_token_is_present", "card_token <> ''"),
    # A source that forgot to tokenise would spread card numbers through every table behind this one.
    expect_or_quarantine(
        "card_token_is_not_a_number", r"card_token IS NULL OR card_token NOT RLIKE r'^[0-9\s-]{12,23}\z'"
    ),
    expect_or_quarantine("mti_is_known", "mti IN ('0100', '0400')"),
    # 0 is an account verification.
    expect_or_quarantine("amount_in_range", "amount >= 0"),
    expect_or_quarantine("billing_amount_in_range", "billing_amount >= 0"),
    expect_or_quarantine("currency_is_known", f"currency IN ({_KNOWN_CURRENCIES})"),
    expect_or_quarantine("billing_currency_is_known", f"billing_currency IN ({_KNOWN_CURRENCIES})"),
    expect_or_quarantine("mcc_is_known", r"mcc RLIKE r'^[0-9]{4}\z'"),
    expect_or_quarantine("entry_mode_is_known", f"entry_mode IN ({_ENTRY_MODES})"),
    expect_or_quarantine("response_code_is_present", "response_code <> ''"),
    expect_or_quarantine("merchant_country_is_known", r"merchant_country RLIKE r'^[A-Z]{2}\z'"),
    expect_or_quarantine("latitude_in_range", "latitude_deg IS NULL OR latitude_deg BETWEEN -90 AND 90"),
    expect_or_quarantine("longitude_in_range", "longitude_deg IS NULL OR longitude_deg BETWEEN -180 AND 180"),
    # The switch stamps the time, not the terminal: minutes ahead are a wrong clock, which would make others late.
    expect_not_ahead(tolerance=timedelta(minutes=5)),
)

TRANSFORMED_SCHEMA = T.StructType(
    [
        *(field for field in SCHEMA if field.name != "account"),
        T.StructField("account_hash", T.StringType()),
        T.StructField("is_card_present", T.BooleanType()),
        T.StructField("is_approved", T.BooleanType()),
    ]
)


def pseudonymise(transactions: DataFrame) -> DataFrame:
    """Replaces the account by its keyed hash, and derives what gold asks of the codes.

    In: account, entry_mode, response_code string. Drops: account. Adds: account_hash string (HMAC-SHA-256 in lower-case
    hexadecimal, keyed by the environment variable LAKEHOUSE_PAYMENTS_SALT), is_card_present boolean (the card was read
    at a terminal), is_approved boolean (response code 00, 10 a part of it, or 85 no reason to decline). The key is read
    when the plan is made and is part of it: who sees the plan, as in Spark's UI, can hash accounts of their own.
    """
    key = os.environ.get(SALT_VARIABLE) or DEVELOPMENT_SALT
    return transactions.withColumns(
        {
            "account_hash": hmac_sha256(F.col("account"), key),
            "is_card_present": F.col("entry_mode").isin(*CARD_PRESENT_MODES),
            "is_approved": F.col("response_code").isin("00", "10", "85"),
        }
    ).drop("account")


def hmac_sha256(text: Column, key: str) -> Column:
    """RFC 2104's keyed hash of a string, in hexadecimal. Spark has SHA-256 alone, from which the key can be guessed."""
    secret = key.encode()
    block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    inner, outer = (F.lit(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    digest = F.unhex(F.sha2(F.concat(inner, text.cast("binary")), 256))
    return F.sha2(F.concat(outer, digest), 256)
