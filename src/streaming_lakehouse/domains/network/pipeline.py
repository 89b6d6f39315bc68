"""The network pipeline: flows and HTTP requests, joined by `uid`; scans, floods and intrusion alerts."""

from datetime import timedelta

from streaming_lakehouse.domains.network import events, gold, silver
from streaming_lakehouse.pipeline import Bronze, Detection, Gold, HotPath, Pipeline, Silver, State

flow_records = Bronze("network_flows", generator=events.FLOWS)
request_records = Bronze("network_requests", generator=events.REQUESTS)

flows = Silver(
    "network_flows",
    source=flow_records,
    schema=events.FLOW,
    expectations=silver.FLOW_EXPECTATIONS,
    watermark=silver.FLOWS_WATERMARK,
    dedup_key=("uid",),
)
requests = Silver(
    "network_requests",
    source=request_records,
    schema=events.REQUEST,
    expectations=silver.REQUEST_EXPECTATIONS,
    watermark=silver.REQUESTS_WATERMARK,
    dedup_key=("uid", "transaction_depth"),
    transform=silver.mask_requests,
    transformed_schema=silver.masked_schema(events.REQUEST),
    salt_variable=silver.SALT_VARIABLE,
)

APPEND = ("append",)  # detectors take windows that have closed


def _alert(kind: str, table: str, entity: str) -> Detection:
    return Detection(kind, table, entity, "time", where=f"alert = '{kind}'", tolerance=timedelta(minutes=10))


def _scan(kind: str) -> Detection:
    return Detection(
        kind,
        "network_port_scans",
        "source_ip",
        "window_end",
        where=f"scan = '{kind}'",
        tolerance=timedelta(minutes=10),
    )


PIPELINE = Pipeline(
    "network",
    Gold(
        "network_port_scans",
        gold.port_scans,
        key=("source_ip", "window_start"),
        inputs=(flows,),
        state=State.CUSTOM,
        output_modes=APPEND,
    ),
    Gold(
        "network_request_floods",
        gold.request_floods,
        key=("host", "window_start"),
        inputs=(requests,),
        state=State.CUSTOM,
        output_modes=APPEND,
    ),
    # Two tables of alerts and not one: a query over both streams would wait for the one that is idle.
    Gold(
        "network_intrusion_alerts",
        gold.intrusion_alerts,
        key=("source_ip", "alert", "time"),
        inputs=(flows,),
        state=State.CUSTOM,
        output_modes=APPEND,
    ),
    Gold(
        "network_request_alerts",
        gold.request_alerts,
        key=("source_ip", "host", "alert", "time", "uid"),
        inputs=(requests,),
        state=State.CUSTOM,
        output_modes=APPEND,
    ),
    Gold(
        "network_flow_requests",
        gold.flow_requests,
        key=("uid", "transaction_depth"),
        inputs=(flows, requests),
        state=State.JOIN,
        reach=gold.FLOW_REQUESTS_REACH,
    ),
    hot=HotPath("network_alerts_now", gold.request_alerts_now, key=("uid", "time"), input=requests),
    detections=(
        _scan("port_scan"),
        _scan("host_scan"),
        _alert("slow_scan", "network_intrusion_alerts", "source_ip"),
        _alert("ssh_brute_force", "network_intrusion_alerts", "source_ip"),
        _alert("ssh_success_after_failures", "network_intrusion_alerts", "source_ip"),
        _alert("few_source_flood", "network_request_alerts", "host"),
        _alert("many_source_flood", "network_request_alerts", "host"),
        _alert("login_brute_force", "network_request_alerts", "source_ip"),
        _alert("login_success_after_failures", "network_request_alerts", "source_ip"),
        Detection(
            "web_probe",
            "network_request_alerts",
            "source_ip",
            "time",
            where="alert IN ('path_traversal', 'restricted_file')",
            tolerance=timedelta(minutes=10),
        ),
        Detection("slowloris", "network_flow_requests", "source_ip", "time", where="is_held_open"),
    ),
)
