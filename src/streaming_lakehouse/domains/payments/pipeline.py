"""The payments pipeline: card authorisations and reversals, velocity per account, unusual transactions."""

from datetime import timedelta

from streaming_lakehouse.domains.payments import events, gold, silver
from streaming_lakehouse.domains.payments.episodes import KINDS
from streaming_lakehouse.pipeline import Bronze, Detection, Gold, HotPath, Pipeline, Silver, State

records = Bronze("payments_transactions", generator=events.TRANSACTIONS)
transactions = Silver(
    "payments_transactions",
    source=records,
    schema=events.SCHEMA,
    expectations=silver.EXPECTATIONS,
    watermark=silver.WATERMARK,
    transform=silver.pseudonymise,
    transformed_schema=silver.TRANSFORMED_SCHEMA,
    salt_variable=silver.SALT_VARIABLE,
)
PIPELINE = Pipeline(
    "payments",
    Gold(
        "payments_account_velocity",
        gold.account_velocity,
        key=("account_hash", "billing_currency", "window_start"),
        inputs=(transactions,),
        reach=gold.REACH,
    ),
    # A verdict is final: it waits for the watermark, so there is nothing to update.
    Gold(
        "payments_unusual_transactions",
        gold.unusual_transactions,
        key=("event_id",),
        inputs=(transactions,),
        state=State.CUSTOM,
        output_modes=("append",),
    ),
    hot=HotPath("payments_alerts_now", gold.authorisations_to_stop, key=("event_id",), input=transactions),
    # The first reason says best what happened, so a row is a detection of one kind.
    detections=tuple(
        Detection(
            kind,
            "payments_unusual_transactions",
            entity="card_token",
            time="time",
            where=f"reasons[0] = '{kind}'",
            tolerance=timedelta(hours=1),
        )
        for kind in KINDS
    ),
)
