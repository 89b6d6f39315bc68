"""The message of one authorisation or reversal, with the data elements of ISO 8583 as JSON fields."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyspark.sql import types as T

from streaming_lakehouse.domains.payments.cardholders import PER_EUR, Cardholder, City

AMOUNT = T.DecimalType(12, 2)

# In the order of ISO 8583's data elements (DE); a code keeps its leading zeros, so it is a string.
SCHEMA = T.StructType(
    [
        T.StructField("event_id", T.StringType()),
        T.StructField("mti", T.StringType()),  # 0100 authorisation, 0400 reversal
        T.StructField("card_token", T.StringType()),  # instead of DE 2, the card number
        T.StructField("processing_code", T.StringType()),  # DE 3
        T.StructField("amount", AMOUNT),  # DE 4, in major units of DE 49
        T.StructField("billing_amount", AMOUNT),  # DE 6, in major units of DE 51
        T.StructField("time", T.TimestampType()),  # DE 7, transmission
        T.StructField("stan", T.StringType()),  # DE 11
        T.StructField("mcc", T.StringType()),  # DE 18
        T.StructField("merchant_country", T.StringType()),  # DE 19, as ISO 3166-1 alpha-2
        T.StructField("entry_mode", T.StringType()),  # DE 22, the first two digits
        T.StructField("retrieval_reference", T.StringType()),  # DE 37, shared by a reversal and what it reverses
        T.StructField("response_code", T.StringType()),  # DE 39
        T.StructField("terminal_id", T.StringType()),  # DE 41
        T.StructField("merchant_id", T.StringType()),  # DE 42
        T.StructField("merchant_city", T.StringType()),  # DE 43
        T.StructField("latitude_deg", T.DoubleType()),  # of the terminal, from the acquirer; null online
        T.StructField("longitude_deg", T.DoubleType()),
        T.StructField("currency", T.StringType()),  # DE 49, as ISO 4217 alpha
        T.StructField("billing_currency", T.StringType()),  # DE 51
        T.StructField("account", T.StringType()),  # DE 102
    ]
)

AUTHORISATION = "0100"
REVERSAL = "0400"
APPROVED = "00"
CHIP, CONTACTLESS, MAGNETIC_STRIPE = "05", "07", "02"
ECOMMERCE, CREDENTIAL_ON_FILE, MANUAL = "81", "10", "01"
CASH_MCC = "6011"
_WITHOUT_CENTS = ("JPY",)


class Payment(NamedTuple):
    """What one payment is about, before it becomes a message. `city` is None where no card was present."""

    billing_amount: float
    mcc: str
    entry_mode: str
    response_code: str
    country: str
    city: City | None = None
    card: int = 0
    shift_deg: tuple[float, float] = (0.0, 0.0)  # of the terminal from the city's centre


def message(event_id: str, number: int, time: str, payer: Cardholder, payment: Payment) -> dict[str, Any]:
    """The JSON fields of an authorisation; `number` gives the numbers that identify it within its day."""
    city = payment.city
    billing_currency = payer.home.currency
    currency = city.currency if city else billing_currency
    amount = payment.billing_amount * PER_EUR[currency] / PER_EUR[billing_currency]
    return {
        "event_id": event_id,
        "mti": AUTHORISATION,
        "card_token": payer.card_tokens[payment.card],
        "processing_code": "010000" if payment.mcc == CASH_MCC else "000000",
        "amount": max(float(round(amount)), 1.0) if currency in _WITHOUT_CENTS else max(round(amount, 2), 0.01),
        "billing_amount": max(round(payment.billing_amount, 2), 0.01),
        "time": time,
        "stan": f"{number % 1_000_000:06d}",
        "mcc": payment.mcc,
        "merchant_country": payment.country,
        "entry_mode": payment.entry_mode,
        "retrieval_reference": f"{number % 10**12:012d}",
        "response_code": payment.response_code,
        "terminal_id": f"T{payment.mcc}{number % 97:03d}",
        "merchant_id": f"M{payment.mcc}{payment.country}{number % 97:03d}",
        "merchant_city": city.name if city else None,
        "latitude_deg": round(city.latitude_deg + payment.shift_deg[0], 4) if city else None,
        "longitude_deg": round(city.longitude_deg + payment.shift_deg[1], 4) if city else None,
        "currency": currency,
        "billing_currency": billing_currency,
        "account": payer.account,
    }
