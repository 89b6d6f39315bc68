"""From the set of all reports of a match to its score: the same whatever the order in which they arrived.

A report is a struct of the columns `REPORT`. Corrections are about another report, `related_event_id`. `delete_event`
removes a report. `canceled_…`, and a review that ends with `no_…`, cancel what was reported; a review that ends
otherwise confirms it. Where there are several of these rulings, the one with the newest event time counts.
"""

from __future__ import annotations

from pyspark.sql import Column, functions as F

from streaming_lakehouse.domains.sports.arrays import count_where, is_in, pipe, sum_of

REPORT = {
    "event_id": "string",
    "time": "timestamp",
    "type": "string",
    "period": "bigint",
    "clock_s": "int",
    "competitor": "string",
    "description": "string",
    "related_event_id": "string",
}
SIDES = ("home", "away")
CARDS = ("yellow_card", "yellow_red_card", "red_card")
_STARTS = ("match_started", "period_start")  # either of them will do, since one may be lost
_REVIEW_OVER = "video_assistant_referee_over"
_CANCELLATIONS = ("canceled_goal", "canceled_yellow_card", "canceled_red_card")
SCORING_TYPES = (
    *_STARTS,
    "match_ended",
    "match_status",
    "score_change",
    *CARDS,
    *_CANCELLATIONS,
    _REVIEW_OVER,
    "delete_event",
)

# Reports of goals of one team with clocks this close are one goal, entered twice: before the next one the other team
# kicks off and has to lose the ball. Two people who enter the same goal differ by a few seconds.
SAME_GOAL_S = 20

_GOALS = "array<struct<competitor: string, period: bigint, clock_s: int, event_ids: array<string>>>"


def score_of(reports: Column) -> Column:
    """The score of a match, a struct.

    In: reports array of structs with the fields REPORT. Out: is_started, is_ended boolean; started_at, ended_at
    timestamp; period bigint; for home and away: score, yellow_cards, yellow_red_cards, red_cards int; goals_canceled,
    duplicate_goal_reports, open_corrections int.
    """
    steps = (_with_deleted_ids, _with_kept_reports, _with_rulings, _with_goals, _score)
    return pipe(F.struct(reports.alias("reports")), *steps)


def _with_deleted_ids(match: Column) -> Column:
    deletions = _of_type(match["reports"], "delete_event")
    return match.withField("deleted_ids", F.transform(deletions, lambda report: report["related_event_id"]))


def _with_kept_reports(match: Column) -> Column:
    """Adds standing, the reports that nobody removed."""
    standing = F.filter(match["reports"], lambda report: ~is_in(report["event_id"], match["deleted_ids"]))
    return match.withField("standing", standing)


def _with_rulings(match: Column) -> Column:
    """Adds rulings, the reports that cancel or confirm others."""
    return match.withField("rulings", _of_type(match["standing"], _REVIEW_OVER, *_CANCELLATIONS))


def _with_goals(match: Column) -> Column:
    """Adds goals, array of structs with competitor, event_ids array<string> of all reports, and is_standing boolean."""
    goals = F.aggregate(_ordered_goal_reports(match["reports"]), F.array().cast(_GOALS), _add_goal_report)

    def is_standing(goal: Column) -> Column:
        is_kept = F.exists(goal["event_ids"], lambda event_id: ~is_in(event_id, match["deleted_ids"]))
        return is_kept & ~_is_canceled(goal["event_ids"], match["rulings"])

    return match.withField("goals", F.transform(goals, lambda goal: goal.withField("is_standing", is_standing(goal))))


def _ordered_goal_reports(reports: Column) -> Column:
    """Those of a team and a period together, by the clock; removed ones too, since a ruling may be about them."""
    goals = _of_type(reports, "score_change")
    fields = ("competitor", "period", "clock_s", "event_id")
    return F.array_sort(F.transform(goals, lambda goal: F.struct(*(goal[name].alias(name) for name in fields))))


def _add_goal_report(goals: Column, report: Column) -> Column:
    """The report joins the goal before it, or is the first of its own."""
    last = F.try_element_at(goals, F.lit(-1))
    is_same_goal = (
        (last["competitor"] == report["competitor"])
        & (last["period"] == report["period"])
        & (report["clock_s"] - last["clock_s"] <= SAME_GOAL_S)
    )
    event_ids = F.array(report["event_id"])
    others = F.when(is_same_goal, F.slice(goals, 1, F.size(goals) - 1)).otherwise(goals)
    joined = F.when(is_same_goal, F.concat(last["event_ids"], event_ids)).otherwise(event_ids)
    goal = F.struct(
        *(report[name].alias(name) for name in ("competitor", "period", "clock_s")), joined.alias("event_ids")
    )
    return F.concat(others, F.array(goal))


def _is_canceled(event_ids: Column, rulings: Column) -> Column:
    """True where the newest ruling about any of the reports is a cancellation."""
    about = F.filter(rulings, lambda ruling: is_in(ruling["related_event_id"], event_ids))
    newest = F.array_max(
        F.transform(
            about,
            lambda ruling: F.struct(ruling["time"], ruling["event_id"], _is_cancellation(ruling).alias("cancels")),
        )
    )
    return F.coalesce(newest["cancels"], F.lit(False))


def _is_cancellation(ruling: Column) -> Column:
    return ruling["type"].isin(*_CANCELLATIONS) | F.coalesce(ruling["description"].startswith("no_"), F.lit(False))


def _score(match: Column) -> Column:
    standing, goals = match["standing"], match["goals"]
    started, ended = _of_type(standing, *_STARTS), F.filter(standing, _is_end)
    return F.struct(
        (F.size(started) > 0).alias("is_started"),
        (F.size(ended) > 0).alias("is_ended"),
        F.array_min(F.transform(started, lambda report: report["time"])).alias("started_at"),
        F.array_min(F.transform(ended, lambda report: report["time"])).alias("ended_at"),
        F.array_max(F.transform(started, lambda report: report["period"])).alias("period"),
        *(_goals_of(side, goals).alias(f"{side}_score") for side in SIDES),
        *(_cards_of(side, card, match).alias(f"{side}_{card}s") for side in SIDES for card in CARDS),
        count_where(goals, lambda goal: ~goal["is_standing"]).alias("goals_canceled"),
        sum_of(goals, lambda goal: F.size(goal["event_ids"]) - 1).alias("duplicate_goal_reports"),
        _open_corrections(match).alias("open_corrections"),
    )


def _is_end(report: Column) -> Column:
    """Either of them will do, as at the start: the whistle, or the provider's word that the match is closed."""
    is_closed = F.coalesce(report["description"] == "closed", F.lit(False))
    return (report["type"] == "match_ended") | ((report["type"] == "match_status") & is_closed)


def _goals_of(side: str, goals: Column) -> Column:
    return count_where(goals, lambda goal: goal["is_standing"] & (goal["competitor"] == side))


def _cards_of(side: str, card: str, match: Column) -> Column:
    return count_where(
        _of_type(match["standing"], card),
        lambda report: (report["competitor"] == side) & ~_is_canceled(F.array(report["event_id"]), match["rulings"]),
    )


def _open_corrections(match: Column) -> Column:
    """Rulings on a goal or a card that has not been reported: it is delayed, or lost."""
    reported = F.transform(match["reports"], lambda report: report["event_id"])
    return count_where(
        F.filter(match["rulings"], _is_about_score), lambda ruling: ~is_in(ruling["related_event_id"], reported)
    )


def _is_about_score(ruling: Column) -> Column:
    is_goal = F.coalesce(ruling["description"].isin("goal", "no_goal"), F.lit(False))
    return (ruling["type"].isin(*_CANCELLATIONS) | is_goal) & ruling["related_event_id"].isNotNull()


def _of_type(reports: Column, *types: str) -> Column:
    return F.filter(reports, lambda report: report["type"].isin(*types))
