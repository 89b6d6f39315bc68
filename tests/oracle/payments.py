"""Payments: card authorisations and reversals, velocity per account, and what is unusual for an account."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from . import payments_gold
from .domain import Domain, Expectation, Gold, Row, Silver, not_ahead, present, within
from .json_types import BOOLEAN, DOUBLE, INTEGER, LONG, STRING, TIMESTAMP, decimal
from .json_values import Array, Field
from .moments import MINUTE
from .windows import window_end

AMOUNT, SUM = decimal(12, 2), decimal(22, 2)
# ISO 4217, list one, without funds, metals and test codes.
CURRENCIES = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY
COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS
INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP
MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR
SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND
VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
ENTRY_MODES = payments_gold.CARD_PRESENT_MODES | {"00", "01", "10", "81"}
TYPES = {**dict.fromkeys(("amount", "billing_amount"), AMOUNT), "time": TIMESTAMP}
FIELDS = (
    *(
        Field(name, TYPES.get(name, STRING))
        for name in (
            *("event_id", "mti", "card_token", "processing_code", "amount", "billing_amount", "time", "stan", "mcc"),
            *("merchant_country", "entry_mode", "retrieval_reference", "response_code", "terminal_id", "merchant_id"),
            *("merchant_city", "currency", "billing_currency", "account"),
        )
    ),
    *(Field(name, DOUBLE) for name in ("latitude_deg", "longitude_deg")),
)


def one_of(column: str, known: Collection[str]) -> Callable[[Row], bool]:
    return lambda row: row[column] in known


def matches(column: str, pattern: str) -> Callable[[Row], bool]:
    return lambda row: row[column] is not None and re.fullmatch(pattern, row[column]) is not None


def not_negative(column: str) -> Callable[[Row], bool]:
    return lambda row: row[column] is not None and row[column] >= 0


def is_no_card_number(row: Row) -> bool:
    return row["card_token"] is None or not re.fullmatch(r"[0-9\s-]{12,23}", row["card_token"], re.ASCII)


TRANSACTIONS = Silver(
    "payments_transactions",
    bronze="payments_transactions",
    fields=FIELDS,
    expectations=(
        Expectation("account_is_present", present("account")),
        Expectation("card_token_is_present", present("card_token")),
        Expectation("card_token_is_not_a_number", is_no_card_number),
        Expectation("mti_is_known", one_of("mti", {"0100", "0400"})),
        Expectation("amount_in_range", not_negative("amount")),
        Expectation("billing_amount_in_range", not_negative("billing_amount")),
        Expectation("currency_is_known", one_of("currency", CURRENCIES.split())),
        Expectation("billing_currency_is_known", one_of("billing_currency", CURRENCIES.split())),
        Expectation("mcc_is_known", matches("mcc", "[0-9]{4}")),
        Expectation("entry_mode_is_known", one_of("entry_mode", ENTRY_MODES)),
        Expectation("response_code_is_present", present("response_code")),
        Expectation("merchant_country_is_known", matches("merchant_country", "[A-Z]{2}")),
        Expectation("latitude_in_range", within("latitude_deg", -90, 90)),
        Expectation("longitude_in_range", within("longitude_deg", -180, 180)),
        Expectation("time_is_not_ahead", not_ahead("time", 5 * MINUTE)),
    ),
    watermark=15 * MINUTE,
    transform=payments_gold.pseudonymised,
    transformed=(
        *(field for field in FIELDS if field.name != "account"),
        Field("account_hash", STRING),
        Field("is_card_present", BOOLEAN),
        Field("is_approved", BOOLEAN),
    ),
)


def is_passed_at(row: Row) -> int:
    """An authorisation is judged once the watermark has reached it."""
    time: int = row["time"]
    return time


INPUTS = ("silver/payments_transactions",)
DOMAIN = Domain(
    "payments",
    silver=(TRANSACTIONS,),
    gold=(
        Gold(
            "payments_account_velocity",
            ("account_hash", "billing_currency", "window_start"),
            {
                **dict.fromkeys(("account_hash", "billing_currency"), STRING),
                **dict.fromkeys(("window_start", "window_end"), TIMESTAMP),
                **dict.fromkeys(("authorisations", "declines"), LONG),
                **dict.fromkeys(("approved_amount", "reversed_amount"), SUM),
            },
            INPUTS,
            payments_gold.account_velocity,
            closes_at=window_end,
        ),
        Gold(
            "payments_unusual_transactions",
            ("event_id",),
            {
                **dict.fromkeys(("account_hash", "event_id", "card_token", "billing_currency"), STRING),
                **dict.fromkeys(("merchant_country", "mcc"), STRING),
                "time": TIMESTAMP,
                "billing_amount": AMOUNT,
                "score": INTEGER,
                "reasons": Array(STRING),
                **dict.fromkeys(("amount_deviations", "speed_km_h"), DOUBLE),
            },
            INPUTS,
            payments_gold.unusual_transactions,
            closes_at=is_passed_at,
            rounded={"amount_deviations": 1e-9, "speed_km_h": 1e-9},
        ),
    ),
)
