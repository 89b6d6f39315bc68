"""Football matches: live scores, league tables and momentum from a timeline of events."""
