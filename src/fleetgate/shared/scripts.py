"""What is done inside Redis, each in one step: a draw, a return, a lease of places.

Times come from Redis (`TIME`), never from a gateway, so that gateways with different clocks agree.
Numbers are whole and below 2^53 (`bucket`), and written with `%.0f`: Lua would write 1.8e+15 otherwise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which Redis keeps it."""

    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_BUCKET: Final = """
local tick, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local drain, burst = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = math.floor((time[1] * 1000000 + time[2]) / tick)
local level, back = 0, false
local kept = redis.call('GET', KEYS[1])
if kept then
  local high, last, at_cost, at_tick = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')
  if high then
    level, last = tonumber(high), tonumber(last)
    if tonumber(at_cost) ~= cost or tonumber(at_tick) ~= tick then
      level = math.ceil(level / at_cost * cost)
      last = math.floor(last * at_tick / tick)
    end
    level = math.max(0, math.min(burst * cost, level) - math.max(0, now - last) * drain)
    back = now < last
  end
end
local function keep()
  local rest = math.ceil(level / drain * tick / 1000) + 1000
  local text = string.format('%.0f %.0f %.0f %.0f', level, now, cost, tick)
  redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', rest))
end
"""

DRAW: Final = _script(
    _BUCKET
    + """
local least, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local free = math.floor((burst * cost - level) / cost)
if free < least then
  if back then keep() end -- the clock went back: count from here, not from the time it had been
  return {0, math.ceil((level + least * cost - burst * cost) / drain)}
end
local units = math.min(free, most)
level = level + units * cost
keep()
return {units, 0}
"""
)
"""KEYS: bucket. ARGV: tick, cost, drain, burst, least, most. Gives units, and ticks to wait."""

GIVE_BACK: Final = _script(
    _BUCKET
    + """
level = math.max(0, level - tonumber(ARGV[5]) * cost)
keep()
return 0
"""
)
"""KEYS: bucket. ARGV: tick, cost, drain, burst, units."""

PLACES: Final = _script(
    """
local holder, capacity = ARGV[1], tonumber(ARGV[2])
local wanted, ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local taken, latest = 0, 0
local leases = redis.call('HGETALL', KEYS[1])
for i = 1, #leases, 2 do
  local count, till = string.match(leases[i + 1], '^(%d+) (%d+)$')
  if not count or tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], leases[i])
  elseif leases[i] ~= holder then
    taken = taken + tonumber(count)
    latest = math.max(latest, tonumber(till))
  end
end
local got = math.max(0, math.min(wanted, capacity - taken))
if got > 0 then
  latest = math.max(latest, now + ttl)
  redis.call('HSET', KEYS[1], holder, string.format('%.0f %.0f', got, now + ttl))
else
  redis.call('HDEL', KEYS[1], holder)
end
if latest > 0 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((latest - now) / 1000) + 1000))
end
return got
"""
)
"""KEYS: room. ARGV: holder, capacity, wanted, microseconds of the lease. Gives the places it has now."""
