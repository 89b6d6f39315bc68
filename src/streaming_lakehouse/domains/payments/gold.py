"""Payments' gold tables: velocity per account, unusual transactions, and alerts that need no memory."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F

from streaming_lakehouse.domains.payments.account_state import VERDICT_TYPES, UnusualAuthorisations

WINDOW, REACH = "10 minutes", timedelta(minutes=10)
SLIDE = "1 minute"

IS_AUTHORISATION = "mti = '0100'"
IS_REVERSAL = "mti = '0400'"

# Money transfers, quasi cash, betting (ISO 18245): what is paid there cannot be taken back.
RISKY_MCCS = ("4829", "6051", "7995")
# In major units: about 1,000 EUR each. A currency without a limit raises no such alert.
RISKY_AMOUNTS = {"EUR": 1_000, "GBP": 900, "CHF": 950, "USD": 1_200, "PLN": 4_200, "SEK": 11_000}
# ISO 8583 DE 39: pick up the card, reported lost or stolen.
LOST_OR_STOLEN = ("41", "43")


def account_velocity(transactions: DataFrame) -> DataFrame:
    """How often and how much an account pays, per 10 minutes that begin every minute.

    In: account_hash, billing_currency, mti string, time timestamp, billing_amount decimal(12,2), is_approved boolean.
    Out: account_hash, billing_currency string, window_start and window_end timestamp (end exclusive), authorisations
    bigint (approved or not), declines bigint, approved_amount decimal(22,2) and reversed_amount decimal(22,2) in the
    billing currency. A reversal counts in the window of its own time, not of the authorisation that it reverses.
    """
    is_authorisation, is_approved = F.expr(IS_AUTHORISATION), F.col("is_approved")
    windows = transactions.groupBy(
        "account_hash", "billing_currency", F.window("time", WINDOW, SLIDE).alias("window")
    ).agg(
        F.count_if(is_authorisation).alias("authorisations"),
        F.count_if(is_authorisation & ~is_approved).alias("declines"),
        _amount_where(is_authorisation & is_approved).alias("approved_amount"),
        _amount_where(F.expr(IS_REVERSAL)).alias("reversed_amount"),
    )
    return windows.select(
        "account_hash",
        "billing_currency",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "authorisations",
        "declines",
        "approved_amount",
        "reversed_amount",
    )


def _amount_where(condition: Column) -> Column:
    amount = F.when(condition, F.col("billing_amount")).otherwise(F.lit(0))
    return F.sum(amount.cast("decimal(12,2)"))


def unusual_transactions(transactions: DataFrame, *, output_mode: str) -> DataFrame:
    """The authorisations that are unusual for their account, each once the watermark has passed it.

    In: account_hash, event_id, card_token, mti, billing_currency, merchant_country, mcc string, time timestamp,
    billing_amount decimal(12,2), is_card_present, is_approved boolean, latitude_deg, longitude_deg double.
    Out: account_hash, event_id, card_token string, time timestamp, billing_amount decimal(12,2), billing_currency,
    merchant_country, mcc string, score int (50 to 100), reasons array<string> (the one that says most first),
    amount_deviations double (of the amount's logarithm from the account's mean, in standard deviations; null without
    enough history), speed_km_h double (from the last usual terminal; null where there is none 50 km away or more).
    The rules, with the sources of their thresholds, are in rules.py.
    """
    authorisations = transactions.where(IS_AUTHORISATION).select(
        "account_hash",
        "time",  # Spark drops late rows by it
        F.unix_micros("time").alias("time_us"),
        "event_id",
        "card_token",
        F.col("billing_amount").cast("double"),
        "billing_currency",
        "merchant_country",
        "mcc",
        "is_card_present",
        "is_approved",
        "latitude_deg",
        "longitude_deg",
    )
    unusual = authorisations.groupBy("account_hash").transformWithState(
        UnusualAuthorisations(), VERDICT_TYPES, output_mode, "EventTime"
    )
    return unusual.select(
        "account_hash",
        "event_id",
        "card_token",
        F.timestamp_micros("time_us").alias("time"),
        F.col("billing_amount").cast("decimal(12,2)"),
        "billing_currency",
        "merchant_country",
        "mcc",
        "score",
        "reasons",
        "amount_deviations",
        "speed_km_h",
    )


def authorisations_to_stop(transactions: DataFrame) -> DataFrame:
    """The authorisations that one look is enough for, by selection and projection only, as a hot path must be.

    In: as `unusual_transactions`, and response_code string. Out: account_hash, card_token, event_id string, time
    timestamp, mcc string, billing_amount decimal(12,2), billing_currency string, alerts array<string>:
    risky_amount (approved online, at a merchant of RISKY_MCCS, RISKY_AMOUNTS or more) and lost_or_stolen_card.
    """
    limit = F.element_at(_risky_amounts(), F.col("billing_currency"))
    is_risky = (
        F.col("is_approved")
        & ~F.col("is_card_present")
        & F.col("mcc").isin(*RISKY_MCCS)
        & (F.col("billing_amount") >= limit)
    )
    alerts = F.array_compact(
        F.array(
            F.when(is_risky, F.lit("risky_amount")),
            F.when(F.col("response_code").isin(*LOST_OR_STOLEN), F.lit("lost_or_stolen_card")),
        )
    )
    found = transactions.where(IS_AUTHORISATION).withColumn("alerts", alerts).where(F.size("alerts") > 0)
    return found.select(
        "account_hash", "card_token", "event_id", "time", "mcc", "billing_amount", "billing_currency", "alerts"
    )


def _risky_amounts() -> Column:
    return F.create_map(*(F.lit(each) for pair in RISKY_AMOUNTS.items() for each in pair))
