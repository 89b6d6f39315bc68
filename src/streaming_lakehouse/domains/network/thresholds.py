"""Thresholds of the detectors, with their sources. Times in microseconds."""

_MINUTE_US = 60_000_000

# Zeek, policy/misc/scan.zeek: 15 ports on one host, or 25 hosts on one port, that failed within 5 minutes. Here ports
# and hosts are counted per source, whatever they are combined with.
SCAN_WINDOW_US = 5 * _MINUTE_US
SCAN_PORTS = 15
SCAN_HOSTS = 25

# bro-simple-scan: 25 pairs of a host and a port. It forgets them after 15 minutes, in which nmap's T0, a probe every
# 300 s, makes 3; a day holds 288. An hour of quiet ends a scan, since a T0 scan that loses some is 10 minutes silent.
SLOW_SCAN_PAIRS = 25
SLOW_SCAN_MEMORY_US = 24 * 60 * _MINUTE_US
SLOW_SCAN_QUIET_US = 60 * _MINUTE_US
# What one source may occupy. 15 ports with 25 hosts make 375 pairs: with more, one of the two is reached.
MOST_PAIRS = 1_000

# Zeek, policy/protocols/ssh/detect-bruteforcing.zeek: password_guesses_limit and guessing_timeout.
SSH_FAILURES = 30
SSH_WITHIN_US = 30 * _MINUTE_US
# Bro 2, base/protocols/ssh: authentication_data_size, below which a server's bytes are no more than a refusal.
SSH_SUCCESS_BYTES = 4_000

# Zeek, policy/protocols/ftp/detect-bruteforcing.zeek: 20 in 15 minutes; people mistype less.
LOGIN_FAILURES = 20
LOGIN_WITHIN_US = 15 * _MINUTE_US

# Microsoft Sentinel: 5 failures, then a success, within 20 minutes.
SUCCESS_FAILURES = 5
SUCCESS_WITHIN_US = 20 * _MINUTE_US

FLOOD_WINDOW_US = _MINUTE_US
# The level of a host: its minutes without a flood in the half hour before the window; fewer than 5 say nothing.
LEVEL_MEMORY_US = 30 * _MINUTE_US
LEVEL_MINUTES = 5
SIGMAS = 3.0  # SDNDefender, 2021: mean and three sigma of normal windows
# Ours: people come in bursts, and twice the usual level came about by chance in 10 hours of synthetic requests.
FLOOD_FACTOR = 3.0
FLOOD_REQUESTS = 60  # a host with one request a second at most is not flooded
# Ours: a host that hardly varies would alert on chance.
LEAST_ENTROPY_SPREAD_BITS = 0.15
LEAST_ERROR_RISE = 0.05

# CIS Apache HTTP Server 2.4 Benchmark, 9.5: a client has 40 s at most for the headers of its request.
HELD_OPEN_S = 40.0
